"""EVPN as raw bytes to a whole daemon: what is malformed costs itself only, other route types are kept and shown."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from bgpd.evpn.mac_mobility import MOVES_LIMIT
from bgpd.model.communities import parse_link_bandwidth, parse_route_distinguisher, parse_route_target
from labs.daemons import Bgpd
from labs.process import wait_until
from tests.daemon.managed import said
from tests.daemon.wire_peer import UPDATE, Restart, WirePeer, attribute, message, receive
from tests.interop.evpn_fabric import BLUE, EvpnFabric, add_vm, evpn, host_config, kernel_routes, vrf
from tests.interop.evpn_fabric import MAC as VM_MAC

pytestmark = pytest.mark.netns

WAIT_S = 30.0
AFI_SAFI = (25, 70)
RD = parse_route_distinguisher("10.255.2.2:1001")
ESI, NO_ESI, TAG, LABEL = bytes(9) + b"\x07", bytes(10), bytes(4), b"\x00\x13\x89"
GATEWAY = socket.inet_aton("10.1.1.9")
MAC = bytes.fromhex("020000000909")


def nlri(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def prefix(
    text: str, *, gateway: bytes = GATEWAY, esi: bytes = NO_ESI, length: int | None = None, rd: bytes = RD
) -> bytes:
    """A type 5 route; `length` in place of the prefix's own."""
    address, _, own = text.partition("/")
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    bits = bytes((int(own) if length is None else length,))
    return nlri(5, rd + esi + TAG + bits + packed + gateway + LABEL)


def host(address: str, *, mac_bits: int = 48, ip_bits: int = 32) -> bytes:
    """A type 2 route."""
    return nlri(2, RD + NO_ESI + TAG + bytes((mac_bits,)) + MAC + bytes((ip_bits,)) + socket.inet_aton(address) + LABEL)


OPAQUE = {
    1: nlri(1, RD + ESI + b"\xff" * 4 + LABEL),
    3: nlri(3, RD + TAG + b"\x20" + GATEWAY),
    4: nlri(4, RD + ESI + b"\x20" + GATEWAY),
    11: nlri(11, b"who knows"),
}
MALFORMED = {
    "prefix length 33": prefix("10.90.0.0/16", length=33),
    "prefix length 129": prefix("2001:db8:90::/48", gateway=bytes(16), length=129),
    "gateway of the other family": prefix("10.91.0.0/16", gateway=bytes(15) + b"\1"),
    "MAC length": host("10.92.0.1", mac_bits=40),
    "IP length": host("10.92.0.2", ip_bits=24),
    "length of type 2": nlri(2, bytes(30)),
    "length of type 1": nlri(1, bytes(24)),
    "originator of type 3": nlri(3, RD + TAG + b"\x40" + GATEWAY),
}


def announcement(*routes: bytes, bandwidth: int = 0, router_mac: str = "") -> bytes:
    """UPDATE with these routes, blue's route target, link bandwidth if it is not 0, and Router's MAC if given."""
    reach = struct.pack("!HBB", *AFI_SAFI, 4) + socket.inet_aton("10.0.1.0") + b"\0" + b"".join(routes)
    attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    communities = parse_link_bandwidth(f"bandwidth:65201:{bandwidth}") if bandwidth else b""
    communities += b"\6\3" + bytes.fromhex(router_mac) if router_mac else b""
    attributes += attribute(0xC0, 16, parse_route_target(BLUE) + communities)
    attributes += b"\x90\x0e" + struct.pack("!H", len(reach)) + reach
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def withdrawal(*routes: bytes) -> bytes:
    unreach = struct.pack("!HB", *AFI_SAFI) + b"".join(routes)
    attributes = b"\x90\x0f" + struct.pack("!H", len(unreach)) + unreach
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def memberships(block: bytes) -> bytes:
    return message(UPDATE, struct.pack("!HH", 0, len(block)) + block)


END_OF_MEMBERSHIPS = memberships(attribute(0x80, 15, struct.pack("!HB", 1, 132)))
EVERYTHING = memberships(
    attribute(0x40, 1, b"\0")
    + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    + attribute(0x80, 14, struct.pack("!HBB", 1, 132, 4) + socket.inet_aton("10.0.1.0") + b"\0\0")
)
"""All route targets (RFC 4684 section 4: the default membership)."""


@pytest.fixture(scope="module")
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        yield made


@pytest.fixture
def peer(fabric: EvpnFabric) -> Iterator[WirePeer]:
    with WirePeer(fabric.leaf, "10.0.1.0") as peer:
        yield peer


@pytest.fixture
def bgpd(fabric: EvpnFabric, peer: WirePeer) -> Iterator[Bgpd]:
    with fabric.bgpd(1, host_config(1, vrf())) as daemon:
        yield daemon


def in_kernel(fabric: EvpnFabric) -> set[str]:
    """Learned prefixes of blue's table."""
    return {place for place in kernel_routes(fabric.hosts[1]) if place.startswith("10.") and place != "10.1.1.0/24"}


def wait_kernel(fabric: EvpnFabric, bgpd: Bgpd, *prefixes: str) -> None:
    wait_until(lambda: in_kernel(fabric) == set(prefixes), WAIT_S, f"{prefixes} in the kernel", logs=bgpd.logs)


@pytest.mark.parametrize("mac", ["000000000000", "010000000001", "ffffffffffff"])
def test_prefix_behind_a_mac_that_no_router_has_is_withdrawn(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer, mac: str
) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(prefix("10.94.0.0/16"), prefix("10.95.0.0/16"), router_mac="020000000001"))
    wait_kernel(fabric, bgpd, "10.94.0.0/16", "10.95.0.0/16")
    connection.sendall(announcement(prefix("10.94.0.0/16"), router_mac=mac))
    wait_kernel(fabric, bgpd, "10.95.0.0/16")


def test_a_malformed_route_costs_itself_and_neither_the_session_nor_its_neighbors_in_the_update(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(prefix("10.80.0.0/16")))
    for number, malformed in enumerate(MALFORMED.values()):
        connection.sendall(announcement(prefix(f"10.{81 + number}.0.0/16"), malformed, host(f"10.70.0.{number}")))
    good = [f"10.{80 + number}.0.0/16" for number in range(1 + len(MALFORMED))]
    wait_kernel(fabric, bgpd, *good)
    (neighbor,) = bgpd.show("neighbors")
    assert neighbor["state"] == "established"
    assert neighbor["established_count"] == 1
    assert neighbor["families"]["l2vpn-evpn"]["received"] == len(good) + len(MALFORMED)
    assert {place[2] for place in evpn(bgpd, "--type", "5", "--neighbor", "leaf")} == set(good)
    connection.sendall(withdrawal(*(prefix(one) for one in good[1:])))
    wait_kernel(fabric, bgpd, "10.80.0.0/16")


def test_a_gateway_ip_beside_an_ethernet_segment_withdraws_what_was_there(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(prefix("10.80.0.0/16"), prefix("10.81.0.0/16")))
    wait_kernel(fabric, bgpd, "10.80.0.0/16", "10.81.0.0/16")
    connection.sendall(announcement(prefix("10.80.0.0/16", esi=ESI)))
    wait_kernel(fabric, bgpd, "10.81.0.0/16")
    assert (5, "", "10.80.0.0/16") not in evpn(bgpd)
    assert "type 5 with both an ESI and a gateway IP" in bgpd.log_path.read_text()
    assert bgpd.established() == ["leaf"]


def test_types_that_are_not_interpreted_are_kept_counted_and_shown(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(*OPAQUE.values(), prefix("10.80.0.0/16")))
    wait_kernel(fabric, bgpd, "10.80.0.0/16")
    (neighbor,) = bgpd.show("neighbors")
    assert neighbor["families"]["l2vpn-evpn"] == {"received": 5, "rejected": 0, "announced": 2, "discarded": 0}
    shown = {route["type"]: route for route in bgpd.show("evpn", "--neighbor", "leaf")}
    assert shown.keys() == {*OPAQUE, 5}
    assert (shown[1]["rd"], shown[1]["ethernet_tag"]) == ("10.255.2.2:1001", 2**32 - 1)
    assert shown[1]["candidates"][0]["esi"] == ESI.hex()
    assert (shown[3]["originator"], shown[4]["originator"]) == ("10.1.1.9", "10.1.1.9")
    assert bytes.fromhex(shown[11]["opaque"]) == b"who knows"
    assert [route["type"] for route in bgpd.show("evpn", "--type", "3")] == [3]
    assert bgpd.cli("show", "evpn")
    connection.sendall(withdrawal(*OPAQUE.values()))
    wait_until(lambda: len(bgpd.show("evpn", "--neighbor", "leaf")) == 1, WAIT_S, "their withdrawal", logs=bgpd.logs)


def test_a_field_that_cannot_be_split_is_not_guessed_at(fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(prefix("10.80.0.0/16")))
    wait_kernel(fabric, bgpd, "10.80.0.0/16")
    connection.sendall(announcement(prefix("10.81.0.0/16"), b"\x05\xff" + bytes(9)))
    wait_kernel(fabric, bgpd)


def test_link_bandwidth_is_the_weight_of_a_tenant_s_kernel_group(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    def weights() -> dict[str, int]:
        group = kernel_routes(fabric.hosts[1]).get("10.80.0.0/16", {}).get("nhid")
        objects = {one["id"]: one for one in json.loads(fabric.hosts[1].ip("-j", "nexthop"))}
        members = objects[group]["group"] if group in objects else []
        return {objects[member["id"]]["gateway"]: member.get("weight", 1) for member in members}

    other = parse_route_distinguisher("10.255.3.3:1001")
    connection = peer.establish(families=(AFI_SAFI,))
    second = prefix("10.80.0.0/16", gateway=socket.inet_aton("10.1.1.8"), rd=other)
    connection.sendall(announcement(prefix("10.80.0.0/16"), bandwidth=3000000))
    connection.sendall(announcement(second, bandwidth=1000000))
    equal = {"10.1.1.9": 1, "10.1.1.8": 1}
    wait_until(lambda: weights() == equal | {"10.1.1.9": 3}, WAIT_S, "weights of 3 and 1", logs=bgpd.logs)
    connection.sendall(announcement(second))
    wait_until(lambda: weights() == equal, WAIT_S, "equal weights, as one has no bandwidth", logs=bgpd.logs)


def test_show_evpn_by_all_its_filters(fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer) -> None:
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(prefix("10.80.0.0/16"), prefix("10.81.0.0/16", gateway=b"\x0a\x51\0\1"), OPAQUE[3]))
    connection.sendall(announcement(host("10.70.0.1")))
    wait_kernel(fabric, bgpd, "10.80.0.0/16")
    mac = MAC.hex(":")
    told = {
        ("--type", "5"): {"10.80.0.0/16", "10.81.0.0/16"},
        ("--type", "2", "--mac", mac): {"10.70.0.1/32"},
        ("--mac", mac.upper()): {"10.70.0.1/32"},
        ("--rd", "10.255.2.2:1001", "--type", "3"): {""},
        ("--rd", "10.255.9.9:1"): set(),
        ("--prefix", "10.81.0.0/16"): {"10.81.0.0/16"},
        ("--prefix", "10.64.0.0/10", "--longer-prefixes"): {"10.80.0.0/16", "10.81.0.0/16", "10.70.0.1/32"},
        ("--unresolved",): {"10.81.0.0/16", "10.70.0.1/32"},
        ("--vrf", "blue", "--neighbor", "leaf"): {"10.80.0.0/16", "10.81.0.0/16", "10.70.0.1/32", ""},
    }
    found = {filters: {route["prefix"] for route in bgpd.show("evpn", *filters)} for filters in told}
    assert found == told
    assert len(bgpd.show("evpn", "--limit", "2")) == 2


def test_a_tenant_s_table_takes_neither_the_uplink_s_addresses_nor_martians(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    """The leaf's own gateway address comes as type 2 from any leaf: as a host route it would lead to itself."""
    guarded = (host("10.1.1.9"), host("10.1.1.77"), prefix("10.1.1.0/25"), prefix("10.1.1.66/32"))
    martians = (host("127.0.0.5"), host("224.0.0.9"), prefix("127.0.0.0/8"), prefix("240.1.0.0/16"))
    connection = peer.establish(families=(AFI_SAFI,))
    connection.sendall(announcement(*guarded, *martians, prefix("10.80.0.0/16"), prefix("10.0.0.0/14")))
    wait_kernel(fabric, bgpd, "10.80.0.0/16", "10.0.0.0/14")
    assert not [place for place in kernel_routes(fabric.hosts[1]) if place.startswith(("127.", "224.", "240."))]
    blocked = {view["prefix"]: view["error"] for view in bgpd.show("fib") if view["state"] == "blocked"}
    assert blocked.keys() == {"10.1.1.0/25"}
    assert "inside 10.1.1.0/24, the network of uplink eth0.101" in blocked["10.1.1.0/25"]
    (neighbor,) = bgpd.show("neighbors")
    assert neighbor["martians"] == len(martians)


def mobile(address: str, sequence: int) -> bytes:
    """UPDATE with the type 2 route of the VM on another host, of this mobility sequence."""
    mac = bytes.fromhex(VM_MAC.replace(":", ""))
    value = RD + NO_ESI + TAG + b"\x30" + mac + b"\x20" + socket.inet_aton(address) + LABEL
    reach = struct.pack("!HBB", *AFI_SAFI, 4) + socket.inet_aton("10.0.1.0") + b"\0" + nlri(2, value)
    attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    mobility = b"\x06\0\0\0" + struct.pack("!I", sequence)
    attributes += attribute(0xC0, 16, parse_route_target(BLUE) + mobility)
    attributes += b"\x90\x0e" + struct.pack("!H", len(reach)) + reach
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def gone(address: str) -> bytes:
    mac = bytes.fromhex(VM_MAC.replace(":", ""))
    value = RD + NO_ESI + TAG + b"\x30" + mac + b"\x20" + socket.inet_aton(address) + LABEL
    return withdrawal(nlri(2, value))


def test_frozen_vm_that_no_other_host_has_any_more_is_announced_again(
    fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer
) -> None:
    """Two hosts had it in turn until it was frozen; then the other one gives it up, and the tap flaps."""
    address = "10.1.0.7"
    connection = peer.establish(families=(AFI_SAFI,))

    def state() -> str:
        return next((view["state"] for view in bgpd.show("workloads") if view["id"] == "vm"), "")

    def is_frozen() -> bool:
        return any(alarm["standing"] == "frozen" for view in bgpd.show("vrfs") for alarm in view["alarms"])

    def flap() -> None:
        fabric.hosts[1].ip("link", "set", "vm", "down")
        wait_until(lambda: state() == "pending", WAIT_S, "the tap to be down", logs=bgpd.logs)
        fabric.hosts[1].ip("link", "set", "vm", "up")

    for move in range(1, MOVES_LIMIT + 1):
        add_vm(bgpd, address, check=False)
        connection.sendall(mobile(address, 10 * move))
        wait_until(lambda: state() == "moved" or is_frozen(), WAIT_S, "the VM to move or freeze", logs=bgpd.logs)
        if is_frozen():
            break
        bgpd.cli("workload", "del", "vm")
    assert state() == "announced", "a frozen one stays where it is"
    flap()
    wait_until(lambda: state() == "moved", WAIT_S, "the other host to have it", logs=bgpd.logs)
    connection.sendall(gone(address))
    wait_until(lambda: state() == "announced", WAIT_S, "the VM to be here again", logs=bgpd.logs)
    flap()
    wait_until(lambda: state() == "announced", WAIT_S, "the VM after the flap", logs=bgpd.logs)
    assert kernel_routes(fabric.hosts[1])[address]["dev"] == "vm"
    assert not is_frozen()


def test_sequence_that_is_logged_is_the_one_on_the_wire(fabric: EvpnFabric, bgpd: Bgpd, peer: WirePeer) -> None:
    """A VM that was elsewhere and is nowhere else any more comes back as for the first time."""
    address = "10.1.0.7"
    connection = peer.establish(families=(AFI_SAFI,))

    def state() -> str:
        return next((view["state"] for view in bgpd.show("workloads") if view["id"] == "vm"), "")

    def announced_without_sequence() -> bool:
        kind, body = receive(connection)
        mac = bytes.fromhex(VM_MAC.replace(":", ""))
        return kind == UPDATE and mac in body and b"\x90\x0e" in body and b"\x06\0\0\0" not in body

    add_vm(bgpd, address)
    connection.sendall(mobile(address, 9))
    wait_until(lambda: state() == "moved", WAIT_S, "the VM to move", logs=bgpd.logs)
    connection.sendall(gone(address))
    wait_until(lambda: state() == "announced", WAIT_S, "the VM to come back", logs=bgpd.logs)
    wait_until(announced_without_sequence, WAIT_S, "it on the wire", logs=bgpd.logs)
    logged = [json.loads(line) for line in bgpd.log_path.read_text().splitlines() if "mobility.held" in line]
    assert logged[-1]["sequence"] == 0


def test_leaf_that_asks_for_route_targets_is_sent_nothing_before_it_has(fabric: EvpnFabric, peer: WirePeer) -> None:
    """A leaf that restarts keeps what it had of this host: none of that may be withdrawn before the leaf has asked."""
    families = (AFI_SAFI, (1, 132))
    config = host_config(1, vrf(), families=("l2vpn-evpn", "route-target"), neighbor="graceful_restart = {}")
    restart = Restart(families=families)
    with fabric.bgpd(1, config) as daemon:
        connection = peer.establish(families=families, restart=restart)
        connection.sendall(END_OF_MEMBERSHIPS + withdrawal())
        add_vm(daemon, "10.1.1.9")
        for _ in range(2):
            connection.close()
            connection = peer.establish(families=families, restart=restart)
            assert not [body for kind, body in said(connection) if kind == UPDATE and b"\0\x19\x46" in body]
            connection.sendall(EVERYTHING + END_OF_MEMBERSHIPS + withdrawal())
            bodies = [body for kind, body in said(connection) if kind == UPDATE and b"\0\x19\x46" in body]
            withdrawals = [b"\x90\x0f" in body or b"\x80\x0f" in body for body in bodies]
            assert (withdrawals[:-1], withdrawals[-1:]) == ([False, False], [True])  # End-of-RIB
