"""Service addresses: which local backends serve them now, and whether this host announces them.

A service is announced while at least `min_healthy` of its backends are usable: a workload of this host has the
address and is announced, its checks are good, it is not drained. With `prefer-local` the kernel spreads what arrives
over them by weight. A drained service, or one with too few backends, is withdrawn but keeps serving what still
arrives.

Makes claims for the table (source "service") and asks for checks; does no I/O and never asks the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from bgpd.model.iana import Family
from bgpd.model.path import NextHop
from bgpd.model.prefix import key_address, parse_prefix
from bgpd.model.service import Backend, BackendView, CheckType, HealthCheck, Service, ServiceMode, ServiceView
from bgpd.model.workload import Claim
from bgpd.workload.health import Health
from bgpd.workload.standing import Held
from bgpd.workload.table import WorkloadTable

SOURCE = "service"

_Place = tuple[str, Family, bytes]
CheckId = tuple[str, str, str]


class Checks(Protocol):
    """Who runs checks (`checker.Checker`); results come back by `Services.check_result`."""

    def start(self, id: CheckId, check: HealthCheck, address: str, device: str) -> None: ...

    def stop(self, id: CheckId) -> None: ...


class _Active(msgspec.Struct, eq=False):
    """A service in force, the health of its checked addresses, and the interface that each check is bound to."""

    source: str
    service: Service
    health: dict[CheckId, Health] = {}
    devices: dict[CheckId, str] = {}
    unhealthy: str = ""


class Services:
    """The services of this host. `changed(name)` is called when a service's view may have changed."""

    def __init__(self, table: WorkloadTable, checks: Checks, *, changed: Callable[[str], None]) -> None:
        self._table = table
        self._checks = checks
        self._changed = changed
        self._services: dict[str, _Active] = {}
        self._backends_at: dict[_Place, set[str]] = defaultdict(set)

    def owner(self, name: str) -> str:
        """The source that a service is from; "" if there is none of this name."""
        active = self._services.get(name)
        return active.source if active else ""

    def apply(self, source: str, name: str, service: Service | None) -> None:
        """A checked service from now on, or (None) none of this name any more."""
        active = self._services.get(name)
        if active is not None:
            for place in _places(active.service):
                self._backends_at[place].discard(name)
                if not self._backends_at[place]:
                    del self._backends_at[place]
        if service is None:
            if active is not None:
                for id in active.devices:
                    self._checks.stop(id)
                del self._services[name]
            self._table.claim(SOURCE, name)
            self._changed(name)
            return
        if active is None:
            active = self._services[name] = _Active(source=source, service=service)
        else:
            self._forget_checks(name, active, service)
            active.source, active.service = source, service
        for place in _places(service):
            self._backends_at[place].add(name)
        self._evaluate(name, active)

    def _forget_checks(self, name: str, active: _Active, new: Service) -> None:
        """Stop the checks that `new` does differently; all others keep their health."""
        wanted = {(name, b.id, address) for b in new.backends for address in b.addresses}
        for id in list(active.health):
            if id not in wanted or active.service.check != new.check:
                del active.health[id]
                if active.devices.pop(id, None) is not None:
                    self._checks.stop(id)

    def check_result(self, id: CheckId, reason: str, now: float) -> None:
        """One result of a check: "" or why it failed. `now` is the wall clock in seconds."""
        active = self._services.get(id[0])
        health = active.health.get(id) if active else None
        if active is not None and health is not None and health.result(reason, now):
            self._evaluate(id[0], active)

    def states_changed(self, changed: Iterable[Held]) -> None:
        """States of workloads changed: backends may have come or gone."""
        names = {
            name
            for held in changed
            if held.claim.source != SOURCE
            for name in self._backends_at.get((held.claim.vrf, held.claim.family, held.claim.key), ())
        }
        for name in sorted(names):
            self._evaluate(name, self._services[name])

    def _evaluate(self, name: str, active: _Active) -> None:
        service = active.service
        usable: list[tuple[Family, NextHop]] = []
        reasons = []
        for backend in service.backends:
            for address in backend.addresses:
                family, key = parse_prefix(address)
                interface = self._table.interface_of(service.vrf, family, key)
                self._keep_check((name, backend.id, address), active, address, interface)
                reason = self._unusable(name, active, backend, address, interface)
                if reason:
                    reasons.append(f"{backend.id}: {reason}")
                else:
                    gateway = NextHop(address=key_address(family, key), interface=interface, weight=backend.weight)
                    usable.append((family, gateway))
        active.unhealthy = "; ".join(reasons[:5]) + ("; ..." if len(reasons) > 5 else "")
        self._table.claim(SOURCE, name, [self._claim(name, active, text, usable) for text in service.addresses])
        self._changed(name)

    @staticmethod
    def _unusable(name: str, active: _Active, backend: Backend, address: str, interface: str) -> str:
        """Why a backend's address may not be used, "" if it may."""
        check = active.service.check
        if not interface:
            return f"no announced workload on an interface of this host has {address}"
        if backend.drain:
            return "drained"
        if check is None:
            return ""
        if check.type is CheckType.PUSH:
            return "" if backend.healthy else "not reported healthy"
        health = active.health[name, backend.id, address]
        return "" if health.healthy else health.reason

    def _keep_check(self, id: CheckId, active: _Active, address: str, interface: str) -> None:
        """Check an address while a workload has it; in a VRF by way of the workload's interface."""
        check = active.service.check
        if check is None or check.type is CheckType.PUSH:
            return
        if not interface:
            if active.devices.pop(id, None) is not None:
                self._checks.stop(id)
                del active.health[id]
            return
        device = interface if active.service.vrf else ""
        if active.devices.get(id) != device:
            active.health[id] = Health(rise=check.rise, fall=check.fall)
            active.devices[id] = device
            self._checks.start(id, check, address, device)

    def undecided(self) -> bool:
        """Whether a check has not yet said if its backend is healthy."""
        return any(h.healthy is None for active in self._services.values() for h in active.health.values())

    def _claim(self, name: str, active: _Active, text: str, usable: list[tuple[Family, NextHop]]) -> Claim:
        service = active.service
        family, key = parse_prefix(text)
        members = tuple(sorted({hop for of, hop in usable if of is family}))
        withheld = ""
        if service.drain:
            withheld = "the service is drained"
        elif len(members) < service.min_healthy:
            withheld = f"{len(members)} of at least {service.min_healthy} backends are healthy"
            withheld += f": {active.unhealthy}" if active.unhealthy else ""
        serve = service.mode is ServiceMode.PREFER_LOCAL and bool(members)
        return Claim(
            source=SOURCE,
            id=name,
            family=family,
            key=key,
            vrf=service.vrf,
            manage_route=serve,
            members=members if serve else (),
            resilient=service.resilient,
            kind="service",
            exception=True,
            withheld=withheld,
        )

    def names(self) -> list[str]:
        return sorted(self._services)

    def view(self, name: str) -> ServiceView | None:
        """A service as `bgpd show services` shows it; None if there is none of this name."""
        active = self._services.get(name)
        if active is None:
            return None
        service = active.service
        held = self._table.held(SOURCE, name)
        backends = [self._backend_view(name, active, backend) for backend in service.backends]
        return ServiceView(
            name=name,
            source=active.source,
            addresses=list(service.addresses),
            vrf=service.vrf,
            mode=service.mode,
            min_healthy=service.min_healthy,
            healthy=sum(backend.state == "healthy" for backend in backends),
            announced=bool(held) and all(h.announced for h in held),
            reason="; ".join(dict.fromkeys(h.reason for h in held if h.reason)),
            backends=backends,
        )

    def _backend_view(self, name: str, active: _Active, backend: Backend) -> BackendView:
        reasons = {}
        interface = ""
        since = 0.0
        for address in backend.addresses:
            family, key = parse_prefix(address)
            interface = self._table.interface_of(active.service.vrf, family, key)
            reasons[address] = self._unusable(name, active, backend, address, interface)
            health = active.health.get((name, backend.id, address))
            since = max(since, health.since if health else 0.0)
        reason = next((reason for reason in reasons.values() if reason), "")
        unknown = any(active.health[id].healthy is None for id in active.health if id[:2] == (name, backend.id))
        state = "drained" if backend.drain else "healthy" if not reason else "unknown" if unknown else "unhealthy"
        return BackendView(
            id=backend.id,
            addresses=list(backend.addresses),
            interface=interface,
            weight=backend.weight,
            state=state,
            reason=reason,
            since=since,
        )


def _places(service: Service) -> set[_Place]:
    return {(service.vrf, *parse_prefix(text)) for backend in service.backends for text in backend.addresses}
