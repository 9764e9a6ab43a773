"""Growth: time and memory by the number of routes, leaves, VRFs and dynamic neighbors."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import msgspec

from benchmarks import peers
from benchmarks.crowd import NETWORK, Crowd
from benchmarks.evpn_routes import VNI, EvpnRouteSet
from benchmarks.internet_table import InternetTable
from benchmarks.kernel_table import KernelTable
from benchmarks.kernel_watch import NotReached, Seen, wait_for_table
from benchmarks.measurement import LOAD_TIMEOUT_S, Bench, Figures, Job, Options, bench, count_text
from benchmarks.routes import RouteSet
from benchmarks.topology import HOST_ASN, LEAF_ASN, REPOSITORY, Topology
from labs.daemons import Bgpd
from labs.namespace import link
from labs.process import LabError

ROUTES, LEAVES, VRFS, NEIGHBORS = "routes", "leaves", "VRFs", "dynamic neighbors"
SERIES = {
    ROUTES: (1_000, 10_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000),
    LEAVES: (1, 2, 4, 8),
    VRFS: (1, 10, 30, 100, 300, 1_000),
    NEIGHBORS: (10, 50, 100, 250, 500),
}
QUICK = {ROUTES: (1_000, 10_000), LEAVES: (1, 2, 4), VRFS: (1, 10), NEIGHBORS: (10, 50)}
ROUTES_OF_EACH = 100
"""Routes of a VRF, and of a dynamic neighbor."""
LEAF_TABLE, LEAF_TABLE_QUICK = 100_000, 5_000
FIRST_TABLE = 1001
START_TIMEOUT_S = 120.0


def jobs(options: Options) -> Iterator[Job]:
    """Routes and leaves with BIRD beside bgpd where it is there; VRFs and dynamic neighbors by bgpd alone."""
    table = InternetTable(count=LEAF_TABLE_QUICK if options.quick else LEAF_TABLE)
    wanted = [name for name in options.wanted() if name in (peers.BGPD, peers.PLAIN, "BIRD")]
    for series, counts in (QUICK if options.quick else SERIES).items():
        for count in counts:
            for contestant in wanted:
                if series == ROUTES:
                    run = partial(run_load, contestant, RouteSet(count=count), 1)
                elif series == LEAVES:
                    run = partial(run_load, contestant, table, count)
                elif contestant == "BIRD":
                    continue
                else:
                    run = partial(run_vrfs if series == VRFS else run_neighbors, contestant, count)
                yield Job(case=case_name(series, count), contestant=contestant, run=run)


def case_name(series: str, count: int) -> str:
    """Name of one point of a series."""
    return f"growth {count_text(count)} {series}"


def run_load(contestant: str, routes: RouteSet | InternetTable, leaves: int) -> Figures:
    """Routes with equal attributes from one leaf; or an Internet table of 100,000 routes from several."""
    with bench(contestant, leaves=leaves) as ready:
        return ready.load(routes)


def run_vrfs(contestant: str, count: int) -> Figures:
    """EVPN routes of `count` VRFs from one leaf, 100 each, until every VRF's kernel table has its own."""
    routes = EvpnRouteSet(kind="evpn-type5", count=count * ROUTES_OF_EACH, vrfs=count)
    with Topology(families=("ipv4-unicast", "l2vpn-evpn")) as topology:
        for number in range(count):
            link(topology.host, f"up{number}", topology.leaf_namespaces[0], f"down{number}")
        lines = [f"addr add {_uplink_address(number)}/31 dev up{number}" for number in range(count)]
        topology.host.batch(*lines)
        topology.leaves[0].ask("prepare", name="table", routes=msgspec.to_builtins(routes))
        begin = time.monotonic()
        daemon = Bgpd(topology.host, _vrf_config(count), form=peers.form_of(contestant))
        ready = Bench(topology=topology, daemon=peers.Running(name=contestant, daemon=daemon, restart=daemon.start))
        try:
            topology.leaves[0].ask("established", timeout_s=START_TIMEOUT_S)
            start_s = time.monotonic() - begin
            time.sleep(1.0)
            before = ready.daemon.usage()
            ready.send("table")
            seen = _wait_for_vrfs(topology, routes)
            return ready.figures(ready.finish(), seen, before) | {"start_s": start_s}
        finally:
            ready.daemon.kill()


def run_neighbors(contestant: str, count: int) -> Figures:
    """`count` dynamic neighbors that connect at once and announce 100 routes each, until the kernel has all."""
    crowd = Crowd(count=count, asn=LEAF_ASN, routes=ROUTES_OF_EACH)
    with Topology() as topology:
        leaf = topology.leaf_namespaces[0]
        for number in range(crowd.links):
            link(topology.host, f"vm{number}", leaf, f"eth{number}")
            topology.host.addresses(f"vm{number}", f"10.1.{number}.1/24")
            leaf.addresses(f"eth{number}", f"10.1.{number}.2/24")
            leaf.ip("route", "add", "local", f"10.1.{number}.128/25", "dev", "lo")
        running = peers.start_bgpd(topology, _LISTEN, name=contestant)
        ready = Bench(topology=topology, daemon=running)
        try:
            topology.leaves[0].ask("established")
            time.sleep(1.0)
            before = running.usage()
            expected = crowd.next_hops()
            with ready.table("ipv4-unicast") as table:
                empty_size = table.size()
                with _crowd(topology, crowd) as process:
                    seen = wait_for_table(
                        table, list(expected), expected, timeout_s=LOAD_TIMEOUT_S, empty_size=empty_size
                    )
                    first = _first_ns(process)
                    return ready.figures(first, seen, before)
        finally:
            running.kill()


_LISTEN = f"""
[[listen]]
prefix = "{NETWORK}"
asn = {LEAF_ASN}
import = "all"
families = ["ipv4-unicast"]
hold_time_s = 240
max_neighbors = 1000
max_neighbors_per_interface = 1000
"""


@contextlib.contextmanager
def _crowd(topology: Topology, crowd: Crowd) -> Iterator[subprocess.Popen[str]]:
    arguments = (sys.executable, "-m", "benchmarks.crowd", msgspec.json.encode(crowd).decode())
    command = topology.leaf_namespaces[0].command(*arguments)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY) as process:
        try:
            yield process
        finally:
            process.kill()


def _first_ns(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LabError(f"the crowd of peers ended with code {process.wait()}")
    return int(json.loads(line)["first_ns"])


def _uplink_address(number: int, *, leaf: bool = False) -> str:
    return socket.inet_ntoa(struct.pack(">I", 0x0A640000 + 2 * number + leaf))


def _vrf_config(count: int) -> str:
    vrfs = "".join(
        f"""
[[vrf]]
name = "tenant{number}"
table = {FIRST_TABLE + number}
import_rt = ["{LEAF_ASN}:{VNI + number}"]
export_rt = ["{LEAF_ASN}:{VNI + number}"]
vni = {VNI + number}
uplinks = ["up{number}"]
uplink_neighbors = {{ up{number} = "leaf0" }}
uplink_gateways = {{ up{number} = ["{_uplink_address(number, leaf=True)}"] }}
resolve = "peer"
"""
        for number in range(count)
    )
    return f"""
[router]
asn = {HOST_ASN}
router_id = "{peers.ROUTER_ID}"
[[neighbor]]
name = "leaf0"
address = "10.0.0.2"
asn = {LEAF_ASN}
families = ["ipv4-unicast", "l2vpn-evpn"]
import = "all"
max_prefixes = 0
hold_time_s = {peers.HOLD_TIME_S}
{vrfs}
[log]
level = "warning"
"""


def _wait_for_vrfs(topology: Topology, routes: EvpnRouteSet) -> Seen:
    """Waits until all tables together have as many routes as were sent; then each is compared, route by route."""
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    with topology.host.entered():
        statistics = open("/proc/thread-self/net/fib_triestat")  # noqa: SIM115
        tables = [KernelTable(family="ipv4-unicast", table=FIRST_TABLE + number) for number in range(routes.vrfs)]
    with statistics:
        while (written := _routes_of_tables(statistics.read())) < routes.count:
            if time.monotonic() > deadline:
                raise NotReached(f"{written} of {routes.count} routes in the tables of VRFs")
            time.sleep(0.01)
            statistics.seek(0)
    ns = time.monotonic_ns()
    prefixes = routes.prefixes()
    for number, table in enumerate(tables):
        gateway = socket.inet_aton(_uplink_address(number, leaf=True))
        right = dict.fromkeys(prefixes[routes.of_vrf(number)], frozenset((gateway,)))
        found = table.dump()
        if any(found.get(prefix) != next_hops for prefix, next_hops in right.items()):
            raise NotReached(f"the table of VRF {number} is not as it should be")
        table.close()
    return Seen(ns=ns, routes=routes.count)


def _routes_of_tables(statistics: str) -> int:
    """Routes of all tables with a number, from /proc/net/fib_triestat."""
    parts = statistics.split("\nId ")[1:]
    return sum(int(part.partition("Prefixes:")[2].split()[0]) for part in parts)
