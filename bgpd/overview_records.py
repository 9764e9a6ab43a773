"""Keeps the overview of the host as it changes, for the web page at an earlier time: counts of routes and claims,
nexthop groups, uplinks.

It is looked at every few seconds, and kept when it differs; sessions and what happened are in the journal to the
microsecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bgpd.history.recorder import History
from bgpd.history.records import Seen
from bgpd.model.utf8 import as_json
from bgpd.model.views.host import OverviewView
from bgpd.runtime.events import log
from bgpd.runtime.turns import in_turn

LOOK_S = 2.0
"""How often it is looked whether the verdict is another one, at most; ..."""
LOOK_TIMES = 500.0
"""... so many times what a look takes of the processor, if that is longer."""
KEEP_S = 10.0
"""How often what else differs is kept, at most."""
BYTES_PER_S = 400
"""A large overview is kept less often: so many bytes a second on average, before they are compressed."""
_OF_NEIGHBOR = (
    *("name", "address", "interface", "vrf", "asn", "guest", "state", "since", "bfd", "families", "last_error"),
    *("last_error_at", "without_next_hop", "established_count"),
)
_OF_HEALTH = ("ready", "reasons", "warnings", "version", "hostname", "started_at", "neighbors", "neighbors_established")


class OverviewRecords:
    """`overview()` is asked for; `clock()` only goes forward."""

    def __init__(
        self, history: History, overview: Callable[[], OverviewView], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = history
        self._overview = overview
        self._clock = clock
        self._kept = b""
        self._verdict = ("", "")
        self._keep_at = 0.0
        self.pause_s = LOOK_S

    async def run(self) -> None:
        """Look at it until cancelled; a defect costs only what is kept of it."""
        while self._history.is_on:
            await asyncio.sleep(self.pause_s)
            try:
                await in_turn(self.look)
            except Exception:
                log.exception("history.overview_failed")
                return

    def look(self) -> None:
        """Keep the overview, if it is due and differs."""
        began = time.thread_time()
        view = self._overview()
        verdict, now = (view.verdict, view.level), self._clock()
        if verdict != self._verdict or now >= self._keep_at:
            data = as_json(compact(view))
            if data != self._kept:
                now_at = self._history.now()
                self._history.stands(Seen(now_at, now_at, data), 64 + len(data))
                self._kept, self._verdict = data, verdict
                self._keep_at = now + max(KEEP_S, len(data) / BYTES_PER_S)
        self.pause_s = max(LOOK_S, LOOK_TIMES * (time.thread_time() - began))


def compact(view: OverviewView) -> dict[str, Any]:
    """Without what nobody asks of an earlier time, and what differs each second."""
    found: dict[str, Any] = {name: getattr(view, name) for name in msgspec.structs.asdict(view)}
    found["neighbors"] = [{name: getattr(one, name) for name in (*_OF_NEIGHBOR, "local_asn")} for one in view.neighbors]
    found["health"] = {name: getattr(view.health, name) for name in _OF_HEALTH}
    return found
