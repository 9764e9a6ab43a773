"""What a drained host sends its neighbors: its routes with GRACEFUL_SHUTDOWN (RFC 8326), or none.

Applied after export policy, to all sessions and families but route targets (RFC 4684), which say what this host wants
to receive. IBGP neighbors are also sent LOCAL_PREF 0, which every router compares. Never decides when a stage begins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet

from bgpd.model.attributes import Attributes
from bgpd.model.drain import DrainStage
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN, Family
from bgpd.model.path import Path
from bgpd.model.prefix import VrfKey
from bgpd.rib.loc_rib import LocRib


class DrainedRoutes:
    """The stage of this host, and `kept`: the services that stay announced, since no other host announces them.

    `tables` are those of the RIB; `prefix_of` gives the prefix of a VRF that an EVPN route of this host stands for.
    """

    prefix_of: Callable[[bytes], VrfKey | None]

    def __init__(self, tables: Mapping[tuple[str, Family], LocRib]) -> None:
        self.stage = DrainStage.OFF
        self.kept: AbstractSet[VrfKey] = frozenset()
        self._tables = tables

    def withholds(self, family: Family) -> bool:
        """Whether routes of a family may have to be withheld."""
        return self.stage >= DrainStage.SERVICES and family is not Family.ROUTE_TARGET

    def is_withheld(self, table: LocRib, key: bytes, best: Path) -> bool:
        """Whether the neighbors are not sent a route because of the drain; `best` is its best path."""
        if not self.withholds(table.family):
            return False
        if self.stage is DrainStage.ALL:
            return True
        if not best.source.is_local:
            return False
        place: VrfKey | None = (table.vrf, table.family, key)
        if table.family is Family.L2VPN_EVPN:
            place = self.prefix_of(key)
        if place is None or place in self.kept:
            return False
        found = self._tables.get(place[:2])
        return found is not None and place[2] in found.services

    def lowered(self, attributes: Attributes, family: Family, *, is_ibgp: bool) -> Attributes:
        """The attributes of a route as a neighbor is sent them."""
        if self.stage is DrainStage.OFF or family is Family.ROUTE_TARGET:
            return attributes
        fields: dict[str, object] = {}
        if not attributes.has_community(COMMUNITY_GRACEFUL_SHUTDOWN):
            fields["communities"] = (*attributes.communities, COMMUNITY_GRACEFUL_SHUTDOWN)
        if is_ibgp and attributes.local_pref != 0:
            fields["local_pref"] = 0
        return attributes.changed(**fields) if fields else attributes

    def services(self) -> Iterator[VrfKey]:
        """The service addresses that this host would announce."""
        for (vrf, family), table in self._tables.items():
            for key in table.services & table.local.keys():
                yield vrf, family, key

    def is_last(self, place: VrfKey, own_asns: Collection[bytes]) -> bool:
        """Whether no other host is seen to announce a service address for longer than a drain of its own.

        What a neighbor says counts although policy rejects it. What one said that is away now (a stale route, RFC 4724)
        does not: nobody says that it still holds. A path with one of this host's own AS numbers (packed) that is
        rejected may be what this host announced itself, come back.
        """
        table, key = self._tables[place[:2]], place[2]
        decision, stale_of = table.routes.get(key), table.stale_of()
        for path in decision.candidates if decision is not None else ():
            received = path.received
            is_echo = bool(path.rejected) and any(asn in received.packed_as_path for asn in own_asns)
            is_lowered = received.has_community(COMMUNITY_GRACEFUL_SHUTDOWN)
            if not (path.source.is_local or is_echo or is_lowered or stale_of(path, key)):
                return False
        return True
