"""What must hold in a laboratory: things that are waited for with visible progress, and who must reach whom."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from labs.kernel import live_next_hops
from labs.laboratory import Laboratory
from labs.process import LabError
from labs.topology import Node
from labs.traffic import Pair, reachable

CONVERGENCE_TIMEOUT_S = 30.0

Expectation = tuple[str, bool]
"""Something that must hold, in words, and whether it does."""


def await_all(
    lab: Laboratory, expected: Callable[[], Iterable[Expectation]], *, timeout_s: float = CONVERGENCE_TIMEOUT_S
) -> float:
    """Wait until all that is expected holds, saying how far it is; returns seconds.

    Raises: LabError: not within `timeout_s`; lists what is missing, with the tails of the daemons' logs.
    """
    start = time.monotonic()
    said = ""
    while True:
        now = list(expected())
        missing = [what for what, holds in now if not holds]
        state = f"{len(now) - len(missing)} of {len(now)} sessions and routes"
        elapsed = time.monotonic() - start
        if state != said:
            lab.progress(f"{elapsed:5.1f} s  {state}")
            said = state
        if not missing:
            return elapsed
        if elapsed > timeout_s:
            tails = "\n".join(process.tail() for daemon in lab.bgpd.values() for process in daemon.processes)
            raise LabError(f"no convergence within {timeout_s} s; missing:\n  " + "\n  ".join(missing) + f"\n{tails}")
        time.sleep(0.1)


def unreachable(lab: Laboratory, progress: Callable[[str], None]) -> list[str]:
    """Ping every workload address from every workload; returns the pairs that fail."""
    failed = []
    for family, ipv6 in (("IPv4", False), ("IPv6", True)):
        pairs = workload_pairs(lab, ipv6=ipv6)
        if pairs:
            bad = [str(pair) for pair in pairs if not reachable(pair)]
            progress(f"{family}: {len(pairs) - len(bad)} of {len(pairs)} pairs answer")
            failed += bad
    return failed


def workload_pairs(lab: Laboratory, *, ipv6: bool, across: bool = False) -> list[Pair]:
    """All ordered pairs of pods and servers; with `across` only those whose packets cross the fabric."""
    nodes = lab.topology.with_role("pod", "server")
    pairs = itertools.permutations(nodes, 2)
    return [
        Pair(lab.namespaces[source.name], address)
        for source, destination in pairs
        if not across or not _same_attachment(lab, source, destination)
        for address in destination.addresses
        if (":" in address) == ipv6
    ]


def _same_attachment(lab: Laboratory, first: Node, second: Node) -> bool:
    neighbors = lab.topology.neighbors
    return {node.name for node in neighbors(first.name)} == {node.name for node in neighbors(second.name)}


def sessions(lab: Laboratory) -> Iterator[Expectation]:
    """Every session that a switch is configured with is established."""
    for name, frr in lab.frr.items():
        established = frr.established()
        for peer in frr.configured():
            yield f"session {name} - {peer}", peer in established


def pod_routes(lab: Laboratory) -> Iterator[Expectation]:
    """Hosts and spines have every remote pod's address in the kernel, over all their leaves."""
    for node in lab.topology.with_role("host", "spine"):
        uplinks = [neighbor for neighbor in lab.topology.neighbors(node.name) if neighbor.role == "leaf"]
        own = {neighbor.name for neighbor in lab.topology.neighbors(node.name)}
        for ipv6 in (False, True):
            routes = live_next_hops(lab.namespaces[node.name], ipv6=ipv6)
            for pod in lab.topology.with_role("pod"):
                if pod.name not in own:
                    yield from _address_routes(node, pod, routes, len(uplinks), ipv6=ipv6)


def _address_routes(
    node: Node, pod: Node, routes: dict[str, list[str]], uplinks: int, *, ipv6: bool
) -> Iterator[Expectation]:
    for address in pod.addresses:
        if (":" in address) == ipv6:
            found = routes.get(address, [])
            yield f"{node.name}: {address} over {uplinks} uplinks (now: {found})", len(set(found)) == uplinks
