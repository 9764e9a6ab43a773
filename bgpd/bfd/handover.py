"""The BFD process becomes its next version without a session noticing: it executes itself, and keeps its sockets.

What the sessions are goes through memory that only the two have (memfd_create), in Python's own binary form, which
needs no library; the sockets stay open. Clock and process are the same before and after, and packets that come
meanwhile wait in the sockets; detection times are seconds for as long (Sessions.slow_down). What cannot be read is as
if nothing had been handed over.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import sys
from collections.abc import Iterable

from bgpd.bfd.live import Saved

FORMAT = 1
"""Of what is carried: another one is not read."""
OPTION = "--resume"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STANDARD_ERROR = 2


def execute(sessions: list[Saved], descriptors: Iterable[int], *, listener: int) -> None:
    """Become the program as it is installed now, which finds the sessions by `read`.

    It is given the listening socket beside them, so that it has that also where it cannot read them. SIGNALS, which the
    caller has blocked, wait until it takes them.

    Raises: OSError: the program is not there.
    """
    memory = os.memfd_create("bgpd-bfd", os.MFD_CLOEXEC)
    kept = [memory, listener, *descriptors]
    try:
        data = marshal.dumps((FORMAT, sessions))
        while data:
            data = data[os.write(memory, data) :]
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        command = sys.orig_argv
        if OPTION in command:
            command = command[: command.index(OPTION)]
        os.execv(sys.executable, [*command, OPTION, str(memory), str(listener)])
    finally:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        os.close(memory)


def read(descriptor: int) -> list[Saved]:
    """What the former program handed over.

    Raises: ValueError: it is nothing that can be read. OSError: there is nothing.
    """
    with open(descriptor, "rb") as memory:
        memory.seek(0)
        try:
            found = marshal.load(memory)  # noqa: S302
        except (EOFError, TypeError) as error:
            raise ValueError(f"nothing that can be read was handed over: {error}") from error
    if not isinstance(found, tuple) or len(found) != 2 or found[0] != FORMAT or not isinstance(found[1], list):
        raise ValueError("what was handed over has another form")
    sessions: list[Saved] = found[1]
    return sessions


def close_left_over() -> None:
    """Close what the former program left open and nobody has adopted: a socket would keep its port from its session."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > _STANDARD_ERROR and os.get_inheritable(int(name)):
                os.close(int(name))
