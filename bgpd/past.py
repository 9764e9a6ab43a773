"""Asks the history of routes while the daemon runs: by a process of its own, one at a time, so that the event loop
never waits for what is read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from bgpd.api.backend import Rejected
from bgpd.history.changes import Asked
from bgpd.history.listings import AskedTable
from bgpd.history.recorder import History
from bgpd.history.tables import AskedRoutes
from bgpd.journal.store import Sought
from bgpd.model.prefix import format_address
from bgpd.model.views.explained import PastView
from bgpd.model.views.host import EventView
from bgpd.model.views.queries import PastQuery, PastTableQuery
from bgpd.runtime.programs import output_of

PATIENCE_S = 50.0
"""How long an answer may take."""
NICENESS = 10
"""The answer steps back behind sessions and routes, but not behind all: somebody waits for it."""
MOST_WAITING = 4
"""Questions that wait for the one that is answered."""
AT_ONCE = 500
"""Events that are read without a pause."""
_EVENT = msgspec.json.Decoder(EventView)
_LAST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""No time after this one can be written."""


class Past:
    """Questions to the files of a history, in the state directory."""

    def __init__(self, history: History, directory: str) -> None:
        self._history = history
        self._directory = directory
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def ask(self, address: bytes, vrf: str, at: float) -> PastView:
        """What the RIB had for an address at that time, without events. Raises: Rejected: it is not known."""
        when = datetime.fromtimestamp(min(at, _LAST), UTC).isoformat()
        options = [f"--vrf={vrf}", f"--at={when}", f"--state={self._directory}", "--no-events", "--json"]
        said = await self._said(["explain", format_address(address), *options], at)
        return msgspec.json.decode(said, type=PastView)

    async def changes(self, sought: Sought, vrfs: Sequence[str]) -> list[EventView]:
        """What became of a prefix in these VRFs; where none is asked for, in former ones, too. Raises: Rejected: it is
        not known."""
        sought = msgspec.structs.replace(sought, until=min(sought.until, _LAST))
        asked = Asked(sought=sought, vrfs=tuple(vrfs), also_former=sought.vrf is None)
        text = msgspec.json.encode(asked).decode()
        said = await self._said(["show", "events", f"--changes={text}", f"--state={self._directory}"], sought.since)
        lines = said.split("\n")[:-1]
        found: list[EventView] = []
        for start in range(0, len(lines), AT_ONCE):
            found += map(_EVENT.decode, lines[start : start + AT_ONCE])
            await asyncio.sleep(0)
        return found

    async def routes(self, query: PastQuery, vrfs: Sequence[str]) -> bytes:
        """The routes of an earlier time in these VRFs, and where none is asked for in former ones: a PastRoutesView, as
        it was said, since it may have megabytes. Raises: Rejected: they are not known."""
        query = msgspec.structs.replace(query, at=min(query.at, _LAST))
        asked = AskedRoutes(query=query, vrfs=tuple(vrfs), also_former=query.vrf is None)
        text = msgspec.json.encode(asked).decode()
        said = await self._said(["show", "routes", f"--past={text}", f"--directory={self._directory}"], query.at)
        return said.encode()

    async def table(self, kind: str, query: PastTableQuery) -> bytes:
        """EVPN routes, workloads or services of an earlier time: a PastTableView, as it was said. Raises: Rejected:
        they are not known."""
        query = msgspec.structs.replace(query, at=min(query.at, _LAST))
        text = msgspec.json.encode(AskedTable(kind=kind, query=query)).decode()
        said = await self._said(["show", kind, f"--past={text}", f"--directory={self._directory}"], query.at)
        return said.encode()

    async def overview(self, at: float) -> bytes:
        """The host as it was: a PastOverviewView. Raises: Rejected: it is not known."""
        at = min(at, _LAST)
        said = await self._said(["status", f"--past={at!r}", f"--directory={self._directory}"], at)
        return said.encode()

    @property
    def is_on(self) -> bool:
        """Whether anything is kept, or should be."""
        return self._history.is_on or bool(self._history.error)

    async def _said(self, command: Sequence[str], at: float) -> str:
        """What a command of bgpd says about a time."""
        if self._history.error and not self._history.is_on:
            raise Rejected(503, f"the history of routes is not kept: {self._history.error}", "see the log of bgpd")
        if not self._history.is_on:
            raise Rejected(404, "the history of routes is turned off", "journal.history_max_bytes turns it on")
        if self._waiting >= MOST_WAITING:
            raise Rejected(503, "too many ask the history of routes at the same time", "try again")
        self._waiting += 1
        try:
            async with self._asking:
                await self._flush()
                if self._history.failed_at is not None and at >= self._history.failed_at:
                    raise Rejected(404, f"the history of routes does not say it: {self._history.error}", "bgpd status")
                return await self._ask([sys.executable, *_program(), *command])
        finally:
            self._waiting -= 1

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._history.flush()
        except TimeoutError:
            raise Rejected(503, "the disk that the history of routes is on does not answer", "try again") from None

    async def _ask(self, command: list[str]) -> str:
        try:
            code, said = await output_of(command, timeout_s=PATIENCE_S, niceness=NICENESS)
        except TimeoutError:
            raise Rejected(503, f"the history of routes gave no answer in {PATIENCE_S:.0f} s", "try again") from None
        except OSError as error:
            raise Rejected(
                503, f"the history of routes cannot be asked: {error.strerror}", "see the log of bgpd"
            ) from None
        if code < 0:
            raise Rejected(503, f"what reads the history of routes was ended by signal {-code}", "try again")
        if code:
            raise Rejected(404, said.strip().removeprefix("bgpd: ") or f"exit code {code}")
        return said


def _program() -> list[str]:
    """How this process was started, but for the interpreter and what it was to do."""
    given = sys.orig_argv[1:]
    return given[: given.index("run")] if "run" in given else ["-m", "bgpd"]
