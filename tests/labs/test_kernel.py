"""Reading a namespace's routes: nexthop groups resolved, dead members left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.kernel import live_next_hops
from labs.namespace import Namespace, link

pytestmark = pytest.mark.netns


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A namespace with two uplinks, 10.0.1.1/24 and 10.0.2.1/24, and IPv6 likewise."""
    with (
        Namespace("host", prefix="labtest") as host,
        Namespace("a", prefix="labtest") as a,
        Namespace("b", prefix="labtest") as b,
    ):
        for number, leaf in ((1, a), (2, b)):
            link(host, f"eth{number}", leaf, "eth0")
            host.addresses(f"eth{number}", f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
        yield host


def test_route_by_a_nexthop_group_goes_by_its_members(host: Namespace) -> None:
    host.batch(
        "nexthop add id 1 via 10.0.1.2 dev eth1",
        "nexthop add id 2 via 10.0.2.2 dev eth2",
        "nexthop add id 10 group 1/2",
        "route add 10.9.0.1/32 nhid 10",
        "route add 10.9.0.2/32 nhid 2",
    )
    routes = live_next_hops(host, ipv6=False)
    assert routes["10.9.0.1"] == ["eth1", "eth2"]
    assert routes["10.9.0.2"] == ["eth2"]
    host.ip("nexthop", "del", "id", "1")
    assert live_next_hops(host, ipv6=False)["10.9.0.1"] == ["eth2"]


def test_multipath_route_goes_by_its_next_hops_in_both_families(host: Namespace) -> None:
    host.batch(
        "route add 10.9.0.1/32 nexthop via 10.0.1.2 nexthop via 10.0.2.2",
        "route add 2001:db8:9::1/128 nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2",
        "route add 10.9.0.2/32 via 10.0.1.2",
        "route add blackhole 10.9.0.3/32",
    )
    routes = live_next_hops(host, ipv6=False)
    assert routes["10.9.0.1"] == ["eth1", "eth2"]
    assert routes["10.9.0.2"] == ["eth1"]
    assert routes["10.9.0.3"] == []
    assert live_next_hops(host, ipv6=True)["2001:db8:9::1"] == ["eth1", "eth2"]
