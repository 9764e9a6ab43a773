"""A hand-over of a session inside a VRF that has a device."""

from __future__ import annotations

import pytest

from tests.daemon.fabric import Fabric, kernel_routes, leaf, table
from tests.daemon.managed import managed, said
from tests.daemon.wire_peer import UPDATE, WirePeer, message, update

pytestmark = [pytest.mark.netns, pytest.mark.vm]

BLUE = table(
    "[[vrf]]", name="blue", table=1001, import_rt=["65201:1"], export_rt=["65201:1"], vni=5001, uplinks=["eth0"]
)


def test_session_inside_a_vrf_goes_on() -> None:
    inside = leaf(1, vrf="blue", families=["ipv4-unicast"], hold_time_s=90)
    with Fabric() as fabric, WirePeer(fabric.leaf1) as peer, managed(fabric, BLUE, inside) as host:
        connection = peer.establish(hold_time_s=90)
        connection.sendall(update(("10.9.0.0/16",), asn=65201, next_hop="10.0.1.2") + message(UPDATE, b"\0\0\0\0"))
        host.wait(lambda: "10.9.0.0/16" in kernel_routes(fabric.host, table="1001"), "the route", timeout_s=60)
        host.wait_ready()
        said(connection)
        for _ in range(2):
            before, pid = host.neighbor("leaf1"), host.pid()
            host.hand_over()
            assert said(connection) == []
            after = host.neighbor("leaf1")
            assert host.pid() != pid
            assert (after["since"], after["flaps"]) == (before["since"], before["flaps"])
            assert host.health()["last_handover"]["adopted"] == 1
        connection.sendall(update(("10.11.0.0/16",), asn=65201, next_hop="10.0.1.2"))
        host.wait(lambda: "10.11.0.0/16" in kernel_routes(fabric.host, table="1001"), "the next route", timeout_s=60)
