"""Files that are on the disk once it is said that they are: written, then synchronised, with their directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
