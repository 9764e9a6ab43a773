"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over some processes: user and system seconds so far, resident and peak resident megabytes (MiB)."""

    cpu_s: float
    resident_mb: float
    peak_mb: float


def with_descendants(pids: Iterable[int]) -> list[int]:
    """These processes and all below them."""
    found = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                waiting += map(int, task.read_text().split())
    return found


def ran_s(pids: Iterable[int]) -> float:
    """Seconds that the threads which live now have run, to the nanosecond: `Usage` counts in hundredths of a second,
    too coarse for what hardly runs."""
    total = 0
    for pid in with_descendants(pids):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def usage_of(pids: Iterable[int]) -> Usage:
    """Usage of these processes and their descendants."""
    ticks = resident = peak = 0
    for pid in with_descendants(pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
        values = dict(line.split(":", 1) for line in status.splitlines())
        resident += int(values.get("VmRSS", "0 kB").split()[0])
        peak += int(values.get("VmHWM", "0 kB").split()[0])
    return Usage(cpu_s=ticks * _TICK_S, resident_mb=resident / 1024, peak_mb=peak / 1024)
