"""Leaves that run Arista EOS: what is taken of their configurations, by itself and in a fabric."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.build import Builder, Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.eos_text import port_name, port_names
from bgpd.simulation.frr_router import FrrRouter, read_eos_router
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.peer import LocalAs
from bgpd.simulation.play import simulate
from bgpd.simulation.wire import EVPN, V4, V6, Route
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, written

EOS = """\
! device: leaf1 (cEOSLab, EOS-4.32.0F)
!
spanning-tree mode mstp
vrf instance BLUE
!
interface Ethernet1
   description host1
   no switchport
   ip address 10.0.11.0/31
!
interface Ethernet2
   switchport access vlan 20
!
interface Ethernet3/1
   no switchport
   ip address 10.1.1.1/31
!
interface Loopback0
   ip address 10.255.0.1/32
!
interface Vlan10
   vrf BLUE
   ip address virtual 10.10.10.1/24
!
interface Vlan20
   ip address 10.0.20.1/24
!
interface Vxlan1
   vxlan source-interface Loopback0
   vxlan vrf BLUE vni 5001
!
ip prefix-list LOOPBACKS
   seq 10 permit 10.255.0.0/24 eq 32
!
ip prefix-list HOSTS seq 10 permit 10.64.0.0/16 le 32
!
route-map CONNECTED permit 10
   match ip address prefix-list LOOPBACKS
   set metric 5
!
route-map HOSTS-IN permit 10
   match ip address prefix-list HOSTS
   set as-path prepend auto
!
router bgp 65201
   router-id 10.255.0.1
   no bgp default ipv4-unicast
   maximum-paths 4 ecmp 4
   timers bgp 1 3
   graceful-restart restart-time 60
   neighbor HOSTS peer group
   neighbor HOSTS remote-as 65203
   neighbor HOSTS bfd interval 100 min-rx 50 multiplier 4
   neighbor HOSTS route-map HOSTS-IN in
   neighbor HOSTS maximum-routes 12000
   neighbor OVERLAY peer group
   neighbor OVERLAY remote-as 65100
   neighbor OVERLAY update-source Loopback0
   neighbor OVERLAY ebgp-multihop 3
   neighbor OVERLAY send-community extended
   neighbor 10.0.11.1 peer group HOSTS
   neighbor 10.0.20.9 remote-as 65209
   neighbor 10.0.20.9 local-as 65299 no-prepend replace-as
   neighbor 10.1.1.0 remote-as 65100
   neighbor 10.255.0.100 peer group OVERLAY
   neighbor interface Et4-5 peer-group HOSTS
   redistribute connected route-map CONNECTED
   !
   vlan 10
      rd auto
      route-target both 10:10
      redistribute learned
   !
   address-family evpn
      neighbor OVERLAY activate
   !
   address-family ipv4
      neighbor HOSTS activate
      neighbor 10.0.20.9 activate
      neighbor 10.1.1.0 activate
   !
   vrf BLUE
      rd 10.255.0.1:1
      route-target import evpn 1:5001
      route-target export evpn 1:5001
      redistribute connected
!
end
"""
SPINE = """
interface eth1
 ip address 10.1.1.0/31
interface lo
 ip address 10.255.0.100/32
router bgp 65100
 no bgp ebgp-requires-policy
 neighbor 10.1.1.1 remote-as 65201
 neighbor 10.255.0.1 remote-as 65201
 neighbor 10.255.0.1 ebgp-multihop 3
 address-family l2vpn evpn
  neighbor 10.255.0.1 activate
"""
TOPOLOGY = """
name: small
topology:
  nodes:
    leaf1: {kind: arista_ceos, startup-config: __clabNodeName__.cfg}
    spine: {binds: [spine.conf:/etc/frr/frr.conf]}
    host1:
      binds: ["bgpd.toml:/etc/bgpd/bgpd.toml"]
      exec:
        - ip address add 10.0.11.1/31 dev eth0
        - ip route add 10.64.1.1/32 dev pod1
        - ip route add 10.65.1.1/32 dev pod1
    pod1: {kind: linux}
  links:
    - endpoints: ["leaf1:eth1", "host1:eth0"]
    - endpoints: ["host1:pod1", "pod1:eth0"]
    - endpoints: ["spine:eth1", "leaf1:Ethernet3/1"]
"""
WITH_BFD = CONFIG.replace('import = "all"', 'import = "all"\nbfd = {}')
PORTS: dict[str, list[str]] = {"eth1": [], "eth2": [], "Ethernet3/1": [], "eth4": [], "eth5": []}


def read(text: str, tmp_path: Path) -> FrrRouter:
    path = tmp_path / "leaf1.cfg"
    path.write_text(text)
    return read_eos_router(path, PORTS)


def topology(tmp_path: Path, text: str = EOS) -> str:
    (tmp_path / "leaf1.cfg").write_text(text)
    (tmp_path / "spine.conf").write_text(SPINE)
    return written(tmp_path, topology=TOPOLOGY, config=WITH_BFD)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Ethernet1", ["eth1"]),
        ("Et3/1", ["eth3_1"]),
        ("Loopback0", ["Loopback0"]),
        ("Et1-2,7", ["eth1", "eth2", "eth7"]),
        ("Port-Channel5", ["Port-Channel5"]),
    ],
)
def test_ports_are_named_as_containerlab_does(text: str, names: list[str]) -> None:
    assert list(port_names(text)) == names
    assert len(names) > 1 or port_name(text) == names[0]


def test_router_is_what_the_configuration_says(tmp_path: Path) -> None:
    router = read(EOS, tmp_path)
    assert (router.asn, router.router_id) == (65201, "10.255.0.1")
    style = router.style
    assert (style.hold_s, style.restarts, style.restart_time_s) == (3, True, 60)
    assert (style.relaxes, style.most_ways) == (True, 4)
    assert router.own == {"10.255.0.1/32": Route(peer=None, med=5)}
    assert [(name.split()[-1], route.label) for name, route in router.tenants.items()] == [
        ("10.10.10.0/24", (5001).to_bytes(3, "big"))
    ]
    assert router.unread == ("neighbor HOSTS maximum-routes 12000",)


def test_neighbors_are_at_ports_vlans_and_loopbacks(tmp_path: Path) -> None:
    neighbors = read(EOS, tmp_path).neighbors
    (host, of_vlan) = (neighbors.at(port) for port in ("eth1", "eth2"))
    assert host is not None
    assert of_vlan is not None
    assert (host.remote_as, host.families, host.bfd) == ("65203", (V4,), Pace(0.1, 4))
    assert (of_vlan.remote_as, of_vlan.local_as) == ("65209", LocalAs(65299, is_added=False, is_alone=True))
    assert [one.remote_as for port in ("eth4", "eth5") if (one := neighbors.at(port)) is not None] == ["65203"] * 2
    spine = neighbors.at("Ethernet3/1", ["10.1.1.0/31", "10.255.0.100/32"])
    assert spine is not None
    assert spine.families == (V4, EVPN)


def test_filters_of_no_family_are_of_both(tmp_path: Path) -> None:
    activated = "neighbor HOSTS activate"
    text = EOS.replace(activated, f"{activated}\n   address-family ipv6\n      {activated}")
    host = read(text, tmp_path).neighbors.at("eth1")
    assert host is not None
    assert host.families == (V4, V6)
    takes = host.filters.takes
    assert takes is not None
    route = Route(peer="host1", as_path=(65203,))
    taken = takes("10.64.1.1/32", route)
    assert taken is not None
    assert taken.as_path == (65201, 65203)
    assert takes("10.65.1.1/32", route) is None
    assert takes("2001:db8::/32", route) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("   neighbor 10.0.11.1 weight 5", "neighbor 10.0.11.1 weight 5"),
        ("   no neighbor HOSTS next-year", "no neighbor HOSTS next-year"),
        ("   a-statement-of-next-year", "a-statement-of-next-year"),
        ("   bgp confederation identifier 65000", "bgp confederation identifier 65000"),
        ("   vrf RED\n      neighbor 10.9.9.9 remote-as 65009", "neighbor 10.9.9.9 remote-as 65009 (of VRF RED)"),
        ("   vrf RED\n      redistribute static", "redistribute static (of VRF RED)"),
        ("router ospf 1\n   network 0.0.0.0/0 area 0", "router ospf 1 (another protocol)"),
        ("route-map X permit 10\n   sub-route-map Y", "route-map X permit 10 sub-route-map Y"),
    ],
)
def test_what_is_not_known_is_told(line: str, told: str, tmp_path: Path) -> None:
    router = read(f"router bgp 65201\n   neighbor HOSTS peer group\n{line}\n", tmp_path)
    assert router.unread == (told,)


def test_one_way_is_used_unless_more_are_wanted(tmp_path: Path) -> None:
    router = read("router bgp 65000.7\n", tmp_path)
    assert (router.asn, router.style.most_ways) == ((65000 << 16) + 7, 1)


def test_errors_say_where(tmp_path: Path) -> None:
    for text, says in (
        ("interface Ethernet1\n   ip address 10.0.0.300/31\n", "leaf1.cfg:2: "),
        ("hostname leaf1\n", 'leaf1.cfg: has no "router bgp ASN"'),
    ):
        with pytest.raises(ImportFailed) as failed:
            read(text, tmp_path)
        assert says in str(failed.value)


def test_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    file = topology(tmp_path)
    (tmp_path / "leaf1.cfg").unlink()
    chance = random.Random(1)
    with simulated_time(chance) as loop, pytest.raises(ImportFailed, match=r"leaf1\.cfg: cannot be read"):
        Builder(read_topology(file), loop, chance=chance, directory=tmp_path).build()


def test_fabric_with_such_a_leaf_works(tmp_path: Path) -> None:
    quietly()
    made: list[Built] = []
    best: dict[str, Route] = {}
    report = simulate(
        read_topology(topology(tmp_path)),
        lambda _: [],
        seed=0,
        began=made.append,
        told=lambda _: best.update(made.pop().fabric.routers["spine"].best),
    )
    assert report.good, report
    assert report.not_simulated[-3:] == [
        "leaf1: neighbor 10.0.20.9: no link leads to one that is simulated: no session",
        "leaf1: neighbor eth4: no link leads to one that is simulated: no session",
        "leaf1: neighbor eth5: no link leads to one that is simulated: no session",
    ]
    assert {prefix: route.as_path for prefix, route in best.items() if not prefix.startswith("evpn ")} == {
        "10.64.1.1/32": (65201, 65201, 65203),
        "10.255.0.1/32": (65201,),
    }
    assert [one.split()[-1] for one in best if one.startswith("evpn ")] == ["10.10.10.0/24"], "by the loopbacks"
