"""The services that one host offers, and whether their backends work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bgpd.config.schema_workloads import PROBE_TABLES
from bgpd.model.prefix import format_address, parse_prefix
from bgpd.model.service import HealthCheck
from bgpd.simulation.linux import METRIC
from bgpd.workload.service.probes import Way

if TYPE_CHECKING:
    from bgpd.simulation.host import SimulatedHost

PLAIN, BOTH, KEPT, PROBED = ADDRESSES = ("10.65.0.1/32", "10.65.0.2/32", "10.65.0.3/32", "10.65.0.4/32")
"""Services: as usual; announced while two backends work; kept, as they were, when all backends fail at once; announced
while the address itself answers, too."""
CHECK = {"type": "tcp", "port": 80, "interval_s": 1.0, "timeout_s": 0.5, "rise": 2, "fall": 3}
TERMS: dict[str, dict[str, object]] = {
    PLAIN: {},
    BOTH: {"min_healthy": 2},
    KEPT: {"last_resort": "keep"},
    PROBED: {"probe": CHECK},
}
"""What is said of each when it is offered."""
_PROBE_TABLE = PROBE_TABLES[0]
_LATE_S = 0.02
_KNOWN_S = 11.0
"""After which a daemon has found out what works."""


class Offers:
    """What one host offers. `backends`: of each service address those that should be there; `sick`: those that answer
    no check. `left_to_others`: the addresses that other hosts announced, or this one did not, when it was asked to be
    drained, at one time or another.
    `must_keep`: services of which all backends failed at once, and nothing has changed since. `changed_at`: when
    something last did."""

    def __init__(self, host: SimulatedHost) -> None:
        self.backends: dict[str, tuple[str, ...]] = {}
        self.sick: set[str] = set()
        self.is_lowered = False
        self.left_to_others: set[str] = set()
        self.must_keep: set[str] = set()
        self.changed_at = 0.0
        self._host = host

    async def ask(self, check: HealthCheck, address: str, _way: Way) -> str:
        """A check of a backend (WaysOut)."""
        chance = self._host.loop.chance
        if f"{address}/32" in self.sick or (f"{address}/32" == PROBED and not self.probe_leads_to()):
            await asyncio.sleep(check.timeout_s)
            return "no answer"
        await asyncio.sleep(chance.uniform(0, _LATE_S))
        return ""

    def probe_leads_to(self) -> set[str]:
        """The working backends that a probe comes to by the kernel's table of probes, if its rules send it there."""
        kernel, (family, key) = self._host.kernel, parse_prefix(PROBED)
        rules = {rule.table for rule in kernel.vrfs.rules if rule.source} & {
            rule.table for rule in kernel.vrfs.rules if rule.to
        }
        place = family, _PROBE_TABLE, key, METRIC
        if _PROBE_TABLE not in rules or place not in kernel.routes:
            return set()
        found = {f"{format_address(gateway)}/32" for gateway, _index in kernel.gateways.get(place, ())}
        return found & set(self.usable(PROBED))

    def working(self, address: str) -> list[str]:
        """Those of a service that are there and work, if they are as many as it needs."""
        found = self.usable(address)
        return found if len(found) >= int(str(TERMS[address].get("min_healthy", 1))) else []

    def usable(self, address: str) -> list[str]:
        """The backends of a service that are there and work."""
        return [one for one in self.present(address) if one not in self.sick]

    def present(self, address: str) -> list[str]:
        """The backends of a service that are there."""
        return [one for one in self.backends.get(address, ()) if one in self._host.put]

    def strength(self, address: str) -> int:
        """The weights of the backends of a service that serve, all together."""
        backends = self.working(address) or self.present(address)
        return sum(self.weight(address, one) for one in backends)

    def weight(self, address: str, backend: str) -> int:
        """The first backend of a service has the weight 1, the next one 2."""
        return self.backends[address].index(backend) + 1

    def changed(self) -> None:
        """Something of services is others than before: what is kept, nobody can say."""
        self.must_keep.clear()
        self.changed_at = self._host.loop.now

    def all_fail(self, address: str) -> None:
        """The backends of a service answer no check from now on."""
        is_known = self._host.loop.now - self.changed_at > _KNOWN_S and self._host.daemon is not None
        kept = {one for one in self.backends if one == KEPT and is_known and self.usable(one) == self.present(one)}
        self.changed()
        self.sick.update(self.backends.get(address, ()))
        self.must_keep = {one for one in kept if self.present(one) and not self.usable(one)}

    def may_be_kept(self, address: str) -> bool:
        """Whether a service may be announced though no backend works: not if they failed one after the other."""
        return address == KEPT and bool(self.present(address)) and not self.working(address)
