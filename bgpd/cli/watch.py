"""`--watch`: the same command again and again, on one screen, or one block after another where there is no terminal."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from bgpd.cli.client import CommandFailed, WrongUsage

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen of the terminal (xterm), no cursor, and no line goes on in the next one."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_MORE = "... more below: a larger terminal shows it, or a filter"


class _Full(Exception):
    """There is no room for what is written."""


class _Room(io.BytesIO):
    """Takes so many lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._left = lines

    def write(self, data: bytes) -> int:  # type: ignore[override]
        size = super().write(data)
        self._left -= bytes(data).count(b"\n")
        if self._left < 0:
            raise _Full
        return size


class _Page(io.TextIOWrapper):
    """Standard output for one look: as wide as the terminal, and no longer."""

    def isatty(self) -> bool:
        return True


def watch(look: Callable[[], int], *, every_s: float, title: str, is_data: bool) -> int:
    """Runs `look` until it is interrupted. `is_data`: what it writes is JSON, between which no other line may stand.

    Raises: CommandFailed: it failed the first time, or was not used as it should be. KeyboardInterrupt: the end.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return _blocks(look, every_s, is_data=is_data)
    lines = _seen(look)
    terminal = sys.stdout
    signal.signal(signal.SIGTSTP, _pause)
    try:
        terminal.write(_ENTER)
        while True:
            terminal.write(drawn(lines, f"{title}  every {every_s:g} s", shutil.get_terminal_size()))
            terminal.flush()
            time.sleep(every_s)
            try:
                lines = _seen(look)
            except WrongUsage:
                raise
            except CommandFailed as failure:
                lines = [f"bgpd: {line}" if not index else line for index, line in enumerate(str(failure).split("\n"))]
    finally:
        terminal.write(_LEAVE)
        terminal.flush()


def _blocks(look: Callable[[], int], every_s: float, *, is_data: bool) -> NoReturn:
    is_first = True
    while True:
        if not is_data:
            print(f"{'' if is_first else chr(10)}{time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
        try:
            look()
        except CommandFailed as failure:
            if is_first or isinstance(failure, WrongUsage):
                raise
            print(f"bgpd: {failure}", file=sys.stderr)
        sys.stdout.flush()
        is_first = False
        time.sleep(every_s)


def _seen(look: Callable[[], int]) -> list[str]:
    """What a look writes, as far as the terminal has room for it."""
    room = _Room(shutil.get_terminal_size().lines)
    terminal = sys.stdout
    page = _Page(room, encoding=terminal.encoding, errors=terminal.errors, write_through=True)
    sys.stdout = page
    try:
        look()
    except _Full:
        pass
    finally:
        sys.stdout = terminal
    return room.getvalue().decode(terminal.encoding, errors="replace").removesuffix("\n").split("\n")


def drawn(lines: list[str], title: str, size: os.terminal_size) -> str:
    """The screen, from its first row on: each row is written over, so that nothing flickers, and the rest erased."""
    clock = time.strftime("%H:%M:%S")
    head = f"{title[: max(0, size.columns - len(clock) - 2)]}  {clock}"
    rows = [head[: size.columns], "", *_wrapped(lines, size.columns)]
    if len(rows) > size.lines:
        rows[size.lines - 1 :] = [_MORE[: size.columns]]
    return _HOME + "\n".join(f"{row}{_END_OF_LINE}" for row in rows) + _BELOW


def _wrapped(lines: list[str], columns: int) -> Iterator[str]:
    """Lines that are too long go on in the next row; those with colours are never too long."""
    for line in lines:
        if _STYLE.search(line) or len(line) <= columns:
            yield line
        else:
            yield from (line[start : start + columns] for start in range(0, len(line), columns))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _pause(number: int, frame: FrameType | None) -> None:
    """Ctrl-Z: the shell gets its screen back, and takes it away again."""
    os.write(1, _LEAVE.encode())
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(1, _ENTER.encode())
