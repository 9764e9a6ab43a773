"""A kernel table that another process has left: it goes on without being read, and is compared with the kernel then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest

from bgpd.fib.saved import KnownTable, SavedKernelTable, save
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family
from bgpd.model.next_hop import BLACKHOLE, NextHop, NextHops
from bgpd.model.prefix import parse_prefix
from bgpd.runtime.rates import Share
from tests.fib.fake_kernel import FakeKernel, FakeReader
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, two_leaf_kernel

FIRST, SECOND, THIRD, FOURTH, OWN = (parse_prefix(f"10.64.{number}.0/24")[1] for number in range(5))
LEFT: dict[bytes, NextHops] = {FIRST: (LEAF1,), SECOND: (LEAF1, LEAF2), THIRD: (LEAF2,), OWN: (NextHop(b"", "eth1"),)}


class CountingReader(FakeReader):
    """Counts the dumps of a table's routes."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel)
        self.dumps = 0

    async def routes(
        self,
        family: Family,
        form: RouteForm,
        begin: Callable[[], Callable[[RouteRun], None]],
        *,
        share: Share | None = None,
    ) -> None:
        self.dumps += 1
        await super().routes(family, form, begin, share=share)


def columns(*keys: bytes) -> dict[Family, list[list[bytes]]]:
    """What the RIB's snapshot has of these keys."""
    table: ShardedDict[int] = ShardedDict()
    table.set_all(list(keys), 1)
    return {V4: [list(part) for part in table.parts]}


def saved(one: Harness, known: Mapping[Family, list[list[bytes]]]) -> KnownTable | None:
    found = save(one.fib.writer, one.dataplane.objects, known)
    if found is None:
        return None
    return KnownTable(msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=SavedKernelTable), known)


async def left(kernel: FakeKernel, routes: Mapping[bytes, NextHops] = LEFT) -> KnownTable:
    """What the process that has written these routes leaves."""
    one = Harness(kernel)
    await one.fib.start()
    one.want(routes)
    await one.settle()
    one.fib.sweep()
    await one.settle()
    known = saved(one, columns(FIRST, SECOND, THIRD, FOURTH))
    await one.fib.stop()
    assert known is not None
    kernel.log.clear()
    return known


@asynccontextmanager
async def succeeded(kernel: FakeKernel, known: KnownTable, **config: object) -> AsyncIterator[Harness]:
    one = Harness(kernel, **config)
    one.reader = one.dataplane.reader = CountingReader(kernel)
    await one.fib.start(known)
    try:
        yield one
    finally:
        await one.fib.stop()


def learned(one: Harness, wanted: Mapping[bytes, NextHops]) -> set[bytes]:
    """What neighbors say, key by key as the parts are; the keys that were not confirmed."""
    others: set[bytes] = set()
    for key, hops in wanted.items():
        one.owner.wish("", V4, {key: hops})
        rest = one.fib.writer.confirm(V4, {key: hops})
        one.fib.writer.update_learned(V4, rest)
        others |= rest.keys()
    return others


async def compared(one: Harness) -> None:
    one.fib.upkeep.compare_known()
    for _ in range(1000):
        if not one.fib.upkeep.is_uncompared:
            break
        await asyncio.sleep(0.005)
    assert not one.fib.upkeep.is_uncompared
    await one.settle()


async def test_nothing_is_read_or_written_where_all_is_as_it_was() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    before = dict(kernel.routes)
    async with succeeded(kernel, known) as one:
        assert one.reader.dumps == 0
        assert learned(one, {key: LEFT[key] for key in (FIRST, SECOND, THIRD)}) == set()
        assert set(one.fib.families[V4].unconfirmed) == {OWN}
        one.want({OWN: LEFT[OWN]})
        await compared(one)
        assert one.reader.dumps == 2, "one of each family"
        one.fib.sweep()
        await one.settle()
        assert one.reader.dumps == 2
        assert kernel.log == []
        assert dict(kernel.routes) == before
        assert one.fib.families[V4].direct == {3: {OWN}}


async def test_what_changed_is_written_and_what_nobody_wants_waits_for_the_sweep() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    async with succeeded(kernel, known) as one:
        assert learned(one, {SECOND: (LEAF1, LEAF2), THIRD: (LEAF1, LEAF2), FOURTH: (LEAF2,)}) == {THIRD, FOURTH}
        await one.settle()
        assert kernel.hops_of(V4, THIRD) == kernel.hops_of(V4, SECOND)
        assert kernel.hops_of(V4, FOURTH)
        assert kernel.hops_of(V4, FIRST)
        await compared(one)
        assert kernel.hops_of(V4, FIRST)
        one.fib.sweep()
        await one.settle()
        assert not kernel.hops_of(V4, FIRST)


async def test_what_another_program_did_meanwhile_is_repaired() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    kernel.delete_by_other_hand(V4, FIRST)
    async with succeeded(kernel, known) as one:
        learned(one, {key: LEFT[key] for key in (FIRST, SECOND, THIRD)})
        one.want({OWN: LEFT[OWN]})
        await compared(one)
        assert kernel.hops_of(V4, FIRST)
        assert one.fib.counters.repaired == 1


async def test_routes_that_went_with_their_group_are_written_at_once() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    (group,) = {target for key, target in _targets(known).items() if key == FIRST}
    kernel.delete_nexthop_by_other_hand(group)
    async with succeeded(kernel, known) as one:
        assert FIRST not in one.fib.families[V4].installed
        assert learned(one, {FIRST: (LEAF1,)}) == {FIRST}
        await one.settle()
        assert kernel.hops_of(V4, FIRST)


async def test_route_of_ours_that_the_former_process_did_not_know_of_stays_until_the_sweep() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    unknown = {key: hops for key, hops in LEFT.items() if key != FIRST}
    known = KnownTable(_without(known, FIRST), known.columns)
    async with succeeded(kernel, known) as one:
        learned(one, {key: unknown[key] for key in (SECOND, THIRD)})
        one.want({OWN: LEFT[OWN]})
        await compared(one)
        assert kernel.hops_of(V4, FIRST)
        one.fib.sweep()
        await one.settle()
        await one.settle()
        assert not kernel.hops_of(V4, FIRST)


@pytest.mark.parametrize("config", [{"metric": 77}, {"protocol": 77}, {"table": 99}])
async def test_table_that_is_written_otherwise_now_is_read(config: dict[str, int]) -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    async with succeeded(kernel, known, **config) as one:
        assert one.reader.dumps == 2


async def test_blocked_prefix_is_not_confirmed() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel)
    async with succeeded(kernel, known) as one:
        kernel.add_foreign("10.64.0.0/24")
        assert learned(one, {FIRST: (LEAF1,)}) == {FIRST}


async def test_table_with_something_under_way_is_not_left() -> None:
    kernel = two_leaf_kernel()
    one = Harness(kernel)
    await one.fib.start()
    kernel.bulk.hold()
    one.want({FIRST: (LEAF1,)})
    await asyncio.sleep(0)
    assert saved(one, columns(FIRST)) is None
    kernel.bulk.release()
    await one.settle()
    assert saved(one, columns(FIRST)) is not None
    await one.fib.stop()


async def test_blackholes_are_left_too() -> None:
    kernel = two_leaf_kernel()
    known = await left(kernel, {FIRST: BLACKHOLE})
    async with succeeded(kernel, known) as one:
        one.want({FIRST: BLACKHOLE})
        await one.settle()
        one.fib.sweep()
        await one.settle()
        assert kernel.log == []


def _targets(known: KnownTable) -> dict[bytes, int]:
    installed, _ = known.installed(V4, range(1 << 31))
    return dict(installed)


def _without(known: KnownTable, key: bytes) -> SavedKernelTable:
    """The same, as if the former process had not known of one route."""
    routes = known.saved.families[str(V4)]
    others = {other: target for other, target in _targets(known).items() if other != key}
    nothing = [
        b"" if not keys else (-(1 << 31)).to_bytes(4, "little", signed=True) * len(keys) for keys in known.columns[V4]
    ]
    changed = msgspec.structs.replace(routes, targets=nothing, others=others)
    return msgspec.structs.replace(known.saved, families={**known.saved.families, str(V4): changed})
