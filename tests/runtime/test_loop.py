"""The selector that times how long the loop is held."""

from __future__ import annotations

import asyncio
import time

from bgpd.runtime.loop import new_event_loop


def test_a_blocking_step_is_seen_as_a_hold() -> None:
    loop, selector = new_event_loop()

    def hold() -> None:
        time.sleep(0.03)

    async def work() -> None:
        await asyncio.sleep(0.01)
        hold()
        await asyncio.sleep(0)

    try:
        loop.run_until_complete(asyncio.sleep(0))
        selector.reset_longest()
        loop.run_until_complete(work())
    finally:
        loop.close()
    assert selector.reset_longest() >= 0.03
    assert selector.reset_longest() == 0.0


def test_waiting_is_no_hold() -> None:
    loop, selector = new_event_loop()
    try:
        loop.run_until_complete(asyncio.sleep(0))
        selector.reset_longest()
        loop.run_until_complete(asyncio.sleep(0.2))
    finally:
        loop.close()
    assert selector.longest_s < 0.15
    assert sum(selector.holds) > 0
