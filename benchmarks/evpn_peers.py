"""Daemons that can take a leaf's EVPN routes, and how to ask each how many it has.

bgpd brings them into the kernel's table of a VRF. FRR and GoBGP keep them in their BGP table (FRR would need a VXLAN
device to do more, which a host without an overlay has not); ExaBGP hands them to a program as JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks.peers import BGPD, HOLD_TIME_S, ROUTER_ID, form_of
from benchmarks.topology import HOST_ASN, LEAF_ASN, Topology
from labs.daemons import FRR_LIBEXEC, Bgpd, Daemon, Frr, Gobgp
from labs.gobgp_config import gobgp_neighbor, gobgp_router

VRF_TABLE = 1001
UPLINK = "leaf0"
FAMILIES = ("ipv4-unicast", "l2vpn-evpn")


class EvpnRunning(msgspec.Struct, kw_only=True):
    """A started daemon; `count` is how many EVPN routes it says it has (bgpd: the kernel is asked instead)."""

    pids: Callable[[], list[int]]
    count: Callable[[], int] | None
    daemon: Daemon | None = None


@contextlib.contextmanager
def bgpd(topology: Topology) -> Iterator[EvpnRunning]:
    """bgpd: a VRF with one uplink, every route resolved by its BGP next hop."""
    config = f"""
[router]
asn = {HOST_ASN}
router_id = "{ROUTER_ID}"
[[neighbor]]
name = "leaf0"
address = "10.0.0.2"
asn = {LEAF_ASN}
families = ["ipv4-unicast", "l2vpn-evpn"]
import = "all"
hold_time_s = {HOLD_TIME_S}
[[vrf]]
name = "blue"
table = {VRF_TABLE}
rd = "auto"
import_rt = ["{LEAF_ASN}:5001"]
export_rt = ["{LEAF_ASN}:5001"]
vni = 5001
uplinks = ["{UPLINK}"]
resolve = "next-hop"
[log]
level = "warning"
"""
    with Bgpd(topology.host, config, form=form_of(BGPD)) as daemon:
        yield EvpnRunning(pids=lambda: [daemon.pid], count=None, daemon=daemon)


@contextlib.contextmanager
def frr(topology: Topology) -> Iterator[EvpnRunning]:
    """FRR: zebra and bgpd with the EVPN address family."""
    config = (
        f"router bgp {HOST_ASN}\n bgp router-id {ROUTER_ID}\n no bgp ebgp-requires-policy\n"
        f" neighbor 10.0.0.2 remote-as {LEAF_ASN}\n neighbor 10.0.0.2 timers 80 {HOLD_TIME_S}\n"
        " neighbor 10.0.0.2 timers connect 1\n"
        " address-family l2vpn evpn\n  neighbor 10.0.0.2 activate\n exit-address-family\n"
    )
    with Frr(topology.host, config) as daemon:

        def count() -> int:
            peers = daemon.vtysh_json("show bgp l2vpn evpn summary json").get("peers", {})
            return int(peers.get("10.0.0.2", {}).get("pfxRcd", 0))

        yield EvpnRunning(pids=lambda: [process.pid for process in daemon.processes], count=count, daemon=daemon)


@contextlib.contextmanager
def gobgp(topology: Topology) -> Iterator[EvpnRunning]:
    """GoBGP, without zebra: its own table only."""
    timers = {"hold_time": HOLD_TIME_S, "keepalive_interval": 80}
    neighbor = gobgp_neighbor("10.0.0.2", LEAF_ASN, families={"l2vpn-evpn": ""}, **timers)
    config = gobgp_router(HOST_ASN, ROUTER_ID) + neighbor
    with Gobgp(topology.host, config) as daemon:

        def count() -> int:
            states = daemon.json("neighbor", "10.0.0.2").get("afi_safis", [])
            return sum(int(state.get("state", {}).get("received", 0)) for state in states)

        yield EvpnRunning(pids=lambda: [daemon.pid], count=count, daemon=daemon)


_COUNTER = """#!{python} -u
import sys
seen = 0
for line in sys.stdin:
    if '"announce"' in line:
        seen += line.count('"raw"') or line.count('"rd"')
        open({path!r}, "w").write(str(seen))
"""


@contextlib.contextmanager
def exabgp(topology: Topology) -> Iterator[EvpnRunning]:
    """ExaBGP as a process that writes JSON to a program, which only counts."""
    directory = topology.host.make_directory("exabgp")
    counted, program = directory / "counted", directory / "counter"
    program.write_text(_COUNTER.format(python=sys.executable, path=str(counted)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    path = directory / "exabgp.conf"
    path.write_text(
        f"""
process counter {{ run {program}; encoder json; }}
neighbor 10.0.0.2 {{
  router-id {ROUTER_ID}; local-address 10.0.0.1; local-as {HOST_ASN}; peer-as {LEAF_ASN}; hold-time {HOLD_TIME_S};
  family {{ l2vpn evpn; }}
  api {{ processes [ counter ]; receive {{ parsed; update; }} }}
}}
"""
    )
    environment = {"exabgp_daemon_user": "root", "exabgp_daemon_drop": "false", "exabgp_log_level": "CRITICAL"}
    process = topology.host.popen(
        str(_exabgp_program()), "server", str(path), log_path=directory / "exabgp.log", env=environment
    )
    try:
        yield EvpnRunning(
            pids=lambda: [process.pid], count=lambda: int(counted.read_text() or 0) if counted.exists() else 0
        )
    finally:
        process.kill()


def _exabgp_program() -> Path:
    return Path(sys.executable).parent / "exabgp"


STARTERS: dict[str, Callable[[Topology], contextlib.AbstractContextManager[EvpnRunning]]] = {
    "bgpd": bgpd,
    "FRR": frr,
    "GoBGP": gobgp,
    "ExaBGP": exabgp,
}


def available() -> list[str]:
    """The contestants of this machine."""
    there = {
        "bgpd": importlib.util.find_spec("bgpd.daemon") is not None,
        "FRR": (FRR_LIBEXEC / "bgpd").exists(),
        "GoBGP": shutil.which("gobgpd") is not None,
        "ExaBGP": _exabgp_program().exists(),
    }
    return [name for name in STARTERS if there[name]]
