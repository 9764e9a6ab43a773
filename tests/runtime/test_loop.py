"""The selector that times how long the loop is held."""

from __future__ import annotations

import asyncio
import selectors

import pytest

from bgpd.runtime.loop import BUCKETS_S, FAR_OUT, Holds, new_event_loop
from tests.clocks import StoppedClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    clock = StoppedClock()
    monkeypatch.setattr("bgpd.runtime.loop.time", clock)
    return clock


def test_a_blocking_step_is_seen_as_a_hold(clock: StoppedClock) -> None:
    loop, selector = new_event_loop()

    async def work() -> None:
        await asyncio.sleep(0)
        clock.now += 0.03
        await asyncio.sleep(0)
        clock.now += 0.002
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    assert selector.wall.longest_s == pytest.approx(0.03)
    assert selector.wall.counts[BUCKETS_S.index(0.030)] == 1
    assert selector.wall.total_s == pytest.approx(0.032)
    selector.reset()
    assert selector.wall.longest_s == selector.wall.total_s == 0.0


def test_waiting_is_no_hold(clock: StoppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on for ten seconds in each poll of the kernel, and only there."""
    poll = selectors.EpollSelector.select

    def slow_poll(self: selectors.EpollSelector, timeout: float | None = None) -> object:
        clock.now += 10.0
        return poll(self, 0)

    loop, selector = new_event_loop()
    monkeypatch.setattr(selectors.EpollSelector, "select", slow_poll)
    try:
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert selector.wall.longest_s == 0.0
    assert selector.wall.total_s == 0.0
    assert selector.wall.counts[0] == sum(selector.wall.counts) > 0


def test_time_of_others_is_in_the_wall_clock_only(clock: StoppedClock) -> None:
    """The step takes 30 ms, and the processor for 12 of them."""
    loop, selector = new_event_loop()

    async def work() -> None:
        await asyncio.sleep(0)
        clock.now += 0.03
        clock.cpu += 0.0115
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    assert selector.wall.longest_s == pytest.approx(0.03)
    assert selector.cpu.longest_s == selector.cpu.total_s == pytest.approx(0.0115)
    assert selector.cpu.counts[BUCKETS_S.index(0.012)] == 1


def test_one_hold_of_ten_thousand_is_longer_than_the_quantile() -> None:
    holds = Holds()
    assert holds.quantile(FAR_OUT) == 0.0
    for _ in range(9_999):
        holds.add(0.0002)
    holds.add(0.0065)
    assert holds.quantile(FAR_OUT) == 0.001
    holds.add(0.0185)
    assert holds.quantile(FAR_OUT) == 0.007
    holds.add(0.9)
    assert (holds.quantile(FAR_OUT), holds.quantile(1.0)) == (0.019, 0.9)
