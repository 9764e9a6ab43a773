"""Other programs' routes of the same prefix, of any metric: none is destroyed, however late the word on it comes."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any

import pytest

from bgpd.fib.answers import OCCUPIED
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.route_messages import UNKNOWN
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.next_hop import BLACKHOLE, NextHop
from bgpd.model.prefix import parse_prefix
from tests.fib.fake_kernel import FOREIGN, METRIC, PROTOCOL, FakeKernel
from tests.fib.harness import LEAF1, LEAF1_V6, LEAF2, LEAF2_V6, V4, V6, Harness, running, two_leaf_kernel
from tests.logs import capture_logs
from tests.waiting import until

OTHER = 16
CASES = ((V4, LEAF1, LEAF2, "10.64.1.0/24"), (V6, LEAF1_V6, LEAF2_V6, "2001:db8:1::/48"))
both_families = pytest.mark.parametrize(("family", "leaf1", "leaf2", "prefix"), CASES, ids=["ipv4", "ipv6"])


def protocols(kernel: FakeKernel, family: Family, key: bytes, metric: int = METRIC) -> list[int]:
    return [protocol for protocol, _target in kernel.all_at(family, key, metric=metric)]


@both_families
async def test_route_is_created_only_where_none_is(family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str) -> None:
    key = parse_prefix(prefix)[1]
    async with running() as it:
        route = it.kernel.add_foreign(prefix, metric=METRIC, told=False)
        it.want({key: (leaf1,)}, family)
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocols(it.kernel, family, key) == [OTHER]
        assert it.state_of(prefix)[0] == "blocked"
        assert it.refused[0] == (family, key, OCCUPIED)
        assert it.acknowledged == []
        it.kernel.tell(route)
        await it.settle()
        state, why = it.state_of(prefix)
        assert state == "blocked"
        assert f"(protocol {OTHER} via 1.1.1.1 on x, metric {METRIC})" in why
        it.kernel.remove_foreign(route)
        await it.settle()
        assert protocols(it.kernel, family, key) == [PROTOCOL]
        assert it.state_of(prefix) == ("installed", "")


@both_families
async def test_route_that_is_blocked_while_it_is_written_is_not_acknowledged_afterwards(
    family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str
) -> None:
    key = parse_prefix(prefix)[1]
    async with running() as it:
        it.kernel.bulk.hold()
        it.want({key: (leaf1,)}, family)
        for _ in range(20):
            await asyncio.sleep(0)
        route = it.kernel.add_foreign(prefix, metric=METRIC + 1, told=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert it.state_of(prefix)[0] == "blocked"
        it.kernel.bulk.release()
        await it.settle()
        assert [one[:2] for one in it.refused] == [(family, key)]
        assert it.acknowledged == []
        it.kernel.remove_foreign(route)
        await it.settle()
        assert it.acknowledged == [(family, key)]


@both_families
async def test_route_is_changed_beside_one_that_took_its_place(
    family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str
) -> None:
    key = parse_prefix(prefix)[1]
    async with running() as it:
        it.want({key: (leaf1,)}, family)
        await it.settle()
        route = it.kernel.add_foreign(prefix, metric=METRIC, told=False)
        it.want({key: (leaf2,)}, family)
        await it.settle()
        assert protocols(it.kernel, family, key)[0] == OTHER
        it.kernel.tell(route)
        await it.settle()
        assert protocols(it.kernel, family, key) == [OTHER]
        assert it.state_of(prefix)[0] == "blocked"


@both_families
async def test_change_makes_before_it_breaks_and_a_refused_one_breaks_nothing(
    family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str
) -> None:
    key = parse_prefix(prefix)[1]
    async with running() as it:
        it.want({key: (leaf1,)}, family)
        await it.settle()
        it.kernel.log.clear()
        it.kernel.refuse[key] = errno.ENOSPC
        it.want({key: (leaf2,)}, family)
        for _ in range(30):
            await asyncio.sleep(0)
        assert len(it.kernel.hops_of(family, key) or ()) == 1
        assert it.state_of(prefix) == ("failed", "No space left on device")
        await it.settle()
        assert it.fib.differing(family, [key]) == []
        it.kernel.refuse.clear()
        await it.settle_retries()
        changes = [kind for kind, what in it.kernel.log if what == key]
        assert changes == [MessageKind.NEW_ROUTE, MessageKind.DEL_ROUTE]
        assert [address for address, _ifindex in it.kernel.hops_of(family, key) or ()] == [leaf2.address]
        assert len(it.kernel.all_at(family, key)) == 1
        assert it.state_of(prefix) == ("installed", "")


@both_families
async def test_what_is_wished_while_a_change_is_under_way_follows_it(
    family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str
) -> None:
    key = parse_prefix(prefix)[1]
    async with running() as it:
        for last in (None, (leaf1,), (leaf1, leaf2), None):
            it.want({key: (leaf1,)}, family)
            await it.settle()
            for wish in ((leaf2,), (leaf1, leaf2), last):
                it.want({key: wish}, family)
                it.dataplane.pump()
            await it.settle()
            hops = {address for address, _ifindex in it.kernel.hops_of(family, key) or ()}
            assert hops == {hop.address for hop in last or ()}
            assert len(it.kernel.all_at(family, key)) == (last is not None)


async def test_override_stands_beside_another_metric_and_behind_the_same() -> None:
    key = parse_prefix("10.64.1.0/24")[1]
    async with running(override=("10.64.1.0/24",)) as it:
        beside = it.kernel.add_foreign("10.64.1.0/24", metric=METRIC + 100)
        it.want({key: (LEAF1,)})
        await it.settle()
        assert protocols(it.kernel, V4, key) == [PROTOCOL]
        route = it.kernel.add_foreign("10.64.1.0/24", metric=METRIC)
        await it.settle()
        assert protocols(it.kernel, V4, key) == [OTHER]
        state, why = it.state_of("10.64.1.0/24")
        assert state == "blocked"
        assert f"metric {METRIC}); two routes of one metric are no order" in why
        it.kernel.remove_foreign(route)
        await it.settle()
        assert protocols(it.kernel, V4, key) == [PROTOCOL]
        assert protocols(it.kernel, V4, key, METRIC + 100) == [OTHER]
        it.kernel.remove_foreign(beside)


async def test_route_that_no_notification_tells_of_is_found_named_and_waited_for() -> None:
    key = parse_prefix("10.64.1.0/24")[1]
    async with running() as it:
        place = (V4, 254, key, METRIC)
        it.kernel.routes[place] = (77, FOREIGN)
        it.want({key: (LEAF1,)})
        await it.settle()
        await it.settle()
        assert it.state_of("10.64.1.0/24")[0] == "blocked"
        assert "protocol 77" in it.state_of("10.64.1.0/24")[1]
        assert "protocol 77" in it.refused[-1][2]
        del it.kernel.routes[place]
        await until(lambda: protocols(it.kernel, V4, key) == [PROTOCOL])
        assert it.state_of("10.64.1.0/24") == ("installed", "")


@pytest.mark.parametrize("found", [UNKNOWN, -3, 0])
async def test_route_of_ours_that_is_not_known_is_taken_over(found: int) -> None:
    key = parse_prefix("10.64.1.0/24")[1]
    async with running() as it:
        it.kernel.routes[V4, 254, key, METRIC] = (PROTOCOL, found)
        it.want({key: (LEAF1,)})
        await until(lambda: it.kernel.all_at(V4, key) == [(PROTOCOL, it.fib.families[V4].installed.get(key))])
        assert it.kernel.hops_of(V4, key) == {(LEAF1.address, 2)}


async def test_route_of_ours_that_another_program_replaced_is_set_right() -> None:
    key = parse_prefix("10.64.1.0/24")[1]
    async with running() as it:
        it.want({key: (LEAF1,)})
        await it.settle()
        before = it.kernel.all_at(V4, key)
        it.kernel.replace_by_other_hand(V4, key, -3)
        await until(lambda: it.kernel.all_at(V4, key) == before)


@pytest.mark.parametrize("found", [UNKNOWN, -2, 0])
async def test_ipv6_route_of_bgpds_protocol_behind_bgpds_own_costs_it_not(found: int) -> None:
    """The kernel would take bgpd's, which is by a nexthop object, for the one that a deletion names otherwise."""
    key = parse_prefix("2001:db8:64::/64")[1]
    async with running() as it:
        it.want({key: (LEAF1_V6,)}, V6)
        await it.settle()
        (own,) = it.kernel.all_at(V6, key)
        looks: list[None] = []
        real = it.dataplane.reader.routes

        async def looked(*arguments: object) -> None:
            await real(*arguments)  # type: ignore[arg-type]
            looks.append(None)

        it.dataplane.reader.routes = looked  # type: ignore[method-assign, assignment]
        it.kernel.behind[V6, 254, key, METRIC] = [(PROTOCOL, found)]
        it.kernel.log.clear()
        for number in range(2):
            it.fib.writer.examiner.add(V6, [key])
            await until(lambda wanted=number: len(looks) > wanted and it.dataplane.idle)
        assert it.kernel.all_at(V6, key)[0] == own
        assert it.kernel.log == []


@pytest.mark.parametrize("some", [{"tos": 16}, {"details": b"\1\2\x0a\0\0\0"}], ids=["type of service", "sources"])
async def test_route_for_some_packets_is_beside_bgpds_and_not_against_it(some: dict[str, Any]) -> None:
    before, after = parse_prefix("10.64.1.0/24")[1], parse_prefix("10.64.2.0/24")[1]
    async with running() as it:
        it.want({before: (LEAF1,)})
        await it.settle()
        for key in (before, after):
            route = KernelRoute(family=V4, key=key, table=254, protocol=4, metric=METRIC, interface="x", **some)
            it.kernel.tell(route)
        it.want({after: (LEAF1,)})
        await it.settle()
        assert [it.state_of(prefix)[0] for prefix in ("10.64.1.0/24", "10.64.2.0/24")] == ["installed"] * 2
        other = it.kernel.add_foreign("10.64.2.0/24", metric=100)
        await it.settle()
        assert [protocols(it.kernel, V4, key) for key in (before, after)] == [[PROTOCOL], []]
        it.kernel.remove_foreign(other)
        await it.settle()
        assert [protocols(it.kernel, V4, key) for key in (before, after)] == [[PROTOCOL]] * 2


async def test_two_routes_that_a_crash_left_become_one() -> None:
    kernel = two_leaf_kernel()
    key, blackhole = parse_prefix("10.64.1.0/24")[1], parse_prefix("10.65.0.0/16")[1]
    async with running(kernel) as before:
        before.want({key: (LEAF1,), blackhole: BLACKHOLE})
        await before.settle()
        kernel.behind[V4, 254, key, METRIC] = [(PROTOCOL, 0)]
    async with running(kernel) as it:
        it.learn({key: (LEAF1,), blackhole: BLACKHOLE})
        it.fib.sweep()
        await until(lambda: len(kernel.all_at(V4, key)) == 1)
        await it.settle()
        assert kernel.hops_of(V4, key) == {(LEAF1.address, 2)}
        assert {group.routes for group in it.dataplane.objects.groups.values()} == {1}


@both_families
@pytest.mark.parametrize("seed", range(12))
async def test_churn_among_foreign_routes_destroys_none_and_ends_true(
    family: Family, leaf1: NextHop, leaf2: NextHop, prefix: str, seed: int
) -> None:
    """Wishes and foreign routes of the same and of another metric come and go; half of the words come late."""
    chosen = random.Random(seed)
    form = "10.64.{}.0/24" if family is V4 else "2001:db8:{}::/48"
    prefixes = [form.format(number) for number in range(1, 9)]
    keys = {prefix: parse_prefix(prefix)[1] for prefix in prefixes}
    async with running() as it:
        await _churn(it, chosen, family, keys, ((leaf1,), (leaf2,), (leaf1, leaf2), BLACKHOLE, None))


async def _churn(
    it: Harness, chosen: random.Random, family: Family, keys: dict[str, bytes], wishes: tuple[object, ...]
) -> None:
    foreign, untold = {}, []
    for _ in range(300):
        prefix = chosen.choice(list(keys))
        step = chosen.random()
        if step < 0.5:
            it.learn({keys[prefix]: chosen.choice(wishes)}, family)  # type: ignore[dict-item]
        elif step < 0.7 and prefix not in foreign:
            route = it.kernel.add_foreign(prefix, metric=chosen.choice((METRIC, 99)), told=False)
            foreign[prefix] = route
            untold.append(route)
        elif step < 0.8 and prefix in foreign and foreign[prefix] not in untold:
            it.kernel.remove_foreign(foreign.pop(prefix))
        while untold and chosen.random() < 0.5:
            it.kernel.tell(untold.pop(0))
        if chosen.random() < 0.5:
            await asyncio.sleep(0)
        for other, route in foreign.items():
            assert OTHER in protocols(it.kernel, family, keys[other], route.metric), "another program's route went"
    for route in untold:
        it.kernel.tell(route)
    await it.settle_retries()
    for prefix, key in keys.items():
        wish = it.wishes.get((family, key))
        wanted = ["blocked"] if wish and prefix in foreign else ["installed"] if wish else [""]
        await until(lambda prefix=prefix, wanted=wanted: [it.state_of(prefix)[0]] == wanted)
        mine = [protocol for protocol in protocols(it.kernel, family, key) if protocol == PROTOCOL]
        assert len(mine) == (wanted == ["installed"])


async def test_change_that_is_obstructed_is_no_defect_while_it_is_looked_at() -> None:
    prefix = "2001:db8:64::/48"
    key = parse_prefix(prefix)[1]
    async with running() as it:
        it.want({key: (LEAF1_V6,)}, V6)
        await it.settle()
        real, may_look = it.dataplane.reader.routes, asyncio.Event()

        async def later(*arguments: object) -> None:
            await may_look.wait()
            await real(*arguments)  # type: ignore[arg-type]

        it.dataplane.reader.routes = later  # type: ignore[method-assign, assignment]
        it.kernel.refuse[key] = errno.EEXIST
        it.want({key: BLACKHOLE}, V6)
        await until(lambda: it.state_of(prefix)[0] == "blocked")
        assert it.fib.differing(V6, [key]) == []
        it.kernel.refuse.clear()
        may_look.set()
        await until(lambda: it.kernel.all_at(V6, key) == [(PROTOCOL, 0)])
        await until(lambda: it.state_of(prefix) == ("installed", ""))


async def test_route_that_goes_while_it_is_looked_at_is_not_believed() -> None:
    key = parse_prefix("10.64.1.0/24")[1]
    async with running() as it:
        it.want({key: (LEAF1,)})
        await it.settle()
        target = it.kernel.all_at(V4, key)[0][1]
        routes = it.fib.families[V4]
        routes.believe(key, None)
        it.fib.writer.examiner.add(V4, [key])
        real, looked = it.dataplane.reader.routes, []

        async def stale(*arguments: object) -> None:
            await real(*arguments)  # type: ignore[arg-type]
            if not looked:
                del it.kernel.routes[V4, 254, key, METRIC]
            looked.append(True)

        it.dataplane.reader.routes = stale  # type: ignore[method-assign, assignment]
        await until(lambda: looked)
        await until(lambda: it.kernel.all_at(V4, key) == [(PROTOCOL, target)])
        assert it.state_of("10.64.1.0/24") == ("installed", "")


async def test_start_takes_in_many_foreign_routes_by_slices_and_what_changes_meanwhile() -> None:
    kernel = two_leaf_kernel()
    prefixes = [f"10.{64 + (number >> 8)}.{number & 255}.0/24" for number in range(4_000)]
    routes = [kernel.add_foreign(prefix) for prefix in prefixes]
    harness = Harness(kernel)
    keys = [parse_prefix(prefix)[1] for prefix in (prefixes[0], prefixes[-1], prefixes[1], "10.9.0.0/16")]
    ownership, turns = harness.fib.writer.ownership, 0
    starting = asyncio.ensure_future(harness.fib.start())
    for _ in range(100):
        if ownership.blocked(V4, keys):
            break
        await asyncio.sleep(0)
    assert keys[1] not in ownership.blocked(V4, keys)
    kernel.remove_foreign(routes[0])
    kernel.remove_foreign(routes[-1])
    kernel.add_foreign("10.9.0.0/16")
    while not starting.done():
        turns += 1
        await asyncio.sleep(0)
    await starting
    blocked = ownership.blocked(V4, keys)
    assert [key in blocked for key in keys] == [False, False, True, True]
    assert turns >= 3
    await harness.fib.stop()


async def test_route_that_a_foreign_one_displaces_is_reported_once_with_the_reason() -> None:
    default = parse_prefix("0.0.0.0/0")[1]
    async with running() as it:
        it.learn({default: (LEAF1,)})
        await it.settle()
        with capture_logs() as logs:
            route = it.kernel.add_foreign("0.0.0.0/0", protocol=9, metric=1024)
            await it.settle()
            it.fib.writer.recheck_unsettled()
            await it.settle()
        (report,) = [entry for entry in logs if entry["event"] == "fib.routes_blocked"]
        assert (report["first"], report["routes"], report["displaced"]) == ("0.0.0.0/0", 1, 1)
        assert "protocol 9" in report["why"]
        assert it.state_of("0.0.0.0/0")[0] == "blocked"
        it.kernel.remove_foreign(route)
        await it.settle()
        assert it.state_of("0.0.0.0/0") == ("installed", "")


async def test_many_blocked_routes_are_reported_in_sums() -> None:
    keys = [bytes((24, 10, 70, number)) for number in range(100)]
    async with running() as it:
        for number in range(100):
            it.kernel.add_foreign(f"10.70.{number}.0/24")
        with capture_logs() as logs:
            for key in keys:
                it.learn({key: (LEAF1,)})
                await asyncio.sleep(0)
            await until(lambda: sum(entry.get("routes", 0) for entry in logs) == 100)
        assert len([entry for entry in logs if entry["event"] == "fib.routes_blocked"]) <= 3
