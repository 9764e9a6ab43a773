"""File descriptors: raises the limit to what the system allows, keeps one in reserve, and reports when none are left.

Running out of descriptors, or of memory for sockets, is no defect: it passes when something is closed. Decides nothing
about who may connect.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time

from bgpd.runtime.events import log

MOST = 65_536
"""The soft limit is raised up to this; more would cost memory in the kernel that nothing here needs."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_LOG_EVERY_S = 60.0
WARN_FOR_S = 60.0


def is_exhausted(error: BaseException | None) -> bool:
    """Whether an operation failed because there are no descriptors, or no memory for one, just now."""
    return isinstance(error, OSError) and error.errno in _EXHAUSTED


def raise_limit() -> int:
    """Raise the soft limit to the hard one, MOST at most; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """The soft limit as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


class Shortage:
    """How often descriptors ran out: counted, logged at most once a minute, and told for a minute after the last."""

    def __init__(self) -> None:
        self.count = 0
        self._last_at = self._logged_at = -WARN_FOR_S
        self._text = ""

    def note(self, error: BaseException) -> None:
        """They ran out."""
        now = time.monotonic()
        self.count += 1
        self._last_at = now
        self._text = f"out of file descriptors ({error}; the limit is {limit()}): new connections wait"
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            log.error("descriptors.exhausted", error=str(error), limit=limit(), count=self.count)

    @property
    def warning(self) -> str:
        """What to tell people, "" if it is over."""
        return self._text if time.monotonic() - self._last_at < WARN_FOR_S else ""


class Reserve:
    """One descriptor kept open from `fill` on, to be given up for a connection that has to be closed in order."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def fill(self) -> None:
        """Keep one again, if there is one."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return

    def shed(self, listener: socket.socket) -> bool:
        """Accept one waiting connection in the reserve's place and close it; whether there was one."""
        self.close()
        try:
            connection, _ = listener.accept()
            connection.close()
        except OSError:
            return False
        finally:
            self.fill()
        return True

    def close(self) -> None:
        """Keep none."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
