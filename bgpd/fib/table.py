"""One kernel table as a whole: what it is made of, and in which order that starts and ends.

All routes stay in place when the daemon ends, and the next start adopts them without rewriting those that are right.
batches.py writes routes, events.py follows changes of the host, reconcile.py compares the table with the kernel's.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import time
from collections.abc import Callable, Collection, Sequence

from bgpd.config.schema import FibConfig
from bgpd.fib.batches import FibCounters, TableOwner, TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.events import TableEvents
from bgpd.fib.preferred_source import PreferredSource
from bgpd.fib.rechecks import SLICE
from bgpd.fib.reconcile import Upkeep
from bgpd.fib.saved import KnownTable
from bgpd.fib.targets import Service, service_hop
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.runtime.events import log

_NAMED = 4
"""Next hops that an event names."""


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

    async def start(self, known: KnownTable | None = None) -> None:
        """Open what is shared, adopt what an earlier run left, start the reconciliation timer. `known`: what another
        process has left of the table.

        Raises: CannotWrite: CAP_NET_ADMIN is missing. OSError: the kernel refused a dump.
        """
        await self.dataplane.start()
        await self.upkeep.adopt(known)
        await self.events.follow()
        self.upkeep.start()

    async def stop(self) -> None:
        """Write what is queued and close; routes stay in the kernel, so that a restart loses no packet. They hold their
        groups until the table is adopted anew. Also after a `start` that failed."""
        await self.upkeep.stop()
        self.events.stop()
        await self.writer.stop()
        if any(routes.installed for routes in self.families.values()):
            self.dataplane.stopped[self.form.table] = self.writer.forget
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
                next_hops=_names(next_hops),
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
        """Delete all routes of ours in this table, in slices, for good; only on an explicit request.

        Raises: OSError: the kernel refuses to, or does not say whether it has.
        """
        self.writer.withdrawing = True
        for family, routes in self.families.items():
            others = [*routes.failed, *sorted(routes.distrusted)]
            for keys in itertools.chain(routes.installed.slices(SLICE), [others]):
                self.writer.update(family, dict.fromkeys(keys))
                await asyncio.sleep(0)
                if not self.writer.has_room:
                    await self.writer.idle()
        await self.writer.idle()
        if any(routes.distrusted for routes in self.families.values()):
            raise OSError(errno.ENOBUFS, "the kernel has not deleted all routes, or does not say so")

    def differing(self, family: Family, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that are neither as desired nor known to be blocked; none while work is in progress.

        What is desired and what is there take few distinct pairs of values: each pair is judged once.
        """
        if not self.writer.is_idle:
            return []
        routes = self.families[family]
        desired, targets = self.writer.desired_all(family, keys), routes.installed.get_all(keys)
        pairs = list(zip(map(id, desired), targets))
        judged = {pair: self._is_wrong(family, hops, pair[1]) for pair, hops in dict(zip(pairs, desired)).items()}
        blocked = routes.blocked.get_all(keys) if routes.blocked else []
        if not any(judged.values()) and not any(blocked):
            return []
        return [
            key
            for key, hops, pair in zip(keys, desired, pairs)
            if (judged[pair] if hops is None or not routes.is_kept_out(key) else routes.is_left(key))
        ]

    def _is_wrong(self, family: Family, desired: NextHops | None, target: int | None) -> bool:
        """Whether a route that nothing keeps out must not point there (None: there is none)."""
        if target is None:
            return desired is not None
        if self.families[family].adopted:
            return False
        if desired is None:
            return True
        if any(hop.is_recursive for hop in desired):
            return False
        return target not in self.targets.target_of(family)(desired, ()).same


def _names(next_hops: Collection[NextHop]) -> str:
    """The first of them."""
    names = sorted(map(str, next_hops))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
