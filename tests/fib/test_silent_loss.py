"""Routes of ours that the kernel dropped without a word are written again, and told only when they are there."""

from __future__ import annotations

import errno

import pytest

from bgpd.kernel.route_messages import encode_deletes
from bgpd.model.iana import Family
from bgpd.model.kernel import Address
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.fake_kernel import FakeKernel
from tests.fib.harness import Harness, running, two_leaf_kernel

WORKLOAD = NextHop(b"", "eth0")
PREFIXES = ("10.64.1.5/32", "2001:db8:64::5/128")
ADDRESSES = {Family.IPV4_UNICAST: ("10.0.0.1", 31), Family.IPV6_UNICAST: ("2001:db8::1", 64)}


def there(kernel: FakeKernel, key: bytes) -> bool:
    return any(place[2] == key for place in kernel.routes)


def drop_silently(it: Harness, family: Family, key: bytes) -> None:
    it.kernel.run(encode_deletes(family, [key], it.fib.form))


def address_goes(it: Harness, family: Family) -> None:
    text, length = ADDRESSES[family]
    address = Address(index=2, interface="eth0", packed=parse_address(text), prefix_length=length)
    it.kernel.monitor.host.address(address, gone=True)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_route_that_went_with_an_address_is_written_at_once(prefix: str) -> None:
    family, key = parse_prefix(prefix)
    async with running(two_leaf_kernel()) as it:
        it.want({key: (WORKLOAD,)}, family)
        await it.settle()
        drop_silently(it, family, key)
        address_goes(it, family)
        await it.settle()
        assert there(it.kernel, key)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_route_that_the_kernel_dropped_and_refuses_is_told_so_until_it_is_there(prefix: str) -> None:
    family, key = parse_prefix(prefix)
    async with running(two_leaf_kernel()) as it:
        it.want({key: (WORKLOAD,)}, family)
        await it.settle()
        drop_silently(it, family, key)
        it.kernel.refuse[key] = errno.EACCES
        address_goes(it, family)
        await it.settle_retries()
        assert it.state_of(prefix)[0] == "failed"
        assert it.refused
        it.acknowledged.clear()
        del it.kernel.refuse[key]
        it.kernel.monitor.host.address(Address(index=2, packed=parse_address("10.0.0.9"), prefix_length=32))
        await it.settle()
        assert it.acknowledged == [(family, key)]
        assert there(it.kernel, key)
