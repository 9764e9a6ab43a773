"""The state file: atomic, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bgpd.model.workload import Presence, Workload
from bgpd.workload.feed.payload import decode_workload
from bgpd.workload.feed.saved import Change, Saved, read_saved
from bgpd.workload.feed.state_file import StateFile
from tests.logs import capture_logs
from tests.waiting import until


def workload(address: str) -> Workload:
    return decode_workload(f'{{"addresses": ["{address}"]}}'.encode(), id="a", vrfs={""})


def saved(address: str = "10.64.1.5", *, journal: int = 1) -> Saved:
    return Saved(journal=journal, generation=3, workloads={"a": workload(address)})


def loaded(directory: Path) -> Saved | None:
    """What another process would find."""
    return StateFile(str(directory), "mqtt.json").load()


def journals(directory: Path) -> int:
    return len(list(directory.glob("*.journal")))


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
    file.append(b"{}\n", 1)
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:keep])
    file = StateFile(str(tmp_path), "mqtt.json")
    assert file.load() is None
    assert (tmp_path / "mqtt.json.damaged").read_bytes() == whole[:keep]
    assert (tmp_path / "mqtt.json.1.journal.damaged").read_bytes() == b"{}\n"
    assert str(file.path) in file.error
    assert file.write(saved())
    assert (file.error, file.load()) == ("", saved())


ENTRIES = {
    "colour": {"addresses": ["10.64.1.1"], "colour": "red"},
    "host bits": {"addresses": ["10.64.1.1/24"]},
    "loopback": {"addresses": ["127.0.0.1"]},
    "mac": {"addresses": ["10.64.1.1"], "mac": "zz"},
    "a/../b": {"addresses": ["10.64.1.1"]},
    "number": 7,
}


def test_entry_that_cannot_be_taken_costs_only_itself_is_told_and_the_file_kept(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "api.json")
    services = {"nat": {"addresses": ["10.64.9.1"], "mode": "nat"}, "good": {"addresses": ["10.64.9.2"]}}
    body = {"journal": 2, "generation": 5, "workloads": {**ENTRIES, "good": {"addresses": ["10.64.1.5"]}}}
    ranks = {"good": {"10.64.1.5/32": 0}}
    file.path.write_bytes(msgspec.json.encode({**body, "services": services, "workload_ranks": ranks}))
    file.journal_path(2).write_bytes(msgspec.json.encode(Change(workloads={"later": workload("10.64.1.6")})) + b"\n")
    with capture_logs() as logs:
        read = file.load()
    assert read is not None
    assert (list(read.workloads), list(read.services), read.generation) == (["good", "later"], ["good"], 5)
    assert read.workload_ranks == ranks
    left_out = {record["entry"] for record in logs if record["event"] == "state.entry_left_out"}
    assert left_out == {f"workload {id}" for id in ENTRIES} | {"service nat"}
    assert "and 6 more cannot be taken" in file.error
    assert (tmp_path / "api.json.damaged").exists()
    assert (tmp_path / "api.json.2.journal.damaged").exists()


def test_presences_follow_their_workloads_through_snapshot_and_journal(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    moved = {"10.64.1.5/32": Presence(sequence=1, seen=2, moved="elsewhere")}
    file.write(msgspec.structs.replace(saved(), workload_presences={"a": moved, "b": moved}))
    file.append(msgspec.json.encode(Change(workloads={"a": workload("10.64.1.6")})) + b"\n", 1)
    read = loaded(tmp_path)
    assert read is not None
    assert (read.version, read.workload_presences) == (2, {"b": moved}), "it was said anew"
    held = {"10.64.1.6/32": Presence(sequence=3)}
    file.append(msgspec.json.encode(Change(workload_presences={"a": held, "b": None})) + b"\n", 1)
    read = loaded(tmp_path)
    assert read is not None
    assert read.workload_presences == {"a": held}


def test_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    body = {"version": 1, "journal": 3, "generation": 4, "workloads": {"a": {"addresses": ["10.64.1.5"]}}}
    (tmp_path / "mqtt.json").write_bytes(msgspec.json.encode(body))
    assert loaded(tmp_path) == msgspec.structs.replace(saved(journal=3), version=1, generation=4)


def test_presence_that_cannot_be_taken_costs_only_itself(tmp_path: Path) -> None:
    good = {"10.64.1.5/32": {"sequence": 3}}
    presences = {"a": good, "b": {"10.64.1.6/32": {"sequence": 2**32}}, "c": 7}
    body = {"version": 2, "workloads": {"a": {"addresses": ["10.64.1.5"]}}, "workload_presences": presences}
    (tmp_path / "mqtt.json").write_bytes(msgspec.json.encode(body))
    read = loaded(tmp_path)
    assert read is not None
    assert read.workload_presences == {"a": {"10.64.1.5/32": Presence(sequence=3)}}
    assert (read.version, list(read.workloads)) == (2, ["a"])


def test_directory_that_cannot_be_written_is_told_and_keeps_the_old_file(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    file = StateFile(str(blocked), "mqtt.json")
    assert not file.write(saved())
    assert not file.append(b"{}\n", 1)
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


def test_nothing_older_is_written_after_a_snapshot(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    assert file.write(saved("10.64.1.6"), 2)
    assert file.write(saved("10.64.1.5"), 1)
    assert file.append(b'{"workloads": {"a": null}}\n', 1)
    assert file.load() == saved("10.64.1.6")


def test_journal_is_of_one_snapshot_only(tmp_path: Path) -> None:
    """A crash between the new snapshot and the removal of the old journal brings nothing old back."""
    file = StateFile(str(tmp_path), "mqtt.json")
    file.append(b'{"workloads": {"a": {"addresses": ["10.64.1.5"]}}}\n', 1)
    old = file.journal_path(0).read_bytes()
    file.write(Saved(generation=4), 2)
    assert not file.journal_path(0).exists()
    file.journal_path(0).write_bytes(old)
    assert loaded(tmp_path) == Saved(generation=4, journal=1)


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_change_whose_writing_was_cut_short_is_none(tmp_path: Path, cut: int) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    file.write(saved())
    file.append(b'{"generation": 9}\n', 1)
    line = b'{"workloads": {"a": {"addresses": ["10.64.1.7"]}}}\n'
    file.append(line[:-cut], 2)
    assert loaded(tmp_path) == Saved(journal=1, generation=9, workloads={"a": workload("10.64.1.5")})


def test_journal_that_is_no_json_is_kept_aside_and_what_came_before_is_taken(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path), "mqtt.json")
    file.write(saved())
    file.append(b'{"generation": 9}\nnonsense\n{"generation": 10}\n', 1)
    again = StateFile(str(tmp_path), "mqtt.json")
    found = again.load()
    assert found is not None
    assert found.generation == 9
    assert again.error
    assert (tmp_path / "mqtt.json.1.journal.damaged").exists()


def test_change_that_cannot_be_taken_costs_only_itself(tmp_path: Path) -> None:
    """An earlier version took what this one refuses: what was said after it is in force as well."""
    file = StateFile(str(tmp_path), "api.json")
    file.write(msgspec.structs.replace(saved(), workloads={"a": workload("10.64.1.5"), "gone": workload("10.64.1.8")}))
    lines: list[dict[str, object]] = [
        {"workloads": {"tap": {"addresses": ["10.64.1.6"], "interface": "tap0\n"}, "b": {"addresses": ["10.64.1.7"]}}},
        {"services": {"web": {"addresses": ["10.64.9.1"], "check": {"type": "http", "port": 80, "path": "/x\n"}}}},
        {"workloads": {"a": {"addresses": ["10.64.1.5"], "interface": "tap1\n"}, "gone": None}, "generation": 4},
        {"workloads": {"mended": {"addresses": ["10.64.1.9"], "interface": "tap2\n"}}},
        {"workloads": {"mended": {"addresses": ["10.64.1.9"], "interface": "tap2"}}},
        {"workload_presences": {"b": {"10.64.1.7/32": {"sequence": 2**32}}}},
    ]
    file.append(b"".join([msgspec.json.encode(line) + b"\n" for line in lines]), 1)
    file = StateFile(str(tmp_path), "api.json")
    with capture_logs() as logs:
        read = file.load()
    assert read is not None
    assert (list(read.workloads), list(read.services), read.generation) == (["b", "mended"], [], 4)
    left_out = {record["entry"] for record in logs if record["event"] == "state.entry_left_out"}
    assert left_out == {"workload tap", "service web", "workload a", "presence of workload b"}
    assert (tmp_path / "api.json.1.journal.damaged").exists()


def test_entry_that_cannot_be_taken_of_what_another_process_left_costs_only_itself() -> None:
    left = {"generation": 5, "workloads": {**ENTRIES, "good": {"addresses": ["10.64.1.5"]}}}
    read, wrong = read_saved(msgspec.msgpack.encode(left), msgspec.msgpack.decode)
    assert read.generation == 5
    assert "good" in read.workloads
    assert {"workload colour", "workload number"} <= wrong.keys()


class Running:
    """`run` as a task, with a snapshot that the test changes."""

    def __init__(self, file: StateFile) -> None:
        self.file = file
        self.present = Saved()
        self.snapshots = 0
        self.task = asyncio.create_task(file.run(self.snapshot))

    def snapshot(self) -> Saved:
        self.snapshots += 1
        return self.present

    def put(self, address: str) -> None:
        change = Change(workloads={"a": workload(address)})
        change.apply(self.present)
        self.file.note(change)

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_what_was_waited_for_outlives_a_crash_without_a_snapshot(tmp_path: Path) -> None:
    running = Running(StateFile(str(tmp_path), "mqtt.json"))
    for number in range(100):
        running.put(f"10.64.1.{number}")
    await asyncio.wait_for(running.file.kept(), 5)
    assert loaded(tmp_path) == Saved(workloads={"a": workload("10.64.1.99")})
    assert running.snapshots == 0
    running.put("10.64.1.100")
    await running.stop()
    assert loaded(tmp_path) == Saved(journal=1, workloads={"a": workload("10.64.1.100")})


async def test_journal_becomes_part_of_a_snapshot_when_it_is_long_and_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.workload.feed.state_file.JOURNAL_BYTES", 500)
    running = Running(StateFile(str(tmp_path), "mqtt.json"))
    for number in range(40):
        running.put(f"10.64.1.{number}")
        await running.file.kept()
    assert 1 < running.snapshots < 20
    assert journals(tmp_path) <= 1
    assert loaded(tmp_path) == msgspec.structs.replace(running.present, journal=running.snapshots)
    running.task.cancel()
    file = StateFile(str(tmp_path), "mqtt.json")
    found = file.load()
    assert found is not None
    again = Running(file)
    again.present = found
    await until(lambda: loaded(tmp_path) == msgspec.structs.replace(found, journal=found.journal + 1))
    await again.stop()


async def test_disk_that_is_full_keeps_nobody_waiting_and_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.workload.feed.state_file.RETRY_S", 0.05)
    blocked = tmp_path / "state"
    blocked.write_text("a file where the directory should be")
    told: list[str] = []
    file = StateFile(str(blocked), "mqtt.json", changed=lambda: told.append(file.error))
    running = Running(file)
    running.put("10.64.1.5")
    assert await asyncio.wait_for(file.kept(), 5) == file.error != ""
    running.put("10.64.1.6")
    assert await asyncio.wait_for(file.kept(), 5) == file.why_not_kept == file.error
    blocked.unlink()
    await until(lambda: not file.error)
    assert await asyncio.wait_for(file.kept(), 5) == file.why_not_kept == ""
    assert loaded(blocked) == Saved(journal=1, workloads={"a": workload("10.64.1.6")})
    assert [bool(error) for error in told] == [True, False]
    await running.stop()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state], check=True)
    yield state
    subprocess.run(["umount", state], check=True)


@pytest.mark.netns
async def test_space_that_comes_back_is_used_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.workload.feed.state_file.RETRY_S", 3600.0)
    ballast = small / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(1 << 20))
    file = StateFile(str(small), "mqtt.json")
    running = Running(file)
    running.put("10.64.1.5")
    assert "No space left" in await asyncio.wait_for(file.kept(), 5)
    ballast.unlink()
    await until(lambda: not file.error)
    assert await file.kept() == ""
    found = loaded(small)
    assert found is not None
    assert found.workloads == {"a": workload("10.64.1.5")}
    await running.stop()
