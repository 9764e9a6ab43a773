"""How an address is spread over its backends, and how strong this host is among those that announce it.

The kernel's members have the weights of the backends; several backends with one address are one member with their sum.
Strength is the sum of all: the link bandwidth (RFC 10005) that the fabric's ECMP goes by, so that hosts receive in
proportion to their backends. Decides nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import key_address
from bgpd.workload.service.targets import Target

HEAVIEST = 256
"""What every kernel's nexthop groups take."""


def members_of(targets: Iterable[Target]) -> NextHops:
    """What the kernel spreads an address over, ascending; weights that it does not take are made smaller, all alike."""
    weights: Counter[tuple[bytes, str]] = Counter()
    for target in targets:
        weights[key_address(target.family, target.key), target.interface] += target.backend.weight
    excess = max(weights.values(), default=0) / HEAVIEST
    if excess > 1:
        weights = Counter({where: max(1, round(weight / excess)) for where, weight in weights.items()})
    return tuple(sorted(NextHop(address, interface, weight) for (address, interface), weight in weights.items()))


def strength_of(targets: Iterable[Target]) -> int:
    """The sum of the weights."""
    return sum(target.backend.weight for target in targets)
