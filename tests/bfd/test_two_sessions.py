"""Two BFD sessions over a wire that loses, delays and reorders: they converge, and never send too fast."""

from __future__ import annotations

import heapq
import random as random_module
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.bfd.packet import Packet, State, decode
from bgpd.bfd.session import Session

_LONGEST_S = 0.03


class Wire:
    """Both ends, and what is under way between them. Loses a share of the packets, and delays each as it likes."""

    def __init__(self, seed: int, *, intervals: tuple[int, int], multipliers: tuple[int, int]) -> None:
        self.random = random_module.Random(seed)
        self.now = 0.0
        self.loss = 0.0
        self.ends = [
            Session(1 + side, interval_us=interval, multiplier=multiplier, random=self.random.random, now=0.0)
            for side, (interval, multiplier) in enumerate(zip(intervals, multipliers))
        ]
        self.sent: list[list[tuple[float, Packet, int, bool]]] = [[], []]
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min([one.deadline() for one in self.ends] + [entry[0] for entry in self._flying[:1]])
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, side, data = heapq.heappop(self._flying)
                self._deliver(side, decode(data))
            for side, one in enumerate(self.ends):
                one.tick(self.now)
                self._take(side, is_periodic=True)

    def _deliver(self, side: int, packet: Packet) -> None:
        """As the process does: by discriminator, or else by who sent it."""
        one = self.ends[side]
        if packet.your_discriminator in (0, one.discriminator):
            one.received(packet, self.now)
            self._take(side, is_periodic=False)

    def _take(self, side: int, *, is_periodic: bool) -> None:
        one = self.ends[side]
        for data in one.take_output():
            packet = decode(data)
            is_timed = is_periodic and packet.diagnostic != 1
            self.sent[side].append((self.now, packet, one.transmit_interval_us, is_timed))
            if self.random.random() >= self.loss:
                self._number += 1
                arrival = self.now + self.random.uniform(0.0001, _LONGEST_S)
                heapq.heappush(self._flying, (arrival, self._number, 1 - side, data))

    @property
    def states(self) -> tuple[State, State]:
        return self.ends[0].state, self.ends[1].state


intervals = st.tuples(*(st.sampled_from([50_000, 100_000, 300_000, 1_000_000, 2_000_000]),) * 2)
multipliers = st.tuples(st.integers(2, 5), st.integers(2, 5))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32), intervals, multipliers, st.floats(0, 0.9))
def test_two_ends_converge_after_any_loss(
    seed: int, intervals: tuple[int, int], multipliers: tuple[int, int], loss: float
) -> None:
    wire = Wire(seed, intervals=intervals, multipliers=multipliers)
    wire.loss = loss
    wire.run(20)
    wire.loss = 0.0
    wire.run(30)
    assert wire.states == (State.UP, State.UP)
    downs = [one.downs for one in wire.ends]
    wire.run(30)
    assert [one.downs for one in wire.ends] == downs
    assert not any(one.is_polling for one in wire.ends)
    slower = max(intervals)
    assert [one.transmit_interval_us for one in wire.ends] == [slower, slower]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32), intervals, multipliers, st.floats(0, 0.5))
def test_no_end_sends_periodic_packets_too_fast(
    seed: int, intervals: tuple[int, int], multipliers: tuple[int, int], loss: float
) -> None:
    wire = Wire(seed, intervals=intervals, multipliers=multipliers)
    wire.loss = loss
    wire.run(20)
    for side in (0, 1):
        timed = [entry for entry in wire.sent[side] if not entry[1].final]
        for (before, first, interval, _), (after, second, _, is_timed) in pairwise(timed):
            if is_timed and first.state is second.state:
                least = min(interval, 1_000_000 if second.state is not State.UP else interval) / 1_000_000
                known = min(intervals) / 1_000_000 if second.state is State.UP else 1.0
                assert after - before >= 0.75 * min(least, known) - 1e-9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), intervals, st.lists(intervals, min_size=1, max_size=5))
def test_change_of_timers_never_takes_a_session_down(
    seed: int, first: tuple[int, int], changes: list[tuple[int, int]]
) -> None:
    wire = Wire(seed, intervals=first, multipliers=(3, 3))
    wire.run(10)
    assert wire.states == (State.UP, State.UP)
    downs = [one.downs for one in wire.ends]  # of the handshake: a Down that another packet has overtaken
    for change in changes:
        for one, interval in zip(wire.ends, change):
            one.configure(interval_us=interval, multiplier=3)
        wire.run(wire.random.uniform(0.0, 8.0))
    wire.run(30)
    assert [one.downs for one in wire.ends] == downs
    assert [one.transmit_interval_us for one in wire.ends] == [max(changes[-1])] * 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1 << 32), intervals)
def test_dead_wire_takes_both_ends_down_within_their_detection_times(seed: int, intervals: tuple[int, int]) -> None:
    wire = Wire(seed, intervals=intervals, multipliers=(3, 3))
    wire.run(30)
    wire.loss = 1.0
    wire.run(3 * max(intervals) / 1_000_000 + _LONGEST_S)
    assert wire.states == (State.DOWN, State.DOWN)
