"""Waiting changes: everything is taken, the latest wish of a key last, whatever the interleaving."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.fib.routes import PendingChanges
from bgpd.model.path import NextHop

HOPS = [(NextHop(bytes((10, 0, 0, number))),) for number in range(4)]
wishes = st.one_of(st.none(), st.sampled_from(HOPS))
steps = st.lists(
    st.one_of(st.dictionaries(st.binary(min_size=1, max_size=1), wishes, max_size=8), st.integers(1, 5)), max_size=30
)


@given(steps, st.integers(1, 9))
def test_replaying_what_is_taken_gives_the_latest_wishes(
    given_steps: list[dict[bytes, object] | int], lot: int
) -> None:
    pending, wanted, replayed = PendingChanges(lot=lot), {}, {}
    for step in given_steps:
        if isinstance(step, dict):
            pending.merge(step)
            wanted.update(step)
        else:
            keys, values = pending.take(step)
            assert len(keys) <= step
            replayed.update(zip(keys, values))
            assert all(key in pending for key in pending.keys())  # noqa: SIM118
            assert pending.keys() >= {key for key in wanted if replayed.get(key, 0) != wanted[key]}
    while len(pending):
        replayed.update(zip(*pending.take(3)))
    assert replayed == wanted
    assert pending.take(1) == ([], [])


def test_second_wish_replaces_one_that_has_not_been_taken() -> None:
    pending = PendingChanges()
    pending.merge({b"a": HOPS[0], b"b": HOPS[0]})
    assert pending.take(1) == ([b"a"], [HOPS[0]])
    pending.merge({b"b": HOPS[1]})
    assert pending.take(10) == ([b"b"], [HOPS[1]])
