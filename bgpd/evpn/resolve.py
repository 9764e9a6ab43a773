"""From what an EVPN route names (gateway IP, BGP next hop, peer) to the uplink gateways that packets leave by.

Decides, inside one VRF: an address on an uplink's subnet is its own gateway; an address with a type 2 route is reached
as that route is (the gateway IP overlay index, RFC 9136 sections 3.2 and 4.1); otherwise, where allowed, the leaf that
advertised the route is the gateway, on the uplink towards it. It never looks at prefixes, only at host routes, uplinks
and their subnets. So a change is looked up by exact key, and its cost depends on the number of next hops only. Sans-IO.

A recursive next hop is a `NextHop` with the named address whose `interface` is "@VRF/4:NEIGHBOR" or "@VRF/6:NEIGHBOR":
the VRF, the family of the route, and the advertising neighbor where it may serve as the last resort, else nothing. No
interface can have such a name, and equal addresses of two tenants are two next hops. A resolved one names an uplink.
IPv4 routes may leave by an IPv6 gateway (RFC 8950), never the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import format_address, host_key, is_link_local

MAX_DEPTH = 4
"""Type 2 routes followed one after the other before a resolution is called a loop."""


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """An interface of the VRF towards a leaf: its addresses (packed, prefix length), and the leaf beyond it.

    `neighbor` names the leaf's session ("" if unknown); `gateways` are the leaf's packed addresses on this link.
    """

    name: str
    up: bool
    addresses: tuple[tuple[bytes, int], ...] = ()
    neighbor: str = ""
    gateways: tuple[bytes, ...] = ()

    def holds(self, address: bytes) -> bool:
        """Whether `address` lies in one of the subnets of this link; every link has link-local ones, so none has."""
        return not is_link_local(address) and any(_in_subnet(address, own, length) for own, length in self.addresses)

    def address_for(self, family_bytes: int) -> bytes:
        """This host's own address on the link, of 4 or 16 bytes (b"" if it has none; link-local ones do not count)."""
        for own, _ in self.addresses:
            if len(own) == family_bytes and not is_link_local(own):
                return own
        return b""


class Resolution(msgspec.Struct, frozen=True):
    """Resolved next hops, or none and the reason why. `steps` say how, one line each, for `explain`."""

    next_hops: NextHops = ()
    why: str = ""
    steps: tuple[str, ...] = ()


def recursive_next_hop(vrf: str, address: bytes, *, peer: str = "", ipv6: bool = False) -> NextHop:
    """What a route of a VRF names: an address (b"" if none) and, if `peer` may be the last resort, that neighbor's
    name. `ipv6`: the route is an IPv6 one.
    """
    return NextHop(address, f"@{vrf}/{6 if ipv6 else 4}:{peer}")


def vrf_of(next_hop: NextHop) -> str:
    """The VRF of a recursive next hop; "" for any other."""
    return next_hop.interface[1:].partition("/")[0] if next_hop.interface[:1] == "@" else ""


def _peer_of(next_hop: NextHop) -> str:
    return next_hop.interface.partition(":")[2]


def _for_ipv6(next_hop: NextHop) -> bool:
    return next_hop.interface.partition("/")[2][:1] == "6"


def point_to_point_peer(own: bytes, length: int) -> bytes:
    """The other end of a /31 or /30 (RFC 3021), /127 or /126 subnet; b"" for larger ones."""
    bits = len(own) * 8
    value = int.from_bytes(own)
    if length == bits - 1:
        return (value ^ 1).to_bytes(len(own), "big")
    if length == bits - 2 and value & 3 in (1, 2):
        return (value ^ 3).to_bytes(len(own), "big")
    return b""


def _in_subnet(address: bytes, own: bytes, length: int) -> bool:
    if len(address) != len(own):
        return False
    shift = len(own) * 8 - length
    return int.from_bytes(address) >> shift == int.from_bytes(own) >> shift


class HostRoutes(Protocol):
    """The type 2 routes of all VRFs."""

    def host_route(self, vrf: str, address: bytes) -> NextHops | None:
        """The recursive next hops of an address; (): it is a workload of this host; None: there is no such route."""


class Resolver:
    """Resolves recursive next hops in one VRF and remembers which it was asked for."""

    def __init__(self, vrf: str, host_routes: HostRoutes) -> None:
        self.vrf = vrf
        self._host_routes = host_routes
        self._uplinks: dict[str, Uplink] = {}
        self._resolved: dict[NextHop, Resolution] = {}
        self._addresses: dict[bytes, set[NextHop]] = {}
        self._prefixes: dict[int, set[bytes]] = {4: set(), 16: set()}

    def resolve(self, next_hop: NextHop) -> Resolution:
        """Where a recursive next hop leads now; it is watched from now on."""
        known = self._resolved.get(next_hop)
        if known is None:
            known = self._resolved[next_hop] = self._compute(next_hop)
            self._watch(next_hop)
        return known

    def watched(self) -> Iterable[NextHop]:
        """Abstract next hops that have been asked for."""
        return tuple(self._resolved)

    def forget(self, next_hops: Iterable[NextHop]) -> None:
        """Watch these no longer."""
        gone = {one for one in next_hops if self._resolved.pop(one, None) is not None}
        if not gone:
            return
        for address, waiting in list(self._addresses.items()):
            waiting -= gone
            if not waiting:
                del self._addresses[address]
                self._prefixes[len(address)].discard(host_key(address))

    def uplinks(self) -> tuple[Uplink, ...]:
        """The uplinks that next hops are resolved to."""
        return tuple(self._uplinks.values())

    def uplinks_changed(self, uplinks: Mapping[str, Uplink]) -> dict[NextHop, Resolution]:
        """The uplinks are now these; answers what leads elsewhere than before."""
        if dict(uplinks) == self._uplinks:
            return {}
        self._uplinks = dict(uplinks)
        return self._again(self._resolved)

    def host_routes_changed(self, addresses: Iterable[bytes]) -> dict[NextHop, Resolution]:
        """Host routes of these addresses changed; returns the next hops whose resolution changed."""
        touched: set[NextHop] = set()
        for address in self._addresses.keys() & set(addresses):
            touched |= self._addresses[address]
        return self._again(sorted(touched))

    def rests_on(self, size: int) -> AbstractSet[bytes]:
        """Host prefixes (route keys) of `size` address bytes whose routes matter to a watched next hop."""
        return self._prefixes[size]

    def _again(self, next_hops: Iterable[NextHop]) -> dict[NextHop, Resolution]:
        changed: dict[NextHop, Resolution] = {}
        for next_hop in tuple(next_hops):
            before = self._resolved[next_hop]
            now = self._compute(next_hop)
            self._resolved[next_hop] = now
            self._watch(next_hop)
            if (now.next_hops, now.why) != (before.next_hops, before.why):
                changed[next_hop] = now
        return changed

    def _watch(self, next_hop: NextHop) -> None:
        """File the next hop under every address that its resolution may rest on, present or not."""
        pending = [next_hop]
        seen: set[bytes] = set()
        while pending:
            one = pending.pop()
            if not one.address or one.address in seen or len(seen) > MAX_DEPTH * 16:
                continue
            seen.add(one.address)
            self._addresses.setdefault(one.address, set()).add(next_hop)
            size = len(one.address)
            self._prefixes[size].add(bytes((size * 8,)) + one.address)
            pending.extend(self._host_routes.host_route(self.vrf, one.address) or ())

    def _compute(self, next_hop: NextHop) -> Resolution:
        found = self._follow(next_hop, _for_ipv6(next_hop), ())
        if not _for_ipv6(next_hop) or not found.next_hops:
            return found
        usable = tuple(hop for hop in found.next_hops if len(hop.address) == 16)
        if not usable:
            return Resolution((), "an IPv6 route cannot leave by the IPv4 gateway that its next hop leads to")
        return Resolution(usable, "", found.steps)

    def _follow(self, next_hop: NextHop, ipv6: bool, path: tuple[bytes, ...]) -> Resolution:
        address, peer = next_hop.address, _peer_of(next_hop)
        if address:
            text = format_address(address)
            for uplink in self._uplinks.values():
                if not is_link_local(address) and any(address == own for own, _ in uplink.addresses):
                    return Resolution((), f"{text} is an address of this host, on {uplink.name}")
                if uplink.up and uplink.holds(address):
                    return Resolution(
                        (NextHop(address, uplink.name),), "", (f"{text} is on the subnet of {uplink.name}",)
                    )
            if address in path or len(path) >= MAX_DEPTH:
                return Resolution((), f"{text} resolves through itself")
            found = self._through_host_route(address, ipv6, (*path, address))
            if found.next_hops or not peer:
                return found
        if peer:
            return self._through_peer(peer, ipv6)
        return Resolution((), "the route names no gateway, no next hop and no peer")

    def _through_host_route(self, address: bytes, ipv6: bool, path: tuple[bytes, ...]) -> Resolution:
        text = format_address(address)
        route = self._host_routes.host_route(self.vrf, address)
        if route is None:
            why = f"no uplink subnet of VRF {self.vrf} holds {text} and no type 2 route announces it"
            return Resolution((), why)
        if not route:
            return Resolution((), f"{text} is one of this host's own workloads")
        next_hops: set[NextHop] = set()
        steps: list[str] = []
        why = ""
        for one in route:
            found = self._follow(one, ipv6, path)
            next_hops.update(found.next_hops)
            steps += [step for step in found.steps if step not in steps]
            why = why or found.why
        if not next_hops:
            return Resolution((), f"the type 2 route of {text} does not resolve: {why}")
        return Resolution(tuple(sorted(next_hops)), "", (f"{text} has a type 2 route", *steps))

    def _through_peer(self, peer: str, ipv6: bool) -> Resolution:
        mine = [uplink for uplink in self._uplinks.values() if uplink.neighbor == peer]
        if not mine:
            return Resolution((), f"no uplink of VRF {self.vrf} is known to lead to {peer}: set uplink_neighbors")
        for uplink in mine:
            if not uplink.up:
                continue
            usable = sorted((gateway for gateway in uplink.gateways if len(gateway) == 16 or not ipv6), key=len)
            if usable:
                gateway = usable[0]
                text = f"{peer} is {format_address(gateway)} on {uplink.name}"
                return Resolution((NextHop(gateway, uplink.name),), "", (text,))
            return Resolution((), f"the address of {peer} on {uplink.name} is not known: set uplink_gateways")
        return Resolution((), f"the uplink {mine[0].name} to {peer} is down")
