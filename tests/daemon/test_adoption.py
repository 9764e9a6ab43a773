"""After a restart only what the earlier run left waits for all neighbors; what this run learned follows at once."""

from __future__ import annotations

import pytest

from tests.daemon.fabric import Fabric, kernel_hops, leaf, started
from tests.daemon.wire_peer import WirePeer, update, withdrawal

pytestmark = pytest.mark.netns

LEAF1, LEAF2 = "10.0.1.2%eth0", "10.0.2.2%eth1"
OLD, OLD_OF_BOTH, FIRST, SECOND = "10.9.0.0/16", "10.8.0.0/16", "10.7.0.0/16", "10.6.0.0/16"


def test_routes_learned_before_the_sweep_follow_their_neighbors(fabric: Fabric) -> None:
    """A third leaf that never answers holds the sweep up for 15 s."""
    with (
        WirePeer(fabric.leaf1) as leaf1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as leaf2,
        started(fabric, leaf(1), leaf(2), leaf(3, asn=65209, address="10.0.2.2", port=1799)) as host,
    ):
        session1, session2 = leaf1.establish(), leaf2.establish()
        session1.sendall(update((OLD, OLD_OF_BOTH), asn=65201))
        session2.sendall(update((OLD_OF_BOTH,), asn=65202, next_hop="10.0.2.2"))
        host.wait_hops(OLD, LEAF1)
        host.wait_hops(OLD_OF_BOTH, LEAF1, LEAF2)
        host.kill()
        session1.close()
        session2.close()
        host.start()
        session1, session2 = leaf1.establish(), leaf2.establish()
        session1.sendall(update((FIRST, SECOND, OLD_OF_BOTH), asn=65201))
        host.wait_hops(FIRST, LEAF1)
        host.wait_hops(SECOND, LEAF1)
        session2.sendall(update((FIRST,), asn=65202, next_hop="10.0.2.2"))
        session1.sendall(withdrawal(SECOND))
        host.wait_hops(FIRST, LEAF1, LEAF2)
        host.wait_hops(SECOND)
        assert kernel_hops(fabric.host, OLD) == [LEAF1], "no neighbor has spoken of it yet"
        assert kernel_hops(fabric.host, OLD_OF_BOTH) == [LEAF1, LEAF2], "leaf2 has not said that it has it no longer"
        session2.sendall(update((OLD, OLD_OF_BOTH), asn=65202, next_hop="10.0.2.2"))
        session1.close()
        for prefix in (FIRST, OLD, OLD_OF_BOTH):
            host.wait_hops(prefix, LEAF2)
        assert not host.health()["ready"]
        assert not host.log("fib.repairing")
