"""The container of a snapshot: what is not whole, not new or not of this version is refused, with the reason."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgpd.handover import snapshot
from bgpd.handover.snapshot import SnapshotRefused, pack, read, unpack, write

SECTIONS = {"daemon": b"\x01\x02", "sessions": b"", "routes": bytes(range(256))}

pytestmark = pytest.mark.hypothesis


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=200), max_size=5))
def test_what_is_packed_is_unpacked(sections: dict[str, bytes]) -> None:
    assert unpack(pack(sections)) == sections


@given(st.integers(min_value=1))
def test_a_cut_snapshot_is_refused(at: int) -> None:
    whole = pack(SECTIONS)
    with pytest.raises(SnapshotRefused, match="cut short"):
        unpack(whole[: at % (len(whole) - 1) + 1])


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_snapshot_with_another_byte_is_refused(at: int, flipped: int) -> None:
    damaged = bytearray(pack(SECTIONS))
    damaged[at % len(damaged)] ^= flipped
    with pytest.raises(SnapshotRefused):
        unpack(bytes(damaged))


@given(st.binary(max_size=300))
@example(b"")
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        unpack(data)


def test_another_version_is_refused() -> None:
    with pytest.raises(SnapshotRefused, match=f"version 7, this bgpd reads version {snapshot.VERSION}"):
        unpack(pack(SECTIONS, version=7))


def test_more_than_a_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotRefused, match="damaged"):
        unpack(pack(SECTIONS) + b"\0")


def test_an_old_snapshot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(SECTIONS)
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: now + 61_000_000_000)
    with pytest.raises(SnapshotRefused, match="61 s old"):
        unpack(data)


def test_a_snapshot_of_another_boot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(SECTIONS)
    monkeypatch.setattr(snapshot, "_boot_id", lambda: b"another boot....")
    with pytest.raises(SnapshotRefused, match="another boot"):
        unpack(data)


def test_a_snapshot_is_read_once() -> None:
    descriptor = write(SECTIONS)
    kept = os.dup(descriptor)
    assert read(descriptor) == SECTIONS
    with pytest.raises(SnapshotRefused, match="used already"):
        read(kept)
    os.close(descriptor)
    os.close(kept)


def test_what_is_no_file_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(SnapshotRefused):
            read(reading)
    finally:
        os.close(reading)
        os.close(writing)
