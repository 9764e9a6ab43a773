"""Waiting changes: everything is taken, the latest wish of a key last, whatever the interleaving."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.fib.pending import PendingChanges
from bgpd.fib.plan import Target
from bgpd.fib.routes import FamilyRoutes
from bgpd.model.next_hop import NextHop

HOPS = [(NextHop(bytes((10, 0, 0, number))),) for number in range(4)]
wishes = st.one_of(st.none(), st.sampled_from(HOPS))
changes = st.tuples(st.dictionaries(st.binary(min_size=1, max_size=1), wishes, max_size=8), st.booleans())
steps = st.lists(st.one_of(changes, st.integers(1, 5)), max_size=30)
Wishes = dict[bytes, object]


def take(pending: PendingChanges, limit: int, wanted: Wishes) -> Wishes:
    """Up to so many, those that were overtaken as they are desired by then."""
    keys, values, overtaken = pending.take(limit)
    assert len(keys) <= limit
    assert overtaken <= set(keys)
    return {key: wanted[key] if key in overtaken else value for key, value in zip(keys, values)}


@given(steps, st.integers(1, 9))
def test_replaying_what_is_taken_gives_the_latest_wishes(
    given_steps: list[tuple[Wishes, bool] | int], lot: int
) -> None:
    pending, wanted, replayed = PendingChanges(lot=lot), {}, {}
    for step in given_steps:
        if isinstance(step, tuple):
            pending.merge(step[0], is_first=step[1])
            wanted.update(step[0])
        else:
            replayed.update(take(pending, step, wanted))
            shown = [key for keys in pending.slices(2) for key in keys]
            assert all(key in pending for key in shown)
            assert set(shown) >= {key for key in wanted if replayed.get(key, 0) != wanted[key]}
    while len(pending):
        replayed.update(take(pending, 3, wanted))
    assert replayed == wanted
    assert pending.take(1) == ([], [], frozenset())


@pytest.mark.parametrize("is_first", [False, True])
def test_second_wish_replaces_one_that_has_not_been_taken(is_first: bool) -> None:
    pending = PendingChanges()
    pending.merge({b"a": HOPS[0], b"b": HOPS[0]}, is_first=is_first)
    assert pending.take(1)[:2] == ([b"a"], [HOPS[0]])
    pending.merge({b"b": HOPS[1]}, is_first=is_first)
    assert pending.take(10)[:2] == ([b"b"], [HOPS[1]])


def test_only_what_was_overtaken_may_be_outdated() -> None:
    pending = PendingChanges()
    pending.merge({b"a": HOPS[0], b"b": HOPS[0]})
    pending.merge({b"b": HOPS[1], b"c": HOPS[1]}, is_first=True)
    assert pending.take(10) == ([b"b", b"c"], [HOPS[1], HOPS[1]], frozenset())
    assert pending.are_overtaken
    assert pending.take(10) == ([b"a", b"b"], [HOPS[0], HOPS[0]], {b"b"})


def test_what_was_overtaken_is_forgotten_while_others_come_without_end() -> None:
    pending = PendingChanges(lot=4)
    pending.merge({b"a": HOPS[0], b"b": HOPS[0]})
    pending.merge({b"b": HOPS[1]}, is_first=True)
    pending.take(1)
    for number in range(20):
        pending.merge({bytes((number, one)): HOPS[0] for one in range(2)})
        pending.take(2)
    assert len(pending) == 2
    assert not pending.are_overtaken


class CountedObjects:
    """Counts the routes of targets, as NexthopObjects does; those that are `dead` go with their last route.

    `targets`: what routes by each of HOPS are to point at; another one after the former died.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.dead: dict[int, int] = {}
        self.targets = [*range(len(HOPS) - 1), -100]

    def count_routes(self, identifier: int, change: int) -> None:
        self.counts[identifier] += change
        if identifier in self.dead:
            self.dead[identifier] += change
            if self.dead[identifier] <= 0:
                del self.dead[identifier]

    def die(self, number: int) -> None:
        former = self.targets[number]
        if self.counts[former] > 0:
            self.dead[former] = self.counts[former]
        self.targets[number] += len(HOPS)


def planned(routes: FamilyRoutes, objects: CountedObjects, *, key_by_key: bool) -> tuple[object, ...]:
    """What a plan says, whatever the order."""
    made = {id(hops): Target(one, frozenset((one,))) for hops, one in zip(HOPS, objects.targets)}
    with pytest.MonkeyPatch.context() as patch:
        if not key_by_key:
            patch.setattr(FamilyRoutes, "_plan_each", lambda *_: False)
        plan = routes.plan(64, target_of=lambda hops, _: made[id(hops)], blocked=lambda _: {}, desired=list)
    for change in plan.changes:
        routes.change_done(change.keys)
    return (
        sorted((target, sorted(keys)) for target, keys in plan.adds),
        sorted((change.target, sorted(zip(change.keys, change.before))) for change in plan.changes),
        sorted(plan.deletes),
        sorted(plan.settled),
    )


def attached(routes: FamilyRoutes) -> dict[int, set[bytes]]:
    return {interface: keys for interface, keys in routes.direct.items() if keys}


@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.binary(min_size=2, max_size=4), wishes, min_size=1, max_size=12),
            st.integers(0, len(HOPS) - 1),
            st.sets(st.binary(min_size=2, max_size=2), max_size=3),
        ),
        max_size=12,
    )
)
def test_routes_planned_key_by_key_are_planned_as_by_passes(
    given_steps: list[dict[bytes, object] | int | set[bytes]],
) -> None:
    objects = CountedObjects(), CountedObjects()
    tables = [FamilyRoutes(one) for one in objects]
    for step in given_steps:
        for one, table in zip(objects, tables):
            if isinstance(step, dict):
                table.pending.merge(step)
            elif isinstance(step, int):
                one.die(step)
            else:
                table.distrusted.update(step)
        assert planned(tables[0], objects[0], key_by_key=False) == planned(tables[1], objects[1], key_by_key=True)
        assert {key: tables[0].installed[key] for key in tables[0].installed} == {
            key: tables[1].installed[key] for key in tables[1].installed
        }
        assert tables[0].distrusted == tables[1].distrusted
        assert attached(tables[0]) == attached(tables[1])
        assert (+objects[0].counts, objects[0].dead) == (+objects[1].counts, objects[1].dead)
