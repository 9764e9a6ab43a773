"""All BGP sessions of this host, as the rest of the daemon uses them: start, stop, reload, views.

Joins the neighbors (neighbors.py) with what lets them connect (listening.py, incoming.py, unnumbered.py), and says what
the kernel's events mean for sessions. Routes do not pass here: received ones go to the RouteTaker, and the RIB sends
its own through the neighbors.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable

import msgspec

from bgpd.config.schema import DEFAULT_BFD_SOCKET, SpeakerConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.kernel.host import Host
from bgpd.message.exabgp_codec import Notification
from bgpd.message.notification import encode_communication
from bgpd.model.iana import BGP_PORT, CeaseSubcode, ErrorCode, Family
from bgpd.model.kernel import AddressChanged, KernelEvent, LinkChanged
from bgpd.model.prefix import format_address, is_link_local
from bgpd.model.source import Source
from bgpd.model.views.sessions import NeighborView
from bgpd.model.wire import NlriDecoders, NotificationError
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.events import log
from bgpd.speaker import ruled_vrfs
from bgpd.speaker.admission import Admission
from bgpd.speaker.bfd import Bfd
from bgpd.speaker.defects import Defects
from bgpd.speaker.hostnames import Hostnames
from bgpd.speaker.incoming import Incoming
from bgpd.speaker.left_sessions import LeftSession, LeftSessions
from bgpd.speaker.listening import Listening, door_of
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.neighbor_view import neighbor_view, waiting_view
from bgpd.speaker.neighbors import Neighbors
from bgpd.speaker.peering import Changed, Peering, of_saved
from bgpd.speaker.ports import RouteTaker, SpeakerEvents
from bgpd.speaker.saved import SavedSession, SavedSpeaker
from bgpd.speaker.surroundings import Surroundings
from bgpd.speaker.tap import SessionTap
from bgpd.speaker.transport import LINGER_S, Endpoint, NewSocket
from bgpd.speaker.transport import adopt as adopt_connection
from bgpd.speaker.unnumbered import Unnumbered

ROUND_S = 1.0
"""Pause between advertisements while an unnumbered neighbor is down; every tenth while it is up."""
_ROUNDS_WHILE_UP = 10
_ROUNDS_PER_RETRY = 5


class Speaker:
    """The BGP sessions of this host; through `neighbors` the RIB sends. `listen_port` is 179 but for tests.

    `restarting`: the daemon comes back from a graceful restart; may be set until `run`.
    """

    def __init__(
        self,
        config: SpeakerConfig,
        *,
        host: Host,
        routes: RouteTaker,
        events: SpeakerEvents,
        nlri_decoders: NlriDecoders,
        restarting: bool = False,
        listen_port: int = BGP_PORT,
        shortage: Shortage | None = None,
        bfd_socket: str = DEFAULT_BFD_SOCKET,
        tap: SessionTap | None = None,
        new_socket: NewSocket = socket.socket,
    ) -> None:
        self.restarting = restarting
        self.admission = Admission(neighbors=_most_neighbors(config), shortage=shortage or Shortage())
        self._config = config
        self._host = host
        self._tasks = asyncio.TaskGroup()
        self._listening = Listening(listen_port, admission=self.admission, new_socket=new_socket)
        self._around = Surroundings(
            router=config.router,
            hostname=socket.gethostname().partition(".")[0],
            host=host,
            routes=routes,
            events=events,
            nlri_decoders=nlri_decoders,
            listening=self._listening,
            defects=Defects(),
            tasks=self._tasks,
            tap=tap,
            new_socket=new_socket,
        )
        self.neighbors = Neighbors(self._around)
        self._incoming = Incoming(self.neighbors, self._around, config.listen)
        self._unnumbered = Unnumbered(self.neighbors, host, new_socket=new_socket)
        self.bfd = self._around.paths = Bfd(self.neighbors, self._around, config.listen, socket_path=bfd_socket)
        self.hostnames = self._around.names = Hostnames(self.neighbors, host)
        self._is_running = False
        self._adopted: list[tuple[Neighbor, SavedSession]] = []
        self._born = time.time()

    @property
    def error(self) -> str:
        """What keeps it from hearing neighbors: port in use, a missing capability or key; "" if nothing."""
        closed = next(iter(ruled_vrfs.problems(self._config.listen, self._host)), "")
        return self._listening.error or self._unnumbered.error or closed

    async def run(self) -> None:
        """Listen, dial, advertise, until cancelled, or until something raises. Then sessions end without a word, unless
        `shutdown` came first."""
        async with self._tasks:
            self._around.restarting = self.restarting
            self._is_running = True
            try:
                self._listen()
                self._follow_configuration()
                self._go_on()
                self._tasks.create_task(self.bfd.run())
                self._tasks.create_task(self.hostnames.run())
                await self._maintain()
            finally:
                self._around.events.all_end()
                self.neighbors.stop(None, "bgpd ends")
                self._listening.close()
                self.admission.reserve.close()
                self._unnumbered.close()

    async def shutdown(self, communication: str, *, gracefully: bool) -> None:
        """End all sessions for good, with a text for the people on the other side (RFC 9003).

        `gracefully`: those with `graceful_restart` end without a NOTIFICATION, so that their neighbors keep our routes
        (RFC 4724).
        """
        data = encode_communication(communication) if communication else b""
        notification = Notification(ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, data)
        self._listening.close()
        wires = self.neighbors.stop(notification, "shut down", gracefully=gracefully)
        if wires:
            waits = [asyncio.ensure_future(wire.closed.wait()) for wire in wires]
            _, late = await asyncio.wait(waits, timeout=LINGER_S)
            for wait in late:
                wait.cancel()

    def reconfigure(self, config: SpeakerConfig) -> None:
        """Take over a configuration; only neighbors whose session it changes are reset.

        With the same one only the password and key files of listen ranges are read again.
        """
        former, self._config = self._config, config
        self._incoming.ranges = self.bfd.ranges = config.listen
        self.admission.neighbors = _most_neighbors(config)
        if self._is_running:
            if config != former:
                self._follow_configuration()
            self._listening.sign_ranges(config.listen)

    def _follow_configuration(self) -> None:
        for peering in self.neighbors.reconfigure(self._config):
            self._add(peering)
        self._listen_elsewhere()
        self._listening.inherited_are_over()
        self.bfd.follow()

    def _add(self, peering: Peering) -> None:
        neighbor = self.neighbors.add(peering)
        if peering.is_unnumbered:
            self._unnumbered.discover(peering.interface)
        neighbor.start()

    # From the rest of the daemon

    def start_is_over(self) -> None:
        """All neighbors were heard since the daemon's start, or are not waited for any more."""
        self._around.is_starting = False
        for neighbor in self.neighbors:
            neighbor.start_is_over()

    def awaiting_end_of_rib(self) -> list[tuple[Source, Family]]:
        """The established sessions and families whose initial table is not complete yet (RFC 4724 section 2)."""
        exchanges = [neighbor.exchange for neighbor in self.neighbors if neighbor.exchange is not None]
        return [(one.source, family) for one in exchanges for family in one.awaited]

    def sends_end_of_rib(self, source: Source) -> bool:
        """Whether the neighbor of an established session has to send End-of-RIB, having graceful restart (RFC 4724)."""
        neighbor = self.neighbors.of(source)
        exchange = neighbor.exchange if neighbor is not None else None
        return exchange is not None and exchange.negotiated.graceful_restart is not None

    def pause_reading(self, names: Iterable[str]) -> None:
        """Leave unread what just these neighbors send, for less than a hold time: others, or the kernel, are behind."""
        paused = frozenset(names)
        for neighbor in self.neighbors:
            neighbor.pause_reading(neighbor.peering.name in paused)

    def neighbor_views(self) -> list[NeighborView]:
        """All neighbors by name, configured ones also before `run`; the daemon fills the route counts in."""
        router = self._config.router
        views = {one.peering.name: neighbor_view(one, router, self._around.defects) for one in self.neighbors}
        for one in self.neighbors:
            views[one.peering.name].bfd = self.bfd.state_of(one.peering)
            verdict = self.hostnames.verdict(one)
            views[one.peering.name].expectation = verdict.state.value
            views[one.peering.name].expected_hostname = verdict.expected
            views[one.peering.name].lldp_hostname = verdict.lldp
        for config in () if self.neighbors.stopped else self._config.neighbor:
            if config.name not in views:
                views[config.name] = waiting_view(config, router, since=self._born)
        return [views[name] for name in sorted(views)]

    def kernel_changed(self, event: KernelEvent) -> None:
        """The host changed: sessions end at once where a link or a local address is lost (fast external fallover), give
        other next hops where those of a session changed, and are begun where a link or address came."""
        match event:
            case LinkChanged(link, gone, before):
                was_up = link.up if gone else before is not None and before.up
                if was_up and (gone or not link.up):
                    self._link_lost(link.name, "is gone" if gone else "went down")
                elif link.up and not gone and not was_up:
                    self._link_usable(link.name)
            case AddressChanged(address, gone):
                if gone:
                    reason = f"local address {format_address(address.packed)} was removed from {address.interface}"
                    for neighbor in [one for one in self.neighbors if one.lost_address(address.packed)]:
                        neighbor.transport_lost(reason)
                for neighbor in self.neighbors:
                    neighbor.addresses_changed(address.interface)
                if not gone and address.usable:
                    self._link_usable(address.interface)

    def _link_lost(self, interface: str, what: str) -> None:
        for neighbor in [one for one in self.neighbors if one.uses(interface)]:
            neighbor.transport_lost(f"link {interface} {what}")

    def _link_usable(self, interface: str) -> None:
        self._unnumbered.link_usable(interface)
        for neighbor in self.neighbors:
            if neighbor.peering.address and neighbor.uses(interface):
                neighbor.connect_now()

    # From one process to the next

    def hold(self, held: bool) -> None:
        """Leave unread all that neighbors send, until told otherwise; KEEPALIVEs are sent meanwhile."""
        for neighbor in self.neighbors:
            neighbor.hold(held)

    def saved(self) -> tuple[SavedSpeaker, dict[str, int]]:
        """The established sessions, which are held, and the listening sockets, with their descriptors by name."""
        sessions: list[bytes] = []
        descriptors: dict[str, int] = {}
        now = asyncio.get_running_loop().time()
        self.neighbors.forget_waits(now)
        waits = [msgspec.msgpack.encode(wait) for wait in self.neighbors.waits.values()]
        for neighbor in self.neighbors:
            name = f"session-{len(sessions) + 1}"
            saved = neighbor.saved(name, now)
            if saved is None:
                waits.append(msgspec.msgpack.encode(neighbor.saved_wait(now)))
            else:
                sessions.append(msgspec.msgpack.encode(saved[0]))
                descriptors[name] = saved[1]
        listeners = list(self._listening.saved())
        descriptors |= {listener.descriptor: number for listener, number in listeners}
        found = SavedSpeaker(sessions, waits, [listener for listener, _ in listeners], self.bfd.saved)
        return found, descriptors

    async def adopt(self, left: LeftSessions) -> dict[str, str]:
        """Go on with the sessions that another process has left, before `run`: nothing is read of them until then.

        Answers, by name, why one cannot be gone on with: its connection is closed, and its neighbor may connect again.
        """
        refused = dict(left.refused)
        self.neighbors.waits = left.waits
        self.bfd.remember(left.bfd)
        vrfs = {one.vrf for one in (*self._config.neighbor, *self._config.listen)} - {""}
        usable = {"", *filter(None, map(self._host.vrf_device, vrfs))}
        for listener, sock in left.listeners:
            if listener.vrf not in usable:
                sock.close()
        self._listening.inherit([one for one in left.listeners if one[0].vrf in usable])
        left.listeners = []
        for session in left.take():
            saved = session.saved
            why = await self._adopt_one(session)
            if why:
                session.close()
                refused[saved.name] = why
        for name, why in refused.items():
            log.warning("session.not_adopted", neighbor=name, reason=why)
        return refused

    async def _adopt_one(self, left: LeftSession) -> str:
        try:
            peering = of_saved(left.saved, self._config)
        except Changed as error:
            return str(error)
        link = self._host.named(left.saved.runs_over)
        if left.saved.runs_over and (link is None or not link.up):
            return f"link {left.saved.runs_over} went down"
        try:
            scope = link.index if link is not None and is_link_local(left.saved.address) else 0
            wire = await adopt_connection(left.socket, Endpoint(left.saved.address, scope))
        except OSError as error:
            return f"connection lost: {error.strerror or error}"
        neighbor = self.neighbors.add(peering)
        try:
            neighbor.adopt(left.saved, wire)
        except (OSError, NotificationError) as error:
            wire.abort()
            self.neighbors.forget(neighbor)
            return str(error)
        self._adopted.append((neighbor, left.saved))
        return ""

    def host_is_followed(self) -> None:
        """`kernel_changed` hears of all from now on: sessions end whose link or address went since they were taken."""
        for neighbor, saved in self._adopted:
            link = self._host.named(saved.runs_over)
            if saved.runs_over and (link is None or not link.up):
                neighbor.transport_lost(f"link {saved.runs_over} {'is gone' if link is None else 'went down'}")
            elif neighbor.exchange is not None and not neighbor.exchange.has_local:
                neighbor.transport_lost(f"local address {format_address(neighbor.exchange.local)} was removed")

    def _go_on(self) -> None:
        """Hear the adopted sessions again, but for those that have to wait until all is known that they had announced,
        which is asked for meanwhile."""
        waiting: list[tuple[Neighbor, SavedSession]] = []
        for neighbor, saved in self._adopted:
            if neighbor.exchange is not None and self._around.routes.must_wait(neighbor.exchange.source):
                waiting.append((neighbor, saved))
            else:
                neighbor.go_on(saved)
        self._adopted = waiting

    def routes_are_complete(self) -> None:
        """All is known that the adopted sessions had announced: those are heard again that had to wait."""
        self._go_on()
        for neighbor in self.neighbors:
            if neighbor.is_held:
                neighbor.hold(False)

    # Again and again

    async def _maintain(self) -> None:
        """Advertise to unnumbered neighbors, and retry what could not be opened."""
        rounds = 0
        while True:
            await asyncio.sleep(ROUND_S)
            rounds += 1
            self._unnumbered.discover_all(established_too=rounds % _ROUNDS_WHILE_UP == 0)
            self.bfd.follow()
            self.hostnames.look()
            if not self.neighbors.stopped and rounds % _ROUNDS_PER_RETRY == 0:
                self._retry()

    def _listen(self) -> None:
        self._listening.open(self._incoming)
        for neighbor in self.neighbors:
            neighbor.read_keys()
        self._listening.sign_ranges(self._config.listen)

    def _retry(self) -> None:
        """Try again to listen, to read keys that nobody else asks for (those of who is only listened to), and to give
        up old keys that neighbors have still used."""
        if self._listening.socket_error:
            self._listen()
        self._listen_elsewhere()
        self.neighbors.forget_waits(asyncio.get_running_loop().time())
        for neighbor in self.neighbors:
            if neighbor.lacks_keys:
                neighbor.read_keys()
            neighbor.roll_keys()
        unsigned = [listen for listen in self._config.listen if not self._listening.may_accept(listen)]
        self._listening.sign_ranges(unsigned)

    def _listen_elsewhere(self) -> None:
        """Listen in each VRF that has neighbors and a device, and on the ports of guests."""
        guests = [door_of(one) for one in self._config.listen if isinstance(one, GuestConfig)]
        wanted = {(neighbor.peering.config.vrf, BGP_PORT) for neighbor in self.neighbors} | set(guests)
        open_doors = {one for one in wanted if not one[0] or self._host.vrf_device(one[0])}
        fresh = self._listening.follow(open_doors | ruled_vrfs.doors(self._config.listen, self._host))
        if fresh:
            self._listening.sign_ranges(one for one in self._config.listen if door_of(one) in fresh)
        for neighbor in self.neighbors:
            if door_of(neighbor.peering.config) in fresh:
                neighbor.read_keys()


def _most_neighbors(config: SpeakerConfig) -> int:
    """How many there may be at once."""
    return len(config.neighbor) + sum(listen.max_neighbors for listen in config.listen)
