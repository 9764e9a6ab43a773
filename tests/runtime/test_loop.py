"""The selector that times how long the loop is held."""

from __future__ import annotations

import asyncio
import selectors

import pytest

from bgpd.runtime.loop import BUCKETS_S, new_event_loop
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
    assert selector.reset_longest() == pytest.approx(0.03)
    assert selector.reset_longest() == 0.0
    assert selector.holds[BUCKETS_S.index(0.050)] == 1
    assert selector.held_total_s == pytest.approx(0.032)


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
    assert selector.longest_s == 0.0
    assert selector.held_total_s == 0.0
    assert selector.holds[0] == sum(selector.holds) > 0
