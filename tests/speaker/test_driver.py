"""How much of a session's input is worked off at once, and when it is read on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from bgpd.message.exabgp_codec import RouteRefresh
from bgpd.runtime.turns import WINDOW_S
from bgpd.speaker.connection import RefreshReceived, State, UpdateReceived
from bgpd.speaker.driver import GATHERED_BYTES, LEAST_RUN, RUN_MESSAGES, STEP_S, Driver, RunLength
from bgpd.speaker.session import Output
from bgpd.speaker.transport import READ_SIZE
from tests.clocks import in_simulated_time


def test_costly_runs_become_shorter_and_cheap_ones_longer_within_limits() -> None:
    run = RunLength()
    lengths = []
    for seconds in [STEP_S / 10] * 5 + [STEP_S / 2] + [2 * STEP_S] * 6 + [STEP_S / 10]:
        run.took(seconds)
        lengths.append(run.messages)
    assert lengths == [32, 64, 128, 128, 128, 128, 64, 32, 16, 16, 16, 16, 32]
    assert (LEAST_RUN, RUN_MESSAGES) == (16, 128)


class QuietSession:
    """A session that wants nothing; `taken`: what it was given, in order."""

    state = State.ESTABLISHED
    has_outputs = False

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.due: float | None = None
        self.put_off_by: list[bool] = []

    def received(self, number: int, data: bytes) -> None:
        self.taken.append(data)

    def updates(self, now: float, *, most: int, most_bytes: int) -> list[bytes]:
        return []

    def next_output(self, now: float) -> Output | None:
        return None

    def deadline(self) -> float | None:
        return self.due

    def put_off(self, now: float, *, is_unread: bool) -> None:
        self.put_off_by.append(is_unread)

    def tick(self, now: float) -> None:
        self.due = None

    def closed(self, number: int, now: float, reason: str) -> None:
        self.taken.append(reason.encode())


class Connected:
    """A connection whose peer says what the test wants; `is_read` tells whether it would be heard."""

    def __init__(self) -> None:
        self.is_read = True
        self.is_full = False
        self.has_unread = False
        self.hear: Callable[[bytes], None]
        self.lost: Callable[[str], None]

    def attach(self, received: Callable[[bytes], None], lost: Callable[[str], None], drained: object) -> None:
        self.hear, self.lost = received, lost

    def pause(self) -> None:
        self.is_read = False

    def resume(self) -> None:
        self.is_read = True

    async def says(self, size: int = 100) -> bool:
        """So many bytes come; whether more is read as soon as they are worked off."""
        assert self.is_read
        self.hear(bytes(size))
        for _ in range(3):
            await asyncio.sleep(0)
        return self.is_read


def connected() -> tuple[Driver, Connected, QuietSession]:
    """An established session."""
    session, wire = QuietSession(), Connected()
    driver = Driver(cast(Any, session), cast(Any, None), tasks=cast(Any, None))
    driver.adopt(1, cast(Any, wire))
    driver.carry(cast(Any, None), cast(Any, wire))
    return driver, wire, session


class Refreshed:
    """An exchange whose tables are not complete until the test says so; `taken`: what it took, in order."""

    is_behind = False
    bare_updates = 0

    def __init__(self) -> None:
        self.is_complete = False
        self.taken: list[object] = []

    def must_wait(self, refresh: RouteRefresh) -> bool:
        return refresh.subtype != 0 and not self.is_complete

    def refresh_received(self, refresh: RouteRefresh, now: float) -> None:
        self.taken.append(refresh.subtype)

    def take(self, bodies: list[bytes]) -> None:
        self.taken += bodies
        bodies.clear()

    def updates_done(self) -> None:
        pass

    def deadline(self) -> float | None:
        return None


def test_refresh_that_begins_before_the_tables_are_complete_waits_and_so_does_what_follows() -> None:
    async def work() -> None:
        driver, wire, session = connected()
        exchange = Refreshed()
        driver.carry(cast(Any, exchange), cast(Any, wire))
        waiting: list[Output] = [
            RefreshReceived(RouteRefresh(1, 1)),
            UpdateReceived(b"before"),
            RefreshReceived(RouteRefresh(1, 1, 1)),
            UpdateReceived(b"after"),
        ]
        session.next_output = lambda now: waiting.pop(0) if waiting else None  # type: ignore[method-assign]
        await wire.says()
        assert exchange.taken == [0, b"before"]
        assert driver.is_held
        assert not wire.is_read
        exchange.is_complete = True
        driver.hold(False)
        assert exchange.taken == [0, b"before", 1, b"after"]
        assert wire.is_read

    in_simulated_time(work())


@pytest.mark.parametrize("is_paused", [True, False])
def test_hold_timer_waits_for_what_is_left_unread_while_the_kernel_is_behind(is_paused: bool) -> None:
    async def work() -> None:
        driver, _, session = connected()
        driver.pause_reading(is_paused)
        session.due = asyncio.get_running_loop().time() + 5
        driver.set_timer()
        await asyncio.sleep(6)
        assert session.due is None
        assert session.put_off_by == [True] * is_paused

    in_simulated_time(work())


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("has_unread", [True, False])
def test_hold_timer_waits_on_only_for_what_is_unread_when_the_neighbor_is_read_again(
    is_held: bool, has_unread: bool
) -> None:
    """A neighbor that died while it was not read, or before, is as silent as if it had been read."""

    async def work() -> None:
        driver, wire, session = connected()
        change = driver.hold if is_held else driver.pause_reading
        change(True)
        wire.has_unread = has_unread
        change(False)
        assert session.put_off_by == [has_unread]
        assert wire.is_read

    in_simulated_time(work())


async def passes(windows: float) -> None:
    await asyncio.sleep(windows * WINDOW_S)


def test_what_comes_alone_is_read_at_once_and_so_is_what_follows() -> None:
    async def work() -> None:
        _, wire, session = connected()
        for _ in range(5):
            assert await wire.says()
            await passes(1.1)
        assert len(session.taken) == 5

    in_simulated_time(work())


def test_steady_stream_is_read_once_in_a_window() -> None:
    async def work() -> None:
        _, wire, _ = connected()
        assert await wire.says()
        await passes(0.2)
        assert not await wire.says()
        for _ in range(3):
            await passes(0.9)
            assert not wire.is_read
            await passes(0.2)
            assert wire.is_read
            assert not await wire.says()
        await passes(3)
        assert await wire.says()

    in_simulated_time(work())


def test_much_is_not_waited_for() -> None:
    """A table that is loaded: each read brings a batch that is large enough."""

    async def work() -> None:
        _, wire, _ = connected()
        for _ in range(5):
            assert await wire.says(READ_SIZE)
            assert await wire.says(GATHERED_BYTES)
            await passes(0.1)

    in_simulated_time(work())


def test_streams_of_several_neighbors_are_read_on_together() -> None:
    """So that their routes go to the kernel in one batch, and one timer does."""

    async def work() -> None:
        wires = [connected()[1] for _ in range(3)]
        for wire in wires:
            assert await wire.says()
            assert not await wire.says()
            await passes(0.3)
        assert [wire.is_read for wire in wires] == [False] * 3
        await passes(0.2)
        assert [wire.is_read for wire in wires] == [True] * 3

    in_simulated_time(work())


def test_end_of_the_window_reads_on_nothing_that_is_held_or_paused_for_another_reason() -> None:
    async def work() -> None:
        driver, wire, _ = connected()
        await wire.says()
        await wire.says()
        driver.hold(True)
        await passes(2)
        assert not wire.is_read
        driver.hold(False)
        assert wire.is_read
        await wire.says()
        await wire.says()
        driver.pause_reading(True)
        await passes(2)
        assert not wire.is_read
        driver.pause_reading(False)
        assert wire.is_read

    in_simulated_time(work())


def test_session_that_is_resumed_by_others_waits_for_the_end_of_its_window() -> None:
    async def work() -> None:
        driver, wire, _ = connected()
        await wire.says()
        await wire.says()
        driver.pump()
        driver.pause_reading(False)
        assert not wire.is_read
        await passes(1.1)
        assert wire.is_read

    in_simulated_time(work())


def test_connection_that_is_lost_in_a_window_ends_its_session_at_once() -> None:
    async def work() -> None:
        _, wire, session = connected()
        await wire.says()
        await wire.says()
        wire.lost("reset")
        assert session.taken[-1] == b"reset"
        wire.pause()
        await passes(2)
        assert not wire.is_read

    in_simulated_time(work())
