"""What a VRF of this host tells the fabric."""

from __future__ import annotations

import msgspec

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes
from bgpd.model.communities import encode_link_bandwidth, parse_route_target
from bgpd.model.evpn import mac_ip_key, parse_key
from bgpd.model.iana import EvpnRouteType, SegmentType
from bgpd.model.next_hop import NextHop
from bgpd.model.policy_syntax import format_extended_community
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from tests.evpn.build import CONFIG, V4, VXLAN, WORKLOAD, Host, prefix_route, rd
from tests.message.decoding import negotiated

OWN = "10.255.1.1:1001"
AGGREGATE = '[[aggregate]]\nprefix = "10.64.1.0/24"\nvrf = "blue"\nsummary_only = true\n'


def prefixes(host: Host, name: str) -> dict[str, str]:
    """Prefixes told as type 5, with their gateway IP."""
    told = {}
    for key, batch in host.announced_to(name).items():
        route = parse_key(key)
        if route.route_type == 5:
            assert batch.overlay is not None
            told[f"{route.prefix.hex('.')}/{route.prefix_length}"] = batch.overlay.gateway_ip.hex(".")
    return told


def test_a_workload_is_told_each_leaf_with_the_address_of_the_uplink_to_it() -> None:
    host = Host()
    host.up(1), host.up(2)
    host.workload("10.64.1.5/32")
    assert prefixes(host, "leaf1") == {"0a.40.01.05/32": "0a.01.00.01"}
    assert prefixes(host, "leaf2") == {"0a.40.01.05/32": "0a.02.00.01"}
    host.workload_gone("10.64.1.5/32")
    assert prefixes(host, "leaf1") == {}


def test_routes_carry_targets_encapsulation_and_vni() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    batches = list(host.announced_to("leaf1").values())
    assert batches
    blue = [batch for key, batch in host.announced_to("leaf1").items() if key[1:9] == rd(OWN)]
    for batch in blue:
        assert batch.attributes is not None
        assert batch.overlay is not None
        assert batch.attributes.extended_communities == (parse_route_target("65201:5001"), VXLAN)
        assert batch.overlay.labels == (5001,)
        assert batch.overlay.esi == bytes(10)


def test_link_bandwidth_of_a_service_is_in_its_type_5_route_and_changes_with_it() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32")
    bandwidth = encode_link_bandwidth(4200000000, 375_000)
    family, key = parse_prefix("10.64.1.6/32")
    for carried in ((bandwidth,), ()):
        host.rib.announce_local(WORKLOAD, family, [key], Attributes.of(extended_communities=carried), vrf="blue")
        host.turn()
        sent = {parse_key(key).prefix: batch for key, batch in host.announced_to("leaf1").items() if key[0] == 5}
        found = {prefix[3]: batch.attributes.extended_communities for prefix, batch in sent.items() if batch.attributes}
        plain = (parse_route_target("65201:5001"), VXLAN)
        assert found == {5: plain, 6: (*plain, *carried)}
    assert format_extended_community(bandwidth) == "bandwidth:23456:375000"


def test_uplink_addresses_are_told_with_their_mac_while_the_uplink_is_up() -> None:
    host = Host()
    host.up(1)
    key = mac_ip_key(rd(OWN), mac=bytes((2, 0, 0, 0, 0, 3)), ip=parse_address("10.1.0.1"))
    assert key in host.announced_to("leaf1")
    host.link("eth0.101", index=3, up=False)
    host.turn()
    assert key not in host.announced_to("leaf1")


def test_a_workload_with_a_mac_is_a_type_2_route_too() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    key = mac_ip_key(rd(OWN), mac=bytes.fromhex("0200000000aa"), ip=parse_address("10.64.1.5"))
    assert key in host.announced_to("leaf1")
    assert "0a.40.01.05/32" in prefixes(host, "leaf1")
    host.workload_gone("10.64.1.5/32")
    assert key not in host.announced_to("leaf1")


def test_an_aggregate_stands_for_its_prefixes_but_not_for_mac_routes() -> None:
    host = Host(CONFIG + AGGREGATE)
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    assert prefixes(host, "leaf1") == {"0a.40.01.00/24": "0a.01.00.01"}
    key = mac_ip_key(rd(OWN), mac=bytes.fromhex("0200000000aa"), ip=parse_address("10.64.1.5"))
    assert key in host.announced_to("leaf1")


def test_without_an_address_of_the_family_on_the_uplink_nothing_is_told() -> None:
    host = Host()
    host.up(1), host.up(2)
    host.workload("2001:db8::5/128")
    assert prefixes(host, "leaf1") == {}
    host.address("eth0.101", "2001:db8:1::1/64")
    assert "leaf1" in host.resent
    host.turn()
    assert list(prefixes(host, "leaf1").values()) == [parse_address("2001:db8:1::1").hex(".")]
    assert prefixes(host, "leaf2") == {}


def test_neighbors_of_another_process_are_sent_all_again_only_if_their_gateway_ip_is_another_one() -> None:
    """And not before it is known what they were sent: a refresh would end with nothing, and withdraw all."""
    before = Host()
    before.up(1), before.up(2)
    told = before.evpn.gateways()
    assert {(one.vrf, one.neighbor, one.address.hex(".")) for one in told} >= {("blue", "leaf1", "0a.01.00.01")}
    for left, resent in ((told, []), (told[1:], [told[0].neighbor]), (None, ["leaf1", "leaf2"])):
        host = Host(is_adopting=True)
        host.up(1), host.up(2)
        host.address("eth0.101", "10.1.0.1/31", gone=True)
        host.address("eth0.101", "10.1.0.1/31")
        assert host.resent == []
        host.evpn.go_on(left)
        assert host.resent == resent
        host.address("eth0.101", "10.1.0.1/31", gone=True)
        assert host.resent == [*resent, "leaf1"], "from now on as ever"


def test_learned_routes_are_never_originated() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.up(2)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    assert prefixes(host, "leaf2") == {}


def test_a_removed_vrf_withdraws_all_and_touches_no_other() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32")
    host.workload("10.64.1.5/32", vrf="red")
    host.reconfigure(CONFIG[: CONFIG.index('[[vrf]]\nname = "red"')])
    host.turn()
    assert {key[1:9] for key in host.announced_to("leaf1")} == {rd(OWN)}
    host.reconfigure(CONFIG)
    host.turn()
    assert {key[1:9] for key in host.announced_to("leaf1")} == {rd(OWN), rd("10.255.1.1:1002")}


def test_changed_targets_are_told_for_what_is_there() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    changed = CONFIG.replace('export_rt = ["65201:5001"]', 'export_rt = ["65201:1", "65201:2"]')
    host.reconfigure(changed)
    host.turn()
    blue = {key: batch for key, batch in host.announced_to("leaf1").items() if key[1:9] == rd(OWN)}
    assert len(blue) == 4
    for batch in blue.values():
        assert batch.attributes is not None
        targets = (parse_route_target("65201:1"), parse_route_target("65201:2"))
        assert batch.attributes.extended_communities == (*targets, VXLAN)


def _is_of_an_uplink(key: bytes) -> bool:
    return key[0] == EvpnRouteType.MAC_IP_ADVERTISEMENT and key[13:19] != bytes.fromhex("0200000000aa")


def test_vrfs_that_change_their_route_distinguishers_with_each_other_are_told_both() -> None:
    """A prefix of both is one route under the former distinguisher of the one and the new one of the other."""
    host = Host()
    host.up(1)
    for vrf in ("blue", "red"):
        host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa", vrf=vrf)
    host.turn()
    before = host.announced_to("leaf1")
    tables = CONFIG.replace("table = 1001", "table = 0").replace("table = 1002", "table = 1001")
    host.reconfigure(tables.replace("table = 0", "table = 1002"))
    host.turn()
    after = host.announced_to("leaf1")
    assert len(after) == len(before) == 8
    assert {key for key in after if key in before} == {key for key in before if not _is_of_an_uplink(key)}
    red = (parse_route_target("65201:5002"), VXLAN)
    for key, batch in after.items():
        assert batch.attributes is not None
        assert (key[1:9] == rd(OWN)) is (batch.attributes.extended_communities[:2] == red)


CE = """[[neighbor]]
name = "router"
address = "10.66.0.2"
interface = "tap1"
asn = 65300
import = "all"
vrf = "blue"
"""


def host_with_router(originate: str) -> tuple[Host, Source]:
    text = CONFIG.replace("vni = 5001", f'vni = 5001\noriginate = "{originate}"').replace("[[vrf]]", f"{CE}[[vrf]]", 1)
    host = Host(text)
    host.up(1)
    router = Source(name="router", kind=SourceKind.EBGP, asn=65300, address=parse_address("10.66.0.2"))
    host.rib.received.neighbor_up(router, negotiated(families=(V4,)), host.config.neighbor[2])
    return host, router


def says(host: Host, router: Source, prefix: str, *, withdrawn: bool = False) -> bytes:
    key = parse_prefix(prefix)[1]
    path = (AsPathSegment(SegmentType.AS_SEQUENCE, (65300,)),)
    batch = RouteBatch(family=V4, withdrawn=[key])
    if not withdrawn:
        hop = NextHop(parse_address("10.66.0.2"), "tap1")
        batch = RouteBatch(family=V4, announced=[key], attributes=Attributes.of(as_path=path), next_hop=hop)
    host.rib.received.routes_received(router, [batch])
    host.turn()
    return key


def test_a_leaf_that_is_a_router_in_the_vrf_too_is_told_the_gateway_on_its_uplink() -> None:
    host, router = host_with_router("all")
    inside = msgspec.structs.replace(router, address=parse_address("10.1.0.0"))
    host.evpn.neighbor_up(inside, (V4,))
    host.evpn.fib_acknowledged("blue", V4, [says(host, router, "10.70.0.0/16")])
    host.turn()
    assert prefixes(host, "leaf1") == {"0a.46.00.00/16": "0a.01.00.01"}


def test_a_router_in_the_vrf_is_passed_on_only_where_configured_and_once_the_kernel_has_it() -> None:
    host, router = host_with_router("local")
    key = says(host, router, "10.70.0.0/16")
    host.evpn.fib_acknowledged("blue", V4, [key])
    host.turn()
    assert prefixes(host, "leaf1") == {}
    host, router = host_with_router("all")
    key = says(host, router, "10.70.0.0/16")
    assert prefixes(host, "leaf1") == {}
    host.evpn.fib_acknowledged("blue", V4, [key])
    host.turn()
    assert prefixes(host, "leaf1") == {"0a.46.00.00/16": "0a.01.00.01"}
    (batch,) = [batch for key, batch in host.announced_to("leaf1").items() if key[0] == 5]
    assert batch.attributes is not None
    assert batch.attributes.as_path[0].asns == (65300,)
    assert batch.attributes.extended_communities == (parse_route_target("65201:5001"), VXLAN)
    says(host, router, "10.70.0.0/16", withdrawn=True)
    assert prefixes(host, "leaf1") == {}


def test_what_evpn_announced_is_never_passed_back() -> None:
    host, _ = host_with_router("all")
    host.hear(host.sources["leaf1"], prefix_route("10.71.0.0/16"), gateway="10.1.0.0")
    host.evpn.fib_acknowledged("blue", V4, [parse_prefix("10.71.0.0/16")[1]])
    host.turn()
    assert prefixes(host, "leaf1") == {}


def test_what_is_sent_is_whole_on_the_wire() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    codec = EvpnNlri()
    for key, batch in host.announced_to("leaf1").items():
        decoded = codec.decode(codec.encode(key, batch.overlay))
        assert decoded.errors == []
        assert [(group.overlay, list(group.keys)) for group in decoded.announced] == [(batch.overlay, [key])]


def test_a_type_5_route_of_this_host_is_known_by_its_prefix_and_no_other_is() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    found = {host.evpn.prefix_of(key) for key in host.announced_to("leaf1")}
    assert found == {None, ("blue", V4, parse_prefix("10.64.1.5/32")[1])}


def test_a_route_that_is_another_vrfs_since_a_reload_has_the_gateway_of_that_one() -> None:
    """With equal targets and VNI it is the same route to the RIB, which sent nothing."""
    both = CONFIG.replace("65201:5002", "65201:5001").replace("vni = 5002", "vni = 5001")
    both = both.replace('"eth0.102", ', "")
    first = both.replace('name = "blue"', 'name = "blue"\nrd = "7:1"').replace(
        'name = "red"', 'name = "red"\nrd = "7:2"'
    )
    swapped = both.replace('name = "blue"', 'name = "blue"\nrd = "7:2"').replace(
        'name = "red"', 'name = "red"\nrd = "7:1"'
    )
    host, fresh = Host(first), Host(swapped)
    host.up(1), fresh.up(1)
    for one in (host, fresh):
        one.workload("10.64.1.5/32")
        one.workload("10.64.1.5/32", vrf="red")

    def gateways(one: Host) -> dict[bytes, bytes]:
        told = {key: batch.overlay for key, batch in one.announced_to("leaf1").items()}
        return {key: overlay.gateway_ip for key, overlay in told.items() if overlay is not None and key[0] == 5}

    assert len(gateways(host)) == len(gateways(fresh)) == 1
    host.reconfigure(swapped)
    assert gateways(host) == gateways(fresh)
