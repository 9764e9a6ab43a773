"""Runs an operator's programs (health checks) without the daemon's rights, and ends all that they started.

A program gets no capability, none that it could inherit, no new privileges, a minimal environment, a session of its own
and limits. Capabilities belong to threads: one thread gives all of its own up and starts the programs, so that neither
a fork of the whole daemon nor another program in between is needed.

When a program has ended, or took too long, its process group is killed. What left the group (setsid) comes back to the
daemon as a child, since it is a subreaper (prctl(2)), and is killed too. The variable `MARKER` in its environment tells
whose it is while other programs run; what has removed the variable belongs to none that may go on.

All child processes of the daemon are started here. What a result means, the caller decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MARKER = "BGPD_PROGRAM"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
MOST_PROCESSES = 256
"""Of the daemon's user, threads too; a program beyond it cannot fork. The unit's TasksMax leaves room above it."""
CPU_S = 60
"""Processor time of one process; its caller's patience ends it sooner."""

_KILL_ROUNDS = 100
_KILL_PAUSE_S = 0.01

_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 36, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64


class ProgramRefused(Exception):
    """The program is not run; the text says why, and what to do."""


class Programs:
    """The programs of one directory, "" for none; only their names are chosen from outside."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._launcher = ThreadPoolExecutor(1, thread_name_prefix="programs")
        self._dropped = threading.local()
        self._running: set[str] = set()
        self._serial = 0
        self._since = 0

    async def run(self, name: str, arguments: Sequence[str]) -> int:
        """Exit code of a program, negative for a signal. A caller that is cancelled leaves nothing running.

        Raises:
            ProgramRefused: others than root and the daemon's user could change it.
            OSError: it cannot be run.
        """
        if not self._directory:
            raise ProgramRefused("no command directory is configured")
        path = checked_program(Path(self._directory) / name)
        if not self._since:
            _become_subreaper()
            self._since = _ticks_now()
        self._serial += 1
        marker = f"{os.getpid()}.{self._serial}"
        self._running.add(marker)
        process: subprocess.Popen[bytes] | None = None
        try:
            process = await self._start([str(path), *arguments], marker)
            await _until_ended(process)
        finally:
            if process is not None:
                await self._end(process)
            self._running.discard(marker)
            await self._end_strays()
        return process.returncode

    async def _start(self, command: Sequence[str], marker: str) -> subprocess.Popen[bytes]:
        launch = asyncio.get_running_loop().run_in_executor(self._launcher, self._launch, command, marker)
        try:
            return await asyncio.shield(launch)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await self._end(await launch)
            raise

    def _launch(self, command: Sequence[str], marker: str) -> subprocess.Popen[bytes]:
        """In the launcher's thread."""
        if not getattr(self._dropped, "done", False):
            _drop_rights()
            self._dropped.done = True
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**ENVIRONMENT, MARKER: marker},
            cwd="/",
            start_new_session=True,
        )
        with contextlib.suppress(OSError):  # it has ended
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (CPU_S, CPU_S))
            resource.prlimit(process.pid, resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
        return process

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kills the process group, while its leader still holds the number, and takes the leader's status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_ROUNDS * _KILL_PAUSE_S):
                await _until_ended(process)
        process.poll()

    async def _end_strays(self) -> None:
        """Kills what left its process group and belongs to no running program; its children come to us when it dies."""
        loop = asyncio.get_running_loop()
        for _ in range(_KILL_ROUNDS):
            # In the launcher's thread: there no program is just being started, with the daemon's own environment yet.
            if not await loop.run_in_executor(self._launcher, self._kill_strays):
                return
            await asyncio.sleep(_KILL_PAUSE_S)

    def _kill_strays(self) -> bool:
        """Whether there was one."""
        found = False
        with _starting:
            children = set(_children()) - _own
        for pid in children:
            marker = _marker(pid)
            if _started(pid) < self._since or marker in self._running:
                continue
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            found = True
        return found


_own: set[int] = set()
"""Processes of bgpd's own among the children, which no operator's program has left."""
_starting = threading.Lock()
"""Held while one is being started: it is a child before it is known."""


async def output_of(command: Sequence[str], *, timeout_s: float, niceness: int = 0) -> tuple[int, str]:
    """Runs a program of bgpd's own, with bgpd's environment and rights: its exit code, and what it said.
    `niceness`: how far it steps back behind other processes.

    Raises:
        OSError: it cannot be run.
        TimeoutError: it took too long, and was killed.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(_start_own, command, niceness))
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end_own(await starting)
        raise
    try:
        output, _ = await asyncio.to_thread(process.communicate, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        await _end_own(process)
    return process.returncode, output


async def _end_own(process: subprocess.Popen[str]) -> None:
    """Kills it, unless it has ended. One that hangs in the kernel, for a disk perhaps, holds nobody but its caller."""
    if process.poll() is None:
        process.kill()
        await asyncio.shield(asyncio.to_thread(process.wait))
    _own.discard(process.pid)


def fork_own() -> int:
    """A copy of this process, one of bgpd's own until `reap_own`: its process id, 0 in the copy. Raises: OSError."""
    with _starting:
        child = os.fork()
        if child:
            _own.add(child)
    return child


def reap_own(child: int) -> None:
    """Waits for the end of a copy."""
    with contextlib.suppress(ChildProcessError):  # somebody who waits for all children has
        os.waitpid(child, 0)
    _own.discard(child)


async def said_by(command: Sequence[str], *, timeout_s: float, most: int) -> tuple[int, str]:
    """Runs a program of the system without the daemon's rights: its exit code, and at most so many bytes of what it
    printed. It and all that is left of its process group are killed then.

    Raises:
        OSError: it cannot be run.
        TimeoutError: it took too long, and was killed.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_listener, _listen, command, timeout_s, most)


def _listen(command: Sequence[str], timeout_s: float, most: int) -> tuple[int, str]:
    """In a thread of its own, which gives up its rights."""
    deadline = time.monotonic() + timeout_s
    if not getattr(_unprivileged, "done", False):
        _drop_rights()
        _unprivileged.done = True
    with _starting:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        _own.add(process.pid)
    try:
        assert process.stdout is not None
        with process.stdout:
            said = _read(process.stdout.fileno(), most, deadline)
        return process.wait(max(deadline - time.monotonic(), 0.0)), said.decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _own.discard(process.pid)


def _read(descriptor: int, most: int, deadline: float) -> bytes:
    """What is written until the other side closes, or so many bytes of it. Raises: TimeoutError."""
    said = b""
    while len(said) < most:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            raise TimeoutError
        part = os.read(descriptor, min(1 << 16, most - len(said)))
        if not part:
            break
        said += part
    return said


_listener = ThreadPoolExecutor(1, thread_name_prefix="listener")
_unprivileged = threading.local()


def _start_own(command: Sequence[str], niceness: int) -> subprocess.Popen[str]:
    with _starting:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        _own.add(process.pid)
    if niceness:
        with contextlib.suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
    return process


def end_children() -> None:
    """Kills all child processes, those that come to us when they die too: this process becomes another program."""
    for _ in range(_KILL_ROUNDS):
        children = _children()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def is_program(path: Path) -> bool:
    """Whether there is a file that this process may execute; a directory may be searched, which is another thing."""
    return path.is_file() and os.access(path, os.X_OK)


def checked_program(path: Path) -> Path:
    """The program itself, with links resolved.

    Raises:
        ProgramRefused: others can write it, its directory, or replace a directory that leads there.
        OSError: there is no such file, or links lead to each other.
    """
    path = path.absolute()
    try:
        real = path.resolve(strict=True)
    except RuntimeError as error:  # links that lead to each other
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    trusted = {0, os.geteuid()}
    for end in dict.fromkeys((path, real)):
        for step in (end, *end.parents):
            found = step.lstat()
            others_write = not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022
            shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and step not in (end, end.parent)
            if found.st_uid not in trusted or (others_write and not shared):
                raise ProgramRefused(
                    f"{step} can be written by others (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}): "
                    "chown it to root, chmod go-w"
                )
    return real


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _until_ended(process: subprocess.Popen[bytes]) -> None:
    """Until the process is a zombie; its status is not taken yet, so that its number stays its own."""
    if process.returncode is not None:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


# Rights: of the calling thread.


def _drop_rights() -> None:
    """Gives up all capabilities, for ever and for all programs that this thread starts.

    Raises: OSError: the kernel refused.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_CAPABILITIES):
        with contextlib.suppress(OSError):  # needs CAP_SETPCAP; without new privileges the rest is enough
            _prctl(_PR_CAPBSET_DROP, capability)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc().capset(header, bytes(24)), "capset")


def _become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    words = [ctypes.c_ulong(word) for word in (argument, 0, 0, 0)]
    _check(_libc().prctl(ctypes.c_int(option), *words), "prctl")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot give up capabilities ({call}): {os.strerror(number)}")


# Processes: what /proc says.


def _children() -> list[int]:
    """All children of this process, of whichever thread; none where the kernel does not say."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, path.read_text().split())
    return found


def _marker(pid: int) -> str:
    """The marker in a process's environment; "" without one."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    start = f"{MARKER}=".encode()
    return next((one.removeprefix(start).decode() for one in variables if one.startswith(start)), "")


def _started(pid: int) -> int:
    """When a process was started, in clock ticks since boot (proc(5), field 22 of stat); 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[19])


def _ticks_now() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) - 1
