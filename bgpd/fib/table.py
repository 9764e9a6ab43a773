"""One kernel table as a whole: what it is made of, and in which order that starts and ends.

All routes stay in place when the daemon ends, and the next start adopts them without rewriting those that are right.
batches.py writes routes, events.py follows changes of the host, reconcile.py compares the table with the kernel's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet

import structlog

from bgpd.config.schema import FibConfig
from bgpd.fib.batches import TableOwner, TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.events import TableEvents
from bgpd.fib.preferred_source import PreferredSource
from bgpd.fib.rechecks import SLICE
from bgpd.fib.reconcile import Upkeep
from bgpd.fib.routes import FibCounters
from bgpd.fib.targets import Service, service_hop
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops

log = structlog.get_logger()


class Fib:
    """The routes of one kernel table, both families. Several share a Dataplane."""

    def __init__(self, config: FibConfig, *, dataplane: Dataplane, owner: TableOwner, vrf: str = "") -> None:
        self.config = config
        self.vrf = vrf
        self.dataplane = dataplane
        self.writer = TableWriter(config, dataplane, owner, vrf=vrf)
        self.form = self.writer.form
        self.families = self.writer.families
        self.targets = self.writer.targets
        self.upkeep = Upkeep(self.writer, dataplane, config.reconcile_interval_s)
        wanted = config.preferred_source if not vrf else ""
        self.source = PreferredSource(wanted, writer=self.writer, dataplane=dataplane)
        self.writer.source_refused = self.source.refused
        self.events = TableEvents(self.writer, self.upkeep, dataplane, owner, self.source)

    @property
    def counters(self) -> FibCounters:
        """The numbers of now."""
        return self.writer.counters

    async def start(self) -> None:
        """Open what is shared, adopt what an earlier run left, start the reconciliation timer.

        Raises: CannotWrite: CAP_NET_ADMIN is missing. OSError: the kernel refused a dump.
        """
        await self.dataplane.start()
        await self.upkeep.adopt()
        await self.events.follow()
        self.upkeep.start()

    async def stop(self) -> None:
        """Write what is queued and close; routes stay in the kernel, so that a restart loses no packet."""
        await self.upkeep.stop()
        self.events.stop()
        await self.writer.stop()
        await self.dataplane.stop()

    def next_hops_lost(self, next_hops: Collection[NextHop], fallback: Callable[[NextHops], NextHops | None]) -> None:
        """Neighbors are dead: one deletion for each moves all routes that have another next hop, ahead of all that is
        queued.

        `fallback` is asked for each set of next hops that would be left empty; what it answers takes their place first.
        """
        started = time.perf_counter()
        loss = self.targets.lose(next_hops, fallback)
        self.writer.next_hops_lost(next_hops)
        if loss.deletes:
            log.info(
                "fib.next_hops_lost",
                deletes=loss.deletes,
                groups_moved=len(loss.changed),
                groups_died=len(loss.died),
                seconds=round(time.perf_counter() - started, 6),
            )
        if self.dataplane.objects.dead and any(routes.adopted for routes in self.families.values()):
            self.writer.recheck_unsettled()

    def resolution_changed(self, next_hop: NextHop) -> None:
        """A recursive next hop leads elsewhere now: the groups that use it follow, by one message each.

        Routes are looked at, in slices, only if it leads nowhere any more, or somewhere again.
        """
        self.writer.next_hops_changed(self.targets.resolution_changed(next_hop))

    def update_service(
        self, family: Family, key: bytes, members: NextHops, *, resilient: bool, yields: bool = False
    ) -> NextHops:
        """Spread what arrives for an address (a host prefix) over local backends by weight, from now on.

        Answers the recursive next hop to desire for the key while the service lasts; it is desired already. Other
        backends than before cost one message, and with `resilient` no flow of those that stay; a kernel without
        resilient groups spreads plainly, and `show fib` says so. `yields`: until the sweep, a route of an earlier run
        that leads elsewhere stays.
        """
        hop = service_hop(key)
        self.targets.services[hop] = Service(members, resilient)
        self.targets.resolution_changed(hop)
        update = self.writer.update_learned if yields else self.writer.update
        update(family, {key: (hop,)})
        return (hop,)

    def sweep(self) -> None:
        """The RIB has converged: adopted routes that nobody wants are deleted."""
        self.upkeep.sweep()

    async def withdraw_all(self) -> None:
        """Delete all routes of ours in this table, in slices, for good; only on an explicit request."""
        self.writer.withdrawing = True
        for family, routes in self.families.items():
            for keys in itertools.chain(routes.installed.slices(SLICE), [list(routes.failed)]):
                self.writer.update(family, dict.fromkeys(keys))
                await asyncio.sleep(0)
                if not self.writer.has_room:
                    await self.writer.idle()
        await self.writer.idle()

    def differing(self, family: Family, keys: Iterable[bytes]) -> list[bytes]:
        """The keys that are neither as desired nor known to be blocked; none while work is in progress."""
        if not self.writer.is_idle:
            return []
        routes, target_of = self.families[family], self.targets.target_of(family)
        fitting: dict[int, tuple[NextHops, AbstractSet[int] | None]] = {}
        found = []
        for key in keys:
            desired, target = self.writer.desired(family, key), routes.installed.get(key)
            if desired is None:
                differs = target is not None and not routes.adopted
            elif key in routes.failed or key in routes.obstructed:
                differs = False  # what is there stays until it works, or a look has shown what is in the way
            elif key in routes.blocked:
                differs = target is not None
            elif target is None or routes.adopted:
                differs = target is None
            else:
                known = fitting.get(id(desired))
                if known is None:
                    is_any = any(hop.is_recursive for hop in desired)
                    known = fitting[id(desired)] = desired, None if is_any else target_of(desired, ()).same
                differs = known[1] is not None and target not in known[1]
            if differs:
                found.append(key)
        return found
