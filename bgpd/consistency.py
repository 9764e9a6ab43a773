"""Self-check: whether RIB, kernel tables, workloads and Adj-RIBs-Out agree on each route.

The parts notify each other of changes, and any of them may have a defect or miss an event. So their tables are
compared, some thousand routes at a time. A difference counts only if it lasts: before that it may be work in progress.
Then it is logged, counted, and repaired by the part in which it was found; while it lasts the host is not ready. The
kernel's own state is compared elsewhere, by the kernel monitor and the FIB's reconciliation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from bgpd.runtime.events import log
from bgpd.runtime.turns import Walks

ROUND_S = 5.0
"""Seconds between two rounds."""
KEYS_PER_ROUND = 20_000
"""At this pace a million routes are compared in four minutes, for less than a hundredth of a core."""
SLICE = 500
LASTING_S = 1.0
"""A younger difference may be work in progress."""
LOOK_AGAIN_S = 1.1
"""Seconds between two checks of a difference."""
MAX_SUSPECTS = 2_000
"""Most differences that are remembered; more need not be reported one by one."""


class Check(Protocol):
    """One comparison of two parts. `name` says which, for people: "routes sent to neighbor leaf1"."""

    @property
    def name(self) -> str:
        """Which one it is."""

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """The keys of all routes that it compares, found as the walk goes."""
        ...

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` on which the parts differ now and nothing is under way."""
        ...

    def repair(self, keys: Sequence[bytes]) -> None:
        """Bring the parts together again."""
        ...


class Consistency:
    """`checks()` answers the comparisons that there are now; a check is known by its name from round to round."""

    def __init__(self, checks: Callable[[], Iterable[Check]]) -> None:
        self._checks = checks
        self._walk: Iterator[tuple[str, list[bytes]]] = iter(())
        self._is_through = True
        self._suspects: dict[tuple[str, bytes], float] = {}
        self._repaired: set[tuple[str, bytes]] = set()
        self._failed: set[str] = set()
        self.repairs: Counter[str] = Counter()

    def reasons(self) -> list[str]:
        """Why the host is not ready: differences that have lasted."""
        found = Counter(name for name, _key in self._repaired)
        return [f"{count} {name} were not as they should be, and are being repaired" for name, count in found.items()]

    @property
    def has_suspects(self) -> bool:
        """Whether there are differences that may last: `look_again` should be called when they are old enough."""
        return bool(self._suspects or self._repaired)

    async def run(self, walks: Walks, *, repaired: Callable[[], None]) -> None:
        """Compare a little at a time, and again what differed, until cancelled.

        Not while a walk goes on, such as that over the routes of a lost neighbor: the parts differ until it ends, and
        to bring the kernel to what the RIB has not changed yet would bring the neighbor's next hop back.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(ROUND_S)
            if not walks:
                walks.run(self.round(clock()))
            await asyncio.sleep(LOOK_AGAIN_S)
            while self.has_suspects:
                if not walks:
                    self.look_again(clock())
                    repaired()
                await asyncio.sleep(LOOK_AGAIN_S)

    def round(self, now: float) -> Iterator[None]:
        """Compare the next `KEYS_PER_ROUND` routes, in steps. `now`: monotonic, in seconds."""
        left = KEYS_PER_ROUND
        checks = {check.name: check for check in self._checks()}
        self._forget_gone(checks)
        if self._is_through:
            self._walk, self._is_through = _all_keys(checks.values()), False
        while left > 0:
            name, keys = next(self._walk, ("", []))
            if not name:
                self._is_through = True
                return
            check = checks.get(name)
            left -= max(len(keys), 1)
            if check is not None and keys:
                for key in self._differing(check, keys):
                    if len(self._suspects) < MAX_SUSPECTS:
                        self._suspects.setdefault((name, key), now)
            yield

    def look_again(self, now: float) -> None:
        """What differed, and still does, is repaired; what was repaired and differs no more is forgotten."""
        checks = {check.name: check for check in self._checks()}
        self._forget_gone(checks)
        old = {place for place, since in self._suspects.items() if now - since >= LASTING_S}
        for name, check in checks.items():
            keys = [key for of, key in old | self._repaired if of == name]
            if not keys:
                continue
            differing = set(self._differing(check, keys))
            for key in keys:
                self._suspects.pop((name, key), None)
                if key not in differing:
                    self._repaired.discard((name, key))
            fresh = [key for key in differing if (name, key) not in self._repaired]
            if differing:
                self._repaired.update((name, key) for key in differing)
                self.repairs[name] += len(fresh)
                if fresh:
                    log.error("consistency.repairing", what=name, routes=len(fresh), example=fresh[0].hex())
                check.repair(sorted(differing))

    def _differing(self, check: Check, keys: list[bytes]) -> list[bytes]:
        """A comparison that raises says nothing about the routes: it is only logged, once per check."""
        try:
            return check.differing(keys)
        except Exception as error:
            if check.name not in self._failed:
                self._failed.add(check.name)
                log.error("consistency.failed", what=check.name, exc_info=error)
            return []

    def _forget_gone(self, checks: dict[str, Check]) -> None:
        self._suspects = {place: since for place, since in self._suspects.items() if place[0] in checks}
        self._repaired = {place for place in self._repaired if place[0] in checks}


def _all_keys(checks: Iterable[Check]) -> Iterator[tuple[str, list[bytes]]]:
    for check in checks:
        for keys in check.slices(SLICE):
            yield check.name, keys
