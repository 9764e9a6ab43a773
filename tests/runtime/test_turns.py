"""Turns of bulk work: in order, for so long at each turn of the loop, whatever a step does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bgpd.runtime.turns import TURN_S, now_or_soon, soon, turns
from tests.clocks import StoppedClock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    clock = StoppedClock()
    monkeypatch.setattr("bgpd.runtime.turns.time", clock)
    return clock


def saying(said: list[str], name: str) -> Callable[[], None]:
    return lambda: said.append(name)


async def test_steps_run_in_order_in_the_next_turn() -> None:
    said: list[str] = []
    soon(saying(said, "a"))
    soon(saying(said, "b"))
    assert not said
    assert turns()
    await asyncio.sleep(0)
    assert said == ["a", "b"]
    assert not turns()


async def test_turn_ends_when_its_time_is_used_up(clock: StoppedClock) -> None:
    said: list[str] = []

    def work(name: str) -> None:
        clock.now += TURN_S * 0.7
        said.append(name)

    for name in "abcd":
        soon(lambda name=name: work(name))
    await asyncio.sleep(0)
    assert said == ["a", "b"]
    await asyncio.sleep(0)
    assert said == ["a", "b", "c", "d"]


async def test_what_a_step_asks_for_waits_behind_the_others() -> None:
    said: list[str] = []

    def again() -> None:
        said.append("first")
        soon(saying(said, "second"))

    soon(again)
    soon(saying(said, "other"))
    await asyncio.sleep(0)
    assert said == ["first", "other"]
    await asyncio.sleep(0)
    assert said == ["first", "other", "second"]


async def test_failed_step_is_told_to_the_loop_and_the_others_go_on() -> None:
    said: list[str] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    soon(lambda: 1 / 0)
    soon(saying(said, "other"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert said == ["other"]
    assert isinstance(errors[0], ZeroDivisionError)


def test_each_loop_has_its_own() -> None:
    said: list[str] = []

    async def leave_a_step() -> None:
        soon(saying(said, "left"))

    async def work() -> None:
        assert not turns()
        soon(saying(said, "done"))
        await asyncio.sleep(0)

    asyncio.run(leave_a_step())
    asyncio.run(work())
    assert said[-1] == "done"


async def test_one_step_of_a_turn_runs_at_once_and_the_others_in_the_next() -> None:
    said: list[str] = []
    assert now_or_soon(saying(said, "a"))
    assert said == ["a"]
    assert not now_or_soon(saying(said, "b"))
    assert not now_or_soon(saying(said, "c"))
    assert said == ["a"]
    await asyncio.sleep(0)
    assert said == ["a", "b", "c"]
    assert not now_or_soon(saying(said, "d"))
    for _ in range(2):
        await asyncio.sleep(0)
    assert now_or_soon(saying(said, "e"))
    assert said == ["a", "b", "c", "d", "e"]
