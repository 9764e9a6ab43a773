"""BIRD: each feature by a session of its own, all between one bgpd and one BIRD."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Bird
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host
from tests.interop.lines import (
    ASN,
    COMMUNITIES,
    HOST_ASN,
    LINES,
    NETWORK6,
    NETWORKS,
    PEER_COMMUNITIES,
    PODS,
    WIDE_ASN,
    WIDE_BEYOND,
    LinedFabric,
    Peer,
    check_bulky,
    check_cannot,
    check_collision,
    check_internal,
    check_kept_here,
    check_kept_there,
    check_limited,
    check_limiting,
    check_loose,
    check_old,
    check_ranged,
    check_room,
    check_routes,
    check_up,
    received,
    rows_with,
)

pytestmark = pytest.mark.netns

USED = (
    "plain",
    "old",
    "bulky",
    "inside",
    "room",
    "limited",
    "limiting",
    "lasting",
    "crossed",
    "ranging",
    "ranged",
    "loose",
)
LASTING = (
    "graceful restart yes",
    "graceful restart time 1",
    "long lived graceful restart yes",
    "long lived stale time 600",
)


def protocol(
    line: str, *rows: str, asn: str = f"as {HOST_ASN}", ipv4: str = "", ipv6: bool = False, ends: str = ""
) -> str:
    """One BGP protocol; `rows` are further ones of it, `ipv4` of its channel, `ends` the addresses."""
    ends = ends or f"local {LINES[line].peer} as {ASN}; neighbor {LINES[line].host} {asn};"
    common = "import all; export where source = RTS_STATIC; next hop self;"
    return f"""
protocol bgp {line} {{
  {ends}
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  {"".join(f"{row}; " for row in rows)}
  ipv4 {{ {common} {ipv4} }};
  {f"ipv6 {{ {common} }};" if ipv6 else ""}
}}
"""


ADDED = " ".join(f"bgp_community.add(({one.replace(':', ',')}));" for one in PEER_COMMUNITIES)
PREPENDED = f"if source = RTS_STATIC then {{ bgp_path.prepend({WIDE_BEYOND}); accept; }} reject;"
RANGING = f"local {LINES['ranging'].peer} as {ASN}; neighbor range 10.0.1.160/28 as {HOST_ASN};"
CONFIG = f"""
router id 10.255.0.1;
log stderr {{ remote }};
graceful restart wait 2;
protocol device {{ }}
protocol static s0 {{ ipv4; route {NETWORKS[0]} unreachable; }}
protocol static s1 {{ ipv4; route {NETWORKS[1]} unreachable; }}
protocol static s6 {{ ipv6; route {NETWORK6} unreachable; }}
protocol radv {{ interface "swp9" {{ max ra interval 4; }}; }}
""" + "".join(
    (
        protocol("plain", "graceful restart yes", ipv6=True),
        protocol(
            "old",
            "enable as4 no",
            asn="external",
            ipv4=f"export filter {{ {PREPENDED} }};",
        ),
        protocol(
            "bulky",
            "enable extended messages yes",
            ipv4=f"export filter {{ if source = RTS_STATIC then {{ {ADDED} accept; }} reject; }};",
        ),
        protocol("inside", asn=f"as {ASN}"),
        protocol("room"),
        protocol("limited"),
        protocol("limiting", ipv4="import limit 1 action disable;"),
        protocol("lasting", *LASTING),
        protocol("crossed"),
        protocol("ranging", 'dynamic name "ranging"', ends=RANGING),
        protocol("ranged"),
        protocol(
            "loose",
            'dynamic name "loose"',
            'interface "swp9"',
            ends=f"local as {ASN}; neighbor range fe80::/64 external;",
            ipv4="extended next hop yes;",
            ipv6=True,
        ),
    )
)  # fmt: skip


class BirdPeer(Peer):
    """BIRD as leaf1, which may be started again."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.bird = Bird(fabric.leaf1, CONFIG)

    def again(self) -> None:
        """Start it anew after `kill`, as one that was restarted gracefully."""
        self.bird.stop()
        self.bird = Bird(self._fabric.leaf1, CONFIG, recovers=True)

    def stop(self) -> None:
        self.bird.stop()

    def is_up(self, line: str) -> bool:
        return named(line) in self.bird.established()

    def hears(self, line: str, prefix: str) -> bool:
        try:
            return prefix in self.bird.birdc(f"show route protocol {named(line)}")
        except LabError:
            return False  # a dynamic protocol that there is not yet

    def told(self, line: str) -> str:
        log = rows_with(self.bird.log_path, f" {named(line)}: ")
        return "\n".join([self.bird.birdc(f"show protocols all {named(line)}"), *log])

    def shown(self, line: str) -> str:
        """Its routes of a line, with all attributes."""
        return self.bird.birdc(f"show route all protocol {named(line)}")


def named(line: str) -> str:
    """What BIRD calls the protocol: the one that it has made of a range has a number."""
    return f"{line}1" if line in ("ranging", "loose") else line


@pytest.fixture(scope="module")
def peer(lines: Fabric) -> Iterator[BirdPeer]:
    with BirdPeer(lines) as peer:
        yield peer


def test_what_it_cannot_do_is_not_offered(host: Host, peer: BirdPeer) -> None:
    check_up(host, peer, "bulky")
    check_cannot(host, "BIRD")


@pytest.mark.interop("BIRD", "unnumbered")
def test_unnumbered(host: Host, peer: BirdPeer) -> None:
    """BIRD advertises itself by Router Advertisements, and takes whoever dials by a link-local address."""
    check_loose(host, peer)
    assert "via fe80:" in peer.shown("loose")


@pytest.mark.interop("BIRD", "two-octet")
def test_two_octet_as_numbers(host: Host, peer: BirdPeer) -> None:
    check_old(host, peer)
    assert f"BGP.as_path: {WIDE_ASN}" in peer.shown("old"), "BIRD takes it from AS4_PATH"


@pytest.mark.interop("BIRD", "extended-messages")
def test_route_that_needs_an_extended_message(host: Host, peer: BirdPeer) -> None:
    check_bulky(host)
    host.wait(lambda: peer.shown("bulky").count("(65203,") >= len(COMMUNITIES), "BIRD to have all communities")


@pytest.mark.interop("BIRD", "internal")
def test_internal_session(host: Host, peer: BirdPeer) -> None:
    check_internal(host, peer)
    assert "BGP.as_path: \n" in peer.shown("inside")


@pytest.mark.interop("BIRD", "max-prefix-here")
def test_more_than_bgpd_takes(host: Host, peer: BirdPeer) -> None:
    check_limited(host, peer, "Maximum number of prefixes reached")


@pytest.mark.interop("BIRD", "max-prefix-there")
def test_more_than_bird_takes(host: Host, peer: BirdPeer) -> None:
    check_limiting(host, peer, "Route limit exceeded")


@pytest.mark.interop("BIRD", "dynamic-here")
def test_bird_is_a_dynamic_neighbor(host: Host, peer: BirdPeer) -> None:
    check_ranged(host, peer)


@pytest.mark.interop("BIRD", "dynamic-there")
def test_bgpd_is_a_dynamic_neighbor(host: Host, peer: BirdPeer) -> None:
    check_routes(host, peer, "ranging")


@pytest.mark.interop("BIRD", "refresh-asked", "refresh-answered", "enhanced-refresh")
def test_refresh_both_ways(host: Host, peer: BirdPeer) -> None:
    check_up(host, peer, "room")
    assert {"route-refresh", "enhanced-route-refresh"} <= set(host.neighbor("room")["negotiated"])
    try:
        check_room(host, lambda prefix: peer.bird.birdc(f"disable s{NETWORKS.index(prefix)}"))
    finally:
        for number in range(len(NETWORKS)):
            peer.bird.birdc(f"enable s{number}")
    before = updates(peer)
    peer.bird.birdc("reload in plain")
    host.wait(lambda: updates(peer) > before, "bgpd to send its routes again")
    assert peer.hears("plain", PODS[0])


def updates(peer: BirdPeer) -> int:
    """How many routes BIRD has heard on the line "plain", in all."""
    rows = [line.split() for line in peer.told("plain").splitlines()]
    return sum(int(row[2]) for row in rows if row[:2] == ["Import", "updates:"])


@pytest.mark.interop("BIRD", "collision")
def test_both_dial(lines: LinedFabric, host: Host, peer: BirdPeer) -> None:
    check_collision(lines, host, peer, lambda: peer.bird.birdc("restart crossed"))


@pytest.mark.interop("BIRD", "host-restarts", "long-lived-there")
def test_bgpd_restarts(host: Host, peer: BirdPeer) -> None:
    def is_stale(line: str) -> bool:
        if line == "lasting":
            return "65535,6" in peer.shown(line)  # LLGR_STALE
        return "Neighbor graceful restart active" in peer.told(line) and peer.hears(line, PODS[0])

    check_up(host, peer, "plain")
    check_routes(host, peer, "lasting")
    check_kept_there(host, is_stale, "plain", "lasting")


@pytest.mark.interop("BIRD", "long-lived-here")
def test_bird_is_away_for_long(host: Host, peer: BirdPeer) -> None:
    check_up(host, peer, "lasting")
    check_kept_here(host, lambda: peer.bird.kill(), peer.again)
    host.wait(lambda: NETWORKS[0] in received(host, "plain"), "the routes of the other lines")
