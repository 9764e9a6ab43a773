"""Who says a route: a session of a neighbor, or this host itself."""

from __future__ import annotations

import enum

import msgspec


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
