"""All BGP sessions of this host: who may connect, whose a connection is, what the kernel's events mean for sessions.

Decides about no route and no message. Sessions are driven by neighbor.py; what they hear goes to SpeakerEvents.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable

import msgspec
import structlog

from bgpd.config.schema import ListenConfig, SpeakerConfig
from bgpd.kernel.host import Host
from bgpd.message.exabgp_codec import Notification
from bgpd.message.notification import encode_communication
from bgpd.model.iana import BGP_PORT, CeaseSubcode, ErrorCode, Family
from bgpd.model.kernel import AddressChanged, KernelEvent, LinkChanged
from bgpd.model.path import RouteBatch, Source
from bgpd.model.prefix import format_address, is_link_local
from bgpd.model.views import NeighborView
from bgpd.model.wire import NlriDecoders
from bgpd.runtime.descriptors import Shortage
from bgpd.speaker.admission import Admission
from bgpd.speaker.connection import State
from bgpd.speaker.defects import Defects
from bgpd.speaker.exchange import Exchange, SpeakerEvents
from bgpd.speaker.listening import VrfListeners
from bgpd.speaker.neighbor import REJECTED, Neighbor, Surroundings
from bgpd.speaker.peering import Peering, best_range, needs_new_session, of_listen, of_neighbor, waiting_view
from bgpd.speaker.places import ConnectRates, gives_way, why_full
from bgpd.speaker.transport import LINGER_S, Listener, Wire, arrival_index, read_password
from bgpd.speaker.unnumbered import RouterDiscovery

log = structlog.get_logger()

HOLD_OFF_S = 60.0
"""How long a neighbor that was reset for cause (too many prefixes) is refused."""
ROUND_S = 1.0
"""Pause between advertisements while an unnumbered neighbor is down; every tenth while it is up."""
_ROUNDS_WHILE_UP = 10
_ROUNDS_PER_RETRY = 5
_MAX_REMEMBERED_STRANGERS = 256


class Speaker:
    """Owns all sessions. `listen_port` is 179 but for tests. `restarting`: see Surroundings; may be set until `run`.

    `error` is what keeps it from hearing neighbors (port in use, a missing capability or password), "" if
    nothing.
    """

    def __init__(
        self,
        config: SpeakerConfig,
        *,
        host: Host,
        events: SpeakerEvents,
        nlri_decoders: NlriDecoders,
        restarting: bool = False,
        listen_port: int = BGP_PORT,
        shortage: Shortage | None = None,
    ) -> None:
        self._config = config
        self._events = events
        self._nlri_decoders = nlri_decoders
        self.restarting = restarting
        self._host = host
        self.admission = Admission(neighbors=_most_neighbors(config), shortage=shortage or Shortage())
        self._listener = Listener(listen_port, self._accepted, admission=self.admission)
        self._vrf_listeners = VrfListeners(listen_port, self._accepted, admission=self.admission)
        self._discovery = RouterDiscovery(advertised=self._router_heard, solicited=self._advertise)
        self._around: Surroundings | None = None
        self._neighbors: dict[str, Neighbor] = {}
        self._range_keys: set[str] = set()
        self._range_errors: dict[str, str] = {}
        self._defects = Defects()
        self._connect_rates = ConnectRates()
        self._strangers: set[bytes] = set()
        self._stopping = False
        self._born = time.time()

    @property
    def error(self) -> str:
        return self._listener.error or self._discovery.error or next(iter(self._range_errors.values()), "")

    async def run(self) -> None:
        """Listen, dial, advertise, until cancelled. Then sessions end without a word, unless `shutdown` came first."""
        async with asyncio.TaskGroup() as tasks:
            self._around = Surroundings(
                router=self._config.router,
                hostname=socket.gethostname().partition(".")[0],
                host=self._host,
                events=self._events,
                nlri_decoders=self._nlri_decoders,
                listener=self._listener,
                vrf_listeners=self._vrf_listeners,
                defects=self._defects,
                spawn=tasks.create_task,
                restarting=self.restarting,
            )
            try:
                self._open_listener()
                self._add_missing()
                await self._maintain()
            finally:
                self._stop_all(None, "bgpd ends")
                self._listener.close()
                self._vrf_listeners.close()
                self.admission.reserve.close()
                self._discovery.close()

    # From the rest of the daemon

    def send(self, source: Source, batch: RouteBatch) -> None:
        """Send routes to the neighbor of an established session; nothing happens if that has ended."""
        exchange = self._of(source)
        if exchange is not None:
            exchange.send(batch)

    def send_end_of_rib(self, source: Source, family: Family) -> None:
        """Send End-of-RIB (RFC 4724)."""
        exchange = self._of(source)
        if exchange is not None:
            exchange.send_end_of_rib(family)

    def request_refresh(self, source: Source, family: Family) -> None:
        """Ask the neighbor for all its routes again (RFC 2918)."""
        self._send_refresh(source, family, 0)

    def send_refresh_began(self, source: Source, family: Family) -> None:
        """Say that all routes are sent again from here on (RFC 7313 BoRR); nothing if the neighbor does not know it."""
        self._send_refresh(source, family, 1)

    def send_refresh_ended(self, source: Source, family: Family) -> None:
        """Say that all routes were sent again (RFC 7313 EoRR)."""
        exchange = self._of(source)
        if exchange is not None:
            exchange.refresh_answered(family, asyncio.get_running_loop().time())
            self._neighbors[source.name].set_timer()

    def refresh_wanted(self, source: Source, family: Family) -> None:
        """A neighbor's routes make that it must be told all of a family again: as if it had asked (RFC 2918)."""
        exchange = self._of(source)
        if exchange is not None:
            exchange.refresh_wanted(family, asyncio.get_running_loop().time())
            self._neighbors[source.name].set_timer()

    def has_room(self, source: Source) -> bool:
        """Whether the connection of an established session takes more now; `SpeakerEvents.room_came` when it does."""
        neighbor = self._neighbors.get(source.name)
        return neighbor is not None and neighbor.has_room

    def hold_reading(self, names: Iterable[str]) -> None:
        """Leave unread what just these neighbors send, for less than a hold time: others, or the kernel, are behind."""
        if self._around is not None:
            self._around.held = frozenset(names)
            for neighbor in self._neighbors.values():
                neighbor.read_on()

    def neighbor_views(self) -> list[NeighborView]:
        """All neighbors by name, configured ones also before `run`; the daemon fills the route counts in."""
        views = {name: neighbor.view() for name, neighbor in self._neighbors.items()}
        for config in () if self._stopping else self._config.neighbor:
            if config.name not in views:
                views[config.name] = waiting_view(config, self._config.router, since=self._born)
        return [views[name] for name in sorted(views)]

    def attribute_bytes(self, source: Source) -> Callable[[], int]:
        """Tells what the attributes that an established session has received take in memory, also after its end."""
        exchange = self._of(source)
        return (lambda: 0) if exchange is None else exchange.attribute_bytes

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode = CeaseSubcode.MAXIMUM_PREFIXES) -> None:
        """End a session for too much that it sent (Cease, RFC 4486) and refuse the neighbor for HOLD_OFF_S."""
        neighbor = self._neighbors.get(name)
        if neighbor is not None:
            notification = Notification(ErrorCode.CEASE, subcode)
            reason += f"; refused for {HOLD_OFF_S:.0f} s, or until that is raised"
            neighbor.reset(notification, reason, hold_off_s=HOLD_OFF_S)

    def fail(self, source: Source, error: Exception) -> None:
        """End an established session, for what was done for it alone raised: a defect of bgpd."""
        if self._of(source) is not None:
            self._neighbors[source.name].fail(error)

    async def shutdown(self, communication: str) -> None:
        """End all sessions for good, with a text for the people on the other side (RFC 9003).

        Those with `graceful_restart` end without a NOTIFICATION, so that their neighbors keep our routes (RFC 4724).
        """
        data = encode_communication(communication) if communication else b""
        notification = Notification(ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, data)
        self._listener.close()
        self._vrf_listeners.close()
        wires = self._stop_all(notification, "shut down", graceful=True)
        if wires:
            waits = [asyncio.ensure_future(wire.closed.wait()) for wire in wires]
            _, late = await asyncio.wait(waits, timeout=LINGER_S)
            for wait in late:
                wait.cancel()

    def reconfigure(self, config: SpeakerConfig) -> None:
        """Take a new configuration over; only neighbors whose session it changes are reset."""
        old, self._config = self._config, config
        self.admission.neighbors = _most_neighbors(config)
        if self._around is None:
            return
        router_changed = old.router != config.router
        self._around.router = config.router
        wanted = {neighbor.name: of_neighbor(neighbor) for neighbor in config.neighbor}
        ranges = {listen.prefix: listen for listen in config.listen}
        for name, neighbor in list(self._neighbors.items()):
            peering = neighbor.peering
            if isinstance(peering.config, ListenConfig):
                listen = ranges.get(peering.config.prefix)
                new = None if listen is None else msgspec.structs.replace(peering, config=listen)
            else:
                new = wanted.get(name)
            self._reconfigure_one(name, neighbor, new, router_changed=router_changed)
        self._add_missing()
        self._install_range_keys()

    def kernel_changed(self, event: KernelEvent) -> None:
        """The host changed: fall at once where a link or a local address is lost (fast external fallover), give other
        next hops where those of a session changed, dial where a link or address came."""
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
                    for neighbor in [n for n in self._neighbors.values() if n.lost_address(address.packed)]:
                        neighbor.transport_lost(reason)
                for neighbor in list(self._neighbors.values()):
                    neighbor.addresses_changed(address.interface)
                if not gone and address.usable:
                    self._link_usable(address.interface)

    # Neighbors

    def _of(self, source: Source) -> Exchange | None:
        neighbor = self._neighbors.get(source.name)
        exchange = neighbor.exchange if neighbor is not None else None
        return exchange if exchange is not None and exchange.source is source else None

    def _send_refresh(self, source: Source, family: Family, subtype: int) -> None:
        exchange = self._of(source)
        if exchange is not None:
            exchange.send_refresh(family, subtype)

    def _add(self, peering: Peering) -> Neighbor:
        assert self._around is not None
        refused = self._why_full if peering.dynamic else lambda _: ""
        neighbor = Neighbor(peering, self._around, ended=self._connection_ended, refused=refused)
        self._neighbors[peering.name] = neighbor
        if peering.is_unnumbered:
            self._discover(peering.interface)
        neighbor.start()
        return neighbor

    def _add_missing(self) -> None:
        """Begin with configured neighbors that are not there yet: a reload may come while `run` still opens sockets."""
        for config in () if self._stopping else self._config.neighbor:
            if config.name not in self._neighbors:
                self._add(of_neighbor(config))

    def _reconfigure_one(self, name: str, neighbor: Neighbor, new: Peering | None, *, router_changed: bool) -> None:
        if new is None:
            del self._neighbors[name]
            neighbor.stop(Notification(ErrorCode.CEASE, CeaseSubcode.PEER_DECONFIGURED), "removed from configuration")
        elif router_changed or needs_new_session(neighbor.peering.config, new.config):
            del self._neighbors[name]
            subcode = CeaseSubcode.OTHER_CONFIGURATION_CHANGE
            neighbor.stop(Notification(ErrorCode.CEASE, subcode), "configuration changed")
            if not new.dynamic:
                self._add(new)
        else:
            neighbor.configure(new.config)

    def _connection_ended(self, neighbor: Neighbor) -> None:
        """A dynamic neighbor whose connection ended is forgotten, in the next round of the loop."""
        if neighbor.peering.dynamic:
            asyncio.get_running_loop().call_soon(self._forget, neighbor)

    def _forget(self, neighbor: Neighbor) -> None:
        """One that is refused is kept: it would be a new neighbor, and not refused, when it comes back."""
        name = neighbor.peering.name
        if self._neighbors.get(name) is not neighbor:
            return
        if neighbor.held_off_until:
            asyncio.get_running_loop().call_at(neighbor.held_off_until, self._forget, neighbor)
        elif neighbor.state.progress < State.OPEN_SENT.progress:
            del self._neighbors[name]
            neighbor.stop(None, "gone")

    def _stop_all(self, notification: Notification | None, reason: str, *, graceful: bool = False) -> list[Wire]:
        self._stopping = True
        neighbors, self._neighbors = self._neighbors, {}
        wires: list[Wire] = []
        for neighbor in neighbors.values():
            quiet = graceful and neighbor.peering.config.graceful_restart is not None
            wires += neighbor.stop(None if quiet else notification, reason)
        return wires

    # Incoming connections

    def _accepted(self, wire: Wire, vrf: str = "") -> None:
        """Give a connection to its neighbor in that VRF, or close it; what that raises costs the connection only."""
        try:
            self._admit(wire, vrf)
        except OSError:
            wire.abort()
        except Exception as error:
            log.error("connection.defect", error=repr(error), exc_info=error)
            wire.abort()

    def _admit(self, wire: Wire, vrf: str) -> None:
        peer = wire.peer
        interface = self._host.name_of(peer.scope) if peer.scope else ""
        arrival = self._host.name_of(arrival_index(wire.socket)) or self._host.facing(peer.address, vrf)
        neighbor = None if self._stopping else self._find(peer.address, interface, vrf, arrival=arrival)
        if neighbor is None:
            self._note_stranger(peer.address)
        if neighbor is None or not neighbor.accept(wire):
            wire.abort()

    def _find(self, address: bytes, interface: str, vrf: str, *, arrival: str) -> Neighbor | None:
        """The neighbor that an address belongs to: configured, unnumbered on that interface, known or new dynamic."""
        unnumbered = None
        for neighbor in self._neighbors.values():
            peering = neighbor.peering
            if peering.config.vrf != vrf:
                continue
            if peering.address == address and (not interface or peering.interface == interface):
                return neighbor
            if interface and peering.is_unnumbered and peering.interface == interface:
                unnumbered = neighbor
        if unnumbered is not None:
            unnumbered.address_learned(address)
            return unnumbered
        listen = None if vrf else best_range(self._config.listen, address)
        if listen is None or (listen.password_file and listen.prefix not in self._range_keys):
            return None
        return self._add_dynamic(of_listen(listen, address, interface, arrival=arrival))

    def _add_dynamic(self, peering: Peering) -> Neighbor | None:
        """A new neighbor of a range, if there is a place; who connected long ago and said nothing gives way."""
        assert self._around is not None
        listen, arrival = peering.config, peering.arrival
        assert isinstance(listen, ListenConfig)
        others = [neighbor for neighbor in self._neighbors.values() if neighbor.peering.dynamic]
        now = asyncio.get_running_loop().time()
        why = why_full(listen, arrival, others)
        if not why and not self._connect_rates.take(arrival, now):
            why = f"dynamic neighbors connect too often by {arrival or 'an unknown interface'}"
        if why:
            lines = self._around.lines_for(peering)
            address = format_address(peering.address)
            lines.write(log.warning, "listen.refused", now=now, prefix=listen.prefix, address=address, reason=why)
            return None
        older = gives_way(listen, arrival, others)
        if older is not None:
            del self._neighbors[older.peering.name]
            older.stop(REJECTED, "not established in time: the place was needed for a newer connection")
        return self._add(peering)

    def _why_full(self, neighbor: Neighbor) -> str:
        """Why a dynamic neighbor may not be established: others were, since it had connected."""
        assert isinstance(neighbor.peering.config, ListenConfig)
        others = [one for one in self._neighbors.values() if one.peering.dynamic and one is not neighbor]
        return why_full(neighbor.peering.config, neighbor.peering.arrival, others)

    def _note_stranger(self, address: bytes) -> None:
        if address not in self._strangers and len(self._strangers) < _MAX_REMEMBERED_STRANGERS:
            self._strangers.add(address)
            log.warning("connection.refused", address=format_address(address), reason="no neighbor has this address")

    def _open_listener(self) -> None:
        error = self._listener.error
        if self._listener.open():
            if error:
                log.info("listen.recovered", port=self._listener.port)
        elif self._listener.error != error:
            log.error("listen.failed", error=self._listener.error)
        for neighbor in self._neighbors.values():
            neighbor.refresh_password()
        self._install_range_keys()

    def _listen_in_vrfs(self) -> None:
        """Listen in each VRF that has neighbors and a device."""
        wanted = {neighbor.peering.config.vrf for neighbor in self._neighbors.values()} - {""}
        fresh = self._vrf_listeners.follow(set(filter(None, map(self._host.vrf_device, wanted))))
        for neighbor in [one for one in self._neighbors.values() if one.peering.config.vrf in fresh]:
            neighbor.refresh_password()

    def _install_range_keys(self) -> None:
        """Passwords of the listen ranges; a range whose password cannot be read accepts nobody."""
        for listen in self._config.listen:
            if not listen.password_file:
                continue
            try:
                key = read_password(listen.password_file)
                network = ipaddress.ip_network(listen.prefix)
                self._listener.set_md5_key(network.network_address.packed, network.prefixlen, key)
                self._range_keys.add(listen.prefix)
                self._range_errors.pop(listen.prefix, None)
            except (OSError, ValueError) as error:
                self._range_keys.discard(listen.prefix)
                if self._range_errors.get(listen.prefix) != str(error):
                    self._range_errors[listen.prefix] = str(error)
                    log.error("listen.no_password", prefix=listen.prefix, error=str(error))

    # Links

    def _link_lost(self, interface: str, what: str) -> None:
        for neighbor in [n for n in self._neighbors.values() if n.uses(interface)]:
            neighbor.transport_lost(f"link {interface} {what}")

    def _link_usable(self, interface: str) -> None:
        for neighbor in list(self._neighbors.values()):
            if neighbor.peering.is_unnumbered and neighbor.peering.interface == interface:
                self._discover(interface)
            if neighbor.peering.address and neighbor.uses(interface):
                neighbor.connect_now()

    def _discover(self, interface: str) -> None:
        """Tell the leaf our link-local address, and ask for its."""
        link = self._host.named(interface)
        self._hear()
        if link is not None and link.up and self._discovery.open():
            self._discovery.solicit(link.index, link.mac)
            self._advertise(link.index)

    def _hear(self) -> None:
        """Hear Router Advertisements only where unnumbered neighbors are."""
        names = {n.peering.interface for n in self._neighbors.values() if n.peering.is_unnumbered}
        self._discovery.hear(frozenset(filter(None, map(self._host.index_of, names))))

    def _advertise(self, index: int) -> None:
        link = self._host.links.get(index)
        if link is None:
            return
        if any(n.peering.is_unnumbered and n.peering.interface == link.name for n in self._neighbors.values()):
            self._discovery.advertise(index, link.mac)

    def _router_heard(self, index: int, address: bytes) -> None:
        interface = self._host.name_of(index)
        if self._host.bears(interface, address) or not is_link_local(address):
            return
        for neighbor in list(self._neighbors.values()):
            if neighbor.peering.is_unnumbered and neighbor.peering.interface == interface:
                neighbor.address_learned(address)

    async def _maintain(self) -> None:
        """Advertise to unnumbered neighbors, and retry what could not be opened."""
        rounds = 0
        while True:
            await asyncio.sleep(ROUND_S)
            rounds += 1
            self._hear()
            for neighbor in [n for n in self._neighbors.values() if n.peering.is_unnumbered]:
                if neighbor.state is not State.ESTABLISHED or rounds % _ROUNDS_WHILE_UP == 0:
                    self._discover(neighbor.peering.interface)
            if not self._stopping and rounds % _ROUNDS_PER_RETRY == 0:
                self._retry()

    def _retry(self) -> None:
        """Try again to listen, and to read passwords that nobody else asks for: those of who is only listened to."""
        if self._listener.error:
            self._open_listener()
        self._listen_in_vrfs()
        for neighbor in self._neighbors.values():
            if neighbor.lacks_password:
                neighbor.refresh_password()
        if any(listen.password_file and listen.prefix not in self._range_keys for listen in self._config.listen):
            self._install_range_keys()


def _most_neighbors(config: SpeakerConfig) -> int:
    """How many there may be at once."""
    return len(config.neighbor) + sum(listen.max_neighbors for listen in config.listen)
