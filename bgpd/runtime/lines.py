"""Lines for whoever reads a stream, if anybody does: a reader that stops costs lines, and no time of the process.

A pipe that nobody empties (a container's engine that hangs, a pager) and a terminal that is stopped (Ctrl-S) would hold
up a write for ever, and neighbors with it. Knows nothing of what is in the lines.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes ten times as long to load as this module
    from typing import TextIO


class Lines:
    """The lines of one stream. `lost` counts those that it did not take since the last one that it took."""

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._stream = stream
        self._descriptor = _descriptor_that_may_block(stream)
        self._poll = select.poll()
        self._is_cut = False
        if self._descriptor is not None and os.isatty(self._descriptor):
            own = _of_its_own(self._descriptor)
            if own is not None:
                self._descriptor = own
                weakref.finalize(self, os.close, own)
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, line: str) -> bool:
        """Whether the stream has taken it, or never will take any: a full disk, or a reader that has gone, is no reason
        to end."""
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._stream.write(f"{line}\n")
                self._stream.flush()
            return True
        before = b"\n" if self._is_cut else b""
        with contextlib.suppress(OSError):
            if not self._write_now(self._descriptor, before + line.encode(errors="backslashreplace") + b"\n"):
                self.lost += 1
                return False
        self._is_cut, self.lost = False, 0
        return True

    def _write_now(self, descriptor: int, data: bytes) -> bool:
        """Whether all of it was taken at once. What is ready takes PIPE_BUF bytes without a wait (pipe(7)), but for
        terminals."""
        written = 0
        while written < len(data):
            try:
                if not self._poll.poll(0):
                    raise BlockingIOError
                written += os.write(descriptor, data[written : written + select.PIPE_BUF])
            except BlockingIOError:
                self._is_cut |= written > 0
                return False
        return True


def _descriptor_that_may_block(stream: TextIO) -> int | None:
    """That of a pipe, a terminal or a socket; None for files, and for what is none."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode) else None


def _of_its_own(terminal: int) -> int | None:
    """A terminal that never blocks, for this process alone: others share what was opened before."""
    with contextlib.suppress(OSError):
        return os.open(f"/proc/self/fd/{terminal}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return None
