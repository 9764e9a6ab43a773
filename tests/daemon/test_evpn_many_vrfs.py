"""EVPN routes that go into many VRFs, a whole daemon: they come and go in all of them, and a restart leaves
no gap."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.evpn.importer import FEW
from labs.daemons import Bgpd
from labs.process import wait_until
from tests.daemon.fabric import RouteWatch
from tests.daemon.test_evpn_wire import AFI_SAFI, WAIT_S, announcement, in_kernel, prefix, wait_kernel, withdrawal
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, message
from tests.interop.evpn_fabric import BLUE, EvpnFabric, host_config, vrf

pytestmark = pytest.mark.netns

OTHERS = [f"other{number}" for number in range(2 * FEW)]
CONFIG = host_config(
    1,
    vrf(),
    *(
        f'[[vrf]]\nname = "{name}"\ntable = {2000 + number}\nvni = {6000 + number}\n'
        f'import_rt = ["{BLUE}"]\nexport_rt = ["65201:{6000 + number}"]\nuplinks = []\n'
        for number, name in enumerate(OTHERS)
    ),
)
END_OF_RIB = message(UPDATE, b"\0\0\0\6" + attribute(0x80, 15, struct.pack("!HB", *AFI_SAFI)))


@pytest.fixture(scope="module")
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        yield made


def ready(bgpd: Bgpd) -> bool:
    return bool(json.loads(bgpd.cli("status", "--json", check=False))["ready"])


def routes(bgpd: Bgpd) -> dict[str, set[str]]:
    """The prefixes of each VRF beside blue that neighbors announce."""
    return {name: {route["prefix"] for route in bgpd.show("routes", "--vrf", name)} for name in OTHERS}


def test_routes_come_go_and_have_no_gap_in_the_kernel_over_a_restart(fabric: EvpnFabric, tmp_path: Path) -> None:
    numbers = [f"10.{number}.0.0/16" for number in range(80, 90)]
    with WirePeer(fabric.leaf, "10.0.1.0") as peer, fabric.bgpd(1, CONFIG) as bgpd:
        connection = peer.establish(families=(AFI_SAFI,))
        connection.sendall(announcement(*map(prefix, numbers)) + withdrawal(*map(prefix, numbers[8:])) + END_OF_RIB)
        wait_kernel(fabric, bgpd, *numbers[:8])
        everywhere = {name: set(numbers[:8]) for name in OTHERS}
        wait_until(lambda: routes(bgpd) == everywhere, WAIT_S, "the routes in all VRFs", logs=bgpd.logs)
        wait_until(lambda: ready(bgpd), WAIT_S, "readiness", logs=bgpd.logs)
        with RouteWatch(fabric.hosts[1], tmp_path) as watch:
            bgpd.kill()
            bgpd.start()
            connection = peer.establish(families=(AFI_SAFI,))
            connection.sendall(announcement(*map(prefix, numbers[:8])) + END_OF_RIB)
            wait_until(lambda: ready(bgpd), WAIT_S, "readiness again", logs=bgpd.logs)
            told = [line.split()[:2] for line in watch.lines()]
        for number in numbers[:8]:
            at = [first for first, second in told if number in (first, second)]
            assert at[:1] in ([], [number]), told
        assert routes(bgpd) == everywhere
        connection.close()
        wait_until(lambda: not in_kernel(fabric), WAIT_S, "no route of the lost session", logs=bgpd.logs)
        wait_until(lambda: not any(routes(bgpd).values()), WAIT_S, "none in any VRF", logs=bgpd.logs)
