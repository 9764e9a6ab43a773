"""Route messages that are sent one by one: what pyroute2 reads in them is what they are to say."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from bgpd.kernel.probe_messages import encode_arrival, encode_no_probe_route, encode_probe_route
from bgpd.kernel.route_messages import (
    LAST_RESORT_METRIC,
    RouteForm,
    encode_last_resort,
    encode_route_dump_request,
)
from bgpd.model.iana import Family
from bgpd.model.prefix import parse_address, parse_prefix
from tests.kernel.test_route_messages import extended_rtmsg

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
NEW, DELETE, GET = 24, 25, 26
REQUEST, DUMP, REPLACE, EXCLUSIVE, CREATE = 0x1, 0x300, 0x100, 0x200, 0x400
UNICAST, LOCAL, UNREACHABLE = 1, 2, 7
ONLINK = 4
FORM = RouteForm(1001, 217, 20)
PREFIXES = {V4: "10.64.9.1/32", V6: "2001:db8::9/128"}


def read(data: bytes) -> tuple[int, int, Any, dict[str, Any]]:
    """Type and flags of the message, the message, and its attributes."""
    found = extended_rtmsg(data)
    found.decode()
    assert found["header"]["length"] == len(data)
    return found["header"]["type"], found["header"]["flags"], found, dict(found["attrs"])


@pytest.mark.parametrize(("family", "number"), [(V4, socket.AF_INET), (V6, socket.AF_INET6)])
def test_unreachable_default_of_a_vrf(family: Family, number: int) -> None:
    for gone in (False, True):
        kind, flags, found, attributes = read(encode_last_resort(family, 1001, 217, gone=gone))
        assert (kind, flags) == ((DELETE, REQUEST) if gone else (NEW, REQUEST | CREATE | EXCLUSIVE))
        assert (found["family"], found["dst_len"], found["proto"], found["type"]) == (number, 0, 217, UNREACHABLE)
        assert attributes == {"RTA_TABLE": 1001, "RTA_PRIORITY": LAST_RESORT_METRIC}


@pytest.mark.parametrize("narrowed", [{}, {"table": 1001}, {"interface": 7}, {"table": 254, "interface": 2}])
@pytest.mark.parametrize(("family", "number"), [(V4, socket.AF_INET), (V6, socket.AF_INET6)])
def test_dumps_are_asked_for_of_what_is_wanted_only(family: Family, number: int, narrowed: dict[str, int]) -> None:
    kind, flags, found, attributes = read(encode_route_dump_request(family, protocol=217, **narrowed))
    assert (kind, flags, found["family"], found["proto"]) == (GET, REQUEST | DUMP, number, 217)
    names = {"table": "RTA_TABLE", "interface": "RTA_OIF"}
    assert attributes == {names[name]: value for name, value in narrowed.items()}


@pytest.mark.parametrize(("family", "gateway"), [(V4, "10.0.0.2"), (V6, "fe80::2")])
def test_probe_by_one_gateway(family: Family, gateway: str) -> None:
    key = parse_prefix(PREFIXES[family])[1]
    kind, flags, found, attributes = read(encode_probe_route(family, key, [(parse_address(gateway), 3, 1)], FORM))
    assert (kind, flags) == (NEW, REQUEST | CREATE | REPLACE)
    assert (found["dst_len"], found["type"], found["flags"], found["proto"]) == (key[0], UNICAST, ONLINK, 217)
    assert (attributes["RTA_GATEWAY"], attributes["RTA_OIF"]) == (gateway, 3)
    assert (attributes["RTA_TABLE"], attributes["RTA_PRIORITY"]) == (1001, 20)
    assert attributes["RTA_DST"] == PREFIXES[family].partition("/")[0]


@pytest.mark.parametrize(
    ("weights", "hops"), [((1, 3), [0, 2]), ((256, 1), [255, 0]), ((1000, 500), [255, 127]), ((10_000, 1), [255, 0])]
)
def test_probe_by_several_gateways_has_their_weights_as_far_as_linux_counts(
    weights: tuple[int, int], hops: list[int]
) -> None:
    """A weight of n is rtnh_hops n - 1, of one byte (linux/rtnetlink.h)."""
    key = parse_prefix(PREFIXES[V4])[1]
    gateways = [(parse_address(f"10.0.0.{n + 2}"), n + 3, weight) for n, weight in enumerate(weights)]
    _, _, found, attributes = read(encode_probe_route(V4, key, gateways, FORM))
    assert found["flags"] == 0
    ways = attributes["RTA_MULTIPATH"]
    assert [way["hops"] for way in ways] == hops
    assert [(way["oif"], way["flags"]) for way in ways] == [(3, ONLINK), (4, ONLINK)]
    assert [dict(way["attrs"]) for way in ways] == [{"RTA_GATEWAY": "10.0.0.2"}, {"RTA_GATEWAY": "10.0.0.3"}]


@pytest.mark.parametrize("family", [V4, V6])
def test_addresses_of_services_arrive_at_this_host_and_go_again(family: Family) -> None:
    key = parse_prefix(PREFIXES[family])[1]
    kind, flags, found, attributes = read(encode_arrival(family, key, 1, FORM))
    assert (kind, flags, found["type"], found["scope"]) == (NEW, REQUEST | CREATE | REPLACE, LOCAL, 254)
    assert (attributes["RTA_OIF"], attributes["RTA_TABLE"]) == (1, 1001)
    kind, flags, found, attributes = read(encode_no_probe_route(family, key, FORM))
    assert (kind, flags, found["type"], found["scope"]) == (DELETE, REQUEST, 0, 255)
    assert attributes["RTA_DST"] == PREFIXES[family].partition("/")[0]
