"""FRR: what test_frr.py does not show, each feature by a session of its own, all between one bgpd and one FRR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, frr_paths
from tests.interop.lines import (
    AS_TRANS,
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
    check_old,
    check_routes,
    check_up,
    received,
    rows_with,
)

pytestmark = pytest.mark.netns

USED = ("plain", "old", "bulky", "inside", "limited", "limiting", "lasting", "crossed", "ranging")
ASNS = {"old": WIDE_ASN, "inside": ASN}
MAPS = {"old": "wide", "bulky": "bulky"}
AT_ONCE = 250
"""Communities in one line: vtysh reads lines of 4096 characters."""


def bulky_map() -> list[str]:
    """A route map that adds all communities, some in each of its entries."""
    rows = []
    for at in range(0, len(PEER_COMMUNITIES), AT_ONCE):
        rows += [f"route-map bulky permit {10 + at}", " match ip address prefix-list own"]
        rows += [f" set community {' '.join(PEER_COMMUNITIES[at : at + AT_ONCE])} additive", " on-match next"]
    return rows[:-1]


def config() -> str:
    hosts = {line: LINES[line].host for line in USED if line != "ranging"}
    head = [
        "ip prefix-list own permit 10.9.0.0/16 le 32",
        "route-map own permit 10",
        " match ip address prefix-list own",
        "route-map wide permit 10",
        " match ip address prefix-list own",
        f" set as-path prepend {WIDE_BEYOND}",
        *bulky_map(),
        f"router bgp {ASN}",
        "bgp router-id 10.255.0.1",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        "bgp graceful-restart",
        "bgp graceful-restart preserve-fw-state",
        "bgp graceful-restart restart-time 1",
        "bgp graceful-restart select-defer-time 5",  # else its own End-of-RIB waits for that of all neighbors
        "bgp long-lived-graceful-restart stale-time 600",
        "neighbor hosts peer-group",
        f"neighbor hosts remote-as {HOST_ASN}",
        "bgp listen range 10.0.1.160/28 peer-group hosts",
    ]
    for line, host in hosts.items():
        head += [
            f"neighbor {host} remote-as {ASNS.get(line, HOST_ASN)}",
            f"neighbor {host} update-source {LINES[line].peer}",
            f"neighbor {host} timers connect 1",
        ]
    family = [f"network {network}" for network in NETWORKS] + [
        f"neighbor {host} route-map {MAPS.get(line, 'own')} out" for line, host in hosts.items()
    ]
    tail = [
        f"neighbor {hosts['old']} dont-capability-negotiate",
        "address-family ipv4 unicast",
        *family,
        f"neighbor {hosts['limiting']} maximum-prefix 1",
        "exit-address-family",
        "address-family ipv6 unicast",
        f"network {NETWORK6}",
        f"neighbor {hosts['plain']} activate",
        "exit-address-family",
        "exit",
    ]
    return "\n".join([*head, *tail, ""])


class FrrPeer(Peer):
    """FRR as leaf1, which may be started again."""

    def __init__(self, fabric: Fabric) -> None:
        self.frr = Frr(fabric.leaf1, config())

    def stop(self) -> None:
        self.frr.stop()

    def is_up(self, line: str) -> bool:
        return LINES[line].host in self.frr.established()

    def path(self, line: str, prefix: str) -> dict[str, Any]:
        """The path of a prefix that it has by a line, {} if none."""
        paths = frr_paths(self.frr, prefix)
        return next((path for path in paths if path.get("peer", {}).get("peerId") == LINES[line].host), {})

    def hears(self, line: str, prefix: str) -> bool:
        return bool(self.path(line, prefix))

    def told(self, line: str) -> str:
        host = LINES[line].host
        log = rows_with(self.frr.processes[-1].log_path, host)
        return "\n".join([str(self.frr.vtysh_json(f"show bgp neighbors {host} json")), *log])


@pytest.fixture(scope="module")
def peer(lines: Fabric) -> Iterator[FrrPeer]:
    with FrrPeer(lines) as peer:
        yield peer


def test_what_it_cannot_do_is_not_offered(host: Host, peer: FrrPeer) -> None:
    check_up(host, peer, "lasting")
    check_cannot(host, "FRR")


@pytest.mark.interop("FRR", "two-octet")
def test_two_octet_as_numbers(host: Host, peer: FrrPeer) -> None:
    """FRR without capabilities is a speaker of before RFC 6793."""
    check_old(host, peer)
    assert host.neighbor("old")["capabilities"] == []
    assert peer.path("old", PODS[0])["aspath"]["string"] == str(AS_TRANS)


@pytest.mark.interop("FRR", "extended-messages")
def test_route_that_needs_an_extended_message(host: Host, peer: FrrPeer) -> None:
    check_bulky(host)
    host.wait(lambda: peer.hears("bulky", PODS[0]), "FRR to have the route")
    assert len(peer.path("bulky", PODS[0])["community"]["list"]) == len(COMMUNITIES)


@pytest.mark.interop("FRR", "internal")
def test_internal_session(host: Host, peer: FrrPeer) -> None:
    check_internal(host, peer)
    path = peer.path("inside", PODS[0])
    assert (path["aspath"]["length"], path["locPrf"]) == (0, 100)


@pytest.mark.interop("FRR", "collision")
def test_both_dial(lines: LinedFabric, host: Host, peer: FrrPeer) -> None:
    check_collision(lines, host, peer, lambda: peer.frr.vtysh(f"clear bgp {LINES['crossed'].host}"))


@pytest.mark.interop("FRR", "max-prefix-here")
def test_more_than_bgpd_takes(host: Host, peer: FrrPeer) -> None:
    check_limited(host, peer, "Maximum Number of Prefixes Reached")


@pytest.mark.interop("FRR", "max-prefix-there")
def test_more_than_frr_takes(host: Host, peer: FrrPeer) -> None:
    check_limiting(host, peer, "Maximum Number of Prefixes Reached")


@pytest.mark.interop("FRR", "dynamic-there")
def test_bgpd_is_a_dynamic_neighbor(host: Host, peer: FrrPeer) -> None:
    check_up(host, peer, "ranging")
    host.wait(lambda: peer.hears("ranging", PODS[0]), "FRR to have a route")
    assert "peerSubnetRangeGroup" in peer.told("ranging")


@pytest.mark.interop("FRR", "hard-reset")
def test_hard_reset(host: Host, peer: FrrPeer) -> None:
    """With the N bit of both sides FRR's reset by hand is a hard one, after which nothing is kept."""
    check_routes(host, peer, "plain")
    count = host.neighbor("plain")["established_count"]
    peer.frr.vtysh(f"clear bgp {LINES['plain'].host}")
    host.wait(lambda: host.neighbor("plain")["established_count"] > count, "the next session")
    view = host.neighbor("plain")
    assert view["last_notification_received"] == "cease/hard-reset (cease/administrative-reset)"
    lost = [record for record in host.log("graceful_restart.routes_kept") if record["neighbor"] == "plain"]
    assert lost == []
    check_routes(host, peer, "plain")


@pytest.mark.interop("FRR", "long-lived-there")
def test_bgpd_restarts(host: Host, peer: FrrPeer) -> None:
    def is_stale(line: str) -> bool:
        return "llgr-stale" in str(peer.path(line, PODS[0]).get("community", {}))

    check_routes(host, peer, "lasting")
    check_kept_there(host, is_stale, "lasting")


@pytest.mark.interop("FRR", "long-lived-here")
def test_frr_is_away_for_long(host: Host, peer: FrrPeer) -> None:
    check_up(host, peer, "lasting")
    check_kept_here(host, peer.frr.kill, peer.frr.restart_bgpd)
    host.wait(lambda: NETWORKS[0] in received(host, "plain"), "the routes of the other lines")
