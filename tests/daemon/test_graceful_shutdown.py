"""A leaf that announces GRACEFUL_SHUTDOWN (RFC 8326) has no traffic any more when its sessions end."""

from __future__ import annotations

import pytest

from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from tests.daemon.fabric import Fabric, leaf, started, table
from tests.daemon.wire_peer import WirePeer, attribute, update

pytestmark = pytest.mark.netns

BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")


def test_a_leaf_in_graceful_shutdown_loses_its_traffic_first(fabric: Fabric) -> None:
    policy = table("[policy.preferred]") + 'rules = [{ set = { local_pref = 200 }, action = "accept" }]\n'
    drained = attribute(0xC0, 8, COMMUNITY_GRACEFUL_SHUTDOWN.to_bytes(4))
    one, other = update(("10.9.0.0/16",), asn=65201), update(("10.9.0.0/16",), asn=65202, next_hop="10.0.2.2")
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(fabric, leaf(1, import_="preferred"), leaf(2, import_="preferred"), policy) as host,
    ):
        leaf1, leaf2 = peer1.establish(), peer2.establish()
        leaf1.sendall(one)
        leaf2.sendall(other)
        host.wait_hops("10.9.0.0/16", *BOTH)
        leaf1.sendall(update(("10.9.0.0/16",), asn=65201, extra=drained))
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        why = host.get("routes", prefix="10.9.0.0/16")[0]["candidates"][1]
        assert (why["local_pref"], why["role"]) == (0, "lost")
        expected = "the best route has the higher LOCAL_PREF: 200, this one 0 for GRACEFUL_SHUTDOWN (step 3)"
        assert why["reason"] == expected
        leaf1.sendall(one)
        host.wait_hops("10.9.0.0/16", *BOTH)
