"""The line between a defect that costs one neighbor's session and one that ends the daemon (docs/decisions/0009).

An unexpected exception while one neighbor's bytes are processed ends that session: all state of a neighbor is stored
under its source and removed by source, even if half done. Changes of state that is not stored by source (kernel tables,
uplinks, workloads, aggregates) are marked here: an exception in them leaves that state unknown and ends the daemon,
which recovers from the kernel's routes at its next start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class SharedStateBroken(Exception):
    """A change of shared state was not completed; the cause is the exception that it raised."""


def changes_shared_state(change: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a change that must be completed: what it raises becomes SharedStateBroken."""

    @functools.wraps(change)
    def completed(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return change(*args, **kwargs)
        except SharedStateBroken:
            raise
        except Exception as error:
            raise SharedStateBroken(f"{change.__qualname__}: {error!r}") from error

    return completed
