"""What an earlier run left waits for the sweep only until this run has confirmed it; all else follows at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bgpd.config.schema import FibConfig
from bgpd.fib import nexthop_upkeep
from bgpd.fib.table import Fib
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_prefix
from bgpd.runtime.rates import Share
from tests.fib.fake_kernel import METRIC, FakeKernel, FakeReader
from tests.fib.harness import LEAF1, LEAF1_V6, LEAF2, LEAF2_V6, V4, V6, Harness, running, two_leaf_kernel

CASES = ((V4, LEAF1, LEAF2, "10.64.{}.0/24"), (V6, LEAF1_V6, LEAF2_V6, "2001:db8:{}::/48"))
both_families = pytest.mark.parametrize(("family", "leaf1", "leaf2", "form"), CASES, ids=["ipv4", "ipv6"])


def keys_of(form: str, count: int) -> list[bytes]:
    return [parse_prefix(form.format(number))[1] for number in range(1, count + 1)]


def interfaces(kernel: FakeKernel, family: Family, key: bytes) -> list[int]:
    return sorted(index for _gateway, index in kernel.hops_of(family, key) or ())


@asynccontextmanager
async def restarted(family: Family, left: dict[bytes, NextHops]) -> AsyncIterator[Harness]:
    """The run after one that left these routes."""
    kernel = two_leaf_kernel()
    async with running(kernel) as before:
        before.want(left, family)
        await before.settle()
    kernel.log.clear()
    async with running(kernel) as it:
        yield it


@both_families
async def test_routes_of_this_run_follow_at_once_though_others_are_adopted(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    old, first, second = keys_of(form, 3)
    async with restarted(family, {old: (leaf1,)}) as it:
        it.learn({first: (leaf1,), second: (leaf1,)}, family)
        await it.settle()
        it.learn({first: (leaf1, leaf2)}, family)
        it.learn({second: None}, family)
        await it.settle()
        assert interfaces(it.kernel, family, first) == [2, 3]
        assert interfaces(it.kernel, family, second) == []
        it.fib.next_hops_lost([leaf1], lambda _hops: None)
        it.learn({first: (leaf2,)}, family)
        await it.settle()
        assert interfaces(it.kernel, family, first) == [3]


@both_families
async def test_adopted_route_waits_until_neighbors_agree_with_it_then_follows(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    (old,) = keys_of(form, 1)
    async with restarted(family, {old: (leaf1, leaf2)}) as it:
        for wish in ((leaf1,), None, (leaf2,), (leaf1, leaf2)):
            it.learn({old: wish}, family)
            await it.settle()
            assert interfaces(it.kernel, family, old) == [2, 3]
            assert it.acknowledged == ([(family, old)] if wish == (leaf1, leaf2) else [])
        assert it.kernel.log == [], "a confirmed route is not written"
        it.learn({old: (leaf2,)}, family)
        await it.settle()
        assert interfaces(it.kernel, family, old) == [3]
        it.learn({old: None}, family)
        await it.settle()
        assert interfaces(it.kernel, family, old) == []


@both_families
async def test_adopted_route_that_goes_with_its_next_hop_is_written_by_what_is_wished(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    old, unheard = keys_of(form, 2)
    async with restarted(family, {old: (leaf1,), unheard: (leaf1,)}) as it:
        it.learn({old: (leaf2,)}, family)
        await it.settle()
        assert interfaces(it.kernel, family, old) == [2]
        it.fib.next_hops_lost([leaf1], lambda _hops: None)
        await it.settle()
        assert interfaces(it.kernel, family, old) == [3]
        assert interfaces(it.kernel, family, unheard) == []
        it.learn({unheard: (leaf2,)}, family)
        await it.settle()
        assert interfaces(it.kernel, family, unheard) == [3]


@both_families
async def test_adopted_route_loses_a_dead_next_hop_and_waits_with_the_others(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    (old,) = keys_of(form, 1)
    async with restarted(family, {old: (leaf1, leaf2)}) as it:
        it.learn({old: (leaf1,)}, family)
        await it.settle()
        it.fib.next_hops_lost([leaf1], lambda _hops: None)
        it.learn({old: None}, family)
        await it.settle()
        assert interfaces(it.kernel, family, old) == [3], "leaf2 has not been heard"
        it.fib.sweep()
        await it.settle()
        assert interfaces(it.kernel, family, old) == []


async def test_link_that_falls_and_returns_rewrites_no_adopted_route_by_half_of_what_is_known() -> None:
    old = keys_of("10.64.{}.0/24", 1)[0]
    async with restarted(V4, {old: (LEAF1, LEAF2)}) as it:
        assert it.fib.targets.ask(LEAF1) == it.fib.targets.ask(LEAF2) == ""
        it.learn({old: (LEAF1,)})
        it.kernel.set_link(2, "eth0", up=False)
        await it.settle()
        assert interfaces(it.kernel, V4, old) == [3]
        it.kernel.set_link(2, "eth0", up=True)
        await it.settle()
        assert interfaces(it.kernel, V4, old) == [3]
        it.learn({old: (LEAF1, LEAF2)})
        await it.settle()
        assert interfaces(it.kernel, V4, old) == [2, 3]


async def test_what_this_host_itself_wishes_waits_for_nobody() -> None:
    first, second, third = keys_of("10.64.{}.0/24", 3)
    async with restarted(V4, dict.fromkeys((first, second, third), (LEAF1, LEAF2))) as it:
        it.want({first: (NextHop(b"", "eth1"),), second: None})
        it.kernel.add_foreign("10.64.3.0/24")
        await it.settle()
        assert it.kernel.routes[V4, 254, first, it.fib.form.metric][1] == -3
        assert interfaces(it.kernel, V4, second) == []
        assert interfaces(it.kernel, V4, third) == []


@both_families
async def test_adopted_route_waits_also_when_a_foreign_one_beside_it_comes_or_goes(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    """It was deleted, or lost next hops, before neighbors had said that it goes on."""
    prefix, kernel = form.format(1), two_leaf_kernel()
    key = parse_prefix(prefix)[1]
    async with running(kernel, override=(prefix,)) as before:
        before.want({key: (leaf1, leaf2)}, family)
        await before.settle()
    foreign = kernel.add_foreign(prefix, metric=METRIC + 100)
    async with running(kernel, override=(prefix,)) as it:
        for wish in (None, (leaf1,)):
            it.learn({key: wish}, family)
            kernel.remove_foreign(foreign)
            await it.settle()
            assert interfaces(kernel, family, key) == [2, 3]
            kernel.add_foreign(prefix, metric=METRIC + 100)
            await it.settle()
            assert interfaces(kernel, family, key) == [2, 3]
        it.fib.sweep()
        await it.settle()
        assert interfaces(kernel, family, key) == [2]


async def test_the_sweep_asks_only_for_what_was_not_confirmed() -> None:
    keys = keys_of("10.64.{}.0/24", 200)
    async with restarted(V4, dict.fromkeys(keys, (LEAF1,))) as it:
        it.learn(dict.fromkeys(keys[:150], (LEAF1,)))
        await it.settle()
        asked: list[bytes] = []
        it.owner.desired = lambda _vrf, _family, key: asked.append(key)
        it.fib.sweep()
        await it.settle()
        assert sorted(asked) == sorted(keys[150:])
        assert [kind for kind, _key in it.kernel.log] == [MessageKind.DEL_ROUTE] * 50
        assert not it.fib.families[V4].unconfirmed
        assert not it.fib.families[V4].adopted


async def test_adopted_routes_hold_their_groups_and_those_to_an_interface_are_known_by_it() -> None:
    kept, direct = keys_of("10.64.{}.0/24", 2)
    async with restarted(V4, {kept: (LEAF1, LEAF2), direct: (NextHop(b"", "eth1"),)}) as it:
        assert it.fib.families[V4].direct == {3: {direct}}
        for _ in range(2):
            it.dataplane.upkeep.delete_unused()
            await it.settle()
        assert interfaces(it.kernel, V4, kept) == [2, 3]


async def test_foreign_routes_that_come_and_go_during_the_start_are_known() -> None:
    kernel = two_leaf_kernel()
    going = kernel.add_foreign("10.64.2.0/24", metric=5)

    class Reader(FakeReader):
        async def routes(
            self,
            family: Family,
            form: RouteForm,
            begin: Callable[[], Callable[[RouteRun], None]],
            *,
            share: Share | None = None,
        ) -> None:
            await super().routes(family, form, begin, share=share)
            if family is V6:
                kernel.add_foreign("10.64.1.0/24", metric=5)
                kernel.remove_foreign(going)

    harness = Harness(kernel)
    harness.dataplane.reader = Reader(kernel)
    await harness.fib.start()
    try:
        harness.learn(dict.fromkeys(keys_of("10.64.{}.0/24", 2), (LEAF1,)))
        await harness.settle()
        assert harness.state_of("10.64.1.0/24")[0] == "blocked"
        assert harness.state_of("10.64.2.0/24")[0] == "installed"
    finally:
        await harness.fib.stop()


@both_families
async def test_next_hop_that_another_program_made_a_blackhole_before_the_start_is_replaced(
    family: Family, leaf1: NextHop, leaf2: NextHop, form: str
) -> None:
    old, other, new = keys_of(form, 3)
    kernel = two_leaf_kernel()
    async with running(kernel) as before:
        before.want({old: (leaf1,), other: (leaf2,)}, family)
        await before.settle()
    changed = next(one for one in kernel.objects.values() if one.ifindex == 2)
    kernel.objects[changed.id] = NexthopObject(id=changed.id, protocol=changed.protocol)
    async with running(kernel) as it:
        it.learn({old: (leaf1,), other: (leaf2,), new: (leaf1, leaf2)}, family)
        it.fib.sweep()
        await it.settle_retries()
        await it.settle()
        assert [interfaces(kernel, family, key) for key in (old, other, new)] == [[2], [3], [2, 3]]
        assert changed.id not in kernel.objects
        assert [group.members for group in kernel.objects.values() if group.members == ((changed.id, 1),)] == []


async def test_table_that_cannot_be_read_whole_holds_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and would hold each group twice."""
    kernel = two_leaf_kernel()
    async with running(kernel) as before:
        before.want({keys_of(CASES[0][3], 1)[0]: (LEAF1,)})
        await before.settle()
    it = Harness(kernel)

    async def interrupted(family: Family, form: RouteForm) -> list[RouteRun]:
        if family is V6:
            raise OSError("it changed during each of 20 dumps")
        return kernel.routes_of(family, form)

    monkeypatch.setattr(kernel, "dumped", interrupted)
    with pytest.raises(OSError, match="20 dumps"):
        await it.fib.start()
    assert [group.routes for group in it.dataplane.objects.groups.values()] == [0]
    await it.fib.stop()


async def test_groups_of_a_table_that_could_not_be_read_stay_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """No route by them is known: deleting them would take the routes along."""
    monkeypatch.setattr(nexthop_upkeep, "_UNUSED_GRACE_S", 0.0)
    kernel = two_leaf_kernel()
    key = keys_of(CASES[0][3], 1)[0]
    async with running(kernel, table=1001) as before:
        before.want({key: (LEAF1,)})
        await before.settle()
    async with running(kernel) as it:

        async def interrupted(family: Family, form: RouteForm) -> list[RouteRun]:
            raise OSError("it changed during each of 20 dumps")

        async def collected() -> None:
            for _ in range(3):
                it.dataplane.upkeep.collect_unused()
                await it.settle()

        unread = Fib(FibConfig(table=1001), dataplane=it.dataplane, owner=it.owner, vrf="blue")
        with monkeypatch.context() as patched:
            patched.setattr(kernel, "dumped", interrupted)
            with pytest.raises(OSError, match="20 dumps"):
                await unread.start()
        await unread.stop()
        it.fib.sweep()
        await collected()
        assert kernel.hops_of(V4, key, table=1001) is not None
        read = Fib(FibConfig(table=1001), dataplane=it.dataplane, owner=it.owner, vrf="blue")
        await read.start()
        read.sweep()
        await read.writer.idle()
        await collected()
        assert kernel.hops_of(V4, key, table=1001) is None, "nobody wants it"
        assert not it.dataplane.objects.groups
        await read.stop()


async def test_table_that_is_stopped_and_adopted_anew_holds_each_group_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a VRF of which the kernel would not tell all is: tried again, by a table that knows nothing of the former."""
    kernel = two_leaf_kernel()
    key = keys_of(CASES[0][3], 1)[0]
    async with running(kernel, table=1001) as before:
        before.want({key: (LEAF1,)})
        await before.settle()
    async with running(kernel) as it:

        def routes_of_groups() -> list[int]:
            return [group.routes for group in it.dataplane.objects.groups.values()]

        def table() -> Fib:
            return Fib(FibConfig(table=1001), dataplane=it.dataplane, owner=it.owner, vrf="blue")

        async def interrupted(family: Family, form: RouteForm) -> list[RouteRun]:
            raise OSError("it changed during each of 20 dumps")

        first, second, third = table(), table(), table()
        await first.start()
        await first.stop()
        assert routes_of_groups() == [1], "the kernel has its route"
        with monkeypatch.context() as patched:
            patched.setattr(kernel, "dumped", interrupted)
            with pytest.raises(OSError, match="20 dumps"):
                await second.start()
        await second.stop()
        assert routes_of_groups() == [1]
        await third.start()
        assert routes_of_groups() == [1]
        await third.withdraw_all()
        assert routes_of_groups() == [0]
        await third.stop()
