"""One VRF: what its routes are told apart by, what they name as next hop, and where that leads.

Joins the resolver with the VRF's host routes and uplinks, and tells what changed. A next hop stays abstract in the RIB
(resolve.py), so that a change costs as many steps as there are next hops, not routes. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from bgpd.config.schema import RouterConfig, VrfConfig
from bgpd.config.words import vrf_distinguisher, vrf_targets
from bgpd.evpn.resolve import Resolution, Resolver, Uplink, abstract_next_hop
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops, Path
from bgpd.model.prefix import address_length, is_link_local


class VrfEvents(msgspec.Struct, frozen=True):
    """What a VRF asks and tells.

    `host_route(vrf, address)`: the next hops of the type 2 routes of an address, () if it is one of this host's own
    workloads, None if there is none. `expansion_changed(vrf, next_hop)`: an abstract next hop leads elsewhere: the FIB
    asks `expand` again. `next_hop_changed(vrf, next_hop, why)`: it can be reached now ("") or not, for the RIB.
    """

    host_route: Callable[[str, bytes], NextHops | None]
    expansion_changed: Callable[[str, NextHop], None]
    next_hop_changed: Callable[[str, NextHop, str], None]


class Vrf:
    """A configured VRF. `rd` and the targets are 8 bytes each, as on the wire."""

    def __init__(self, config: VrfConfig, router: RouterConfig, events: VrfEvents) -> None:
        self.name = config.name
        self.configure(config, router)
        self._events = events
        self._resolver = Resolver(config.name, host_route=lambda address: events.host_route(config.name, address))
        self._subnets: dict[int, tuple[bytes, ...]] = {}

    def configure(self, config: VrfConfig, router: RouterConfig) -> None:
        """Use other settings; what was asked for stays watched."""
        self.config = config
        self.rd = vrf_distinguisher(router, config)
        self.import_targets = vrf_targets(router, config, config.import_rt)
        self.export_targets = vrf_targets(router, config, config.export_rt)

    def next_hop_of(self, path: Path, *, neighbor: str, family: Family, is_prefix: bool) -> NextHop:
        """The abstract next hop of a route that `neighbor` announced, by the VRF's `resolve`; `is_prefix`: type 5."""
        ipv6 = family is Family.IPV6_UNICAST
        if self.config.resolve == "peer":
            return abstract_next_hop(self.name, b"", peer=neighbor, ipv6=ipv6)
        by_gateway = self.config.resolve == "gateway-ip"
        gateway = path.overlay.gateway_ip if path.overlay is not None else b""
        if is_prefix and by_gateway and gateway:
            return abstract_next_hop(self.name, gateway, ipv6=ipv6)
        address = path.next_hop.address if path.next_hop is not None else b""
        if is_link_local(address):
            address = b""
        peer = neighbor if by_gateway or not is_prefix else ""
        return abstract_next_hop(self.name, address, peer=peer, ipv6=ipv6)

    def on_link(self, family: Family, prefixes: Collection[bytes]) -> list[tuple[bytes, str]]:
        """Those of `prefixes` that are addresses on an uplink's subnet, with the reason why they need no route."""
        heads = self._subnets.get(address_length(family))
        if not heads:
            return []
        joined = b"".join(prefixes)
        if not any(head in joined for head in heads):
            return []
        found = []
        for prefix in [one for one in prefixes if one.startswith(heads)]:
            for uplink in self._resolver.uplinks():
                if uplink.holds(prefix[1:]):
                    found.append((prefix, f"on the subnet of uplink {uplink.name}, which needs no route to it"))
                    break
        return found

    def expand(self, next_hop: NextHop) -> NextHops:
        """The gateways on uplinks that an abstract next hop of this VRF leads to now; () if it does not resolve."""
        return self._resolver.resolve(next_hop).next_hops

    def resolve(self, next_hop: NextHop) -> str:
        """Why an abstract next hop of this VRF does not resolve, or ""; changes are told from now on."""
        return self._resolver.resolve(next_hop).why

    def resolution(self, next_hop: NextHop) -> Resolution:
        """How an abstract next hop resolves, step by step."""
        return self._resolver.resolve(next_hop)

    def unresolved(self) -> dict[NextHop, str]:
        """The abstract next hops that lead nowhere, and why."""
        answers = {next_hop: self._resolver.resolve(next_hop) for next_hop in self._resolver.watched()}
        return {next_hop: answer.why for next_hop, answer in answers.items() if answer.why}

    @property
    def uplinks(self) -> tuple[Uplink, ...]:
        return self._resolver.uplinks()

    def uplinks_changed(self, uplinks: Mapping[str, Uplink]) -> bool:
        """The uplinks are now these; whether their subnets are others than before."""
        former = self._subnets
        self._subnets = {}
        for size in (4, 16):
            subnets = [subnet for one in uplinks.values() for subnet in one.addresses if len(subnet[0]) == size]
            heads = {bytes((size * 8,)) + own[: length >> 3] for own, length in subnets if not is_link_local(own)}
            self._subnets[size] = tuple(sorted(heads))
        self._tell(self._resolver.uplinks_changed(uplinks))
        return former != self._subnets

    def host_routes_changed(self, family: Family, keys: AbstractSet[bytes]) -> None:
        """Routes of these keys changed in the VRF's table: what rests on host routes among them is resolved again."""
        touched = keys & self._resolver.rests_on(address_length(family))
        if touched:
            self._tell(self._resolver.host_routes_changed([key[1:] for key in touched]))

    def _tell(self, changed: Mapping[NextHop, Resolution]) -> None:
        for next_hop, resolution in changed.items():
            self._events.expansion_changed(self.name, next_hop)
            self._events.next_hop_changed(self.name, next_hop, resolution.why)
