"""What is known of one nexthop and of one group, and what their loss asks of the kernel. Values only."""

from __future__ import annotations

import math

import msgspec

from bgpd.kernel.nexthop_messages import Members
from bgpd.model.next_hop import NextHop


class Nexthop(msgspec.Struct, eq=False, kw_only=True):
    """One gateway on one interface. `present`: the kernel has acknowledged it. `groups` are ids of groups it is in."""

    id: int
    hop: NextHop
    ifindex: int
    present: bool = False
    groups: set[int] = msgspec.field(default_factory=set)


class Group(msgspec.Struct, eq=False, kw_only=True):
    """What routes point at. `routes` counts them over all tables. `reduced`: it once had, or should have, more
    members. `bound`: it stands for recursive next hops, so that no other route may use it for its members.
    `claimable`: an earlier run left it, and nobody has used it yet. `source`: the preferred source (packed) of all
    routes that point at it. The kernel keeps it with each route; here a route whose source changes changes its group,
    as it does for other next hops.
    """

    id: int
    members: Members
    present: bool = False
    reduced: bool = False
    bound: bool = False
    claimable: bool = False
    resilient: bool = False
    source: bytes = b""
    routes: int = 0
    unused_since: float | None = None


class Loss(msgspec.Struct, kw_only=True):
    """Result of deleting nexthops: `urgent` messages, `ordered` messages to send after queued ones (they concern groups
    that the kernel may not have yet), `changed` groups, and groups deleted with their routes (`died`). `behind` are the
    groups that `ordered` messages change."""

    urgent: bytes = b""
    ordered: bytes = b""
    messages: int = 0
    deletes: int = 0
    changed: list[int] = []
    died: list[int] = []
    behind: list[int] = []


def ratio(members: Members) -> Members:
    """The members with the smallest weights that spread alike: what is left of a weighted group may do as it is."""
    divisor = math.gcd(*(weight for _, weight in members))
    return members if divisor <= 1 else tuple((nexthop, weight // divisor) for nexthop, weight in members)
