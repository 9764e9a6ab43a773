"""EVPN with GoBGP: every field of types 2 and 5, both ways, and route target constraint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bgpd.evpn.mac_mobility import Mobility, encode_mobility
from bgpd.message.exabgp_codec import load as load_codec
from bgpd.model.attributes import Attributes
from bgpd.model.communities import DEFAULT_GATEWAY, VXLAN, parse_route_distinguisher, parse_route_target
from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from labs.daemons import Gobgp
from labs.gobgp_config import GOBGP_KEPT, gobgp_graceful, gobgp_neighbor, gobgp_router
from labs.process import wait_until
from tests.interop.evpn_fabric import BLUE, MAC, EvpnFabric, add_vm, evpn, host_config, kernel_routes, static, vrf
from tests.interop.recording_speaker import RecordingSpeaker

pytestmark = pytest.mark.netns

ESI = bytes.fromhex("01020304050607080900")


def gobgp_config(*families: str, restart_time_s: int = 0) -> str:
    """The leaf, with a session to either host; with graceful restart if it is given a time for it."""
    tables = [gobgp_graceful(restart_time_s)] if restart_time_s else []
    each = dict.fromkeys(families, GOBGP_KEPT if restart_time_s else "")
    hosts = (("10.0.1.1", 65203), ("10.0.2.1", 65204))
    peers = (gobgp_neighbor(address, asn, *tables, families=each) for address, asn in hosts)
    return gobgp_router(65201, "10.255.0.1") + "".join(peers)


@pytest.fixture
def gobgp(fabric: EvpnFabric) -> Iterator[Gobgp]:
    with Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn")) as made:
        yield made


def table(gobgp: Gobgp, neighbor: str = "") -> dict[tuple[Any, ...], dict[str, Any]]:
    """GoBGP's EVPN routes: by (type, MAC, IP or prefix), all fields and attributes in one dict."""
    answer = gobgp.json("global", "rib", "-a", "evpn")
    paths = [path for route in (answer.values() if isinstance(answer, dict) else answer) for path in route]
    found = {}
    for path in paths:
        if not neighbor or path.get("neighbor-ip") == neighbor:
            nlri = path["nlri"]
            fields = nlri["value"]
            attributes = {one["type"]: one for one in path["attrs"]}
            place = (nlri["type"], fields.get("mac", ""), fields.get("ip", fields.get("prefix", "")))
            found[place] = fields | {"communities": attributes[16]["value"], "next_hop": attributes[14]["nexthop"]}
    return found


def wait_for(gobgp: Gobgp, *places: tuple[Any, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    wait_until(lambda: set(places) <= table(gobgp).keys(), 10, f"{places} at GoBGP", logs=gobgp.logs)
    return table(gobgp)


RD = {"type": 1, "admin": "10.255.1.1", "assigned": 1001}
TARGET = {"type": 0, "subtype": 2, "value": BLUE}
ENCAPSULATION = {"type": 3, "subtype": 12, "tunnel_type": 8}


@pytest.mark.interop("GoBGP", "evpn-2", "evpn-5")
def test_what_bgpd_announces_is_what_gobgp_reads(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    config = host_config(1, vrf(), static("10.64.0.0/24"), static("2001:db8:64::/64"))
    with fabric.bgpd(1, config) as bgpd:
        add_vm(bgpd, "10.64.1.20/32", "2001:db8:64:1::20/128", sticky=True)
        own = fabric.hosts[1].mac("eth0.101")
        vm4, vm6 = (2, MAC, "10.64.1.20"), (2, MAC, "2001:db8:64:1::20")
        uplink4, uplink6 = (2, own, "10.1.1.1"), (2, own, "2001:db8:101::1")
        prefix4, prefix6 = (5, "", "10.64.0.0/24"), (5, "", "2001:db8:64::/64")
        found = wait_for(gobgp, vm4, vm6, uplink4, uplink6, prefix4, prefix6)
    for place in (vm4, vm6, uplink4, uplink6, prefix4, prefix6):
        fields = found[place]
        assert (fields["rd"], fields["esi"], fields["etag"]) == (RD, "single-homed", 0)
        assert fields["next_hop"] == "10.0.1.1"
        assert {key: TARGET[key] for key in TARGET} in fields["communities"]
        assert ENCAPSULATION in fields["communities"]
    assert [found[place]["labels"] for place in (vm4, vm6, uplink4, uplink6)] == [[5001]] * 4
    assert [found[place]["label"] for place in (prefix4, prefix6)] == [5001, 5001]
    assert (found[prefix4]["gateway"], found[prefix6]["gateway"]) == ("10.1.1.1", "2001:db8:101::1")
    mobility = [one for one in found[vm4]["communities"] if (one["type"], one["subtype"]) == (6, 0)]
    assert mobility == [{"type": 6, "subtype": 0, "sequence": 0, "is_sticky": True}]
    assert not [one for one in found[uplink4]["communities"] if one["type"] == 6]


@pytest.mark.interop("GoBGP", "evpn-2", "evpn-5")
def test_what_gobgp_announces_is_shown_field_by_field(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    def add(*words: str) -> None:
        gobgp.run("global", "rib", "add", "-a", "evpn", *words)

    with fabric.bgpd(1, host_config(1, vrf())) as bgpd:
        rd = ("rd", "10.255.2.2:7")
        add(
            "macadv",
            "02:00:00:00:00:99",
            "10.64.2.1",
            "etag",
            "5",
            "label",
            "5001,6001",
            *rd,
            "rt",
            BLUE,
            "encap",
            "vxlan",
        )
        lacp = ("esi", "LACP", "00:00:00:00:00:01", "1")
        tail = ("rt", BLUE, "10.0.0.9:7", "router-mac", "02:00:00:00:00:77")
        add("macadv", "02:00:00:00:00:98", "2001:db8:2::8", *lacp, "etag", "0", "label", "16777215", *rd, *tail)
        add("prefix", "10.64.3.0/24", "gw", "10.1.1.9", "etag", "0", "label", "5001", *rd, "rt", BLUE, "encap", "vxlan")
        add("prefix", "2001:db8:3::/48", "gw", "2001:db8:101::9", "etag", "7", "label", "1", *rd, "rt", BLUE)
        add("prefix", "10.64.4.0/24", "etag", "0", "label", "5001", *rd, "rt", "65201:99")
        places = [(2, "02:00:00:00:00:99", "10.64.2.1/32"), (2, "02:00:00:00:00:98", "2001:db8:2::8/128")]
        places += [(5, "", "10.64.3.0/24"), (5, "", "2001:db8:3::/48"), (5, "", "10.64.4.0/24")]
        wait_until(lambda: set(places) <= evpn(bgpd).keys(), 10, "all of GoBGP's routes", logs=bgpd.logs)
        first, second, third, fourth, fifth = (evpn(bgpd)[place] for place in places)
        wait_until(lambda: "10.64.3.0/24" in kernel_routes(fabric.hosts[1]), 5, "the kernel to have 10.64.3.0/24")
        assert kernel_routes(fabric.hosts[1]).keys().isdisjoint({"10.64.4.0/24", "10.64.2.1"})
    assert {one["rd"] for one in (first, second, third, fourth, fifth)} == {"10.255.2.2:7"}
    assert (first["ethernet_tag"], first["labels"], first["esi"], first["vrf"]) == (5, [5001, 6001], "", "blue")
    assert first["extended_communities"] == [f"rt:{BLUE}", "encapsulation:vxlan"]
    assert (second["labels"], second["esi"]) == ([16777215], "01000000000001000100")
    expected = {f"rt:{BLUE}", "rt:10.0.0.9:7", "router-mac:02:00:00:00:00:77"}
    assert set(second["extended_communities"]) == expected
    assert (third["gateway_ip"], third["next_hop"], third["as_path"]) == ("10.1.1.9", "10.0.1.0", "65201")
    assert third["resolution"] == ["10.1.1.9 is on the subnet of eth0.101"]
    assert (fourth["gateway_ip"], fourth["ethernet_tag"], fourth["labels"]) == ("2001:db8:101::9", 7, [1])
    assert fifth["vrf"] == ""


def every_field() -> dict[bytes, tuple[Overlay, Attributes]]:
    """Routes that have, among them, everything that types 2 and 5 can carry; not RFC 9047, which GoBGP 3.10 refuses."""
    rd, mac = parse_route_distinguisher("10.255.1.1:9"), bytes.fromhex("0200000000aa")
    v4, v6 = parse_address("10.64.7.7"), parse_address("2001:db8:7::7")
    targets = tuple(map(parse_route_target, ("65201:5001", "10.0.0.1:5", "4200000000:7")))
    router_mac = b"\x06\x03" + mac
    plain = Attributes.of(extended_communities=(targets[0], VXLAN))
    moved = Attributes.of(extended_communities=(*targets, VXLAN, *encode_mobility(Mobility(2**32 - 1))))
    sticky = Attributes.of(extended_communities=(targets[0], *encode_mobility(Mobility(7, True))))
    gateway = Attributes.of(extended_communities=(targets[0], DEFAULT_GATEWAY, router_mac))
    zero = bytes(10)
    return {
        mac_ip_key(rd, mac=mac): (Overlay(ESI, (5001,)), plain),
        mac_ip_key(rd, mac=mac, ip=v4, ethernet_tag=3): (Overlay(zero, (5001, 6001)), moved),
        mac_ip_key(rd, mac=mac, ip=v6, ethernet_tag=2**32 - 1): (Overlay(ESI, (2**24 - 1,)), sticky),
        mac_ip_key(rd, mac=mac, ip=v4): (Overlay(zero, (1,)), gateway),
        prefix_key(rd, prefix=v4[:3] + b"\0", prefix_length=24): (Overlay(zero, (5001,), v4), plain),
        prefix_key(rd, prefix=bytes(4), prefix_length=0): (Overlay(zero, (5001,)), gateway),
        prefix_key(rd, prefix=v6[:6] + bytes(10), prefix_length=48): (Overlay(zero, (7,), v6), moved),
        prefix_key(rd, prefix=v6, prefix_length=128, ethernet_tag=4): (Overlay(ESI, (7,)), plain),
    }


def test_every_field_passes_from_bgpd_through_gobgp_to_bgpd(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    def neighbor(number: int) -> dict[str, Any]:
        return {
            "neighbor": [
                {
                    "name": "leaf",
                    "address": f"10.0.{number}.0",
                    "asn": 65201,
                    "import": "all",
                    "families": ["l2vpn-evpn"],
                    "connect_retry_s": 1,
                }
            ]
        }

    load_codec()  # which two threads may not do at once
    router = {"asn": 65204, "router_id": "10.255.1.2", "hostname": "host2"}
    with (
        RecordingSpeaker(fabric.hosts[1], neighbor(1)) as first,
        RecordingSpeaker(fabric.hosts[2], {**neighbor(2), "router": router}) as second,
    ):
        first.wait_established("leaf")
        second.wait_established("leaf")
        sent = every_field()
        source = first.recorder.sources["leaf"]
        for key, (overlay, attributes) in sent.items():
            batch = RouteBatch(family=Family.L2VPN_EVPN, announced=[key], attributes=attributes, overlay=overlay)
            first.call(first.speaker.neighbors.send, source, batch)
        heard = second.recorder.overlays
        wait_until(lambda: {("leaf", key) for key in sent} <= heard.keys(), 10, "all routes at host2", logs=gobgp.logs)
        read = table(gobgp)
        sticky = read[2, "02:00:00:00:00:aa", "2001:db8:7::7"]
        assert {"type": 6, "subtype": 0, "sequence": 7, "is_sticky": True} in sticky["communities"]
        assert (sticky["etag"], sticky["labels"]) == (2**32 - 1, [2**24 - 1])
        for key, (overlay, attributes) in sent.items():
            next_hop, found, carried = heard["leaf", key]
            assert next_hop == NextHop(parse_address("10.0.2.0"))
            assert found == overlay, key.hex()
            assert carried is not None
            assert set(carried.extended_communities) == set(attributes.extended_communities)
        withdrawal = RouteBatch(family=Family.L2VPN_EVPN, withdrawn=list(sent))
        first.call(first.speaker.neighbors.send, source, withdrawal)
        wait_until(lambda: not heard, 10, "all to be withdrawn", logs=gobgp.logs)


@pytest.mark.interop("GoBGP", "rtc")
def test_route_target_constraint_is_told_and_obeyed(fabric: EvpnFabric) -> None:
    families = ("l2vpn-evpn", "route-target")
    with (
        Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn", "rtc")) as gobgp,
        fabric.bgpd(1, host_config(1, vrf(), static("10.64.0.0/24"), families=families)) as bgpd,
    ):
        wait_until(lambda: BLUE in gobgp.run("global", "rib", "-a", "rtc"), 10, "the membership", logs=gobgp.logs)
        for prefix, target in (("10.64.3.0/24", BLUE), ("10.64.4.0/24", "65201:99")):
            words = ("prefix", prefix, "etag", "0", "label", "1", "rd", "10.255.2.2:7", "rt", target)
            gobgp.run("global", "rib", "add", "-a", "evpn", *words)
        wait_until(lambda: (5, "", "10.64.3.0/24") in evpn(bgpd), 10, "what was asked for", logs=bgpd.logs)
        assert (5, "", "10.64.4.0/24") not in evpn(bgpd)
        # GoBGP has asked for nothing: nothing is told it.
        assert (5, "", "10.64.0.0/24") not in table(gobgp)
        gobgp.run("vrf", "add", "blue", "rd", "10.255.0.1:1", "rt", "both", BLUE)
        wait_until(lambda: (5, "", "10.64.0.0/24") in table(gobgp), 10, "what GoBGP asked for", logs=bgpd.logs)
