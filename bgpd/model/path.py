"""Paths: who says what about routes, and how it came. Routes that have the same share one: none is made for a route.

Compiled where a compiler is (docs/decisions/0021): the RIB reads and counts in fields of these for each route.
"""

from __future__ import annotations

from collections.abc import Hashable

from mypy_extensions import i32, mypyc_attr

from bgpd.model.attributes import Attributes
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source


@mypyc_attr(acyclic=True)
class Via:
    """What paths that came the same way have in common, whatever their attributes are: many of them share one.

    `rejected` says why policy or loop detection keeps them from being used ("" if they may be). `heard_at` is the
    wall-clock time in seconds at which the first of them was heard. None of this changes. Kept by the one table that
    their keys are in, as of `epoch`: `is_usable`, whether they can be used now, and `next_hops`, by which a route goes
    that has no other path. Compares by identity.
    """

    __slots__ = ("epoch", "heard_at", "is_usable", "next_hop", "next_hops", "overlay", "rejected", "source")

    def __init__(
        self,
        source: Source,
        next_hop: NextHop | None,
        heard_at: float,
        rejected: str = "",
        overlay: Overlay | None = None,
        next_hops: NextHops | None = None,
        epoch: int = -1,
        is_usable: bool = False,
    ) -> None:
        self.source = source
        self.next_hop = next_hop
        self.heard_at = heard_at
        self.rejected = rejected
        self.overlay = overlay
        self.next_hops = next_hops
        self.epoch = epoch
        self.is_usable = is_usable

    def heard_again(self, now: float) -> Via:
        """The same, of what is heard now."""
        return Via(
            self.source,
            self.next_hop,
            now,
            self.rejected,
            self.overlay,
            self.next_hops,
            self.epoch,
            self.is_usable,
        )


@mypyc_attr(acyclic=True)
class Path:
    """One way to routes, shared by all routes that have it: source, attributes after import policy, next hop.

    `received` are the attributes before policy. What paths of other attributes have, too, is in `via`: source, next
    hop, and when they were heard, within the coarseness that the RIB interns by; unicast routes that are repeated keep
    it. None of this changes. Compares by identity.

    While it is the only candidate of a key it is that key's decision, too, and answers to what a decision over several
    does. What belongs to that is kept by the one table that its keys are in: in `via`, and here `routes`, the keys that
    have it alone, and `keys`, those that have it among their candidates. `entered` is what its Adj-RIB-In finds it by
    (None: it is not to be found). There may be a path for each route: it has no more fields than it needs.
    """

    __slots__ = ("attributes", "entered", "keys", "received", "routes", "via")

    def __init__(
        self,
        via: Via,
        attributes: Attributes,
        received: Attributes,
        entered: Hashable | None = None,
        keys: i32 = 0,
        routes: i32 = 0,
    ) -> None:
        self.via = via
        self.attributes = attributes
        self.received = received
        self.entered = entered
        self.keys = keys
        self.routes = routes

    @staticmethod
    def of(
        source: Source,
        attributes: Attributes,
        next_hop: NextHop | None,
        received: Attributes,
        heard_at: float,
        rejected: str = "",
        overlay: Overlay | None = None,
        entered: Hashable | None = None,
    ) -> Path:
        """A path that shares nothing with another one."""
        return Path(Via(source, next_hop, heard_at, rejected, overlay), attributes, received, entered)

    @property
    def source(self) -> Source:
        """Who says it."""
        return self.via.source

    @property
    def next_hop(self) -> NextHop | None:
        """What it names as the next hop; None: a route of this host to itself."""
        return self.via.next_hop

    @property
    def heard_at(self) -> float:
        """When it came, in seconds since the epoch."""
        return self.via.heard_at

    @property
    def rejected(self) -> str:
        """Why it is not used, "" if it may be."""
        return self.via.rejected

    @property
    def overlay(self) -> Overlay | None:
        return self.via.overlay

    @property
    def is_usable(self) -> bool:
        """Whether it may be chosen."""
        return self.via.is_usable

    @property
    def next_hops(self) -> NextHops | None:
        """What the kernel forwards by, if it is the only path; None: no route."""
        return self.via.next_hops

    @property
    def candidates(self) -> tuple[Path, ...]:
        """Itself, as the decision of a key that has one path."""
        return (self,)

    @property
    def multipath(self) -> tuple[Path, ...]:
        """Itself if it is usable."""
        return (self,) if self.via.is_usable else ()

    @property
    def best(self) -> Path | None:
        """Itself, as the decision of a key that has one path; None: it is not usable."""
        return self if self.via.is_usable else None

    @property
    def is_local(self) -> bool:
        """Whether the route is this host's own."""
        via = self.via
        return via.is_usable and via.source.is_local

    def says_same_as(self, other: Path) -> bool:
        """Whether both say the same, but for when."""
        one, its = self.via, other.via
        is_same_way = one is its or (
            one.source is its.source
            and one.next_hop == its.next_hop
            and one.rejected == its.rejected
            and one.overlay == its.overlay
        )
        return is_same_way and self.received.same_as(other.received) and self.attributes.same_as(other.attributes)

    def path_of(self, name: str) -> Path | None:
        """The candidate of the source called `name`."""
        return self if self.via.source.name == name else None

    def role(self, path: Path) -> str:
        """What a candidate is for the route: "best", "lost" or "rejected"."""
        if path is self and self.via.is_usable:
            return "best"
        return "rejected" if path.rejected else "lost"
