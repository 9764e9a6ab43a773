"""What commands write to: standard output and standard error, which may be closed, full, or read by nobody any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def stand_in_for_closed_output() -> bool:
    """Whether standard output is closed. It and standard error, if closed, lead nowhere from now on: a file that is
    opened later would take their place.
    """
    is_closed = sys.stdout is None
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    return is_closed


def write_what_fits() -> None:
    """What the encoding of a terminal or a locale does not have becomes "?"; it ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def tell(text: str) -> None:
    """Say what is wrong, if anybody reads it."""
    with contextlib.suppress(OSError):
        print(f"bgpd: {text}", file=sys.stderr)


def end_output() -> bool:
    """Write what waits to be written; whether that could be done. Else Python would try again as it ends, and print
    what came of it."""
    is_written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            drop(stream, error)
            is_written = False
    return is_written


def drop(stream: TextIO, error: OSError) -> None:
    """What is written there from now on leads nowhere; why is told, but for a reader that has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if not isinstance(error, BrokenPipeError):
        tell(f"the output cannot be written: {error.strerror}")
