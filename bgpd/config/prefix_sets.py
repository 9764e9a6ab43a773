"""Sets of prefixes in a configuration: which of them overlap, and which are inside others. By netaddr, imported
where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def overlaps(prefix: str, known: Sequence[str]) -> list[str]:
    """Those of `known` that have an address in common with a prefix."""
    if not known:
        return []
    from netaddr import IPNetwork, all_matching_cidrs

    network = IPNetwork(prefix)
    around = all_matching_cidrs(network.network, known)
    return [other for other in known if IPNetwork(other) in around or IPNetwork(other).network in network]


def inside(prefixes: Iterable[str], networks: Sequence[str]) -> Mapping[str, str]:
    """Of `prefixes` those that are inside one of the networks, each with the smallest such network."""
    if not networks:
        return {}
    from netaddr import IPNetwork, smallest_matching_cidr

    found = {}
    for prefix in prefixes:
        network = IPNetwork(prefix)
        wider = [other for other in networks if IPNetwork(other).prefixlen <= network.prefixlen]
        if smallest := smallest_matching_cidr(network.network, wider):
            found[prefix] = str(smallest)
    return found
