"""Bulk work: steps in order, for so long at each turn of the loop, and long walks fair to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from bgpd.runtime.turns import STEP_S, TURN_S, WINDOW_S, YOUNG_S, Walks, now_or_soon, soon, turns
from tests.clocks import StoppedClock, in_simulated_time


@pytest.fixture(autouse=True)
async def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    clock = StoppedClock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock.perf_counter)
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


@pytest.mark.parametrize("is_young", [True, False])
async def test_what_a_step_asks_for_waits_behind_the_others(is_young: bool, clock: StoppedClock) -> None:
    """And for the next turn, unless this one has just begun."""
    said: list[str] = []

    def again() -> None:
        said.append("first")
        soon(saying(said, "second"))
        clock.now += YOUNG_S * (0.5 if is_young else 1.5)

    soon(again)
    soon(saying(said, "other"))
    await asyncio.sleep(0)
    assert said == ["first", "other", "second"][: 3 if is_young else 2]
    await asyncio.sleep(0)
    assert said == ["first", "other", "second"]


async def test_step_that_asks_for_itself_again_and_again_holds_no_turn(clock: StoppedClock) -> None:
    said: list[float] = []

    def again() -> None:
        clock.now += YOUNG_S * 0.6
        said.append(clock.now)
        if len(said) < 10:
            soon(again)

    soon(again)
    for turn in range(1, 6):
        await asyncio.sleep(0)
        assert len(said) == 2 * turn


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


def test_steps_at_the_end_of_a_window_run_together() -> None:
    said: list[str] = []

    def again() -> None:
        said.append("a")
        turns().at_window_end(saying(said, "next window"))

    async def work() -> None:
        turns().at_window_end(again)
        await asyncio.sleep(WINDOW_S / 2)
        turns().at_window_end(saying(said, "b"))
        assert not said
        await asyncio.sleep(WINDOW_S * 0.6)
        assert said == ["a", "b"]
        await asyncio.sleep(WINDOW_S)
        assert said == ["a", "b", "next window"]

    in_simulated_time(work())


def test_failed_step_at_the_end_of_a_window_stops_no_other() -> None:
    said: list[str] = []
    errors: list[object] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
        turns().at_window_end(lambda: 1 / 0)
        turns().at_window_end(saying(said, "other"))
        await asyncio.sleep(WINDOW_S * 1.1)
        assert said == ["other"]

    in_simulated_time(work())
    assert isinstance(errors[0], ZeroDivisionError)


def walk(name: str, steps: int, said: list[str]) -> Iterator[None]:
    for number in range(steps):
        said.append(f"{name}{number}")
        yield
    said.append(f"{name} done")


def failing(said: list[str]) -> Iterator[None]:
    said.append("before")
    yield
    raise RuntimeError("boom")


async def until_done(walks: Walks) -> int:
    """Turns of the loop until all walks have ended."""
    for number in range(10_000):
        if not len(walks):
            return number
        await asyncio.sleep(0)
    raise AssertionError("the walks do not end")


async def test_first_step_is_taken_in_the_next_turn() -> None:
    said: list[str] = []
    walks = Walks(failed=lambda error: None)
    walks.run(walk("a", 1, said))
    assert said == []
    await asyncio.sleep(0)
    assert said[0] == "a0"


async def test_walks_take_turns() -> None:
    said: list[str] = []
    walks = Walks(failed=lambda error: None)
    walks.run(walk("long", 3, said))
    walks.run(walk("short", 1, said))
    await until_done(walks)
    assert said == ["long0", "short0", "long1", "short done", "long2", "long done"]


async def test_loop_goes_on_between_slices(clock: StoppedClock) -> None:
    def slow() -> Iterator[None]:
        for _ in range(10):
            clock.now += STEP_S * 0.6
            yield

    walks = Walks(failed=lambda error: None)
    walks.run(slow())
    assert await until_done(walks) == 6


async def test_failed_walk_is_told_and_the_others_go_on() -> None:
    said: list[str] = []
    errors: list[BaseException] = []
    walks = Walks(failed=errors.append)
    walks.run(failing(said))
    walks.run(walk("a", 2, said))
    await until_done(walks)
    assert said == ["before", "a0", "a1", "a done"]
    assert [str(error) for error in errors] == ["boom"]


async def test_walk_started_by_a_walk_runs_too() -> None:
    said: list[str] = []
    walks = Walks(failed=lambda error: None)

    def outer() -> Iterator[None]:
        walks.run(walk("inner", 1, said))
        yield

    walks.run(outer())
    await until_done(walks)
    assert said == ["inner0", "inner done"]


async def test_who_waits_for_a_walk_goes_on_when_it_has_ended_or_failed() -> None:
    """A start that waited for a failed one would wait for ever."""
    told: list[BaseException] = []
    walks = Walks(failed=told.append)
    steps: list[int] = []

    def walk(count: int, error: Exception | None = None) -> Iterator[None]:
        for number in range(count):
            steps.append(number)
            yield
        if error is not None:
            raise error

    await walks.run_to_end(walk(3))
    assert steps == [0, 1, 2]
    with pytest.raises(KeyError, match="bad"):
        await walks.run_to_end(walk(1, KeyError("bad")))
    assert not told
    assert not len(walks)


async def test_walk_that_nobody_waits_for_any_more_ends() -> None:
    told: list[BaseException] = []
    walks = Walks(failed=told.append)

    def walk() -> Iterator[None]:
        while True:
            yield

    waiting = asyncio.ensure_future(walks.run_to_end(walk()))
    await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert waiting.cancelled()
    assert not len(walks)
    assert not told
