"""Link bandwidths (RFC 10005): what leaves and hosts say of their routes, and how packets should be spread because of
it. Worked out from whole numbers, and not by bgpd's own ratios.

Bandwidths here are small multiples of one unit, so that the smallest whole numbers in their ratio are exact.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bgpd.simulation import tenants
from bgpd.simulation.wire import AS_TRANS

if TYPE_CHECKING:
    from bgpd.simulation.fabric import Fabric
    from bgpd.simulation.host import SimulatedHost
    from bgpd.simulation.router import Router

UNIT = 125_000.0
"""Bytes per second: what a host says of one backend of weight 1 by default, and what leaves say multiples of."""
_TYPE = b"\0\4"
"""Transitive, of a two-octet AS."""
Hop = TypeVar("Hop")


def community(asn: int, units: int) -> bytes:
    """The extended community."""
    return _TYPE + struct.pack("!Hf", asn if asn < 1 << 16 else AS_TRANS, units * UNIT)


def said(extended: Iterable[bytes]) -> int | None:
    """How many units extended communities say; None: nothing."""
    return next((round(struct.unpack("!f", one[4:])[0] / UNIT) for one in extended if one[:2] == _TYPE), None)


def shares(units: Mapping[Hop, int | None]) -> dict[Hop, int]:
    """How packets should be spread over next hops: by what is said of each, if it is said of all; else alike."""
    known = [one for one in units.values() if one]
    if len(known) < len(units):
        return dict.fromkeys(units, 1)
    least = math.gcd(*known)
    return {hop: (one or least) // least for hop, one in units.items()}


def announced_by(fabric: Fabric, host: SimulatedHost, leaf: str, name: str) -> int | None:
    """What a leaf says of a route of its own, or of another one, to a host; it may have been away for long."""
    is_away = leaf in host.kept and not fabric.is_connected(leaf, host.name)
    route = (host.kept[leaf].routes if is_away else fabric.routers[leaf].own).get(name)
    return said(route.extended) if route is not None else None


def say(leaf: Router, names: Iterable[str], units: int) -> list[str]:
    """Have a leaf say so of those of its routes; 0: nothing. Answers which are others than before."""
    changed = []
    for name in names:
        route = leaf.own.get(name)
        if route is None:
            continue
        others = tuple(one for one in route.extended if one[:2] != _TYPE)
        extended = (*others, community(leaf.asn, units)) if units else others
        if extended != route.extended:
            leaf.own[name] = msgspec.structs.replace(route, extended=extended)
            changed.append(name)
    return changed


def names(fabric: Fabric, leaf: Router) -> list[str]:
    """The routes that leaves say it of: what all of them announce."""
    elsewhere = [tenants.elsewhere(leaf, one, is_v6=v6) for one in fabric.tenants for v6 in tenants.families(fabric)]
    return [*ANYCAST, *elsewhere]


ANYCAST = ("203.0.113.0/24", "2001:db8::/48")
"""What each leaf announces."""
