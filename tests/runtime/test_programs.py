"""Programs of the operator's: without rights, with limits, and nothing of them outlives its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.runtime.copy_of_process import in_a_copy
from bgpd.runtime.programs import (
    ENVIRONMENT,
    MARKER,
    MOST_PROCESSES,
    ProgramRefused,
    Programs,
    _own,
    checked_program,
    output_of,
)
from tests.waiting import until

PACKAGE = Path(__file__).parents[2] / "bgpd"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have capabilities, and give files away")


class Shell:
    """A directory with one program, a shell script, and what that wrote to `said`, such as numbers of processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = directory / "said"
        self.programs = Programs(str(directory))

    def write(self, text: str) -> None:
        path = self.directory / "program"
        path.write_text(f"#!/bin/sh\ncd {self.directory}\n{text}\n")
        path.chmod(0o755)

    async def run(self, text: str, *, timeout_s: float = 20.0) -> int:
        self.write(text)
        async with asyncio.timeout(timeout_s):
            return await self.programs.run("program", ("an argument",))

    async def until_said(self, lines: int) -> list[str]:
        async with asyncio.timeout(20):
            while True:
                found = self.said.read_text().splitlines() if self.said.exists() else []
                if len(found) >= lines:
                    return found
                await asyncio.sleep(0.02)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    with contextlib.suppress(FileNotFoundError):
        for line in shell.said.read_text().splitlines():
            if line.isdigit() and int(line) > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line), signal.SIGKILL)


def status_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def own_status() -> dict[str, str]:
    return status_of(Path("/proc/self/status").read_text())


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_exit_code_arguments_and_signal(shell: Shell) -> None:
    assert await shell.run('echo "$1" >said; exit 7') == 7
    assert shell.said.read_text() == "an argument\n"
    assert await shell.run("kill -9 $$") == -9


async def test_environment_is_minimal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("LD_PRELOAD", "")
    await shell.run("exec env >said")
    said = dict(line.split("=", 1) for line in shell.said.read_text().splitlines())
    assert said.keys() - {"PWD", "OLDPWD", "_", "SHLVL"} == ENVIRONMENT.keys() | {MARKER}


@needs_root
async def test_no_capability_is_left_and_none_can_come_back(shell: Shell) -> None:
    await shell.run("exec cat /proc/self/status >said")
    status = status_of(shell.said.read_text())
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"
    assert int(own_status()["CapEff"], 16)


@needs_root
def test_ambient_capabilities_of_a_service_are_not_inherited() -> None:
    """As the unit starts the daemon: another user, three ambient capabilities, no right to change the bounding set."""
    wanted = "+net_admin,+net_raw,+net_bind_service"
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    capabilities = [f"--inh-caps={wanted}", f"--ambient-caps={wanted}", f"--bounding-set=-all,{wanted}"]
    with tempfile.TemporaryDirectory(prefix="bgpd-programs-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        Shell(Path(directory)).write("exec cat /proc/self/status")
        program = f"""
import asyncio, sys
from bgpd.runtime import programs
programs.subprocess.DEVNULL = None
sys.exit(asyncio.run(programs.Programs({directory!r}).run("program", ())))
"""
        done = subprocess.run(
            [*user, *capabilities, "/usr/bin/python3", "-c", program],
            cwd="/",
            env={"PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    status = status_of(done.stdout)
    assert [int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"


async def test_limits_are_set(shell: Shell) -> None:
    shell.write("echo $$ >said; exec sleep 60")
    task = asyncio.create_task(shell.programs.run("program", ()))
    (pid,) = map(int, await shell.until_said(1))
    # They are set from outside, the last of them this one: the program may run before.
    await until(lambda: resource.prlimit(pid, resource.RLIMIT_NPROC) == (MOST_PROCESSES, MOST_PROCESSES))
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert os.getsid(pid) == pid
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(str(pid))


LEAVERS = {
    "a child": "sleep 60 & echo $! >>said",
    "a child that ignores signals": "(trap '' TERM HUP INT; sleep 60) & echo $! >>said",
    "another session": "setsid sh -c 'echo $$ >>said; exec sleep 60' &",
    "another session that forked twice": "setsid sh -c '(sh -c \"echo \\$\\$ >>said; exec sleep 60\" &) ' &",
    "no marker any more": "env -i /usr/bin/setsid /bin/sh -c 'echo $$ >>said; exec sleep 60' &",
}


@pytest.mark.parametrize("start", LEAVERS.values(), ids=LEAVERS.keys())
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "hangs"])
async def test_nothing_outlives_the_program(shell: Shell, start: str, ends: bool) -> None:
    wait = "while ! [ -s said ]; do sleep 0.02; done"
    if ends:
        assert await shell.run(f"{start}\n{wait}; exit 3") == 3
    else:
        shell.write(f"{start}\n{wait}; sleep 60")
        task = asyncio.create_task(shell.programs.run("program", ()))
        await shell.until_said(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (pid,) = await shell.until_said(1)
    assert not is_alive(pid)


async def test_cancelled_while_it_starts_leaves_nothing(shell: Shell) -> None:
    shell.write("echo $$ >>said; exec sleep 60")
    for turns in range(4):
        task = asyncio.create_task(shell.programs.run("program", ()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    said = shell.said.read_text().split() if shell.said.exists() else []
    assert not [pid for pid in said if is_alive(pid)]


async def test_end_of_one_program_ends_nothing_of_another(shell: Shell, tmp_path: Path) -> None:
    """The other's process left its group and its parent, as programs do that start something in the background."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "program").write_text(f"""#!/bin/sh
setsid sh -c 'echo $$ >>{shell.said}; exec sleep 60' &
while ! [ -s {shell.said} ]; do sleep 0.02; done
exec sleep 60
""")
    (other / "program").chmod(0o755)
    (tmp_path / "program").symlink_to(other / "program")
    (tmp_path / "quick").write_text("#!/bin/sh\n")
    (tmp_path / "quick").chmod(0o755)
    slow = asyncio.create_task(shell.programs.run("program", ()))
    (pid,) = await shell.until_said(1)
    assert await shell.programs.run("quick", ()) == 0
    assert is_alive(pid)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert not is_alive(pid)


async def test_children_that_were_there_before_are_left_alone(shell: Shell) -> None:
    child = await asyncio.to_thread(subprocess.Popen, ["sleep", "60"])
    await asyncio.sleep(0.05)
    assert await shell.run("exit 0") == 0
    assert child.poll() is None
    child.kill()
    child.wait()


async def test_program_that_is_not_there_or_no_program(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await shell.programs.run("none", ())
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError):
        await shell.programs.run("text", ())
    with pytest.raises(ProgramRefused, match="no command directory"):
        await Programs("").run("text", ())


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b" / "program"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_program_in_a_directory_that_others_can_write_is_refused(program: Path, mode: int) -> None:
    program.parent.chmod(mode)
    with pytest.raises(
        ProgramRefused, match=rf"/a/b can be written by others \(owner {os.geteuid()}, mode {mode:04o}\)"
    ):
        checked_program(program)


def test_program_below_a_directory_that_others_can_write_is_refused_unless_nobody_can_replace_it(program: Path) -> None:
    program.parents[1].chmod(0o777)
    with pytest.raises(ProgramRefused, match="/a can be written"):
        checked_program(program)
    program.parents[1].chmod(0o1777)
    assert checked_program(program) == program


@pytest.mark.parametrize("mode", [0o757, 0o775])
def test_program_that_others_can_write_is_refused(program: Path, mode: int) -> None:
    program.chmod(mode)
    with pytest.raises(ProgramRefused, match=r"chown it to root, chmod go-w"):
        checked_program(program)


@needs_root
def test_program_of_another_user_is_refused(program: Path) -> None:
    os.chown(program, 65534, 65534)
    with pytest.raises(ProgramRefused, match="owner 65534"):
        checked_program(program)
    os.chown(program, 0, 0)
    os.chown(program.parent, 65534, 65534)
    with pytest.raises(ProgramRefused, match="owner 65534"):
        checked_program(program)


def test_link_is_followed_and_both_ways_are_looked_at(program: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(program)
    assert checked_program(link) == program
    program.parent.chmod(0o777)
    with pytest.raises(ProgramRefused):
        checked_program(link)


def test_no_other_module_starts_programs() -> None:
    """What ends strays takes every child for a program's: that holds as long as nothing else makes any.

    `bgpd check`, `bgpd plan`, `bgpd upgrade`, `bgpd bundle` and `bgpd demo` have children of theirs; the daemon never
    does. It, the BFD process, which is another one, and `bgpd simulate` execute themselves anew and make no child.
    """
    starts = re.compile(
        r"\bsubprocess\b|\bos\.(?:fork|exec|spawn|posix_spawn|system|popen)|\bmultiprocessing\b|\bpty\b"
    )
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if starts.search(path.read_text())}
    assert found == {
        *("runtime/programs.py", "config/service_user.py", "cli/upgrade.py", "cli/bundle.py"),
        *("bfd/handover.py", "handover/store.py", "simulation/command.py"),
        *("demo/namespaces.py", "demo/network.py", "demo/story.py", "demo/traffic.py"),
    }
    asks = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "uid=uid" in path.read_text()}
    assert asks == {"cli/files.py", "config/load.py"}


async def _slowly() -> bytes:
    await asyncio.sleep(1)
    return b"whole"


async def test_child_of_bgpds_own_is_not_taken_for_what_a_program_left(shell: Shell) -> None:
    await shell.run("true")
    own = asyncio.create_task(output_of(["sleep", "100"], timeout_s=20))
    assert await shell.run("true") == 0
    assert not own.done()
    own.cancel()
    starting = asyncio.create_task(output_of(["sleep", "100"], timeout_s=20))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    copying = asyncio.create_task(in_a_copy(_slowly))
    await asyncio.sleep(0)
    assert await shell.run("true") == 0
    assert await copying == b"whole"
    assert await output_of(["sh", "-c", "echo a; echo b >&2; exit 3"], timeout_s=20) == (3, "a\nb\n")
    nice = await output_of(["sh", "-c", "while [ $(nice) = 0 ]; do :; done; nice"], timeout_s=20, niceness=10)
    assert nice == (0, "10\n")
    with pytest.raises(TimeoutError):
        await output_of(["sleep", "100"], timeout_s=0.01)
    with pytest.raises(FileNotFoundError):
        await output_of(["/nowhere"], timeout_s=1)
    with pytest.raises(asyncio.CancelledError):
        await own
    assert not _own


ENDS_CHILDREN = """
import subprocess, sys
from bgpd.runtime import programs
programs._become_subreaper()
subprocess.Popen(["sh", "-c", "setsid sleep 100 & setsid sleep 101"], stdout=subprocess.PIPE)
while len(programs._children()) < 1:
    pass
programs.end_children()
print(len(programs._children()))
"""


def test_no_child_is_left_to_the_program_that_this_process_becomes() -> None:
    command = [sys.executable, "-c", ENDS_CHILDREN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent, timeout=60)
    assert done.stdout == "0\n"
