"""A network namespace of the test's own, without a name: it is gone with the test."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from labs.namespace import CLONE_NEWNET


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a new network namespace that nobody else sees; its loopback is up.

    Raises: OSError: it may not be made.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        ip("link set lo up")
        yield
    finally:
        if libc.setns(home, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(home)


def ip(command: str) -> str:
    """What `ip` says, in the namespace of this thread."""
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def ip_batch(*lines: str) -> None:
    """Commands of `ip`, by one process."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines).encode(), check=True)
