"""Which addresses of backends are to be judged, and which services to be claimed for: in slices, addresses first.

A change of one pod may concern a thousand services, a start concerns all. Decides nothing but the order, which is that
in which things were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from bgpd.workload.service.targets import CheckId

JUDGED, CLAIMED = 500, 50
"""Addresses that are judged, or services that are claimed for, in one step: so the loop is never held for 20 ms."""


class Backlog:
    """What waits. `schedule(callback)`: call back soon. `judge(id)` looks at one address, if it is still there; `claim`
    makes the claims of one service, if it is.
    """

    def __init__(
        self,
        *,
        schedule: Callable[[Callable[[], None]], None],
        judge: Callable[[CheckId], None],
        claim: Callable[[str], None],
    ) -> None:
        self._schedule = schedule
        self._judge = judge
        self._claim = claim
        self._to_judge: dict[CheckId, None] = {}
        self._to_claim: dict[str, None] = {}
        self._is_planned = False
        self._awaited: set[str] = set()
        self._done: Callable[[], None] | None = None

    def claim_soon(self, name: str) -> None:
        """What is asked for until then is one change of the service."""
        self._to_claim[name] = None
        self._plan()

    def judge(self, ids: Iterable[CheckId]) -> None:
        """Judge these addresses and claim for their services: as many as one step takes at once."""
        self._to_judge.update(dict.fromkeys(ids))
        if self._to_judge:
            self._step()

    def claim_all(self, names: Iterable[str], done: Callable[[], None]) -> None:
        """Claim for all of these, as many as one step takes at once; then `done()`."""
        self._to_claim.update(dict.fromkeys(names))
        self._awaited, self._done = set(self._to_claim), done
        self._step()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._schedule(self._take_turn)

    def _take_turn(self) -> None:
        self._is_planned = False
        self._step()

    def _step(self) -> None:
        ids = list(islice(self._to_judge, JUDGED))
        for id in ids:
            self._to_judge.pop(id, None)
            self._judge(id)
        self._to_claim.update(dict.fromkeys(sorted({id[0] for id in ids})))
        for name in list(islice(self._to_claim, 0 if self._to_judge else CLAIMED)):
            self._to_claim.pop(name, None)
            self._claim(name)
            self._awaited.discard(name)
        if self._to_judge or self._to_claim:
            self._plan()
        if self._done is not None and not self._awaited:
            done, self._done = self._done, None
            done()
