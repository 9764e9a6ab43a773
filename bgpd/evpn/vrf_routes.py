"""Reads a VRF's prefixes from the RIB's tables for EVPN: host routes, remote hosts, and which of them are advertised.

Only reads. The RIB owns the tables and chooses between candidates.
"""

from __future__ import annotations

from bgpd.evpn.importer import Importer
from bgpd.evpn.mac_mobility import Remote, decode_mobility
from bgpd.evpn.ports import RibPort
from bgpd.evpn.vrf import Vrf
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import family_of, host_key
from bgpd.model.source import SourceKind


class VrfRoutes:
    """Reads the tables of all VRFs."""

    def __init__(self, rib: RibPort, importer: Importer) -> None:
        self._rib = rib
        self._importer = importer

    def host_route(self, vrf: str, address: bytes) -> NextHops | None:
        """The next hops of the type 2 routes of an address; (): it is a workload of this host; None: there is none."""
        prefix = host_key(address)
        decision = self._rib.table(vrf, family_of(address)).routes.get(prefix)
        if decision is None:
            return None
        if decision.is_local:
            return ()
        hosts = self._importer.host_sources
        chosen = [path for path in decision.multipath if path.source in hosts]
        chosen = chosen or [path for path in decision.candidates if path.source in hosts and not path.rejected]
        return tuple(dict.fromkeys(path.next_hop for path in chosen if path.next_hop is not None)) or None

    def remote(self, vrf: str, prefix: bytes) -> Remote | None:
        """The best remote type 2 route of a host prefix: sticky, else the highest sequence; then the lowest origin."""
        decision = self._rib.table(vrf, family_of(prefix[1:])).routes.get(prefix)
        found = [
            (decode_mobility(path.attributes.extended_communities), path.source.origin)
            for path in (decision.candidates if decision is not None else ())
            if path.source in self._importer.host_sources
        ]
        if not found:
            return None
        mobility, origin = min(found, key=lambda one: (*one[0].precedence, one[1]))
        return Remote(mobility, origin)

    def advertised(self, vrf: Vrf, family: Family, key: bytes) -> Path | None:
        """The path of a prefix that EVPN is to advertise: of this host, or of a neighbor in the VRF; None: none is."""
        table = self._rib.table(vrf.name, family)
        decision = table.routes.get(key)
        if decision is None or not decision.multipath:
            return None
        best = decision.multipath[0]
        if decision.is_local:
            return None if table.is_suppressed(key, best) else best
        is_passed_on = vrf.config.originate == "all" and best.source.kind is not SourceKind.EVPN
        return best if is_passed_on else None
