"""Walks: long work in steps, fair to each other and to the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bgpd.runtime.turns import STEP_S, Walks
from tests.clocks import StoppedClock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    clock = StoppedClock()
    monkeypatch.setattr("bgpd.runtime.turns.time", clock)
    return clock


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
    for turns in range(10_000):
        if not len(walks):
            return turns
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
