"""The reader of password files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgpd.config.password_file import BadPasswordFile, read_password_file


def test_password_is_the_file_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"se cret\r\n")
    assert read_password_file(str(path)) == b"se cret"
    path.write_bytes(b"x" * 80 + b"\n")
    assert read_password_file(str(path)) == b"x" * 80


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"x" * 81, "holds 81 bytes; a TCP MD5 or TCP-AO key has at most 80")],
)
def test_file_without_a_usable_password_says_why(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(BadPasswordFile, match=words):
        read_password_file(str(path))


def test_file_that_is_missing_or_would_never_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPasswordFile, match="No such file"):
        read_password_file(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadPasswordFile, match="not a regular file"):
        read_password_file(str(tmp_path / "pipe"))
