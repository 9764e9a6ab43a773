"""Service addresses: one group of backends each, by weight, changed in place; resilient where the kernel can."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from bgpd.fib import views as fib_views
from bgpd.fib.targets import Service
from bgpd.kernel.netlink import MessageKind
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address
from tests.fib.fake_kernel import METRIC
from tests.fib.harness import V4, V6, Harness, running, two_leaf_kernel

SERVICE = bytes((32, 10, 50, 0, 1))
PODS = [NextHop(parse_address(f"10.64.1.{number}"), interface) for number, interface in ((1, "eth0"), (2, "eth1"))]
HOSTS = [b"\x20" + pod.address for pod in PODS]


def weighted(*weights: int) -> NextHops:
    return tuple(NextHop(pod.address, pod.interface, weight) for pod, weight in zip(PODS, weights) if weight)


async def serve(it: Harness, members: NextHops, *, resilient: bool = False) -> None:
    it.wishes[V4, SERVICE] = it.fib.update_service(V4, SERVICE, members, resilient=resilient)
    await it.settle()


async def with_pods(it: Harness) -> None:
    it.want({key: (NextHop(b"", pod.interface),) for key, pod in zip(HOSTS, PODS)})
    await it.settle()
    it.acknowledged.clear()


async def test_service_is_spread_by_weight_and_changed_by_one_message() -> None:
    async with running() as it:
        await with_pods(it)
        await serve(it, weighted(3, 1))
        assert it.acknowledged == [(V4, SERVICE)]
        view = next(view for view in filter(None, fib_views.routes(it.fib)) if view.prefix == "10.50.0.1/32")
        assert [(hop.address, hop.interface, hop.weight) for hop in view.next_hops] == [
            ("10.64.1.1", "eth0", 3),
            ("10.64.1.2", "eth1", 1),
        ]
        assert (view.state, view.resilient, view.note) == ("installed", False, "")
        it.kernel.log.clear()
        await serve(it, weighted(3, 0))
        assert [kind for kind, _what in it.kernel.log] == [MessageKind.NEW_NEXTHOP]
        assert it.kernel.hops_of(V4, SERVICE) == {(PODS[0].address, 2)}
        assert it.acknowledged == [(V4, SERVICE)] * 2


async def test_change_of_one_of_many_services_looks_at_no_other() -> None:
    """A pod of a thousand services that goes changes each of them: that must not be a million looks."""
    async with running() as it:
        await with_pods(it)
        for number in range(1, 4):
            key = bytes((32, 10, 50, 0, number))
            it.wishes[V4, key] = it.fib.update_service(V4, key, weighted(1, 1), resilient=False)
        await it.settle()
        looked: list[object] = []

        class Services(dict[NextHop, Service]):
            def __iter__(self) -> Iterator[NextHop]:
                looked.append("all")
                return super().__iter__()

        it.fib.targets.services = Services(it.fib.targets.services)
        await serve(it, weighted(3, 0))
        it.want({bytes((32, 10, 50, 0, 2)): None, bytes((24, 10, 50, 0)): weighted(1, 0)})
        await it.settle()
        left = {hop.address[-1] for hop in dict.keys(it.fib.targets.services)}
        assert (looked, left) == ([], {1, 3})


async def test_service_ends_with_its_route_and_its_group_is_collected() -> None:
    async with running() as it:
        await with_pods(it)
        await serve(it, weighted(1, 1))
        it.want({SERVICE: None})
        await it.settle()
        assert it.kernel.hops_of(V4, SERVICE) is None
        assert it.fib.targets.services == {}


async def test_an_ipv6_route_whose_key_has_the_bytes_of_a_service_is_no_end_of_it() -> None:
    """a32:1::/32 and 10.50.0.1/32 are filed under the same bytes, each in its family."""
    leaf = NextHop(parse_address("2001:db8:1::2"), "")
    async with running() as it:
        await with_pods(it)
        await serve(it, weighted(1, 1))
        for wanted in ((leaf,), None):
            it.want({SERVICE: wanted}, V6)
            await it.settle()
            await serve(it, weighted(1, 1))
            assert len(it.fib.targets.services) == 1
            it.kernel.log.clear()
            it.want({SERVICE: wanted}, V6)
            assert len(it.fib.targets.services) == 1
            await it.settle()
        await serve(it, weighted(3, 0))
        assert it.kernel.hops_of(V4, SERVICE) == {(PODS[0].address, 2)}


async def test_backend_whose_link_fails_leaves_the_group_and_comes_back() -> None:
    async with running() as it:
        await with_pods(it)
        await serve(it, weighted(1, 1))
        it.kernel.set_link(3, "eth1", up=False)
        await it.settle()
        assert it.kernel.hops_of(V4, SERVICE) == {(PODS[0].address, 2)}
        it.kernel.set_link(3, "eth1", up=True)
        await it.settle()
        assert it.kernel.hops_of(V4, SERVICE) == {(PODS[0].address, 2), (PODS[1].address, 3)}


async def test_service_without_a_reachable_backend_is_refused_until_there_is_one() -> None:
    async with running() as it:
        await serve(it, weighted(1))
        assert [key for _family, key, _why in it.refused] == [SERVICE]
        assert "no connected prefix on eth0 contains it" in it.refused[0][2]
        await with_pods(it)
        assert it.kernel.hops_of(V4, SERVICE) == {(PODS[0].address, 2)}


async def test_resilient_group_stays_resilient_over_changes_and_restarts() -> None:
    kernel = two_leaf_kernel()
    async with running(kernel) as it:
        await with_pods(it)
        await serve(it, weighted(1, 1), resilient=True)
        await serve(it, weighted(1), resilient=True)
        assert [found.resilient for found in kernel.objects.values() if found.members] == [True]
    kernel.log.clear()
    async with running(kernel) as it:
        it.want({key: (NextHop(b"", pod.interface),) for key, pod in zip(HOSTS, PODS)})
        await serve(it, weighted(1), resilient=True)
        assert kernel.log == []
        await serve(it, weighted(1), resilient=False)
        group = kernel.objects[kernel.routes[V4, 254, SERVICE, METRIC][1]]
        assert not group.resilient


async def test_kernel_without_resilient_groups_spreads_plainly_and_it_is_said() -> None:
    kernel = two_leaf_kernel()
    kernel.refuse_resilient = errno.EOPNOTSUPP
    async with running(kernel) as it:
        await with_pods(it)
        await serve(it, weighted(1, 1), resilient=True)
        await it.settle_retries()
        assert len(kernel.hops_of(V4, SERVICE) or ()) == 2
        view = next(view for view in filter(None, fib_views.routes(it.fib)) if view.prefix == "10.50.0.1/32")
        assert (view.state, view.resilient) == ("installed", False)
        assert "makes no resilient groups (Operation not supported)" in view.note
