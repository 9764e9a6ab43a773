"""The files of the history: segments of compressed blocks; the oldest are deleted to make room for new ones.

A segment has blocks (blocks.py), each of what was written at once. One that begins with a base needs none before it. A
file that ends in the middle of a block, or has a wrong checksum, is read up to there. Blocks for the disk: called in
threads and by commands. Decides nothing about records.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from bgpd.history.blocks import Block, EncodedHeard, block, blocks, read_block
from bgpd.history.records import VERSION, AnyRecord, BaseBegan, BaseEnded, Lost
from bgpd.history.wanted import Wanted
from bgpd.model.unreadable import UNREADABLE

DIRECTORY = "history"
"""In the state directory."""
LEAST_FREE = 4 << 20
"""Bytes of the disk that are left to what matters more: claims, and the journal of events."""
SEGMENTS = 8
"""About so many share the room that there is."""
QUIET = 32 << 10
"""Bytes: when less was written since the last look, little changes now."""
_GOOD_TIME, _HIGH_TIME = 3, 5
"""Of as many parts as there are segments: what may be written after a base before it is time for the next one, where
little changes, and in any case."""
_SLACK = 16
"""Such a part is left for what is written while a base is."""
_SUFFIX = ".routes"
_MAGIC = b"bgpdhist"
_HEADER = struct.Struct(">8sHB5x")


class HistoryUnusable(Exception):
    """Files cannot be read or written: which, and why."""


class Segment(msgspec.Struct, frozen=True):
    """One file. `begins_base`: nothing before it is needed. `began_at` is the time of its first record, `earliest` the
    earliest in it: the clock may have been set back. `ended_at`: when the last base in it was whole, 0.0 if none was;
    `problem`: why it cannot be read."""

    path: Path
    number: int
    begins_base: bool = False
    began_at: float = 0.0
    earliest: float = 0.0
    last_at: float = 0.0
    ended_at: float = 0.0
    bytes: int = 0
    problem: str = ""


class SegmentWriter:
    """Appends to the newest segment. `bytes` is what all of them take, `known_from` since when all is known (None: not
    at all), `since_base` what was written since the last base, `bases` how many were."""

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        self.bytes = 0
        self.since_base = self.bases = 0
        self._directory = directory
        self._max_bytes = max_bytes
        self._looked_at = 0
        self._base_bytes = self._of_base = 0
        self._is_whole = False
        """Nothing is lost of what was written since the last base began."""
        self._file: BinaryIO | None = None
        self._size = 0
        self._segments: list[Segment] = []
        self._opened = False

    @property
    def known_from(self) -> float | None:
        """Since when all is known (`known_from` of this module)."""
        return known_from(self._segments)

    def append(self, records: Sequence[AnyRecord | EncodedHeard]) -> None:
        """Write these, in order; a base begins a segment. Raises: HistoryUnusable: some or all are not written."""
        try:
            self._open()
            for part in _parts(records):
                self._write(part)
        except OSError as error:
            self._close()
            self._is_whole = False
            raise HistoryUnusable(f"{self._directory}: {error.strerror}") from error

    def is_time_for_base(self) -> bool:
        """Whether the next base is to begin. Asked after each write, or each few."""
        written, self._looked_at = self.since_base - self._looked_at, self.since_base
        is_good_time = self.since_base > self._max_bytes * _GOOD_TIME // SEGMENTS
        return self.is_high_time_for_base or (is_good_time and written < QUIET)

    @property
    def is_high_time_for_base(self) -> bool:
        """Whether it must not wait any more: it has to be whole before the last one is deleted."""
        most = self._max_bytes - self._max_bytes // _SLACK - 2 * self._base_bytes
        good, high = (self._max_bytes * parts // SEGMENTS for parts in (_GOOD_TIME, _HIGH_TIME))
        return self.since_base > min(high, max(good, most))

    def close(self) -> None:
        """Give the file up."""
        self._close()

    def _open(self) -> None:
        if not self._opened:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._segments = segments_of(self._directory)
            self.bytes = sum(one.bytes for one in self._segments)
            self._opened = True

    def _write(self, records: Sequence[AnyRecord | EncodedHeard]) -> None:
        begins_base = isinstance(records[0], BaseBegan)
        self._is_whole |= begins_base
        if any(isinstance(record, Lost) for record in records):
            self._is_whole = False
        ends = [record.at for record in records if isinstance(record, BaseEnded) and self._is_whole]
        data = block(records, ends_base=bool(ends))
        size = len(data)
        self._leave_room(size)
        if self._file is None or begins_base or self._size > self._max_bytes // SEGMENTS:
            self._begin(begins_base)
        self._put(data)
        self._size += size
        self.bytes += size
        self.since_base = 0 if ends else self.since_base + size
        self._of_base = size if begins_base else self._of_base + size
        self._base_bytes = self._of_base if ends else self._base_bytes
        self.bases += bool(ends)
        last = self._segments[-1]
        self._segments[-1] = msgspec.structs.replace(
            last,
            began_at=last.began_at or records[0].at,
            last_at=records[-1].at,
            ended_at=ends[-1] if ends else last.ended_at,
            bytes=self._size,
        )
        self._prune()

    def _begin(self, begins_base: bool) -> None:
        self._close()
        number = self._segments[-1].number + 1 if self._segments else 1
        while True:
            path = self._directory / f"{number:012d}{_SUFFIX}"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
            except FileExistsError:  # another process writes here, too
                number += 1
        self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115 (closed by _close)
        self._size = 0
        try:
            self._put(_HEADER.pack(_MAGIC, VERSION, begins_base))
        except OSError:
            path.unlink()
            raise
        self._size = _HEADER.size
        self.bytes += self._size
        self._segments.append(Segment(path, number, begins_base, bytes=self._size))

    def _put(self, data: bytes) -> None:
        """Write all of it, or nothing. Raises: OSError: there is no room."""
        assert self._file is not None
        if self._file.write(data) != len(data):
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _leave_room(self, size: int) -> None:
        """Raises: OSError: what is left of the disk is needed for other things."""
        disk = os.statvfs(self._directory)
        if disk.f_bavail * disk.f_frsize < LEAST_FREE + size:
            raise OSError(errno.ENOSPC, f"less than {LEAST_FREE >> 20} MiB of the disk would be left")

    def _prune(self) -> None:
        """Delete the oldest segments until all fit, never the one that is written."""
        while self.bytes > self._max_bytes and len(self._segments) > 1:
            oldest = self._segments.pop(0)
            oldest.path.unlink(missing_ok=True)
            self.bytes -= oldest.bytes


def _parts(records: Sequence[AnyRecord | EncodedHeard]) -> Iterator[Sequence[AnyRecord | EncodedHeard]]:
    """What is a block each: a base begins one, and ends one."""
    start = 0
    for at, record in enumerate(records):
        if isinstance(record, BaseBegan) and at > start:
            yield records[start:at]
            start = at
        if isinstance(record, BaseEnded):
            yield records[start : at + 1]
            start = at + 1
    if start < len(records):
        yield records[start:]


def known_from(segments: Sequence[Segment]) -> float | None:
    """Since when all is known: when the first base was whole that is still there. None: none is."""
    has_begun = False
    for one in segments:
        has_begun = has_begun or one.begins_base
        if has_begun and one.ended_at:
            return one.ended_at
    return None


def segments_of(directory: Path) -> list[Segment]:
    """The segments of a directory, the oldest first; only their blocks' heads are read. Raises: OSError."""
    names = [directory / name for name in os.listdir(directory) if name.endswith(_SUFFIX)]
    paths = [path for path in names if path.stem.isascii() and path.stem.isdecimal()]
    found = [_looked_at(path) for path in sorted(paths, key=lambda path: int(path.stem))]
    return [segment for segment in found if segment is not None]


def _looked_at(path: Path) -> Segment | None:
    number = int(path.stem)
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            problem, begins_base = _head(file.read(_HEADER.size))
            if problem:
                return Segment(path, number, began_at=found.st_mtime, bytes=found.st_size, problem=problem)
            began = earliest = last = ended = 0.0
            for one in blocks(file, _HEADER.size):
                if isinstance(one, Block):
                    began, last = began or one.began_at, one.ended_at
                    earliest = min(earliest or one.began_at, one.began_at)
                    ended = last if one.ends_base else ended
    except FileNotFoundError:  # deleted meanwhile
        return None
    return Segment(path, number, begins_base, began, earliest, last, ended, found.st_size)


def _head(data: bytes) -> tuple[str, bool]:
    """Why a file cannot be read, and whether it begins with a base."""
    if len(data) < _HEADER.size:
        return "empty", False
    magic, version, begins_base = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return "no history", False
    return ("" if version == VERSION else f"of version {version}, and this bgpd reads {VERSION}"), bool(begins_base)


def records_of(
    segment: Segment, wanted: Wanted | None = None, until: float = math.inf
) -> Iterator[list[AnyRecord] | str]:
    """The records of each block; at last, where it is damaged, what is wrong. With `wanted`, of those that are only
    about keys hardly more than such as say something of these. Those of later times than `until` only where the clock
    was set back after them, to a time before it. Raises: OSError."""
    if segment.problem:
        yield f"{segment.path} is {segment.problem}"
        return
    try:
        file = segment.path.open("rb")
    except FileNotFoundError:  # the daemon writes on meanwhile
        yield f"{segment.path} was deleted to make room"
        return
    with file:
        yield from _records_in(file, segment.path, wanted, until)


def _records_in(file: BinaryIO, path: Path, wanted: Wanted | None, until: float) -> Iterator[list[AnyRecord] | str]:
    found = _blocks_of(file)
    early = (place for place, one in enumerate(found) if isinstance(one, Block) and one.began_at <= until)
    last = max(early, default=-1)
    for place, one in enumerate(found[: last + 2]):
        if isinstance(one, str):
            yield f"{path} is {one}"
            return
        if place > last:
            return
        try:
            records = read_block(file, one, wanted)
        except (ValueError, zlib.error, *UNREADABLE) as error:
            yield f"{path} is damaged ({error})"
            return
        if place == last and one.ended_at > until:
            ends = (place for place, record in enumerate(records, 1) if record.at <= until)
            records = records[: max(ends, default=0)]
        if records:
            yield records


def _blocks_of(file: BinaryIO) -> list[Block | str]:
    """The daemon may be writing the last one: that is looked at again."""
    while True:
        size = file.seek(0, os.SEEK_END)
        found = list(blocks(file, _HEADER.size))
        if not found or isinstance(found[-1], Block) or file.seek(0, os.SEEK_END) == size:
            return found
