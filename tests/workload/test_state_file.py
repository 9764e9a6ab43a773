"""The state file: atomic, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from bgpd.workload.feed import Saved
from bgpd.workload.payload import decode_workload
from bgpd.workload.state_file import StateFile


def saved(address: str = "10.64.1.5") -> Saved:
    workload = decode_workload(f'{{"addresses": ["{address}"]}}'.encode(), id="a", vrfs={""})
    return Saved(generation=3, workloads={"a": workload})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "new"), "mqtt.json")
    assert file.load() is None
    assert file.write(saved())
    assert StateFile(str(tmp_path / "new"), "mqtt.json").load() == saved()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mqtt.json"]


@pytest.mark.parametrize("keep", [0, 1, 20, -1])
def test_truncated_file_is_kept_aside_and_told(tmp_path: Path, keep: int) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    file.write(saved())
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:keep])
    assert file.load() is None
    assert (tmp_path / "mqtt.json.damaged").read_bytes() == whole[:keep]
    assert str(file.path) in file.error
    assert file.write(saved())
    assert (file.error, file.load()) == ("", saved())


def test_directory_that_cannot_be_written_is_told_and_keeps_the_old_file(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    file = StateFile(str(blocked), "mqtt.json")
    assert not file.write(saved())
    assert file.error


def test_full_disk_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    file.write(saved())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        assert not file.write(saved("10.64.1.6"))
    assert "No space left" in file.error
    assert file.load() == saved()
    assert [path.name for path in tmp_path.iterdir()] == ["mqtt.json"]


def test_older_snapshot_never_replaces_a_newer_one(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    assert file.write(saved("10.64.1.6"), 2)
    assert file.write(saved("10.64.1.5"), 1)
    assert file.load() == saved("10.64.1.6")


async def test_changes_are_written_together_and_the_last_ones_at_the_end(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    present = saved()
    task = asyncio.create_task(file.run(lambda: present))
    for _ in range(100):
        file.changed()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if file.load() is not None:
            break
    assert file.load() == saved()
    present = saved("10.64.1.6")
    file.changed()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert file.load() == present
