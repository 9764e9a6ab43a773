"""Files that `bgpd mrt show` and `bgpd replay` read: whatever is in them is told in a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bgpd.cli.client import CommandFailed
from bgpd.cli.mrt import opened
from bgpd.message.mrt import peer_index_table

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
