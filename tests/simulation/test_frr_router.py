"""Routers as outsiders configure them with FRR: what of it is simulated, and that the rest is told."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from bgpd.simulation.build import Builder, Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.frr_router import FrrRouter, read_frr_router
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.network import Port
from bgpd.simulation.reach import Packets
from bgpd.simulation.router import Router
from bgpd.simulation.wire import V4, V6, Route
from tests.simulation.topologies import CONFIG, written

TOPOLOGY = """
name: small
topology:
  nodes:
    leaf1:
      image: quay.io/frrouting/frr:10.2.1
      binds: [__clabNodeName__:/etc/frr]
      exec:
        - ip address add 10.0.11.0/31 dev eth1
        - ip address add 2001:db8::1/64 dev eth1
    host1:
      binds: ["${CONFIG_OF_HOST1:=bgpd.toml}:/etc/bgpd/bgpd.toml:ro"]
      exec:
        - ip address add 10.0.11.1/31 dev eth0
        - ip address add 2001:db8::2/64 dev eth0
        - ip route add 10.64.1.1/32 dev pod1 scope link
    pod1: {kind: linux}
  links:
    - endpoints: ["leaf1:eth1", "host1:eth0"]
    - endpoints: ["host1:pod1", "pod1:eth0"]
"""
NEIGHBOR = " no bgp ebgp-requires-policy\n neighbor 10.0.11.1 remote-as 65203\n"
SECOND = """
[[neighbor]]
name = "tor6"
address = "2001:db8::1"
asn = 65201
families = ["ipv6-unicast"]
import = "all"
"""


def router(lines: str, tmp_path: Path, more: str = "") -> FrrRouter:
    path = tmp_path / "frr.conf"
    path.write_text(f"router bgp 65201\n{lines}\nexit\n{more}\n")
    return read_frr_router(path)


def built(lines: str, tmp_path: Path, *, config: str = CONFIG, more: str = "", topology: str = TOPOLOGY) -> Built:
    """One leaf with these lines of "router bgp", and a host."""
    (tmp_path / "leaf1").mkdir()
    (tmp_path / "leaf1" / "frr.conf").write_text(f"router bgp 65201\n{lines}\nexit\n{more}\n")
    file = written(tmp_path, topology=topology, config=config)
    chance = random.Random(1)
    with simulated_time(chance) as loop:
        return Builder(read_topology(file), loop, chance=chance, directory=tmp_path).build()


def test_folder_that_is_bound_and_addresses_of_exec_lines_count(tmp_path: Path) -> None:
    made = built(f"{NEIGHBOR} bgp long-lived-graceful-restart stale-time 60\n", tmp_path)
    leaf = made.fabric.routers["leaf1"]
    assert (leaf.asn, list(leaf.peers), made.remarks) == (65201, ["host1"], [])
    assert leaf.style.long_lived_s == 60


@pytest.mark.parametrize(
    ("lines", "remark"),
    [
        (" neighbor 10.0.11.7 remote-as 65203\n", "leaf1 has no neighbor for host1 (eth1): no session"),
        (f"{NEIGHBOR} neighbor 10.0.11.1 shutdown\n", "leaf1 has shut its neighbor host1 (eth1) down: no session"),
        (" bgp listen range 10.9.0.0/16 peer-group X\n", "leaf1 has no neighbor for host1 (eth1): no session"),
    ],
)
def test_neighbor_that_is_another_or_shut_has_no_session(lines: str, remark: str, tmp_path: Path) -> None:
    made = built(lines, tmp_path)
    assert made.remarks[0] == remark
    assert not made.fabric.routers["leaf1"].peers


def test_address_that_the_leaf_does_not_have_has_no_session(tmp_path: Path) -> None:
    topology = TOPOLOGY.replace("10.0.11.0/31", "10.0.11.2/24").replace("10.0.11.1/31", "10.0.11.1/24")
    made = built(NEIGHBOR, tmp_path, topology=topology)
    assert made.remarks == ["host1 expects leaf1 (eth1) to be 10.0.11.0, which is 10.0.11.2, 2001:db8::1: no session"]


def test_two_sessions_over_one_link_are_one_with_both_families(tmp_path: Path) -> None:
    lines = """ neighbor 2001:db8::2 remote-as 65203
 neighbor 2001:db8::2 timers 1 3
 neighbor 2001:db8::2 allowas-in
 address-family ipv4 unicast
  no neighbor 2001:db8::2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8::2 activate
"""
    made = built(NEIGHBOR + lines, tmp_path, config=CONFIG + SECOND)
    said = "host1: neighbors tor and tor6 are both leaf1: they are simulated as one, tor, with all families"
    assert made.remarks == [said]
    (peer,) = made.fabric.routers["leaf1"].peers.values()
    assert (peer.offered, peer.own_as) == ((V4, V6), 3)
    assert (peer.port.address6, made.fabric.hosts["host1"].neighbors["leaf1"].families) == (
        bytes.fromhex("20010db8000000000000000000000001"),
        ("ipv4-unicast", "ipv6-unicast"),
    )


def test_hold_time_is_that_of_the_neighbor(tmp_path: Path) -> None:
    made = built(f"{NEIGHBOR} timers bgp 5 15\n neighbor 10.0.11.1 timers 1 3\n", tmp_path)
    leaf = made.fabric.routers["leaf1"]
    assert (leaf.style.hold_s, leaf.peers["host1"].hold_s) == (15, 3)


@pytest.mark.parametrize(
    ("lines", "more", "own"),
    [
        (" network 10.9.0.0/16", "", []),
        (" network 10.9.0.0/16\n no bgp network import-check", "", ["10.9.0.0/16"]),
        (" network 10.9.0.0/16", "ip route 10.9.0.0/16 Null0", ["10.9.0.0/16"]),
        (" network 10.9.0.0/16", "interface lo\n ip address 10.9.0.1/16", ["10.9.0.0/16"]),
        (" redistribute static", "ip route 10.9.0.0/16 Null0\nip route 10.8.0.0/16 Null0 vrf blue", ["10.9.0.0/16"]),
        (" redistribute connected route-map LO", "interface lo\n ip address 10.9.0.1/16", ["10.9.0.0/16"]),
        (" redistribute connected route-map LOOPBACKS", "interface lo\n ip address 192.0.2.1/32", ["192.0.2.1/32"]),
    ],
)
def test_router_announces_what_it_has_a_route_to(lines: str, more: str, own: list[str], tmp_path: Path) -> None:
    loopbacks = "route-map LOOPBACKS permit 10\n match ip address prefix-list HOSTS\n set community 65201:7\n"
    interface = "interface eth9\n ip address 10.7.0.1/24\n"
    lists = "ip prefix-list HOSTS permit 0.0.0.0/0 ge 32\nroute-map LO permit 10\n match interface lo\n"
    found = router(lines, tmp_path, f"{more}\n{interface}{loopbacks}{lists}")
    assert list(found.own) == own
    for route in found.own.values():
        assert route.communities == ((65201 << 16 | 7,) if "LOOPBACKS" in lines else ())
    said = "it has no such route, and announces none (bgp network import-check)"
    assert list(found.unread) == ([] if own else [f"network 10.9.0.0/16: {said}"])


def test_default_route_is_told_those_neighbors_only_that_are_to_have_it(tmp_path: Path) -> None:
    lines = f"{NEIGHBOR} address-family ipv4 unicast\n  neighbor 10.0.11.1 default-originate\n"
    leaf = built(f"{lines}  neighbor 10.0.11.1 prefix-list NONE out\n", tmp_path).fabric.routers["leaf1"]
    assert leaf.default_to == {"0.0.0.0/0": {"host1"}}
    assert [leaf.passes_on(one, is_own=True, default="0.0.0.0/0") for one in ("host1", "spine")] == [True, False]


def test_own_as_of_a_neighbor_is_told_as_that_of_the_router(tmp_path: Path) -> None:
    made = built(f"{NEIGHBOR} neighbor 10.0.11.1 as-override\n", tmp_path)
    assert made.unforeseen == ["as-override of leaf1 for host1"]
    tells = made.fabric.routers["leaf1"].peers["host1"].tells
    assert tells is not None
    told = tells("192.0.2.0/24", Route(peer="spine", as_path=(65203, 64999)))
    assert told is not None
    assert told.as_path == (65201, 64999)


@pytest.mark.parametrize(
    ("lines", "used"),
    [
        ("", ("a", "c")),
        (" bgp bestpath as-path multipath-relax\n", ("a", "b", "c")),
        (" bgp bestpath as-path multipath-relax\n maximum-paths 2\n", ("a", "b")),
        (" maximum-paths 1\n", ("a",)),
    ],
)
def test_ways_by_other_as_numbers_are_used_if_bestpath_says_so(
    lines: str, used: tuple[str, ...], tmp_path: Path
) -> None:
    style = router(lines, tmp_path).style
    with simulated_time(random.Random(1)) as loop:
        made = Router("leaf1", loop, asn=65201, router_id=bytes(4), style=style, chance=random.Random(1))
        for name, asn in (("a", 65001), ("b", 65002), ("c", 65001)):
            made.add_peer(Port(made.stack, 1, "eth1", bytes(4)), name=name, asn=asn, dials=False)
    assert made.ways_of(["a", "b", "c"]) == used


@pytest.mark.parametrize(
    "line",
    [
        "aggregate-address 10.0.0.0 255.0.0.0",
        "bgp bestpath med missing-as-worst",
        "bgp confederation identifier 65000",
        "bgp graceful-shutdown",
        "bgp default local-preference 50",
        "bgp bestpath bandwidth ignore",
        "redistribute ospf",
        "neighbor 10.0.11.1 remove-private-AS",
        "neighbor 10.0.11.1 weight 5",
        "neighbor 10.0.11.1 maximum-prefix 10",
        "no neighbor 10.0.11.1 send-community",
        "neighbor 10.0.11.1 a-command-of-next-year",
        "a-statement-of-next-year",
    ],
)
def test_what_is_not_known_is_told(line: str, tmp_path: Path) -> None:
    found = router(f"{NEIGHBOR} {line}\n", tmp_path)
    assert found.unread == (line,)


def test_sessions_of_vrfs_and_other_protocols_are_told(tmp_path: Path) -> None:
    vrf = "router bgp 65201 vrf blue\n neighbor 10.1.1.1 remote-as 65203\n redistribute connected\nexit\n"
    assert router(NEIGHBOR, tmp_path, f"{vrf}router ospf\n network 10.0.0.0/8 area 0\n").unread == (
        "neighbor 10.1.1.1 remote-as 65203 (of VRF blue)",
        "redistribute connected (of VRF blue)",
        "router ospf (another protocol)",
    )


def test_usual_configuration_has_nothing_that_is_not_known(tmp_path: Path) -> None:
    lines = """ bgp router-id 192.0.2.1
 bgp log-neighbor-changes
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 bgp bestpath compare-routerid
 bgp deterministic-med
 timers bgp 3 9
 bgp listen limit 200
 neighbor FABRIC peer-group
 neighbor FABRIC remote-as external
 neighbor FABRIC description up
 neighbor FABRIC password secret
 neighbor FABRIC ebgp-multihop 2
 neighbor FABRIC update-source lo
 neighbor FABRIC capability extended-nexthop
 neighbor FABRIC timers connect 5
 neighbor FABRIC bfd profile fast
 neighbor swp1 interface peer-group FABRIC
 neighbor swp2 interface v6only remote-as external
 address-family ipv4 unicast
  neighbor FABRIC activate
  neighbor FABRIC soft-reconfiguration inbound
  neighbor FABRIC send-community both
  maximum-paths 64
 exit-address-family
 address-family l2vpn evpn
  neighbor FABRIC activate
  advertise-all-vni
"""
    assert router(lines, tmp_path).unread == ()


def test_interface_of_a_workload_that_a_topology_lacks_is_made(tmp_path: Path) -> None:
    config = f'{CONFIG}[[workload.static]]\nprefix = "10.64.1.9/32"\ninterface = "tap7"\n'
    made = built(NEIGHBOR, tmp_path, config=config)
    assert made.remarks == ["host1: tap7 of 10.64.1.9/32 is not in the topology: it is made"]
    assert "tap7" in [one.name for one in made.fabric.hosts["host1"].kernel.links.values()]


def test_network_of_a_link_is_reached_on_it(tmp_path: Path) -> None:
    made = built(f"{NEIGHBOR} redistribute connected", tmp_path)
    host = made.fabric.hosts["host1"]
    host.kernel.add_workload_route("10.0.11.0/31", "eth0")
    assert Packets(made.fabric, "10.0.11.0/31").wrong_from("host1") == []
    host.kernel.add_workload_route("10.0.12.0/31", "eth0")
    assert Packets(made.fabric, "10.0.12.0/31").wrong_from("host1") == ["host1 delivers it, and does not own it"]


@pytest.mark.parametrize(
    ("leaf", "file"),
    [
        ("kind: nokia_srlinux, startup-config: leaf1.cfg", "startup-config leaf1.cfg"),
        ("kind: linux, image: bird, binds: [bird.conf:/etc/bird/bird.conf]", "/etc/bird/bird.conf"),
        ("kind: sonic-vs, binds: [x.json:/etc/sonic/config_db.json]", "/etc/sonic/config_db.json"),
    ],
)
def test_configuration_of_another_make_is_told_to_be_unread(leaf: str, file: str, tmp_path: Path) -> None:
    (old,) = re.findall(r"    leaf1:\n(?: {6}.*\n)*", TOPOLOGY)
    topology = TOPOLOGY.replace(old, f"    leaf1: {{{leaf}}}\n")
    said = "is not read: its AS number and families are those that hosts say, and it announces what its labels say; "
    said += "a frr.conf that is bound at /etc/frr/frr.conf would say more"
    assert built("", tmp_path, topology=topology).remarks == [f"leaf1: {file} {said}"]
