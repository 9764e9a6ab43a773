"""What a neighbor announces beyond max_prefixes, where that is discarded: left out, counted, and asked for again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib import discarded as discarded_module
from bgpd.rib.discarded import ASK_PAUSE_S
from bgpd.rib.saved import SavedRib
from tests.logs import capture_logs
from tests.message.decoding import negotiated
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP = hop("10.0.1.2")


class Limited:
    """A neighbor with a limit, and the RIB that keeps it."""

    def __init__(self, most: int = 3, **fields: Any) -> None:
        self.config = session("leaf1", max_prefixes=most, max_prefixes_action="discard", **fields)
        self.recorder = Recorder(configuration(self.config))
        self.source: Source = self.recorder.up(leaf(1), self.config)

    def announce(self, *numbers: int, asn: int = 1) -> None:
        self.recorder.announce(self.source, attributes(asn), HOP, *map(prefix, numbers))

    def withdraw(self, *numbers: int) -> None:
        self.recorder.withdraw(self.source, *map(prefix, numbers))

    def ask(self, now: float) -> bool:
        """Whether the neighbor is asked for its routes at this look."""
        before = len(self.recorder.asked)
        self.recorder.rib.received.ask_for_discarded(now)
        return len(self.recorder.asked) > before

    def reconfigure(self, **fields: Any) -> None:
        config = session("leaf1", **{"max_prefixes_action": "discard", **fields})
        drain(self.recorder.rib.reconfigure(configuration(config).rib))

    @property
    def taken(self) -> list[int]:
        return sorted(number for number in range(40) if key(prefix(number)) in self.recorder.fib)

    @property
    def discarded(self) -> int:
        return self.recorder.rib.received.counts(self.source)[V4].discarded


def prefix(number: int) -> str:
    return f"10.{number}.0.0/24"


def test_what_is_beyond_the_limit_is_left_out_and_counted_and_the_session_stays() -> None:
    peer = Limited()
    with capture_logs() as logs:
        peer.announce(1, 2, 3, 4, 5)
        peer.announce(6)
        peer.announce(6)
    peer.recorder.turn()
    assert (peer.taken, peer.discarded, peer.recorder.resets) == ([1, 2, 3], 3, [])
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["prefix_limit.discarding"]


def test_what_is_there_is_replaced_at_the_limit() -> None:
    peer = Limited()
    peer.announce(1, 2, 3)
    peer.announce(2, 4, 3, asn=9)
    decision = peer.recorder.rib.decision("", V4, key(prefix(2)))
    assert decision is not None
    assert decision.best is not None
    assert decision.best.attributes.count_as(9) == 1
    assert (peer.taken, peer.discarded) == ([1, 2, 3], 1)


def test_a_batch_s_withdrawals_make_room_for_what_it_announces() -> None:
    peer = Limited()
    peer.announce(1, 2, 3)
    gone, come = [key(prefix(1))], [key(prefix(4)), key(prefix(4)), key(prefix(5))]
    batch = RouteBatch(family=V4, withdrawn=gone, announced=come, attributes=attributes(1), next_hop=HOP)
    peer.recorder.rib.received.routes_received(peer.source, [batch])
    peer.recorder.rib.commit_gathered()
    assert (peer.taken, peer.discarded) == ([2, 3, 4], 1)


@pytest.mark.parametrize("size", [1, 3])
def test_of_a_run_of_updates_as_many_are_taken_as_there_is_room_for(size: int) -> None:
    peer = Limited(20)
    numbers = list(range(30))
    batches = [
        RouteBatch(
            family=V4,
            announced=[key(prefix(number)) for number in numbers[start : start + size]],
            attributes=attributes(1, start + 1),
            next_hop=HOP,
        )
        for start in range(0, 30, size)
    ]
    peer.recorder.rib.received.routes_received(peer.source, batches[: 12 // size])
    assert len(peer.recorder.rib.table("", V4).routes) == 12
    peer.recorder.rib.received.routes_received(peer.source, batches[12 // size :])
    peer.recorder.rib.commit_gathered()
    peer.recorder.turn()
    assert (peer.taken, peer.discarded, peer.recorder.resets) == (numbers[:20], 10, [])
    peer.recorder.rib.received.routes_received(peer.source, batches)
    peer.recorder.rib.commit_gathered()
    assert (peer.taken, peer.discarded) == (numbers[:20], 10)


def test_discarded_prefixes_that_are_withdrawn_are_missing_no_more() -> None:
    peer = Limited()
    peer.announce(1, 2, 3, 4, 5)
    peer.withdraw(4)
    assert peer.discarded == 1
    peer.withdraw(5)
    assert peer.discarded == 0
    peer.withdraw(1)
    assert not peer.ask(1000.0)
    peer.announce(6)
    assert peer.taken == [2, 3, 6]


def test_once_there_is_room_the_neighbor_is_asked_and_not_more_often_than_it_may_be() -> None:
    peer = Limited()
    peer.announce(1, 2, 3, 4, 5)
    assert not peer.ask(1000.0), "there is no room"
    peer.withdraw(1)
    assert peer.ask(1001.0)
    assert peer.recorder.asked == [(peer.source, V4)]
    peer.announce(2, 3, 4, 5)
    assert (peer.taken, peer.discarded) == ([2, 3, 4], 1)
    peer.withdraw(2)
    assert not peer.ask(1000.0 + ASK_PAUSE_S)
    assert peer.ask(1001.0 + ASK_PAUSE_S)


def test_a_neighbor_that_cannot_be_asked_is_shown_as_incomplete() -> None:
    peer = Limited()
    peer.recorder.knows_refresh = False
    peer.announce(1, 2, 3, 4)
    peer.withdraw(1)
    assert not peer.ask(1000.0)
    assert (peer.discarded, peer.taken) == (1, [2, 3])
    assert list(peer.recorder.rib.received.discarded()) == [(peer.source, V4, 1)]
    peer.announce(4)
    assert (peer.discarded, peer.taken) == (0, [2, 3, 4])


def test_a_raised_limit_is_room_and_a_lower_one_takes_nothing_away() -> None:
    peer = Limited()
    peer.announce(1, 2, 3, 4)
    peer.reconfigure(max_prefixes=4)
    assert peer.ask(1000.0)
    peer.announce(1, 2, 3, 4)
    assert peer.taken == [1, 2, 3, 4]
    peer.reconfigure(max_prefixes=2)
    peer.announce(5)
    peer.announce(1, asn=7)
    assert (peer.taken, peer.discarded) == ([1, 2, 3, 4], 1)
    peer.reconfigure(max_prefixes=0)
    assert peer.ask(1000.0 + ASK_PAUSE_S)
    peer.announce(5, 6, 7)
    peer.recorder.turn()
    assert (peer.taken, peer.discarded, peer.recorder.resets) == ([1, 2, 3, 4, 5, 6, 7], 0, [])


def test_reset_instead_of_discard_ends_the_session_with_the_next_route_beyond_the_limit() -> None:
    peer = Limited()
    peer.announce(1, 2, 3, 4)
    peer.reconfigure(max_prefixes=3, max_prefixes_action="reset")
    peer.announce(5)
    peer.recorder.turn()
    assert peer.recorder.resets == [("leaf1", "sent 4 ipv4-unicast prefixes, more than max_prefixes")]


def test_of_very_many_only_the_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discarded_module, "MOST_KEPT", 2)
    peer = Limited()
    peer.announce(*range(1, 10))
    assert peer.discarded == 6
    peer.withdraw(4, 5, 1)
    assert peer.discarded == 4
    assert peer.ask(1000.0)
    assert peer.discarded == 0


def test_routes_of_the_neighbor_s_last_session_leave_no_room_out() -> None:
    peer = Limited()
    peer.announce(1, 2, 3)
    leaving = peer.recorder.rib.received.neighbor_down(peer.source)
    peer.source = peer.recorder.up(leaf(1), peer.config)
    peer.announce(1, 2, 3, 4)
    drain(leaving)
    assert (peer.taken, peer.discarded) == ([1, 2, 3], 1)


Steps = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 12), min_size=1, max_size=6)), max_size=12)


@given(Steps)
def test_the_table_never_exceeds_the_limit_and_nothing_is_lost_from_the_count(
    steps: Iterable[tuple[bool, list[int]]],
) -> None:
    peer = Limited(4)
    announced: set[int] = set()
    for is_announced, numbers in steps:
        if is_announced:
            peer.announce(*numbers)
            announced |= set(numbers)
        else:
            peer.withdraw(*numbers)
            announced -= set(numbers)
        assert len(peer.taken) <= 4
        assert set(peer.taken) <= announced
        assert len(peer.taken) + peer.discarded == len(announced)


def test_what_was_discarded_is_known_to_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many, which ones, and when the neighbor was asked last."""
    monkeypatch.setattr(discarded_module, "LEAST_KEPT", 2)
    before = Limited(most=1)
    before.announce(1, 2, 3, 4)
    before.withdraw(1)
    assert before.ask(1000.0)
    before.announce(1, 2, 3, 4, 5)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(before.recorder.rib.to_leave().rest()[0]), type=SavedRib)
    after = Limited.__new__(Limited)
    after.config, after.recorder, after.source = before.config, Recorder(configuration(before.config)), leaf(1)
    received = after.recorder.rib.received
    received.neighbor_up(after.source, negotiated(families=(V4,)), after.config, is_adopted=True)
    steps = received.restore_sessions(saved, {})
    drain(steps)
    assert received.must_wait(after.source), "its routes are counted one by one"
    drain(received.restore_routes())
    after.recorder.rib.commit_gathered()
    assert not received.must_wait(after.source)
    assert (after.taken, after.discarded) == (before.taken, before.discarded) == ([1], 4)
    after.withdraw(1)
    assert not after.ask(1000.0 + ASK_PAUSE_S - 1), "it was asked a moment ago"
    assert after.ask(1000.0 + ASK_PAUSE_S)
