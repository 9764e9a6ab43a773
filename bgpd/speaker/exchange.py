"""The routes of one established session: UPDATEs into batches for the RIB, batches into UPDATEs, route refresh.

Lives exactly as long as the session is established, and has its own Source. A run of received UPDATEs is one call of
the RIB, and those of it that are alike are one batch. Nothing is put in another order, and nothing waits for an UPDATE
that has not been received. Never ends the session itself, but says which NOTIFICATION an UPDATE calls for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from bgpd.kernel.host import Host, OwnAddresses
from bgpd.message.exabgp_codec import Notification, RouteRefresh, encode_route_refresh
from bgpd.message.judgement import DecodedUpdate
from bgpd.message.open import Negotiated
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.message.update_encoder import UpdateEncoder
from bgpd.model.attributes import Attributes
from bgpd.model.iana import FAMILY_BY_CODE, Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.model.wire import NlriDecoders, WireError
from bgpd.runtime.events import log
from bgpd.speaker.next_hop_self import NextHopSelf
from bgpd.speaker.ports import RouteTaker, SpeakerEvents
from bgpd.speaker.refresh import RefreshRequests
from bgpd.speaker.saved import SavedExchange
from bgpd.speaker.tap import SessionTap

_MAX_REMEMBERED_ERRORS = 32
_LOGGED_CHARACTERS = 2000
MANY = 64
"""Batches of unusual UPDATEs that are passed on at once: each may be a route with a gateway or a segment of its own."""
MOST_ROUTES = 1024
"""Routes that are passed on at once: an UPDATE of 64 KiB has 13,000, and each may have a path of its own so far."""


def add(batch: RouteBatch, batches: list[RouteBatch]) -> None:
    """Append a batch, or join it to the last one: where both withdraw, or announce alike, and do nothing else."""
    if not batches or not _are_alike(batches[-1], batch):
        batches.append(batch)
        return
    last = batches[-1]
    if batch.attributes is None:
        batches[-1] = RouteBatch(batch.family, [*last.withdrawn, *batch.withdrawn])
        return
    keys = [*last.announced, *batch.announced]
    labels = None if last.labels is None or batch.labels is None else [*last.labels, *batch.labels]
    batches[-1] = RouteBatch(batch.family, (), keys, batch.attributes, batch.next_hop, batch.overlay, labels)


def _are_alike(first: RouteBatch, second: RouteBatch) -> bool:
    return (
        first.attributes is second.attributes
        and first.family is second.family
        and first.next_hop == second.next_hop
        and first.overlay == second.overlay
        and (first.labels is None) is (second.labels is None)
        and not (first.withdrawn and first.announced)
        and not (second.withdrawn and second.announced)
    )


def _number_of_routes(batches: Sequence[RouteBatch]) -> int:
    return sum([len(batch.announced) + len(batch.withdrawn) for batch in batches])


def _pieces(batch: RouteBatch) -> list[RouteBatch]:
    """A batch of very many routes as several of MOST_ROUTES at most, in the order in which they count."""
    family, withdrawn, announced, labels = batch.family, batch.withdrawn, batch.announced, batch.labels
    if len(withdrawn) + len(announced) <= MOST_ROUTES:
        return [batch]
    gone = [RouteBatch(family, withdrawn[at : at + MOST_ROUTES]) for at in range(0, len(withdrawn), MOST_ROUTES)]
    return gone + [
        msgspec.structs.replace(
            batch,
            withdrawn=(),
            announced=announced[at : at + MOST_ROUTES],
            labels=None if labels is None else labels[at : at + MOST_ROUTES],
        )
        for at in range(0, len(announced), MOST_ROUTES)
    ]


class RefusedUpdate(Exception):
    """An UPDATE that ends the session (RFC 7606 "session reset"): the NOTIFICATION for it, and why."""

    def __init__(self, notification: Notification, reason: str) -> None:
        super().__init__(reason)
        self.notification = notification
        self.reason = reason


class UnreadableUpdate(Exception):
    """An UPDATE that the decoder could not cope with, which is its defect: `error` is what it raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(repr(error))
        self.error = error


class Exchange:
    """Routes to and from one established session. `local` is its own packed address; `write` takes whole messages;
    `tap` hears each UPDATE, either way."""

    def __init__(
        self,
        source: Source,
        negotiated: Negotiated,
        *,
        local: bytes,
        host: Host,
        vrf: str = "",
        nlri_decoders: NlriDecoders,
        routes: RouteTaker,
        events: SpeakerEvents,
        write: Callable[[bytes], None],
        accept_martians: bool = False,
        accept_as_sets: bool = False,
        takes_any_next_hop: bool = False,
        tap: SessionTap | None = None,
    ) -> None:
        self.source = source
        self.negotiated = negotiated
        self.local = local
        self.messages_sent = 0
        self.bare_updates = 0
        """UPDATEs that brought no routes: malformed ones, and such as End-of-RIB."""
        self.end_of_rib: list[Family] = []
        self._self = NextHopSelf(host, local=local, interface=source.interface, vrf=vrf)
        self._nlri_decoders = nlri_decoders
        self._decoder = UpdateDecoder(
            negotiated,
            nlri_decoders=nlri_decoders,
            interface=source.interface,
            local_addresses=OwnAddresses(host, interface=source.interface, vrf=vrf),
            accept_martians=accept_martians,
            accept_as_sets=accept_as_sets,
            takes_any_next_hop=takes_any_next_hop,
        )
        self._encoder = self._new_encoder()
        self._events = events
        self._routes = routes
        self._gathered: list[RouteBatch] = []
        self._write = write
        self._tap = tap
        self._remembered: set[str] = set()
        self._requests = RefreshRequests()
        self._backlog: deque[RouteBatch] = deque()
        self._note_missing(())

    @property
    def martians(self) -> int:
        """Prefixes that were ignored as martians."""
        return self._decoder.martians

    @property
    def awaited(self) -> list[Family]:
        """The families that the neighbor has not sent End-of-RIB of."""
        return [family for family in self.negotiated.families if family not in self.end_of_rib]

    @property
    def saved(self) -> SavedExchange:
        """What `resume` takes; nothing may be left to be passed on (`is_behind`)."""
        return SavedExchange(
            messages_sent=self.messages_sent,
            martians=self.martians,
            end_of_rib=list(self.end_of_rib),
            own=self._self.chosen,
            requests=self._requests.saved,
        )

    def resume(self, saved: SavedExchange) -> None:
        """Go on as another process has left it."""
        self.messages_sent = saved.messages_sent
        self.end_of_rib = list(saved.end_of_rib)
        self._decoder.martians = saved.martians
        self._requests.restore(saved.requests)
        self._self.resume(saved.own)
        self._encoder = self._new_encoder()

    def given_otherwise(self, saved: SavedExchange) -> list[Family]:
        """The families whose routes must be sent again: the addresses of this host have changed meanwhile."""
        before = UpdateEncoder(
            self.negotiated,
            local_ipv4=saved.own.ipv4,
            local_ipv6=saved.own.ipv6,
            local_link_local=saved.own.link_local,
            nlri_decoders=self._nlri_decoders,
        )
        families = self.negotiated.families
        return [one for one in families if before.next_hop_self(one) != self._encoder.next_hop_self(one)]

    def take(self, bodies: list[bytes]) -> None:
        """Take UPDATEs from the front of `bodies`, one at least: all that are usual, and the first one that is not.

        Their routes are passed on by `updates_done`, or earlier; very many of them by `catch_up`, and then nothing else
        is to be taken before (`is_behind`). An UPDATE for which this raises is taken, too.

        Raises: RefusedUpdate: the session must be reset. UnreadableUpdate: so it must, by a defect of ours.
        """
        decoded = None
        found: list[RouteBatch] = []
        try:
            taken = self._decoder.read_run(bodies, found)
            is_much = _number_of_routes(found) > MOST_ROUTES
            if taken < len(bodies) and not is_much:
                decoded = self._decoder.decode(bodies[taken])
        except Exception as defect:
            if len(bodies) > 1:
                self._take_first(bodies)
                return
            bodies.clear()
            self.updates_done()
            raise UnreadableUpdate(defect) from defect
        count = taken + (decoded is not None)
        read = bodies[:count]
        del bodies[:count]
        self._events.updates_read(self.source, read, found if decoded is None else [*found, *decoded.batches])
        if self._tap is not None:
            self._tap.updates(self.source, read)
        if is_much:
            self._wait(found)
        else:
            self._gathered += found
        if decoded is not None:
            self._take(decoded)

    def _wait(self, batches: Sequence[RouteBatch]) -> None:
        """Have these, which are many, passed on by `catch_up`, after all that came before."""
        self.updates_done()
        for batch in batches:
            self._backlog.extend(_pieces(batch))

    def _take_first(self, bodies: list[bytes]) -> None:
        """One of them is a defect of ours: it is found when it is the first."""
        first = [bodies.pop(0)]
        self.take(first)

    def _take(self, decoded: DecodedUpdate) -> None:
        """Take an UPDATE of any kind, with what is wrong with it."""
        for error in decoded.errors:
            self._note(error)
        self.bare_updates += not any(batch.announced or not decoded.errors for batch in decoded.batches)
        if decoded.notification is not None:
            self.updates_done()
            why = decoded.errors[0].message if decoded.errors else "cannot be read"
            raise RefusedUpdate(Notification(*decoded.notification), f"malformed UPDATE: {why}")
        if len(decoded.batches) > MANY or _number_of_routes(decoded.batches) > MOST_ROUTES:
            self._wait(decoded.batches)
        else:
            for batch in decoded.batches:
                add(batch, self._gathered)
            if len(self._gathered) >= MANY or _number_of_routes(self._gathered) > MOST_ROUTES:
                self.updates_done()
        if decoded.end_of_rib is not None:
            self.updates_done()
            if decoded.end_of_rib not in self.end_of_rib:
                self.end_of_rib.append(decoded.end_of_rib)
            self._events.end_of_rib_received(self.source, decoded.end_of_rib)

    @property
    def is_behind(self) -> bool:
        """Whether batches of UPDATEs with much are not passed on yet: `catch_up`, before anything else."""
        return bool(self._backlog)

    def catch_up(self) -> None:
        """Pass on some more of the batches of the last UPDATEs."""
        some: list[RouteBatch] = []
        left = MOST_ROUTES
        while self._backlog and len(some) < MANY:
            left -= _number_of_routes((self._backlog[0],))
            if some and left < 0:
                break
            some.append(self._backlog.popleft())
        self._gathered += some
        self.updates_done()

    def updates_done(self) -> None:
        """Pass on what was taken: there is no further UPDATE now."""
        if self._gathered:
            batches, self._gathered = self._gathered, []
            self._routes.routes_received(self.source, batches)

    def must_wait(self, refresh: RouteRefresh) -> bool:
        """Whether nothing more can be taken before all is known that was announced: what follows is told apart from it
        (RFC 7313)."""
        return refresh.subtype != 0 and not self._routes.is_complete

    def refresh_received(self, refresh: RouteRefresh, now: float) -> None:
        """Pass on a ROUTE-REFRESH; one for a family that was not negotiated is ignored (RFC 2918 section 4)."""
        family = FAMILY_BY_CODE.get((refresh.afi, refresh.safi))
        if family is None or family not in self.negotiated.families:
            return
        match refresh.subtype:
            case 0:
                self.refresh_wanted(family, now)
            case 1 if self._is_early(family):
                if self._is_new(f"{family} refreshed before End-of-RIB"):
                    log.warning("session.refresh_ignored", neighbor=self.source.name, family=str(family))
            case 1:
                self._routes.refresh_began(self.source, family)
            case 2:
                self._events.refresh_ended(self.source, family)

    def _is_early(self, family: Family) -> bool:
        """Whether a neighbor with graceful restart has not sent all routes of a family yet: nothing that it has not
        said may count as gone (RFC 7313 section 4)."""
        return self.negotiated.graceful_restart is not None and family not in self.end_of_rib

    def refresh_wanted(self, family: Family, now: float) -> None:
        """The neighbor requests all routes of a family again, by any message; send them now, or when it is due."""
        if self._requests.requested(family, now):
            self._routes.refresh_requested(self.source, family)

    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        return self._requests.deadline()

    def tick(self, now: float) -> None:
        """Answer what had to wait."""
        for family in self._requests.due(now):
            self._routes.refresh_requested(self.source, family)

    @property
    def has_local(self) -> bool:
        """Whether the host still has the session's own address."""
        return self._self.has_local

    @property
    def without_next_hop(self) -> tuple[Family, ...]:
        """Families whose routes cannot be announced now, since this host has no address to give as their next hop."""
        return self._encoder.without_next_hop

    def addresses_changed(self, interface: str) -> None:
        """An interface has other addresses: routes of families with another next hop are announced again with it, and
        withdrawn if there is none any more. Routes that had an address of this host as their next hop are asked for
        again once it is another host's."""
        for family in self._decoder.next_hops_no_longer_own():
            self.ask_again(family)
        if not self._self.follow(interface):
            return
        former, self._encoder = self._encoder, self._new_encoder()
        self._note_missing(former.without_next_hop)
        for family in self.negotiated.families:
            if former.next_hop_self(family) != self._encoder.next_hop_self(family):
                self._routes.refresh_requested(self.source, family)

    def send(self, batch: RouteBatch) -> None:
        """Send routes."""
        self._send_updates(self.encode(batch))

    def encode(self, batch: RouteBatch) -> list[bytes]:
        """The messages for routes. Those that the encoder cannot cope with are withdrawn: they may be another
        neighbor's words."""
        try:
            return self._encoder.encode(batch)
        except Exception as error:
            if not batch.announced or isinstance(error, MemoryError):
                raise
            self._note_unencodable(batch, error)
            withdrawn = [*batch.withdrawn, *batch.announced]
            return self._encoder.encode(RouteBatch(family=batch.family, withdrawn=withdrawn))

    def as_sent(self, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        """The attributes and the next hop field that routes are sent with; None if they cannot be sent."""
        return self._encoder.as_sent(batch)

    def send_end_of_rib(self, family: Family) -> None:
        """Send End-of-RIB (RFC 4724 section 2)."""
        self._send_updates([self._encoder.end_of_rib(family)])

    def refresh_answered(self, family: Family, now: float) -> None:
        """All routes of a family were sent again: say so if it was said that they are (RFC 7313 EoRR)."""
        if self._requests.answered(family, now):
            self.send_refresh(family, 2)

    def send_refresh(self, family: Family, subtype: int) -> None:
        """Send a marker around our own answer (RFC 7313: 1 BoRR, 2 EoRR), if the neighbor knows them.

        Its own routes are asked for by `ask_again`, never because of a policy: those that one rejects are kept.
        """
        if subtype == 1:
            self._requests.marked.add(family)
        if self.negotiated.enhanced_route_refresh and family in self.negotiated.families:
            self._send(encode_route_refresh(family.afi, family.safi, subtype))

    def ask_again(self, family: Family) -> bool:
        """Ask the neighbor to send its routes of a family again (RFC 2918); whether it knows what that means."""
        can = self.negotiated.route_refresh and family in self.negotiated.families
        if can:
            self._send(encode_route_refresh(family.afi, family.safi))
        return can

    def _new_encoder(self) -> UpdateEncoder:
        chosen = self._self.chosen
        return UpdateEncoder(
            self.negotiated,
            local_ipv4=chosen.ipv4,
            local_ipv6=chosen.ipv6,
            local_link_local=chosen.link_local,
            nlri_decoders=self._nlri_decoders,
        )

    def _note_missing(self, before: tuple[Family, ...]) -> None:
        """Say which families have no next hop, when they are others than before."""
        missing = self._encoder.without_next_hop
        if missing != before and missing:
            source = self.source
            families = [str(family) for family in missing]
            log.warning("session.no_next_hop", neighbor=source.name, families=families, interface=source.interface)

    def _send_updates(self, messages: list[bytes]) -> None:
        if messages:
            self.messages_sent += len(messages)
            self._write(b"".join(messages))
        if self._tap is not None:
            self._tap.updates_sent(self.source, messages)

    def _send(self, message: bytes) -> None:
        self.messages_sent += 1
        self._write(message)

    def _note_unencodable(self, batch: RouteBatch, error: Exception) -> None:
        if self._is_new(f"not encodable: {error!r}"):
            log.error(
                "session.routes_not_sent",
                neighbor=self.source.name,
                family=str(batch.family),
                count=len(batch.announced),
                error=repr(error),
                attributes=repr(batch.attributes.fields if batch.attributes is not None else None)[:_LOGGED_CHARACTERS],
            )

    def _note(self, error: WireError) -> None:
        """Log each error once per session; our own routes coming back at debug level."""
        text = f"{error.attribute}: {error.message}" if error.attribute else error.message
        if not self._is_new(text):
            return
        if error.is_echo:
            log.debug("update.own_route_returned", neighbor=self.source.name, reason=text)
        else:
            log.warning("update.malformed", neighbor=self.source.name, error=text, reaction=str(error.reaction))

    def _is_new(self, text: str) -> bool:
        """Whether something was not logged in this session yet, as far as that is remembered."""
        if text in self._remembered or len(self._remembered) >= _MAX_REMEMBERED_ERRORS:
            return False
        self._remembered.add(text)
        return True
