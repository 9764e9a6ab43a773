"""Files that `bgpd mrt show` and `bgpd replay` read: whatever is in them is told in a sentence."""

from __future__ import annotations

import gzip
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.__main__ import _report_message
from bgpd.cli import mrt
from bgpd.cli.client import CommandFailed
from bgpd.cli.mrt import opened
from bgpd.message.mrt import MrtPeer, RibEntry, peer_index_table, rib_record
from bgpd.model.attributes import pack_attribute
from bgpd.model.iana import AttributeType, Family

PEER = MrtPeer(b"\1\1\1\1", b"\x0a\0\1\2", 65201)
RECORD = peer_index_table(1.0, collector=b"\x0a\xff\1\1", view="", peers=[])


def test_packed_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "table.mrt.gz"
    file.write_bytes(gzip.compress(RECORD))
    with opened(str(file)) as records:
        assert len(list(records)) == 1


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
    hooks: Any = SimpleNamespace(report_message=_report_message)
    assert mrt.show(Namespace(file=str(file), json=as_json), hooks) == 0
    shown = capsys.readouterr().out
    assert "10.1.2.0/24" in shown
    assert as_json or f"as-path 0x{path.hex()}" in shown
