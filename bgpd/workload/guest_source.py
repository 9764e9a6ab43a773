"""What BGP speakers on this host announce ([[workload.bgp]]): MetalLB, ExaBGP, a router in a container.

Sessions, limits, what a guest may announce and what is kept while it restarts are those of any neighbor (speaker/,
rib/); the routes are in a table of the guest's own, which no kernel table and no neighbor sees. Decides which claims
follow from them: where the address is, and which communities, MED and OTC it is announced with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec

from bgpd.config.schema import WorkloadsConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, LinkChanged
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.prefix import format_key, host_key, is_link_local, parse_prefix
from bgpd.model.workload import NO_COMMUNITIES, Claim, Communities
from bgpd.runtime.turns import soon
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts

BGP = "bgp"
SLICE = 500
"""Routes that are made claims in one step, so that the loop is never blocked for 20 ms."""
WAIT_S = 15.0
"""How long a start after a restart waits for the guests of known addresses: they have to connect again."""
LOOK_S = 0.5
QUIET_S = 3.0
"""A guest that never sends End-of-RIB has sent what it has once it is established for so long."""
_IPV4_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK = b"\x7f"
"""How addresses of 127.0.0.0/8 begin."""

_Place = tuple[str, Family, bytes]
"""A guest (the name of its section), family and key."""
_MOST_KNOWN = 4096
"""Addresses of guests and next hops of which it is kept whether they are this host's own."""


class GuestSource(ClaimSource):
    """Makes claims of the routes of guests. Level-triggered: the RIB says which have changed, and is asked for them."""

    name = BGP

    def __init__(self, parts: SourceParts, *, schedule: Callable[[Callable[[], None]], None] = soon) -> None:
        self._claims = parts.claims
        self._first_state = parts.first_state
        self._sessions = parts.sessions
        self._routes = parts.guests
        self._host = parts.host
        self._schedule = schedule
        self._guests = {guest.name: guest for guest in parts.config.workload.bgp}
        self._changed: dict[_Place, None] = {}
        self._is_scheduled = False
        self._awaited: set[str] = set()
        self._left: bytes | None = None
        self._own: dict[bytes, dict[tuple[str, str], bool]] = {}
        self._forgot_some = False

    # A start.

    def save(self) -> bytes:
        """The next process goes on with the sessions, and need not wait for guests."""
        return b"guests"

    def remember(self, left: bytes | None = None) -> None:
        self._left = left

    async def restore(self) -> None:
        """After a restart guests of known addresses are waited for: what they had announced is still forwarded."""
        if self._sessions.restarting and self._left is None:
            self._awaited = {guest.name for guest in self._guests.values() if guest.is_single}
        if self._awaited:
            self.initial_wait_s = WAIT_S
            return
        while self._changed:  # what was restored of adopted sessions
            self._take()
            await asyncio.sleep(0)
        self._first_state.heard(BGP)

    async def run(self) -> None:
        """Look for the guests that are waited for, as long as anybody waits."""
        while BGP in self._first_state.awaited:
            self._look(time.time())
            await asyncio.sleep(LOOK_S)

    def _look(self, now: float) -> None:
        for view in self._sessions.neighbor_views():
            if view.name in self._awaited and view.state == "established":
                sends_end = view.neighbor_graceful_restart not in ("", "off")
                if set(view.families) <= set(view.end_of_rib) or (not sends_end and now - view.since > QUIET_S):
                    self._awaited.discard(view.name)
        if not self._awaited and not self._changed:
            self._first_state.heard(BGP)

    # What changes.

    def routes_changed(self, guest: str, family: Family, keys: Iterable[bytes]) -> None:
        """The RIB has other routes of a guest: some of these keys."""
        for key in keys:
            self._changed[guest, family, key] = None
        self._want()

    def host_changed(self, event: LinkChanged | AddressChanged) -> None:
        """Whether a guest, or its next hop, is on this host may have changed: seldom, of all that changes."""
        if not self._own:
            return
        changed: Sequence[Address] = ()
        if isinstance(event, AddressChanged):
            changed = (event.address,)
        elif event.is_another:
            changed = self._host.addresses(event.link.name)
        if any(self._forgot_some or one.packed in self._own or one.packed[:1] == _LOOPBACK for one in changed):
            self._claim_again()

    def reconfigure(self, config: WorkloadsConfig) -> None:
        self._guests = {guest.name: guest for guest in config.workload.bgp}
        self._claim_again()

    def _claim_again(self) -> None:
        self._own.clear()
        self._forgot_some = False
        for id in self._claims.claimed(BGP):
            guest, _, prefix = id.partition("/")
            self._changed[guest, *parse_prefix(prefix)] = None
        self._want()

    def _want(self) -> None:
        if self._changed and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self.drain)

    def claimed(self, guest: str, family: Family) -> list[bytes]:
        """The keys of a family that are claimed for a guest."""
        ids = (id.partition("/") for id in self._claims.claimed(BGP))
        places = (parse_prefix(prefix) for name, _, prefix in ids if name == guest)
        return [key for of, key in places if of is family]

    def differing(self, guest: str, family: Family, keys: Sequence[bytes]) -> list[bytes]:
        """Those of the keys that are claimed and not announced by the guest any more, or the other way round."""
        found = []
        for key in keys:
            is_said = guest in self._guests and bool(self._routes.guest_paths(guest, family, key))
            is_claimed = bool(self._claims.statuses(BGP, f"{guest}/{format_key(family, key)}"))
            if is_said is not is_claimed and (guest, family, key) not in self._changed:
                found.append(key)
        return found

    def drain(self) -> None:
        """Make claims of what changed, at most `SLICE`; asks to be called again if more did."""
        self._is_scheduled = False
        self._take()
        self._want()

    def _take(self) -> None:
        for place in list(islice(self._changed, SLICE)):
            del self._changed[place]
            self._claim(*place)

    def _claim(self, name: str, family: Family, key: bytes) -> None:
        id = f"{name}/{format_key(family, key)}"
        guest = self._guests.get(name)
        paths = self._routes.guest_paths(name, family, key) if guest is not None else ()
        if guest is None or not paths:
            self._claims.claim(BGP, id)
            return
        claim = Claim(
            source=BGP,
            id=id,
            family=family,
            key=key,
            vrf=guest.vrf,
            guests=tuple(path.source.name for path in paths),
            communities=_communities(paths[0]) if guest.communities == "keep" else NO_COMMUNITIES,
            med=paths[0].attributes.med if guest.med == "keep" else None,
            only_to_customer=_only_to_customer(paths),
            is_anycast=guest.anycast,
        )
        self._claims.claim(BGP, id, (self._with_way(claim, guest, paths),))

    def _with_way(self, claim: Claim, guest: GuestConfig, paths: Sequence[Path]) -> Claim:
        """A claim with what the kernel forwards it by: nothing if one of the guests has it on this host."""
        hops: set[NextHop] = set()
        problem = ""
        for path in paths:
            hop = self._hop(guest, claim.family, path)
            if hop is None:
                return claim
            if isinstance(hop, str):
                problem = hop
            else:
                hops.add(hop)
        if not hops:
            return msgspec.structs.replace(claim, withheld=problem)
        interfaces = {path.source.interface for path in paths}
        interface = interfaces.pop() if len(interfaces) == 1 else ""
        if interface and all(
            host_key(hop.address) == claim.key for hop in hops
        ):  # its own address: no gateway to itself
            return msgspec.structs.replace(claim, manage_route=True, interface=interface)
        return msgspec.structs.replace(claim, via=tuple(sorted(hops)), manage_route=True, interface=interface)

    def _hop(self, guest: GuestConfig, family: Family, path: Path) -> NextHop | str | None:
        """What a path leads to: None is this host itself, a text says why it leads nowhere.

        With next_hop = "local" the RIB has refused all but this host's addresses and those beside the guest.
        """
        source, said = path.source, path.next_hop
        chosen = source.address
        if said is not None and guest.next_hop == "local":
            chosen = said.address
        if self._is_own(chosen, guest.vrf, source.interface):
            return None
        if family is Family.IPV6_UNICAST and len(chosen) == 4:
            if said is None or len(said.address) == 4 or said.address[:12] == _IPV4_MAPPED:
                return f"IPv6 routes need an IPv6 next hop, and the session with {source.name} is one of IPv4"
            chosen = said.address
        return NextHop(chosen, source.interface if is_link_local(chosen) else "")

    def _is_own(self, packed: bytes, vrf: str, interface: str) -> bool:
        """Whether an address is this host's own; a link-local one on the interface, where it may be the guest's.

        So is one of the guest's interface before that is of its VRF: only routes by the interface take it there.
        """
        known = self._own.setdefault(packed, {})
        if (vrf, interface) not in known:
            if len(self._own) > _MOST_KNOWN:
                self._own, self._forgot_some = {packed: known}, True
            is_own = not is_link_local(packed) and self._host.is_own(packed, vrf=vrf)
            known[vrf, interface] = is_own or self._host.bears(interface, packed)
        return known[vrf, interface]


def _communities(path: Path) -> Communities:
    attributes = path.attributes
    return Communities(standard=attributes.packed_communities, large=attributes.packed_large_communities)


def _only_to_customer(paths: Iterable[Path]) -> int | None:
    """OTC is preserved, whatever else is (RFC 9234 section 5): a route that may only go down stays one."""
    found = (path.attributes.only_to_customer for path in paths)
    return next((otc for otc in found if otc is not None), None)


def _make(parts: SourceParts) -> ClaimSource:
    return GuestSource(parts)


KIND = SourceKind(
    name=BGP,
    what="guests, by `[[workload.bgp]]`",
    precedence=2,
    restart=Restart.REPLAYED,
    rank_at_start=2,
    is_damped=True,
    make=_make,
)
