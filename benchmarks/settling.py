"""When a daemon has settled after an event: the end of its last busy moment, by its processor time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.kernel_watch import NotReached
from benchmarks.usage import with_descendants

INTERVAL_S = 0.05
QUIET_S = 0.5
BUSY_SHARE = 0.15
"""A moment is busy if the daemon used more than this share of a core in it: more than a session that begins needs."""

Sample = tuple[int, int]
"""CLOCK_MONOTONIC, and processor time so far; both in ns."""


class Settling:
    """Watches the processor time of some processes from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._paths = [path for pid in with_descendants(pids) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        self._samples: list[Sample] = [self._sample()]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            self._samples.append(self._sample())

    def _sample(self) -> Sample:
        return time.monotonic_ns(), sum(map(_spent_ns, self._paths))

    def settled_ns(self, *, timeout_s: float) -> int:
        """Waits until the daemon has been quiet for half a second: when its last busy moment ended, in ns.

        Raises: NotReached: it is still busy.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while (end := last_busy_ns(self._samples)) > time.monotonic_ns() - QUIET_S * 1e9:
                if time.monotonic() > deadline:
                    raise NotReached(f"the daemon is still busy after {timeout_s:.0f} s")
                time.sleep(0.05)
            return end
        finally:
            self._stopping.set()
            self._thread.join()


def last_busy_ns(samples: Sequence[Sample]) -> int:
    """The end of the last busy moment; the first sample's time if there was none."""
    for (before, spent_before), (after, spent) in zip(samples[-2::-1], samples[:0:-1]):
        if spent - spent_before > (after - before) * BUSY_SHARE:
            return after
    return samples[0][0]


def _spent_ns(path: Path) -> int:
    try:
        return int(path.read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0
