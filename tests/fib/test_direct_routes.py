"""Routes to workloads, whose interface is renamed, loses addresses or is set otherwise: the kernel may have dropped
them or not, and a route that stands is no obstacle to itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from bgpd.model.kernel import Address
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.fake_kernel import METRIC, PROTOCOL, FakeKernel
from tests.fib.harness import Harness, running, two_leaf_kernel
from tests.waiting import until

POD = 9
TO_POD = (NextHop(b"", "pod1"),)
ADDRESSES = ("10.9.0.1/24", "2001:db8:9::1/64")
both_families = pytest.mark.parametrize("prefix", ["10.64.1.5/32", "2001:db8:64::5/128"])


def pod_kernel() -> FakeKernel:
    kernel = two_leaf_kernel()
    kernel.add_link(POD, "pod1", *ADDRESSES)
    return kernel


def lose_addresses(kernel: FakeKernel) -> None:
    for text in ADDRESSES:
        address, length = text.split("/")
        kernel.monitor.host.address(
            Address(index=POD, packed=parse_address(address), prefix_length=int(length)), gone=True
        )


def rename_and_back(kernel: FakeKernel) -> None:
    kernel.rename_link(POD, "x")
    kernel.rename_link(POD, "pod1")


async def to_pod(it: Harness, prefix: str) -> None:
    family, key = parse_prefix(prefix)
    it.want({key: TO_POD}, family)
    await it.settle()
    assert it.kernel.all_at(family, key) == [(PROTOCOL, -POD)]


@both_families
@pytest.mark.parametrize("event", [lose_addresses, rename_and_back])
async def test_route_that_stands_is_written_once_more_and_stays_installed(
    prefix: str, event: Callable[[FakeKernel], None]
) -> None:
    family, key = parse_prefix(prefix)
    async with running(pod_kernel()) as it:
        await to_pod(it, prefix)
        event(it.kernel)
        for _ in range(40):
            await asyncio.sleep(0)
            assert it.state_of(prefix) in (("installed", ""), ("pending", ""))
        await it.settle()
        assert it.refused == []
        assert it.kernel.all_at(family, key) == [(PROTOCOL, -POD)]
        assert it.state_of(prefix) == ("installed", "")


@both_families
@pytest.mark.parametrize("event", [lose_addresses, rename_and_back])
async def test_route_that_the_kernel_dropped_silently_is_back(prefix: str, event: Callable[[FakeKernel], None]) -> None:
    family, key = parse_prefix(prefix)
    async with running(pod_kernel()) as it:
        await to_pod(it, prefix)
        del it.kernel.routes[family, 254, key, METRIC]
        event(it.kernel)
        await it.settle()
        assert it.refused == []
        assert it.kernel.all_at(family, key) == [(PROTOCOL, -POD)]


async def test_route_of_another_program_by_the_same_interface_is_not_taken_for_the_one_that_stood() -> None:
    prefix = "2001:db8:64::5/128"
    family, key = parse_prefix(prefix)
    async with running(pod_kernel()) as it:
        await to_pod(it, prefix)
        it.kernel.routes[family, 254, key, METRIC] = (77, -POD)
        lose_addresses(it.kernel)
        await until(lambda: it.state_of(prefix)[0] == "blocked")
        assert "protocol 77" in it.state_of(prefix)[1]
        assert "protocol 77" in it.refused[-1][2]
        assert it.kernel.all_at(family, key) == [(77, -POD)]
        del it.kernel.routes[family, 254, key, METRIC]
        await until(lambda: it.kernel.all_at(family, key) == [(PROTOCOL, -POD)])
        await until(lambda: it.state_of(prefix) == ("installed", ""))


@both_families
@pytest.mark.parametrize("turns", range(8))
async def test_workload_whose_interface_is_renamed_in_a_burst_ends_as_before(prefix: str, turns: int) -> None:
    family, key = parse_prefix(prefix)
    async with running(pod_kernel()) as it:
        await to_pod(it, prefix)
        for name in ("x", "pod1") * 5:
            it.kernel.rename_link(POD, name)
            for _ in range(turns):
                await asyncio.sleep(0)
        await it.settle()
        assert it.kernel.all_at(family, key) == [(PROTOCOL, -POD)]
        assert it.state_of(prefix) == ("installed", "")
        assert it.fib.differing(family, [key]) == []


def change_mac(kernel: FakeKernel) -> None:
    kernel.links[POD] = msgspec.structs.replace(kernel.links[POD], mac=b"\2\0\0\0\0\1")
    kernel.monitor.host.link(kernel.links[POD])


@both_families
@pytest.mark.parametrize("event", [lose_addresses, change_mac, rename_and_back])
@pytest.mark.parametrize("is_dropped", [False, True])
async def test_route_of_an_earlier_run_that_nobody_wants_yet_stays_until_the_sweep(
    prefix: str, event: Callable[[FakeKernel], None], is_dropped: bool
) -> None:
    """As a bridge does whose MAC address changes with its ports, before the claims of its workloads have come."""
    family, key = parse_prefix(prefix)
    kernel = pod_kernel()
    async with running(kernel) as it:
        await to_pod(it, prefix)
    async with running(kernel) as it:
        event(kernel)
        if is_dropped:
            del kernel.routes[family, 254, key, METRIC]
        await it.settle()
        assert bool(kernel.all_at(family, key)) is not is_dropped
        await to_pod(it, prefix)
        it.fib.sweep()
        await it.settle()
        assert kernel.all_at(family, key) == [(PROTOCOL, -POD)]
    async with running(kernel) as it:
        event(kernel)
        it.fib.sweep()
        await it.settle()
        assert kernel.all_at(family, key) == []
