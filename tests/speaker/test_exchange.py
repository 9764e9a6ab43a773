"""Batches of consecutive UPDATEs: what is told together, and what never is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family, Origin
from bgpd.model.path import NextHop, RouteBatch
from bgpd.speaker.exchange import MOST, Gathering

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
FIRST, SECOND = Attributes(origin=Origin.IGP), Attributes(origin=Origin.EGP)
LEAF1, LEAF2 = NextHop(bytes((10, 0, 0, 1))), NextHop(bytes((10, 0, 0, 2)))


def keys(first: int, count: int) -> list[bytes]:
    return [bytes((32, 10, 0, number >> 8, number & 255)) for number in range(first, first + count)]


def told(*batches: RouteBatch) -> list[RouteBatch]:
    answers: list[RouteBatch] = []
    gathering = Gathering(answers.extend)
    for batch in batches:
        gathering.add(batch)
    gathering.flush()
    return answers


def announced(first: int, count: int, attributes: Attributes = FIRST, next_hop: NextHop = LEAF1) -> RouteBatch:
    return RouteBatch(family=V4, announced=keys(first, count), attributes=attributes, next_hop=next_hop)


def withdrawn(first: int, count: int) -> RouteBatch:
    return RouteBatch(family=V4, withdrawn=keys(first, count))


def test_like_updates_are_one_batch() -> None:
    (batch,) = told(announced(0, 3), announced(3, 2), announced(5, 1))
    assert (batch.announced, batch.attributes, batch.next_hop) == (keys(0, 6), FIRST, LEAF1)
    (batch,) = told(withdrawn(0, 3), withdrawn(9, 2))
    assert batch == RouteBatch(family=V4, withdrawn=[*keys(0, 3), *keys(9, 2)])


def test_unlike_updates_stay_apart_and_in_order() -> None:
    batches = [
        announced(0, 1),
        announced(0, 1, SECOND),
        announced(0, 1, SECOND, LEAF2),
        withdrawn(0, 1),
        announced(0, 1),
        RouteBatch(family=V4, withdrawn=keys(0, 1), announced=keys(1, 1), attributes=FIRST, next_hop=LEAF1),
        announced(2, 1),
        RouteBatch(family=V6, withdrawn=keys(0, 1)),
        withdrawn(0, 1),
    ]
    assert told(*batches) == batches


def test_a_batch_that_is_large_is_told_at_once() -> None:
    answers: list[RouteBatch] = []
    gathering = Gathering(answers.extend)
    gathering.add(announced(0, MOST))
    assert len(answers) == 1
    for number in range(MOST - 1):
        gathering.add(announced(number, 1))
    assert len(answers) == 1
    gathering.add(announced(MOST, 1))
    assert len(answers) == 2


steps = st.tuples(
    st.booleans(), st.integers(0, 5), st.integers(1, 3), st.sampled_from((FIRST, SECOND)), st.sampled_from((V4, V6))
)


@given(st.lists(steps))
def test_whoever_follows_the_batches_ends_with_the_same_routes(
    given_steps: list[tuple[bool, int, int, Attributes, Family]],
) -> None:
    batches = []
    for announces, first, count, attributes, family in given_steps:
        if announces:
            batches.append(
                RouteBatch(family=family, announced=keys(first, count), attributes=attributes, next_hop=LEAF1)
            )
        else:
            batches.append(RouteBatch(family=family, withdrawn=keys(first, count)))

    def routes(followed: list[RouteBatch]) -> dict[tuple[Family, bytes], Attributes | None]:
        found: dict[tuple[Family, bytes], Attributes | None] = {}
        for batch in followed:
            for key in batch.withdrawn:
                found.pop((batch.family, key), None)
            found.update(dict.fromkeys([(batch.family, key) for key in batch.announced], batch.attributes))
        return found

    assert routes(told(*batches)) == routes(batches)
