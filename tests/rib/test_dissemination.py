"""When FIB and neighbors hear of changes: small batches together, large ones at once, nothing out of order."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib.dissemination import FLUSH_KEYS
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.recording import Recorder as History
from bgpd.rib.tables import GATHERED
from bgpd.runtime.shared_state import SharedStateBroken
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1 = hop("10.0.1.2")
HOP2 = hop("10.0.2.2")
HOST = key("10.64.1.5/32")
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


def test_few_changes_of_a_neighbor_are_told_before_many_of_another_one_and_not_as_its() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    say(recorder, leaf2, [b"\0"], HOP2)
    say(recorder, leaf1, KEYS, HOP1)
    assert [list(call) for call in recorder.fib_calls] == [[b"\0"], KEYS]
    assert recorder.causes == ["leaf2", "leaf1"]


def test_few_changes_of_several_neighbors_are_one_call_and_nobodys() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    for source in (leaf1, leaf2, leaf1):
        say(recorder, source, KEYS[:10], HOP1)
    recorder.turn()
    say(recorder, leaf1, KEYS[10:20], HOP1)
    recorder.turn()
    assert recorder.causes == ["", "leaf1"]


def test_changes_of_several_neighbors_that_are_many_together_are_nobodys() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    half = GATHERED // 2
    for source, keys in ((leaf1, KEYS[:half]), (leaf2, KEYS[half:])):
        say(recorder, source, keys, HOP1)
    assert recorder.causes == [""]


def test_what_goes_with_a_session_is_caused_by_its_neighbor() -> None:
    recorder, leaf1, _ = two_leaves()
    say(recorder, leaf1, KEYS, HOP1)
    drain(recorder.rib.received.neighbor_down(leaf1))
    assert not recorder.fib
    assert set(recorder.causes) == {"leaf1"}


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


def test_session_whose_neighbor_goes_into_a_vrf_ends_in_the_table_that_it_is_in() -> None:
    configs = [session("leaf1", export="all"), session("leaf2", export="all")]
    recorder = Recorder(configuration(*configs))
    leaf1 = recorder.up(leaf(1), configs[0])
    recorder.up(leaf(2), configs[1])
    say(recorder, leaf1, KEYS[:1], HOP1)
    recorder.turn()
    moved = msgspec.structs.replace(configs[0], vrf="blue")
    drain(recorder.rib.reconfigure(configuration(moved, configs[1]).rib))
    drain(recorder.rib.received.neighbor_down(leaf1))
    recorder.turn()
    assert recorder.fib == {}
    again = recorder.up(leaf(1), moved)
    say(recorder, again, KEYS[:1], HOP1)
    recorder.turn()
    assert list(recorder.rib.table("blue", V4).routes) == KEYS[:1]
    assert list(recorder.rib.table("", V4).routes) == []


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


def test_what_is_flushed_at_once_needs_no_further_turn() -> None:
    recorder, leaf1, leaf2 = two_leaves()

    def change() -> bool:
        recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
        return True

    assert recorder.rib.flush_after(change)
    assert [source for source, _ in recorder.sent] == [leaf1, leaf2]
    assert recorder.scheduled == []
    say(recorder, leaf1, KEYS[:1], HOP1)
    assert len(recorder.scheduled) == 1


def test_more_than_one_slice_of_what_is_flushed_at_once_is_sent_later() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    keys = [bytes((32, 10, 64, number >> 8, number & 255)) for number in range(FLUSH_KEYS)]

    def change() -> bool:
        recorder.rib.announce_local(LOCAL, V4, keys, attributes())
        return True

    assert recorder.rib.flush_after(change)
    assert set(recorder.told) == {leaf1}
    recorder.turn()
    assert set(recorder.told[leaf1]) == set(recorder.told[leaf2]) == set(keys)


@pytest.mark.parametrize("is_own", [True, False])
def test_what_a_change_did_not_want_flushed_is_flushed_in_the_next_turn(is_own: bool) -> None:
    recorder, leaf1, leaf2 = two_leaves()

    def change() -> bool:
        if is_own:
            recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
        else:
            say(recorder, leaf1, KEYS[:1], HOP1)
        return False

    assert not recorder.rib.flush_after(change)
    assert recorder.sent == [] == recorder.fib_calls
    recorder.turn()
    assert set(recorder.told) == ({leaf1, leaf2} if is_own else set())
    assert recorder.fib == ({} if is_own else {KEYS[0]: (HOP1,)})


def test_a_flush_that_is_scheduled_already_stays_so_where_a_change_raises() -> None:
    recorder, leaf1, _ = two_leaves()

    def change() -> bool:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        recorder.rib.flush_after(change)
    say(recorder, leaf1, KEYS[:1], HOP1)
    recorder.turn()
    assert recorder.fib == {KEYS[0]: (HOP1,)}


class Order(History):
    """A history, and the order in which it and the neighbors hear."""

    is_on = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    def told(self, source: Source, *_: object, **__: object) -> None:
        self.heard.append(f"history of {source.name}")


def test_all_neighbors_are_sent_an_own_route_before_anything_of_it_is_recorded() -> None:
    recorder, leaf1, leaf2 = two_leaves()
    order = recorder.rib.received.recorder = Order()
    recorder.after_send = lambda: order.heard.append(recorder.sent[-1][0].name)
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    names = [leaf1.name, leaf2.name]
    assert order.heard == [*names, *(f"history of {name}" for name in names)]


def test_what_is_raised_where_a_neighbor_is_recorded_ends_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, leaf1, leaf2 = two_leaves()
    failed: list[Source] = []
    monkeypatch.setattr(recorder, "fail", lambda source, error: failed.append(source))
    order = recorder.rib.received.recorder = Order()

    def refuse_leaf1(source: Source, *_: object, **__: object) -> None:
        if source is leaf1:
            raise ValueError("cannot be told")
        order.heard.append(source.name)

    monkeypatch.setattr(order, "told", refuse_leaf1)
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    assert failed == [leaf1]
    assert order.heard == [leaf2.name]


def test_an_exception_of_the_fib_is_one_of_shared_state(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, leaf1, _ = two_leaves()

    def refuse(*_: object, cause: str) -> None:
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


def test_no_route_waits_for_the_kernel_once_no_neighbor_is_sent_learned_ones() -> None:
    recorder = Recorder(configuration(session("leaf1"), session("leaf2", export="all")))
    one, two = recorder.up(leaf(1), session("leaf1")), recorder.up(leaf(2), session("leaf2", export="all"))
    recorder.announce(one, attributes(65201), hop("10.0.1.2"), "10.9.0.0/24")
    recorder.turn()
    table = recorder.rib.table("", V4)
    table.unacknowledged.add(key("10.9.0.0/24"))  # whoever listens to the kernel has not said so yet
    table.refused.add(key("10.9.0.0/24"))
    drain(recorder.rib.received.neighbor_down(two))
    drain(recorder.rib.reconfigure(configuration(session("leaf1"))))
    assert (table.exports_learned, table.unacknowledged, table.refused) == (False, set(), set())
