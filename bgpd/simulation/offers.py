"""The services that one host offers, and whether their backends work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bgpd.model.service import HealthCheck
from bgpd.workload.service.probes import Way

if TYPE_CHECKING:
    from bgpd.simulation.host import SimulatedHost

ADDRESSES = ("10.65.0.1/32", "10.65.0.2/32")
_LATE_S = 0.02


class Offers:
    """What one host offers. `backends`: of each service address those that should be there; `sick`: those that answer
    no check. `left_to_others`: the addresses that other hosts announced when this one was last asked to be drained."""

    def __init__(self, host: SimulatedHost) -> None:
        self.backends: dict[str, tuple[str, ...]] = {}
        self.sick: set[str] = set()
        self.is_lowered = False
        self.left_to_others: frozenset[str] = frozenset()
        self._host = host

    async def ask(self, check: HealthCheck, address: str, _way: Way) -> str:
        """A check of a backend (WaysOut)."""
        chance = self._host.loop.chance
        if f"{address}/32" in self.sick:
            await asyncio.sleep(check.timeout_s)
            return "no answer"
        await asyncio.sleep(chance.uniform(0, _LATE_S))
        return ""

    def working(self, address: str) -> list[str]:
        """The backends of a service that are there and work."""
        return [one for one in self.backends.get(address, ()) if one in self._host.put and one not in self.sick]
