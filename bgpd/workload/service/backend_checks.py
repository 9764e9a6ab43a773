"""The checks of backends: which of them run, and what each says of a backend's address.

An address is checked while a workload has it. Does no I/O (`checker` does) and never asks the time.
"""

from __future__ import annotations

from collections.abc import Mapping

from bgpd.model.service import CheckType, Service
from bgpd.workload.service.active import Active
from bgpd.workload.service.checker import Checks
from bgpd.workload.service.probes import Way
from bgpd.workload.service.saved_health import SavedHealth
from bgpd.workload.service.targets import CheckId, Fault, Target


class BackendChecks:
    """Starts and stops the checks of the backends of all services; `saved` is what an earlier process found out."""

    def __init__(self, checks: Checks, saved: SavedHealth) -> None:
        self.undecided: dict[CheckId, None] | None = {}
        """Checks that had said nothing when they were looked at last; None once nobody wants to know."""
        self._checks = checks
        self._saved = saved

    def forget(self, name: str, active: Active, new: Service) -> None:
        """Stop the checks that `new` does differently; all others keep their health."""
        wanted = {(name, b.id, address) for b in new.backends for address in b.addresses}
        for id in list(active.health):
            if id not in wanted or active.service.check != new.check:
                del active.health[id]
                if active.devices.pop(id, None) is not None:
                    self._checks.stop(id)

    def keep(self, active: Active, target: Target) -> None:
        """Check an address while a workload has it; in a VRF by way of the workload's interface."""
        check, id = active.service.check, target.id
        if check is None or check.type is CheckType.PUSH:
            return
        if not target.interface:
            if active.devices.pop(id, None) is not None:
                self._checks.stop(id)
                del active.health[id]
            return
        device = target.interface if active.service.vrf else ""
        if active.devices.get(id) != device:
            active.health[id] = self._saved.take(id, check)
            active.devices[id] = device
            if self.undecided is not None:
                self.undecided[id] = None
            self._checks.start(id, check, id[2], Way(device=device))

    def are_undecided(self, services: Mapping[str, Active]) -> bool:
        """Whether a check has said nothing yet that counts. Asked after each result: each check is looked at once."""
        while self.undecided:
            id = next(reversed(self.undecided))
            active = services.get(id[0])
            health = active.health.get(id) if active is not None else None
            if health is not None and not health.is_decided:
                return True
            del self.undecided[id]
        return False

    def stop(self, active: Active) -> None:
        """A service has gone."""
        for id in active.devices:
            self._checks.stop(id)


def fault_of(active: Active, target: Target) -> tuple[Fault, str]:
    """Why a backend's address may not be used."""
    check = active.service.check
    if not target.interface:
        return Fault.ABSENT, f"no announced workload on an interface of this host has {target.id[2]}"
    if target.backend.drain:
        return Fault.DRAINED, "drained"
    if check is None:
        return Fault.NONE, ""
    if check.type is CheckType.PUSH:
        healthy, reason = target.backend.healthy, "not reported healthy"
    else:
        health = active.health[target.id]
        healthy, reason = health.healthy, health.reason
        reason = reason or f"{health.streak} of {check.rise} good answers in a row that it needs"
    if healthy:
        return Fault.NONE, ""
    return (Fault.UNKNOWN if healthy is None else Fault.FAILED), reason
