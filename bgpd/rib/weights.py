"""ECMP weights of a multipath set, from the link bandwidth that its paths carry (RFC 10005).

Decides by whole sets: weights count only if every path says its bandwidth; one that does not makes all equal, and so
do equal ones. They are the smallest whole numbers in the bandwidths' ratio, so that they stay few and flows spread
evenly over the kernel's buckets. A bandwidth of 0 weighs as little as a member can. Worked out once for each decision,
never for a route.
"""

from __future__ import annotations

from functools import lru_cache

from bgpd.model.link_bandwidth import lowest_link_bandwidth
from bgpd.model.path import NextHop, Path

LARGEST = 256
"""What every kernel's nexthop groups take."""
TOLERANCE = 0.01
"""How far a weight may be from the exact ratio, where the ratio allows it."""


def weighted(multipath: tuple[Path, ...]) -> set[NextHop]:
    """The next hops of a multipath set, with their weights; of several paths by one the highest bandwidth counts."""
    found: dict[NextHop, float] = {}
    for path in multipath:
        bandwidth = lowest_link_bandwidth(path.attributes.extended_communities)
        if bandwidth is None:
            return unweighted(multipath)
        if path.next_hop is not None:
            found[path.next_hop] = max(bandwidth, found.get(path.next_hop, 0.0))
    weights = ratio(tuple(found.values()))
    return {NextHop(hop.address, hop.interface, weight) for hop, weight in zip(found, weights)}


def unweighted(multipath: tuple[Path, ...]) -> set[NextHop]:
    """The next hops of a multipath set, all equal."""
    return {path.next_hop for path in multipath if path.next_hop is not None}


@lru_cache(maxsize=1024)
def ratio(bandwidths: tuple[float, ...]) -> tuple[int, ...]:
    """The smallest whole numbers, 1 to LARGEST, within TOLERANCE of the ratio of these; the nearest if none are."""
    highest = max(bandwidths, default=0.0)
    if not highest:
        return (1,) * len(bandwidths)
    weights: tuple[int, ...] = ()
    for scale in range(1, LARGEST + 1):
        exact = [bandwidth / highest * scale for bandwidth in bandwidths]
        weights = tuple(max(1, round(value)) for value in exact)
        if all(abs(weight - value) <= TOLERANCE * value for weight, value in zip(weights, exact)):
            break
    return weights
