"""One neighbor of a modelled router: sessions, collisions, graceful restart as a helper, and what is due to be sent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from bgpd.simulation.conversation import Conversation
from bgpd.simulation.network import BGP_PORT, End, Port
from bgpd.simulation.wire import (
    BFD_DOWN,
    CEASE,
    LLGR_STALE,
    NO_LLGR,
    ROUTE_REFRESH,
    UPDATE,
    V4,
    V6,
    Codes,
    Restart,
    Route,
    codes_of,
    end_of_rib,
    ends_of_rib,
    nlri,
    open_message,
    read_update,
    withdrawal,
)

if TYPE_CHECKING:
    from bgpd.simulation.router import Router

Filter = Callable[[str, Route], Route | None]
"""A prefix and its route, as it becomes; None: it is refused."""
_EXTENDED_NEXT_HOP = bytes((5, 6)) + struct.pack("!HHH", 1, 1, 2)
"""IPv4 by IPv6 next hops (RFC 8950)."""
_MARKED_REFRESH = bytes((70, 0))
"""RFC 7313."""
_MOST_PREFIXES = 200
_BEGINS, _ENDS = 1, 2
"""Subtypes of a route refresh (RFC 7313 section 3)."""


class LocalAs(msgspec.Struct, frozen=True):
    """The AS that a router says it is to a neighbor (local-as). Where that is not its own: `is_added` to paths that
    come in; `is_alone`: the own one is not in paths that go out."""

    asn: int
    is_added: bool = True
    is_alone: bool = False


class Peer:
    """One neighbor of a router: its session, what it announces (`routes`), and what it was sent (`sent`). `ended`: how
    often a session with it has, `ended_at`: when the last one has. `sends_only_own`: it is told what the router itself
    announces, and nothing else. `more`: families beside those of the link; `offered` are all, and `families` those of
    the session. `hold_s`: the hold time that it is offered. `takes` and `tells`: what becomes of a route that comes
    in, or goes out; None: nothing. `is_internal`: of the same AS; then a `is_client` is told what others of the AS
    have said, and they what it says (RFC 4456)."""

    def __init__(
        self,
        router: Router,
        port: Port,
        *,
        name: str,
        asn: int,
        dials: bool,
        sends_only_own: bool = False,
        more: tuple[Codes, ...] = (),
        local_as: LocalAs | None = None,
    ) -> None:
        self.local_as = local_as or LocalAs(router.asn)
        self.router = router
        self.port = port
        self.name = name
        self.asn = asn
        self.dials = dials
        self.sends_only_own = sends_only_own
        self.hold_s = router.style.hold_s
        self.routes: dict[str, Route] = {}
        self.stale: set[str] = set()
        self.session: Conversation | None = None
        self.sent: dict[str, Route] = {}
        self.ended = 0
        self.ended_at = 0.0
        self.is_awaited = False
        of_link = (V4, V6) if len(port.address) == 16 or port.address6 else (V4,)
        self.offered: tuple[Codes, ...] = (*of_link, *more)
        self.families = self.offered
        self.is_internal = asn == self.local_as.asn
        self.is_client = False
        self.is_shut = False
        """There is to be no session."""
        self.own_as = 0
        """How often the router's AS may be in its paths."""
        self.takes: Filter | None = None
        self.tells: Filter | None = None
        self.next_hops: frozenset[bytes] = frozenset()
        """What it may name as next hop, as IPv6 also as the second of two; none: this is not looked at, ..."""
        self.strange_next_hops: set[bytes] = set()
        """... and what else it has named."""
        self._ended_families: set[Codes] = set()
        self._conversations: list[Conversation] = []
        self._due: dict[str, None] = {}
        self._is_flush_planned = False
        self._not_before = 0.0
        self._stale_timer: asyncio.TimerHandle | None = None
        self._staying: dict[Codes, int] = {}
        """For how long each family stays as long-lived stale, once the Restart Time is over."""
        self._is_long_lived = False
        self._refreshed: dict[Codes, set[str]] = {}
        """What of each family has not been said again in a refresh."""
        self._dialing: asyncio.Task[None] | None = None

    def offer(self, families: tuple[Codes, ...]) -> None:
        """Have just these families."""
        self.offered = self.families = families

    @property
    def announced_as(self) -> tuple[int, ...]:
        """What is put before paths that go out to another AS."""
        asn, said = self.router.asn, self.local_as
        return (said.asn,) if said.is_alone or said.asn == asn else (said.asn, asn)

    # Its session

    def open_message(self) -> bytes:
        """The body of its OPEN, by what the router can."""
        router = self.router
        restart = Restart(
            restarted=router.is_restarting,
            notification=router.style.by_notification,
            time_s=router.style.restart_time_s if router.style.restarts else 0,
            forwarding=router.style.restarts and router.forwards_on,
            families=self.offered if router.style.restarts else (),
            long_lived_s=router.style.long_lived_s,
        )
        is_offered = router.style.helps or router.style.restarts
        return open_message(
            self.local_as.asn,
            hold_time_s=self.hold_s,
            families=self.offered,
            restart=restart if is_offered else None,
            router_id=tuple(router.router_id),
            more=(_EXTENDED_NEXT_HOP if len(self.port.address) == 16 else b"")
            + (_MARKED_REFRESH if router.style.marks_refresh else b""),
        )

    async def keep_dialing(self) -> None:
        """Connect whenever there is no connection, until cancelled."""
        router = self.router
        while True:
            await asyncio.sleep(router.style.retry_s * router.chance.uniform(0.75, 1.0))
            if self._conversations or self.is_shut or not self.port.is_up or self.port.other is None:
                continue
            try:
                async with asyncio.timeout(router.style.retry_s):
                    end = await self.port.stack.dial(self.port.other.address, BGP_PORT, None, self.port.index)
            except (OSError, TimeoutError):
                continue
            if router.is_running:
                self.begin(end, is_ours=True)
            else:
                end.close(is_reset=True)

    def begin(self, end: End, *, is_ours: bool) -> None:
        """A connection was made."""
        self._conversations.append(Conversation(self, end, is_ours=is_ours))

    def wins_collision(self, new: Conversation) -> bool:
        """RFC 4271 section 6.8: of two connections the one stays that the speaker with the higher identifier began."""
        for other in list(self._conversations):
            if other is new or other.state == "open-sent":
                continue
            if other.state == "established":
                if other.restart is None or not self.router.style.helps:
                    return False
                other.over(is_graceful=True)  # RFC 4724 section 4.2: the neighbor has restarted
                continue
            ours_wins = self.router.router_id > new.router_id
            if new.is_ours is ours_wins:
                other.notify(CEASE, 7)
            else:
                return False
        return True

    def notification_is_graceful(self, conversation: Conversation) -> bool:
        """Whether a NOTIFICATION on this connection keeps routes (RFC 8538)."""
        restart = conversation.restart
        return restart is not None and restart.by_notification and self.router.style.by_notification

    def established(self, conversation: Conversation) -> None:
        restart = conversation.restart
        self.session = conversation
        self.families = tuple(one for one in self.offered if one in conversation.families)
        self._ended_families.clear()
        kept = restart.forwarding if restart is not None else ()
        if self._is_long_lived:  # its time goes on (RFC 9494 section 4.2)
            long_lived = conversation.long_lived or {}
            kept = tuple(codes for codes, one in long_lived.items() if one.forwarding)
        elif self._stale_timer is not None:
            self._stale_timer.cancel()
            self._stale_timer = None
        self._drop([one for one in self.stale if codes_of(one) not in kept])
        self._staying = {}
        if self.stale and not self._is_long_lived:
            self._plan_stale(self.router.style.restart_time_s)
        self.sent.clear()
        self._not_before = 0.0
        self.router.session_changed(self)

    def conversation_over(self, conversation: Conversation, *, is_graceful: bool) -> None:
        """A connection has ended; if it was the session, its routes go or become stale."""
        self._conversations.remove(conversation)
        if self.session is not conversation:
            return
        self.session = None
        self.ended += 1
        self.ended_at = self.router.loop.now
        self._due.clear()
        self._refreshed.clear()
        restart = conversation.restart
        is_kept = is_graceful and self.router.style.helps and restart is not None and restart.time_s > 0
        kept = restart.families if is_kept and restart is not None else ()
        self._drop([one for one in self.routes if codes_of(one) not in kept])
        self.stale = set(self.routes)
        self._is_long_lived = False
        long_lived, most_s = conversation.long_lived or {}, self.router.style.long_lived_s
        self._staying = {codes: min(one.time_s, most_s) for codes, one in long_lived.items() if codes in kept}
        if self.stale and restart is not None:
            self._plan_stale(restart.time_s)
        self.router.session_changed(self)

    def link_down(self) -> None:
        """Fast external fallover."""
        for conversation in list(self._conversations):
            conversation.over(is_graceful=False)
        self._drop(set(self.routes))

    def bfd_failed(self) -> None:
        """BFD says that the link does not work (RFC 5882 section 4.2, RFC 9384)."""
        for conversation in list(self._conversations):
            conversation.notify(CEASE, BFD_DOWN)
        self._drop(set(self.routes))

    def end_all(self, how: Callable[[Conversation], None]) -> None:
        """End all connections in one way."""
        for conversation in list(self._conversations):
            how(conversation)

    def forget(self) -> None:
        """The router has lost its memory."""
        if self._stale_timer is not None:
            self._stale_timer.cancel()
        for conversation in self._conversations:
            conversation.silence()
        self.session, self._stale_timer, self._is_long_lived = None, None, False
        self._staying.clear()
        self._refreshed.clear()
        self._conversations.clear()
        self.routes.clear()
        self.stale.clear()
        self.sent.clear()
        self._due.clear()

    def _plan_stale(self, seconds: float) -> None:
        if self._stale_timer is not None:
            self._stale_timer.cancel()
        self._stale_timer = self.router.loop.call_later(seconds, self._stale_over)

    def _stale_over(self) -> None:
        """The Restart Time is over, or the long-lived stale time (RFC 9494 section 4.2)."""
        self._stale_timer = None
        staying, self._staying = {codes: time_s for codes, time_s in self._staying.items() if time_s}, {}
        kept = [one for one in self.stale if codes_of(one) in staying and NO_LLGR not in self.routes[one].communities]
        self._drop(self.stale.difference(kept))
        self._is_long_lived = bool(kept)
        if kept:
            for prefix in kept:
                route = self.routes[prefix]
                communities = (*(one for one in route.communities if one != LLGR_STALE), LLGR_STALE)
                self.routes[prefix] = msgspec.structs.replace(route, communities=communities)
            self.router.changed(kept)
            self._plan_stale(min(staying.values()))

    def _drop(self, prefixes: Iterable[str]) -> None:
        gone = list(prefixes)
        for prefix in gone:
            self.routes.pop(prefix, None)
        self.stale = self.stale - set(gone)
        self.router.changed(gone)

    # What it says

    def update(self, body: bytes) -> None:
        """An UPDATE came: its routes, or End-of-RIB."""
        ended = ends_of_rib(self.families).get(body)
        if ended is not None:
            self._end_of_rib(ended)
            return
        withdrawn, announced, next_hop = read_update(body, self.name)
        if announced and self.next_hops and self.next_hops.isdisjoint((next_hop[:16], next_hop[16:])):
            self.strange_next_hops.add(next_hop)
        for left in self._refreshed.values():
            left.difference_update(announced, withdrawn)
        routes = self.routes
        changed = [prefix for prefix in withdrawn if routes.pop(prefix, None) is not None]
        for prefix, route in announced.items():
            taken = self._taken(prefix, route)
            if taken is None:
                if routes.pop(prefix, None) is not None:
                    changed.append(prefix)
            elif routes.get(prefix) != taken:
                routes[prefix] = taken
                changed.append(prefix)
        if self.stale:
            self.stale.difference_update(withdrawn, announced)
        self.router.changed(changed)

    def _taken(self, prefix: str, route: Route) -> Route | None:
        """What it becomes here; None: it has been here before, or is refused."""
        router, local_as = self.router, self.local_as
        if any(route.as_path.count(one) > self.own_as for one in {router.asn, local_as.asn} if one in route.as_path):
            return None
        if local_as.asn != router.asn and local_as.is_added:
            route = msgspec.structs.replace(route, as_path=(local_as.asn, *route.as_path))
        if self.is_internal:
            if route.originator == router.router_id or router.router_id in route.clusters:
                return None
            originator = route.originator or (self.session.router_id if self.session is not None else b"")
            route = msgspec.structs.replace(route, is_internal=True, originator=originator)
        return route if self.takes is None else self.takes(prefix, route)

    def _end_of_rib(self, ended: Codes) -> None:
        self._ended_families.add(ended)
        self._drop([one for one in self.stale if codes_of(one) == ended])
        if len(self._ended_families) == len(self.families):
            if self._stale_timer is not None:
                self._stale_timer.cancel()
                self._stale_timer = None
            self._is_long_lived = False
            self.router.end_of_rib(self)

    def refresh(self, body: bytes) -> None:
        """It wants all of a family again (RFC 2918), or begins or ends to send it again itself (RFC 7313)."""
        afi, subtype, safi = struct.unpack("!HBB", body)
        codes = afi, safi
        if subtype == _BEGINS:
            self._refreshed[codes] = {one for one in self.routes if codes_of(one) == codes}
        elif subtype == _ENDS:
            self._drop(sorted(self._refreshed.pop(codes, ())))
        elif self.session is not None and not self.router.is_deferring:  # then all is sent anyway
            is_marked = self.session.marks_refresh
            if is_marked:
                self._send_refresh(codes, _BEGINS)
            for prefix in [one for one in self.sent if codes_of(one) == codes]:
                del self.sent[prefix]
            self._due.update(dict.fromkeys(one for one in self.router.best if codes_of(one) == codes))
            self._flush()
            if is_marked:
                self._send_refresh(codes, _ENDS)

    def ask_again(self) -> None:
        """It has to send all again."""
        for codes in self.families:
            self._send_refresh(codes, 0)

    def _send_refresh(self, codes: Codes, subtype: int) -> None:
        if self.session is not None:
            self.session.send(ROUTE_REFRESH, struct.pack("!HBB", codes[0], subtype, codes[1]))

    # What it is sent

    def send_all(self) -> None:
        """The whole table, then End-of-RIB."""
        self._due.update(dict.fromkeys(self.router.best))
        self._flush()
        if self.session is not None:
            for codes in self.families:
                self.session.send(UPDATE, end_of_rib(codes))

    def due(self, prefixes: Iterable[str]) -> None:
        """Their best route is another one: withdrawals go at once, announcements not before MRAI."""
        if self.session is None or self.router.is_deferring:
            return
        self._due.update(dict.fromkeys(prefixes))
        if self._is_flush_planned:
            self._withdraw()
            return
        wait_s = self._not_before - self.router.loop.time()
        if wait_s > 0:
            self._withdraw()
            self._is_flush_planned = True
            self.router.loop.call_later(wait_s, self._planned_flush)
        else:
            self._flush()

    def _planned_flush(self) -> None:
        self._is_flush_planned = False
        self._flush()

    def _wanted(self, prefix: str) -> Route | None:
        best = self.router.best.get(prefix)
        if best is None or best.peer == self.name or codes_of(prefix) not in self.families:
            return None
        if LLGR_STALE in best.communities and (self.session is None or self.session.long_lived is None):
            return None  # RFC 9494 section 4.6
        if self.sends_only_own and best.peer is not None:
            return None
        if best.peer is None and prefix in self.router.default_to:  # whatever filters say
            return best if self.name in self.router.default_to[prefix] else None
        if self.is_internal and best.is_internal and not self._is_reflected(best):
            return None
        if best.peer is not None and self.router.summaries.active and self.router.summaries.hides(prefix):
            return None
        if best.med is not None and best.peer is not None and not self.is_internal:
            best = msgspec.structs.replace(best, med=None)  # RFC 4271 section 5.1.4
        return best if self.tells is None else self.tells(prefix, best)

    def _is_reflected(self, route: Route) -> bool:
        """Whether one neighbor of the AS is told what another one has said (RFC 4456 section 6)."""
        return self.is_client or route.peer is None or self.router.peers[route.peer].is_client

    def _withdraw(self) -> None:
        gone = [one for one in self._due if one in self.sent and self._wanted(one) is None]
        for prefix in gone:
            del self._due[prefix], self.sent[prefix]
        for codes in self.families:
            of_family = [one for one in gone if codes_of(one) == codes]
            for start in range(0, len(of_family) if self.session is not None else 0, _MOST_PREFIXES):
                self._send_update(withdrawal(codes, nlri(of_family[start : start + _MOST_PREFIXES])))

    def _send_update(self, body: bytes) -> None:
        if self.session is not None:
            self.session.send(UPDATE, body)

    def _flush(self) -> None:
        self._withdraw()
        due, self._due = self._due, {}
        if self.session is None:
            return
        groups: dict[tuple[Route, Codes], list[str]] = {}
        sent = self.sent
        for prefix in due:
            route = self._wanted(prefix)
            if route is None:
                continue
            if sent.get(prefix) is not route and sent.get(prefix) != route:
                sent[prefix] = route
                groups.setdefault((route, codes_of(prefix)), []).append(prefix)
        for (route, _codes), prefixes in groups.items():
            for start in range(0, len(prefixes), _MOST_PREFIXES):
                self.session.send(UPDATE, self.router.encode(route, prefixes[start : start + _MOST_PREFIXES], self))
        if groups and self.router.style.mrai_s:
            self._not_before = self.router.loop.time() + self.router.style.mrai_s * self.router.chance.uniform(0.75, 1)
