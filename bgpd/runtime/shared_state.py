"""The line between a defect that costs one neighbor's session and one that ends the daemon (docs/decisions/0009).

An exception that nobody expected, while one neighbor's bytes are worked off, costs that session: all that a neighbor
says is filed under its source, and is removed by source, whatever was half done. A change of state that is not filed so
(kernel tables, uplinks, workloads, aggregates) is marked here: what it raises leaves that state unknown, and ends the
daemon, which finds its way from the kernel's routes when it starts again.
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
