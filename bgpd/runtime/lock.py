"""A lock, so that only one bgpd runs per network namespace and protocol number: two would delete each other's routes.

The lock is flock(2) on a file in the runtime directory, named by the namespace's inode and the protocol number. The
kernel releases it when the process ends, however it ends. Only root and the daemon's user may open the file, so that
nobody else can take the lock; the service's user and root use the same file. A new daemon waits for one that is ending.

Where that directory is missing or another user's, and the daemon may not change that, the lock is beside its API
socket: then a daemon of another user is not seen, and a warning says so. Two mount namespaces that share a network
namespace (containers in the host's network) must share the runtime directory too. Decides nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from pathlib import Path

from bgpd.runtime.events import log

DIRECTORY = Path("/run/bgpd")
"""The unit's RuntimeDirectory. Not a setting: two daemons that disagree about it would not see each other."""

PATIENCE_S = 5.0
"""How long a daemon that is ending may take: it writes what is queued for the kernel."""

_PAUSE_S = 0.05
_REMEDY = "make {} a directory of the user that runs bgpd, mode 0755, or start bgpd by its unit, which does so"
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class AnotherRuns(Exception):
    """Another bgpd has these routes; the text says which process, and what to do."""


class LockUnusable(Exception):
    """The lock's file cannot be used, or others could take the lock; the text says why, and what to do."""


class NamespaceLock:
    """The lock for routes of `protocol` in this process's network namespace.

    It is in `directory`, else in the directory `otherwise`, if there is one.
    """

    def __init__(self, protocol: int, directory: Path = DIRECTORY, *, otherwise: Path | None = None) -> None:
        self._protocol = protocol
        self._directory = directory
        self._otherwise = otherwise
        self._descriptor: int | None = None

    async def acquire(self, patience_s: float = PATIENCE_S) -> None:
        """Have the lock until `release`, or the end of the process.

        Raises:
            AnotherRuns: another bgpd has it, and did not end in time.
            LockUnusable: the directory or the file cannot be used.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        is_told = False
        while not self._take():
            if not is_told:
                is_told = True
                log.info("bgpd.waiting_for_another", pid=self._holder())
            if loop.time() >= end:
                raise AnotherRuns(self._advice(self._holder()))
            await asyncio.sleep(_PAUSE_S)

    def release(self) -> None:
        """Give the lock up."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path().unlink()  # while it is held: who waits for it sees that the file is another one
            os.close(self._descriptor)
            self._descriptor = None

    def _path(self) -> Path:
        return self._directory / f"routes-{os.stat('/proc/self/ns/net').st_ino}-{self._protocol}.lock"

    def _take(self) -> bool:
        descriptor = self._open()
        if descriptor is None:
            return False
        path = self._path()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_same(descriptor, path):  # its last holder has removed it
                os.close(descriptor)
                return False
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def _open(self) -> int | None:
        try:
            return _open(self._path())
        except LockUnusable as error:
            if self._otherwise is None or self._otherwise == self._directory:
                raise
            self._directory, wanted = self._otherwise, self._directory
            try:
                descriptor = _open(self._path())
            except LockUnusable:
                raise error from None  # what it says is the thing to mend
            log.warning(
                "bgpd.lock_fallback_directory", wanted=str(wanted), used=str(self._directory), reason=str(error)
            )
            return descriptor

    def _holder(self) -> int:
        """The process that has the lock; 0 if it has not said so yet."""
        try:
            return int(self._path().read_text())
        except (OSError, ValueError):
            return 0

    def _advice(self, pid: int) -> str:
        which = f"process {pid}" if pid else "its process is not known"
        return (
            f"another bgpd ({which}) keeps routes of protocol {self._protocol} in this network namespace: "
            "stop it first; if both are meant to run, give this one another fib.protocol and fib.metric"
        )


def _open(path: Path) -> int | None:
    """Descriptor of the lock's file, made where it is missing; None if its holder is just removing it.

    Raises: LockUnusable: not possible, or other users could open it.
    """
    try:
        directory = _checked_directory(path.parent)
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            descriptor = os.open(path, _FLAGS)
        else:
            if os.geteuid() == 0:
                os.fchown(descriptor, directory.st_uid, directory.st_gid)  # the service must be able to open it too
            return descriptor
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockUnusable(f"cannot open the lock {path}: {error.strerror}: {_REMEDY.format(path.parent)}") from error
    found = os.fstat(descriptor)
    owners = (0, os.geteuid(), directory.st_uid)
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in owners:
        os.close(descriptor)
        raise LockUnusable(f"the lock {path} is not a file of mode 0600, so that other users could take it: remove it")
    return descriptor


def _checked_directory(directory: Path) -> os.stat_result:
    """Makes the directory where it is missing, and looks at whose it is.

    Raises:
        OSError: it cannot be made or looked at.
        LockUnusable: others may write there.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o755, parents=True)
    found = directory.lstat()
    mine = os.geteuid() == 0 or found.st_uid in (0, os.geteuid())
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or not mine:
        whose = f"owner {found.st_uid}, mode {found.st_mode & 0o7777:04o}"
        raise LockUnusable(f"other users could take the lock in {directory} ({whose}): {_REMEDY.format(directory)}")
    return found


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
