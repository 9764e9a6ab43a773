"""Roles hold for ranges of neighbors and for guests, in `bgpd what-if` and in the history (RFC 9234)."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

import pytest

from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.wire_guest import WireGuest
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, receive, update

pytestmark = pytest.mark.netns

OTC = attribute(0xC0, 35, struct.pack("!I", 64999))
PROVIDER, CUSTOMER_OF_OURS, PEER = (bytes((9, 1, role)) for role in (0, 3, 4))
"""The capability, of a neighbor that is this."""
FIRST, SECOND, LEAK = "10.31.0.0/16", "10.32.0.0/16", "10.33.0.0/16"


@pytest.fixture(scope="module")
def pods(fabric: Fabric) -> Fabric:
    fabric.host.addresses("pod1", "10.70.0.1/24")
    fabric.pods.addresses("pod1", "10.70.0.2/24", "10.70.0.3/24")
    return fabric


def listening(address: str, role: str) -> str:
    values = {"asn": "external", "import_": "all", "families": ["ipv4-unicast"], "role": role}
    return table("[[listen]]", prefix=f"{address}/32", **values)


def longer(asn: int) -> bytes:
    """An AS path that is longer than that of the leaves."""
    return attribute(0x40, 2, struct.pack("!BBII", 2, 2, asn, 64999))


def attributes_told(connection: socket.socket, prefix: str) -> bytes:
    """The attributes that a neighbor is sent of an IPv4 prefix, when it is."""
    address, _, length = prefix.partition("/")
    key = bytes((int(length),)) + socket.inet_aton(address)[: int(length) // 8]
    while True:
        kind, body = receive(connection)
        if kind == UPDATE:
            (skipped,) = struct.unpack_from("!H", body)
            (size,) = struct.unpack_from("!H", body, 2 + skipped)
            if key in body[4 + skipped + size :]:
                return body[4 + skipped : 4 + skipped + size]


def test_roles_hold_for_ranges_and_in_what_if_and_in_the_history(pods: Fabric) -> None:
    """Two leaves are providers, one VM is a customer, another one a peer. What the customer announces too may go to
    leaf2 once leaf1, whose route is better, has gone; what the peer announces may not."""
    uplinks = [leaf(number, role="customer", export="all", families=["ipv4-unicast"]) for number in (1, 2)]
    ranges = listening("10.70.0.2", "provider"), listening("10.70.0.3", "peer")
    with (
        WirePeer(pods.leaf1) as peer1,
        WirePeer(pods.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(pods, *uplinks, *ranges, wait=False) as host,
        peer1.establish(more=PROVIDER) as leaf1,
        peer2.establish(more=PROVIDER) as leaf2,
        WireGuest(pods.pods, asn=64512, source="10.70.0.2", to="10.70.0.1", more=CUSTOMER_OF_OURS) as below,
        WireGuest(pods.pods, asn=64513, source="10.70.0.3", to="10.70.0.1", more=PEER) as beside,
    ):
        host.wait_established("leaf1", "leaf2")
        below.announce(FIRST, as_path=longer(64512))
        beside.announce(SECOND, as_path=longer(64513))
        below.announce(LEAK, extra=OTC)
        leaf1.sendall(update((FIRST, SECOND), asn=65201))
        for prefix in (FIRST, SECOND):
            host.wait_hops(prefix, "10.0.1.2%eth0")
        host.wait(lambda: len(candidates(host, LEAK)) == 1, "the leak")
        assert [one["only_to_customer"] for one in candidates(host, FIRST)] == [65201, None]
        assert [one["only_to_customer"] for one in candidates(host, SECOND)] == [65201, 64513]
        assert "route leak" in candidates(host, LEAK)[0]["reason"]
        before = time.time()
        told = json.loads(host.cli("what-if", "--json", "--down", "leaf1", check=False))["told"]
        assert [(one["neighbor"], one["announced"], one["withdrawn"]) for one in told] == [("leaf2", 1, 0)]
        assert told[0]["examples"] == {"announced": [FIRST]}
        leaf1.shutdown(socket.SHUT_RDWR)
        assert attribute(0xC0, 35, struct.pack("!I", 64512)) not in attributes_told(leaf2, FIRST)
        host.wait_hops(SECOND, "10.70.0.3%pod1")
        why = host.cli("why-not", SECOND, "--neighbor", "leaf2", check=False)
        assert "OTC is AS 64513: it goes to customers only" in why
        assert [one["only_to_customer"] for one in then(host, before, "10.31.0.1")] == [65201, None]
        assert "route leak: OTC is AS 64999" in then(host, before, "10.33.0.1")[0]["reason"]


def candidates(host: Host, prefix: str) -> list[dict[str, Any]]:
    """The candidates of a route, the best first."""
    return [one for route in host.get("routes") if route["prefix"] == prefix for one in route["candidates"]]


def then(host: Host, moment: float, address: str) -> list[dict[str, Any]]:
    """The candidates of the route to an address at an earlier moment."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + f"{moment % 1:.6f}"[1:]
    view = json.loads(host.cli("explain", address, "--at", when, "--json"))
    return list(view["route"]["candidates"])


def test_otc_stays_with_what_a_guest_announces(pods: Fabric) -> None:
    """Whether the guest says it, or the role of its section: to a provider it does not go."""
    guests = [
        table(
            "[[workload.bgp]]",
            name=name,
            address=address,
            asn="external",
            prefixes=["10.9.9.0/24 le 32"],
            max_prefixes=10,
            **role,
        )
        for name, address, role in (("plain", "127.0.0.2", {}), ("above", "127.0.0.3", {"role": "customer"}))
    ]
    uplinks = leaf(1, role="customer", families=["ipv4-unicast"]), leaf(2, families=["ipv4-unicast"])
    with (
        WirePeer(pods.leaf1) as peer1,
        WirePeer(pods.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(pods, *uplinks, *guests, wait=False) as host,
        peer1.establish(more=PROVIDER) as leaf1,
        peer2.establish() as leaf2,
        WireGuest(pods.host, asn=64512) as plain,
        WireGuest(pods.host, asn=64513, source="127.0.0.3", more=PROVIDER) as above,
    ):
        host.wait_established("leaf1", "leaf2")
        plain.announce("10.9.9.1/32", extra=OTC)
        assert OTC in attributes_told(leaf2, "10.9.9.1/32")
        above.announce("10.9.9.3/32")
        assert attribute(0xC0, 35, struct.pack("!I", 64513)) in attributes_told(leaf2, "10.9.9.3/32")
        plain.announce("10.9.9.2/32")
        assert b"\xc0\x23" not in attributes_told(leaf1, "10.9.9.2/32")
        sent = {one["prefix"]: one["neighbors"] for one in host.get("workloads")}
        assert sent == {"10.9.9.1/32": ["leaf2"], "10.9.9.2/32": ["leaf1", "leaf2"], "10.9.9.3/32": ["leaf2"]}
        why = host.cli("why-not", "10.9.9.3/32", "--neighbor", "leaf1", check=False)
        assert "OTC is AS 64513: it goes to customers only" in why
