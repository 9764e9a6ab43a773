"""A program on a terminal of its own: keys go in, and what it writes is waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence

PATIENCE_S = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07|[\x00\x07\x0f]")


class Terminal:
    """`seen` is all that was written so far, `text` the same without control sequences."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    @property
    def text(self) -> str:
        return _CONTROL.sub("", self.seen)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def forget(self) -> None:
        """What was written so far is not looked at again."""
        self.seen = ""

    def wait_for(self, wanted: str, *, raw: bool = False) -> str:
        """What was written until this was. With `raw` control sequences count."""
        end = time.monotonic() + PATIENCE_S
        while wanted not in (self.seen if raw else self.text):
            assert time.monotonic() < end, f"{wanted!r} is not in {self.seen!r}"
            self._read(0.2)
        return self.text

    def wait_for_end(self) -> int:
        """Its exit code."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.seen!r}"
            self._read(0.2)
        self._read(0.0)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other side has ended
                return
            if not data:
                return
            self.seen += data.decode(errors="replace")
            seconds = 0.0


@contextlib.contextmanager
def on_terminal(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    columns: int = 80,
    rows: int = 24,
    stdout: int | None = None,
) -> Iterator[Terminal]:
    """A program as a shell would start it in a terminal; with `stdout` only standard input and error are that."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        env={**inherited, "TERM": "xterm", **(environment or {})},
        preexec_fn=take_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
