"""When FIB and neighbors hear of changes: small batches together, large ones at once, nothing out of order."""

from __future__ import annotations

import pytest

from bgpd.model.path import RouteBatch, Source
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.tables import GATHERED
from bgpd.runtime.shared_state import SharedStateBroken
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1 = hop("10.0.1.2")
HOP2 = hop("10.0.2.2")
KEYS = [bytes((24, 10, number >> 8, number & 255)) for number in range(GATHERED)]


def two_leaves(**fields: object) -> tuple[Recorder, Source, Source]:
    configs = [session("leaf1", **fields), session("leaf2", **fields)]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.turn()
    return recorder, leaf1, leaf2


def say(recorder: Recorder, source: Source, keys: list[bytes], next_hop: object) -> None:
    batch = RouteBatch(family=V4, announced=keys, attributes=attributes(1), next_hop=next_hop)  # type: ignore[arg-type]
    recorder.rib.received.routes_received(source, [batch])


def test_small_batches_of_one_turn_are_one_call() -> None:
    recorder, leaf1, _ = two_leaves()
    for one in KEYS[:10]:
        say(recorder, leaf1, [one], HOP1)
    assert recorder.fib_calls == []
    recorder.turn()
    assert recorder.fib_calls == [dict.fromkeys(KEYS[:10], (HOP1,))]


def test_a_large_batch_is_told_at_once_after_what_was_gathered() -> None:
    recorder, leaf1, _ = two_leaves()
    say(recorder, leaf1, [b"\0"], HOP1)
    say(recorder, leaf1, KEYS, HOP1)
    assert [list(call) for call in recorder.fib_calls] == [[b"\0", *KEYS]]


def test_a_walk_does_not_overtake_what_was_gathered() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    say(recorder, leaf1, KEYS[:1], HOP1)
    say(recorder, leaf2, KEYS[:1], HOP2)
    drain(recorder.rib.received.neighbor_down(leaf1))
    recorder.turn()
    assert recorder.fib == {KEYS[0]: (HOP2,)}


def test_an_acknowledgement_does_not_cover_a_change_that_the_kernel_was_not_told() -> None:
    recorder, leaf1, leaf2 = two_leaves(export="all")
    recorder.announce(leaf1, attributes(1, 2, 3), HOP1, "10.1.0.0/24")
    say(recorder, leaf2, [key("10.1.0.0/24")], HOP2)
    recorder.rib.fib_acknowledged("", V4, [key("10.1.0.0/24")])
    recorder.turn()
    assert recorder.fib == {key("10.1.0.0/24"): (HOP2,)}
    assert recorder.sent == []
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert [source for source, _ in recorder.sent] == [leaf1]


def test_what_is_raised_where_a_neighbor_is_served_ends_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, leaf1, leaf2 = two_leaves()
    failed: list[tuple[Source, Exception]] = []
    monkeypatch.setattr(recorder, "fail", lambda source, error: failed.append((source, error)))
    error = ValueError("cannot be told")
    send = recorder.send

    def refuse_leaf1(source: Source, batch: RouteBatch) -> None:
        if source is leaf1:
            raise error
        send(source, batch)

    for family in recorder.rib.received._states[leaf1].exports.values():
        family.send = refuse_leaf1
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.0.0/24")], attributes())
    recorder.turn()
    assert failed == [(leaf1, error)]
    assert [source for source, _ in recorder.sent] == [leaf2]


def test_an_exception_of_the_fib_is_one_of_shared_state(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, leaf1, _ = two_leaves()

    def refuse(*_: object) -> None:
        raise ValueError("kernel table")

    monkeypatch.setattr(recorder, "update_learned", refuse)
    with pytest.raises(SharedStateBroken, match=r"commit.*kernel table"):
        say(recorder, leaf1, KEYS, HOP1)


def test_memory_that_ends_while_routes_are_stored_is_one_of_shared_state(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, leaf1, _ = two_leaves()

    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(LocRib, "announce", no_memory)
    with pytest.raises(SharedStateBroken):
        say(recorder, leaf1, KEYS, HOP1)
