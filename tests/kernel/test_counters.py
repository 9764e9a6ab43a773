"""What the kernel counts, of interfaces and nexthop groups, in namespaces with packets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bgpd.kernel.counters import TrafficCounters
from labs.namespace import Namespace, link

pytestmark = pytest.mark.netns

PINGS = 20


@pytest.fixture(scope="module")
def router() -> Iterator[tuple[Namespace, Namespace]]:
    """A client, and the router that forwards what it sends to a server of four addresses."""
    with contextlib.ExitStack() as stack:
        client, router, server = (
            stack.enter_context(Namespace(label, prefix="t")) for label in ("client", "router", "server")
        )
        link(client, "eth0", router, "eth1")
        link(router, "out", server, "in")
        client.addresses("eth0", "10.1.0.1/24", "2001:db8:1::1/64")
        router.addresses("eth1", "10.1.0.2/24", "2001:db8:1::2/64")
        router.addresses("out", "10.2.0.2/24", "2001:db8:2::2/64")
        server.addresses("in", "10.2.0.3/24", "10.2.0.4/24", "2001:db8:2::3/64")
        for prefix in ("10.9.0.1/32", "10.9.0.2/32", "2001:db8:9::1/128"):
            server.ip("addr", "add", prefix, "dev", "lo")
        client.batch("route add default via 10.1.0.2", "route add ::/0 via 2001:db8:1::2")
        server.batch("route add default via 10.2.0.2", "route add ::/0 via 2001:db8:2::2")
        router.batch(
            "nexthop add id 1 via 10.2.0.3 dev out", "nexthop add id 2 via 10.2.0.4 dev out",
            "nexthop add id 3 via 2001:db8:2::3 dev out",
            "nexthop add id 11 group 1", "nexthop add id 12 group 1/2", "nexthop add id 13 group 3",
            "route add 10.9.0.1/32 nhid 11", "route add 10.9.0.2/32 nhid 12", "route add 2001:db8:9::1/128 nhid 13",
        )  # fmt: skip
        yield client, router


def ping(client: Namespace, address: str) -> None:
    client.run("ping", "-q", "-c", str(PINGS), "-i", "0.01", "-W", "2", address)


@pytest.mark.parametrize(("address", "group", "counts"), [
    ("10.9.0.1", 11, False),
    ("10.9.0.2", 12, True),
    ("2001:db8:9::1", 13, True),
])  # fmt: skip
def test_a_group_counts_where_the_kernel_chooses_a_member(
    router: tuple[Namespace, Namespace], address: str, group: int, counts: bool
) -> None:
    client, namespace = router
    with namespace.entered(), TrafficCounters() as kernel:
        before = kernel.group(group)
        ping(client, address)
        after = kernel.group(group)
    if before is None or after is None:
        pytest.skip("this kernel does not count by nexthop group (Linux 6.9)")
    assert after - before == (PINGS if counts else 0)


def test_an_interface_counts_what_it_received_and_sent(router: tuple[Namespace, Namespace]) -> None:
    client, namespace = router
    index = int(namespace.run("cat", "/sys/class/net/out/ifindex").strip())
    with namespace.entered(), TrafficCounters() as kernel:
        before = kernel.interface(index)
        ping(client, "10.9.0.1")
        after = kernel.interface(index)
    assert before is not None
    assert after is not None
    assert all(new - old >= PINGS for old, new in zip(before, after))


def test_what_is_not_there_has_no_counter(router: tuple[Namespace, Namespace]) -> None:
    with router[1].entered(), TrafficCounters() as kernel:
        assert (kernel.interface(9999), kernel.group(9999), kernel.group(1)) == (None, None, None)
