"""A RIB that another process has left is the same again: routes, decisions, and what neighbors were sent."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.source import Source
from bgpd.rib.saved import SavedRib
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

pytestmark = pytest.mark.hypothesis

NAMES = ("leaf1", "leaf2", "leaf3")
CONFIG = configuration(*(session(name, export="all") for name in NAMES))
PREFIXES = [f"10.{number}.0.0/16" for number in range(12)]

events = st.lists(
    st.tuples(
        st.sampled_from(range(3)),
        st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=6, unique=True),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=12,
)


def sources() -> list[Source]:
    return [leaf(number, name=name, asn=65200 + number) for number, name in enumerate(NAMES, 1)]


def settle(one: Recorder) -> None:
    """All that is due is done, and the kernel has what it is asked for."""
    for _ in range(8):
        one.rib.flush()
        one.acknowledge(*list(one.awaited))


def filled(changes: list[tuple[int, list[str], int | None]]) -> Recorder:
    one = Recorder(CONFIG)
    speaking = sources()
    for source, config in zip(speaking, CONFIG.neighbor):
        one.up(source, config)
    for index, prefixes, med in changes:
        one.now += 7
        if med is None:
            one.withdraw(speaking[index], *prefixes)
        else:
            given = attributes(65200 + index, 65300, med=med)
            one.announce(speaking[index], given, hop(f"10.0.{index + 1}.2"), *prefixes)
    settle(one)
    return one


def routes(one: Recorder) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for prefix in PREFIXES:
        decision = one.rib.decision("", V4, key(prefix))
        if decision is not None:
            found[prefix] = [
                (path.source.name, path.received.block, path.next_hop, path.heard_at, decision.role(path))
                for path in decision.candidates
            ]
    return found


@given(events)
def test_rib_is_the_same_in_the_next_process(changes: list[tuple[int, list[str], int | None]]) -> None:
    former = filled(changes)
    packed = msgspec.msgpack.encode(former.rib.to_leave().rest()[0])
    one = Recorder(CONFIG)
    for source, config in zip(sources(), CONFIG.neighbor):
        one.rib.received.neighbor_up(source, negotiated(families=(V4,)), config, is_adopted=True)
    saved = msgspec.msgpack.decode(packed, type=SavedRib)
    drain(one.rib.received.restore(saved, {}))
    settle(one)
    assert routes(one) == routes(former)
    assert one.fib == former.fib
    one.rib.dissemination.release()
    settle(one)
    assert one.sent == []
    told = {name: told_to(former, name) for name in NAMES}
    assert {name: advertised(one, name) for name in NAMES} == told


def told_to(one: Recorder, name: str) -> dict[bytes, bytes]:
    found = [told for source, told in one.told.items() if source.name == name]
    return {prefix: sent.contents for told in found for prefix, sent in told.items()}


def advertised(one: Recorder, name: str) -> dict[bytes, bytes]:
    (state,) = [state for state in one.rib.received.states() if state.source.name == name]
    return {prefix: sent.attributes.contents for prefix, sent in state.exports[V4].advertised.items()}


@given(events, st.sampled_from(NAMES))
def test_session_that_was_not_adopted_is_left_out(
    changes: list[tuple[int, list[str], int | None]], missing: str
) -> None:
    former = filled(changes)
    one = Recorder(CONFIG)
    for source, config in zip(sources(), CONFIG.neighbor):
        if source.name != missing:
            one.rib.received.neighbor_up(source, negotiated(families=(V4,)), config, is_adopted=True)
    drain(one.rib.received.restore(former.rib.to_leave().rest()[0], {}))
    wanted = {
        prefix: names
        for prefix, found in routes(former).items()
        if (names := [path[0] for path in found if path[0] != missing])
    }
    assert {prefix: [path[0] for path in found] for prefix, found in routes(one).items()} == wanted


def test_what_waits_for_all_to_be_known_again_is_no_difference() -> None:
    former = Recorder(CONFIG)
    (source, *_), (config, *_) = sources(), CONFIG.neighbor
    former.up(source, config)
    former.rib.announce_local(LOCAL, V4, [key(PREFIXES[0])], attributes())
    settle(former)
    one = Recorder(CONFIG)
    one.rib.received.neighbor_up(source, negotiated(families=(V4,)), config, is_adopted=True)
    drain(one.rib.received.restore(former.rib.to_leave().rest()[0], {}))
    (export,) = one.rib.dissemination.all()
    assert list(export.advertised) == [key(PREFIXES[0])]
    assert export.differing(list(export.advertised)) == [], "its workload has yet to be heard of"
    one.rib.dissemination.release()
    settle(one)
    assert list(export.advertised) == [], "nobody has it any more"
