"""GoBGP: each feature by a session of its own, all between one bgpd and one GoBGP."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Gobgp
from labs.gobgp_config import GOBGP_KEPT, gobgp_graceful, gobgp_neighbor, gobgp_router
from tests.daemon.fabric import Fabric, Host
from tests.interop.lines import (
    ASN,
    HOST_ASN,
    LINES,
    NETWORK6,
    NETWORKS,
    PODS,
    Peer,
    check_cannot,
    check_internal,
    check_kept_here,
    check_kept_there,
    check_limited,
    check_limiting,
    check_one_connection,
    check_ranged,
    check_room,
    check_routes,
    check_signed,
    check_six,
    check_up,
    rows_with,
)

pytestmark = pytest.mark.netns

USED = ("plain", "signed", "six", "inside", "room", "limited", "limiting", "lasting", "crossed", "ranging", "ranged")
LLGR_STALE = 65535 << 16 | 6


def neighbor(
    line: str, *tables: str, family: str = "", ipv6: bool = False, asn: int = HOST_ASN, password: str = ""
) -> str:
    """One neighbor; `tables` are further ones of it, `family` those of its IPv4 unicast."""
    families = {"ipv4-unicast": family} | ({"ipv6-unicast": ""} if ipv6 else {})
    host, peer = LINES[line]
    return gobgp_neighbor(host, asn, *tables, families=families, local_address=peer, password=password, hold_time=9)


def graceful(restart_time_s: int, more: str = "") -> str:
    return gobgp_graceful(restart_time_s, f"notification-enabled = true\n{more}")


LONG_LIVED = "[neighbors.afi-safis.long-lived-graceful-restart.config]\nenabled = true\nrestart-time = 600\n"
CONFIG = gobgp_router(ASN, "10.255.0.1") + "".join(
    (
        neighbor("plain", graceful(120), family=GOBGP_KEPT),
        neighbor("signed", "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n", password="secret"),
        neighbor("six", ipv6=True),
        neighbor("inside", asn=ASN),
        neighbor("room"),
        neighbor("limited"),
        neighbor("limiting", family="[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = 1\n"),
        neighbor("lasting", graceful(1, "long-lived-enabled = true\n"), family=GOBGP_KEPT + LONG_LIVED),
        neighbor("crossed"),
        neighbor("ranged"),
        f'[[peer-groups]]\n[peer-groups.config]\npeer-group-name = "hosts"\npeer-as = {HOST_ASN}\n',
        '[[peer-groups.afi-safis]]\n[peer-groups.afi-safis.config]\nafi-safi-name = "ipv4-unicast"\n',
        '[[dynamic-neighbors]]\n[dynamic-neighbors.config]\nprefix = "10.0.1.160/28"\npeer-group = "hosts"\n',
    )
)


class GobgpPeer(Peer):
    """GoBGP as leaf1, which may be started again."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.gobgp = Gobgp(fabric.leaf1, CONFIG)
        self._originate()

    def again(self) -> None:
        """Start it anew after `kill`, as one that was restarted gracefully."""
        self.gobgp.stop()
        self.gobgp = Gobgp(self._fabric.leaf1, CONFIG, recovers=True)
        self._originate()

    def _originate(self) -> None:
        for network in NETWORKS:
            self.announce(network)
        self.gobgp.run("global", "rib", "add", "-a", "ipv6", NETWORK6)

    def announce(self, network: str) -> None:
        """With itself as the next hop, by its address of each line."""
        self.gobgp.run("global", "rib", "add", network)

    def stop(self) -> None:
        self.gobgp.stop()

    def is_up(self, line: str) -> bool:
        return LINES[line].host in self.gobgp.established()

    def heard(self, line: str) -> dict[str, dict[str, Any]]:
        """The paths that it has by a line, by prefix."""
        tables = [self.gobgp.json("global", "rib", "-a", family) or {} for family in ("ipv4", "ipv6")]
        return {
            prefix: path
            for table in tables
            for prefix, paths in table.items()
            for path in paths
            if path.get("neighbor-ip") == LINES[line].host
        }

    def hears(self, line: str, prefix: str) -> bool:
        return prefix in self.heard(line)

    def told(self, line: str) -> str:
        """GoBGP shows no reason but in its log."""
        return "\n".join(rows_with(self.gobgp.log_path, LINES[line].host))

    def order(self, line: str, *words: str) -> str:
        return self.gobgp.run("neighbor", LINES[line].host, *words)


@pytest.fixture(scope="module")
def peer(lines: Fabric) -> Iterator[GobgpPeer]:
    with GobgpPeer(lines) as peer:
        yield peer


def test_what_it_cannot_do_is_not_offered(host: Host, peer: GobgpPeer) -> None:
    check_up(host, peer, "lasting")
    check_cannot(host, "GoBGP")


@pytest.mark.interop("GoBGP", "md5", "gtsm")
def test_md5_and_ttl_security(host: Host, peer: GobgpPeer) -> None:
    check_signed(host, peer)


@pytest.mark.interop("GoBGP", "rfc8950")
def test_ipv4_by_ipv6_next_hops(host: Host, peer: GobgpPeer) -> None:
    check_six(host, peer)
    assert LINES["six"].host in str(peer.heard("six")[PODS[0]])


@pytest.mark.interop("GoBGP", "internal")
def test_internal_session(host: Host, peer: GobgpPeer) -> None:
    check_internal(host, peer)
    attributes = {one["type"]: one for one in peer.heard("inside")[PODS[0]]["attrs"]}
    assert (attributes[2]["as_paths"], attributes[5]["value"]) == ([], 100)


@pytest.mark.interop("GoBGP", "max-prefix-here")
def test_more_than_bgpd_takes(host: Host, peer: GobgpPeer) -> None:
    check_limited(host, peer, "Code=6 ")


@pytest.mark.interop("GoBGP", "max-prefix-there")
def test_more_than_gobgp_takes(host: Host, peer: GobgpPeer) -> None:
    check_limiting(host, peer, "prefix limit reached")


@pytest.mark.interop("GoBGP", "dynamic-here")
def test_gobgp_is_a_dynamic_neighbor(host: Host, peer: GobgpPeer) -> None:
    check_ranged(host, peer)


@pytest.mark.interop("GoBGP", "dynamic-there")
def test_bgpd_is_a_dynamic_neighbor(host: Host, peer: GobgpPeer) -> None:
    check_routes(host, peer, "ranging")


@pytest.mark.interop("GoBGP", "refresh-asked")
def test_refresh_that_bgpd_asks_for(host: Host, peer: GobgpPeer) -> None:
    check_up(host, peer, "room")
    assert "route-refresh" in host.neighbor("room")["negotiated"]
    try:
        check_room(host, lambda prefix: peer.gobgp.run("global", "rib", "del", prefix))
        counts = peer.gobgp.json("neighbor", LINES["room"].host)["state"]["messages"]["received"]
        assert counts["refresh"] == 1
    finally:
        for network in NETWORKS:
            peer.announce(network)


@pytest.mark.interop("GoBGP", "collision")
def test_both_dial(host: Host, peer: GobgpPeer) -> None:
    check_one_connection(host, peer, lambda: [peer.order("crossed", word) for word in ("disable", "enable")])


@pytest.mark.interop("GoBGP", "host-restarts", "long-lived-there")
def test_bgpd_restarts(host: Host, peer: GobgpPeer) -> None:
    def is_stale(line: str) -> bool:
        path = peer.heard(line).get(PODS[0], {})
        return bool(path.get("stale")) and (line == "plain" or str(LLGR_STALE) in str(path["attrs"]))

    for line in ("plain", "lasting"):
        check_routes(host, peer, line)
    check_kept_there(host, is_stale, "plain", "lasting")


@pytest.mark.interop("GoBGP", "long-lived-here")
def test_gobgp_is_away_for_long(host: Host, peer: GobgpPeer) -> None:
    check_up(host, peer, "lasting")
    check_kept_here(host, peer.gobgp.kill, peer.again)


@pytest.mark.interop("GoBGP", "shutdown-text", "hard-reset")
def test_bgpd_stops_for_good(host: Host, peer: GobgpPeer) -> None:
    """Where both sent the N bit ("plain") it is a hard reset, after which GoBGP keeps no route."""
    for line in ("plain", "crossed"):
        check_routes(host, peer, line)
    host.terminate(signal.SIGINT)
    host.wait(lambda: "Reason=hard-reset" in peer.told("plain"), "GoBGP to name the hard reset")
    host.wait(lambda: not peer.heard("plain"), "GoBGP to have dropped the routes")
    host.wait(lambda: 'Communicated-Reason="bgpd is stopped"' in peer.told("crossed"), "the text")
