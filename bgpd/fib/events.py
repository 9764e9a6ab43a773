"""Which routes of one kernel table must be written again after a change of the host.

Follows links, addresses, foreign routes, and changes of our routes by other programs. Decides only which prefixes to
ask for again; the table's owner says what is desired of them, and the table's writer writes it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from bgpd.fib.batches import TableOwner, TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.preferred_source import PreferredSource
from bgpd.fib.rechecks import SLICE
from bgpd.fib.reconcile import Upkeep
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import AddressChanged, KernelEvent, KernelResynchronised, KernelRoute, LinkChanged, RouteChanged
from bgpd.model.prefix import family_of

_DRIFT_DELAY_S = 0.02
_SLICE = 1024
"""Foreign routes that are taken in at once when the table starts."""


class TableEvents:
    """Has routes of one table written again when the host changes under them."""

    def __init__(
        self,
        writer: TableWriter,
        upkeep: Upkeep,
        dataplane: Dataplane,
        owner: TableOwner,
        source: PreferredSource,
    ) -> None:
        self._writer = writer
        self._upkeep = upkeep
        self._dataplane = dataplane
        self._owner = owner
        self._source = source
        self._targets = writer.targets
        self._ownership = writer.ownership
        self._drifted: dict[Family, set[bytes]] = {family: set() for family in UNICAST}
        self._altered: dict[Family, set[bytes]] = {family: set() for family in UNICAST}
        self._is_following = False
        self._missed: deque[KernelEvent] = deque()
        self._guard_planned = False
        self._nexthops_seen = -1

    async def follow(self) -> None:
        """Take in what the host has now, in slices, and follow what changes. Nothing is written before."""
        self._dataplane.listen(self)
        routes = self._dataplane.monitor.routes
        known = itertools.chain.from_iterable([routes.of_table(table) for table in self._ownership.tables])
        while some := list(itertools.islice(known, _SLICE)):
            for route in some:
                self._ownership.route_changed(route, gone=False)
            await asyncio.sleep(0)
        concerned: list[KernelRoute] = []
        others: list[KernelEvent] = []
        while self._missed:
            for _ in range(min(len(self._missed), _SLICE)):
                missed = self._missed.popleft()
                if not isinstance(missed, RouteChanged):
                    others.append(missed)
                elif self._concerns(missed.route, missed.gone):
                    concerned.append(missed.route)
            await asyncio.sleep(0)
        self._is_following = True
        self._ownership.addresses_changed()
        self._ownership.own_changes()  # nothing was written before
        self._source.follow()
        self._dataplane.attach(self._writer, self)
        self._follow_guard()
        for route in concerned:
            self._write_beside(route)
        for other in others:
            self.kernel_changed(other)

    def stop(self) -> None:
        """Stop following events."""
        self._dataplane.detach(self._writer, self)

    def depend_on(self, dependencies: Dependencies) -> None:
        """The host itself needs this of the table from now on: no learned route may lead it elsewhere (guard.py)."""
        self._ownership.depend_on(dependencies)
        self._dataplane.objects.room.reserve_for(self._writer.vrf, dependencies.leaves)
        if self._is_following:
            self._follow_guard_soon()

    # What the dataplane reports (HostEvents).

    def kernel_changed(self, event: KernelEvent) -> None:
        """A link, address or route changed."""
        if not self._is_following:
            self._missed.append(event)
            return
        if isinstance(event, RouteChanged):
            if self._concerns(event.route, event.gone):
                self._write_beside(event.route)
            if self._ownership.is_stale:
                self._follow_guard_soon()
            changed = self._targets.route_changed(event.route)
            if not changed:
                return
        elif isinstance(event, KernelResynchronised):
            self._upkeep.reconcile()
            self._dataplane.upkeep.verify()
            changed = self._targets.all_changed()
        else:
            changed = self._targets.all_changed()
        if isinstance(event, AddressChanged | LinkChanged):
            self._source.host_changed(event)
        if isinstance(event, AddressChanged) or (isinstance(event, LinkChanged) and event.is_another):
            self._ownership.addresses_changed()
        if isinstance(event, AddressChanged):
            self._address_changed(event)
        if isinstance(event, LinkChanged):
            self._ownership.is_stale |= event.is_another
            self._direct_link_changed(event.link.index)
        if self._ownership.is_stale:
            self._follow_guard_soon()
        if changed or isinstance(event, LinkChanged):
            self._targets.follow()
        self._writer.next_hops_changed(changed)
        if isinstance(event, LinkChanged) and event.link.up:
            self._writer.recheck_unsettled()

    def own_route_changed(self, route: KernelRoute, gone: bool) -> None:
        """Somebody else changed or deleted one of our routes: write it again, unless its nexthop objects went first.

        That is asked of the kernel, since the word on a link may stand behind a flood of flushed routes.
        """
        form = self._writer.form
        if route.table != form.table or route.is_for_some:  # bgpd makes no such routes
            return
        if route.metric != form.metric:
            if not gone:
                self._upkeep.stray_made(route)
            return
        if gone and route.key not in self._writer.families[route.family].installed:
            return
        if gone and route.source and route.nexthop not in self._dataplane.objects.groups:
            return  # it went with the address that it named as its source, and is written again without
        if not any(self._drifted.values()):
            asyncio.get_running_loop().call_later(_DRIFT_DELAY_S, self._repair_drifted)
            self._dataplane.upkeep.verify()
        self._drifted[route.family].add(route.key)
        if not gone:
            self._altered[route.family].add(route.key)

    def groups_changed(self) -> None:
        """Nexthop objects were deleted although their links are up: rewrite their routes."""
        self._targets.follow()
        self._writer.recheck_unsettled()

    def gateways_judged(self) -> None:
        """The kernel has refused gateways, which count as unreachable then, or takes them again."""
        changed = self._targets.all_changed()
        if changed:
            self._targets.follow()
        self._writer.next_hops_changed(changed)

    def interfaces_assigned(self, vrfs: AbstractSet[str]) -> None:
        """Interfaces came to this VRF or left it: what rests on them is resolved again."""
        if self._writer.vrf not in vrfs:
            return
        changed = self._targets.all_changed()
        self._source.follow()
        self._ownership.addresses_changed()
        self._follow_guard_soon()
        for hop, _why in changed:
            link = self._dataplane.host.named(hop.interface)
            if link is not None and not hop.address:
                self._direct_link_changed(link.index)
        self._targets.follow()
        self._writer.next_hops_changed(changed)

    def gateways_changed(self) -> None:
        """Other next hops are in use than before: the guard follows."""
        self._follow_guard_soon()

    # What follows.

    def _concerns(self, route: KernelRoute, gone: bool) -> bool:
        """Whether a change of a foreign route means that its prefix may be written now, or no longer.

        A new route of our metric may have taken the place of ours, and be gone again by the time that it matters.
        """
        changed = self._ownership.route_changed(route, gone)
        key, routes, form = route.key, self._writer.families[route.family], self._writer.form
        if not gone and route.metric == form.metric and route.table == form.table and key in routes.installed:
            routes.distrusted.add(key)
            changed = True
        return changed

    def _write_beside(self, route: KernelRoute) -> None:
        """Write the prefix of a foreign route as desired; of most, as of other programs' workloads, none is. A route of
        an earlier run that nobody wants yet stays, unless the foreign one forbids it."""
        family, key = route.family, route.key
        routes, desired = self._writer.families[family], self._writer.desired(family, key)
        if desired is None and key not in routes.installed and key not in routes.blocked:
            return
        if self._ownership.blocked(family, [key], kept=self._writer.kept[family]):
            self._writer.update(family, {key: desired})
        else:
            self._writer.ask_again(family, [key])

    def _repair_drifted(self) -> None:
        for family, keys in self._drifted.items():
            routes = self._writer.families[family]
            drifted = [key for key in keys if not routes.flushed(key)]
            keys.clear()
            if drifted:
                self._upkeep.write_again(family, drifted)
            self._writer.examiner.add(family, self._altered[family])
            self._altered[family].clear()

    def _address_changed(self, event: AddressChanged) -> None:
        """With its last IPv4 address an interface loses its IPv4 routes without a word, with its last IPv6 one perhaps
        IPv6; with a new one routes may be possible again that were refused.
        """
        link = self._dataplane.host.named(event.address.interface)
        if event.gone and link is not None:
            family = family_of(event.address.packed)
            self._direct_link_changed(link.index, (family,))
        elif not event.gone and any(routes.failed for routes in self._writer.families.values()):
            self._writer.recheck_unsettled()

    def _direct_link_changed(self, index: int, families: Sequence[Family] = UNICAST) -> None:
        """The kernel drops direct routes with their link, IPv4 ones silently: write them even if recorded. Those of an
        earlier run that nobody wants yet stay, as far as the kernel has them."""
        for family in families:
            routes = self._writer.families[family]
            keys = routes.direct.get(index)
            if keys:
                routes.distrusted.update(keys)
                self._writer.ask_again(family, list(keys))

    # The guard.

    def _follow_guard_soon(self) -> None:
        if not self._guard_planned:
            self._guard_planned = True
            asyncio.get_running_loop().call_soon(self._follow_guard)

    def _follow_guard(self) -> None:
        """The addresses that the host depends on changed: delete routes guarded now, write those no longer guarded."""
        self._guard_planned = False
        own: dict[Family, list[bytes]] = {}
        for family, key in self._ownership.own_changes():
            own.setdefault(family, []).append(key)
        for family, keys in own.items():
            self._writer.ask_again(family, keys)
        self._follow_gateways()
        for change in self._ownership.changes():
            routes = self._writer.families[change.family]
            self._owner.reserved_changed(self._writer.vrf, change.family, change.keys)
            known = [key for key in change.keys if key in routes.installed or key in routes.blocked]
            self._writer.rechecks.add(change.family, [self._misplaced(change.family, known)])
            if change.networks or change.below:
                misplaced = functools.partial(self._misplaced, change.family)
                for table in (routes.installed, routes.blocked):
                    meant = map(change.among, table.slices(SLICE))
                    self._writer.rechecks.add(change.family, map(misplaced, meant))

    def _misplaced(self, family: Family, keys: list[bytes]) -> list[bytes]:
        """Keys that are installed but must not be, or blocked but need not be."""
        stopped = self._ownership.blocked(family, keys, kept=self._writer.kept[family]) if keys else {}
        installed = self._writer.families[family].installed
        return [key for key in keys if (key in installed) is (key in stopped)]

    def _follow_gateways(self) -> None:
        """Guard the next hops that groups of this table's VRF use."""
        objects, host = self._dataplane.objects, self._dataplane.host
        if objects.version != self._nexthops_seen:
            self._nexthops_seen = objects.version
            links = {link.index for link in host.interfaces(self._writer.vrf)}
            self._ownership.use_gateways(
                {nexthop.hop.address for nexthop in objects.nexthops.values() if nexthop.ifindex in links}
            )
