"""A task in the background that fails is reported, and one that ends or is cancelled is not."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from bgpd.runtime.background import start_in_background


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    return []


async def test_failure_is_reported_at_once_though_the_task_is_kept(reports: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))

    async def fail() -> None:
        raise RuntimeError("no such case")

    kept = start_in_background(fail(), "reading the tables")
    await asyncio.wait((kept,))
    await asyncio.sleep(0)
    assert [(report["message"], str(report["exception"])) for report in reports] == [
        ("reading the tables failed", "no such case")
    ]
    del kept
    gc.collect()
    assert len(reports) == 1


async def test_end_and_cancellation_are_no_failure(reports: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    ended = start_in_background(asyncio.sleep(0), "nothing")
    cancelled = start_in_background(asyncio.sleep(60), "waiting")
    await ended
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    await asyncio.sleep(0)
    assert reports == []
