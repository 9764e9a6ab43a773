"""Keeps claims of workloads and services as they change, for the tables of an earlier time (`own.py`).

Claims are kept as the table reports them; a service that changed is rendered a moment later, since its checks may say
much at once. No work is done in the event loop for a claim but to note it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from bgpd.history.gathered import Claims as SaidClaims
from bgpd.history.recorder import History
from bgpd.history.records import Served
from bgpd.workload.claims import Claims
from bgpd.workload.service.services import SERVICE, Services
from bgpd.workload.standing import ClaimStatus

GATHER_S = 0.2
"""How long changes of services are gathered, at least: what they were in between is not told."""
BYTES_PER_S = 32 << 10
"""With very many backends they are gathered longer: services take so much on average, before it is compressed."""
AT_ONCE = 48 << 10
"""Services are rendered up to this size in one step, but at least one."""
SLICE = 256
"""Addresses of one step of a base."""
_CLAIM_BYTES = 160
_BACKEND_BYTES = 96
"""About what one takes until it is written."""


def _later(seconds: float, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, callback)


class WorkloadRecords:
    """`later(seconds, callback)`: call back then."""

    def __init__(
        self,
        history: History,
        claims: Claims,
        services: Services,
        *,
        later: Callable[[float, Callable[[], None]], object] = _later,
    ) -> None:
        self._history = history
        self._claims = claims
        self._services = services
        self._later = later
        self._changed: dict[str, None] = {}
        self._is_scheduled = False
        self._pause_s = GATHER_S
        history.before_close = self._say_rest

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """These claims have other states, or were given up."""
        if self._history.is_on:
            self._say(changed)
            for one in changed:
                if one.claim.source == SERVICE:
                    self.service_changed(one.claim.id)

    def _say(self, statuses: Sequence[ClaimStatus]) -> None:
        said = [(one.claim, one.state, one.reason, one.since, one.announced, one.is_given_up) for one in statuses]
        self._history.add(SaidClaims(self._history.now(), said), _CLAIM_BYTES * len(said))

    def service_changed(self, name: str) -> None:
        """The view of a service may have changed."""
        if self._history.is_on:
            self._changed[name] = None
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._later(self._pause_s, self._say_services)

    def _say_services(self) -> None:
        """A part of those that have changed; a defect costs only the history."""
        self._is_scheduled = False
        size = 0
        try:
            while self._changed and size < AT_ONCE:
                size += self._say_service(next(iter(self._changed)))
        except Exception as error:
            self._history.give_up(error)
            return
        self._pause_s = max(GATHER_S, size / BYTES_PER_S)
        if self._changed:
            self._schedule()

    def _say_rest(self) -> None:
        """The process ends."""
        for name in list(self._changed):
            self._say_service(name)

    def _say_service(self, name: str) -> int:
        """Returns about how many bytes it takes."""
        self._changed.pop(name, None)
        view = self._services.view(name)
        size = _BACKEND_BYTES * (1 if view is None else 2 + len(view.backends))
        self._history.add(Served(self._history.now(), name, view), size)
        return size

    def base(self) -> Iterator[bool]:
        """Stepping says all there are; a step answers that the next one need not wait."""
        for place in self._claims.tables():
            keys = self._claims.keys(place)
            for start in range(0, len(keys), SLICE):
                entries = [self._claims.at((place, key)) for key in keys[start : start + SLICE]]
                self._say([one for entry in entries if entry is not None for one in entry.claims if one.since])
                yield False
        for name in self._services.names():
            self._say_service(name)
            yield False
