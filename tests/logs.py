"""What the code under test tells while a block runs, in place of lines on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bgpd.runtime.events import NOTHING, Event, log, to_standard_error


@contextlib.contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The events so far: fields, `event`, `log_level`, and `exc_info`, the exception, if there is one."""
    told: list[dict[str, Any]] = []

    def keep(event: Event) -> None:
        exception = {"exc_info": event.exception} if event.exception is not None else {}
        told.append({**event.fields, **exception, "event": event.name, "log_level": event.level})

    before = log.writer
    log.writer = keep
    try:
        yield told
    finally:
        log.writer = before


def log_plainly() -> None:
    """As before anything was set up: on standard error."""
    log.writer, log.least = to_standard_error, 0


def log_nothing() -> None:
    """Inputs that are refused by the thousand are no news."""
    log.least = NOTHING
