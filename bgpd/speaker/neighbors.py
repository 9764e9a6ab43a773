"""The neighbors that there are now, configured and dynamic ones: which come, which stay over a reload, which end.

The RIB reaches their sessions here. Decides nothing about a session (session.py), nor whose a connection is
(incoming.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from bgpd.config.effects import resets_session
from bgpd.config.patterns import is_pattern
from bgpd.config.schema import SpeakerConfig
from bgpd.config.schema_sessions import ListenConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import listen_of
from bgpd.message.exabgp_codec import Notification
from bgpd.model.attributes import Attributes
from bgpd.model.iana import CeaseSubcode, ErrorCode, Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.speaker.connection import State
from bgpd.speaker.exchange import Exchange
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.peering import Peering, has_own_section, of_guest, of_neighbor
from bgpd.speaker.places import why_full
from bgpd.speaker.saved import SavedWait
from bgpd.speaker.surroundings import Surroundings
from bgpd.speaker.transport import Wire

LOOK_AGAIN_S = 1.0
"""How often it is looked whether the routes of a dynamic neighbor that restarts are still kept."""
_CHANGED = CeaseSubcode.OTHER_CONFIGURATION_CHANGE
HOLD_OFF_S = 60.0
"""How long a neighbor that was reset for cause is refused, unless its configuration says otherwise."""


class Neighbors:
    """The neighbors by name, in the order of their coming. After `stop` there are none, and none come.

    `waits`: by name, what another process has left of those that had no session there, until they are added.
    """

    def __init__(self, around: Surroundings) -> None:
        self.stopped = False
        self.waits: dict[str, SavedWait] = {}
        self._around = around
        self._neighbors: dict[str, Neighbor] = {}

    def __iter__(self) -> Iterator[Neighbor]:
        """Over those of now: they may come and go meanwhile."""
        return iter(list(self._neighbors.values()))

    def named(self, name: str) -> Neighbor | None:
        """The neighbor of a name."""
        return self._neighbors.get(name)

    def of(self, source: Source) -> Neighbor | None:
        """The neighbor of an established session; None if that session has ended."""
        neighbor = self._neighbors.get(source.name)
        exchange = neighbor.exchange if neighbor is not None else None
        return neighbor if exchange is not None and exchange.source is source else None

    def _exchange_of(self, source: Source) -> Exchange | None:
        """The routes of an established session; None if it has ended."""
        neighbor = self._neighbors.get(source.name)
        exchange = neighbor.exchange if neighbor is not None else None
        return exchange if exchange is not None and exchange.source is source else None

    def add(self, peering: Peering) -> Neighbor:
        """Begin with one more; its attempts begin with `Neighbor.start`."""
        neighbor = self._neighbors[peering.name] = Neighbor(peering, self._around, self)
        wait = self.waits.pop(peering.name, None)
        if wait is not None:
            neighbor.resume(wait)
        return neighbor

    def forget_waits(self, now: float) -> None:
        """To be called once the configured neighbors are there. What another process has left of a dynamic one, which
        did not come back, counts as long as it would be refused."""
        self.waits = {name: wait for name, wait in self.waits.items() if wait.retries.refused_until > now}

    def forget(self, neighbor: Neighbor) -> None:
        """One that was added could not begin."""
        del self._neighbors[neighbor.peering.name]

    def end(self, neighbor: Neighbor, notification: Notification | None, reason: str) -> None:
        """End one for good: nothing of it is kept."""
        del self._neighbors[neighbor.peering.name]
        neighbor.stop(notification, reason)
        self._around.events.forwarding_lost(neighbor.peering.name, reason)

    def stop(self, notification: Notification | None, reason: str, *, gracefully: bool = False) -> list[Wire]:
        """End all for good; the connections that are closing. `gracefully`: those with graceful restart see only
        the connection end, so that they keep our routes (RFC 4724)."""
        self.stopped = True
        neighbors, self._neighbors = self._neighbors, {}
        wires: list[Wire] = []
        for neighbor in neighbors.values():
            quiet = gracefully and neighbor.restarts_gracefully
            wires += neighbor.stop(None if quiet else notification, reason)
        return wires

    # What the RIB says to an established session (rib/ports.py); no effect if that has ended

    def send(self, source: Source, batch: RouteBatch) -> None:
        """Send routes."""
        exchange = self._exchange_of(source)
        if exchange is not None:
            exchange.send(batch)

    def as_sent(self, source: Source, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        """The attributes and the next hop field that routes are sent with; None if they are not sent."""
        exchange = self._exchange_of(source)
        return exchange.as_sent(batch) if exchange is not None else None

    def send_end_of_rib(self, source: Source, family: Family) -> None:
        """Send End-of-RIB (RFC 4724)."""
        exchange = self._exchange_of(source)
        if exchange is not None:
            exchange.send_end_of_rib(family)

    def ask_again(self, source: Source, family: Family) -> bool:
        exchange = self._exchange_of(source)
        return exchange is not None and exchange.ask_again(family)

    def send_refresh_began(self, source: Source, family: Family) -> None:
        """Say that all routes are sent again from here on (RFC 7313 BoRR); nothing if the neighbor does not know it."""
        exchange = self._exchange_of(source)
        if exchange is not None:
            exchange.send_refresh(family, 1)

    def send_refresh_ended(self, source: Source, family: Family) -> None:
        """Say that all routes were sent again (RFC 7313 EoRR)."""
        neighbor = self.of(source)
        if neighbor is not None and neighbor.exchange is not None:
            neighbor.exchange.refresh_answered(family, asyncio.get_running_loop().time())
            neighbor.set_timer()

    def refresh_wanted(self, source: Source, family: Family) -> None:
        """A neighbor's routes make that it must be sent all of a family again: as if it had asked (RFC 2918)."""
        neighbor = self.of(source)
        if neighbor is not None and neighbor.exchange is not None:
            neighbor.exchange.refresh_wanted(family, asyncio.get_running_loop().time())
            neighbor.set_timer()

    def has_room(self, source: Source) -> bool:
        """Whether the connection of an established session takes more now; `RouteTaker.room_came` when it does."""
        neighbor = self._neighbors.get(source.name)
        return neighbor is not None and neighbor.has_room

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode) -> None:
        """End the session of a neighbor for too much that it sent (Cease, RFC 4486), and refuse it for a time."""
        neighbor = self.named(name)
        if neighbor is not None:
            hold_off_s = HOLD_OFF_S
            if subcode is CeaseSubcode.MAXIMUM_PREFIXES:
                hold_off_s = neighbor.peering.config.max_prefixes_restart_after_s
            reason += f"; refused for {hold_off_s:.0f} s, or until that is raised"
            neighbor.reset(Notification(ErrorCode.CEASE, subcode), reason, hold_off_s=hold_off_s)

    def fail(self, source: Source, error: Exception) -> None:
        """End a session, for what was done for it alone raised: a defect of bgpd."""
        neighbor = self.of(source)
        if neighbor is not None:
            neighbor.fail(error)

    # A reload

    def reconfigure(self, config: SpeakerConfig) -> list[Peering]:
        """Take over a configuration: neighbors end that it lacks, or whose session it changes.

        Answers which have to be added: new ones, and those whose session begins anew.
        """
        reset_all = resets_session("router", self._around.router, config.router)
        self._around.router = config.router
        wanted = {} if self.stopped else {peering.name: peering for peering in _known_before(config)}
        ranges = {_key_of(listen): listen for listen in config.listen}
        for neighbor in self:
            peering = neighbor.peering
            if peering.dynamic and isinstance(peering.config, ListenConfig):
                listen = ranges.get(_key_of(peering.config))
                if listen is not None and not peering.guest and _is_of_another(peering, listen, config):
                    self.end(neighbor, Notification(ErrorCode.CEASE, _CHANGED), "another section is about it now")
                    continue
                new = None if listen is None else msgspec.structs.replace(peering, config=listen)
            else:
                new = wanted.get(peering.name)
            self._reconfigure_one(neighbor, new, reset=reset_all)
        return [peering for name, peering in wanted.items() if name not in self._neighbors]

    def _reconfigure_one(self, neighbor: Neighbor, new: Peering | None, *, reset: bool) -> None:
        if new is None:
            subcode, reason = CeaseSubcode.PEER_DECONFIGURED, "removed from configuration"
        elif reset or resets_session(new.section, neighbor.peering.config, new.config):
            subcode, reason = _CHANGED, "configuration changed"
        else:
            neighbor.configure(new.config)
            return
        self.end(neighbor, Notification(ErrorCode.CEASE, subcode), reason)

    # What a neighbor asks and reports (NeighborOwner)

    def why_refused(self, neighbor: Neighbor) -> str:
        """Why a dynamic neighbor may not be established: others took its place since it had connected."""
        peering = neighbor.peering
        if not peering.dynamic or not isinstance(peering.config, ListenConfig):
            return ""
        placed = [one for one in self.dynamic() if one is not neighbor and one.takes_place]
        return why_full(peering.config, peering.arrival, placed)

    def dynamic(self) -> list[Neighbor]:
        """Those that came from a range, the oldest first."""
        return [neighbor for neighbor in self._neighbors.values() if neighbor.peering.dynamic]

    def connection_ended(self, neighbor: Neighbor) -> None:
        """A dynamic neighbor whose connection ended is forgotten, in the next round of the loop."""
        if neighbor.peering.dynamic:
            asyncio.get_running_loop().call_soon(self._forget, neighbor)

    def _forget(self, neighbor: Neighbor) -> None:
        """One that is refused is kept: it would be a new neighbor, and not refused, when it comes back. So is one that
        restarts while its routes are kept."""
        if self._neighbors.get(neighbor.peering.name) is not neighbor:
            return
        if neighbor.held_off_until:
            asyncio.get_running_loop().call_at(neighbor.held_off_until, self._forget, neighbor)
        elif neighbor.exchange is None and self._around.events.keeps_routes(neighbor.peering.name):
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._forget, neighbor)
        elif neighbor.state.progress < State.OPEN_SENT.progress:
            self.end(neighbor, None, "gone")


def _is_of_another(peering: Peering, listen: ListenConfig, config: SpeakerConfig) -> bool:
    """Whether a dynamic neighbor of a range that is still there is a [[neighbor]] now, or of a more specific range."""
    if has_own_section(config.neighbor, peering.address, peering.interface):
        return True
    found = listen_of(config.listen, peering.address)
    return found is not None and found.prefix != listen.prefix


def _known_before(config: SpeakerConfig) -> Iterator[Peering]:
    """Whom the configuration names with an address or an interface."""
    yield from (of_neighbor(neighbor) for neighbor in config.neighbor if not is_pattern(neighbor))
    for listen in config.listen:
        if isinstance(listen, GuestConfig) and listen.is_single:
            yield of_guest(listen)


def _key_of(listen: ListenConfig) -> tuple[str, str]:
    """What tells ranges apart over a reload; a guest that is alone and a range of guests are two."""
    if isinstance(listen, GuestConfig):
        return listen.name, "alone" if listen.is_single else "guests"
    return listen.prefix, ""
