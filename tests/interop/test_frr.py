"""Sessions with FRR: up, routes both ways, security, goodbyes, failures, returns."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bgpd.message.exabgp_codec import encode_route_refresh
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from labs.daemons import Frr
from labs.process import wait_until
from tests.interop.conftest import Pair
from tests.interop.recording_speaker import RecordingSpeaker

pytestmark = pytest.mark.netns

LEAF1 = {"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import": "all"}
LEAF2 = {"name": "leaf2", "interface": "eth1", "asn": "external", "import": "all"}


def frr_config(*lines: str, numbered: bool = True) -> str:
    """The leaf's configuration; `lines` are further ones of the router block."""
    peers = ["neighbor 10.0.1.1 remote-as 65203"] if numbered else ["neighbor swp2 interface remote-as external"]
    name = "10.0.1.1" if numbered else "swp2"
    block = [
        "router bgp 65201",
        "bgp router-id 10.255.0.1",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        *peers,
        *lines,
        "address-family ipv4 unicast",
        "network 10.9.0.0/16",
        "exit-address-family",
        "address-family ipv6 unicast",
        "network 2001:db8:9::/48",
        f"neighbor {name} activate",
        "exit-address-family",
        "exit",
    ]
    return "\n".join(block) + "\n"


def announce(speaker: RecordingSpeaker, neighbor: str, *prefixes: str) -> None:
    """Send prefixes, with this host as the next hop."""
    source = speaker.recorder.sources[neighbor]
    for text in prefixes:
        family, key = parse_prefix(text)
        batch = RouteBatch(family=family, announced=[key], attributes=Attributes.of())
        speaker.call(speaker.speaker.neighbors.send, source, batch)


def frr_route(frr: Frr, prefix: str) -> dict[str, Any]:
    """What FRR knows of a prefix, {} if nothing."""
    family = "ipv6" if ":" in prefix else "ipv4"
    found: dict[str, Any] = frr.vtysh_json(f"show bgp {family} unicast {prefix} json")
    return found


def frr_neighbor(frr: Frr, name: str = "10.0.1.1") -> dict[str, Any]:
    found: dict[str, Any] = frr.vtysh_json(f"show bgp neighbors {name} json")[name]
    return found


@pytest.mark.interop("FRR", "ipv4", "ipv6")
def test_numbered_session_carries_both_families_both_ways(pair: Pair) -> None:
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        speaker.wait_prefixes("leaf1", Family.IPV6_UNICAST, "2001:db8:9::/48")
        assert speaker.prefixes("leaf1")["10.9.0.0/16"] == NextHop(parse_address("10.0.1.2"))
        announce(speaker, "leaf1", "10.64.1.0/26", "2001:db8:64::/64")
        wait_until(lambda: frr_route(frr, "10.64.1.0/26"), 5, "FRR to have the IPv4 route", logs=frr.logs)
        wait_until(lambda: frr_route(frr, "2001:db8:64::/64"), 5, "FRR to have the IPv6 route", logs=frr.logs)
        path = frr_route(frr, "2001:db8:64::/64")["paths"][0]
        assert path["nexthops"][0]["ip"] == "2001:db8:1::1"
        assert path["aspath"]["string"] == "65203"
        family, key = parse_prefix("10.64.1.0/26")
        source = speaker.recorder.sources["leaf1"]
        speaker.call(speaker.speaker.neighbors.send, source, RouteBatch(family=family, withdrawn=[key]))
        wait_until(lambda: not frr_route(frr, "10.64.1.0/26"), 5, "FRR to lose the route")
        view = speaker.view("leaf1")
        assert view is not None
        assert (view.asn, view.router_id, view.hold_time_s) == (65201, "10.255.0.1", 9)
        assert "four-octet-as" in view.capabilities
        assert frr_neighbor(frr)["hostname"] == "host1"


@pytest.mark.interop("FRR", "unnumbered")
def test_unnumbered_session_carries_ipv4_over_link_local_next_hops(pair: Pair) -> None:
    neighbors = {"neighbor": [LEAF2]}
    with Frr(pair.leaf, frr_config(numbered=False)) as frr, RecordingSpeaker(pair.host, neighbors) as speaker:
        speaker.wait_established("leaf2")
        speaker.wait_prefixes("leaf2", Family.IPV4_UNICAST, "10.9.0.0/16")
        next_hop = speaker.prefixes("leaf2")["10.9.0.0/16"]
        assert next_hop is not None
        assert next_hop.interface == "eth1"
        assert next_hop.address[:2] == b"\xfe\x80"
        announce(speaker, "leaf2", "10.64.1.0/26", "2001:db8:64::/64")
        wait_until(lambda: frr_route(frr, "10.64.1.0/26"), 5, "FRR to have the IPv4 route", logs=frr.logs)
        wait_until(lambda: frr_route(frr, "2001:db8:64::/64"), 5, "FRR to have the IPv6 route", logs=frr.logs)
        kernel = "10.64.1.0/26 nhid"
        wait_until(lambda: kernel in pair.leaf.ip("route", "show"), 5, "the leaf's kernel to have the route")
        assert "via inet6 fe80::" in pair.leaf.ip("route", "get", "10.64.1.1")


def test_unnumbered_leaf_that_starts_later_is_found(pair: Pair) -> None:
    with RecordingSpeaker(pair.host, {"neighbor": [LEAF2]}) as speaker:
        speaker.wait_error("leaf2", "no Router Advertisement heard")
        with Frr(pair.leaf, frr_config(numbered=False)):
            speaker.wait_established("leaf2")


@pytest.mark.interop("FRR", "md5")
def test_md5_with_the_same_password(pair: Pair, tmp_path: Path) -> None:
    password = tmp_path / "leaf1.key"
    password.write_text("secret\n")
    config = {"neighbor": [{**LEAF1, "password_file": str(password)}]}
    with (
        Frr(pair.leaf, frr_config("neighbor 10.0.1.1 password secret")) as frr,
        RecordingSpeaker(pair.host, config) as speaker,
    ):
        speaker.wait_established("leaf1")
        wait_until(lambda: frr.established() == ["10.0.1.1"], 5, "FRR to agree", logs=frr.logs)
        assert speaker.view("leaf1").authentication == "md5"


def test_md5_with_another_password_says_so(pair: Pair, tmp_path: Path) -> None:
    password = tmp_path / "leaf1.key"
    password.write_text("other\n")
    config = {"neighbor": [{**LEAF1, "password_file": str(password), "connect_retry_s": 2}]}
    with (
        Frr(pair.leaf, frr_config("neighbor 10.0.1.1 password secret")),
        RecordingSpeaker(pair.host, config) as speaker,
    ):
        speaker.wait_error("leaf1", "is the password the same on both sides?")
        password.write_text("secret\n")
        speaker.wait_established("leaf1")


def test_unreadable_password_file_keeps_the_neighbor_down(pair: Pair, tmp_path: Path) -> None:
    config = {"neighbor": [{**LEAF1, "password_file": str(tmp_path / "missing")}]}
    lines = ("neighbor 10.0.1.1 timers connect 1",)
    with Frr(pair.leaf, frr_config(*lines)) as frr, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_error("leaf1", "No such file or directory")
        time.sleep(2)  # the leaf dials every second
        view = speaker.view("leaf1")
        assert view is not None
        assert view.state != "established"
        assert view.established_count == 0
        assert "No such file or directory" in view.last_error
        assert speaker.recorder.established == 0
        assert frr.established() == []


@pytest.mark.interop("FRR", "gtsm")
def test_gtsm_on_both_sides(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "ttl_security": True}]}
    lines = ("neighbor 10.0.1.1 ttl-security hops 1",)
    with Frr(pair.leaf, frr_config(*lines)) as frr, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        wait_until(lambda: frr.established() == ["10.0.1.1"], 5, "FRR to agree", logs=frr.logs)


def test_gtsm_drops_a_leaf_that_sends_a_smaller_ttl(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "ttl_security": True, "connect_retry_s": 1}]}
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, config) as speaker:
        view = speaker.wait_error("leaf1", "TTL mismatch")
        assert view.established_count == speaker.recorder.established == 0
        assert frr.established() == []


@pytest.mark.interop("FRR", "shutdown-text")
def test_shutdown_text_both_ways(pair: Pair) -> None:
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        command = "neighbor 10.0.1.1 shutdown message new line card"
        frr.vtysh("conf t", "router bgp 65201", command)
        view = speaker.wait_error("leaf1", "new line card")
        assert "cease/administrative-shutdown" in view.last_error
        frr.vtysh("conf t", "router bgp 65201", "no neighbor 10.0.1.1 shutdown")
        speaker.wait_established("leaf1")
        speaker.call(speaker.speaker.shutdown, "host is rebooted", gracefully=False)
        wait_until(lambda: "host is rebooted" in str(frr_neighbor(frr)), 5, "FRR to show our text", logs=frr.logs)


def test_wrong_asn_is_refused_and_told(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "asn": 65299}]}
    with Frr(pair.leaf, frr_config()), RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_error("leaf1", "the peer is in AS 65201; AS 65299 is configured")
        assert speaker.recorder.established == 0


def test_leaf_without_bgp_refuses(pair: Pair) -> None:
    with RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_error("leaf1", "10.0.1.2 port 179: connection refused")


def test_hung_leaf_falls_by_the_hold_timer_and_comes_back(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "hold_time_s": 3}]}
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        os.kill(frr.pid, signal.SIGSTOP)
        try:
            speaker.wait_error("leaf1", "hold timer expired")
        finally:
            os.kill(frr.pid, signal.SIGCONT)
        speaker.wait_established("leaf1", timeout_s=40)


def test_killed_leaf_is_missed_at_once_and_met_again_soon(pair: Pair) -> None:
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        frr.kill()
        wait_until(lambda: not speaker.recorder.sources, 1, "the session to fall")
        frr.start_daemon("bgpd")
        frr.configure(frr_config())
        speaker.wait_established("leaf1", timeout_s=6)
        assert speaker.recorder.established == 2


def test_lost_link_ends_the_session_at_once_and_its_return_brings_it_back(pair: Pair) -> None:
    neighbors = {"neighbor": [LEAF1]}
    with Frr(pair.leaf, frr_config("timers bgp 3 9")), RecordingSpeaker(pair.host, neighbors) as speaker:
        speaker.wait_established("leaf1")
        pair.leaf.ip("link", "set", "swp1", "down")
        speaker.kernel()
        wait_until(lambda: speaker.recorder.closed == ["link eth0 went down"], 0.5, "the session to fall")
        pair.leaf.ip("link", "set", "swp1", "up")
        pair.leaf.addresses("swp1", "2001:db8:1::2/64")
        speaker.kernel()
        speaker.wait_established("leaf1")


@pytest.mark.interop("FRR", "collision")
def test_simultaneous_opens_converge_every_time(pair: Pair) -> None:
    lines = ("neighbor 10.0.1.1 timers connect 1",)
    with Frr(pair.leaf, frr_config(*lines)) as frr, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        for round_number in range(1, 6):
            wait_until(lambda n=round_number: speaker.recorder.established >= n, 15, f"session {round_number}")
            wait_until(lambda: frr.established() == ["10.0.1.1"], 10, "FRR to agree", logs=frr.logs)
            frr.vtysh("clear bgp 10.0.1.1")
        wait_until(
            lambda: frr.established() == ["10.0.1.1"] and speaker.view("leaf1").state == "established", 15, "both"
        )


@pytest.mark.interop("FRR", "dynamic-here")
def test_dynamic_neighbor_of_a_listen_range(pair: Pair, tmp_path: Path) -> None:
    password = tmp_path / "vm.key"
    password.write_text("secret\n")
    listen = {"prefix": "10.0.1.0/28", "asn": "external", "import": "all", "password_file": str(password)}
    lines = ("neighbor 10.0.1.1 password secret", "neighbor 10.0.1.1 timers connect 1")
    with RecordingSpeaker(pair.host, {"listen": [listen]}) as speaker, Frr(pair.leaf, frr_config(*lines)) as frr:
        speaker.wait_established("10.0.1.0/28-10.0.1.2")
        speaker.wait_prefixes("10.0.1.0/28-10.0.1.2", Family.IPV4_UNICAST, "10.9.0.0/16")
        assert frr.established() == ["10.0.1.1"]
        frr.stop()
        wait_until(lambda: not speaker.call(speaker.speaker.neighbor_views), 3, "the dynamic neighbor to be forgotten")


@pytest.mark.interop("FRR", "refresh-asked", "refresh-answered", "enhanced-refresh")
def test_route_refresh_both_ways(pair: Pair) -> None:
    with Frr(pair.leaf, frr_config()) as frr, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        speaker.recorder.routes.clear()
        neighbor = speaker.speaker.neighbors.named("leaf1")
        assert neighbor is not None
        speaker.call(neighbor._driver.write, encode_route_refresh(1, 1, 0))
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        wanted = [("began", Family.IPV4_UNICAST), ("ended", Family.IPV4_UNICAST)]
        wait_until(lambda: speaker.recorder.refreshes == wanted, 5, "BoRR and EoRR")
        frr.vtysh("clear bgp ipv4 unicast 10.0.1.1 soft in")
        wait_until(lambda: ("requested", Family.IPV4_UNICAST) in speaker.recorder.refreshes, 5, "FRR's request")
        counts = frr_neighbor(frr)["messageStats"]
        assert counts["routeRefreshRecv"] == counts["routeRefreshSent"] - 2 == 1, "one each way, and the marks of ours"


def test_shutdown_with_graceful_restart_keeps_the_routes_in_the_leaf(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "graceful_restart": {"restart_time_s": 30}}]}
    with Frr(pair.leaf, frr_config("bgp graceful-restart")) as frr, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        announce(speaker, "leaf1", "10.64.1.0/26")
        speaker.call(speaker.speaker.neighbors.send_end_of_rib, speaker.recorder.sources["leaf1"], Family.IPV4_UNICAST)
        wait_until(lambda: frr_route(frr, "10.64.1.0/26"), 5, "FRR to have the route")
        wait_until(lambda: Family.IPV4_UNICAST in speaker.recorder.ended, 5, "FRR's End-of-RIB")
        speaker.call(speaker.speaker.shutdown, "upgrade", gracefully=True)
        wait_until(lambda: frr.established() == [], 5, "FRR to notice")
        assert frr_route(frr, "10.64.1.0/26")["paths"][0].get("stale") is True
