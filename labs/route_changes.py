"""When each router of a laboratory changed its kernel's routes last: whose time an outage was."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from labs.namespace import Namespace
from labs.process import LoggedProcess

CHANGE = re.compile(r"^\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)\]", re.MULTILINE)


class RouteChanges:
    """Follows the routes and nexthop objects of some namespaces from now on."""

    def __init__(self, namespaces: Iterable[Namespace], directory: Path) -> None:
        command = ("ip", "-ts", "monitor", "route", "nexthop")
        self._monitors: dict[str, LoggedProcess] = {
            namespace.label: namespace.popen(*command, log_path=directory / f"routes-{namespace.label}.log")
            for namespace in namespaces
        }

    def stop(self, since: datetime) -> dict[str, float]:
        """The last change of each namespace in ms after `since`; those that had none are left out."""
        for monitor in self._monitors.values():
            monitor.stop(signal.SIGTERM)
        found = {}
        for label, monitor in self._monitors.items():
            last = last_change(monitor.log_path.read_text(errors="replace"))
            if last is not None and last >= since:
                found[label] = (last - since).total_seconds() * 1000
        return found


def last_change(output: str) -> datetime | None:
    """The time of the last event that `ip -ts monitor` printed."""
    stamps = CHANGE.findall(output)
    return max(map(datetime.fromisoformat, stamps)) if stamps else None


def in_words(changes: dict[str, float]) -> str:
    """The earliest first: "kernel routes settled: host1 12 ms, spine 1013 ms"."""
    if not changes:
        return "no kernel route changed"
    times = sorted(changes.items(), key=lambda one: one[1])
    return "kernel routes settled: " + ", ".join(f"{label} {ms:.0f} ms" for label, ms in times)
