"""One kernel table: brings its routes to what the RIB wants, and keeps them there.

Level-triggered: a change, a failure, a link event, another program's deletion and the timer all end in the same step,
which asks for the present wish of a key and writes what differs. Foreign routes are never touched (ownership.py); the
daemon's end leaves all routes in place, and the next start adopts them without rewriting what is right.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from bgpd.config.schema import FibConfig
from bgpd.fib import views as fib_views
from bgpd.fib.batches import SLICE, Rechecks, TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.examine import Examiner
from bgpd.fib.guard import Dependencies
from bgpd.fib.ownership import Ownership
from bgpd.fib.reconcile import Upkeep
from bgpd.fib.routes import SERVICE, FamilyRoutes
from bgpd.fib.targets import NextHopWishes, Service
from bgpd.fib.views import FibCounters
from bgpd.kernel.route_messages import RouteForm, encode_deletes
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family
from bgpd.model.kernel import AddressChanged, KernelEvent, KernelResynchronised, KernelRoute, LinkChanged, RouteChanged
from bgpd.model.path import NextHop, NextHops
from bgpd.model.views import FibRouteView, KernelRouteView
from bgpd.runtime.background import start_in_background

log = structlog.get_logger()

_FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)
_BACKLOG = 65536
"""Wishes that wait before the Fib asks for no more by itself."""
_DRIFT_DELAY_S = 0.02
_REPAIRS_TOLD_S = 10.0
"""A program that fights over a route for hours fills no log: repairs are summed up for so long."""


class TableOwner(Protocol):
    """Who wants routes in tables, and hears what the kernel answered; a table is named by its VRF."""

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should have for a prefix now; None: no route of ours."""

    def expand(self, next_hop: NextHop) -> NextHops:
        """Which next hops a recursive one leads to now, () if none."""

    def acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as desired."""

    def refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are desired, and the kernel does not forward them: it refused them (in its words), a foreign route is
        in their place, or no next hop can be reached. They are tried again, and `acknowledged` when that works."""

    def next_hop_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """A next hop that `resolve` was asked about can be reached now (""), or no longer, and why."""

    def reserved_changed(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        """`reserved` may answer otherwise for these."""

    def backlog_shrank(self) -> None:
        """Less waits than before."""


class Fib:
    """The routes of one kernel table, both families. Several share a Dataplane."""

    def __init__(
        self,
        config: FibConfig,
        *,
        dataplane: Dataplane,
        owner: TableOwner,
        vrf: str = "",
    ) -> None:
        self.config = config
        self.vrf = vrf
        self.form = RouteForm(config.table, config.protocol, config.metric)
        self.dataplane = dataplane
        self.families = {family: FamilyRoutes(dataplane.nexthops) for family in _FAMILIES}
        self.counters = FibCounters()
        direct = {family: routes.direct for family, routes in self.families.items()}
        self.wishes = NextHopWishes(dataplane, config.table, direct, owner.expand, vrf=vrf)
        self._ownership = Ownership(config, dataplane.connected, vrf=vrf)
        self._owner = owner
        self._kept: dict[Family, dict[bytes, NextHops]] = {family: {} for family in _FAMILIES}
        self.swept = False
        self._strays: dict[Family, list[tuple[bytes, int]]] = {}
        self._rechecks = Rechecks(self._ask_again, has_room=lambda: self.backlog < _BACKLOG)
        self._drifted: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
        self._altered: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
        self._writer = TableWriter(dataplane, self.form, self.families, self.counters, self)
        self._unsettled = False
        self._guard_planned = False
        self._nexthops_seen = -1
        self._repairs_told, self._repairs_told_at = 0, -_REPAIRS_TOLD_S
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._upkeep = Upkeep(dataplane, self.form, self.families, config.reconcile_interval_s, self)
        self._examiner = Examiner(dataplane, self.form, self.families, self)
        self._withdrawing = False
        self._reconcile_when_idle = False
        self._maintenance: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open what is shared, adopt what an earlier run left, start the reconciliation timer.

        Raises: CannotWrite: CAP_NET_ADMIN is missing. OSError: the kernel refused a dump.
        """
        self._loop = asyncio.get_running_loop()
        await self.dataplane.start()
        for family in _FAMILIES:
            self._strays[family] = await self._upkeep.adopt(family)
        self._writer.count()
        self._follow_from_now()
        self._maintenance = start_in_background(self._upkeep.run(), "comparing a table with the kernel")

    def _follow_from_now(self) -> None:
        """Take in what the host has now, and hear what changes: in one step, so that nothing happens in between."""
        for event in self.dataplane.monitor.routes.events():
            self._ownership.route_changed(event.route, event.gone)
        self._ownership.addresses_changed()
        self.dataplane.attach(self)
        self._follow_guard()

    async def stop(self) -> None:
        """Write what is queued and close; routes stay in the kernel, so that a restart loses no packet."""
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.gather(self._maintenance, return_exceptions=True)
        await self._examiner.stop()
        self._rechecks.clear()
        self.dataplane.detach(self)
        await self._writer.stop()
        await self.dataplane.stop()

    def update(self, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """The wish for each key is now this (None: no route of ours). Written in the next turn, if there is room."""
        if self.families[family].adopted:
            self.families[family].unconfirmed.discard_all(list(changes))
        self.update_learned(family, changes)

    def update_learned(self, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """`update`, for what neighbors say: until the sweep a route that an earlier run left forwards on as it does,
        since not all neighbors that it may lead to have been heard. It follows once they agree with it.
        """
        if self.wishes.services:
            self._forget_services(changes)
        kept = self._kept[family]
        if kept and not kept.keys().isdisjoint(changes):
            changes = {key: kept.get(key, hops) for key, hops in changes.items()}
        self.families[family].pending.merge(changes)
        self.dataplane.pump_soon()

    def depend_on(self, dependencies: Dependencies) -> None:
        """The host itself needs this of the table from now on: no learned route may lead it elsewhere (guard.py)."""
        self._ownership.depend_on(dependencies)
        if self._maintenance is not None:
            self._follow_guard_soon()

    def reserved(self, family: Family, key: bytes) -> str:
        """What the host itself needs that a workload of this prefix would take; "" if nothing. When the answer may be
        another one, the owner hears the prefixes.
        """
        return self._ownership.reserved(family, key)

    def keep(self, family: Family, routes: Mapping[bytes, NextHops]) -> None:
        """Routes that the table itself needs, whatever the RIB wishes: the copies of a VRF's connected networks."""
        former, self._kept[family] = self._kept[family], dict(routes)
        self._requeue(family, [key for key in former.keys() | routes.keys() if former.get(key) != routes.get(key)])

    def resolve(self, next_hop: NextHop) -> str:
        """ "" if the next hop can be reached now, else why not; the owner hears changes from now on."""
        return self.wishes.ask(next_hop)

    def forget(self, next_hops: Iterable[NextHop]) -> None:
        """Who asked to `resolve` these needs no word on them any more."""
        self.wishes.forget(next_hops)

    def next_hops_lost(self, next_hops: Iterable[NextHop], fallback: Callable[[NextHops], NextHops | None]) -> None:
        """Neighbors are dead: one deletion for each moves all routes that have another next hop, ahead of all that is
        queued.

        `fallback` is asked for each set of next hops that would be left empty; what it answers takes their place first.
        """
        started = time.perf_counter()
        loss = self.wishes.lose(next_hops, fallback)
        if loss.deletes:
            log.info(
                "fib.next_hops_lost",
                deletes=loss.deletes,
                groups_moved=len(loss.changed),
                groups_died=len(loss.died),
                seconds=round(time.perf_counter() - started, 6),
            )
        if self.dataplane.nexthops.dead and any(routes.adopted for routes in self.families.values()):
            self._recheck_unsettled()

    def expansion_changed(self, next_hop: NextHop) -> None:
        """A recursive next hop leads elsewhere now: the groups that use it follow, by one message each.

        Routes are looked at, in slices, only if it leads nowhere any more, or somewhere again.
        """
        self._next_hops_changed(self.wishes.expansion_changed(next_hop))

    def update_service(self, family: Family, key: bytes, members: NextHops, *, resilient: bool) -> NextHops:
        """Spread what arrives for an address (a host prefix) over local backends by weight, from now on.

        Answers the recursive next hop to wish for the key while the service lasts, here and by the owner; it is wished
        already. Other backends than before cost one message, and with `resilient` no flow of those that stay; a kernel
        without resilient groups spreads plainly, and `routes` says so.
        """
        hop = NextHop(key[1:], SERVICE)
        self.wishes.services[hop] = Service(members, resilient)
        self.wishes.expansion_changed(hop)
        self.update(family, {key: (hop,)})
        return (hop,)

    def sweep(self) -> None:
        """The RIB has converged: adopted routes that it does not want are deleted."""
        self.swept = True
        if any(routes.adopted for routes in self.families.values()):
            self._reconcile_when_idle = True  # the dump of the start may have lacked some
            self.dataplane.pump_soon()
        for family, routes in self.families.items():
            if routes.unconfirmed:
                self._rechecks.add(family, routes.unconfirmed.slices(SLICE))
                routes.unconfirmed = ShardedDict()
            routes.adopted = False
        for family, strays in self._strays.items():
            self.delete_strays(family, strays)
        self._strays.clear()

    async def withdraw_all(self) -> None:
        """Delete all routes of ours in this table, in slices, for good; only on an explicit request."""
        self._withdrawing = True
        for family, routes in self.families.items():
            for keys in itertools.chain(routes.installed.slices(SLICE), [list(routes.failed)]):
                self.update(family, dict.fromkeys(keys))
                await asyncio.sleep(0)
                if self.backlog > _BACKLOG:
                    await self.idle()
        await self.idle()

    async def idle(self) -> None:
        """Wait until all that was asked for is written."""
        while not self._is_idle():
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            self.dataplane.pump()
            await waiter

    def differing(self, family: Family, keys: Iterable[bytes]) -> list[bytes]:
        """Those of `keys` that are neither as wished nor known to be kept out; none while work is under way."""
        if not self._is_idle():
            return []
        routes, targets = self.families[family], self.wishes.wish_for(family)
        found = []
        for key in keys:
            wish, target = self.wish(family, key), routes.installed.get(key)
            if wish is None:
                differs = target is not None and not routes.adopted
            elif key in routes.failed or key in routes.obstructed:
                differs = False  # what is there stays until it works, or a look has told what is in the way
            elif key in routes.blocked:
                differs = target is not None
            elif target is None or any(hop.is_recursive for hop in wish):
                differs = target is None
            else:
                differs = not routes.adopted and target not in targets(wish, ()).same
            if differs:
                found.append(key)
        return found

    def reconcile(self) -> None:
        """Compare the kernel's table with what it should hold, soon."""
        self._upkeep.reconcile_now.set()

    @property
    def backlog(self) -> int:
        """Wishes that wait: a reader that is far ahead of the kernel may pause on it."""
        return sum(len(routes.pending) for routes in self.families.values())

    def routes(self, family: Family | None = None) -> Iterator[FibRouteView]:
        """`bgpd show fib`: every route that is installed, waits, failed or is blocked."""
        return fib_views.routes(self, family)

    def route(self, family: Family, key: bytes) -> FibRouteView | None:
        """One route as `routes` shows it; None if there is none, and none is wanted."""
        return fib_views.route(self, family, key)

    async def lookup(self, address: bytes) -> KernelRouteView | None:
        """What the kernel would do with a packet to the address (packed) now; None if it has no route."""
        return await fib_views.lookup(self, address)

    def wish(self, family: Family, key: bytes) -> NextHops | None:
        """The present wish for a key: the table's own, else the RIB's."""
        if self._withdrawing:
            return None
        kept = self._kept[family].get(key)
        return self._owner.desired(self.vrf, family, key) if kept is None else kept

    # What the dataplane tells (Table).

    def write_pending(self) -> bool:
        """Take one slice of what waits and submit what it needs; False if nothing waited."""
        for family, routes in self.families.items():
            if len(routes.pending):
                blocked = functools.partial(self._ownership.blocked, family, kept=self._kept[family])
                self._writer.write(family, wish_of=self.wishes.wish_for(family), blocked=blocked)
                if self.dataplane.nexthops.version != self._nexthops_seen:
                    self._follow_guard_soon()
                self._rechecks.resume()
                self._owner.backlog_shrank()
                return True
        self._wake_idle()
        return False

    def kernel_changed(self, event: KernelEvent) -> None:
        """Follow links, addresses and foreign routes; the dataplane calls this."""
        if isinstance(event, RouteChanged):
            self._foreign_route_changed(event.route, event.gone)
            if self._ownership.is_stale:
                self._follow_guard_soon()
            changed = self.wishes.route_changed(event.route)
            if not changed:
                return
        elif isinstance(event, KernelResynchronised):
            self.reconcile()
            self.dataplane.verify()
            changed = self.wishes.all_changed()
        else:
            changed = self.wishes.all_changed()
        if isinstance(event, AddressChanged) or (isinstance(event, LinkChanged) and event.is_another):
            self._own_addresses_changed()
        if isinstance(event, AddressChanged):
            self._address_changed(event)
        if isinstance(event, LinkChanged):
            self._ownership.is_stale |= event.is_another
            self._direct_link_changed(event.link.index)
        if self._ownership.is_stale:
            self._follow_guard_soon()
        if changed or isinstance(event, LinkChanged):
            self.wishes.follow()
        self._next_hops_changed(changed)
        if isinstance(event, LinkChanged) and event.link.up:
            self._recheck_unsettled()

    def _follow_guard_soon(self) -> None:
        if not self._guard_planned:
            self._guard_planned = True
            self._loop.call_soon(self._follow_guard)

    def _follow_guard(self) -> None:
        """What the host depends on is another thing now: routes that are guarded go, those no longer guarded come."""
        self._guard_planned = False
        self._follow_gateways()
        for change in self._ownership.changes():
            routes = self.families[change.family]
            self._owner.reserved_changed(self.vrf, change.family, change.keys)
            known = [key for key in change.keys if key in routes.installed or key in routes.blocked]
            self._rechecks.add(change.family, [self._misplaced(change.family, known)])
            if change.networks or change.below:
                for table in (routes.installed, routes.blocked):
                    meant = map(change.among, table.slices(SLICE))
                    self._rechecks.add(change.family, map(functools.partial(self._misplaced, change.family), meant))

    def _misplaced(self, family: Family, keys: list[bytes]) -> list[bytes]:
        """Those that are installed and must not be, or are blocked and need not be."""
        stopped = self._ownership.blocked(family, keys, kept=self._kept[family]) if keys else {}
        installed = self.families[family].installed
        return [key for key in keys if (key in installed) is (key in stopped)]

    def _follow_gateways(self) -> None:
        """Tell of the next hops that groups of this table's VRF use."""
        nexthops, host = self.dataplane.nexthops, self.dataplane.host
        if nexthops.version != self._nexthops_seen:
            self._nexthops_seen = nexthops.version
            links = {link.index for link in host.interfaces(self.vrf)}
            self._ownership.use_gateways(
                {single.hop.address for single in nexthops.singles.values() if single.ifindex in links}
            )

    def _foreign_route_changed(self, route: KernelRoute, gone: bool) -> None:
        """Whether a prefix may be written is another thing now; of most, as of other programs' workloads, none is.

        A new route of our metric may have taken the place of ours, and be gone again by the time that it matters.
        """
        changed = self._ownership.route_changed(route, gone)
        key, routes = route.key, self.families[route.family]
        if not gone and route.metric == self.form.metric and route.table == self.form.table and key in routes.installed:
            routes.distrusted.add(key)
            changed = True
        if changed:
            wish = self.wish(route.family, key)
            if wish is not None or key in routes.installed or key in routes.blocked:
                self.update(route.family, {key: wish})

    def own_route_changed(self, route: KernelRoute, gone: bool) -> None:
        """Somebody else changed or deleted one of our routes: write it again, unless its nexthop objects went first.

        That is asked of the kernel, since the word on a link may stand behind a flood of flushed routes.
        """
        if (
            route.table != self.form.table
            or route.metric != self.form.metric
            or (gone and route.key not in self.families[route.family].installed)
        ):
            return
        if not any(self._drifted.values()):
            self._loop.call_later(_DRIFT_DELAY_S, self._repair_drifted)
            self.dataplane.verify()
        self._drifted[route.family].add(route.key)
        if not gone:
            self._altered[route.family].add(route.key)

    def groups_changed(self) -> None:
        """Nexthop objects vanished though their links are up: their routes are written anew."""
        self.wishes.follow()
        self._recheck_unsettled()

    def interfaces_assigned(self) -> None:
        """Interfaces came to this VRF or left it: what rests on them is resolved again."""
        changed = self.wishes.all_changed()
        self._own_addresses_changed()
        for hop, _why in changed:
            link = self.dataplane.host.named(hop.interface)
            if link is not None and not hop.address:
                self._direct_link_changed(link.index)
        self.wishes.follow()
        self._next_hops_changed(changed)

    def _next_hops_changed(self, changed: Sequence[tuple[NextHop, str]]) -> None:
        """Next hops can be reached now, or no longer: the RIB hears, and what waited is looked at."""
        for hop, why in changed:
            if hop in self.wishes.asked:
                log.info("fib.next_hop_changed", next_hop=str(hop), reachable=not why, why=why)
                self._owner.next_hop_changed(self.vrf, hop, why)
        if changed:
            self._recheck_unsettled()

    # What its writer tells (WriterEvents).

    def acknowledged(self, family: Family, keys: Sequence[bytes]) -> None:
        self._owner.acknowledged(self.vrf, family, keys)

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        self._owner.refused(self.vrf, family, keys, why)

    def direct_routes_written(self) -> None:
        """A host route to a workload may be what a next hop behind it waited for."""
        changed = self.wishes.all_changed()
        if changed:
            self.wishes.follow()
        self._next_hops_changed(changed)

    def examine(self, family: Family, keys: Sequence[bytes]) -> None:
        self._examiner.add(family, keys)

    def fate_unknown(self, family: Family, keys: Sequence[bytes]) -> None:
        self.families[family].distrusted.update(keys)
        self._examiner.add(family, keys)
        self._requeue(family, keys)

    def ask_again(self, family: Family, keys: Sequence[bytes]) -> None:
        self._ask_again(family, list(keys), False)

    def blocks(self, family: Family, keys: Collection[bytes]) -> Collection[bytes]:
        found = self._ownership.blocked(family, keys, kept=self._kept[family])
        return [key for key, block in found.items() if not block.learned_only]

    def try_again(self) -> None:
        for family, routes in self.families.items():
            if routes.failed:
                self._rechecks.add(family, [list(routes.failed)])

    def batch_done(self) -> None:
        self._rechecks.resume()
        self._wake_idle()

    # Asking the RIB again.

    def _requeue(self, family: Family, keys: Iterable[bytes]) -> None:
        self.update(family, {key: self.wish(family, key) for key in keys})

    def repair(self, family: Family, keys: list[bytes]) -> None:
        """The kernel was found to hold something else for these keys."""
        self._repair(family, keys)
        self._examiner.add(family, keys)

    def _repair(self, family: Family, keys: list[bytes]) -> None:
        self.counters.repaired += len(keys)
        if self._loop.time() >= self._repairs_told_at + _REPAIRS_TOLD_S:
            routes = self.counters.repaired - self._repairs_told
            self._repairs_told, self._repairs_told_at = self.counters.repaired, self._loop.time()
            log.warning("fib.repairing", family=family.value, table=self.form.table, routes=routes)
        self._rechecks.add(family, [keys], distrust=True)

    def _repair_drifted(self) -> None:
        for family, keys in self._drifted.items():
            routes = self.families[family]
            drifted = [key for key in keys if not routes.flushed(key)]
            keys.clear()
            if drifted:
                self._repair(family, drifted)
            self._examiner.add(family, self._altered[family])
            self._altered[family].clear()

    def delete_strays(self, family: Family, strays: Iterable[tuple[bytes, int]]) -> None:
        """Routes of ours with another metric than the configured one: nobody's, once the RIB has converged."""
        for key, metric in strays if self.swept else ():
            form = RouteForm(self.form.table, self.form.protocol, metric)
            self.dataplane.submit(encode_deletes(family, [key], form), 1, lambda _outcome: None)

    def _ask_again(self, family: Family, keys: list[bytes], distrust: bool) -> None:
        """Ask for wishes; before the sweep, what an earlier run left and nobody wants yet is left alone."""
        wishes = {key: self.wish(family, key) for key in keys}
        unconfirmed = self.families[family].unconfirmed
        if not self.swept:
            wishes = {key: wish for key, wish in wishes.items() if wish is not None or key not in unconfirmed}
        if distrust:
            self.families[family].distrusted.update(wishes)
        self.update_learned(family, wishes)
        self._wake_idle()

    def _forget_services(self, changes: Mapping[bytes, NextHops | None]) -> None:
        for hop in list(self.wishes.services):
            key = bytes((len(hop.address) * 8,)) + hop.address
            if key in changes and changes[key] != (hop,):
                del self.wishes.services[hop]

    def _own_addresses_changed(self) -> None:
        for family, key in self._ownership.addresses_changed():
            self._ask_again(family, [key], False)
        self._follow_guard_soon()

    def _recheck_unsettled(self) -> None:
        """Routes by groups that died or lack members, failed ones and blocked ones: a link came up, next hops lead
        elsewhere, or objects vanished. In the loop's next turn, so that many such events are one.
        """
        if not self._unsettled:
            self._unsettled = True
            self._loop.call_soon(self._recheck_unsettled_now)

    def _recheck_unsettled_now(self) -> None:
        self._unsettled = False
        nexthops = self.dataplane.nexthops
        unsettled = set(nexthops.dead) | {
            group.id for group in nexthops.groups.values() if group.reduced and not group.bound
        }
        for family, routes in self.families.items():
            if unsettled:
                self._rechecks.add(family, routes.by_targets(unsettled))
            if routes.failed:
                self._rechecks.add(family, [list(routes.failed)])
            if routes.blocked:
                self._rechecks.add(family, routes.blocked.slices(SLICE))
        self._wake_idle()

    def _address_changed(self, event: AddressChanged) -> None:
        """With its last IPv4 address an interface loses its IPv4 routes without a word, with its last IPv6 one perhaps
        IPv6; with a new one routes may be possible again that were refused.
        """
        link = self.dataplane.host.named(event.address.interface)
        if event.gone and link is not None:
            family = Family.IPV4_UNICAST if len(event.address.packed) == 4 else Family.IPV6_UNICAST
            self._direct_link_changed(link.index, (family,))
        elif not event.gone and any(routes.failed for routes in self.families.values()):
            self._recheck_unsettled()

    def _direct_link_changed(self, index: int, families: Sequence[Family] = _FAMILIES) -> None:
        """The kernel drops direct routes with their link, IPv4 ones without a word: write them whatever is believed."""
        for family in families:
            routes = self.families[family]
            keys = routes.direct.get(index)
            if keys:
                routes.distrusted.update(keys)
                self._requeue(family, list(keys))

    def _is_idle(self) -> bool:
        return not (self.backlog or self._writer.in_flight or self._rechecks or self._unsettled)

    def _wake_idle(self) -> None:
        if not self._is_idle():
            return
        self.dataplane.delete_leftovers()
        if self._reconcile_when_idle:
            self._reconcile_when_idle = False
            self.reconcile()
        if self._idle_waiters:
            for waiter in self._idle_waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle_waiters.clear()
