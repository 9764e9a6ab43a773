"""How an address is spread over its backends, and how strong this host is among those that announce it.

The kernel's members have the weights of the backends; several backends with one address are one member with their sum.
Strength is the sum of all: the link bandwidth (RFC 10005) that the fabric's ECMP goes by, so that hosts receive in
proportion to their backends. A backend that comes into service with a slow start has an eighth of its weight at first,
and more after each quarter of the time. Decides nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import key_address
from bgpd.workload.service.targets import Target

HEAVIEST = 256
"""What every kernel's nexthop groups take."""
WHOLE = 8
_EIGHTHS = (1, 2, 4, 6, WHOLE)
"""Of the weight, after none, one, two, three and four quarters of a slow start."""
_TICK = 1e-6
"""Timers may be so much too early."""


def members_of(targets: Collection[Target], *, slow_start_s: float = 0.0, now: float = 0.0) -> NextHops:
    """What the kernel spreads an address over, ascending; weights that it does not take are made smaller, all alike.

    Backends that have all come as far have the weights that were said.
    """
    eighths = [eighths_of(target, slow_start_s=slow_start_s, now=now) for target in targets]
    if len(set(eighths)) < 2:
        eighths = [1] * len(eighths)
    weights: Counter[tuple[bytes, str]] = Counter()
    for target, part in zip(targets, eighths):
        weights[key_address(target.family, target.key), target.interface] += part * target.backend.weight
    excess = max(weights.values(), default=0) / HEAVIEST
    if excess > 1:
        weights = Counter({where: max(1, round(weight / excess)) for where, weight in weights.items()})
    return tuple(sorted(NextHop(address, interface, weight) for (address, interface), weight in weights.items()))


def strength_of(targets: Iterable[Target], *, slow_start_s: float = 0.0, now: float = 0.0) -> float:
    """The sum of the weights."""
    parts = (eighths_of(target, slow_start_s=slow_start_s, now=now) * target.backend.weight for target in targets)
    return sum(parts) / WHOLE


def eighths_of(target: Target, *, slow_start_s: float, now: float) -> int:
    """The part of its weight that an address has now."""
    quarters = _quarters(target, slow_start_s, now)
    return WHOLE if quarters is None else _EIGHTHS[quarters]


def next_step(targets: Iterable[Target], *, slow_start_s: float, now: float) -> float | None:
    """When the next of these has more of its weight; None if all have all of it."""
    steps = []
    for target in targets:
        quarters = _quarters(target, slow_start_s, now)
        if quarters is not None and target.started_at is not None:
            steps.append(target.started_at + (quarters + 1) * slow_start_s / 4)
    return min(steps, default=None)


def _quarters(target: Target, slow_start_s: float, now: float) -> int | None:
    """How many quarters of its slow start are over; None: all, or it has none."""
    if target.started_at is None or not slow_start_s:
        return None
    quarters = int(4 * (now - target.started_at + _TICK) / slow_start_s)
    return quarters if quarters < 4 else None
