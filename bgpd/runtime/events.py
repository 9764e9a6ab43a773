"""Where the parts of the daemon tell what happens: a fixed event name, and fields.

`bgpd/log.py` decides who writes it, and from which level on; before that it goes to standard error. Any thread may tell
something. It is no logging library: those bring along what renders colors and tracebacks, for 6 MB of memory
(docs/decisions/0045).
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""As in Python's own logging."""
NOTHING = 100
"""A level above all others."""


class Event(NamedTuple):
    """What happened: `at` a time (seconds since the epoch), while `exception` was handled."""

    level: str
    name: str
    fields: dict[str, Any]
    at: float
    exception: BaseException | None = None

    def traceback(self) -> str:
        """That of its exception, without a line end; "" if it has none."""
        return "".join(traceback.format_exception(self.exception)).rstrip("\n") if self.exception is not None else ""


class Log:
    """Passes on what is told to one writer, unless it is below the least level. `exc_info` is an exception."""

    def __init__(self) -> None:
        self.writer: Callable[[Event], None] = to_standard_error
        self.least = 0

    def debug(self, event: str, /, **fields: Any) -> None:
        """Of interest to developers only; no operator event."""
        self.tell("debug", event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """What an operator may want to know of later."""
        self.tell("info", event, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something is not as it should be, and it goes on."""
        self.tell("warning", event, **fields)

    def error(self, event: str, /, *, exc_info: Any = None, **fields: Any) -> None:
        """Something was not done."""
        self.tell("error", event, exc_info, **fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error, with the exception that is being handled."""
        self.tell("error", event, sys.exc_info()[1], **fields)

    def tell(self, level: str, event: str, exception: BaseException | None = None, /, **fields: Any) -> None:
        """An event of a level whose name is in `LEVELS`."""
        if LEVELS[level] >= self.least:
            self.writer(Event(level, event, fields, time.time(), exception))


def to_standard_error(event: Event) -> None:
    """A line for a person, as long as nobody has set up anything else."""
    line = " ".join([f"[{event.level}]", event.name, *(f"{name}={value!r}" for name, value in event.fields.items())])
    print("\n".join(filter(None, (line, event.traceback()))), file=sys.stderr, flush=True)


log = Log()
"""The one of this process."""
