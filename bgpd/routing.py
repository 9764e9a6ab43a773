"""The data path of the daemon: makes its parts, connects them, and says what several of them must hear in which order.

Parts call each other directly (docs/architecture.md); here is only what concerns more than one. A session that is lost:
dead next hops leave the kernel in one message before any route is looked at again. A kernel route that is there: the
RIB hears it before EVPN. A workload that goes: it is withdrawn from neighbors before its route goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import SessionConfig
from bgpd.dependencies import HostNeeds, UsedServers
from bgpd.ended_sessions import EndedSessions
from bgpd.evpn.evpn import Evpn
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.tables import KernelTables
from bgpd.history.base import addresses_of
from bgpd.history.recorder import History
from bgpd.history.records import Tenants
from bgpd.history.workload_records import WorkloadRecords
from bgpd.inheritance import Inheritance
from bgpd.kernel.host import attaches_network
from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.kernel import AddressChanged, KernelEvent, KernelResynchronised, Link, LinkChanged, RouteChanged
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.model.wire import NlriDecoders
from bgpd.model.workload import ClaimInfo
from bgpd.own_routes import WORKLOAD_SOURCE, attributes_of
from bgpd.rib.losses import Losses
from bgpd.rib.prepared import PreparedRib
from bgpd.rib.rib import Rib
from bgpd.rib.saved import SavedRib
from bgpd.runtime.boot import has_run_since_boot
from bgpd.runtime.copy_of_process import CopyFailed
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.events import log
from bgpd.runtime.shared_state import changes_shared_state
from bgpd.runtime.turns import LoopClock, Walks, soon
from bgpd.speaker.speaker import Speaker
from bgpd.speaker.tap import SessionTap
from bgpd.speaker.transport import NewSocket
from bgpd.workload.guest_source import GuestSource
from bgpd.workload.ways_out import USUAL, WaysOut
from bgpd.workload.workloads import Workloads

_ABREAST = 4_096
"""A neighbor that has sent at most this many routes fewer than the leading one also counts as leading."""
_LOOK_S = 1.0
MEMBERSHIPS_WAIT_S = 30.0
"""A neighbor that has not sent all its route target memberships by then is sent EVPN routes by those that have come."""
_PREPARED = 50_000
"""So many routes keep neighbors waiting for a while, if they are written when they are not heard any more."""
_PREPARE_S = 10.0
"""How long that may take beforehand; all that a process does to leave has 20 s (TimeoutStopSec= of the unit)."""


class Routing:
    """The parts of the data path, joined. `changed()` is called when readiness may have changed.

    `sources` has the present Source of each established neighbor by name, `guests` of each guest. `ending`: sessions
    that close now cost no kernel route. `link_changed` is called with the name of an interface that came, went, or
    changed its VRF.
    """

    def __init__(
        self,
        config: Config,
        *,
        dataplane: Dataplane,
        walks: Walks,
        nlri_decoders: NlriDecoders,
        hostname: str,
        changed: Callable[[], None],
        memory_freed: Callable[[], None],
        shortage: Shortage,
        history: History,
        tap: SessionTap | None = None,
        now: Callable[[], float] = time.time,
        new_socket: NewSocket = socket.socket,
        ways_out: WaysOut = USUAL,
    ) -> None:
        self.sources: dict[str, Source] = {}
        self.guests: dict[str, Source] = {}
        self.synchronised = False
        self.converged = False
        self.ending = False
        self.link_changed: Callable[[str], None] = lambda _name: None
        self.history = history
        self._losses = Losses()
        self._is_change_planned = False
        self._is_adopting = False
        self._unread: set[str] = set()
        self.config = config
        self.host_needs = HostNeeds(config.guard)
        self.dataplane = dataplane
        self.monitor = monitor = dataplane.monitor
        self.host = monitor.host
        self.host.loopbacks = [parse_prefix(prefix) for prefix in config.router.loopbacks]
        self.walks = walks
        self._changed = changed
        self._memory_freed = memory_freed
        self._ended = EndedSessions(self, walks=walks, memory_freed=memory_freed)
        self.tables = KernelTables(
            config.fib,
            dataplane=self.dataplane,
            listener=self,
            walks=walks,
            needs=self._needs,
            interfaces=lambda vrf: self.workloads.claims.interfaces(vrf),
            probe_sources=config.workload.health.probe_sources,
        )
        self.rib = Rib(config.rib, host=monitor.host, now=now, schedule=soon)
        self.evpn = Evpn(
            config.evpn, host=monitor.host, rib=self.rib, kernel=self.tables, walks=walks, clock=LoopClock()
        )
        self.servers = UsedServers(config.workload.mqtt, changed=self.tables.main_needs_changed)
        self.speaker = Speaker(
            config.speaker,
            host=monitor.host,
            routes=self.rib.received,
            events=self,
            nlri_decoders=nlri_decoders,
            shortage=shortage,
            bfd_socket=config.bfd.socket,
            tap=tap,
            new_socket=new_socket,
        )
        self.workloads: Workloads = Workloads(
            config.workloads,
            owner=self,
            kernel=self.tables,
            endpoints=self.evpn,
            sessions=self.speaker,
            guests=self.rib,
            host=monitor.host,
            routes=monitor.routes,
            hostname=hostname,
            now=now,
            ways_out=ways_out,
        )
        self._connect()

    def _connect(self) -> None:
        """What parts need of others that were made after them."""
        self.rib.connect(
            kernel=self.tables,
            neighbors=self.speaker.neighbors,
            evpn=self.evpn,
            workloads=self.workloads.table,
            guests=self.workloads.find(GuestSource),
            recorder=self.history if self.history.is_on else None,
        )
        self.own_records = WorkloadRecords(self.history, self.workloads.claims, self.workloads.services)
        self.workloads.table.listeners.append(self.own_records)
        self.workloads.services.listeners.append(self.own_records.service_changed)
        self.tables.connect(self.rib, self.evpn, self.workloads.table)
        self.evpn.connect(claims=self.workloads.table, presences=self.workloads.presences)
        self.host.reassigned = self._reassigned

    def _needs(self, vrf: str) -> Dependencies:
        sources = () if vrf else (*self.rib.received.stale.kept, *self.sources.values(), *self.guests.values())
        return self.host_needs.of(vrf, sources=sources, servers=self.servers)

    @property
    def routes(self) -> int:
        """Prefixes in all tables of the RIB."""
        return sum(len(table.routes) for table in self.rib.tables.values())

    async def start(self, left: Inheritance) -> None:
        """Adopt what the kernel has, then follow it, and `left`, what another process has; its sessions may be heard
        afterwards, while `complete` goes on.

        Raises: CannotWrite: CAP_NET_ADMIN is missing. OSError: the kernel refused.
        """
        protocols = left.daemon.protocols if left.daemon is not None else []
        await self.monitor.start(protocols)
        routes = left.routes()
        if routes is None and protocols:
            self.monitor.look_at_all_routes()
        self.history.started(addresses_of(self.host), is_adopting=routes is not None)
        if routes is not None:
            self._is_adopting = True
            await left.adopt(self.speaker)  # their sessions are among what the kernel's tables guard from the start on
        await self.tables.start(self.config.vrf, None if routes is None else left.tables(routes))
        has_run = await asyncio.to_thread(has_run_since_boot, Path(self.config.state.directory))
        self.speaker.restarting = self.tables.installed > 0 or has_run
        self.evpn.start(is_adopting=routes is not None)
        self.say_tenants()
        for event in self.host.events():
            self.speaker.kernel_changed(event)
        self.monitor.subscribe(self._kernel_changed)
        if routes is not None:
            await self._restore_sessions(routes)
            self.evpn.go_on(left.gateways())
        self.speaker.host_is_followed()
        for interface in {source.interface for source in (*self.sources.values(), *self.guests.values())}:
            self.walks.run(self.rib.received.networks_changed(interface))
        kernel_source = self.workloads.kernel
        self.monitor.subscribe(kernel_source.event, replay=True, replay_routes=True, gather=kernel_source.gather)
        kernel_source.replayed()
        self.monitor.burst_ended.append(self._kernel_reported)
        self.monitor.events_lost.append(self._changed)

    async def _restore_sessions(self, routes: SavedRib) -> None:
        """Before a session ends: what its routes led to is known then, and what of them is to be kept."""
        former = self.rib.received.restore_former(routes)
        for state in former.values():
            if state.source.name not in self.established(state.source):
                self.evpn.neighbor_up(state.source, state.families)
                self.evpn.neighbor_away(state.source)
        await self.walks.run_to_end(self.rib.received.restore_sessions(routes, former))

    async def complete(self, left: Inheritance) -> None:
        """The rest of a start: all routes that another process has left, then the claims of workloads.

        Raises: OSError: the kernel refused.
        """
        if self._is_adopting:
            await self.walks.run_to_end(self.rib.received.restore_routes())
            self.speaker.routes_are_complete()
            self.tables.compare_known(self.monitor.look_at_all_routes)
            self._memory_freed()
            self._ended.watch()
            self.evpn.endpoints.moves_left(left.moves())
        await self.workloads.start(left.feeds)

    def _release(self) -> Iterator[None]:
        """Neighbors that were adopted are sent what is different, once all that is going on has come to an end, but
        for those that have yet to say which route targets they want."""
        while self.walks:
            yield
        for source, family in self.speaker.awaiting_end_of_rib():
            if family is Family.ROUTE_TARGET:
                self.rib.received.await_memberships(source, until=_now() + MEMBERSHIPS_WAIT_S)
        self.rib.dissemination.release()

    async def prepare_to_leave(self) -> PreparedRib:
        """The RIB for another process; the greater part of a large one is written now, while neighbors are heard."""
        prepared = self.rib.to_leave()
        if self.routes >= _PREPARED:
            try:
                await prepared.write(patience_s=_PREPARE_S)
            except CopyFailed as error:
                log.info("handover.not_prepared", reason=str(error))
        return prepared

    async def settle(self, patience_s: float) -> None:
        """Nothing is read of neighbors: wait until what they said is in the kernel, but not for ever."""
        self.rib.commit_gathered()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                for fib in list(self.tables.fibs.values()):
                    await fib.writer.idle()

    async def run(self) -> None:
        """Look for what can be asked of neighbors again, and for what is waited for in vain, until cancelled."""
        while True:
            self._look_for_losses()
            self.rib.received.ask_for_discarded(_now())
            self.rib.dissemination.resume_due(_now())
            await asyncio.sleep(_LOOK_S)

    def _look_for_losses(self) -> None:
        """Tell of neighbors that withdraw many of their routes."""
        counts = {source: self.rib.received.count(source) for source in self.sources.values()}
        for one in self._losses.look(counts, _now()):
            seconds = round(_now() - one.since, 1)
            log.warning("routes.withdrawn", neighbor=one.neighbor, before=one.before, now=one.now, seconds=seconds)

    async def stop(self) -> None:
        """Write what is queued and stop using the kernel; routes stay."""
        await self.tables.stop()
        await self.monitor.stop()

    def converge(self) -> None:
        """The first state is complete: delete kernel routes that nobody wants."""
        self.converged = True
        self.speaker.start_is_over()
        self.evpn.converged()
        self.tables.sweep()

    def say_tenants(self) -> None:
        """The VRFs are others now: the history is told."""
        self.history.stands(Tenants(self.history.now(), self.evpn.tenants()))

    def _kernel_changed(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):
            if attaches_network(event.route):  # its address may have gone, and been told of, before
                self.walks.run(self.rib.received.networks_changed(event.route.interface))
            return
        if isinstance(event, KernelResynchronised):
            self._changed()
        if isinstance(event, LinkChanged) and event.is_another:
            self.link_changed(event.link.name)
        if isinstance(event, AddressChanged):
            one = event.address
            self.history.own_address(self.host.vrf_of(one.interface), one.interface, one.packed, is_gone=event.gone)
            self.walks.run(self.rib.received.networks_changed(event.address.interface))
        if isinstance(event, LinkChanged | AddressChanged):
            self.workloads.host_changed(event)
        self.speaker.kernel_changed(event)
        self.evpn.kernel_changed(event)

    def _reassigned(self, link: Link, former: str) -> None:
        """A link belongs to another VRF by a policy rule: its addresses are that one's now."""
        vrf = self.host.vrf_of(link.name)
        for one in self.host.addresses(link.name):
            self.history.own_address(former, link.name, one.packed, is_gone=True)
            self.history.own_address(vrf, link.name, one.packed, is_gone=False)
        self.link_changed(link.name)
        self.walks.run(self.rib.received.networks_changed(link.name))
        self.workloads.host_changed(LinkChanged(link))

    def _kernel_reported(self) -> None:
        """A workload's new route is announced in the same turn of the loop."""
        if self.rib.flush_after(self.workloads.kernel_reported):
            self.workloads.report()

    def established(self, source: Source) -> dict[str, Source]:
        """The established sessions that one belongs to, by name: of guests, or of neighbors."""
        return self.guests if source.guest else self.sources

    # Sessions (SpeakerEvents).

    @changes_shared_state
    def session_established(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        going = self.rib.received.neighbor_back(source, negotiated, config, now=_now())
        self._ended.remove(going, why="the neighbor is back and does not say that it forwards on")
        self.established(source)[source.name] = source
        self.evpn.neighbor_up(source, negotiated.families)
        self.rib.received.neighbor_up(source, negotiated, config)
        self.rib.received.await_memberships(source, until=_now() + MEMBERSHIPS_WAIT_S)
        self._ended.watch()
        self._neighbors_changed()

    @changes_shared_state
    def session_adopted(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        self.established(source)[source.name] = source
        self.evpn.neighbor_up(source, negotiated.families)
        self.rib.received.neighbor_up(source, negotiated, config, is_adopted=True)
        self._neighbors_changed()

    @changes_shared_state
    def session_closed(self, source: Source, reason: str, *, is_graceful: bool = False) -> None:
        if self.established(source).get(source.name) is source:
            del self.established(source)[source.name]
        if self.ending:
            return
        received = self.rib.received
        going = received.session_lost(source, is_graceful=is_graceful, now=_now())
        self.history.session_closed(source, reason, received.stale.of_session(source))
        if received.is_kept(source):
            self.evpn.neighbor_away(source)
            routes, _ = received.kept_of([(source, family) for family in received.stale.kept[source]])
            log.warning("graceful_restart.routes_kept", neighbor=source.name, routes=routes, reason=reason)
        self._ended.remove(going, why=reason, ended=source)
        self._ended.watch()
        self._neighbors_changed()

    @changes_shared_state
    def path_failed(self, source: Source) -> None:
        """Also once more when the session is closed: it may have named others meanwhile."""
        self._ended.next_hops_lost(self.rib.received.places(source.name))

    def keeps_routes(self, name: str) -> bool:
        return bool(self.rib.received.stale.of(name))

    @changes_shared_state
    def forwarding_lost(self, name: str, reason: str) -> None:
        self._ended.remove(self.rib.received.stale.forget(name), why=reason)
        self._ended.watch()

    def all_end(self) -> None:
        self.ending = True

    def updates_read(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        self.history.heard(source, bodies, batches)

    @changes_shared_state
    def end_of_rib_received(self, source: Source, family: Family) -> None:
        self.rib.received.end_of_rib_received(source, family)
        going = self.rib.received.stale.end_of_rib(source.name, family)
        self._ended.remove(going, why="the neighbor has sent its routes again", is_back=True)
        self._ended.watch()
        self._changed()

    @changes_shared_state
    def refresh_ended(self, source: Source, family: Family) -> None:
        self.walks.run(self.rib.received.refresh_ended(source, family))

    def _neighbors_changed(self) -> None:
        self.tables.main_needs_changed()
        if not self._is_change_planned:
            self._is_change_planned = True
            asyncio.get_running_loop().call_soon(self._report_neighbors)
        self._changed()

    def _report_neighbors(self) -> None:
        """Once for all sessions that came or went in a turn of the loop: all neighbors are looked at."""
        self._is_change_planned = False
        self.workloads.neighbors_changed()

    # The kernel (KernelListener).

    def kernel_is_behind(self, busy: AbstractSet[str]) -> None:
        """Leave the leaders unread: a neighbor that is behind may catch up, and add its next hops to what waits."""
        sources = [source for source in self.sources.values() if source.name in busy] or self.sources.values()
        received = {source.name: self.rib.received.count(source) for source in sources}
        least = max(received.values(), default=0) - _ABREAST
        leaders = {name for name, count in received.items() if count >= least}
        if leaders != self._unread:
            self._unread = leaders
            self.speaker.pause_reading(leaders)

    def kernel_caught_up(self) -> None:
        self._unread = set()
        self.speaker.pause_reading(())

    def kernel_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        self.rib.fib_acknowledged(vrf, family, keys)
        if vrf:
            self.evpn.fib_acknowledged(vrf, family, keys)

    def reachability_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        self.walks.run(self.rib.next_hop_changed(next_hop, why, vrf=vrf))

    # Workloads (workloads.Owner).

    def announce_workloads(self, vrf: str, family: Family, keys: list[bytes], info: ClaimInfo) -> None:
        attributes = attributes_of(self.config.router.asn, info)
        self.rib.announce_local(
            WORKLOAD_SOURCE, family, keys, attributes, vrf=vrf, exception=info.exception, is_service=info.is_service
        )
        if vrf:
            self.evpn.workloads_announced(vrf, family, keys, info)
            self.tables.vrfs.interfaces_changed(vrf)

    def withdraw_workloads(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        """What bgpd is about to take from the kernel is withdrawn from the neighbors first."""
        self.rib.withdraw_local(WORKLOAD_SOURCE, family, keys, vrf=vrf)
        if vrf:
            self.evpn.workloads_withdrawn(vrf, family, keys)
        self.rib.flush()

    def workloads_gone(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        if vrf:
            self.evpn.workloads_gone(vrf, keys)

    def workloads_synchronised(self) -> None:
        self.synchronised = True
        self.rib.dissemination.synchronised()
        if self._is_adopting:
            self._is_adopting = False
            self.walks.run(self._release())
        self._changed()


def _now() -> float:
    return asyncio.get_running_loop().time()
