"""A next hop that is on another interface than before, and was reachable all the time: its routes follow it."""

from __future__ import annotations

import pytest

from bgpd.kernel.netlink import MessageKind
from bgpd.model.kernel import Address, KernelRoute
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.fake_kernel import FakeKernel
from tests.fib.harness import V4, Harness, running

POD = parse_prefix("10.64.1.0/24")[1]
MOVING, STAYING = NextHop(parse_address("10.0.0.9")), NextHop(parse_address("10.5.0.9"))
SETS = [(MOVING,), (MOVING, STAYING)]
GATEWAY = NextHop(b"", "@gateway")


def host(*addresses: str) -> FakeKernel:
    """Uplinks with these addresses ("" for none), and another one, to STAYING."""
    kernel = FakeKernel()
    for index, text in enumerate(addresses, 2):
        kernel.add_link(index, f"eth{index}", *filter(None, (text,)))
    kernel.add_link(9, "eth9", "10.5.0.1/24")
    return kernel


def address(index: int, text: str, length: int) -> Address:
    return Address(index=index, interface=f"eth{index}", packed=parse_address(text), prefix_length=length)


async def write(it: Harness, hops: NextHops) -> None:
    """Have the route written by all of `hops`; MOVING is on the first interface."""
    it.want({POD: hops})
    await it.settle()
    assert it.kernel.hops_of(V4, POD) == expected(hops, on=2)
    it.kernel.log.clear()


def expected(hops: NextHops, *, on: int) -> set[tuple[bytes, int]]:
    return {(hop.address, on if hop is MOVING else 9) for hop in hops}


def route_was_gone(it: Harness) -> bool:
    return any(kind in (MessageKind.NEW_ROUTE, MessageKind.DEL_ROUTE) for kind, _ in it.kernel.log)


@pytest.mark.parametrize("hops", SETS)
async def test_of_two_interfaces_in_one_network_one_loses_its_address(hops: NextHops) -> None:
    async with running(host("10.0.0.1/24", "10.0.0.2/24")) as it:
        await write(it, hops)
        it.kernel.monitor.host.address(address(2, "10.0.0.1", 24), gone=True)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected(hops, on=3)
        assert len(hops) > 1 or not route_was_gone(it)


@pytest.mark.parametrize("hops", SETS)
async def test_another_interface_gets_a_longer_network(hops: NextHops) -> None:
    async with running(host("10.0.0.1/24", "")) as it:
        await write(it, hops)
        it.kernel.monitor.host.address(address(3, "10.0.0.10", 30))
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected(hops, on=3)
        assert len(hops) > 1 or not route_was_gone(it)


@pytest.mark.parametrize("hops", SETS)
async def test_of_two_links_in_one_network_one_goes_down(hops: NextHops) -> None:
    async with running(host("10.0.0.1/24", "10.0.0.2/24")) as it:
        await write(it, hops)
        it.kernel.set_link(2, "eth2", up=False)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected(hops, on=3)


@pytest.mark.parametrize("hops", SETS)
async def test_another_program_attaches_it_elsewhere(hops: NextHops) -> None:
    async with running(host("10.0.0.1/24", "")) as it:
        await write(it, hops)
        key = parse_prefix("10.0.0.9/32")[1]
        it.kernel.monitor.routes.changed((KernelRoute(family=V4, key=key, table=254, protocol=3, interface="eth3"),))
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected(hops, on=3)


async def test_a_router_among_the_workloads_moves_to_another_interface() -> None:
    async with running(host("", "")) as it:
        router = parse_prefix("10.0.0.9/32")[1]
        it.want({router: (NextHop(b"", "eth2"),)})
        await it.settle()
        await write(it, (MOVING,))
        it.want({router: (NextHop(b"", "eth3"),)})
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected((MOVING,), on=3)


async def test_groups_of_recursive_next_hops_follow_their_gateway() -> None:
    async with running(host("10.0.0.1/24", "10.0.0.2/24")) as it:
        it.expansions = {GATEWAY: (MOVING, STAYING)}
        it.want({POD: (GATEWAY,)})
        await it.settle()
        it.kernel.log.clear()
        it.kernel.monitor.host.address(address(2, "10.0.0.1", 24), gone=True)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == expected((MOVING, STAYING), on=3)
        assert not route_was_gone(it)


async def test_its_owner_is_not_told_that_it_cannot_be_reached() -> None:
    async with running(host("10.0.0.1/24", "10.0.0.2/24")) as it:
        assert it.fib.targets.ask(MOVING) == ""
        it.kernel.monitor.host.address(address(2, "10.0.0.1", 24), gone=True)
        await it.settle()
        assert all(why == "" for _, why in it.told)
