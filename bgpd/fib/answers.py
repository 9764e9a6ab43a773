"""What the kernel's answers to the batches of one table mean for its routes.

Decides which error belongs to which route, which part of a change comes next, and when failed routes are tried again.
Never decides what is desired (routes.py) or how a batch is made (batches.py).
"""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from bgpd.fib.examine import Examiner
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.fib.plan import Plan, TargetChange
from bgpd.fib.routes import FamilyRoutes
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.route_messages import RouteForm, encode_deletes, is_there_already, read_key
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.prefix import format_key
from bgpd.runtime.events import log

_RETRY_FIRST_S = 0.1
_RETRY_LAST_S = 30.0
_SILENT_PAUSE_S = 0.5
"""Until deletions are tried again while one answer after the other is lost."""
_ESRCH = 3
OCCUPIED = "another route of the prefix and of bgpd's metric is in the kernel"


class AnsweredTable(Protocol):
    """The table whose batches are answered."""

    def acknowledged(self, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as desired."""

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These routes are desired but not in the kernel: not written, or refused."""

    def direct_routes_written(self) -> None:
        """The kernel has other directly attached routes of ours than before."""

    def ask_again(self, family: Family, keys: Sequence[bytes], *, distrust: bool = False) -> None:
        """Ask what is desired of these and write it; `distrust`: even if our record says that the kernel has it."""

    def try_again(self) -> None:
        """Failed routes are due for a retry."""

    def submit(self, parts: list[bytes], count: int, done: Callable[[Outcome], None]) -> None:
        """Send a batch of `count` messages."""

    def batch_done(self) -> None:
        """A batch is answered, and all that follows from it is done."""


class Answers:
    """Attributes the kernel's answers to the routes of one table.

    A change of routes takes two batches: the new ones are appended, and those before them deleted when that has worked.
    `examiner` looks at keys of which an answer does not tell what the kernel has.
    """

    def __init__(
        self,
        form: RouteForm,
        families: Mapping[Family, FamilyRoutes],
        objects: NexthopObjects,
        examiner: Examiner,
        table: AnsweredTable,
    ) -> None:
        self._form = form
        self._families = families
        self._objects = objects
        self._examiner = examiner
        self._table = table
        self._retry: asyncio.TimerHandle | None = None
        self._retry_delay_s = _RETRY_FIRST_S
        self._is_silent = False
        self._again: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Cancel the retry timers."""
        for timer in filter(None, (self._retry, self._again)):
            timer.cancel()

    def written(self, family: Family, plan: Plan, outcome: Outcome) -> None:
        """A batch is done: attribute its errors, report what the kernel has."""
        failed = self._failed(family, plan.deletes, outcome)
        if outcome.lost:
            written = [keys for _target, keys in plan.adds] + [change.keys for change in plan.changes]
            failed = dict.fromkeys(itertools.chain.from_iterable(written), outcome.lost)
            self._examiner.add(family, list(failed))
        elif failed:
            self._pass_standing(family, plan.changes, failed)
        for target, keys in plan.adds:
            good: Sequence[bytes] = keys
            if failed:
                good = [key for key in keys if key not in failed]
                for key in () if outcome.lost else self._outdated(family, target, keys, failed):
                    del failed[key]
                self._refuse(family, {key: (failed[key], target, None) for key in keys if key in failed})
            if good:
                self._table.acknowledged(family, good)
        former: dict[int, list[bytes]] = {}
        for change in plan.changes:
            self._appended(family, change, failed, former, lost=bool(outcome.lost))
        if former:
            parts = [encode_deletes(family, keys, self._form, before) for before, keys in former.items()]
            behind = list(itertools.chain.from_iterable(former.values()))
            self._table.submit(parts, len(behind), functools.partial(self._former_deleted, family, behind))
        if any(target < 0 for target, _keys in plan.adds) or any(change.target < 0 for change in plan.changes):
            self._table.direct_routes_written()
        self._report_failed(family, failed)
        if any(why != OCCUPIED for why in failed.values()):
            self._retry_later()
        elif not any(table.failed for table in self._families.values()):
            self._retry_delay_s = _RETRY_FIRST_S
        self._table.batch_done()

    def _outdated(self, family: Family, target: int, keys: Sequence[bytes], failed: Mapping[bytes, str]) -> list[bytes]:
        """Failed keys whose desired target has changed meanwhile, or whose group is gone; a later write covers them."""
        found = [key for key in keys if failed.get(key, OCCUPIED) != OCCUPIED]
        if self._objects.is_lost(target):
            return found
        installed = self._families[family].installed
        return [key for key in found if installed.get(key) != target]

    def _pass_standing(self, family: Family, changes: Iterable[TargetChange], failed: dict[bytes, str]) -> None:
        """Remove from `failed` rewritten routes that the kernel refused with EEXIST because they exist; examine them.

        IPv6 refuses a direct route where any program has one by the same interface. Until examined, it counts as ours.
        """
        for change in changes:
            rewritten = [key for key, before in zip(change.keys, change.before) if before == change.target]
            standing = [key for key in rewritten if failed.get(key) == OCCUPIED]
            for key in standing:
                del failed[key]
            if standing:
                self._examiner.add(family, standing)

    def _report_failed(self, family: Family, failed: Mapping[bytes, str]) -> None:
        for why in dict.fromkeys(failed.values()):
            keys = [key for key, found in failed.items() if found == why]
            event = "fib.route_exists" if why == OCCUPIED else "fib.routes_failed"
            log.warning(event, count=len(keys), first=format_key(family, keys[0]), error=why)

    def _appended(
        self,
        family: Family,
        change: TargetChange,
        failed: dict[bytes, str],
        former: dict[int, list[bytes]],
        *,
        lost: bool,
    ) -> None:
        """New routes were appended behind the former ones; these are added to `former`, by target, to be deleted."""
        pairs = list(zip(change.keys, change.before))
        if failed and not lost:
            outdated = set(self._outdated(family, change.target, change.keys, failed))
            for key, before in pairs:
                if key in outdated:
                    self._families[family].stay(key, before)
                    del failed[key]
            if outdated:
                self._families[family].change_done(outdated)
                self._table.ask_again(family, list(outdated))  # who looks for routes by lost groups finds none here
            pairs = [(key, before) for key, before in pairs if key not in outdated]
        if failed:
            refused = {key: (failed[key], change.target, before) for key, before in pairs if key in failed}
            self._refuse(family, refused)
            self._change_done(family, list(refused))
            pairs = [(key, before) for key, before in pairs if key not in failed]
        rewritten: list[bytes] = []
        for key, before in pairs:
            if before == change.target:
                rewritten.append(key)
            else:
                former.setdefault(before, []).append(key)
        self._followed(family, rewritten)

    def _former_deleted(self, family: Family, keys: list[bytes], outcome: Outcome) -> None:
        self._failed(family, keys, outcome)
        self._followed(family, keys)
        self._table.batch_done()

    def _followed(self, family: Family, keys: list[bytes]) -> None:
        """The kernel forwards by the new routes."""
        if keys:
            self._table.acknowledged(family, keys)
            self._change_done(family, keys)

    def _change_done(self, family: Family, keys: list[bytes]) -> None:
        deferred = self._families[family].change_done(keys)
        if deferred:
            self._table.ask_again(family, deferred)

    def _failed(self, family: Family, deletes: Sequence[bytes], outcome: Outcome) -> dict[bytes, str]:
        """Routes that were not written, and why. A deleted route that did not exist (ESRCH) counts as deleted."""
        failed: dict[bytes, str] = {}
        for error in outcome.errors:
            kind = int.from_bytes(error.request[4:6], sys.byteorder)
            key = read_key(error.request)[1]
            if kind == MessageKind.NEW_ROUTE and not is_there_already(error.request, error):
                failed[key] = OCCUPIED if error.code == errno.EEXIST else str(error)
            elif kind == MessageKind.DEL_ROUTE and error.code != _ESRCH:
                log.warning("fib.delete_failed", prefix=format_key(family, key), error=str(error))
                self._families[family].distrusted.add(key)
                self._retry_later()
        if outcome.lost:
            log.error("fib.write_result_unknown", error=outcome.lost)
            self._examiner.add(family, deletes)
            if self._is_silent:  # nothing would be done but this
                self._families[family].distrusted.update(deletes)
                self._try_again_soon()
            else:
                self._table.ask_again(family, deletes, distrust=True)
        self._is_silent = bool(outcome.lost)
        return failed

    def _refuse(self, family: Family, failed: Mapping[bytes, tuple[str, int, int | None]]) -> None:
        """The kernel refused routes: key -> why, the target, and the target before."""
        by_reason: dict[str, list[bytes]] = {}
        for key, (why, target, before) in failed.items():
            if why == OCCUPIED:
                self._families[family].obstruct(key, why, target=target, before=before)
            else:
                self._families[family].refuse(key, target, why, before=before)
            by_reason.setdefault(why, []).append(key)
        for why, keys in by_reason.items():
            self._table.refused(family, keys, why)
        if OCCUPIED in by_reason:
            self._examiner.add(family, by_reason[OCCUPIED])

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_delay_s, self._retry_now)
            self._retry_delay_s = min(self._retry_delay_s * 2, _RETRY_LAST_S)

    def _try_again_soon(self) -> None:
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(_SILENT_PAUSE_S, self._try_again_now)

    def _try_again_now(self) -> None:
        self._again = None
        self._table.try_again()

    def _retry_now(self) -> None:
        self._retry = None
        self._table.try_again()
