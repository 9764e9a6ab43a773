"""What one process of bgpd leaves to the next: named sections in memory that only the two have (memfd_create).

A snapshot is read once: reading empties it, so that a process that crashes after it cannot be followed by one that
takes old state for new. One that is cut, damaged, too old, of another boot or of another version is refused with the
reason. Knows nothing of what is in the sections: each part of the daemon writes and reads its own.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Mapping

import msgspec

from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.boot import boot_id

VERSION = 2
"""Of all sections together: another one is not read."""
MOST_AGE_S = 60.0
"""What is older cannot be true any more: the neighbors' hold times are over."""

_MAGIC = b"bgpd\0han"
_HEADER = struct.Struct("!8sIQ16sQ")
"""Magic, version, nanoseconds since boot, boot ID, length of the sections. SHA-256 of all else follows, then those."""
_DIGEST = hashlib.sha256().digest_size
_SECTIONS = msgspec.msgpack.Decoder(dict[str, bytes])


class SnapshotRefused(Exception):
    """Nothing that can be gone on with; the text says why."""


def pack(sections: Mapping[str, bytes | memoryview], *, version: int = VERSION) -> bytes:
    """A snapshot of now."""
    body = msgspec.msgpack.encode(sections)
    header = _HEADER.pack(_MAGIC, version, time.clock_gettime_ns(time.CLOCK_BOOTTIME), _boot_id(), len(body))
    return header + _digest(header, body) + body


def unpack(data: bytes) -> dict[str, bytes]:
    """The sections of a snapshot.

    Raises: SnapshotRefused: with the reason.
    """
    if not data:
        raise SnapshotRefused("the snapshot is empty, or was used already")
    if len(data) < _HEADER.size + _DIGEST:
        raise SnapshotRefused("the snapshot is cut short")
    magic, version, taken_at, boot_id, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise SnapshotRefused("it is no snapshot of bgpd")
    if version != VERSION:
        raise SnapshotRefused(f"the snapshot is of version {version}, this bgpd reads version {VERSION}")
    view = memoryview(data)
    header, digest, body = view[: _HEADER.size], view[_HEADER.size :][:_DIGEST], view[_HEADER.size + _DIGEST :]
    if len(body) < length:
        raise SnapshotRefused("the snapshot is cut short")
    if len(body) > length or _digest(header, body) != digest:
        raise SnapshotRefused("the snapshot is damaged")
    if boot_id != _boot_id():
        raise SnapshotRefused("the snapshot is of another boot")
    age_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - taken_at) / 1e9
    if not 0 <= age_s <= MOST_AGE_S:
        raise SnapshotRefused(f"the snapshot is {age_s:.0f} s old, more than {MOST_AGE_S:.0f}")
    try:
        return _SECTIONS.decode(body)
    except UNREADABLE as error:
        raise SnapshotRefused(f"the snapshot is damaged: {error}") from error


def write(sections: Mapping[str, bytes | memoryview]) -> int:
    """A descriptor of memory that has the snapshot.

    Raises: OSError: there is no memory for it.
    """
    descriptor = os.memfd_create("bgpd-handover", os.MFD_CLOEXEC)
    try:
        rest = memoryview(pack(sections))
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> dict[str, bytes]:
    """The sections of a snapshot, which is empty from now on for whoever has it.

    Raises: SnapshotRefused: with the reason.
    """
    try:
        size, data = os.fstat(descriptor).st_size, b""
        while piece := os.pread(descriptor, size, len(data)):
            data += piece
        os.ftruncate(descriptor, 0)
    except OSError as error:
        raise SnapshotRefused(f"the snapshot cannot be read: {error.strerror}") from error
    return unpack(data)


def _digest(header: bytes | memoryview, body: bytes | memoryview) -> bytes:
    found = hashlib.sha256(header)
    found.update(body)
    return found.digest()


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(boot_id().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
