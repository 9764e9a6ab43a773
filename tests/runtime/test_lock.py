"""The lock that keeps two daemons from fighting over one kernel's routes, and that nobody else can take."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.runtime.lock import AnotherRuns, LockUnusable, NamespaceLock

PROTOCOL = 197
NOBODY = 65534
HOLDER = """
import asyncio, pathlib, sys, time
from bgpd.runtime.lock import NamespaceLock
lock = NamespaceLock(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
asyncio.run(lock.acquire(0))
print("held", flush=True)
time.sleep(60)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Does not exist yet; where every user may look."""
    with tempfile.TemporaryDirectory(prefix="bgpd-lock-", dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        yield Path(parent, "run")


def lock(directory: Path, protocol: int = PROTOCOL) -> NamespaceLock:
    return NamespaceLock(protocol, directory)


def take(one: NamespaceLock) -> None:
    asyncio.run(one.acquire(0))


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


@contextlib.contextmanager
def holding(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the lock; killed in the end."""
    command = (sys.executable, "-c", HOLDER, str(PROTOCOL), str(directory))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


def as_nobody(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code (standard library only) as a user of no rights."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c", code]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_second_is_refused_and_told_which_process_has_it(directory: Path) -> None:
    first, second = lock(directory), lock(directory)
    take(first)
    with pytest.raises(
        AnotherRuns, match=rf"another bgpd \(process {os.getpid()}\) keeps routes of protocol {PROTOCOL}"
    ):
        take(second)
    other = lock(directory, PROTOCOL + 1)
    take(other)
    other.release()
    first.release()
    take(second)
    second.release()
    assert files(directory) == []


async def test_one_that_is_ending_is_waited_for(directory: Path) -> None:
    first, second = lock(directory), lock(directory)
    await first.acquire()
    asyncio.get_running_loop().call_later(0.2, first.release)
    await second.acquire()
    third = lock(directory)
    with pytest.raises(AnotherRuns):
        await third.acquire(0)
    second.release()


def test_lock_is_free_when_its_holder_was_killed(directory: Path) -> None:
    mine = lock(directory)
    with holding(directory) as holder, pytest.raises(AnotherRuns, match=f"process {holder.pid}"):
        take(mine)
    assert len(files(directory)) == 1
    take(mine)
    mine.release()


async def test_file_that_its_holder_removes_while_another_opens_it_is_not_believed(directory: Path) -> None:
    """Three daemons: the file of the first is opened by the second, removed, and made anew by the third."""
    first, second, third = lock(directory), lock(directory), lock(directory)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire(0.3))
    await asyncio.sleep(0)
    first.release()
    await third.acquire(0)
    with pytest.raises(AnotherRuns):
        await waiting
    third.release()


def test_child_processes_do_not_keep_it(directory: Path) -> None:
    mine = lock(directory)
    take(mine)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        mine.release()
        take(mine)
        mine.release()
        child.kill()


@needs_root
def test_other_users_can_neither_take_it_nor_be_in_the_way(directory: Path) -> None:
    """The name of the abstract socket that once was the lock, the file, and its directory."""
    squat = f"s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'bgpd/routes/{PROTOCOL}')"
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c"]
    program = f"import socket, time; {squat}; print(flush=True); time.sleep(60)"
    mine = lock(directory)
    with subprocess.Popen([*drop, program], stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        take(mine)
        squatter.kill()
    (path,) = files(directory)
    for attempt in ("open(sys.argv[1])", "os.unlink(sys.argv[1])", "os.rename(sys.argv[1], sys.argv[1] + 'x')"):
        assert "Permission denied" in as_nobody(f"import os, sys; {attempt}", str(path)).stderr
    mine.release()


@needs_root
def test_file_that_root_makes_by_hand_is_the_service_user_s(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    os.chown(directory, NOBODY, NOBODY)
    mine = lock(directory)
    take(mine)
    (path,) = files(directory)
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (NOBODY, 0o600)
    mine.release()


@needs_root
def test_directory_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(mode=0o755)
    os.chown(directory, NOBODY, NOBODY)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY - 1)
    with pytest.raises(LockUnusable, match=rf"\(owner {NOBODY}, mode 0755\): make .* a directory of the user"):
        take(lock(directory))


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_directory_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(LockUnusable, match="other users could take the lock"):
        take(lock(directory))


def test_directory_that_cannot_be_used_leaves_the_one_of_the_socket(directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    mine, other = (NamespaceLock(PROTOCOL, directory, otherwise=tmp_path) for _ in range(2))
    take(mine)
    assert files(directory) == []
    assert len(files(tmp_path)) == 1
    with pytest.raises(AnotherRuns):
        take(other)
    mine.release()
    tmp_path.chmod(0o777)
    with pytest.raises(LockUnusable, match=str(directory)):
        take(NamespaceLock(PROTOCOL, directory, otherwise=tmp_path))


def test_directory_that_is_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    directory.symlink_to(tmp_path)
    with pytest.raises(LockUnusable):
        take(lock(directory))


def test_directory_that_cannot_be_made_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockUnusable, match=r"Not a directory: make .*/file/run a directory of the user that runs bgpd"):
        take(lock(tmp_path / "file/run"))


def test_planted_files_are_refused_and_not_touched(directory: Path, tmp_path: Path) -> None:
    mine = lock(directory)
    take(mine)
    (path,) = files(directory)
    mine.release()
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(LockUnusable, match="cannot open the lock"):
        take(mine)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(LockUnusable, match="not a file of mode 0600"):
        take(mine)
    path.unlink()
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(LockUnusable, match="remove it"):
        take(mine)
    assert target.read_text() == "precious"
