"""Files that are on the disk once it is said that they are: written, then synchronised, with their directory. And files
of people, which a full disk must not cost.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def reason_of(error: Exception) -> str:
    """What went wrong, for people: without the number and the path of an OSError."""
    return getattr(error, "strerror", None) or str(error)


def write_synced(path: Path, body: bytes, flag: int) -> None:
    """Write with `flag` (O_APPEND or O_TRUNC); blocks for the disk. Raises: OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o640)
    with open(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """What was created, renamed or deleted in a directory is on the disk; blocks for it. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, body: bytes) -> None:
    """Give a file other contents, whole or not at all; makes its directory. Raises: OSError."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, body, os.O_TRUNC)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_over(path: Path, body: bytes) -> None:
    """Give a person's file other contents, whole or not at all; one that is there keeps its mode and owner. A link is
    followed, a device or a pipe is written itself. Raises: OSError.
    """
    path = Path(os.path.realpath(path))
    try:
        found = os.stat(path)
    except FileNotFoundError:
        write_new(path, body)
        return
    if not stat.S_ISREG(found.st_mode):
        path.write_bytes(body)
        return
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, body, mode=stat.S_IMODE(found.st_mode))
    try:
        with contextlib.suppress(PermissionError):  # only root gives files away
            os.chown(temporary, found.st_uid, found.st_gid)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, body: bytes, *, mode: int | None = None) -> None:
    """Write a file that is not there yet; none is left if it cannot be written. `mode`: that of the umask otherwise.

    Raises: FileExistsError, OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(body)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
