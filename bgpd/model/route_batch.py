"""The routes that one UPDATE says, or several that are alike: from the speaker to RIB and EVPN.

No object is made per route.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop


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
