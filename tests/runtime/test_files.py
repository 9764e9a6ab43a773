"""Files of people: written whole or not at all, and what they were stays: mode, link, device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bgpd.runtime.files import reason_of, write_new, write_over


def test_a_file_that_is_written_over_keeps_its_mode_and_what_leads_to_it(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    file.chmod(0o604)
    link.symlink_to(file)
    (tmp_path / "file.new").write_text("left by one that was ended")
    write_over(link, b"after")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("after", 0o604)
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}
    write_over(tmp_path / "other", b"new")
    assert (tmp_path / "other").read_text() == "new"


def test_a_pipe_is_written_itself(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_over(tmp_path / "pipe", b"text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)


def test_a_new_file_is_written_over_nothing(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"text", mode=0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"other")
    assert (tmp_path / "file").read_text() == "text"


def test_what_went_wrong_is_told_without_number_and_path() -> None:
    with pytest.raises(OSError, match="No such") as raised:
        Path("/nowhere/file").read_bytes()
    assert reason_of(raised.value) == "No such file or directory"
    assert reason_of(ValueError("text")) == "text"
