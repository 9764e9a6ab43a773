"""What travels between speaker, RIB, EVPN and FIB: next hops, route batches, sources and paths.

All are shared by the routes that have them, so that no object is made per route. They do no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.prefix import format_address


class NextHop(msgspec.Struct, frozen=True, gc=False, order=True, cache_hash=True):
    """A gateway: packed address (4 or 16 bytes), and the interface that scopes it if it is link-local ("" if global).

    An empty address with an interface is a directly attached destination (`dev X scope link`). An interface that starts
    with "@" is none: the next hop is recursive, and whoever made it says which real ones it leads to.
    `weight` is the ECMP weight, 1 to 65536.
    """

    address: bytes
    interface: str = ""
    weight: int = 1

    @property
    def is_recursive(self) -> bool:
        """Whether something resolves it: EVPN to uplinks, a service to its backends."""
        return self.interface[:1] == "@"

    def __str__(self) -> str:
        if self.is_recursive:
            return format_address(self.address) if self.address else f"neighbor {self.interface.partition(':')[2]}"
        text = format_address(self.address) if self.address else "link"
        return f"{text}%{self.interface}" if self.interface else text


NextHops = tuple[NextHop, ...]
"""What the FIB forwards a route by: next hops, ascending, without duplicates. Never empty; interned by the RIB, so that
equal sets are one object. None in its place means "no kernel route of ours" (withdrawn, or a local route)."""


BLACKHOLE: NextHops = (NextHop(address=b"", interface=""),)
"""The next hops of a route that discards what matches it (RTN_BLACKHOLE), such as the block under an aggregate.

Its only member has neither an address nor an interface. Compare with `==`.
"""


class Overlay(msgspec.Struct, frozen=True, weakref=True, cache_hash=True):
    """Fields of an EVPN route outside its key (RFC 7432 section 7.2, RFC 9136 section 3.1).

    `labels` are raw 24-bit fields: VNIs (RFC 8365 section 5.1.3); () where the routes that share it have labels of
    their own, and none is 0 (RouteBatch.labels, rib/route_labels.py). `gateway_ip` is packed, b"" if zero or absent.
    """

    esi: bytes
    labels: tuple[int, ...]
    gateway_ip: bytes = b""


class RouteBatch(msgspec.Struct, frozen=True, gc=False):
    """The routes of one UPDATE for one family: withdrawn keys first, then announced keys that share attributes.

    `attributes` is None exactly when nothing is announced. `next_hop` is None for EVPN routes without one. `labels` are
    those of each announced route, in the same order, as in its NLRI, where not all have those of the overlay. Of a key
    that stands there twice the last one counts.
    """

    family: Family
    withdrawn: Sequence[bytes] = ()
    announced: Sequence[bytes] = ()
    attributes: Attributes | None = None
    next_hop: NextHop | None = None
    overlay: Overlay | None = None
    labels: Sequence[bytes] | None = None


class SourceKind(enum.StrEnum):
    """Where a path came from."""

    EBGP = "ebgp"
    IBGP = "ibgp"
    WORKLOAD = "workload"
    AGGREGATE = "aggregate"
    EVPN = "evpn"


_WORKLOAD, _AGGREGATE = SourceKind.WORKLOAD, SourceKind.AGGREGATE
"""By themselves, since each look-up of an enum's member costs as much as the comparison."""


class Source(msgspec.Struct, frozen=True, eq=False, kw_only=True, weakref=True):
    """Who a path was learned from: one established session of a neighbor, or a local origin.

    A new session of the same neighbor is a new Source, so that what the old one said can be removed while the new one
    already speaks. `name` is unique and stable over restarts and orders candidates. Compares by identity.
    `router_id` is 4 bytes, `address` packed (b"" for local origins). `asn` is the neighbor's. `origin`, of routes that
    EVPN routes stand for, tells the host that made them, whoever passed them on (model/evpn.py). `guest`: the
    [[workload.bgp]] of a guest of this host, "" of a neighbor. `order` is what tells two sources apart at last (RFC
    4271 section 9.1.2.2 f and g), lower is better. It and `is_local` follow from the others.
    """

    name: str
    kind: SourceKind
    asn: int = 0
    router_id: bytes = b"\0\0\0\0"
    address: bytes = b""
    interface: str = ""
    origin: bytes = b""
    guest: str = ""
    order: tuple[bytes, bytes, str] = (b"", b"", "")
    is_local: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "order", (self.router_id, self.address, self.name))
        msgspec.structs.force_setattr(self, "is_local", self.kind is _WORKLOAD or self.kind is _AGGREGATE)


class Via(msgspec.Struct, eq=False, gc=False):
    """What paths that came the same way have in common, whatever their attributes are: many of them share one.

    `rejected` says why policy or loop detection keeps them from being used ("" if they may be). `heard_at` is the
    wall-clock time in seconds at which the first of them was heard. None of this changes. Kept by the one table that
    their keys are in, as of `epoch`: `is_usable`, whether they can be used now, and `next_hops`, by which a route goes
    that has no other path. Compares by identity.
    """

    source: Source
    next_hop: NextHop | None
    heard_at: float
    rejected: str = ""
    overlay: Overlay | None = None
    next_hops: NextHops | None = None
    epoch: int = -1
    is_usable: bool = False


class Path(msgspec.Struct, eq=False, gc=False):
    """One way to routes, shared by all routes that have it: source, attributes after import policy, next hop.

    `received` are the attributes before policy. What paths of other attributes have, too, is in `via`: source, next
    hop, and when they were heard, within the coarseness that the RIB interns by; unicast routes that are repeated keep
    it. None of this changes. Compares by identity.

    While it is the only candidate of a key it is that key's decision, too, and answers to what a decision over several
    does. What belongs to that is kept by the one table that its keys are in: in `via`, and here `routes`, the keys that
    have it alone, and `keys`, those that have it among their candidates. `entered` is what its Adj-RIB-In finds it by
    (None: it is not to be found). There may be a path for each route: it has no more fields than it needs.
    """

    via: Via
    attributes: Attributes
    received: Attributes
    entered: Hashable | None = None
    keys: int = 0
    routes: int = 0

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
