"""FIB, EVPN and workloads after any changes of links and addresses: they say what the same parts say that start now."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from tests.evpn.build import Host as EvpnHost
from tests.fib.fake_kernel import FakeKernel
from tests.fib.harness import running
from tests.kernel.test_host import Kernel, tell
from tests.workload.fixtures import Rig, claim

NAMES = ("eth0", "eth0.101", "pod1", "x")
PREFIXES = ("10.0.0.1/24", "10.0.0.1/30", "10.0.1.1/24", "10.1.1.1/24", "10.1.1.5/24", "fe80::1/64", "2001:db8::1/64")
INDEX = st.integers(1, 4)
OPERATION = st.one_of(
    st.tuples(st.just("set_link"), INDEX, st.sampled_from(NAMES), st.booleans(), st.sampled_from(("", "", "blue"))),
    st.tuples(st.just("delete_link"), INDEX),
    st.tuples(st.just("set_address"), INDEX, st.sampled_from(PREFIXES), st.booleans()),
    st.tuples(st.just("delete_address"), INDEX, st.sampled_from(PREFIXES)),
    st.tuples(st.sampled_from(("lose", "read"))),
)
HOPS = [
    NextHop(parse_address(address), interface)
    for address, interface in (
        ("10.0.0.2", ""),
        ("10.0.0.77", ""),
        ("10.0.1.9", ""),
        ("10.0.0.1", ""),
        ("fe80::9", "eth0"),
        ("fe80::1", "eth0"),
        ("2001:db8::9", "x"),
    )
]
KEYS = [parse_prefix(text)[1] for text in ("10.0.0.0/24", "10.0.0.0/30", "10.0.0.1/32", "10.0.1.0/24", "10.1.1.0/24")]


def change(host: Host, operations: list[tuple[Any, ...]], kernel: Kernel) -> None:
    """Have the kernel do these, tell the host all that is not lost, and at the end a fresh reading."""
    lost = False
    for name, *arguments in operations:
        if name == "lose":
            lost = True
        elif name == "read":
            lost = False
            host.begin_reading()
            host.replace(kernel.links.values(), kernel.addresses.values())
        else:
            for message in getattr(kernel, name)(*arguments):
                if not lost:
                    tell(host, message)
    host.begin_reading()
    host.replace(kernel.links.values(), kernel.addresses.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATION, max_size=30))
def test_the_fib_resolves_and_guards_as_one_that_starts_now(operations: list[tuple[Any, ...]]) -> None:
    async def answers(kernel: FakeKernel, told: list[tuple[Any, ...]], state: Kernel) -> tuple[object, ...]:
        async with running(kernel) as harness:
            for hop in HOPS:
                harness.fib.targets.ask(hop)
            change(kernel.monitor.host, told, state)
            fib = harness.fib
            found = [fib.targets.ask(hop) for hop in HOPS], fib.writer.ownership.blocked(Family.IPV4_UNICAST, KEYS)
            await asyncio.sleep(0)
            return found

    state = Kernel()
    after = asyncio.run(answers(FakeKernel(), operations, state))
    assert after == asyncio.run(answers(FakeKernel(), [], state))


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATION, max_size=30))
def test_evpn_has_the_uplinks_that_one_has_that_starts_now(operations: list[tuple[Any, ...]]) -> None:
    def uplinks(told: list[tuple[Any, ...]], state: Kernel) -> list[tuple[object, ...]]:
        host = EvpnHost()
        change(host.kernel, told, state)
        found = host.evpn.vrfs["blue"].uplinks
        return [(one.name, one.up, sorted(one.addresses), set(one.gateways), one.neighbor) for one in found]

    state = Kernel()
    assert uplinks(operations, state) == uplinks([], state)


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATION, max_size=30))
def test_workloads_stand_as_in_a_table_that_starts_now(operations: list[tuple[Any, ...]]) -> None:
    def standing(told: list[tuple[Any, ...]], state: Kernel) -> tuple[object, ...]:
        rig = Rig()
        rig.claims.claim("mqtt", "a", (claim("10.64.1.5/32", "pod1"),))
        rig.settle()
        change(rig.host, told, state)
        rig.settle()
        return rig.announced, rig.state("mqtt", "a"), rig.kernel

    state = Kernel()
    assert standing(operations, state) == standing([], state)
