"""OpenBGPD: each feature by a session of its own, all between one bgpd and one OpenBGPD."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import OpenBgpd
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
    check_kept_there,
    check_limited,
    check_limiting,
    check_one_connection,
    check_ranged,
    check_routes,
    check_signed,
    check_up,
    rows_with,
)

pytestmark = pytest.mark.netns

USED = ("plain", "six", "signed", "narrow", "inside", "limited", "limiting", "crossed", "role", "ranging", "ranged")


def neighbor(line: str, *rows: str, remote: str = "", asn: int = HOST_ASN) -> str:
    """One neighbor; `remote` is its address or range, if not the line's."""
    local = "" if remote else f"local-address {LINES[line].peer}"
    body = [f"remote-as {asn}", f'descr "{line}"', local, *rows]
    return f"neighbor {remote or LINES[line].host} {{\n" + "".join(f"\t{row}\n" for row in body) + "}\n"


CONFIG = f"""
AS {ASN}
router-id 10.255.0.1
fib-update no
connect-retry 1
""" + "".join(
    (
        neighbor("plain", "announce enhanced refresh yes"),
        neighbor("six", "announce IPv4 none", "announce IPv6 unicast"),
        neighbor("signed", "tcp md5sig password secret", "ttl-security yes"),
        neighbor("narrow", "announce as-4byte no"),
        neighbor("inside", asn=ASN),
        neighbor("limited"),
        neighbor("limiting", "max-prefix 1"),
        neighbor("crossed"),
        neighbor("role", "announce policy provider enforce"),
        neighbor("ranging", remote="10.0.1.160/28"),
        neighbor("ranged"),
        "allow from any\n",
        f"allow to any prefix {{ 10.9.0.0/16 prefixlen >= 16, {NETWORK6} }}\n",
    )
)  # fmt: skip


class OpenBgpdPeer(Peer):
    """OpenBGPD as leaf1."""

    def __init__(self, fabric: Fabric) -> None:
        self.daemon = OpenBgpd(fabric.leaf1, CONFIG)
        for network in (*NETWORKS, NETWORK6):
            self.daemon.ctl("network", "add", network)

    def stop(self) -> None:
        self.daemon.kill()
        self.daemon.stop()

    def is_up(self, line: str) -> bool:
        return LINES[line].host in self.daemon.established()

    def rib(self, line: str) -> dict[str, Any]:
        """Its routes of a line, by prefix."""
        return {
            route["prefix"]: route for route in self.daemon.json("show", "rib", "neighbor", LINES[line].host)["rib"]
        }

    def hears(self, line: str, prefix: str) -> bool:
        return prefix in self.rib(line)

    def told(self, line: str) -> str:
        host = LINES[line].host
        return "\n".join([self.daemon.ctl("show", "neighbor", host), *rows_with(self.daemon.log_path, host)])

    def order(self, line: str, *words: str) -> str:
        """`bgpctl neighbor ADDRESS WORDS`."""
        return self.daemon.ctl("neighbor", LINES[line].host, *words)


@pytest.fixture(scope="module")
def peer(lines: Fabric) -> Iterator[OpenBgpdPeer]:
    with OpenBgpdPeer(lines) as peer:
        yield peer


def test_what_it_cannot_do_is_not_offered(host: Host, peer: OpenBgpdPeer) -> None:
    check_up(host, peer, "plain")
    check_cannot(host, "OpenBGPD")


@pytest.mark.interop("OpenBGPD", "ipv4", "ipv6")
def test_both_families_both_ways(host: Host, peer: OpenBgpdPeer) -> None:
    """Each by a session of its own: on Linux its next hop of IPv6 routes in a session over IPv4 is ::1."""
    check_routes(host, peer, "plain")
    check_routes(host, peer, "six", "ipv6-unicast")
    assert peer.rib("plain")[PODS[0]]["aspath"] == str(HOST_ASN)
    assert peer.rib("plain")[PODS[0]]["exit_nexthop"] == LINES["plain"].host
    assert peer.rib("six")[PODS[-1]]["exit_nexthop"] == LINES["six"].host


@pytest.mark.interop("OpenBGPD", "md5", "gtsm")
def test_md5_and_ttl_security(host: Host, peer: OpenBgpdPeer) -> None:
    check_signed(host, peer)


@pytest.mark.interop("OpenBGPD", "two-octet")
def test_two_octet_as_numbers(host: Host, peer: OpenBgpdPeer) -> None:
    """It takes no neighbor whose AS number is AS_TRANS: here the ones of both sides have two octets."""
    check_routes(host, peer, "narrow")
    assert "four-octet-as" not in host.neighbor("narrow")["negotiated"]
    assert peer.rib("narrow")[PODS[0]]["aspath"] == str(HOST_ASN)
    assert {route["as_path"] for route in host.get("received", neighbor="narrow")} == {str(ASN)}


@pytest.mark.interop("OpenBGPD", "roles")
def test_roles(host: Host, peer: OpenBgpdPeer) -> None:
    check_routes(host, peer, "role")
    view = host.neighbor("role")
    assert (view["role"], view["neighbor_role"]) == ("customer", "provider")
    assert "Open Policy role customer (local provider)" in peer.told("role")
    marks = {str(route["other_attributes"]) for route in host.get("received", neighbor="role")}
    assert marks == {f"['only-to-customer {ASN}']"}


@pytest.mark.interop("OpenBGPD", "internal")
def test_internal_session(host: Host, peer: OpenBgpdPeer) -> None:
    check_internal(host, peer)
    assert peer.rib("inside")[PODS[0]]["aspath"] == ""


@pytest.mark.interop("OpenBGPD", "max-prefix-here")
def test_more_than_bgpd_takes(host: Host, peer: OpenBgpdPeer) -> None:
    check_limited(host, peer, "received max-prefix exceeded")


@pytest.mark.interop("OpenBGPD", "max-prefix-there")
def test_more_than_openbgpd_takes(host: Host, peer: OpenBgpdPeer) -> None:
    check_limiting(host, peer, "max-prefix exceeded")


@pytest.mark.interop("OpenBGPD", "dynamic-here")
def test_openbgpd_is_a_dynamic_neighbor(host: Host, peer: OpenBgpdPeer) -> None:
    check_ranged(host, peer)


@pytest.mark.interop("OpenBGPD", "dynamic-there")
def test_bgpd_is_a_dynamic_neighbor(host: Host, peer: OpenBgpdPeer) -> None:
    check_routes(host, peer, "ranging")


@pytest.mark.interop("OpenBGPD", "refresh-answered", "enhanced-refresh")
def test_refresh_that_it_asks_for(host: Host, peer: OpenBgpdPeer) -> None:
    check_up(host, peer, "plain")
    assert {"route-refresh", "enhanced-route-refresh"} <= set(host.neighbor("plain")["negotiated"])
    peer.order("plain", "refresh")
    for words in ("Request 1 0", "Begin-of-RR 0 1", "End-of-RR 0 1"):
        host.wait(lambda wanted=words: wanted in " ".join(peer.told("plain").split()), f"OpenBGPD to count {words}")


@pytest.mark.interop("OpenBGPD", "shutdown-text")
def test_shutdown_text_of_openbgpd(host: Host, peer: OpenBgpdPeer) -> None:
    """The other way: test_shutdown_text_of_bgpd."""
    check_up(host, peer, "crossed")
    peer.order("crossed", "down", "new line card")
    host.wait(lambda: "new line card" in host.neighbor("crossed")["last_error"], "the text")
    peer.order("crossed", "up")
    check_up(host, peer, "crossed")


@pytest.mark.interop("OpenBGPD", "collision")
def test_both_dial(host: Host, peer: OpenBgpdPeer) -> None:
    check_one_connection(host, peer, lambda: peer.order("crossed", "clear"))


@pytest.mark.interop("OpenBGPD", "host-restarts")
def test_bgpd_restarts(host: Host, peer: OpenBgpdPeer) -> None:
    check_routes(host, peer, "plain")
    check_kept_there(host, lambda line: bool(peer.rib(line).get(PODS[0], {}).get("stale")), "plain")


@pytest.mark.interop("OpenBGPD", "shutdown-text")
def test_shutdown_text_of_bgpd(host: Host, peer: OpenBgpdPeer) -> None:
    check_up(host, peer, "plain")
    host.terminate(signal.SIGINT)
    host.wait(lambda: "bgpd is stopped" in peer.told("plain"), "the text")
    host.start()
    check_up(host, peer, "plain")
