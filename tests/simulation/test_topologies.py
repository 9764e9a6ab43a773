"""Topologies of containerlab become fabrics: what is taken of them, what is left out, and what is wrong with them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bgpd.migrate.draft import ImportFailed
from bgpd.simulation import evpn
from bgpd.simulation.build import Builder, Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.frr_router import read_frr_router
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.wire import EVPN, V4, V6
from tests.simulation.topologies import CONFIG, LAB, LEFT_OUT, TOPOLOGY, written

FRR = """
frr defaults datacenter
interface eth1
 ip address 10.0.11.0/31
router bgp 65201
 bgp router-id 10.255.0.7
 bgp graceful-restart
 bgp graceful-restart restart-time 30
 no bgp network import-check
 neighbor HOSTS peer-group
 neighbor HOSTS remote-as 65203
 neighbor 10.0.11.1 peer-group HOSTS
 neighbor eth7 interface remote-as external
 bgp listen range 10.9.0.0/16 peer-group HOSTS
 address-family ipv4 unicast
  network 198.51.100.0/24
  redistribute connected
  neighbor HOSTS route-map FROM-HOSTS in
 exit-address-family
"""
UNMET = "leaf1: neighbor eth7: no link leads to one that is simulated: no session"


def built(file: str, directory: Path) -> Built:
    chance = random.Random(1)
    with simulated_time(chance) as loop:
        return Builder(read_topology(file), loop, chance=chance, directory=directory).build()


def with_frr(tmp_path: Path, frr: str = FRR, *, config: str = CONFIG) -> str:
    (tmp_path / "frr.conf").write_text(frr)
    topology = TOPOLOGY.replace(
        'leaf1: {kind: linux, labels: {role: leaf, announces: "198.51.100.0/24"}}',
        "leaf1: {kind: linux, binds: [frr.conf:/etc/frr/frr.conf]}",
    )
    return written(tmp_path, topology=topology, config=config)


def test_host_has_its_own_configuration_and_what_its_exec_lines_say(tmp_path: Path) -> None:
    fabric = built(written(tmp_path), tmp_path).fabric
    host = fabric.hosts["host1"]
    assert host.claims == {"10.64.1.1/32": "pod1"}
    assert host.neighbors.keys() == {"leaf1"}, "by the name of the node, and not by that of the configuration"
    assert host.neighbors["leaf1"].name == "tor"
    assert [one.packed for one in host.kernel.addresses] == [bytes((10, 0, 11, 1))]
    assert host.config.state.directory == str(tmp_path / "host1")


@pytest.mark.parametrize("line", ["ip link add pod2 type veth peer name x", "ip link add name pod2 type dummy", "true"])
def test_interfaces_of_routes_are_there_though_no_link_leads_to_them(line: str, tmp_path: Path) -> None:
    more = f"        - {line}\n        - ip route add 10.64.1.2/32 dev pod2\n"
    topology = TOPOLOGY.replace("    pod1: {kind", f"{more}    pod1: {{kind", 1)
    made = built(written(tmp_path, topology=topology), tmp_path)
    host = made.fabric.hosts["host1"]
    assert {link.name for link in host.kernel.links.values()} == {"lo", "eth0", "pod1", "pod2"}
    assert host.claims == {"10.64.1.1/32": "pod1", "10.64.1.2/32": "pod2"}
    assert made.remarks == []


def test_leaf_without_a_configuration_is_what_its_hosts_say(tmp_path: Path) -> None:
    leaf = built(written(tmp_path), tmp_path).fabric.routers["leaf1"]
    assert leaf.asn == 65201
    assert list(leaf.own) == ["198.51.100.0/24"]
    assert leaf.peers["host1"].port.address == bytes((10, 0, 11, 0))


def test_leaf_is_what_its_frr_conf_says(tmp_path: Path) -> None:
    made = built(with_frr(tmp_path), tmp_path)
    leaf = made.fabric.routers["leaf1"]
    assert (leaf.asn, leaf.router_id, leaf.style.hold_s) == (65201, bytes((10, 255, 0, 7)), 9)
    assert (leaf.style.restarts, leaf.style.restart_time_s) == (True, 30)
    assert list(leaf.own) == ["198.51.100.0/24", "10.0.11.0/31"]
    assert made.unforeseen == ["route-map FROM-HOSTS in of leaf1 for host1"]


def test_neighbors_of_frr_are_at_interfaces_addresses_and_ranges(tmp_path: Path) -> None:
    path = tmp_path / "frr.conf"
    path.write_text(f"interface eth2\n ip address 10.9.0.1/24\n{FRR}")
    router = read_frr_router(path)
    found = {name: router.neighbors.at(name) for name in ("eth1", "eth2", "eth7", "eth8")}
    expected = {name: one.remote_as if one is not None else None for name, one in found.items()}
    assert expected == {"eth1": "65203", "eth2": "65203", "eth7": "external", "eth8": None}


def test_families_and_bfd_of_frr_are_those_of_the_neighbor_or_its_group(tmp_path: Path) -> None:
    path = tmp_path / "frr.conf"
    path.write_text("""
bfd
 profile SLOW
  detect-multiplier 5
  transmit-interval 1000
router bgp 65201
 no bgp default ipv4-unicast
 neighbor HOSTS peer-group
 neighbor HOSTS remote-as external
 neighbor HOSTS bfd 4 100 50
 neighbor 10.0.0.1 peer-group HOSTS
 neighbor 10.0.0.3 remote-as external
 neighbor 10.0.0.3 bfd profile SLOW
 neighbor 10.0.0.5 remote-as external
 neighbor 10.0.0.5 shutdown
 neighbor 10.0.0.7 remote-as internal
 neighbor 10.0.0.7 bfd
 address-family ipv6 unicast
  neighbor HOSTS activate
 address-family l2vpn evpn
  neighbor 10.0.0.1 activate
""")
    neighbors = read_frr_router(path).neighbors.named
    assert [name for name, one in neighbors.items() if one.is_shut] == ["10.0.0.5"]
    assert neighbors["10.0.0.1"].families == (V6, EVPN)
    assert [one.bfd for one in neighbors.values()] == [Pace(0.05, 4), Pace(1.0, 5), None, Pace(0.3, 3)]


def test_paths_with_the_own_as_are_allowed_as_often_as_frr_conf_says(tmp_path: Path) -> None:
    path = tmp_path / "frr.conf"
    lines = [f" neighbor 10.0.0.{number} remote-as external\n" for number in (1, 3, 5, 7)]
    lines += [" address-family ipv4 unicast\n", "  neighbor 10.0.0.3 allowas-in\n"]
    lines += ["  neighbor 10.0.0.5 allowas-in 1\n", "  neighbor 10.0.0.7 allowas-in origin\n"]
    path.write_text(f"router bgp 65201\n{''.join(lines)}")
    assert [one.own_as for one in read_frr_router(path).neighbors.named.values()] == [0, 3, 1, 1]


def test_what_else_of_frr_conf_would_matter_is_told(tmp_path: Path) -> None:
    frr = FRR.replace(" redistribute connected\n", " redistribute connected\n  redistribute ospf\n")
    frr = frr.replace("neighbor HOSTS route-map FROM-HOSTS in", "neighbor HOSTS maximum-prefix 10")
    frr = frr.replace(" bgp graceful-restart\n", " bgp graceful-restart\n bgp dampening\n")
    assert built(with_frr(tmp_path, frr), tmp_path).remarks == [
        "leaf1: bgp dampening",
        "leaf1: redistribute ospf",
        "leaf1: neighbor HOSTS maximum-prefix 10",
        UNMET,
    ]


def test_vrfs_of_frr_announce_their_networks_by_evpn(tmp_path: Path) -> None:
    path = tmp_path / "frr.conf"
    path.write_text("""
vrf blue
 vni 5001
exit-vrf
router bgp 65201
 bgp router-id 10.255.0.7
router bgp 65201 vrf blue
 address-family ipv4 unicast
  network 203.0.113.0/24
 exit-address-family
 address-family l2vpn evpn
  advertise ipv4 unicast
  route-target export 65000:7
""")
    ((name, route),) = read_frr_router(path).tenants.items()
    assert name == evpn.ip_prefix(evpn.distinguisher(bytes((10, 255, 0, 7)), 1), "203.0.113.0/24")
    assert (route.extended[0], route.label) == (evpn.target(65000, 7), bytes((0, 0x13, 0x89)))


@pytest.mark.parametrize(
    ("frr", "config", "remark"),
    [
        (FRR, CONFIG.replace("65203", "65204"), "leaf1 expects AS 65203 of host1, which is 65204"),
        (FRR, CONFIG.replace("65201", "65299"), "host1 expects AS 65299 of leaf1, which is 65201"),
        (
            FRR,
            CONFIG.replace("65201", '"internal"'),
            "host1 expects internal BGP of leaf1, which is AS 65201, as host1 is 65203",
        ),
        (FRR.replace("10.0.11.1", "10.0.12.1"), CONFIG, "leaf1 has no neighbor for host1 (eth1): no session"),
    ],
)
def test_what_does_not_fit_is_told(frr: str, config: str, remark: str, tmp_path: Path) -> None:
    assert remark in built(with_frr(tmp_path, frr, config=config), tmp_path).remarks


def test_what_is_not_simulated_is_told(tmp_path: Path) -> None:
    config = (
        CONFIG
        + """
[[vrf]]
name = "blue"
table = 1001
vni = 5001
uplinks = ["eth5"]
[[neighbor]]
name = "inside"
address = "10.9.0.1"
asn = 65201
import = "all"
vrf = "blue"
[[workload.bgp]]
name = "guest"
address = "127.0.0.2"
asn = "internal"
prefixes = ["10.9.1.0/24 le 32"]
max_prefixes = 10
"""
    )
    assert built(written(tmp_path, config=config), tmp_path).remarks == [
        "host1: neighbor inside: sessions of a VRF are not simulated",
        "host1: [[workload.bgp]] guest: no node is at 127.0.0.2: nobody connects",
        "host1: uplink eth5 of [[vrf]] blue: is no link of a session",
    ]


def test_leaf_without_a_configuration_has_what_its_hosts_have(tmp_path: Path) -> None:
    config = CONFIG.replace(
        "hold_time_s = 9", 'hold_time_s = 9\nbfd = { interval_ms = 50 }\nfamilies = ["ipv4-unicast", "l2vpn-evpn"]'
    )
    made = built(written(tmp_path, config=config), tmp_path)
    (peer,) = made.fabric.routers["leaf1"].peers.values()
    assert peer.offered == (V4, EVPN)
    assert made.fabric.has_bfd("leaf1", "host1")


@pytest.mark.parametrize(
    ("frr", "config", "remark"),
    [
        (FRR, "bfd = {}", "host1 has BFD with leaf1, which has none: it stays down"),
        (f"{FRR} neighbor HOSTS bfd\n", "", "leaf1 has BFD with host1, which has none: it stays down"),
        (FRR, 'families = ["ipv6-unicast"]', "host1 has no family that leaf1 has, which are ipv4-unicast"),
    ],
)
def test_what_only_one_end_of_a_session_has_is_told(frr: str, config: str, remark: str, tmp_path: Path) -> None:
    config = CONFIG.replace("hold_time_s = 9", f"hold_time_s = 9\n{config}")
    assert built(with_frr(tmp_path, frr, config=config), tmp_path).remarks == [remark, UNMET]


def test_vlans_of_a_host_are_segments_of_its_leaf(tmp_path: Path) -> None:
    lines = "ip link add link eth0 name eth0.101 type vlan id 101", "ip address add 10.1.1.1/24 dev eth0.101"
    topology = TOPOLOGY.replace("      exec:\n", "      exec:\n" + "".join(f"        - {line}\n" for line in lines))
    fabric = built(written(tmp_path, topology=topology), tmp_path).fabric
    links = {one.name: one for one in fabric.hosts["host1"].kernel.links.values()}
    assert (links["eth0.101"].kind, links["eth0.101"].parent) == ("vlan", links["eth0"].index)
    assert fabric.segments["leaf1", 101, bytes((10, 1, 1, 1))] == ("host1", links["eth0.101"].index)


def test_policies_make_that_routes_are_not_foreseen(tmp_path: Path) -> None:
    config = CONFIG + '[[aggregate]]\nprefix = "10.64.1.0/24"\n'
    assert built(written(tmp_path, config=config), tmp_path).unforeseen == ["host1: [[aggregate]]"]


def other(old: str, new: str) -> tuple[str, str]:
    """The topology with something else in it."""
    assert old in TOPOLOGY
    return TOPOLOGY.replace(old, new), CONFIG


def configured(old: str, new: str) -> tuple[str, str]:
    """The host's configuration with something else in it."""
    assert old in CONFIG
    return TOPOLOGY, CONFIG.replace(old, new)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("", CONFIG), "small.clab.yml: has no nodes; write them below topology: nodes:"),
        (("- 1", CONFIG), "small.clab.yml:1: a document is no mapping"),
        (("a: [", CONFIG), "is no YAML"),
        (other("bgpd.toml:/etc", "other.toml:/etc"), "there is no file"),
        (other("host1:eth0", "host9:eth0"), 'there is no node "host9"; one of: leaf1, host1, pod1'),
        (other("host1:eth0", "host1"), '"host1" is no endpoint; write "NODE:INTERFACE"'),
        (other('["leaf1:eth1", "host1:eth0"]', '["leaf1:eth1"]'), "leads to no router"),
        (other("host1:pod1", "host1:eth0"), "host1:eth0 has a link already; see"),
        (other("[bgpd.toml:/etc/bgpd/bgpd.toml:ro]", "[]"), "has no host with bgpd; bind a configuration"),
        (other("labels: {role: leaf, announces", "labels: {announces"), "leads to no router; a router is bound to"),
        (other("10.0.11.1/31", "10.0.12.1/31"), "no interface of host1 has an address beside neighbor tor"),
        (other("ip address add 10", "ip address add '10"), "is no command: No closing quotation"),
        (other("10.0.11.1/31", "10.0.11.1/99"), "10.0.11.1/99"),
        (other('announces: "198.51.100.0/24"', "announces: many"), "leaf1 announces many"),
        (other("role: leaf", "role: leaf, asn: x"), 'the AS number of leaf1 is "x"; write labels'),
        (configured("hold_time_s = 9", "hold_time_s = 1"), "bgpd.toml:10: neighbor[0].hold_time_s"),
        (configured('"all"', '"all"\nfamilies = ["route-target"]'), "has no neighbor that can be simulated"),
    ],
)
def test_errors_say_what_is_wrong_where_and_what_to_do(texts: tuple[str, str], says: str, tmp_path: Path) -> None:
    topology, config = texts
    with pytest.raises(ImportFailed) as failed:
        built(written(tmp_path, topology=topology, config=config), tmp_path)
    assert says in str(failed.value)


@pytest.mark.parametrize(
    ("frr", "says"),
    [
        ("hostname leaf1\n", 'has no "router bgp ASN" of the main table'),
        ("router bgp\n", "has no"),
        ("router bgp 1\n bgp router-id x\n", "frr.conf:2: Expected 4 octets in 'x'; a router ID is an IPv4 address"),
        ("router bgp 1\n network 10.0.0.0/99\n", "frr.conf:2: .*10.0.0.0/99.*; write ADDRESS/LENGTH"),
        ("router bgp 1\n bgp listen range x peer-group X\n", "frr.conf:2: .*; write ADDRESS/LENGTH"),
        ("interface eth0\n ip address 10.0.0.1/99\nrouter bgp 1\n", "frr.conf:2: .*; write ADDRESS/LENGTH"),
        (
            FRR.replace("route-map FROM-HOSTS", "prefix-list BAD") + "ip prefix-list BAD permit 10.0.0.0/99\n",
            "frr.conf:20: .*; write ADDRESS/LENGTH",
        ),
    ],
)
def test_errors_of_frr_conf_say_what_where_and_what_to_do(frr: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=says):
        built(with_frr(tmp_path, frr), tmp_path)


@pytest.mark.parametrize("name", ["two-leaf", "feeds", "faults", "guests", "evpn-two-tenant"])
def test_topologies_of_the_laboratory_can_be_built(name: str, tmp_path: Path) -> None:
    made = built(str(LAB / f"{name}.clab.yml"), tmp_path)
    fabric = made.fabric
    assert all(host.neighbors.keys() == set(fabric.routers_of(one)) for one, host in fabric.hosts.items())
    assert made.remarks == LEFT_OUT.get(name, [])
