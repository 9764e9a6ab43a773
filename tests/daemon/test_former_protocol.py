"""An upgrade from a version whose default of `fib.protocol` was 197: its routes are adopted, and not written again."""

from __future__ import annotations

import pytest

from tests.daemon.fabric import Fabric, leaf, started, table
from tests.daemon.test_flush import flush
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

FORMER = table("[fib]", protocol=197)
STATIC = table("[[workload.static]]", prefix="10.64.1.1/32", interface="pod1")
LEARNED = "10.200.0.0/24"


def routes(fabric: Fabric, protocol: str) -> str:
    return fabric.host.ip("-N", "route", "show", "proto", protocol)


def test_routes_of_the_former_default_are_adopted_under_their_number(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer:
        with started(fabric, leaf(1), STATIC, FORMER) as host:
            peer.establish().sendall(update((LEARNED,), asn=65201))
            host.wait(lambda: LEARNED in routes(fabric, "197"), "the leaf's route")
            host.wait(lambda: "10.64.1.1" in routes(fabric, "197"), "the workload's route")
        before = routes(fabric, "197")
        with started(fabric, leaf(1), STATIC) as host:
            peer.establish().sendall(update((LEARNED, "10.201.0.0/24"), asn=65201))
            host.wait(lambda: "10.201.0.0/24" in routes(fabric, "197"), "a new route, under the number in force")
            host.wait_ready()
            assert set(before.splitlines()) <= set(routes(fabric, "197").splitlines())
            assert not routes(fabric, "217")
            assert "10.64.1.1" in {
                one["prefix"].partition("/")[0] for one in host.get("fib") if one["state"] == "installed"
            }
            host.terminate()
            flush(host)
        assert not routes(fabric, "197")
    with started(fabric, STATIC) as host:
        host.wait(lambda: "10.64.1.1" in routes(fabric, "217"), "the workload's route by the default")
        assert not routes(fabric, "197")


def test_routes_of_workloads_alone_are_adopted_too(fabric: Fabric) -> None:
    with started(fabric, STATIC, FORMER) as host:
        host.wait(lambda: "10.64.1.1" in routes(fabric, "197"), "the workload's route")
    with started(fabric, STATIC) as host:
        host.wait_ready()
        assert "10.64.1.1" in routes(fabric, "197")
        assert not routes(fabric, "217")
