"""Files that `bgpd mrt show` and `bgpd replay` read: whatever is in them is told in a sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import struct
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.__main__ import _report_message
from bgpd.cli import mrt
from bgpd.cli.client import CommandFailed
from bgpd.cli.mrt import opened
from bgpd.message.mrt import MrtPeer, RibEntry, message_record, peer_index_table, rib_record
from bgpd.model.attributes import pack_attribute
from bgpd.model.iana import AttributeType, Family
from tests.daemon.wire_peer import UPDATE, attribute, message, update

PEER = MrtPeer(b"\1\1\1\1", b"\x0a\0\1\2", 65201)
RECORD = peer_index_table(1.0, collector=b"\x0a\xff\1\1", view="", peers=[])
HOOKS: Any = SimpleNamespace(report_message=_report_message)
PACKINGS = pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])


def test_a_dump_is_not_written_into_what_was_there_before(tmp_path: Path) -> None:
    """In a directory that others may write to, the name of the part that is written first may be a link."""
    theirs, file = tmp_path / "theirs", tmp_path / "table.mrt"
    theirs.write_text("before")
    (tmp_path / "table.mrt.part").symlink_to(theirs)
    assert list(mrt._write(file, iter([RECORD]))) == [len(RECORD)]
    assert (theirs.read_text(), file.read_bytes()) == ("before", RECORD)
    assert not file.is_symlink()


@PACKINGS
def test_packed_file_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "table.mrt.packed"
    file.write_bytes(pack(RECORD))
    with opened(str(file)) as records:
        assert len(list(records)) == 1


@PACKINGS
def test_packed_file_that_is_cut_off_or_damaged_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "table.mrt.packed"
    packed = pack(os.urandom(2000) + RECORD)
    for data in (packed[:-9], packed[:8], packed[:40] + bytes(20) + packed[60:]):
        file.write_bytes(data)
        with pytest.raises(CommandFailed, match=r"table\.mrt\.packed"), opened(str(file)) as records:
            list(records)


@pytest.mark.parametrize("name", ["-", "/dev/fd/{}"])
@pytest.mark.parametrize("pack", [bytes, bz2.compress])
def test_standard_input_and_a_pipe_are_read(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes], name: str
) -> None:
    reading, writing = os.pipe()
    os.write(writing, pack(RECORD))
    os.close(writing)
    with open(reading, "rb") as pipe:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(pipe))
        with opened(name.format(reading)) as records:
            assert len(list(records)) == 1


def shown(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "updates.mrt"
    file.write_bytes(data)
    assert mrt.show(Namespace(file=str(file), json=False), HOOKS) == 0


def test_routes_of_an_unnumbered_session_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hop = socket.inet_pton(socket.AF_INET6, "fe80::1")
    reach = struct.pack("!HBB", 1, 1, 16) + hop + b"\0" + b"\x18\x0a\1\2"
    block = (
        attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201)) + attribute(0x80, 14, reach)
    )
    body = struct.pack("!HH", 0, len(block)) + block
    shown(tmp_path, message_record(1.0, PEER, PEER, message(UPDATE, body)))
    assert capsys.readouterr().out.endswith(" UPDATE +10.1.2.0/24\n")


def test_routes_of_a_session_with_two_octet_as_numbers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = update(("10.1.2.0/24",), asn=0, as_path=attribute(0x40, 2, struct.pack("!BBHHH", 2, 3, 65201, 1, 2)))
    shown(tmp_path, message_record(1.0, PEER, PEER, said, four_octet_as=False))
    assert capsys.readouterr().out.endswith(" UPDATE +10.1.2.0/24\n")


def test_paths_with_identifiers_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 8050: an identifier stands before the length of the attributes, and before each NLRI of a message."""
    block = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    block += attribute(0x40, 3, bytes((10, 0, 1, 2)))
    entry = struct.pack("!HIIH", 0, 5, 77, len(block)) + block
    table = struct.pack("!IB3sH", 0, 24, b"\x0a\1\2", 1) + entry
    said = message(UPDATE, struct.pack("!HH", 0, len(block)) + block + struct.pack("!IB3s", 77, 24, b"\x0a\1\3"))
    peers = struct.pack("!IIHH", 65201, 65203, 0, 1) + bytes(8)
    shown(
        tmp_path,
        peer_index_table(1.0, collector=bytes(4), view="", peers=[PEER])
        + struct.pack("!IHHI", 5, 13, 8, len(table))
        + table
        + struct.pack("!IHHI", 5, 16, 9, len(peers + said))
        + peers
        + said,
    )
    first, second = capsys.readouterr().out.splitlines()
    assert "10.1.2.0/24 by 10.0.1.2 as-path 65201" in first
    assert " UPDATE +10.1.3.0/24" in second


def test_what_is_passed_over_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(tmp_path, 3 * (struct.pack("!IHHI", 1, 12, 1, 3) + b"abc"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 records of types that are not read were passed over: 3 of TABLE_DUMP (12) subtype 1" in said.err


@pytest.mark.parametrize("place", [10, 11, 12, 15, 20, -8, -1])
def test_damaged_packed_file_is_told(tmp_path: Path, place: int) -> None:
    file = tmp_path / "table.mrt.gz"
    packed = bytearray(gzip.compress(RECORD * 50))
    packed[place] ^= 0xFF
    file.write_bytes(packed)
    with pytest.raises(CommandFailed, match=r"table\.mrt\.gz"), opened(str(file)) as records:
        list(records)


@pytest.mark.parametrize("path", [b"\2\1\0\0", b"\2\1", b"\2", b"\x09\1\0\0\0\1", b"\2\2\0\0\0\1"])
@pytest.mark.parametrize("as_json", [True, False])
def test_malformed_path_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: bytes, as_json: bool
) -> None:
    file = tmp_path / "table.mrt"
    block = pack_attribute(0x40, AttributeType.AS_PATH, path) + pack_attribute(0x40, AttributeType.NEXT_HOP, bytes(4))
    route = rib_record(1.0, 0, Family.IPV4_UNICAST, b"\x18\x0a\1\2", [RibEntry(0, 1, block)])
    file.write_bytes(peer_index_table(1.0, collector=bytes(4), view="", peers=[PEER]) + route)
    assert mrt.show(Namespace(file=str(file), json=as_json), HOOKS) == 0
    said = capsys.readouterr().out
    assert "10.1.2.0/24" in said
    assert as_json or f"as-path 0x{path.hex()}" in said
