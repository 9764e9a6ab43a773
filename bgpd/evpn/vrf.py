"""One VRF: its route distinguisher and targets, what its routes name as next hop, and where that leads.

Joins the resolver with the VRF's host routes and uplinks, and reports what changed. A next hop stays recursive in the
RIB (resolve.py), so that a change costs as many steps as there are next hops, not routes. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

from bgpd.config.schema import RouterConfig, VrfConfig
from bgpd.config.words import vrf_distinguisher, vrf_targets
from bgpd.evpn.resolve import HostRoutes, Resolution, Resolver, Uplink, recursive_next_hop
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import address_length, is_link_local


class VrfListener(Protocol):
    """Who is notified of changes of a VRF's next hops."""

    def resolution_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """A recursive next hop leads elsewhere now; `why` it leads nowhere, or ""."""


class Vrf:
    """A configured VRF. `rd` and the targets are 8 bytes each, as on the wire."""

    def __init__(
        self, config: VrfConfig, router: RouterConfig, *, host_routes: HostRoutes, listener: VrfListener
    ) -> None:
        self.name = config.name
        self.configure(config, router)
        self._listener = listener
        self._resolver = Resolver(config.name, host_routes)
        self._subnets: dict[int, tuple[bytes, ...]] = {}

    def configure(self, config: VrfConfig, router: RouterConfig) -> None:
        """Use other settings; what was asked for stays watched."""
        self.config = config
        self.rd = vrf_distinguisher(router, config)
        self.import_targets = vrf_targets(router, config, config.import_rt)
        self.export_targets = vrf_targets(router, config, config.export_rt)

    def next_hop_of(self, path: Path, *, neighbor: str, family: Family, is_prefix: bool) -> NextHop:
        """The recursive next hop of a route that `neighbor` announced, by the VRF's `resolve`; `is_prefix`: type 5."""
        ipv6 = family is Family.IPV6_UNICAST
        if self.config.resolve == "peer":
            return recursive_next_hop(self.name, b"", peer=neighbor, ipv6=ipv6)
        by_gateway = self.config.resolve == "gateway-ip"
        gateway = path.overlay.gateway_ip if path.overlay is not None else b""
        if is_prefix and by_gateway and gateway:
            return recursive_next_hop(self.name, gateway, ipv6=ipv6)
        address = path.next_hop.address if path.next_hop is not None else b""
        if is_link_local(address):
            address = b""
        peer = neighbor if by_gateway or not is_prefix else ""
        return recursive_next_hop(self.name, address, peer=peer, ipv6=ipv6)

    def on_link(self, family: Family, prefixes: Collection[bytes]) -> list[tuple[bytes, str]]:
        """Those of `prefixes` that are addresses on an uplink's subnet, with the reason why they need no route."""
        heads = self._subnets.get(address_length(family))
        if not heads:
            return []
        if len(prefixes) > 1:
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

    def resolve(self, next_hop: NextHop) -> NextHops:
        """The gateways on uplinks that a recursive next hop of this VRF leads to now; () if it does not resolve."""
        return self._resolver.resolve(next_hop).next_hops

    def why_unreachable(self, next_hop: NextHop) -> str:
        """Why a recursive next hop of this VRF does not resolve, or ""; changes are reported from now on."""
        return self._resolver.resolve(next_hop).why

    def forget(self, next_hops: Collection[NextHop]) -> None:
        """No route has these any more; what becomes of them is not reported before they are asked for again."""
        self._resolver.forget(next_hops)

    def resolution(self, next_hop: NextHop) -> Resolution:
        """How a recursive next hop resolves, step by step."""
        return self._resolver.resolve(next_hop)

    def unresolved(self) -> dict[NextHop, str]:
        """The recursive next hops that lead nowhere, and why."""
        answers = {next_hop: self._resolver.resolve(next_hop) for next_hop in self._resolver.watched()}
        return {next_hop: answer.why for next_hop, answer in answers.items() if answer.why}

    @property
    def uplinks(self) -> tuple[Uplink, ...]:
        """The uplinks that its next hops are resolved to."""
        return self._resolver.uplinks()

    @property
    def gateway_ips(self) -> set[tuple[str, bytes]]:
        """By neighbor, this host's addresses on the uplinks to it: the gateway IPs that it is sent."""
        return {
            (uplink.neighbor, address)
            for uplink in self.uplinks
            if uplink.up and uplink.neighbor
            for address in (uplink.address_for(4), uplink.address_for(16))
            if address
        }

    def uplinks_changed(self, uplinks: Mapping[str, Uplink]) -> bool:
        """The uplinks are now these; whether their subnets are others than before."""
        former = self._subnets
        self._subnets = {}
        for size in (4, 16):
            subnets = [subnet for one in uplinks.values() for subnet in one.addresses if len(subnet[0]) == size]
            heads = {bytes((size * 8,)) + own[: length >> 3] for own, length in subnets if not is_link_local(own)}
            self._subnets[size] = tuple(sorted(heads))
        self._report(self._resolver.uplinks_changed(uplinks))
        return former != self._subnets

    def host_routes_changed(self, family: Family, keys: AbstractSet[bytes]) -> None:
        """Routes of these keys changed in the VRF's table: what rests on host routes among them is resolved again."""
        touched = keys & self._resolver.rests_on(address_length(family))
        if touched:
            self._report(self._resolver.host_routes_changed([key[1:] for key in touched]))

    def _report(self, changed: Mapping[NextHop, Resolution]) -> None:
        for next_hop, resolution in changed.items():
            self._listener.resolution_changed(self.name, next_hop, resolution.why)
