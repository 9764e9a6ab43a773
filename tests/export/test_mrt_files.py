"""MRT files of what neighbors say: rotated, bounded in all, and no danger to sessions when the disk is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bgpd.config.schema import Config, MrtConfig, RouterConfig
from bgpd.export import mrt_files
from bgpd.export.exports import Exports
from bgpd.export.mrt_files import MrtFiles
from bgpd.export.sessions import TappedSessions
from bgpd.message.mrt import MessageRecord, read_records
from bgpd.model.source import Source, SourceKind
from bgpd.speaker.tap import TappedSession
from tests.waiting import until

LEAF = Source(name="leaf1", kind=SourceKind.EBGP, asn=65201, address=b"\x0a\0\1\2")
SESSION = TappedSession(
    source=LEAF,
    vrf="",
    local_address=b"\x0a\0\1\1",
    ports=(179, 40000),
    sent_open=b"",
    received_open=b"",
    four_octet_as=True,
    is_behind=lambda: False,
    encode=lambda batch: [],
)


def files(directory: Path, sessions: TappedSessions, **settings: int) -> MrtFiles:
    return MrtFiles(MrtConfig(directory=str(directory), **settings), sessions=sessions, local_asn=lambda: 65203)


def written(directory: Path) -> list[MessageRecord]:
    found: list[MessageRecord] = []
    for path in sorted(directory.glob("updates-*.mrt")):
        with path.open("rb") as file:
            found += [one for one in read_records(file) if isinstance(one, MessageRecord)]
    return found


def names(directory: Path, pattern: str = "updates-*.mrt") -> list[str]:
    return [path.name for path in directory.glob(pattern)]


async def ended(one: MrtFiles, *, after: Sequence[bytes] = ()) -> None:
    """It runs, hears these UPDATEs, and is ended."""
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    one.updates(LEAF, after)
    task.cancel()
    await asyncio.wait([task])


async def test_what_was_said_until_the_end_is_written(tmp_path: Path) -> None:
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    await ended(files(tmp_path, sessions), after=[b"\0\0\0\0", b"\0\0\0\0"])
    up, first, second = written(tmp_path)
    assert up.states == (5, 6)
    assert (first.peer.asn, first.local.asn, first.message[19:]) == (65201, 65203, b"\0\0\0\0")
    assert second.message == first.message
    sessions.session_down(LEAF, None, sent=False)
    assert len(written(tmp_path)) == 3, "nobody listens any more"


async def test_oldest_files_go_when_all_are_too_much(tmp_path: Path) -> None:
    foreign = tmp_path / "other.mrt"
    foreign.write_bytes(b"x" * 3_000_000)
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    for number in range(4):
        (tmp_path / f"updates-2020010{number}-000000-000.mrt").write_bytes(b"x" * 400_000)
    await ended(files(tmp_path, sessions, max_bytes=1_048_576), after=[b"\0\0\0\0"])
    left = sorted(name[:16] for name in names(tmp_path))
    assert left[:2] == ["updates-20200102", "updates-20200103"]
    assert len(left) == 3
    assert "other.mrt" in names(tmp_path, "*")


async def test_files_of_a_clock_that_has_gone_back_are_the_oldest(tmp_path: Path) -> None:
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    for number in range(3):
        (tmp_path / f"updates-2190010{number}-000000-000.mrt").write_bytes(b"x" * 500_000)
    one = files(tmp_path, sessions, max_bytes=1_048_576)
    sessions.add(one)
    for _ in range(4):
        sessions.updates(LEAF, [bytes(4000)] * 8)
        await one._flush()
    for name in names(tmp_path, "updates-2190*"):
        (tmp_path / name).unlink()
    assert len(written(tmp_path)) == 32, "none of what is said now is lost"


async def test_what_is_left_at_the_end_is_written_by_a_thread_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    one = files(tmp_path, sessions)
    threads = []
    write = one._write

    def seen(records: Sequence[bytes]) -> str:
        threads.append(threading.current_thread())
        return write(records)

    monkeypatch.setattr(one, "_write", seen)
    await ended(one)
    assert len(written(tmp_path)) == 1
    assert threading.main_thread() not in threads, "a disk that hangs would hold the sessions"


async def test_directory_that_cannot_be_written_costs_records_which_are_counted(tmp_path: Path) -> None:
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    one = files(tmp_path / "none", sessions)
    one.session_up(SESSION)
    await one._flush()
    assert one.lost == 1
    assert "No such file" in one.problem
    (tmp_path / "none").mkdir()
    one.session_up(SESSION)
    await one._flush()
    assert (one.lost, one.problem, len(written(tmp_path / "none"))) == (1, "", 1)


async def test_defect_of_the_writer_is_no_defect_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mrt_files, "FLUSH_S", 0.0)
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    one = files(tmp_path, sessions)

    def broken(records: Sequence[bytes]) -> str:
        raise RuntimeError("a bug")

    write, one._write = one._write, broken  # type: ignore[method-assign]
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(20):
        while "a bug" not in one.problem:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        one._write = write  # type: ignore[method-assign]
        while one.problem:
            one.updates(LEAF, [b"\0\0\0\0"])
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert written(tmp_path)


def test_disk_that_hangs_costs_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mrt_files, "MAX_WAITING_BYTES", 1000)
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    one = files(tmp_path, sessions)
    sessions.add(one)
    sessions.updates(LEAF, [bytes(100)] * 100)
    assert one._waiting_bytes < 1300
    assert one.lost == 100 - len(one._waiting)


def test_listener_with_a_defect_hears_no_more_and_others_do(tmp_path: Path) -> None:
    class Broken(MrtFiles):
        def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
            raise RuntimeError("a bug")

    sessions = TappedSessions()
    broken = Broken(MrtConfig(directory="/x"), sessions=sessions, local_asn=lambda: 1)
    good = files(tmp_path, sessions)
    sessions.add(broken)
    sessions.add(good)
    sessions.session_up(SESSION)
    sessions.updates(LEAF, [b"\0\0\0\0"])
    sessions.updates(LEAF, [b"\0\0\0\0"])
    assert len(good._waiting) == 3


async def test_what_has_come_is_written_before_a_process_leaves(tmp_path: Path) -> None:
    """And a disk that hangs does not keep it."""
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    config = Config(router=RouterConfig(asn=65203, router_id="10.0.0.1"), mrt=MrtConfig(directory=str(tmp_path)))
    exports = Exports(sessions, rib=None, hostname="host1", config=lambda: config)  # type: ignore[arg-type]
    exports.reconfigure()
    await asyncio.sleep(0)
    sessions.updates(LEAF, [b"\0\0\0\0"])
    await exports.settle(10.0)
    assert len(written(tmp_path)) == 2
    (files,) = [one.of for one in exports._running.values()]
    assert isinstance(files, MrtFiles)
    sessions.updates(LEAF, [b"\0\0\0\0"])
    with files._one_at_a_time:
        await exports.settle(0.01)
    await exports.stop()
    await until(lambda: len(written(tmp_path)) == 3)  # by the thread that had been waiting
