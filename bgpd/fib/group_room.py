"""How many nexthop groups may be made, and for whom.

Each set of next hops is a group: two neighbors with 1,024 next hops each could make the kernel keep a million groups.
Part of the limit is reserved for sets of neighbors' own addresses, and a single such address always gets a group. So a
neighbor that advertises many third-party next hops cannot use up what other neighbors need. Half of that part any next
hop may have for a group of its own, so that a route beyond the limit has one of its next hops. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

MOST_GROUPS = 16_384
NO_ROOM = f"there are {MOST_GROUPS} sets of next hops already, and no room for another"
_RESERVED_PART = 8
"""One group in this many is reserved for sets of neighbors' own addresses."""


class GroupRoom:
    """Bounds the number of groups of all tables. `wanted`: one was not made, since there were that many; else 0."""

    def __init__(self) -> None:
        self.wanted = 0
        self.neighbors: AbstractSet[bytes] = frozenset()
        self._neighbors_of: dict[str, AbstractSet[bytes]] = {}

    def reserve_for(self, vrf: str, neighbors: AbstractSet[bytes]) -> None:
        """Keep room for gateways at these addresses (packed), which are the neighbors of a VRF."""
        self._neighbors_of[vrf] = neighbors
        self.neighbors = frozenset().union(*self._neighbors_of.values())

    def is_left(self, count: int, *, of_neighbors: bool = False, is_one: bool = False) -> bool:
        """Whether, of so many, there may be one more: of neighbors' own addresses, of one next hop, or another."""
        reserved = 0 if of_neighbors else MOST_GROUPS // _RESERVED_PART
        most = MOST_GROUPS - (reserved // 2 if is_one else reserved)
        if count < most:
            return True
        self.wanted = max(self.wanted, most)
        return False

    def came(self, count: int) -> bool:
        """Whether a group that was not made could be made now; answered once."""
        came = count < self.wanted
        if came:
            self.wanted = 0
        return came
