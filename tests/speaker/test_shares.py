"""Of the loop's time each neighbor has its share, whatever the messages of another one cost."""

from __future__ import annotations

import asyncio
import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bgpd.runtime.turns import TURN_S
from bgpd.speaker import driver as driver_module
from bgpd.speaker.driver import STEP_S, Driver
from tests.clocks import in_simulated_time, spend
from tests.speaker.test_driver import Connected, QuietSession

GOOD_MESSAGES, GOOD_COST_S = 400, 100e-6
ALONE_S = GOOD_MESSAGES * GOOD_COST_S


class Sending(QuietSession):
    """A neighbor with so many UPDATEs, each of a size in bytes, that take so long."""

    def __init__(self, messages: float, size: int, cost_s: float) -> None:
        super().__init__()
        self.left = messages
        self._size = size
        self._cost_s = cost_s
        self.is_behind = False

    def updates(self, now: float, *, most: int, most_bytes: int) -> list[bytes]:
        count = int(min(self.left, most, max(1, most_bytes // self._size)))
        self.left -= count
        return [bytes(self._size)] * count

    def take(self, bodies: list[bytes]) -> None:
        """As the exchange of the session: all that it is given."""
        spend(self._cost_s * len(bodies))
        bodies.clear()

    def updates_done(self) -> None:
        """Nothing was gathered."""

    @classmethod
    def begin(cls, messages: float, size: int, cost_s: float) -> Sending:
        """Its session is established, and its messages have come."""
        session, wire = cls(messages, size, cost_s), Connected()
        driver = Driver(cast(Any, session), cast(Any, None), tasks=cast(Any, None))
        driver.adopt(1, cast(Any, wire))
        driver.carry(cast(Any, session), cast(Any, wire))
        wire.hear(b"")
        return session


async def took(good: Sending) -> float:
    """How long it takes until all messages of a neighbor are worked off."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while good.left:  # noqa: ASYNC110 (turns of the loop are what is counted)
        await asyncio.sleep(0)
    return loop.time() - began


async def took_beside(size: int, cost_s: float) -> float:
    """The same of a good neighbor, beside another one's messages."""
    Sending.begin(math.inf, size, cost_s)
    await asyncio.sleep(0)
    return await took(Sending.begin(GOOD_MESSAGES, 100, GOOD_COST_S))


@pytest.fixture
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked takes processor time, too."""
    now = SimpleNamespace(time=time.time, thread_time=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(driver_module, "time", now)


@pytest.mark.parametrize(
    ("size", "cost_s"),
    [(19, 6e-6), (60, 17e-6), (1_100, 16e-6), (4_000, 1e-3), (65_000, 11e-3), (65_000, 34e-3)],
    ids=["many short", "malformed", "long paths", "usual", "very long", "longest"],
)
@pytest.mark.usefixtures("_simulated")
def test_a_neighbor_with_messages_without_end_takes_no_more_than_half_of_the_time(size: int, cost_s: float) -> None:
    """But for the message that is being worked off."""
    assert in_simulated_time(took_beside(size, cost_s)) <= 2 * ALONE_S + TURN_S + STEP_S + cost_s


@pytest.mark.usefixtures("_simulated")
def test_who_is_alone_waits_for_nobody_however_long_its_messages_take() -> None:
    async def alone() -> float:
        return await took(Sending.begin(20, 65_000, 34e-3))

    assert in_simulated_time(alone()) == pytest.approx(19 * 34e-3), "the first one has come before"


@pytest.mark.usefixtures("_simulated")
def test_two_with_long_messages_work_in_turn() -> None:
    async def both() -> list[float]:
        two = [Sending.begin(20, 65_000, cost_s) for cost_s in (34e-3, 11e-3)]
        return [await took(one) for one in reversed(two)]

    shorter, longer = in_simulated_time(both())
    assert shorter <= 2 * 20 * 11e-3 + 34e-3
    assert shorter + longer == pytest.approx(20 * 45e-3, abs=2 * 34e-3)
