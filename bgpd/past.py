"""Asks the history of routes while the daemon runs: by a process of its own, one at a time, since it takes a processor
for seconds where much has happened.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import msgspec

from bgpd.api.backend import Rejected
from bgpd.history.recorder import History
from bgpd.model.prefix import format_address
from bgpd.model.views.explained import PastView
from bgpd.runtime.programs import output_of

PATIENCE_S = 50.0
"""How long an answer may take."""
MOST_WAITING = 4
"""Questions that wait for the one that is answered."""
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
                return await self._ask(_command(address, vrf, at, self._directory))
        finally:
            self._waiting -= 1

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._history.flush()
        except TimeoutError:
            raise Rejected(503, "the disk that the history of routes is on does not answer", "try again") from None

    async def _ask(self, command: list[str]) -> PastView:
        try:
            code, said = await output_of(command, timeout_s=PATIENCE_S)
        except TimeoutError:
            raise Rejected(503, f"the history of routes gave no answer in {PATIENCE_S:.0f} s", "try again") from None
        except OSError as error:
            raise Rejected(503, f"the history of routes cannot be asked: {error.strerror}") from None
        if code < 0:
            raise Rejected(503, f"what reads the history of routes was ended by signal {-code}", "try again")
        if code:
            raise Rejected(404, said.strip().removeprefix("bgpd: ") or f"exit code {code}")
        return msgspec.json.decode(said, type=PastView)


def _command(address: bytes, vrf: str, at: float, directory: str) -> list[str]:
    """`bgpd explain --at --state`, by the same program as this process."""
    given = sys.orig_argv[1:]
    program = given[: given.index("run")] if "run" in given else ["-m", "bgpd"]
    when = datetime.fromtimestamp(min(at, _LAST), UTC).isoformat()
    options = [f"--vrf={vrf}", f"--at={when}", f"--state={directory}", "--no-events", "--json"]
    return [sys.executable, *program, "explain", format_address(address), *options]
