"""Walks: long work in steps, fair to each other and to the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bgpd.runtime.turns import STEP_S, Walks


def walk(name: str, steps: int, said: list[str], *, seconds: float = 0.0) -> Iterator[None]:
    for number in range(steps):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
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


async def test_loop_goes_on_between_slices() -> None:
    said: list[str] = []
    walks = Walks(failed=lambda error: None)
    walks.run(walk("a", 10, said, seconds=STEP_S))
    assert await until_done(walks) >= 5


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
