"""Logging: structlog set up for the journal or a terminal, and a ring of recent events.

Records are a fixed event name and fields. It decides only what is written and kept, never what happens.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bgpd.config.schema import LogConfig
from bgpd.model.views import EventView

KEPT_EVENTS = 1_000
LIBRARY_LINES = 5
LIBRARY_PERIOD_S = 60.0
_LIBRARY_KINDS = 500

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


def set_up_logging(config: LogConfig, events: EventRing | None = None, stream: TextIO | None = None) -> None:
    """Configures structlog for the whole process; may be called again, on reload.

    Under systemd (JOURNAL_STREAM) each line begins with its priority as <N> (sd-daemon(3)) and has no time of its own.
    """
    stream = stream or sys.stderr
    journal = bool(os.environ.get("JOURNAL_STREAM")) and not stream.isatty()
    level = _LEVELS[config.level]
    processors: list[Processor] = [structlog.processors.TimeStamper(fmt=None), structlog.processors.add_log_level]
    if events is not None:
        processors += [events, _only_from(level)]
    if config.format == "console":
        processors += [
            _readable_time,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=_plain)]
        if journal:
            processors += [_with_priority]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level if events is None else min(level, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(_LIBRARY_LOGS)


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
