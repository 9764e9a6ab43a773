"""Failover: one of two leaves dies; until the kernel forwards the last route by the other alone."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.flow_run import Flow
from benchmarks.internet_table import Routes
from benchmarks.kernel_table import NLM_F_REQUEST
from benchmarks.kernel_watch import Seen, wait_for_table
from benchmarks.measurement import LOAD_TIMEOUT_S, Bench, Figures, Job, Options, bench, count_text
from benchmarks.notifications import counted
from benchmarks.routes import RouteSet, format_prefix
from labs.namespace import Namespace

RESET = "TCP reset"
LINK_DOWN = "link down"
SILENT = "silent death, BFD 100 ms x 3"
FLOW_DESTINATIONS = 256
_RTM_NEWLINK = 16
_RTM_NEWQDISC = 36
_NLM_F_REPLACE, _NLM_F_CREATE = 0x100, 0x400
_ROOT = 0xFFFFFFFF
_TCA_KIND, _TCA_OPTIONS = 1, 2
_NLM_F_ACK = 4
_IFF_UP = 1


def jobs(options: Options) -> Iterator[Job]:
    """Two deaths by size, timed; then the kernel's notifications counted, and packets lost, by a silent death, too."""
    sizes = options.sizes_or((10_000, 100_000, 1_000_000), (10_000, 100_000))
    for count in sizes:
        for how in (RESET, LINK_DOWN):
            for contestant in options.wanted():
                case = f"failover {count_text(count)}, {how}"
                yield Job(case=case, contestant=contestant, run=partial(run, contestant, RouteSet(count=count), how))
    for contestant in options.wanted():
        routes = RouteSet(count=min(100_000, max(sizes)))
        case = f"failover {count_text(routes.count)}, messages counted"
        yield Job(case=case, contestant=contestant, run=partial(run_counted, contestant, routes))
        routes = RouteSet(count=max(sizes))
        case = f"failover {count_text(routes.count)}, packets of a 10k pps flow"
        yield Job(case=case, contestant=contestant, run=partial(run_with_flow, contestant, routes))
        case = silent_case(routes.count)
        yield Job(case=case, contestant=contestant, run=partial(run_with_flow, contestant, routes, silent=True))


def silent_case(count: int) -> str:
    """The variant's name."""
    return f"failover {count_text(count)}, {SILENT}, packets of a 10k pps flow"


def run(contestant: str, routes: RouteSet, how: str) -> Figures:
    """One death, timed."""
    with bench(contestant, leaves=2) as ready:
        ready.load(routes)
        before = ready.daemon.usage()
        first, seen = lose_leaf(ready, routes, how)
        return ready.figures(first, seen, before)


def run_counted(contestant: str, routes: RouteSet) -> Figures:
    """One TCP reset with a listener that counts; timed too, but a listener slows those that write much."""
    with bench(contestant, leaves=2) as ready:
        ready.load(routes)
        with counted(ready.topology) as notifications:
            first, seen = lose_leaf(ready, routes, RESET)
            time.sleep(2.0)
            counts = notifications.stop()
        messages = sum(counts.values())
        return {"notifications": messages, **counts, "seconds": (seen.ns - first) / 1e9}


def run_with_flow(contestant: str, routes: RouteSet, *, silent: bool = False) -> Figures:
    """A link goes down, or all is silent on it, under a flow that is spread over the table."""
    with bench(contestant, leaves=2, bfd=silent) as ready:
        ready.load(routes)
        prefixes = routes.prefixes()
        step = max(1, len(prefixes) // FLOW_DESTINATIONS)
        flow = Flow(ready.topology, [format_prefix(prefix).split("/")[0] for prefix in prefixes[::step]])
        time.sleep(1.0)
        first, seen = lose_leaf(ready, routes, SILENT if silent else LINK_DOWN)
        time.sleep(0.5)
        return {**flow.stop(), "seconds": (seen.ns - first) / 1e9}


def lose_leaf(ready: Bench, routes: Routes, how: str) -> tuple[int, Seen]:
    """Leaf 0 dies; when that was (ns), and when the kernel was right."""
    topology = ready.topology
    with ready.table(routes.family) as table:
        prefixes = routes.prefixes()
        survivor = topology.next_hops(routes.family, 1)
        if how == RESET:
            topology.leaves[0].start("reset")  # its answer takes as long as the failover, and is read after it
            right = wait_for_table(table, prefixes, survivor, timeout_s=LOAD_TIMEOUT_S)
            return int(topology.leaves[0].finish()["ns"]), right
        if how == SILENT:
            first = _silence(topology.host, "leaf0")
            _silence(topology.leaf_namespaces[0], "host0")
        else:
            first = _set_down(topology.leaf_namespaces[0], "host0")
        return first, wait_for_table(table, prefixes, survivor, timeout_s=LOAD_TIMEOUT_S)


def _set_down(namespace: Namespace, interface: str) -> int:
    """Takes a link down; when that was (ns)."""
    return _request(
        namespace,
        _RTM_NEWLINK,
        lambda: struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(interface), 0, _IFF_UP),
    )


def _silence(namespace: Namespace, interface: str) -> int:
    """Loses all that is sent from now on by an interface that stays up, in a queue of length 0; when that was (ns)."""

    def body() -> bytes:
        index = socket.if_nametoindex(interface)
        head = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0, _ROOT, 0)
        return head + struct.pack("=HH6sxx", 10, _TCA_KIND, b"pfifo\0") + struct.pack("=HHI", 8, _TCA_OPTIONS, 0)

    return _request(namespace, _RTM_NEWQDISC, body, flags=_NLM_F_REPLACE | _NLM_F_CREATE)


def _request(namespace: Namespace, kind: int, body_of: Callable[[], bytes], *, flags: int = 0) -> int:
    """One request to the kernel; when that was (ns). By netlink: starting a program takes as long as a failover."""
    with namespace.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as opened:
        body = body_of()
        first = time.monotonic_ns()
        head = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | _NLM_F_ACK | flags, 1, 0)
        opened.send(head + body)
        (code,) = struct.unpack_from("=i", opened.recv(4096), 16)
    if code:
        raise OSError(-code, os.strerror(-code))
    return first
