"""`bgpd what-if --down`: who goes with an interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from bgpd.kernel.host import Host
from bgpd.model.kernel import Link
from bgpd.model.views import NeighborView
from bgpd.rib.rib import Rib
from bgpd.what_if import what_if_down

LINKS = (
    Link(index=1, name="lo", up=True),
    Link(index=2, name="eth0", up=True),
    Link(index=3, name="eth1", up=True),
    Link(index=4, name="eth0.101", up=True, kind="vlan", parent=2),
    Link(index=5, name="eth0.101.7", up=True, kind="vlan", parent=4),
)
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
    view = await what_if_down(name, rib=rib, host=host, neighbors=NEIGHBORS)
    assert view.neighbors_down == down
    assert view.neighbors_left == [one.name for one in NEIGHBORS if one.name not in down]
