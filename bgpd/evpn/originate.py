"""The EVPN routes of this host: what of a VRF is advertised to the fabric, and how
(RFC 9136 section 4.1, RFC 7432, RFC 9012).

Each prefix of the VRF that this host announces (or passes on for a router in the VRF, with its AS path) becomes a type
5 route whose gateway IP is this host's address on the uplink to the neighbor that receives it (`for_neighbor`, like
next-hop-self); each address of an uplink a type 2 route with the uplink's MAC, by which the fabric resolves that
gateway; each workload with a MAC a type 2 route of its own. Level-triggered: a change only names keys; their present
state is then advertised. Never decides whether a workload is on this host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from bgpd.evpn.mac_mobility import Endpoint, Mobility, encode_mobility
from bgpd.evpn.ports import RibPort
from bgpd.evpn.resolve import Uplink
from bgpd.evpn.vrf import Vrf
from bgpd.model.attributes import Attributes
from bgpd.model.communities import VXLAN
from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.iana import EvpnRouteType, Family
from bgpd.model.path import Path
from bgpd.model.prefix import is_link_local, key_address, network_key
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind

EVPN_SOURCE = Source(name="evpn", kind=SourceKind.WORKLOAD)
"""The origin of this host's EVPN routes in the EVPN table."""

SELF_GATEWAY = b"\0"
"""In place of a gateway IP: this host's address on the uplink to whoever receives it; no address has this length."""

_ESI_ZERO = bytes(10)
_ATTRIBUTES_KEPT = 4096
"""Of VRFs with what was learned or is told of hosts, so that routes of the same are announced with one object."""
_IP_PREFIX = int(EvpnRouteType.IP_PREFIX)
_KEY_LENGTHS = {18: 4, 30: 16}
"""Address bytes by the length of a type 5 key."""


class Originator:
    """What is advertised of all VRFs."""

    def __init__(self, rib: RibPort) -> None:
        self._rib = rib
        self._vrfs: dict[str, Vrf] = {}
        self._prefixes: dict[str, dict[bytes, Attributes]] = {}
        self._uplink_routes: dict[str, dict[bytes, None]] = {}
        self._endpoints: dict[str, dict[bytes, Mobility]] = {}
        self._attributes: dict[tuple[object, ...], Attributes] = {}

    def vrf_added(self, vrf: Vrf) -> None:
        """Routes of this VRF may be advertised from now on."""
        self._vrfs[vrf.name] = vrf
        self._prefixes[vrf.name] = {}
        self._uplink_routes[vrf.name] = {}
        self._endpoints[vrf.name] = {}

    def vrf_removed(self, name: str) -> None:
        """Withdraw all that was advertised of a VRF."""
        del self._vrfs[name]
        keys = [*self._prefixes.pop(name), *self._uplink_routes.pop(name), *self._endpoints.pop(name)]
        self._withdraw(keys)

    def prefixes_changed(self, vrf: str, family: Family, announced: Mapping[bytes, Path | None]) -> None:
        """These prefixes of a VRF (route keys) are announced by this host now, as this path; None: not at all."""
        where = self._vrfs.get(vrf)
        if where is None:
            return
        advertised = self._prefixes[vrf]
        gone = []
        fresh: dict[Attributes, list[bytes]] = {}
        for prefix, path in announced.items():
            key = _prefix_key(where.rd, family, prefix)
            if path is None:
                if advertised.pop(key, None) is not None:
                    gone.append(key)
                continue
            if path.source.is_local:
                attributes = self._carried(where, communities=path.attributes.extended_communities)
            else:
                attributes = self._carried(where, path.attributes)
            if advertised.get(key) is not attributes:
                advertised[key] = attributes
                fresh.setdefault(attributes, []).append(key)
        for attributes, keys in fresh.items():
            self._announce(where, keys, attributes, gateway_ip=SELF_GATEWAY)
        self._withdraw(gone)

    def advertised(self, vrf: str, family: Family, keys: Collection[bytes]) -> list[bytes]:
        """Those of these prefixes (route keys) that are advertised."""
        where, advertised = self._vrfs.get(vrf), self._prefixes.get(vrf)
        if where is None or not advertised:
            return []
        return [key for key in keys if _prefix_key(where.rd, family, key) in advertised]

    def route_of(self, vrf: str, family: Family, key: bytes) -> bytes | None:
        """The key of the route that a prefix (its route key) is advertised as; None if it is not."""
        where = self._vrfs.get(vrf)
        found = _prefix_key(where.rd, family, key) if where is not None else b""
        return found if found in self._prefixes.get(vrf, ()) else None

    def prefix_of(self, key: bytes) -> tuple[str, Family, bytes] | None:
        """VRF, family and route key of the prefix that a type 5 route of this host is about; None for any other."""
        size = _KEY_LENGTHS.get(len(key), 0) if key[0] == _IP_PREFIX else 0
        vrf = next((name for name, vrf in self._vrfs.items() if vrf.rd == key[1:9]), None)
        if vrf is None or not size:
            return None
        family = Family.IPV4_UNICAST if size == 4 else Family.IPV6_UNICAST
        return vrf, family, network_key(key[14:], key[13])

    def uplinks_changed(self, vrf: str, uplinks: Iterable[Uplink], mac: Callable[[str], bytes]) -> None:
        """The uplinks of a VRF are now these; each address of one that is up is advertised with the uplink's MAC."""
        where = self._vrfs[vrf]
        wanted: dict[bytes, None] = {}
        for uplink in uplinks:
            own = mac(uplink.name)
            for address, _ in uplink.addresses if uplink.up and own else ():
                if not is_link_local(address):
                    wanted[mac_ip_key(where.rd, mac=own, ip=address)] = None
        former, self._uplink_routes[vrf] = self._uplink_routes[vrf], wanted
        self._announce(where, [key for key in wanted if key not in former], self._carried(where))
        self._withdraw([key for key in former if key not in wanted])

    def endpoints_changed(self, changes: Mapping[Endpoint, Mobility | None]) -> None:
        """Workloads' MACs and addresses are advertised with this mobility; None: not any more."""
        fresh: dict[tuple[str, Mobility], list[bytes]] = {}
        gone = []
        for endpoint, mobility in changes.items():
            where = self._vrfs.get(endpoint.vrf)
            if where is None:
                continue
            advertised = self._endpoints[endpoint.vrf]
            key = mac_ip_key(where.rd, mac=endpoint.mac, ip=endpoint.ip)
            if mobility is None:
                if advertised.pop(key, None) is not None:
                    gone.append(key)
            elif advertised.get(key) != mobility:
                advertised[key] = mobility
                fresh.setdefault((endpoint.vrf, mobility), []).append(key)
        for (name, mobility), keys in fresh.items():
            vrf = self._vrfs[name]
            self._announce(vrf, keys, self._carried(vrf, communities=encode_mobility(mobility)))
        self._withdraw(gone)

    def _carried(
        self, vrf: Vrf, learned: Attributes | tuple[()] = (), communities: tuple[bytes, ...] = ()
    ) -> Attributes:
        """The attributes of a route: the VRF's targets and encapsulation, and `communities` (link bandwidth, say); of a
        learned one also its own attributes.
        """
        carried = (*vrf.export_targets, VXLAN, *communities)
        key = (learned, *carried)
        attributes = self._attributes.get(key)
        if attributes is None:
            if learned:
                attributes = learned.changed(local_pref=None, med=None, extended_communities=carried)
            else:
                attributes = Attributes.of(extended_communities=carried)
            if len(self._attributes) >= _ATTRIBUTES_KEPT:
                self._attributes.clear()
            self._attributes[key] = attributes
        return attributes

    def _announce(self, vrf: Vrf, keys: list[bytes], attributes: Attributes, *, gateway_ip: bytes = b"") -> None:
        if keys:
            overlay = Overlay(_ESI_ZERO, (vrf.config.vni,), gateway_ip)
            self._rib.announce_local(EVPN_SOURCE, Family.L2VPN_EVPN, keys, attributes, overlay=overlay)

    def _withdraw(self, keys: list[bytes]) -> None:
        if keys:
            self._rib.withdraw_local(EVPN_SOURCE, Family.L2VPN_EVPN, keys)

    def for_neighbor(self, batch: RouteBatch, neighbor: str) -> list[RouteBatch]:
        """A batch as `neighbor` is to receive it: with this host's address on the uplink to it as the gateway IP.

        Prefixes of a VRF without an uplink to that neighbor, or without an address of their family on it, are
        withdrawn from it instead: nothing would reach them.
        """
        if batch.overlay is None or batch.overlay.gateway_ip != SELF_GATEWAY:
            return [batch]
        by_gateway: dict[bytes, list[bytes]] = {}
        by_rd = {vrf.rd: vrf for vrf in self._vrfs.values()}
        known: dict[tuple[bytes, int], bytes] = {}
        for key in batch.announced:
            place = key[1:9], len(key)
            if place not in known:
                known[place] = _gateway(by_rd.get(place[0]), neighbor, _KEY_LENGTHS[place[1]])
            by_gateway.setdefault(known[place], []).append(key)
        withdrawn = [*batch.withdrawn, *by_gateway.pop(b"", ())]
        batches = [RouteBatch(family=batch.family, withdrawn=withdrawn)] if withdrawn else []
        for gateway, keys in by_gateway.items():
            overlay = msgspec.structs.replace(batch.overlay, gateway_ip=gateway)
            batches.append(msgspec.structs.replace(batch, withdrawn=(), announced=keys, overlay=overlay))
        return batches


def _gateway(vrf: Vrf | None, neighbor: str, size: int) -> bytes:
    """This host's address of `size` bytes on an uplink to the neighbor that is up; b"" if there is none."""
    for uplink in vrf.uplinks if vrf is not None else ():
        if uplink.up and uplink.neighbor == neighbor and (address := uplink.address_for(size)):
            return address
    return b""


def _prefix_key(rd: bytes, family: Family, key: bytes) -> bytes:
    return prefix_key(rd, prefix=key_address(family, key), prefix_length=key[0])
