"""Whose turn it is to be sent what changed: the Adj-RIBs-Out of all sessions are worked off in slices, once per turn of
the loop, one session after the other, and only as far as their connections take it.

Decides only the turn; what a neighbor is sent, and in which order, is adj_rib_out.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain

from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.prefix import VrfKey
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.drained import DrainedRoutes
from bgpd.rib.ports import Neighbors

FLUSH_KEYS = 2048
"""Units of work (adj_rib_out.py: keys, and paths) that one `flush` does: a few milliseconds."""


class Dissemination:
    """The Adj-RIBs-Out of all sessions.

    `schedule` runs a callback soon. `wanted` is called when there is something to flush; it, `neighbors` and `drained`
    (what a drain of this host changes) are to be set once before the first session. While a neighbor's connection has
    no room nothing is made for it: changes merge by key until `ReceivedRoutes.room_came`. What is raised where a
    neighbor is served ends that neighbor's session.
    """

    neighbors: Neighbors
    wanted: Callable[[], None]
    drained: DrainedRoutes

    def __init__(self, *, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._is_synchronised = False
        self._schedule = schedule
        self._exports: dict[tuple[str, Family], list[AdjRibOut]] = {}
        self._due: dict[AdjRibOut, None] = {}
        self._held: dict[AdjRibOut, None] = {}
        self._deferred: dict[AdjRibOut, float] = {}

    def add(self, vrf: str, export: AdjRibOut) -> None:
        """A session is up for a family: it is sent everything."""
        self._exports.setdefault((vrf, export.family), []).append(export)
        export.mark_all()
        self.look_at(export)

    def hold(self, vrf: str, export: AdjRibOut) -> None:
        """A session that another process has left: it is sent nothing until `release`, since what it was sent is not
        known here yet, nor all that is to be sent."""
        self._exports.setdefault((vrf, export.family), []).append(export)
        export.mark_all()
        self._held[export] = None

    def release(self) -> None:
        """All is known again: those that are held are sent what has become different."""
        held, self._held = self._held, {}
        for export in held:
            export.mark_all()
        self.look_at(*held)

    def defer(self, export: AdjRibOut, *, until: float) -> None:
        """Send this session nothing before `resume`, or before `resume_due` is told that it is so late."""
        self._deferred[export] = until

    def resume(self, *exports: AdjRibOut) -> None:
        """What these waited for has come: they are sent everything."""
        for export in exports:
            if self._deferred.pop(export, None) is not None:
                self.look_at(export)

    def resume_due(self, now: float) -> None:
        """Wait no longer for what has not come in time."""
        self.resume(*[export for export, until in self._deferred.items() if until <= now])

    def remove(self, vrf: str, export: AdjRibOut) -> None:
        """Send this session nothing more."""
        self._exports[vrf, export.family].remove(export)
        self._due.pop(export, None)
        self._held.pop(export, None)
        self._deferred.pop(export, None)

    def look_at(self, *exports: AdjRibOut) -> None:
        """These may have something to send."""
        if exports:
            self._due.update(dict.fromkeys(exports))
            self.wanted()

    def all(self) -> Iterator[AdjRibOut]:
        """The Adj-RIBs-Out of all sessions."""
        return chain.from_iterable(self._exports.values())

    def look_at_all(self) -> None:
        """Any may have something to send."""
        self.look_at(*self.all())

    def drain(self, stage: DrainStage, kept: AbstractSet[VrfKey]) -> None:
        """This host is drained so far from now on; `kept` are the services that stay announced."""
        if (stage, kept) != (self.drained.stage, self.drained.kept):
            self.drained.stage, self.drained.kept = stage, kept
            for export in self.all():
                export.mark_all()
            self.look_at_all()

    def synchronised(self) -> None:
        """All sources of local routes have reported their first state: End-of-RIB may go out from now on."""
        self._is_synchronised = True
        self.look_at_all()

    def mark(self, vrf: str, family: Family, keys: Sequence[bytes], *, local: bool) -> None:
        """These routes changed. `local`: their best path is or was this host's own."""
        for export in self._exports.get((vrf, family), ()):
            if export.mark(keys, local=local):
                self._due[export] = None
        if self._due:
            self.wanted()

    def send_again(self, export: AdjRibOut, keys: Sequence[bytes]) -> None:
        """Send a neighbor what these routes are now, if it was sent something else."""
        export.mark(keys, local=True)
        self.look_at(export)

    @property
    def is_due(self) -> bool:
        """Whether `flush` has something to send."""
        return bool(self._due)

    def flush(self) -> None:
        """Send what changed: one slice; more is wanted if that was not all. The others are next then."""
        left = FLUSH_KEYS
        flushed = []
        while self._due and left > 0:
            export = next(iter(self._due))
            del self._due[export]
            if export in self._held or export in self._deferred or not self.neighbors.has_room(export.source):
                continue
            left -= max(1, self._flush_one(export, left))
            flushed.append(export)
            if not export.is_settled:
                self._due[export] = None
        for export in flushed:
            self._report(export)
        if self._due:
            self.wanted()

    def _settled(self, export: AdjRibOut) -> None:
        if export.end_refresh():
            self.neighbors.send_refresh_ended(export.source, export.family)
        if self._is_synchronised and not export.end_of_rib_sent:
            export.end_of_rib_sent = True
            self.neighbors.send_end_of_rib(export.source, export.family)

    def _report(self, export: AdjRibOut) -> None:
        try:
            export.report()
        except Exception as error:
            self._schedule(partial(self.neighbors.fail, export.source, error))

    def _flush_one(self, export: AdjRibOut, most: int) -> int:
        try:
            done = export.flush(most)
            if export.is_settled:
                self._settled(export)
            return done
        except Exception as error:
            self._schedule(partial(self.neighbors.fail, export.source, error))
            return most
