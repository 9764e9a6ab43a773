"""BFD over an interface that a VRF device has: the same addresses in two VRFs and in the main table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bgpd.bfd.packet import State
from labs.daemons import Bfd
from labs.namespace import Namespace, link
from tests.bfd.daemon_side import DaemonSide, desired

pytestmark = [pytest.mark.netns, pytest.mark.vm]

PLACES = ("", "blue", "red")


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, list[Namespace]]]:
    """A host with an interface in each place, all with 10.0.1.1, and the other ends, all with 10.0.1.2."""
    with (
        Namespace("host", prefix="v") as host,
        Namespace("one", prefix="v") as one,
        Namespace("two", prefix="v") as two,
        Namespace("three", prefix="v") as three,
    ):
        peers = [one, two, three]
        for number, (place, peer) in enumerate(zip(PLACES, peers)):
            link(host, f"eth{number}", peer, "swp1")
            if place:
                host.batch(f"link add {place} type vrf table {1000 + number}", f"link set {place} up")
                host.ip("link", "set", f"eth{number}", "master", place)
            host.addresses(f"eth{number}", "10.0.1.1/24", "2001:db8:1::1/64")
            peer.addresses("swp1", "10.0.1.2/24", "2001:db8:1::2/64")
        yield host, peers


@pytest.mark.parametrize(("local", "peer"), [("10.0.1.1", "10.0.1.2"), ("2001:db8:1::1", "2001:db8:1::2")])
def test_same_addresses_in_vrfs_and_main_table_are_three_sessions(
    ends: tuple[Namespace, list[Namespace]], local: str, peer: str
) -> None:
    host, peers = ends
    ours = [desired(local, peer, interface=f"eth{number}") for number in range(3)]
    theirs = desired(peer, local, interface="swp1")
    others = [Bfd(namespace) for namespace in peers]
    try:
        with Bfd(host) as process, DaemonSide(process.socket_path) as daemon:
            sides = [DaemonSide(other.socket_path) for other in others]
            for side in sides:
                side.want(theirs)
            daemon.want(*ours)
            for one, side in zip(ours, sides):
                report = daemon.wait_state(one, State.UP, 30)
                side.wait_state(theirs, State.UP, 30)
                assert report is not None
                assert report.remote_discriminator == side.reports[theirs.key].discriminator
            others[1].kill()
            daemon.wait_state(ours[1], State.DOWN, 30)
            assert [daemon.state(one) for one in ours] == [State.UP, State.DOWN, State.UP]
    finally:
        for other in others:
            other.stop()
