"""Workloads and services that local programs put, read and delete: what the HTTP API answers.

A PUT is idempotent; it is answered when it is saved and the address is announced, or with the reason why it is not.
`api/server.py` makes HTTP of this; what is taken and what becomes of it, `feed` and `table` decide.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import msgspec
import structlog

from bgpd.model.reports import Problem, WorkloadReport
from bgpd.model.service import ServiceView
from bgpd.model.workload import Claim, WorkloadState
from bgpd.workload.feed.feed import IN_USE, Feed
from bgpd.workload.feed.payload import MAX_PAYLOAD, PayloadRefused, decode_service, decode_workload
from bgpd.workload.feed.reports import Reports
from bgpd.workload.service.services import SOURCE as SERVICE
from bgpd.workload.service.services import Services
from bgpd.workload.standing import Held
from bgpd.workload.table import WorkloadTable

log = structlog.get_logger()

SOURCE = "api"

_SETTLED = frozenset(WorkloadState) - {WorkloadState.PENDING}


class ErrorReport(msgspec.Struct, kw_only=True):
    """Why a request was refused."""

    errors: list[Problem]


class Answer(NamedTuple):
    """An HTTP status and its JSON body.

    200: done (for a PUT: announced). 202: taken, but not announced; the body's `reason` says why. 400, 413: the payload
    was refused. 404: unknown. 409: the address is, or the name is, another one's.
    """

    status: int
    body: WorkloadReport | ServiceView | ErrorReport


class ApiSource:
    """The local API's feed. `timeout_s` is how long a PUT waits unless it says otherwise.

    `kept()` waits until what was put or deleted would survive a crash, or cannot be saved (which is told elsewhere).
    """

    def __init__(
        self,
        feed: Feed,
        table: WorkloadTable,
        reports: Reports,
        services: Services,
        *,
        kept: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        self._feed = feed
        self._table = table
        self._reports = reports
        self._services = services
        self._kept = kept
        self._timeout_s = timeout_s
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)

    async def put_workload(self, id: str, body: bytes, *, who: str, timeout_s: float | None = None) -> Answer:
        """Claim what a payload says. `who` is logged: the peer's credentials."""
        try:
            changed = self._feed.put_workload(id, decode_workload(body, id=id, vrfs=self._feed.vrfs))
        except PayloadRefused as refusal:
            return _refused("workload", id, body, refusal, who)
        log.info("workload.put", id=id, by=who, changed=changed)
        held = await self._settled(SOURCE, id, timeout_s)
        report = self._reports.workload(id)
        if report is None:
            return _unknown("workload", id, "it was deleted meanwhile")
        if all(h.announced for h in held):
            return Answer(200, report)
        return Answer(409 if report.state == WorkloadState.CONFLICT else 202, report)

    async def delete_workload(self, id: str, *, who: str) -> Answer:
        """Give up a workload that the API put."""
        if not self._feed.delete_workload(id):
            return _unknown("workload", id, "only what the API put can be deleted here")
        log.info("workload.deleted", id=id, by=who)
        await self._saved()
        return Answer(200, WorkloadReport(id=id, state="deleted"))

    def workload(self, id: str) -> Answer:
        """The report of a workload that the API put."""
        report = self._reports.workload(id)
        return Answer(200, report) if report else _unknown("workload", id, "bgpd show workloads lists all")

    def workloads(self) -> list[WorkloadReport]:
        """All that the API put, by id."""
        return [report for id in sorted(self._feed.workloads) if (report := self._reports.workload(id))]

    async def put_service(self, name: str, body: bytes, *, who: str, timeout_s: float | None = None) -> Answer:
        """Offer a service; answered like `put_workload`."""
        try:
            service = decode_service(body, name=name, vrfs=self._feed.vrfs, commands=self._feed.commands)
            changed = self._feed.put_service(name, service)
        except PayloadRefused as refusal:
            return _refused("service", name, body, refusal, who)
        log.info("service.put", name=name, by=who, changed=changed)
        held = await self._settled(SERVICE, name, timeout_s)
        view = self._services.view(name)
        if view is None:
            return _unknown("service", name, "it was deleted meanwhile")
        if held and all(h.announced for h in held):
            return Answer(200, view)
        conflict = any(h.state is WorkloadState.CONFLICT for h in held)
        return Answer(409 if conflict else 202, view)

    async def delete_service(self, name: str, *, who: str) -> Answer:
        """Withdraw a service that the API put."""
        if self._services.owner(name) != SOURCE or not self._feed.delete_service(name):
            return _unknown("service", name, "only what the API put can be deleted here")
        log.info("service.deleted", name=name, by=who)
        await self._saved()
        return Answer(200, ServiceView(name=name, source=SOURCE, addresses=[], reason="deleted"))

    def service(self, name: str) -> Answer:
        """The view of a service of any source."""
        view = self._services.view(name)
        return Answer(200, view) if view else _unknown("service", name, "bgpd show services lists all")

    def states_changed(self, changed: Iterable[Held]) -> None:
        """The table's word: whoever waits for one of these looks again."""
        if self._waiting:
            for held in changed:
                self._wake(held.claim)

    def _wake(self, claim: Claim) -> None:
        for event in self._waiting.get((claim.source, claim.id), ()):
            event.set()

    async def _saved(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._kept()

    async def _settled(self, source: str, id: str, timeout_s: float | None) -> list[Held]:
        """The held claims of one name, once the table has judged them and none is pending, or at the timeout."""
        event = asyncio.Event()
        waiting = self._waiting[source, id]
        waiting.add(event)
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                while not self._is_settled(source, id):
                    event.clear()
                    await event.wait()
                await self._kept()
        except TimeoutError:
            pass
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop((source, id), None)
        return self._table.held(source, id)

    def _is_settled(self, source: str, id: str) -> bool:
        held = self._table.held(source, id)
        if not held and source == SERVICE and self._services.owner(id):
            return False  # it is not claimed before its checks have said something
        return all(h.since and h.state in _SETTLED for h in held)


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
    log.warning(f"{kind}.refused", source=SOURCE, id=id[:253], by=who, reason=str(refusal)[:1000])
    in_use = any(problem.right == IN_USE for problem in refusal.problems)
    status = 413 if len(body) > MAX_PAYLOAD else 409 if in_use else 400
    return Answer(status, ErrorReport(errors=list(refusal.problems)))


def _unknown(kind: str, id: str, right: str) -> Answer:
    return Answer(404, ErrorReport(errors=[Problem("", f'there is no {kind} "{id}"', right)]))
