"""Of the loop's time each neighbor has its share, whatever the messages of another one cost."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import pytest

from bgpd.message.exabgp_codec import RouteRefresh
from bgpd.runtime.turns import TURN_S
from bgpd.speaker.chatter import CHATTER_BURST_S, CHATTER_SHARE, Chatter
from bgpd.speaker.connection import KeepaliveReceived, RefreshReceived
from bgpd.speaker.driver import STEP_S, Driver
from bgpd.speaker.session import Output
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
        self.bare_updates = 0

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


class Malformed(Sending):
    """The same, whose UPDATEs are all malformed."""

    def take(self, bodies: list[bytes]) -> None:
        self.bare_updates += len(bodies)
        super().take(bodies)


class Talking(Sending):
    """A neighbor that sends KEEPALIVEs, or requests for all routes, that take so long each."""

    said: KeepaliveReceived | RefreshReceived = KeepaliveReceived()

    def updates(self, now: float, *, most: int, most_bytes: int) -> list[bytes]:
        return []

    def next_output(self, now: float) -> Output | None:
        if not self.left:
            return None
        self.left -= 1
        spend(self._cost_s)
        return self.said

    def must_wait(self, refresh: RouteRefresh) -> bool:
        return False

    def refresh_received(self, refresh: RouteRefresh, now: float) -> None:
        """Many of them are one answer."""


class Asking(Talking):
    said = RefreshReceived(RouteRefresh(1, 1))


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


@pytest.mark.parametrize(
    ("size", "cost_s"),
    [(19, 6e-6), (60, 17e-6), (1_100, 16e-6), (4_000, 1e-3), (65_000, 11e-3), (65_000, 34e-3)],
    ids=["many short", "malformed", "long paths", "usual", "very long", "longest"],
)
def test_a_neighbor_with_messages_without_end_takes_no_more_than_half_of_the_time(size: int, cost_s: float) -> None:
    """But for the message that is being worked off."""
    assert in_simulated_time(took_beside(size, cost_s)) <= 2 * ALONE_S + TURN_S + STEP_S + cost_s


def test_who_is_alone_waits_for_nobody_however_long_its_messages_take() -> None:
    async def alone() -> float:
        return await took(Sending.begin(20, 65_000, 34e-3))

    assert in_simulated_time(alone()) == pytest.approx(19 * 34e-3), "the first one has come before"


def test_two_with_long_messages_work_in_turn() -> None:
    async def both() -> list[float]:
        two = [Sending.begin(20, 65_000, cost_s) for cost_s in (34e-3, 11e-3)]
        return [await took(one) for one in reversed(two)]

    shorter, longer = in_simulated_time(both())
    assert shorter <= 2 * 20 * 11e-3 + 34e-3
    assert shorter + longer == pytest.approx(20 * 45e-3, abs=2 * 34e-3)


@pytest.mark.parametrize("kind", [Malformed, Talking, Asking])
def test_what_brings_no_routes_takes_a_twentieth_of_the_time(kind: type[Sending]) -> None:
    """A good neighbor beside it pays that, and a burst; and so does the host while nobody else has work."""

    async def beside() -> float:
        kind.begin(math.inf, 19, 17e-6)
        await asyncio.sleep(2.0)
        return await took(Sending.begin(GOOD_MESSAGES, 100, GOOD_COST_S))

    async def alone() -> float:
        talking = kind.begin(1e6, 19, 17e-6)
        await asyncio.sleep(10.0)
        return (1e6 - talking.left) * 17e-6

    assert in_simulated_time(beside()) <= (1 + CHATTER_SHARE) * ALONE_S + CHATTER_BURST_S + STEP_S
    assert 10 * CHATTER_SHARE - STEP_S <= in_simulated_time(alone()) <= 10 * CHATTER_SHARE + CHATTER_BURST_S + STEP_S


def test_routes_are_read_without_rest_though_keepalives_and_malformed_ones_are_among_them() -> None:
    class Mixed(Sending):
        def take(self, bodies: list[bytes]) -> None:
            self.bare_updates += len(bodies) // 3
            super().take(bodies)

    async def alone() -> float:
        return await took(Mixed.begin(GOOD_MESSAGES, 100, GOOD_COST_S))

    assert in_simulated_time(alone()) <= ALONE_S + STEP_S


def test_hold_timer_waits_for_what_is_not_read_while_a_neighbor_rests() -> None:
    async def work() -> None:
        asking, wire = Asking(math.inf, 23, 17e-6), Connected()
        driver = Driver(cast(Any, asking), cast(Any, None), tasks=cast(Any, None))
        driver.adopt(1, cast(Any, wire))
        driver.carry(cast(Any, asking), cast(Any, wire))
        asking.due = asyncio.get_running_loop().time() + 1.0
        driver.set_timer()
        wire.hear(b"")
        await asyncio.sleep(2.0)
        assert True in asking.put_off_by

    in_simulated_time(work())


def test_what_a_turn_did_for_routes_that_came_before_is_not_counted_as_chatter() -> None:
    """An End-of-RIB or a KEEPALIVE behind many routes is read in the turn that enters them."""
    chatter = Chatter()
    for _ in range(10):
        chatter.took(0.1, 1, 0.0)
    assert not chatter.rest_s(0.0)
    chatter.took(0.1, 100, 0.0)
    assert chatter.rest_s(0.0) > 1
