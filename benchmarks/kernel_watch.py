"""Sees when the kernel's table holds all that it should, to within a millisecond, without slowing the kernel down.

A multicast listener would make the kernel build a notification for every route. Instead one prefix of a few is looked
at every half millisecond, and when it is as it should be, so are the others, in one request; when all are, the whole
table is read and every route and every next hop is compared. If some are not there yet, the missing ones are looked at
next. The time reported is that of the look which saw the last watched prefix right, before a dump that confirmed every
route. Where a table is filled, its size must be right before it is read: daemons write in different orders, and a
reading takes long.

A lookup finds the longest route of an address. So no prefix is watched whose first address is that of a longer one;
prefixes that may lie inside each other are given in the order of their addresses.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from benchmarks.kernel_table import DumpInterrupted, KernelTable, NextHops

LOOK_INTERVAL_S = 0.0005
SAMPLES = 48


Wanted = NextHops | Mapping[bytes, NextHops] | None
"""The next hops that every prefix should have, or those of each; None: no route."""


class NotReached(Exception):
    """The kernel did not come to hold what it should in time."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """When the table was complete (CLOCK_MONOTONIC ns), and how many routes were compared, one by one."""

    ns: int
    routes: int


def wait_for_table(
    table: KernelTable,
    prefixes: Sequence[bytes],
    next_hops: Wanted,
    *,
    timeout_s: float,
    empty_size: int | None = None,
) -> Seen:
    """Waits until every prefix has exactly its next hops (None: until none of them has a route).

    `empty_size`: how many other routes the table has, if it is known.

    Raises: NotReached: says how many are wrong and shows one.
    """
    deadline = time.monotonic() + timeout_s
    watched = _samples(prefixes)
    while True:
        ns = _wait_for_samples(table, watched, next_hops, deadline)
        if empty_size is not None and (table.size() or 0) < empty_size + len(prefixes) and time.monotonic() < deadline:
            continue
        wrong = wrong_routes(_dump(table), prefixes, next_hops)
        if not wrong:
            return Seen(ns=ns, routes=len(prefixes))
        if time.monotonic() > deadline:
            raise NotReached(f"{len(wrong)} of {len(prefixes)} routes are wrong, such as {wrong[0].hex()}")
        seen_alone = set(visible(prefixes, range(len(prefixes))))
        watched = _samples([prefix for prefix in wrong if prefix in seen_alone])


def wait_for_count(count: Callable[[], int], wanted: int, *, timeout_s: float) -> Seen:
    """Waits until a daemon says that it has `wanted` routes; asked every 20 ms, which is part of the figure's error.

    Raises: NotReached: says how many it has.
    """
    deadline = time.monotonic() + timeout_s
    while (found := count()) < wanted:
        if time.monotonic() > deadline:
            raise NotReached(f"{found} of {wanted} routes after {timeout_s:.0f} s")
        time.sleep(0.02)
    return Seen(ns=time.monotonic_ns(), routes=wanted)


def wrong_routes(found: Mapping[bytes, NextHops], prefixes: Sequence[bytes], next_hops: Wanted) -> list[bytes]:
    """The prefixes whose kernel route is not as it should be, in the order given."""
    if next_hops is None:
        return [prefix for prefix in prefixes if prefix in found]
    if isinstance(next_hops, Mapping):
        return [prefix for prefix in prefixes if found.get(prefix) != next_hops[prefix]]
    return [prefix for prefix in prefixes if found.get(prefix) != next_hops]


def _samples(prefixes: Sequence[bytes]) -> list[bytes]:
    """First, last and some between, in order; all if they are few."""
    numbers: Sequence[int] = range(len(prefixes))
    if len(numbers) > 4 * SAMPLES:
        numbers = [0, *sorted(random.Random(len(numbers)).sample(numbers[1:-1], 4 * SAMPLES)), numbers[-1]]
    alone = list(visible(prefixes, numbers))
    if len(alone) <= SAMPLES:
        return alone
    return [alone[number * (len(alone) - 1) // (SAMPLES - 1)] for number in range(SAMPLES)]


def visible(prefixes: Sequence[bytes], numbers: Iterable[int]) -> Iterator[bytes]:
    """The numbered prefixes whose first address is not that of a longer one, which would follow."""
    for number in numbers:
        prefix, following = prefixes[number], prefixes[number + 1 : number + 2]
        if not following or following[0][1:].rstrip(b"\0") != prefix[1:].rstrip(b"\0") or following[0][0] < prefix[0]:
            yield prefix


def _wait_for_samples(table: KernelTable, watched: Sequence[bytes], next_hops: Wanted, deadline: float) -> int:
    left, ns = [(prefix, _wanted(next_hops, prefix)) for prefix in watched], 0
    while left:
        prefix, wanted = left[0]
        while (seen := table.look([prefix])[0]) != wanted:
            if time.monotonic() > deadline:
                raise NotReached(f"{prefix.hex()}: kernel has {_text(seen)}, should have {_text(wanted)}")
            time.sleep(LOOK_INTERVAL_S)
        looked = table.look([prefix for prefix, _ in left])
        ns = time.monotonic_ns()
        left = [one for one, seen in zip(left, looked) if seen != one[1]]
    return ns


def _wanted(next_hops: Wanted, prefix: bytes) -> NextHops | None:
    return next_hops[prefix] if isinstance(next_hops, Mapping) else next_hops


def _text(next_hops: NextHops | None) -> str:
    return "no route" if next_hops is None else "{" + ", ".join(sorted(hop.hex() for hop in next_hops)) + "}"


def _dump(table: KernelTable) -> dict[bytes, NextHops]:
    for _ in range(20):
        try:
            return table.dump()
        except DumpInterrupted:
            time.sleep(0.05)
    raise NotReached("the table changes so fast that no dump of it was ever consistent")
