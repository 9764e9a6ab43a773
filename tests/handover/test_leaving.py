"""A process that cannot leave what it has goes on, and says why."""

from __future__ import annotations

import asyncio
import errno
import signal
from types import SimpleNamespace
from typing import cast

import pytest

from bgpd import leaving
from bgpd.configuration import Configuration
from bgpd.drain import Drain
from bgpd.export.exports import Exports
from bgpd.handover.store import DescriptorStore, HandOverFailed, StoreUnusable
from bgpd.history.recorder import History
from bgpd.journal.journal import Journal
from bgpd.leaving import Leaving
from bgpd.rib.prepared import PreparedRib
from bgpd.routing import Routing
from bgpd.runtime.disk import Disk

STORE = cast(DescriptorStore, None)
_CONFIG = SimpleNamespace(state=SimpleNamespace(directory="/nonexistent"))


class Left(Leaving):
    """The process of a test. `holds`: what neighbors were told; `ended`: what is of no use any more."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.holds: list[bool] = []
        self.ended: list[str] = []
        self.left = 0
        self.hangs = False
        self.error = error
        self.changing = asyncio.Lock()
        self.stop = asyncio.Event()
        started = asyncio.Event()
        started.set()
        routing = SimpleNamespace(
            ending=False,
            speaker=SimpleNamespace(hold=self.holds.append),
            settle=self.settle,
            prepare_to_leave=self.prepare_to_leave,
        )
        super().__init__(
            cast(Routing, routing),
            configuration=cast(Configuration, SimpleNamespace(changing=self.changing, config=_CONFIG)),
            exports=cast(Exports, SimpleNamespace(settle=self.settle)),
            drain=cast(Drain, None),
            journal=cast(Journal, SimpleNamespace(flush=self.flushed)),
            history=cast(History, SimpleNamespace(flush=self.flushed)),
            started=started,
            stop=self.stop,
        )

    async def settle(self, patience_s: float) -> None: ...

    async def flushed(self) -> bool:
        return not self.hangs

    async def prepare_to_leave(self) -> PreparedRib:
        return cast(PreparedRib, SimpleNamespace(end=lambda: self.ended.append("prepared")))

    def _leave_behind(self, *given: object) -> None:
        self.left += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        StoreUnusable("nobody keeps them"),
        OSError(28, "no room"),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"),
        MemoryError(),
    ],
)
async def test_what_cannot_be_left_is_no_end_of_the_process(error: Exception) -> None:
    left = Left(error=error)
    with pytest.raises(HandOverFailed):
        await left.hand_over(STORE, lambda signals: None)
    assert left.holds == [True, False]
    assert left.ended == ["prepared"]


async def test_nothing_is_left_while_another_waits_for_the_disk() -> None:
    left = Left()
    left.hangs = True
    with pytest.raises(HandOverFailed, match="does not answer"):
        await left.hand_over(STORE, lambda signals: None)
    assert left.holds == []


async def test_nothing_is_left_while_the_disk_hangs_though_nothing_waits_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a journal, say. The last words of this process would be what waits."""
    monkeypatch.setattr(leaving, "DISK_S", 0.01)
    left = Left()
    left._disk = cast(Disk, SimpleNamespace(answers=_never))
    with pytest.raises(HandOverFailed, match="disk of the state directory does not answer"):
        await left.hand_over(STORE, lambda signals: None)
    assert left.holds == []


async def test_a_look_at_the_disk_that_fails_is_no_end_of_the_process() -> None:
    """As where no descriptor is left."""

    async def fails(_directory: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    left = Left()
    left._disk = cast(Disk, SimpleNamespace(answers=fails))
    with pytest.raises(HandOverFailed, match="Too many open files"):
        await left.hand_over(STORE, lambda signals: None)
    assert left.holds == []


async def test_nothing_is_left_while_a_thread_waits_for_another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of MRT files, say: what came last is written while the sessions are held."""
    monkeypatch.setattr(leaving, "DISK_S", 0.01)
    monkeypatch.setattr(leaving, "threads_are_free", _never)
    left = Left()
    left._disk = cast(Disk, SimpleNamespace(answers=_at_once))
    with pytest.raises(HandOverFailed, match="a disk that bgpd writes to does not answer"):
        await left.hand_over(STORE, lambda signals: None)
    assert left.holds == [True, False]
    assert not left.left


async def _at_once(*_: object) -> None:
    """Without a turn of the loop: what waits for it is not cut short, however slow the machine is."""


async def _never(*_given: object) -> None:
    await asyncio.Event().wait()


async def test_a_second_order_does_not_prepare_where_the_first_has_ended_the_process() -> None:
    left = Left()
    async with left.changing:
        second = asyncio.ensure_future(left.hand_over(STORE, lambda signals: None))
        await asyncio.sleep(0)
        left.stop.set()
    with pytest.raises(HandOverFailed, match="stopping"):
        await second
    assert left.ended == []


async def test_a_change_of_the_configuration_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its files are on a disk that hangs, say: the process would be killed, and say nothing to anybody."""
    monkeypatch.setattr(leaving, "CHANGE_S", 0.01)
    left = Left()
    async with left.changing:
        with pytest.raises(HandOverFailed, match="a change of the configuration does not end"):
            await left.hand_over(STORE, lambda signals: None)
        assert left.holds == []
    left._disk = cast(Disk, SimpleNamespace(answers=_at_once))
    await left.hand_over(STORE, lambda signals: None)
    assert left.left == 1


async def test_signal_that_came_before_the_loop_stands_still_is_heard() -> None:
    """Its handler has run, and nothing else: the process that it becomes would not know of it."""
    left = Left()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, left.stop.set)
    try:
        left.settle = _terminated  # type: ignore[method-assign]
        left._exports = cast(Exports, SimpleNamespace(settle=_terminated))
        with pytest.raises(HandOverFailed, match="stopping"):
            await left.hand_over(STORE, lambda signals: None)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    assert not left.left


async def _terminated(patience_s: float) -> None:
    signal.raise_signal(signal.SIGTERM)
