"""Filters that `bgpd import` converted, held against the program that they are of: FRR and BIRD, and then bgpd in their
place, hear the same routes, and must take the same ones with the same attributes."""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bgpd.migrate.importing import Imported
from labs.daemons import Bird, Frr
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host
from tests.daemon.wire_peer import END_OF_RIB, WirePeer, attribute, update
from tests.migrate.converting import imported, written

pytestmark = pytest.mark.netns

LAST = "203.0.113.0/24"
"""A route that every filter takes: what came before it has been judged when it is there."""
PREFIXES = (
    "0.0.0.0/0",
    "10.64.0.0/12",
    "10.64.1.0/24",
    "10.64.7.0/24",
    "10.64.7.128/25",
    "10.65.3.0/28",
    "10.65.3.16/29",
    "10.80.0.0/16",
    "10.255.0.1/32",
    "10.255.0.0/24",
    "192.0.2.0/24",
)
PATHS = ((65201,), (65201, 64512), (65201, 64999, 65300), (65201, 65201, 4200000001), (65201, 164513))
COMMUNITIES = ((), ((65535, 0),), ((65000, 1),), ((65000, 1), (65000, 2)), ((65000, 77), (65535, 0)))
LARGE = ((), ((65000, 1, 7),), ((65000, 2, 8), (65000, 1, 7)))
MEDS = (None, 0, 50, 100)


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    with Fabric() as fabric:
        yield fabric


class Route(NamedTuple):
    """What a program took: LOCAL_PREF is 100 where none is set, MED 0 where there is none."""

    local_pref: int
    med: int
    as_path: str
    communities: frozenset[str]
    large: frozenset[str]


def messages() -> Iterator[bytes]:
    """Some fifty routes: each prefix with attributes of all kinds, differently mixed; then what ends them."""
    mixed = itertools.product(COMMUNITIES, PATHS, LARGE, MEDS)
    chosen = list(itertools.islice(mixed, 0, None, 6))
    for number, (communities, path, large, med) in enumerate(chosen):
        block = PREFIXES[number % len(PREFIXES)]
        yield _message(_moved(block, number // len(PREFIXES)), path, communities, large, med)
    yield _message(LAST, (65201,), (), (), None)
    yield END_OF_RIB


def _moved(prefix: str, by: int) -> str:
    """Another prefix of the same length beside it; the default route stays, and is announced anew."""
    address, _, length = prefix.partition("/")
    if length == "0" or by == 0:
        return prefix
    number = int.from_bytes(bytes(map(int, address.split("."))), "big") + (by << 32 - int(length))
    return ".".join(map(str, number.to_bytes(4, "big"))) + f"/{length}"


def _message(
    prefix: str,
    path: tuple[int, ...],
    communities: tuple[tuple[int, int], ...],
    large: tuple[tuple[int, int, int], ...],
    med: int | None,
) -> bytes:
    extra = attribute(0x80, 4, struct.pack("!I", med)) if med is not None else b""
    if communities:
        extra += attribute(0xC0, 8, b"".join(struct.pack("!HH", *one) for one in communities))
    if large:
        extra += attribute(0xC0, 32, b"".join(struct.pack("!III", *one) for one in large))
    as_path = attribute(0x40, 2, struct.pack(f"!BB{len(path)}I", 2, len(path), *path))
    return update((prefix,), asn=65201, as_path=as_path, extra=extra)


def announce_all(peer: WirePeer) -> None:
    connection = peer.establish()
    for one in messages():
        connection.sendall(one)


def by_bgpd(fabric: Fabric, peer: WirePeer, found: Imported) -> dict[str, Route]:
    """What bgpd takes with the configuration that was converted."""
    with Host(fabric.host, found.text.replace("${loopback4}", "10.255.1.1")) as host:
        announce_all(peer)
        host.wait(lambda: host.get("neighbors")[0]["end_of_rib"], "all to be heard")
        host.wait(lambda: LAST in [view["prefix"] for view in host.get("routes")], "all to be judged")
        routes = {}
        for view in host.get("routes"):
            for path in view["candidates"]:
                if path["kind"] == "ebgp" and path["role"] in ("best", "multipath"):
                    routes[view["prefix"]] = _route(path)
        return routes


def _route(path: dict[str, Any]) -> Route:
    local_pref, med = path["local_pref"], path["med"]
    return Route(
        100 if local_pref is None else local_pref,
        med or 0,
        path["as_path"],
        frozenset(_named(word) for word in path["communities"]),
        frozenset(path["large_communities"]),
    )


def _named(community: str) -> str:
    is_shutdown = re.fullmatch("graceful.?shutdown", community, re.IGNORECASE)
    return "65535:0" if is_shutdown else community


FRR = """
router bgp 65203
 bgp router-id 10.255.1.1
 no bgp ebgp-requires-policy
 neighbor 10.0.1.2 remote-as 65201
 neighbor 10.0.1.2 timers connect 1
 address-family ipv4 unicast
  neighbor 10.0.1.2 activate
  neighbor 10.0.1.2 route-map IN in
 exit-address-family
exit
ip prefix-list FABRIC seq 5 deny 10.64.7.0/24 le 32
ip prefix-list FABRIC seq 10 permit 10.64.0.0/12 le 28
ip prefix-list FABRIC seq 15 permit 0.0.0.0/0
ip prefix-list HOSTS seq 5 permit 10.255.0.0/16 ge 32
ip prefix-list LAST seq 5 permit 203.0.113.0/24
bgp community-list standard DRAINED seq 5 permit graceful-shutdown
bgp community-list standard TWO seq 5 permit 65000:2
bgp as-path access-list STUB seq 5 permit ^65201_1[0-9]+$
bgp large-community-list standard SEVEN seq 5 permit 65000:1:7
bgp as-path access-list BOGONS seq 5 permit _6451[2-9]_
bgp as-path access-list LONG seq 5 permit ^65201 65201
route-map IN permit 1
 match ip address prefix-list LAST
exit
route-map IN deny 5
 match as-path BOGONS
exit
route-map IN permit 10
 match community DRAINED
 set local-preference 10
 on-match next
exit
route-map IN permit 15
 match large-community SEVEN
 set metric 7
 set community 65000:99 additive
 on-match next
exit
route-map IN permit 20
 match ip address prefix-list FABRIC
exit
route-map IN permit 25
 match as-path STUB
 set local-preference 300
 set large-community 65203:1:1 additive
 set comm-list TWO delete
exit
route-map IN deny 27
 match as-path LONG
exit
route-map IN permit 30
 match ip address prefix-list HOSTS
 set as-path prepend 65203 65203
exit
"""


def test_frr_and_bgpd_with_its_route_map_take_the_same(fabric: Fabric, tmp_path: Path) -> None:
    found = imported("frr", written(tmp_path, FRR, "frr.conf"))
    assert 'import = "none"' not in found.text, found.text
    with WirePeer(fabric.leaf1) as peer:
        shut = FRR.replace(" address-family", "  neighbor 10.0.1.2 shutdown\n address-family", 1)
        with Frr(fabric.host, f"bgp route-map delay-timer 0\n{shut}") as frr:
            # It reads the lists a moment later; until then it takes nothing, and it would ask for all again.
            wait_until(lambda: "is *IN" in frr.vtysh("show bgp neighbors 10.0.1.2"), 15, "the route map to be read")
            frr.vtysh("configure terminal", "router bgp 65203", "no neighbor 10.0.1.2 shutdown")
            announce_all(peer)
            table = "show bgp ipv4 unicast json"
            wait_until(lambda: LAST in frr.vtysh_json(table)["routes"], 15, "all to be judged")
            prefixes = sorted(frr.vtysh_json(table)["routes"])
            said = frr.vtysh(*(f"show bgp ipv4 unicast {prefix} json" for prefix in prefixes))
            taken = {view["prefix"]: _of_frr(view["paths"][0]) for view in _objects(said)}
        assert_same(taken, by_bgpd(fabric, peer, found))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        yield value


def _of_frr(path: dict[str, Any]) -> Route:
    return Route(
        path.get("locPrf", 100),
        path.get("metric", 0),
        path["aspath"]["string"],
        frozenset(map(_named, path.get("community", {}).get("list", ()))),
        frozenset(path.get("largeCommunity", {}).get("string", "").split()),
    )


def assert_same(taken: dict[str, Route], by_bgpd: dict[str, Route]) -> None:
    assert len(taken) > 12, "the filter lets something through"
    assert sorted(taken) == sorted(by_bgpd)
    for prefix, route in taken.items():
        assert by_bgpd[prefix] == route, prefix


BIRD = """
router id 10.255.1.1;
define OWN_AS = 65203;
define FABRIC = [ 10.64.0.0/12{16,28}, 0.0.0.0/0 ];
define DRAIN = (65535, 0);
protocol device { }
protocol kernel { ipv4 { import none; export all; }; }
function is_hidden() { return net ~ [ 10.64.7.0/24+ ]; }
filter from_leaf {
	if net = 203.0.113.0/24 then accept;
	if is_hidden() then reject;
	if bgp_path ~ [= * 64512 * =] then reject;
	if DRAIN ~ bgp_community then bgp_local_pref = 10;
	if (65000, 1, 7) ~ bgp_large_community then {
		bgp_med = 7;
		bgp_community.add((65000, 99));
	}
	if net ~ FABRIC then accept;
	if bgp_path ~ [= * 164513 =] then {
		bgp_large_community.add((65203, 1, 1));
		bgp_community.delete((65000, 2));
		bgp_local_pref = 300;
		accept;
	}
	if net ~ [ 10.255.0.0/16{32,32}, 192.0.2.0/24 ] || bgp_path ~ [= 65201 65201 * =] then {
		bgp_path.prepend(OWN_AS);
		accept;
	}
	reject;
}
protocol bgp leaf1 {
	local 10.0.1.1 as OWN_AS;
	neighbor 10.0.1.2 as 65201;
	connect delay time 1;
	ipv4 { import filter from_leaf; export none; };
}
"""
_FIELD = re.compile(r"^\s+(BGP\.\w+): ?(.*)$", re.MULTILINE)


def test_bird_and_bgpd_with_its_filter_take_the_same(fabric: Fabric, tmp_path: Path) -> None:
    found = imported("bird", written(tmp_path, BIRD, "bird.conf"))
    assert 'import = "none"' not in found.text, found.text
    with WirePeer(fabric.leaf1) as peer:
        with Bird(fabric.host, BIRD) as bird:
            announce_all(peer)
            wait_until(lambda: LAST in bird.birdc("show route protocol leaf1"), 15, "all to be judged")
            taken = dict(_of_bird(bird.birdc("show route protocol leaf1 all")))
        # With GRACEFUL_SHUTDOWN a route is the last choice here whatever the filter says, as in FRR, but not in BIRD.
        taken = {
            prefix: route._replace(local_pref=0) if "65535:0" in route.communities else route
            for prefix, route in taken.items()
        }
        assert_same(taken, by_bgpd(fabric, peer, found))


def _of_bird(text: str) -> Iterator[tuple[str, Route]]:
    for block in re.split(r"\n(?=\d)", text):
        prefix = block.split()[0]
        if "/" not in prefix:
            continue
        fields = dict(_FIELD.findall(block))
        communities = re.findall(r"\((\d+),(\d+)\)", fields.get("BGP.community", ""))
        large = re.findall(r"\((\d+), (\d+), (\d+)\)", fields.get("BGP.large_community", ""))
        yield (
            prefix,
            Route(
                int(fields.get("BGP.local_pref", 100)),
                int(fields.get("BGP.med", 0)),
                fields["BGP.as_path"].strip(),
                frozenset(map(":".join, communities)),
                frozenset(map(":".join, large)),
            ),
        )
