"""ExaBGP, that of PyPI and Debian's: each feature by a session of its own, all between one bgpd and one ExaBGP."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import ExaBgp
from tests.daemon.fabric import Fabric, Host
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
    Peer,
    check_bulky,
    check_cannot,
    check_internal,
    check_limited,
    check_old,
    check_one_connection,
    check_ranged,
    check_room,
    check_routes,
    check_signed,
    check_six,
    check_up,
    received,
)
from tests.interop.matrix import CANNOT

pytestmark = pytest.mark.netns

USED = ("plain", "signed", "old", "six", "bulky", "inside", "room", "limited", "crossed", "ranging", "ranged")
SCRIPT = """#!/bin/sh
# Writes what ExaBGP says, and says what stands in the file of commands.
tail -n +1 -s 0.1 -f --pid=$$ {directory}/commands &
exec cat >>{directory}/said
"""


def neighbor(
    line: str,
    *rows: str,
    asn: int = HOST_ASN,
    capabilities: str = "",
    routes: str = "",
    ipv6: bool = False,
    remote: str = "",
) -> str:
    """One neighbor; `rows` are further ones of it, `routes` those of its networks, if they are not the usual ones."""
    ours, host = LINES[line].peer, LINES[line].host
    routes = routes or "".join(f"route {network} next-hop {ours}; " for network in NETWORKS)
    if ipv6:
        next_hop = ours if ":" in ours else "2001:db8:1::2"
        routes += f"route {NETWORK6} next-hop {next_hop}; "
    return f"""
neighbor {remote or host} {{
  router-id 10.255.0.1; local-address {ours}; local-as {ASN}; peer-as {asn}; hold-time 9;
  {" ".join(rows)}
  family {{ ipv4 unicast; {"ipv6 unicast;" if ipv6 else ""} }}
  capability {{ route-refresh enable; {capabilities} }}
  api {{ processes [ said ]; neighbor-changes; receive {{ parsed; open; update; notification; refresh; }} }}
  static {{ {routes} }}
}}
"""


def config(directory: Path) -> str:
    wide = "".join(f"route {one} next-hop {LINES['old'].peer} as-path [ {ASN} {WIDE_BEYOND} ]; " for one in NETWORKS)
    communities = " ".join(PEER_COMMUNITIES)
    bulky = f"route {NETWORKS[0]} next-hop {LINES['bulky'].peer} community [ {communities} ]; "
    return f"process said {{ run {directory}/script; encoder json; }}\n" + "".join(
        (
            neighbor("plain", capabilities="graceful-restart 120;", ipv6=True),
            neighbor("signed", 'md5-password "secret"; outgoing-ttl 255; incoming-ttl 255;'),
            neighbor("old", asn=AS_TRANS, capabilities="asn4 disable;", routes=wide),
            neighbor("six", "nexthop { ipv4 unicast ipv6; }", capabilities="nexthop enable;", ipv6=True),
            neighbor("bulky", capabilities="extended-message enable;", routes=bulky),
            neighbor("inside", asn=ASN),
            neighbor("room"),
            neighbor("limited"),
            neighbor("ranged"),
            neighbor("crossed"),
            neighbor("ranging", "passive true;", remote="10.0.1.160/28"),
        )
    )


class ExaBgpPeer(Peer):
    """ExaBGP as leaf1, and a process of its API that notes what it says."""

    def __init__(self, fabric: Fabric, program: tuple[str, ...]) -> None:
        self.name = "ExaBGP 4" if program else "ExaBGP"
        self.directory = fabric.leaf1.make_directory("exabgp-api")
        (self.directory / "commands").touch()
        (self.directory / "said").touch()
        script = self.directory / "script"
        script.write_text(SCRIPT.format(directory=self.directory))
        script.chmod(0o755)
        listens = [LINES[line].peer for line in ("crossed", "ranging")]
        self.daemon = ExaBgp(fabric.leaf1, config(self.directory), program=program, listens=listens)

    def order(self, line: str, command: str) -> None:
        """Give a command of the API for one neighbor."""
        with (self.directory / "commands").open("a") as commands:
            commands.write(f"neighbor {LINES[line].host} {command}\n")

    def said(self, line: str) -> list[dict[str, Any]]:
        """What it said of a line, oldest first: the part "neighbor" of each message."""
        rows = (row for row in (self.directory / "said").read_text().splitlines() if row.startswith("{"))
        found = [json.loads(row, strict=False).get("neighbor", {}) for row in rows if f'"{LINES[line].host}"' in row]
        return [one for one in found if one.get("address", {}).get("peer") == LINES[line].host]

    def updates(self, line: str) -> list[dict[str, Any]]:
        messages = (one.get("message", {}) for one in self.said(line))
        return [message["update"] for message in messages if "update" in message]

    def stop(self) -> None:
        self.daemon.stop()

    def is_up(self, line: str) -> bool:
        states = [one["state"] for one in self.said(line) if "state" in one]
        return states[-1:] == ["up"]

    def announcements(self, line: str, prefix: str) -> list[dict[str, Any]]:
        """The UPDATEs that announce a prefix."""
        return [update for update in self.updates(line) if f'"{prefix}"' in json.dumps(update.get("announce", {}))]

    def hears(self, line: str, prefix: str) -> bool:
        return bool(self.announcements(line, prefix))

    def told(self, line: str) -> str:
        return json.dumps(self.said(line))


@pytest.fixture(scope="module", params=[(), ExaBgp.DEBIAN], ids=["PyPI", "Debian"])
def peer(lines: Fabric, request: pytest.FixtureRequest) -> Iterator[ExaBgpPeer]:
    with ExaBgpPeer(lines, request.param) as peer:
        yield peer


def test_what_it_cannot_do_is_not_offered(host: Host, peer: ExaBgpPeer) -> None:
    check_up(host, peer, "bulky")
    check_cannot(host, peer.name)


@pytest.mark.interop("ExaBGP", "ipv4", "ipv6")
@pytest.mark.interop("ExaBGP 4", "ipv4", "ipv6")
def test_both_families_both_ways(host: Host, peer: ExaBgpPeer) -> None:
    for family in ("ipv4-unicast", "ipv6-unicast"):
        check_routes(host, peer, "plain", family)
    (update, *_) = peer.announcements("plain", PODS[0])
    assert str(HOST_ASN) in str(update["attribute"]["as-path"])
    assert LINES["plain"].host in update["announce"]["ipv4 unicast"]


@pytest.mark.interop("ExaBGP", "rfc8950")
@pytest.mark.interop("ExaBGP 4", "rfc8950")
def test_ipv4_by_ipv6_next_hops(host: Host, peer: ExaBgpPeer) -> None:
    check_six(host, peer)
    assert LINES["six"].host in peer.announcements("six", PODS[0])[0]["announce"]["ipv4 unicast"]


@pytest.mark.interop("ExaBGP", "md5", "gtsm")
@pytest.mark.interop("ExaBGP 4", "md5", "gtsm")
def test_md5_and_ttl_security(host: Host, peer: ExaBgpPeer) -> None:
    check_signed(host, peer)


@pytest.mark.interop("ExaBGP", "two-octet")
@pytest.mark.interop("ExaBGP 4", "two-octet")
def test_two_octet_as_numbers(host: Host, peer: ExaBgpPeer) -> None:
    check_old(host, peer)
    assert str(WIDE_ASN) in str(peer.announcements("old", PODS[0])[0]["attribute"]), "from AS4_PATH"


@pytest.mark.interop("ExaBGP", "extended-messages")
@pytest.mark.interop("ExaBGP 4", "extended-messages")
def test_route_that_needs_an_extended_message(host: Host, peer: ExaBgpPeer) -> None:
    check_bulky(host)
    host.wait(lambda: peer.hears("bulky", PODS[0]), "ExaBGP to have the route")
    assert len(peer.announcements("bulky", PODS[0])[0]["attribute"]["community"]) == len(COMMUNITIES)


@pytest.mark.interop("ExaBGP", "internal")
@pytest.mark.interop("ExaBGP 4", "internal")
def test_internal_session(host: Host, peer: ExaBgpPeer) -> None:
    check_internal(host, peer)
    attributes = peer.announcements("inside", PODS[0])[0]["attribute"]
    assert (attributes.get("as-path", []), attributes["local-preference"]) == ([], 100)


@pytest.mark.interop("ExaBGP", "max-prefix-here")
@pytest.mark.interop("ExaBGP 4", "max-prefix-here")
def test_more_than_bgpd_takes(host: Host, peer: ExaBgpPeer) -> None:
    check_limited(host, peer, '"code": 6, "subcode": 1')


@pytest.mark.interop("ExaBGP", "dynamic-here")
@pytest.mark.interop("ExaBGP 4", "dynamic-here")
def test_exabgp_is_a_dynamic_neighbor(host: Host, peer: ExaBgpPeer) -> None:
    check_ranged(host, peer)


@pytest.mark.interop("ExaBGP", "dynamic-there")
@pytest.mark.interop("ExaBGP 4", "dynamic-there")
def test_bgpd_is_a_dynamic_neighbor(host: Host, peer: ExaBgpPeer) -> None:
    check_routes(host, peer, "ranging")


@pytest.mark.interop("ExaBGP", "collision")
@pytest.mark.interop("ExaBGP 4", "collision")
def test_both_dial(host: Host, peer: ExaBgpPeer) -> None:
    check_one_connection(host, peer, lambda: peer.order("crossed", "teardown 4"))


@pytest.mark.interop("ExaBGP", "refresh-asked")
def test_refresh_that_bgpd_asks_for(host: Host, peer: ExaBgpPeer) -> None:
    skip_if_it_cannot(peer, "refresh-asked")
    check_up(host, peer, "room")
    check_room(host, lambda prefix: peer.order("room", f"withdraw route {prefix} next-hop {LINES['room'].peer}"))
    assert '"route-refresh"' in peer.told("room")


@pytest.mark.interop("ExaBGP", "refresh-answered", "enhanced-refresh")
def test_refresh_that_exabgp_asks_for(host: Host, peer: ExaBgpPeer) -> None:
    skip_if_it_cannot(peer, "refresh-answered")
    check_up(host, peer, "plain")
    assert {"route-refresh", "enhanced-route-refresh"} <= set(host.neighbor("plain")["negotiated"])
    before = len(peer.announcements("plain", PODS[0]))
    peer.order("plain", "announce route-refresh ipv4 unicast")
    host.wait(lambda: len(peer.announcements("plain", PODS[0])) > before, "bgpd to send its routes again")
    for mark in ("begin", "end"):
        host.wait(lambda wanted=mark: f'"{wanted}"' in peer.told("plain"), f"the mark {mark} around them")


@pytest.mark.interop("ExaBGP", "peer-restarts")
@pytest.mark.interop("ExaBGP 4", "peer-restarts")
def test_exabgp_restarts(host: Host, peer: ExaBgpPeer) -> None:
    check_routes(host, peer, "plain")
    count = host.neighbor("plain")["established_count"]
    peer.daemon.kill()
    host.wait(lambda: host.neighbor("plain")["stale_routes"] == len(NETWORKS) + 1, "the routes to be stale")
    peer.daemon.restart()
    host.wait(lambda: host.neighbor("plain")["established_count"] > count, "the next session")
    host.wait(lambda: not host.neighbor("plain")["stale_families"], "its End-of-RIB")
    host.wait(lambda: received(host, "plain") == {*NETWORKS, NETWORK6}, "its routes anew")


@pytest.mark.interop("ExaBGP", "shutdown-text")
def test_shutdown_text_of_bgpd(host: Host, peer: ExaBgpPeer) -> None:
    """It sends none itself."""
    skip_if_it_cannot(peer, "shutdown-text")
    check_up(host, peer, "plain")
    host.terminate(signal.SIGINT)
    text = b"bgpd is stopped"
    host.wait(lambda: text.decode() in peer.told("plain") or text.hex() in peer.told("plain").lower(), "the text")


def skip_if_it_cannot(peer: ExaBgpPeer, feature: str) -> None:
    if feature in CANNOT[peer.name]:
        pytest.skip(f"{peer.name}: {CANNOT[peer.name][feature]}")
