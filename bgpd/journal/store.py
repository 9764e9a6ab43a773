"""The journal's file: one row for each event, found by time, neighbor and kind; bounded.

SQLite in WAL mode: a reader never waits for the writer, and what was written is there after a crash of the process.
Blocks for the disk: `journal` calls it in threads. Decides nothing about events but which are the oldest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from bgpd.model.clocks import WallClock
from bgpd.model.prefix import covers, parse_prefix
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.views.host import EventView

VERSION = 1
"""Of the tables below (`PRAGMA user_version`). A file of another version is put aside."""
KEPT_OF_NEIGHBOR = 50
"""The last events about the state of a neighbor's session stay, however old they are: of each neighbor so many."""
MOST_NEIGHBORS = 2_000
"""... and of so many neighbors, those with the latest events."""

LEVELS = ("info", "warning", "error", "critical")
"""Of events, from the least important on."""

LEAST_FREE = 1 << 20
"""Bytes of the disk that are left to what matters more: the claims of orchestrators."""

_BUSY_S = 5.0
_CACHE_KIB = 512
_TABLES = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    level TEXT NOT NULL,
    event TEXT NOT NULL,
    neighbor TEXT,
    fields TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE INDEX IF NOT EXISTS events_neighbor ON events (neighbor, sequence) WHERE neighbor IS NOT NULL;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_OF_STATE = "neighbor IS NOT NULL AND (event GLOB 'session.*' OR event GLOB 'bfd.*')"
_KEPT = f"""
SELECT sequence FROM (
    SELECT sequence, neighbor, row_number() OVER (PARTITION BY neighbor ORDER BY sequence DESC) AS place
    FROM events WHERE {_OF_STATE}
) WHERE place <= {KEPT_OF_NEIGHBOR} AND neighbor IN (
    SELECT neighbor FROM events WHERE {_OF_STATE} GROUP BY neighbor ORDER BY max(sequence) DESC LIMIT {MOST_NEIGHBORS}
)
"""
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Head(msgspec.Struct, array_like=True):
    """A row without its fields: a damaged file may have anything in its place."""

    sequence: int
    at: WallClock
    level: str
    event: str


_fields_encoder = msgspec.json.Encoder()
_fields_decoder = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


class JournalUnusable(Exception):
    """The file cannot be opened, read or written: which, and why."""


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader looks for, the newest `limit`. Empty fields do not narrow.

    `since` and `until` are seconds since the epoch. `prefix` is what the event is about; with `longer_prefixes` it may
    lie inside. `event` is a name, or its first words ("session"). `vrf`: "" is the main table, None are all.
    """

    since: float = 0.0
    until: float = float("inf")
    neighbor: str = ""
    prefix: str = ""
    longer_prefixes: bool = False
    levels: tuple[str, ...] = ()
    event: str = ""
    vrf: str | None = None
    limit: int = 1_000

    def matches(self, event: EventView) -> bool:
        """Whether this event is looked for."""
        return self.matches_but_prefix(event) and (not self.prefix or self.is_about(event))

    def matches_but_prefix(self, event: EventView) -> bool:
        """The same, whatever prefix it is about."""
        return (
            self.since <= event.at <= self.until
            and self.neighbor in ("", event.fields.get("neighbor"))
            and self.is_of_vrf(event)
            and (not self.levels or event.level in self.levels)
            and (self.event in ("", event.event) or event.event.startswith(f"{self.event}."))
        )

    def is_of_vrf(self, event: EventView) -> bool:
        """Whether the event is about the VRF. One that names none is about the main table or the whole host; what is
        said of the session of a neighbor that is asked for counts, too."""
        fields = event.fields
        if self.vrf is None or fields.get("vrf", "") == self.vrf:
            return True
        return bool(self.neighbor) and "vrf" not in fields and "prefix" not in fields

    def is_about(self, event: EventView) -> bool:
        """Whether the event is about the prefix."""
        try:
            family, key = parse_prefix(self.prefix)
            its_family, its_key = parse_prefix(str(event.fields.get("prefix")))
        except ValueError:
            return False
        return family is its_family and (covers(key, its_key) if self.longer_prefixes else key == its_key)


def at_least(level: str) -> tuple[str, ...]:
    """This level of events and the more important ones; empty for all. Raises: ValueError: there is no such level."""
    return LEVELS[LEVELS.index(level) :] if level else ()


class JournalFile:
    """The writer's side. `put_aside` says what became of a file that could not be used, `bytes` what events took after
    the last were written."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self.put_aside = ""
        self.bytes = 0
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._ahead = 0

    def open(self) -> int:
        """Make or take up the file; the highest number that an event in it has. Raises: JournalUnusable."""
        with _said_of(self.path):
            (latest,) = self._open().execute("SELECT ifnull(max(sequence), 0) FROM events").fetchone()
        return int(latest)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._leave_room()
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        connection = None
        try:
            connection = _connect(self.path)
            why = _why_unusable(connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (*_BROKEN, sqlite3.SQLITE_ERROR):
                raise
            why = f"damaged ({error})"
        if why or connection is None:
            if connection is not None:
                connection.close()
            self._set_aside(why)
            connection = _connect(self.path)
        connection.executescript(_TABLES)
        return connection

    def _set_aside(self, why: str) -> None:
        kept = self.path.with_name(f"{self.path.name}.old")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).replace(kept.with_name(kept.name + suffix))
        self.put_aside = f"{self.path} was {why}: it is kept as {kept}, and the journal begins anew"

    def append(self, events: Sequence[EventView]) -> None:
        """Write events, all or none, in the order of their numbers. Raises: JournalUnusable.

        Where the file was not taken up by `open`, its own numbers may be ahead of these.
        """
        with _said_of(self.path):
            try:
                self._write(events)
            except sqlite3.IntegrityError:  # another process has written since
                self.close()
                self._write(events)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in _BROKEN:
                    raise
                self.close()
                self._set_aside(f"damaged ({error})")
                self._write(events)

    def _write(self, events: Sequence[EventView]) -> None:
        self._leave_room()
        if self._connection is None:
            self._ahead = max(0, self.open() + 1 - events[0].sequence)
        connection = self._open()
        rows = [_row(event, event.sequence + self._ahead) for event in events]
        with connection:
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
        with contextlib.suppress(sqlite3.OperationalError):  # these are written; the next have it done
            if self.bytes_used() > self._max_bytes:
                self._prune(connection)
            self.bytes = self.bytes_used()

    def _leave_room(self) -> None:
        """Raises: OSError: what is left of the disk is needed for other things."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize < LEAST_FREE:
            raise OSError(errno.ENOSPC, f"less than {LEAST_FREE >> 20} MiB of the disk is free")

    def bytes_used(self) -> int:
        """What events take on the disk."""
        if self._connection is None:
            return 0
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest tenth, again and again, until a tenth of the room is free."""
        while self.bytes_used() > self._max_bytes * 0.9:
            with connection:
                count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
                oldest = f"SELECT sequence FROM events WHERE sequence NOT IN ({_KEPT}) ORDER BY sequence LIMIT ?"
                tenth = max(1, count // 10)
                deleted = connection.execute(f"DELETE FROM events WHERE sequence IN ({oldest})", (tenth,)).rowcount
                if not deleted:  # only what is to stay is left, and that is too much
                    oldest = "SELECT sequence FROM events ORDER BY sequence LIMIT ?"
                    deleted = connection.execute(f"DELETE FROM events WHERE sequence IN ({oldest})", (tenth,)).rowcount
            if not deleted:
                return

    def close(self) -> None:
        """Give the file up."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def read(path: Path, sought: Sought) -> list[EventView]:
    """The newest events that are looked for, oldest first.

    The writer may be another process or thread. Raises: JournalUnusable.
    """
    with _said_of(path), contextlib.closing(_connect(path, mode="ro")) as connection:
        return list(islice(_found(connection, sought), sought.limit))[::-1]


def read_copy(path: Path, sought: Sought) -> list[EventView]:
    """The same of a file that no process writes now. It is read from a copy: who may read it need not be who writes it,
    and would leave files beside it that the writer cannot use. Raises: JournalUnusable."""
    import tempfile  # and compression with it: the daemon does not read copies

    with _said_of(path), tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "journal"
        copy.write_bytes(path.read_bytes())
        with contextlib.suppress(FileNotFoundError):
            copy.with_name("journal-wal").write_bytes(path.with_name(path.name + "-wal").read_bytes())
        with contextlib.closing(_connect(copy)) as connection:
            return list(islice(_found(connection, sought), sought.limit))[::-1]


def _connect(path: Path, *, mode: str = "rwc") -> sqlite3.Connection:
    """One thread at a time may use it, and need not always be the same."""
    name = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(name, uri=True, timeout=_BUSY_S, check_same_thread=False)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if mode != "ro":
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _why_unusable(connection: sqlite3.Connection) -> str:
    """ "" for a file of this version, and for an empty one."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == VERSION:
        connection.execute("SELECT max(sequence), max(at) FROM events").fetchone()
        return ""
    is_empty = not version and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return "" if is_empty else f"of version {version}, and this bgpd writes version {VERSION}"


def _found(connection: sqlite3.Connection, sought: Sought) -> Iterator[EventView]:
    """The newest first. Without `since` the order is that of the rows, and no more of them are read than are asked for:
    an index of times would have all of them sorted."""
    conditions = ["at >= ?" if sought.since else "+at >= ?", "+at <= ?"]
    given: list[object] = [sought.since, sought.until]
    if sought.neighbor:
        conditions.append("neighbor = ?")
        given.append(sought.neighbor)
    if sought.levels:
        conditions.append(f"level IN ({', '.join('?' * len(sought.levels))})")
        given += sought.levels
    if sought.event:
        conditions.append("(event = ? OR substr(event, 1, ?) = ?)")
        given += [sought.event, len(sought.event) + 1, f"{sought.event}."]
    if sought.prefix:
        conditions.append("""instr(fields, '"prefix":')""")
    if sought.vrf and not sought.neighbor:
        conditions.append("""instr(fields, '"vrf":')""")
    given.append(-1 if sought.prefix or sought.vrf is not None else sought.limit)
    which = " AND ".join(conditions)
    rows = connection.execute(
        f"SELECT sequence, at, level, event, fields FROM events WHERE {which} ORDER BY sequence DESC LIMIT ?", given
    )
    for *row, fields in rows:
        head = msgspec.convert(row, _Head)
        found = EventView(
            sequence=head.sequence,
            at=head.at,
            level=head.level,
            event=head.event,
            fields=_fields_decoder.decode(fields),
        )
        if sought.is_of_vrf(found) and (not sought.prefix or sought.is_about(found)):
            yield found


def _row(event: EventView, sequence: int) -> tuple[int, float, str, str, str | None, str]:
    neighbor = event.fields.get("neighbor")
    return (
        sequence,
        event.at,
        event.level,
        event.event,
        neighbor if isinstance(neighbor, str) else None,
        _fields_encoder.encode(event.fields).decode(),
    )


@contextlib.contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, *UNREADABLE) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JournalUnusable(f"{path}: {reason}") from error
