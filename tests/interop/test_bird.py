"""Sessions with BIRD 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.model.iana import Family
from labs.daemons import Bird
from labs.process import wait_until
from tests.interop.conftest import Pair
from tests.interop.recording_speaker import RecordingSpeaker
from tests.interop.test_frr import LEAF1, announce

pytestmark = pytest.mark.netns


def bird_config(*lines: str, neighbor: str = "10.0.1.1", passive: bool = False) -> str:
    """One BGP protocol "host" with both families; `lines` are further ones of it."""
    extra = "\n".join(lines) + ("\npassive yes;" if passive else "")
    return f"""
router id 10.255.0.1;
protocol device {{ }}
protocol static s4 {{ ipv4; route 10.9.0.0/16 unreachable; }}
protocol static s6 {{ ipv6; route 2001:db8:9::/48 unreachable; }}
protocol bgp host {{
  local as 65201;
  neighbor {neighbor} as 65203;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 4;
  {extra}
  ipv4 {{ import all; export all; next hop self; extended next hop yes; }};
  ipv6 {{ import all; export all; next hop self; }};
}}
"""


@pytest.mark.interop("BIRD", "ipv4", "ipv6")
def test_session_carries_both_families_both_ways(pair: Pair) -> None:
    with Bird(pair.leaf, bird_config()) as bird, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        speaker.wait_prefixes("leaf1", Family.IPV6_UNICAST, "2001:db8:9::/48")
        announce(speaker, "leaf1", "10.64.1.0/26", "2001:db8:64::/64")
        wait_until(
            lambda: "10.64.1.0/26" in bird.birdc("show route protocol host"), 5, "BIRD to have it", logs=bird.logs
        )
        wait_until(lambda: "2001:db8:64::/64" in bird.birdc("show route protocol host"), 5, "BIRD to have it")
        assert set(speaker.recorder.ended) == {Family.IPV4_UNICAST, Family.IPV6_UNICAST}


@pytest.mark.interop("BIRD", "rfc8950")
def test_ipv4_routes_over_an_ipv6_session(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "address": "2001:db8:1::2"}]}
    with Bird(pair.leaf, bird_config(neighbor="2001:db8:1::1")) as bird, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        next_hop = speaker.prefixes("leaf1")["10.9.0.0/16"]
        assert next_hop is not None
        assert len(next_hop.address) == 16
        announce(speaker, "leaf1", "10.64.1.0/26")
        wait_until(
            lambda: "10.64.1.0/26" in bird.birdc("show route protocol host"), 5, "BIRD to have it", logs=bird.logs
        )
        assert "via 2001:db8:1::1" in bird.birdc("show route 10.64.1.0/26")


@pytest.mark.interop("BIRD", "md5", "gtsm")
def test_md5_and_gtsm_on_a_passive_bird(pair: Pair, tmp_path: Path) -> None:
    password = tmp_path / "leaf1.key"
    password.write_text("secret")
    config = {"neighbor": [{**LEAF1, "password_file": str(password), "ttl_security": True}]}
    text = bird_config('password "secret";', "ttl security yes;", passive=True)
    with Bird(pair.leaf, text) as bird, RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")
        wait_until(lambda: bird.established() == ["host"], 5, "BIRD to agree", logs=bird.logs)
        assert speaker.view("leaf1").authentication == "md5"


def test_passive_neighbor_waits_for_bird(pair: Pair) -> None:
    config = {"neighbor": [{**LEAF1, "passive": True}]}
    with Bird(pair.leaf, bird_config()), RecordingSpeaker(pair.host, config) as speaker:
        speaker.wait_established("leaf1")


@pytest.mark.interop("BIRD", "shutdown-text")
def test_shutdown_text_both_ways(pair: Pair) -> None:
    with Bird(pair.leaf, bird_config()) as bird, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        bird.birdc('disable host "fan tray"')
        speaker.wait_error("leaf1", "fan tray")
        bird.birdc("enable host")
        speaker.wait_established("leaf1")
        speaker.call(speaker.speaker.shutdown, "host is rebooted", gracefully=False)
        wait_until(
            lambda: "host is rebooted" in bird.birdc("show protocols all host") + bird.log_path.read_text(),
            5,
            "BIRD to show our text",
        )
