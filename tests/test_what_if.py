"""`bgpd what-if --down`: who goes with an interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from bgpd.kernel.host import Host
from bgpd.kernel.speeds import Speeds
from bgpd.model.iana import Family
from bgpd.model.kernel import Link
from bgpd.model.prefix import parse_prefix
from bgpd.model.views.sessions import NeighborView
from bgpd.rib.policy import PolicyError
from bgpd.rib.rib import Rib
from bgpd.routing import Routing
from bgpd.what_if import what_if_down
from bgpd.what_if_changed import what_if_reloaded
from tests.rib.build import Recorder, attributes, configuration, hop, key, leaf, session

LINKS = (
    Link(index=1, name="lo", up=True),
    Link(index=2, name="eth0", up=True),
    Link(index=3, name="eth1", up=True),
    Link(index=4, name="eth0.101", up=True, kind="vlan", parent=2),
    Link(index=5, name="eth0.101.7", up=True, kind="vlan", parent=4),
)
SPEEDS = {"eth0.101": 25_000, "eth0.101.7": 25_000, "eth1": 10_000}
NEIGHBORS = [
    NeighborView(
        name=f"leaf-{name}",
        address="",
        interface=name,
        vrf="",
        asn=65201,
        local_asn=65203,
        state="established",
        since=0,
    )
    for name in ("eth0.101", "eth0.101.7", "eth1")
]


@pytest.mark.parametrize(
    ("name", "down"),
    [
        ("eth0", ["leaf-eth0.101", "leaf-eth0.101.7"]),
        ("eth0.101", ["leaf-eth0.101", "leaf-eth0.101.7"]),
        ("eth0.101.7", ["leaf-eth0.101.7"]),
        ("eth1", ["leaf-eth1"]),
    ],
)
async def test_with_an_interface_go_those_that_speak_by_it(name: str, down: list[str]) -> None:
    host = Host(lambda event: None)
    for link in LINKS:
        host.link(link)
    rib = cast(Rib, SimpleNamespace(tables={}))
    view = await what_if_down(name, rib=rib, host=host, neighbors=NEIGHBORS, speeds=Speeds(SPEEDS.get))
    assert view.neighbors_down == down
    assert view.neighbors_left == [one.name for one in NEIGHBORS if one.name not in down]
    left = {one.interface for one in NEIGHBORS if one.name not in down}
    assert {one.interface: one.speed_mbps for one in view.uplinks_left} == {one: SPEEDS[one] for one in left}


@pytest.mark.parametrize(("next_hop", "lost"), [("10.0.1.2", 1), ("32.1.13.184", 0), ("10.0.2.2", 0)])
async def test_with_an_interface_go_next_hops_in_its_networks_of_their_family(next_hop: str, lost: int) -> None:
    """2001:db8::/32 is filed under the bytes of 32.1.13.184/32."""
    config = session("far")
    recorder = Recorder(configuration(config))
    source = recorder.up(leaf(9, name="far"), config)
    recorder.announce(source, attributes(65201), hop(next_hop), "10.9.0.0/16")
    recorder.turn()
    networks = {(Family.IPV4_UNICAST, key("10.0.1.0/24")), (Family.IPV6_UNICAST, parse_prefix("2001:db8::/32")[1])}
    host = Host(lambda event: None)
    for link in LINKS:
        host.link(link)
    host.networks = lambda interface: networks if interface == "eth0" else set()  # type: ignore[method-assign]
    view = await what_if_down("eth0", rib=recorder.rib, host=host, neighbors=NEIGHBORS, speeds=Speeds(SPEEDS.get))
    (table,) = [one for one in view.tables if one.family == Family.IPV4_UNICAST]
    assert (table.lost, table.unchanged) == (lost, 1 - lost)


async def test_a_file_with_a_policy_that_is_not_there_is_told_of_as_such() -> None:
    config = session("leaf1")
    recorder = Recorder(configuration(config))
    recorder.up(leaf(1), config)
    changed = configuration(session("leaf1", import_="nope"))
    routing = cast(Routing, SimpleNamespace(rib=recorder.rib, sources={}, guests={}))
    with pytest.raises(PolicyError, match="nope"):
        await what_if_reloaded(routing, changed, changes=[], neighbors=[])
