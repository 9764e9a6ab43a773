"""Turns of bulk work: in order, for so long at each turn of the loop, whatever a step does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bgpd.runtime.turns import TURN_S, soon, turns


def busy(said: list[str], name: str, seconds: float = 0.0) -> Callable[[], None]:
    def step() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        said.append(name)

    return step


async def test_steps_run_in_order_in_the_next_turn() -> None:
    said: list[str] = []
    soon(busy(said, "a"))
    soon(busy(said, "b"))
    assert not said
    assert turns()
    await asyncio.sleep(0)
    assert said == ["a", "b"]
    assert not turns()


async def test_turn_ends_when_its_time_is_used_up() -> None:
    said: list[str] = []
    for name in "abcd":
        soon(busy(said, name, TURN_S * 0.7))
    await asyncio.sleep(0)
    assert said == ["a", "b"]
    await asyncio.sleep(0)
    assert said == ["a", "b", "c", "d"]


async def test_what_a_step_asks_for_waits_behind_the_others() -> None:
    said: list[str] = []

    def again() -> None:
        said.append("first")
        soon(busy(said, "second"))

    soon(again)
    soon(busy(said, "other"))
    await asyncio.sleep(0)
    assert said == ["first", "other"]
    await asyncio.sleep(0)
    assert said == ["first", "other", "second"]


async def test_failed_step_is_told_to_the_loop_and_the_others_go_on() -> None:
    said: list[str] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    soon(lambda: 1 / 0)
    soon(busy(said, "other"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert said == ["other"]
    assert isinstance(errors[0], ZeroDivisionError)


def test_each_loop_has_its_own() -> None:
    said: list[str] = []

    async def leave_a_step() -> None:
        soon(busy(said, "left"))

    async def work() -> None:
        assert not turns()
        soon(busy(said, "done"))
        await asyncio.sleep(0)

    asyncio.run(leave_a_step())
    asyncio.run(work())
    assert said[-1] == "done"
