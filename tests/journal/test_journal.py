"""Events on their way to the disk: numbers that go on, a disk that fails, and more events than can be kept."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.config.schema import LogConfig
from bgpd.journal import journal as module
from bgpd.journal.journal import Journal
from bgpd.journal.store import Sought
from bgpd.log import KEPT_EVENTS, EventRing, set_up_logging
from bgpd.model.views.host import EventView
from bgpd.runtime.events import log
from tests.logs import log_plainly
from tests.waiting import wait_until

ROOM = 1 << 20


@pytest.fixture
def ring() -> Iterator[EventRing]:
    events = EventRing()
    set_up_logging(LogConfig(), events, io.StringIO())
    yield events
    log_plainly()


def journal(path: Path | None, ring: EventRing) -> Journal:
    made = Journal(path, max_bytes=ROOM, events=ring)
    made.open()
    return made


def say(*names: str) -> None:
    for name in names:
        log.info(name)


async def names(made: Journal, limit: int = 1_000) -> list[str]:
    return [event.event for event in await made.read(Sought(limit=limit))]


async def test_numbers_go_on_over_a_restart(tmp_path: Path, ring: EventRing) -> None:
    first = journal(tmp_path / "j", ring)
    say("one", "two")
    first.close()
    later = EventRing()
    set_up_logging(LogConfig(), later, io.StringIO())
    second = journal(tmp_path / "j", later)
    say("three")
    found = await second.read(Sought())
    assert [(event.sequence, event.event) for event in found] == [(1, "one"), (2, "two"), (3, "three")]


async def test_without_a_file_the_latest_are_in_memory(ring: EventRing) -> None:
    made = journal(None, ring)
    say("one", "two")
    await asyncio.wait_for(made.run(), 5)
    made.close()
    assert await names(made, 1) == ["two"]
    assert made.warnings() == []


async def test_events_are_written_while_it_runs(
    tmp_path: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_S", 0.01)
    made = journal(tmp_path / "j", ring)
    running = asyncio.get_running_loop().create_task(made.run())
    say("one")
    await asyncio.to_thread(wait_until, lambda: made.written == 1, 10, "the first")
    await asyncio.to_thread(say, "two")
    await asyncio.to_thread(wait_until, lambda: made.written == 2, 10, "one of another thread")
    assert made.bytes > 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_disk_that_fails_costs_the_journal_only_and_is_told_once(
    tmp_path: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("no directory")
    made = journal(tmp_path / "state" / "j", ring)
    say("one")
    made.write()
    made.write()
    assert "state/j: " in made.warnings()[0]
    assert await names(made) == ["journal.not_written", "one"]
    (tmp_path / "state").unlink()
    made.write()
    assert made.warnings() == []
    assert await names(made) == ["journal.not_written", "one", "journal.recovered"]
    assert made.lost == 0


async def test_what_the_memory_cannot_hold_is_counted(tmp_path: Path, ring: EventRing) -> None:
    made = journal(tmp_path / "j", ring)
    say("first")
    made.write()
    say(*[f"e{n}" for n in range(KEPT_EVENTS + 5)])
    made.write()
    assert (made.lost, made.written) == (5, 1 + KEPT_EVENTS)


async def test_a_disk_that_hangs_does_not_hold_what_leaves(
    tmp_path: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    made = journal(tmp_path / "j", ring)
    hangs, begun = threading.Event(), threading.Event()
    assert made._file is not None
    append = made._file.append

    def hang(events: object) -> None:
        begun.set()
        hangs.wait(20)
        append(events)  # type: ignore[arg-type]

    monkeypatch.setattr(made._file, "append", hang)
    say("one")
    writing = asyncio.get_running_loop().run_in_executor(None, made.write)
    await asyncio.to_thread(begun.wait, 20)
    made.close()
    hangs.set()
    await writing
    assert made.written >= 1  # what `close` has warned of, too, if the disk answers just then


async def test_a_text_that_is_no_unicode_is_kept_as_far_as_it_is(tmp_path: Path, ring: EventRing) -> None:
    made = journal(tmp_path / "j", ring)
    log.info("reload.problem", problem="conf.d/caf\udce9.toml: cannot be read", other="caf\xe9")
    (event,) = await made.read(Sought())
    assert event.fields == {"problem": "conf.d/caf\\udce9.toml: cannot be read", "other": "caf\xe9"}
    assert (made.written, made.warnings()) == (1, [])


async def test_a_disk_that_hangs_leaves_the_threads_of_the_event_loop_alone(
    tmp_path: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = journal(tmp_path / "j", ring)
    hangs = threading.Event()

    def hang(path: Path, sought: Sought) -> list[EventView]:
        hangs.wait(30)
        return []

    monkeypatch.setattr(module, "read", hang)
    readers = [asyncio.get_running_loop().create_task(made.read(Sought())) for _ in range(40)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 10) == 1
    finally:
        hangs.set()
        await asyncio.gather(*readers)


async def test_more_at_once_than_the_memory_holds_is_written(tmp_path: Path, ring: EventRing) -> None:
    made = journal(tmp_path / "j", ring)
    running = asyncio.get_running_loop().create_task(made.run())
    await asyncio.sleep(0)
    say(*[f"e{n}" for n in range(3 * KEPT_EVENTS)])
    await asyncio.to_thread(wait_until, lambda: made.written + made.lost >= 3 * KEPT_EVENTS, 20, "all")
    assert (made.written, made.lost) == (3 * KEPT_EVENTS, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_disk_that_hangs_just_then_does_not_hold_what_leaves(
    tmp_path: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    made = journal(tmp_path / "j", ring)
    hangs = threading.Event()
    assert made._file is not None
    monkeypatch.setattr(made._file, "append", lambda events: hangs.wait(20))
    say("one")
    made.close()
    assert made.written == 0
    hangs.set()
