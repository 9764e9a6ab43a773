"""Route target membership (RFC 4684): the route targets that each neighbor asks for, and those that this host asks for.

This host asks for the import targets of its VRFs. A neighbor that negotiated the family receives only EVPN routes
with a route target that it asked for: none before it asks. Others receive all. Never decides on anything else.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.communities import is_route_target, membership_key, membership_matches
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source


class Memberships:
    """What each established neighbor that negotiated the family asked for."""

    def __init__(self) -> None:
        self._asked: dict[str, set[bytes]] = {}
        self._sources: dict[str, Source] = {}

    def neighbor_up(self, neighbor: Source) -> None:
        """A neighbor negotiated the family."""
        self._asked[neighbor.name] = set()
        self._sources[neighbor.name] = neighbor

    def neighbor_down(self, neighbor: Source) -> None:
        """Its session ended."""
        if self._sources.get(neighbor.name) is neighbor:
            del self._sources[neighbor.name], self._asked[neighbor.name]

    def received(self, neighbor: Source, batch: RouteBatch) -> bool:
        """A batch of memberships; whether its EVPN routes must be sent again."""
        asked = self._asked.get(neighbor.name)
        if asked is None or self._sources[neighbor.name] is not neighbor:
            return False
        before = set(asked)
        asked.difference_update(batch.withdrawn)
        asked.update(batch.announced)
        return asked != before

    def wants(self, neighbor: str, attributes: Attributes) -> bool:
        """Whether routes with these attributes may be sent to a neighbor."""
        asked = self._asked.get(neighbor)
        if asked is None:
            return True
        targets = [one for one in attributes.extended_communities if is_route_target(one)]
        return any(membership_matches(key, target) for key in asked for target in targets)

    def filtered(self, batch: RouteBatch, neighbor: str) -> RouteBatch:
        """A batch as a neighbor may receive it: what it does not want is withdrawn from it."""
        if batch.family is not Family.L2VPN_EVPN or batch.attributes is None:
            return batch
        if self.wants(neighbor, batch.attributes):
            return batch
        withdrawn = (*batch.withdrawn, *batch.announced)
        return RouteBatch(family=batch.family, withdrawn=withdrawn)


class OwnMemberships(msgspec.Struct):
    """What this host asks for, and the difference to what it has advertised."""

    advertised: frozenset[bytes] = frozenset()

    def change(self, asn: int, targets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The keys to announce and those to withdraw, now that the VRFs import these route targets."""
        wanted = frozenset(membership_key(asn, target) for target in targets)
        fresh, gone = sorted(wanted - self.advertised), sorted(self.advertised - wanted)
        self.advertised = wanted
        return fresh, gone
