"""Logging: structlog set up for journald or a terminal, and a ring of recent events.

Records are a fixed event name and fields. It decides only what is written and kept, never what happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bgpd.config.schema import LogConfig
from bgpd.model.views.host import EventView

JOURNALD_SOCKET = "/run/systemd/journal/socket"
KEPT_EVENTS = 1_000
LIBRARY_LINES = 5
LIBRARY_PERIOD_S = 60.0
_LIBRARY_KINDS = 500
_FIELD_NAME = 64
_FIELD_VALUE = 4_096

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_OWN_FIELDS = ("event", "level", "timestamp", "exc_info", "exception", "stack_info")


class EventRing:
    """The last operator events, numbered; a structlog processor that keeps what is of level info or above.

    Any thread may log, and read.
    """

    def __init__(self, size: int = KEPT_EVENTS) -> None:
        self._events: deque[EventView] = deque(maxlen=size)
        self._sequence = 0
        self._numbering = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def __call__(self, logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
        if method != "debug":
            fields = {name: _plain(value) for name, value in record.items() if name not in _OWN_FIELDS}
            at = float(record.get("timestamp", 0.0))
            event = str(record.get("event", ""))
            with self._numbering:
                number = self._sequence + 1
                self._events.append(EventView(sequence=number, at=at, level=method, event=event, fields=fields))
                self._sequence = number
            for listener in self._listeners:
                listener()
        return record

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
    """What libraries (aiohttp, asyncio, paho) say by Python's own logging, as records like all others.

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
            fields = {
                "library": record.name,
                "message": record.getMessage()[:2000],
                "exc_info": record.exc_info,
                **more,
            }
            structlog.get_logger().log(record.levelno, "library.message", **fields)


_LIBRARY_LOGS = LibraryLogs(logging.WARNING)


class Journald:
    """A structlog logger that sends each record to journald with its fields (systemd.io "Native Journal Protocol").

    It never waits: what journald does not take is counted, and told with the next record; where it cannot be reached at
    all, or a record is too long for a datagram, the line goes to the stream, as without it.
    """

    def __init__(self, stream: TextIO, path: str) -> None:
        self._stream = stream
        self._path = path
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def msg(self, line: str, *, priority: int, fields: Mapping[str, str]) -> None:
        """Send a record whose text is `line`."""
        given = {"MESSAGE": line, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "bgpd", **fields}
        if self._lost:
            given["BGPD_NOT_WRITTEN"] = str(self._lost)
        try:
            self._socket.sendto(b"".join(_journald_field(*field) for field in given.items()), self._path)
            self._lost = 0
        except BlockingIOError:
            self._lost += 1
        except OSError:
            self._stream.write(f"<{priority}>{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = log = msg


def _journald_field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)


def _for_journald(logger: WrappedLogger, method: str, record: EventDict, *, render: Processor) -> Any:
    """The record as `Journald.msg` takes it: fields are BGPD_EVENT, BGPD_NEIGHBOR and so on."""
    fields = {}
    for name, value in record.items():
        if name not in _OWN_FIELDS or name == "event":
            key = re.sub(r"[^A-Z0-9_]", "_", f"BGPD_{name.upper()}")[:_FIELD_NAME]
            fields[key] = str(_plain(value))[:_FIELD_VALUE]
    line = render(logger, method, record)
    return (str(line),), {"priority": _PRIORITIES.get(method, 6), "fields": fields}


def _is_journald(stream: TextIO, told: str) -> bool:
    """Whether the stream is the one that systemd connected with journald, and told in JOURNAL_STREAM as "device:inode"
    (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def set_up_logging(config: LogConfig, events: EventRing | None = None, stream: TextIO | None = None) -> None:
    """Configures structlog for the whole process; may be called again, on reload.

    Under systemd journald gets each record with its fields. Where only JOURNAL_STREAM says so, but the stream is
    another or journald has no socket, each line begins with its priority as <N> (sd-daemon(3)).
    """
    stream = stream or sys.stderr
    told = os.environ.get("JOURNAL_STREAM", "")
    journal = bool(told) and not stream.isatty()
    native = journal and _is_journald(stream, told) and os.path.exists(JOURNALD_SOCKET)
    level = _LEVELS[config.level]
    processors: list[Processor] = [structlog.processors.TimeStamper(fmt=None), structlog.processors.add_log_level]
    if events is not None:
        processors += [events, _only_from(level)]
    render: Processor
    if config.format == "console":
        colors, plain = stream.isatty(), structlog.dev.plain_traceback
        processors += [_readable_time]
        render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    else:
        processors += [structlog.processors.format_exc_info]
        render = structlog.processors.JSONRenderer(default=_plain)
    if native:
        processors += [partial(_for_journald, render=render)]
    else:
        processors += [render, *([_with_priority] if journal and config.format != "console" else ())]
    journald = Journald(stream, JOURNALD_SOCKET) if native else None
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level if events is None else min(level, logging.INFO)),
        logger_factory=(lambda *_: journald) if journald is not None else structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(_LIBRARY_LOGS)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log meanwhile: standard output is for the answer of a command."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2, "exception": 3}
"""syslog(3) levels."""


def _only_from(level: int) -> Processor:
    """Writes what is of this level or above. Events are kept whatever the log says."""

    def processor(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
        if _LEVELS.get(method, logging.ERROR) < level:
            raise structlog.DropEvent
        return record

    return processor


def _with_priority(logger: WrappedLogger, method: str, line: Any) -> str:
    return f"<{_PRIORITIES.get(method, 6)}>{line}"


def _readable_time(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    return structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False)(logger, method, record)


def _plain(value: object) -> Any:
    """A value that JSON and a view can hold."""
    if value is None or isinstance(value, int | float | bool):
        return value
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()  # file names may be no UTF-8
