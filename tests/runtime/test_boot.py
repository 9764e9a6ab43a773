"""A start since boot is told from the first one."""

from __future__ import annotations

from pathlib import Path

from bgpd.runtime.boot import has_run_since_boot


def test_only_a_later_start_of_the_same_boot_counts(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    state = tmp_path / "state"
    assert not has_run_since_boot(state, boot_id=boot_id)
    assert has_run_since_boot(state, boot_id=boot_id)
    boot_id.write_text("two\n")
    assert not has_run_since_boot(state, boot_id=boot_id), "the host was rebooted"
    assert has_run_since_boot(state, boot_id=boot_id)


def test_directory_that_cannot_be_written_is_no_run(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    (tmp_path / "state").write_text("a file")
    assert not has_run_since_boot(tmp_path / "state", boot_id=boot_id)
    assert not has_run_since_boot(tmp_path / "state", boot_id=tmp_path / "none")
