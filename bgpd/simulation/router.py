"""Leaves and spines: routers that behave as FRR and BIRD do, written apart from bgpd, from the RFCs alone.

Sessions with collisions, hold timers and graceful restart (both roles); best path, ECMP, MRAI; links that end sessions
when they go down. A `Style` says in which of the usual ways one router does it.
"""

from __future__ import annotations

import asyncio
import operator
import random
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from bgpd.model.prefix import covering_keys, format_key, key_address, parse_prefix
from bgpd.simulation.leaf_bfd import LeafBfd, Pace
from bgpd.simulation.network import BGP_PORT, End, Port, Stack
from bgpd.simulation.peer import LocalAs, Peer
from bgpd.simulation.summaries import SUMMARY, Summaries
from bgpd.simulation.wire import CEASE, EVPN, HARD_RESET, NOTIFICATION, V4, Codes, Route, attribute, codes_of, nlri

if TYPE_CHECKING:
    from bgpd.simulation.loop import VirtualLoop

HOLD_S = 9
_ADVERTISE_S = 10.0
_MOST_ENCODED = 1 << 10


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a router does what is done in several ways. `mrai_s`: minimum interval between announcements to a neighbor;
    withdrawals do not wait. `helps`: it keeps routes of neighbors that restart gracefully; `restarts` so itself.
    `by_notification`: a NOTIFICATION restarts so, too (RFC 8538). `hold_s`: the hold time that it offers.
    `long_lived_s`: how long its routes and those of neighbors may be kept after that (RFC 9494); 0: not at all.
    `marks_refresh`: it tells and knows where a route refresh begins and ends (RFC 7313). `relaxes`: ways by neighbors
    of other AS numbers are as good as those of one (multipath-relax); `most_ways`: so many are used, 0 for all.
    `compares_all_meds`: also those of neighbors of other AS numbers (always-compare-med)."""

    dials: bool = True
    retry_s: float = 5.0
    mrai_s: float = 0.0
    helps: bool = True
    restarts: bool = True
    restart_time_s: int = 15
    by_notification: bool = True
    decides_after_s: float = 0.05
    hold_s: int = HOLD_S
    long_lived_s: int = 0
    marks_refresh: bool = False
    relaxes: bool = True
    most_ways: int = 0
    compares_all_meds: bool = False


_rank = operator.attrgetter("rank")


class Router:
    """A leaf or spine. `best` is what it announces, `fib` where it forwards to: names of neighbors, "" for itself;
    `installed`: by which routes."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        *,
        asn: int,
        router_id: bytes,
        style: Style,
        chance: random.Random,
        stack: Stack | None = None,
    ) -> None:
        self.name = name
        self.loop = loop
        self.asn = asn
        self.router_id = router_id
        self.chance = chance
        self.stack = stack or Stack(name, loop)
        self.instances: dict[str, Router] = {}
        """Its BGP inside tenants, by their names: they run while it runs."""
        self.peers: dict[str, Peer] = {}
        self.bfd: dict[Port, LeafBfd] = {}
        self.own: dict[str, Route] = {}
        self.default_to: dict[str, set[str]] = {}
        """Default routes of its own that only these neighbors are told."""
        self.summaries = Summaries()
        self.best: dict[str, Route] = {}
        self.fib: dict[str, tuple[str, ...]] = {}
        self.installed: dict[str, Route] = {}
        self.is_running = False
        self.is_restarting = False
        self.is_deferring = False
        self.forwards_on = False
        self.noted: Callable[[], None] = lambda: None
        """Called when it forwards in another way."""
        self._changed: dict[str, None] = {}
        self._ways: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Each that there is, once: prefixes have it in common."""
        self._encoded: dict[object, bytes] = {}
        """What neighbors were told last: others are told the same."""
        self._is_decision_planned = False
        self._tasks: list[asyncio.Task[None]] = []
        self._deferral: asyncio.TimerHandle | None = None
        self.set_style(style)

    def set_style(self, style: Style) -> None:
        """Do things in these ways from now on."""
        self.style = style
        self._is_choosy = not style.relaxes or style.most_ways > 0

    def add_peer(
        self,
        port: Port,
        *,
        name: str,
        asn: int,
        dials: bool,
        sends_only_own: bool = False,
        more: tuple[Codes, ...] = (),
        bfd: Pace | None = None,
        local_as: LocalAs | None = None,
    ) -> Peer:
        """A neighbor at the other end of a port. `bfd`: it tells when nothing passes there."""
        peer = Peer(
            self, port, name=name, asn=asn, dials=dials, sends_only_own=sends_only_own, more=more, local_as=local_as
        )
        self.peers[name] = peer
        if bfd is not None:
            self.bfd[port] = LeafBfd(port, self.loop, self.chance, failed=peer.bfd_failed, pace=bfd)
            self.stack.bfd_received = self._bfd_received
        return peer

    def passes_on(self, neighbor: str, *, is_own: bool, default: str = "") -> bool:
        """Whether it announces to a neighbor what it has of others, or itself (`is_own`); `default`: which default
        route it is, if it is one."""
        if is_own:
            return neighbor in self.default_to.get(default, (neighbor,))
        return not self.peers[neighbor].sends_only_own

    def ways_of(self, neighbors: Sequence[str]) -> tuple[str, ...]:
        """Which of its neighbors with paths that are alike otherwise it uses; the first has the best one."""
        peers, first = self.peers, self.peers[neighbors[0]]
        used = tuple(one for one in neighbors if self.style.relaxes or peers[one].asn == first.asn)
        return used[: self.style.most_ways or None]

    def ways_to(self, prefix: str) -> tuple[str, ...]:
        """The neighbors by which it forwards to a prefix: by the longest that covers it; "" is itself."""
        exact = self.fib.get(prefix)
        if exact is not None or not self.fib:
            return exact or ()
        family, key = parse_prefix(prefix)
        covering = (format_key(family, one) for one in covering_keys(family, key_address(family, key)))
        return next((self.fib[one] for one in covering if one in self.fib), ())

    # Life

    def start(self, *, is_graceful: bool = False) -> None:
        """Begin; `is_graceful`: it has forwarded on (RFC 4724 section 4.1)."""
        self.is_running = True
        self.is_restarting = self.forwards_on = is_graceful
        if not is_graceful:
            self._forget_forwarding()
        self._tasks = []
        if self.stack.name == self.name:  # no instance
            for family in socket.AF_INET, socket.AF_INET6:
                self.stack.listening[family, BGP_PORT, 0] = self._accept
            self.stack.solicited = self.stack.advertise
            self._tasks = [self.loop.create_task(self._advertise())]
        self._tasks += [
            self.loop.create_task(peer.keep_dialing())
            for peer in self.peers.values()
            if peer.dials and self.style.dials
        ]
        for one in self.bfd.values():
            one.start()
        for task in self._tasks:
            task.add_done_callback(self._ended)
        if is_graceful:
            self.is_deferring = True
            self._deferral = self.loop.call_later(self.style.restart_time_s, self._deferral_over)
        self.changed(self.own)
        for instance in self.instances.values():
            instance.start(is_graceful=is_graceful)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.loop.call_exception_handler({"message": f"{self.name} failed", "exception": error})

    async def _advertise(self) -> None:
        while True:
            for peer in self.peers.values():
                if len(peer.port.address) == 16:
                    self.stack.advertise(peer.port)
            await asyncio.sleep(_ADVERTISE_S * self.chance.uniform(0.75, 1.0))

    def stop(self, *, is_graceful: bool) -> None:
        """The process ends; with `is_graceful` it leaves its routes in the hardware, and tells nobody."""
        for instance in self.instances.values():
            instance.stop(is_graceful=is_graceful)
        self._halt()
        for peer in self.peers.values():
            if not is_graceful:
                peer.end_all(lambda one: one.send(NOTIFICATION, bytes((CEASE, HARD_RESET, CEASE, 2))))
            peer.forget()
        if not is_graceful:
            self._forget_forwarding()
            for one in self.bfd.values():
                one.stop(is_orderly=True)
        self.noted()

    def crash(self) -> None:
        """The whole box stops, without a word to anybody."""
        for instance in self.instances.values():
            instance.crash()
        self._halt()
        for one in self.bfd.values():
            one.stop(is_orderly=False)
        self.stack.is_there = False
        self.stack.crash()
        for peer in self.peers.values():
            peer.forget()
        self._forget_forwarding()
        self.noted()

    def _halt(self) -> None:
        self.is_running = self.is_restarting = self.is_deferring = False
        for task in self._tasks:
            task.cancel()
        if self._deferral is not None:
            self._deferral.cancel()
        self.stack.listening.clear()
        self.stack.solicited = lambda _port: None
        self.best.clear()
        self.summaries.active.clear()
        self._changed.clear()

    def _forget_forwarding(self) -> None:
        self.fib.clear()
        self.installed.clear()

    def _bfd_received(self, port: Port, data: bytes) -> None:
        found = self.bfd.get(port)
        if found is not None:
            found.received(data)

    def _accept(self, end: End) -> None:
        speakers = (self, *self.instances.values())
        peer = next((one for speaker in speakers for one in speaker.peers.values() if one.port is end.port), None)
        if peer is None or peer.is_shut or not self.is_running:
            end.close(is_reset=True)
        else:
            peer.begin(end, is_ours=False)

    def link_down(self, port: Port) -> None:
        """The carrier of a port is lost: neighbors behind it that are one hop away, too."""
        for peer in self.peers.values():
            if peer.port.carrier is port:
                peer.link_down()
        for instance in self.instances.values():
            instance.link_down(port)

    # Routes

    def session_changed(self, peer: Peer) -> None:
        if peer.session is not None:
            if self.is_deferring:
                peer.is_awaited = True
            else:
                peer.send_all()
        elif self.is_deferring:
            peer.is_awaited = False

    def end_of_rib(self, peer: Peer) -> None:
        """A neighbor has sent all; once all that are awaited have, best paths are chosen (RFC 4724 section 4.1)."""
        peer.is_awaited = False
        if self.is_deferring and not any(one.is_awaited or one.session is None for one in self.peers.values()):
            self._deferral_over()

    def _deferral_over(self) -> None:
        if self._deferral is not None:
            self._deferral.cancel()
            self._deferral = None
        self.is_deferring = self.is_restarting = False
        for prefix in dict.fromkeys((*self.fib, *self._changed, *self.own)):
            self._changed[prefix] = None
        self._decide()
        for peer in self.peers.values():
            peer.send_all()

    def changed(self, prefixes: Iterable[str]) -> None:
        """Routes of neighbors are others than before."""
        if not self.is_running:
            return
        self._changed.update(dict.fromkeys(prefixes))
        if self._changed and not self._is_decision_planned and not self.is_deferring:
            self._is_decision_planned = True
            self.loop.call_later(self.style.decides_after_s * self.chance.random(), self._planned_decision)

    def _planned_decision(self) -> None:
        self._is_decision_planned = False
        if self.is_running and not self.is_deferring:
            self._decide()

    def _decide(self) -> None:
        changed, self._changed = self._changed, {}
        self.noted()
        other = self._choose(changed)
        if self.summaries.configured:
            those = self.summaries.changed(other, self.best)
            other = list(dict.fromkeys((*other, *self._choose(those), *self.summaries.hidden(those, self.best))))
        own, others = [prefix for prefix in other if prefix in self.own], set(other)
        for peer in self.peers.values() if other else ():
            if not peer.sends_only_own:
                peer.due(other)
            elif own or not others.isdisjoint(peer.sent):
                peer.due([*own, *(prefix for prefix in peer.sent if prefix in others)])

    def _choose(self, changed: Iterable[str]) -> list[str]:
        """Best paths of these; the prefixes whose best one is another than before."""
        other = []
        tables = [peer.routes for peer in self.peers.values()]
        for prefix in changed:
            ranked = [routes[prefix] for routes in tables if prefix in routes]
            if prefix in self.own:
                ranked = [self.own[prefix]]
            elif prefix in self.summaries.active:
                ranked = [SUMMARY]
            best_ones = ranked
            if len(ranked) > 1:
                ranked.sort(key=_rank)  # stable: the first neighbor wins
                least = ranked[0].rank
                best_ones = [one for one in ranked if one.rank == least]
                if any(one.med for one in ranked):
                    ranked = best_ones = by_med(ranked, compares_all=self.style.compares_all_meds)
            ways = tuple([one.peer or "" for one in best_ones if one is not SUMMARY])
            if len(ways) > 1 and self._is_choosy:
                ways = self.ways_of(ways)
            if best_ones:
                self.fib[prefix], self.installed[prefix] = self._ways.setdefault(ways, ways), ranked[0]
            else:
                self.fib.pop(prefix, None)
                self.installed.pop(prefix, None)
            best = ranked[0] if ranked else None
            if best != self.best.get(prefix):
                other.append(prefix)
                if best is None:
                    del self.best[prefix]
                else:
                    self.best[prefix] = best
        return other

    def encode(self, route: Route, prefixes: list[str], peer: Peer) -> bytes:
        """An UPDATE's body for a neighbor: this router as the next hop, and before the AS path, or among those who have
        reflected it."""
        port = peer.port
        what = route, tuple(prefixes), port.address, port.address6, peer.is_internal, peer.announced_as
        found = self._encoded.get(what)
        if found is None:
            if len(self._encoded) >= _MOST_ENCODED:
                self._encoded.clear()
            found = self._encoded[what] = self._encode(route, prefixes, peer)
        return found

    def _encode(self, route: Route, prefixes: list[str], peer: Peer) -> bytes:
        port, is_internal = peer.port, peer.is_internal
        path = route.as_path if is_internal else (*peer.announced_as, *route.as_path)
        codes, packed, plain = codes_of(prefixes[0]), nlri(prefixes, route), b""
        attributes = attribute(0x40, 1, b"\0")
        attributes += attribute(0x40, 2, struct.pack(f"!BB{len(path)}I", 2, len(path), *path) if path else b"")
        if route.med is not None:
            attributes += attribute(0x80, 4, route.med.to_bytes(4))
        if is_internal:
            attributes += attribute(0x40, 5, route.preference.to_bytes(4))
        if is_internal and route.is_internal:
            attributes += attribute(0x80, 9, route.originator)
            attributes += attribute(0x80, 10, b"".join((self.router_id, *route.clusters)))
        if len(port.address) == 4 and codes == V4:
            attributes, plain = attributes + attribute(0x40, 3, port.address), packed
        else:
            next_hop = port.address if len(port.address) == 16 else port.address6
            next_hop = self.router_id if codes == EVPN else next_hop
            head = struct.pack("!HBB", *codes, len(next_hop)) + next_hop + b"\0"
            attributes = attribute(0x80, 14, head + packed) + attributes
        if route.communities:
            attributes += attribute(0xC0, 8, struct.pack(f"!{len(route.communities)}I", *route.communities))
        if route.extended:
            attributes += attribute(0xC0, 16, b"".join(route.extended))
        return struct.pack("!HH", 0, len(attributes)) + attributes + plain


def by_med(routes: Sequence[Route], *, compares_all: bool) -> list[Route]:
    """The best of several, in their order, where MED counts: after the AS path, among routes of the same neighboring AS
    (RFC 4271 section 9.1.2.2 c), and before external ones are preferred. A route without it has the least."""

    def is_beaten(route: Route) -> bool:
        rivals = (one for one in routes if one.rank[:-1] == least[:-1])
        alike = (one for one in rivals if compares_all or one.as_path[:1] == route.as_path[:1])
        return any((one.med or 0) < (route.med or 0) for one in alike)

    least = min(one.rank for one in routes)
    left = [one for one in routes if one.rank[:-1] == least[:-1] and not is_beaten(one)]
    least = min(one.rank for one in left)
    return [one for one in left if one.rank == least]
