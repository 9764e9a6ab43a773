"""The journal's file: what is found in it, what goes first, and what a file that cannot be used costs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bgpd.journal.store import (
    KEPT_OF_NEIGHBOR,
    VERSION,
    JournalFile,
    JournalUnusable,
    Sought,
    _connect,
    _found,
    at_least,
    read,
    read_copy,
)
from bgpd.model.views.host import EventView

ROOM = 1 << 20


def event(number: int, name: str = "fib.repairing", *, level: str = "info", **fields: str | int) -> EventView:
    return EventView(sequence=number, at=1000.0 + number, level=level, event=name, fields=dict(fields))


def numbers(events: list[EventView]) -> list[int]:
    return [one.sequence for one in events]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


def written(path: Path, *events: EventView, max_bytes: int = ROOM) -> JournalFile:
    file = JournalFile(path, max_bytes=max_bytes)
    file.open()
    if events:
        file.append(events)
    return file


def test_events_are_there_for_the_next_process(path: Path) -> None:
    one = event(1, "session.closed", level="warning", neighbor="leaf1", reason="hold timer expired", count=3)
    written(path, one).close()
    assert read(path, Sought()) == [one]
    assert written(path).open() == 1


def test_events_are_there_though_the_process_was_killed(path: Path) -> None:
    child = os.fork()
    if not child:
        written(path, event(1), event(2))
        os._exit(9)
    os.waitpid(child, 0)
    assert numbers(read_copy(path, Sought())) == [1, 2]
    assert sorted(one.name for one in path.parent.iterdir() if "copy" in one.name) == []
    assert written(path).open() == 2


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        (Sought(), [1, 2, 3, 4, 5]),
        (Sought(limit=2), [4, 5]),
        (Sought(since=1002.0, until=1003.0), [2, 3]),
        (Sought(neighbor="leaf1"), [1, 3]),
        (Sought(levels=at_least("warning")), [3]),
        (Sought(event="session"), [1, 3]),
        (Sought(event="session.closed"), [3]),
        (Sought(event="sess"), []),
        (Sought(prefix="10.64.1.5/32"), [4]),
        (Sought(prefix="10.64.1.5"), [4]),
        (Sought(prefix="10.64.1.0/24"), []),
        (Sought(prefix="10.64.1.0/24", longer_prefixes=True), [4]),
        (Sought(prefix="2001:db8::/32", longer_prefixes=True), []),
        (Sought(vrf="red"), [5]),
        (Sought(vrf="red", limit=1), [5]),
        (Sought(vrf="blue"), []),
        (Sought(vrf=""), [1, 2, 3, 4]),
        (Sought(vrf="", limit=1), [4]),
        (Sought(vrf="red", prefix="10.64.1.5/32"), []),
        (Sought(vrf="red", neighbor="leaf1"), [1, 3]),
    ],
)
def test_what_is_looked_for_is_found_on_disk_as_in_memory(path: Path, sought: Sought, found: list[int]) -> None:
    events = [
        event(1, "session.established", neighbor="leaf1"),
        event(2, "bgpd.readiness"),
        event(3, "session.closed", level="warning", neighbor="leaf1"),
        event(4, "workload.announced", prefix="10.64.1.5/32", vrf=""),
        event(5, "workload.announced", prefix="10.64.2.5/32", vrf="red"),
    ]
    written(path, *events)
    assert numbers(read(path, sought)) == found
    assert numbers([one for one in events if sought.matches(one)][-sought.limit :]) == found


def test_a_full_journal_loses_the_oldest_but_not_the_last_of_each_neighbor(path: Path) -> None:
    file = written(path)
    states = [event(n, "session.closed", neighbor="leaf2", reason="x" * 50) for n in range(1, 101)]
    file.append(states)
    for start in range(101, 20_000, 500):
        file.append([event(n, reason="y" * 200) for n in range(start, start + 500)])
    assert file.bytes_used() <= ROOM
    kept = numbers(read(path, Sought(limit=100_000)))
    assert kept[:KEPT_OF_NEIGHBOR] == list(range(101 - KEPT_OF_NEIGHBOR, 101))
    assert kept[-1] == 20_100
    assert kept[KEPT_OF_NEIGHBOR] > 10_000
    assert path.stat().st_size <= 2 * ROOM


def test_neighbors_without_end_do_not_fill_the_journal(path: Path) -> None:
    file = written(path)
    for start in range(0, 40_000, 1000):
        file.append([event(n + 1, "session.closed", neighbor=f"n{n}") for n in range(start, start + 1000)])
    assert file.bytes_used() <= ROOM
    assert numbers(read(path, Sought(limit=1))) == [40_000]


def test_a_file_of_another_version_is_put_aside(path: Path) -> None:
    written(path, event(1)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    file = JournalFile(path, max_bytes=ROOM)
    assert file.open() == 0
    assert f"of version {VERSION + 1}" in file.put_aside
    assert path.with_name("journal.sqlite.old").exists()
    file.append([event(1)])
    assert numbers(read(path, Sought())) == [1]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    file = written(path, event(7))
    assert "damaged" in file.put_aside
    assert path.with_name("journal.sqlite.old").read_bytes() == content
    assert numbers(read(path, Sought())) == [7]


def test_times_that_cannot_be_make_the_file_unusable(path: Path) -> None:
    """Commands could not show them."""
    written(path, event(7)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET at = 1e300")
    with pytest.raises(JournalUnusable, match="Expected `float`"):
        read(path, Sought())


def test_an_empty_file_is_a_new_journal(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    file = written(path, event(1))
    assert file.put_aside == ""
    assert numbers(read(path, Sought())) == [1]


def test_a_file_that_is_damaged_while_it_is_written_begins_anew(path: Path) -> None:
    file = written(path, *[event(n, reason="z" * 300) for n in range(1, 400)])
    file.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    file.append([event(400)])
    assert "damaged" in file.put_aside
    assert numbers(read(path, Sought())) == [400]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    file = JournalFile(tmp_path / "state" / "journal.sqlite", max_bytes=ROOM)
    with pytest.raises(JournalUnusable, match=r"state/journal\.sqlite: "):
        file.open()
    with pytest.raises(JournalUnusable):
        file.append([event(1)])
    (tmp_path / "state").unlink()
    file.append([event(1)])
    assert numbers(read(file.path, Sought())) == [1]


def test_what_was_written_before_is_not_overwritten_by_a_process_that_could_not_read_it(path: Path) -> None:
    written(path, event(1), event(2)).close()
    late = JournalFile(path, max_bytes=ROOM)
    late.append([event(1, "late"), event(2, "later")])
    assert [one.event for one in read(path, Sought())] == ["fib.repairing", "fib.repairing", "late", "later"]
    assert numbers(read(path, Sought())) == [1, 2, 3, 4]


def test_two_processes_write_side_by_side(path: Path) -> None:
    first, second = written(path, event(1)), written(path)
    second.append([event(2, "second")])
    first.append([event(2, "first")])
    first.append([event(3, "first")])
    assert [one.event for one in read(path, Sought())] == ["fib.repairing", "second", "first", "first"]
    assert numbers(read(path, Sought())) == [1, 2, 3, 4]


def test_events_are_written_once_though_the_oldest_cannot_be_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    file = written(path, max_bytes=1)
    monkeypatch.setattr(file, "_prune", full)
    file.append([event(1)])
    file.append([event(2)])
    assert numbers(read(path, Sought())) == [1, 2]


@pytest.mark.parametrize("narrowed", [{}, {"until": 1e9}, {"levels": at_least("info")}, {"prefix": "10.64.1.5/32"}])
def test_the_newest_are_found_without_reading_all(path: Path, narrowed: dict[str, Any]) -> None:
    written(path, *[event(n, prefix="10.64.1.5/32", reason="x" * 50) for n in range(1, 10_001)], max_bytes=1 << 30)
    connection = _connect(path, mode="ro")
    steps: list[int] = []
    connection.set_progress_handler(lambda: steps.append(1), 100)
    found = list(islice(_found(connection, Sought(limit=10, **narrowed)), 10))
    connection.close()
    assert numbers(found) == list(range(10_000, 9_990, -1))
    assert len(steps) < 20
