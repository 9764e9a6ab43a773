"""Sessions with GoBGP."""

from __future__ import annotations

import pytest

from bgpd.model.iana import Family
from labs.daemons import Gobgp
from labs.gobgp_config import gobgp_neighbor, gobgp_router
from labs.process import wait_until
from tests.interop.conftest import Pair
from tests.interop.recording_speaker import RecordingSpeaker
from tests.interop.test_frr import LEAF1, announce

pytestmark = pytest.mark.netns

CONFIG = gobgp_router(65201, "10.255.0.1") + gobgp_neighbor(
    "10.0.1.1", 65203, families={"ipv4-unicast": "", "ipv6-unicast": ""}, idle_hold_time_after_reset=1
)


@pytest.mark.interop("GoBGP", "ipv4", "ipv6")
def test_session_carries_both_families_both_ways(pair: Pair) -> None:
    with Gobgp(pair.leaf, CONFIG) as gobgp, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        gobgp.run("global", "rib", "add", "10.9.0.0/16", "nexthop", "10.0.1.2")
        gobgp.run("global", "rib", "add", "-a", "ipv6", "2001:db8:9::/48", "nexthop", "2001:db8:1::2")
        speaker.wait_prefixes("leaf1", Family.IPV4_UNICAST, "10.9.0.0/16")
        speaker.wait_prefixes("leaf1", Family.IPV6_UNICAST, "2001:db8:9::/48")
        announce(speaker, "leaf1", "10.64.1.0/26", "2001:db8:64::/64")
        wait_until(lambda: "10.64.1.0/26" in gobgp.run("global", "rib"), 5, "GoBGP to have it", logs=gobgp.logs)
        wait_until(lambda: "2001:db8:64::/64" in gobgp.run("global", "rib", "-a", "ipv6"), 5, "GoBGP to have it")


@pytest.mark.interop("GoBGP", "shutdown-text")
def test_shutdown_text_of_gobgp_is_told(pair: Pair) -> None:
    with Gobgp(pair.leaf, CONFIG) as gobgp, RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        speaker.wait_established("leaf1")
        gobgp.run("neighbor", "10.0.1.1", "shutdown", "--reason", "new optics")
        speaker.wait_error("leaf1", "new optics")


def test_killed_gobgp_is_missed_and_met_again(pair: Pair) -> None:
    with RecordingSpeaker(pair.host, {"neighbor": [LEAF1]}) as speaker:
        with Gobgp(pair.leaf, CONFIG) as gobgp:
            speaker.wait_established("leaf1")
            gobgp.kill()
            wait_until(lambda: not speaker.recorder.sources, 1, "the session to fall")
        with Gobgp(pair.leaf, CONFIG):
            speaker.wait_established("leaf1")
