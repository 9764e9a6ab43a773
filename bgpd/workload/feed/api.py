"""Workloads and services that local programs put, read and delete: what the HTTP API answers.

A PUT is idempotent; it is answered when it is saved and the address is announced, or with the reason why it is not.
`api/server.py` does the HTTP; `feed` and `table` decide what is accepted and what its state is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bgpd.config.schema_workloads import ApiWorkloadConfig
from bgpd.model.reports import Problem, WorkloadReport
from bgpd.model.service import ServiceView
from bgpd.model.workload import Claim, WorkloadState
from bgpd.runtime.events import log
from bgpd.workload.feed.feed import IN_USE
from bgpd.workload.feed.payload import MAX_PAYLOAD, PayloadRefused, decode_service, decode_workload
from bgpd.workload.feed.reports import SERVICE as FEED_SERVICE
from bgpd.workload.feed.source import FeedSource
from bgpd.workload.service.services import SERVICE
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts
from bgpd.workload.standing import ClaimStatus

API = "api"

_SETTLED = frozenset(WorkloadState) - {WorkloadState.PENDING}


class ErrorReport(msgspec.Struct, kw_only=True):
    """Why a request was refused."""

    errors: list[Problem]


class Answer(NamedTuple):
    """An HTTP status and its JSON body.

    200: done (for a PUT: announced, and saved). 202: taken, but not announced (the body's `reason` says why), or not
    saved (`not_saved` does). 400, 413: the payload was refused. 404: unknown. 409: the address is, or the name is,
    another one's.
    """

    status: int
    body: WorkloadReport | ServiceView | ErrorReport


class ApiSource(FeedSource):
    """Answers local programs that put, read and delete workloads and services.

    `config.timeout_s` is how long a PUT waits unless it says otherwise.
    """

    name = API

    def __init__(self, parts: SourceParts, config: ApiWorkloadConfig) -> None:
        super().__init__(parts, most=config.max_workloads)
        self._claims = parts.claims
        self._services = parts.services
        self._timeout_s = config.timeout_s
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)

    async def restore(self) -> None:
        """Likewise; where nothing was saved, nothing is waited for."""
        await super().restore()
        self._first_state.heard(API)

    async def put_workload(self, id: str, body: bytes, *, who: str, timeout_s: float | None = None) -> Answer:
        """Claim what a payload says. `who` is logged: the peer's credentials."""
        try:
            changed = self.feed.put_workload(id, decode_workload(body, id=id, vrfs=self.feed.vrfs))
        except PayloadRefused as refusal:
            return _refused("workload", id, body, refusal, who)
        log.info("workload.put", id=id, by=who, changed=changed)
        statuses, not_saved = await self._settled(API, id, timeout_s)
        report = self._reports.workload(API, id)
        if report is None:
            return _unknown("workload", id, "it was deleted meanwhile")
        report.not_saved = not_saved
        if all(one.announced for one in statuses):
            return Answer(202 if not_saved else 200, report)
        return Answer(409 if report.state == WorkloadState.CONFLICT else 202, report)

    async def delete_workload(self, id: str, *, who: str) -> Answer:
        """Give up a workload that the API put."""
        if not self.feed.delete_workload(id):
            return _unknown("workload", id, "only what the API put can be deleted here")
        log.info("workload.deleted", id=id, by=who)
        not_saved = await self._written()
        return Answer(202 if not_saved else 200, WorkloadReport(id=id, state="deleted", not_saved=not_saved))

    def workload(self, id: str) -> Answer:
        """The report of a workload that the API put."""
        report = self._reports.workload(API, id)
        return Answer(200, report) if report else _unknown("workload", id, "bgpd show workloads lists all")

    def workloads(self) -> list[WorkloadReport]:
        """All that the API put, by id."""
        return [report for id in sorted(self.feed.workloads) if (report := self._reports.workload(API, id))]

    async def put_service(self, name: str, body: bytes, *, who: str, timeout_s: float | None = None) -> Answer:
        """Offer a service; answered like `put_workload`."""
        try:
            service = decode_service(body, name=name, vrfs=self.feed.vrfs, commands=self.feed.commands)
            changed = self.feed.put_service(name, service)
        except PayloadRefused as refusal:
            return _refused("service", name, body, refusal, who)
        log.info("service.put", name=name, by=who, changed=changed)
        statuses, not_saved = await self._settled(SERVICE, name, timeout_s)
        view = self._services.view(name)
        if view is None:
            return _unknown("service", name, "it was deleted meanwhile")
        view.not_saved = not_saved
        if statuses and all(one.announced for one in statuses):
            return Answer(202 if not_saved else 200, view)
        conflict = any(one.state is WorkloadState.CONFLICT for one in statuses)
        return Answer(409 if conflict else 202, view)

    async def delete_service(self, name: str, *, who: str) -> Answer:
        """Withdraw a service that the API put."""
        if self._services.owner(name) != API or not self.feed.delete_service(name):
            return _unknown("service", name, "only what the API put can be deleted here")
        log.info("service.deleted", name=name, by=who)
        not_saved = await self._written()
        gone = ServiceView(name=name, source=API, addresses=[], reason="deleted", not_saved=not_saved)
        return Answer(202 if not_saved else 200, gone)

    def service(self, name: str) -> Answer:
        """The view of a service of any source; of one that is kept while its VRF is not there, what it waits for."""
        view = self._services.view(name)
        if view is not None:
            return Answer(200, view)
        if waits := self._reports.all_problems(FEED_SERVICE, name):
            return Answer(404, ErrorReport(errors=waits))
        return _unknown("service", name, "bgpd show services lists all")

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """Wake the requests that wait for one of these."""
        super().states_changed(changed)
        if self._waiting:
            for status in changed:
                self._wake(status.claim)

    def _wake(self, claim: Claim) -> None:
        for event in self._waiting.get((claim.source, claim.id), ()):
            event.set()

    async def _written(self) -> str:
        """Why what was asked for is not on disk, "" if it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                return await self.file.kept()
        return self.file.why_not_kept

    async def _settled(self, source: str, id: str, timeout_s: float | None) -> tuple[list[ClaimStatus], str]:
        """The claims of one name, once the table has judged them and none is pending, or at the timeout.

        With it, why they are not saved, "" if they are.
        """
        event = asyncio.Event()
        waiting = self._waiting[source, id]
        waiting.add(event)
        not_saved = ""
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                while not self._is_settled(source, id):
                    event.clear()
                    await event.wait()
                not_saved = await self.file.kept()
        except TimeoutError:
            not_saved = self.file.why_not_kept
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop((source, id), None)
        return self._claims.statuses(source, id), not_saved

    def _is_settled(self, source: str, id: str) -> bool:
        statuses = self._claims.statuses(source, id)
        if not statuses and source == SERVICE and self._services.owner(id):
            return False  # it is not claimed before its checks have said something
        return all(one.since and one.state in _SETTLED for one in statuses)


class WorkloadObjects:
    """`/v1/workloads/ID`, as the HTTP server takes it (`api.backend.Objects`)."""

    def __init__(self, source: ApiSource) -> None:
        self._source = source

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        return await self._source.put_workload(id, body, who=who, timeout_s=timeout_s)

    async def delete(self, id: str, *, who: str) -> Answer:
        return await self._source.delete_workload(id, who=who)

    def get(self, id: str) -> Answer:
        return self._source.workload(id)


class ServiceObjects:
    """`/v1/services/NAME`, likewise."""

    def __init__(self, source: ApiSource) -> None:
        self._source = source

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        return await self._source.put_service(id, body, who=who, timeout_s=timeout_s)

    async def delete(self, id: str, *, who: str) -> Answer:
        return await self._source.delete_service(id, who=who)

    def get(self, id: str) -> Answer:
        return self._source.service(id)


def _refused(kind: str, id: str, body: bytes, refusal: PayloadRefused, who: str) -> Answer:
    log.warning(f"{kind}.refused", source=API, id=id[:253], by=who, reason=str(refusal)[:1000])
    in_use = any(problem.right == IN_USE for problem in refusal.problems)
    status = 413 if len(body) > MAX_PAYLOAD else 409 if in_use else 400
    return Answer(status, ErrorReport(errors=list(refusal.problems)))


def _unknown(kind: str, id: str, right: str) -> Answer:
    return Answer(404, ErrorReport(errors=[Problem("", f'there is no {kind} "{id}"', right)]))


def _make(parts: SourceParts) -> ClaimSource | None:
    config = parts.config.workload.api
    return ApiSource(parts, config) if config is not None else None


KIND = SourceKind(
    name=API, what="programs of this host, by `[workload.api]`", precedence=1, restart=Restart.SAVED, make=_make
)
