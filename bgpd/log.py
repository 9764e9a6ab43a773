"""Logging: events written for journald, a file or a terminal, and a ring of recent ones.

An event is a fixed name and fields (`bgpd/runtime/events.py`). It decides only what is written and kept, never what
happens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

from bgpd.config.schema import LogConfig
from bgpd.model.views.host import EventView
from bgpd.runtime.events import LEVELS, NOTHING, Event, log
from bgpd.runtime.lines import Lines

JOURNALD_SOCKET = "/run/systemd/journal/socket"
KEPT_EVENTS = 1_000
LIBRARY_LINES = 5
LIBRARY_PERIOD_S = 60.0
_LIBRARY_KINDS = 500
_FIELD_NAME = 64
_FIELD_VALUE = 4_096

_Writer = Callable[[Event], None]
_Render = Callable[[Event], str]
"""Makes the text of an event: one line, and its traceback."""


class EventRing:
    """The last operator events, numbered: what is of level info or above.

    Any thread may log, and read.
    """

    def __init__(self, size: int = KEPT_EVENTS) -> None:
        self._events: deque[EventView] = deque(maxlen=size)
        self._sequence = 0
        self._numbering = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def keep(self, event: Event) -> None:
        """One more event."""
        level, name, fields, at, _ = event
        if level == "debug":
            return
        plain = {name: _plain(value) for name, value in fields.items()}
        with self._numbering:
            number = self._sequence + 1
            self._events.append(EventView(sequence=number, at=at, level=level, event=name, fields=plain))
            self._sequence = number
        for listener in self._listeners:
            listener()

    def since(self, sequence: int = 0) -> list[EventView]:
        """Kept events with a higher sequence number, oldest first."""
        if sequence >= self._sequence:
            return []
        with self._numbering:
            events = list(self._events)
        return [event for event in events if event.sequence > sequence]

    def go_on_from(self, sequence: int) -> None:
        """The next event has the number after this one, which an earlier run gave."""
        with self._numbering:
            self._sequence = max(self._sequence, sequence)

    @property
    def latest(self) -> int:
        """Sequence number of the latest event."""
        return self._sequence

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after each event, in the thread that logs; the result ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


class LibraryLogs(logging.Handler):
    """What libraries (asyncio, paho) say by Python's own logging, as events like all others.

    A library may say the same for each packet of a stranger: of one kind of message `LIBRARY_LINES` are written in
    `LIBRARY_PERIOD_S`, and the next period's first line tells how many were not.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's record as an event, unless there were too many of its kind."""
        kind = (record.name, str(record.msg)[:200])
        began, count = self._said.pop(kind, (record.created, 0))
        more: dict[str, int] = {}
        if record.created - began >= LIBRARY_PERIOD_S:
            more = {"not_written": count - LIBRARY_LINES} if count > LIBRARY_LINES else {}
            began, count = record.created, 0
        self._said[kind] = began, count + 1
        if len(self._said) > _LIBRARY_KINDS:
            del self._said[next(iter(self._said))]
        if count < LIBRARY_LINES:
            level = next(name for name in ("critical", "error", "warning") if record.levelno >= LEVELS[name])
            exception = record.exc_info[1] if record.exc_info else None
            text = record.getMessage()[:2000]
            log.tell(level, "library.message", exception, library=record.name, message=text, **more)


_LIBRARY_LOGS = LibraryLogs(logging.WARNING)


class Journald:
    """Sends each event to journald with its fields (systemd.io "Native Journal Protocol").

    It never waits: what journald does not take is counted, and told with the next record; where it cannot be reached at
    all, or a record is too long for a datagram, the line goes to the stream, as without it.
    """

    def __init__(self, stream: TextIO, path: str) -> None:
        self._lines = Lines(stream)
        self._path = path
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(self, event: Event, *, render: _Render) -> None:
        """Send an event whose text is what `render` makes of it; its fields are BGPD_EVENT, BGPD_NEIGHBOR and so on."""
        line, priority = render(event), _PRIORITIES[event.level]
        given = {"MESSAGE": line, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "bgpd"}
        for name, value in {**event.fields, "event": event.name}.items():
            key = re.sub(r"[^A-Z0-9_]", "_", f"BGPD_{name.upper()}")[:_FIELD_NAME]
            given[key] = str(_plain(value))[:_FIELD_VALUE]
        if self._lost:
            given["BGPD_NOT_WRITTEN"] = str(self._lost)
        try:
            self._socket.sendto(b"".join(_journald_field(*field) for field in given.items()), self._path)
            self._lost = 0
        except BlockingIOError:
            self._lost += 1
        except OSError:
            self._lines.write(f"<{priority}>{line}")


def _journald_field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)


def _is_journald(stream: TextIO, told: str) -> bool:
    """Whether the stream is the one that systemd connected with journald, and told in JOURNAL_STREAM as "device:inode"
    (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def set_up_logging(config: LogConfig, events: EventRing | None = None, stream: TextIO | None = None) -> None:
    """Sets up `log` for the whole process; may be called again, on reload.

    Under systemd journald gets each event with its fields. Where only JOURNAL_STREAM says so, but the stream is another
    or journald has no socket, each line begins with its priority as <N> (sd-daemon(3)).
    """
    stream = stream or sys.stderr
    told = os.environ.get("JOURNAL_STREAM", "")
    journal = bool(told) and not stream.isatty()
    is_console = config.format == "console"
    render: _Render = partial(_console_text, colors=stream.isatty()) if is_console else _json_text
    write: _Writer
    if journal and _is_journald(stream, told) and os.path.exists(JOURNALD_SOCKET):
        write = partial(Journald(stream, JOURNALD_SOCKET).write, render=render)
    else:
        write = partial(_write, lines=Lines(stream), render=render, with_priority=journal and not is_console)
    level = LEVELS[config.level]
    log.writer = write if events is None else partial(_keep_and_write, events=events, least=level, write=write)
    log.least = level if events is None else min(level, LEVELS["info"])
    logging.getLogger().addHandler(_LIBRARY_LOGS)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log meanwhile: standard output is for the answer of a command."""
    before = log.least
    log.least = NOTHING
    try:
        yield
    finally:
        log.least = before


def _keep_and_write(event: Event, *, events: EventRing, least: int, write: _Writer) -> None:
    """Events are kept whatever the log says; `least` is for what is written."""
    events.keep(event)
    if LEVELS[event.level] >= least:
        write(event)


def _write(event: Event, *, lines: Lines, render: _Render, with_priority: bool) -> None:
    """What was not written is told first: nobody had read it."""
    told = [Event("warning", "log.not_written", {"events": lines.lost}, event.at)] if lines.lost else []
    for one in (*told, event):
        text = render(one)
        if not lines.write(f"<{_PRIORITIES[one.level]}>{text}" if with_priority else text):
            return


def _json_text(event: Event) -> str:
    record = {**event.fields, "event": event.name, "timestamp": event.at, "level": event.level}
    if event.exception is not None:
        record["exception"] = event.traceback()
    return json.dumps(record, default=_plain)


_RESET, _BOLD, _DIM, _CYAN, _MAGENTA = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[35m"
_COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_GREEN = "\x1b[32m"
_TO_BE_QUOTED = re.compile(r'[\s="]')


def _console_text(event: Event, *, colors: bool) -> str:
    def styled(text: str, *styles: str) -> str:
        return f"{''.join(styles)}{text}{_RESET}" if colors else text

    at = f"{time.strftime('%H:%M:%S', time.localtime(event.at))}.{int(event.at % 1 * 1e6):06}"
    fields = sorted(event.fields.items())
    shown = [f"{styled(name, _CYAN)}={styled(_quoted(value), _MAGENTA)}" for name, value in fields]
    title = styled(f"{event.name:30}" if shown else event.name, _BOLD)
    label = styled(f"{event.level:9}", _COLORS.get(event.level, _GREEN), _BOLD)
    line = " ".join([styled(at, _DIM), f"[{label}]", title, *shown])
    return "\n".join(filter(None, (line, event.traceback())))


def _quoted(value: object) -> str:
    return value if isinstance(value, str) and not _TO_BE_QUOTED.search(value) else repr(value)


_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3) levels."""


def _plain(value: object) -> Any:
    """A value that JSON and a view can hold."""
    if value is None or isinstance(value, int | float | bool):
        return value
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()  # file names may be no UTF-8
