"""A source whose claims an orchestrator puts and deletes by name: saved, restored and reported, whatever way they come.

MQTT and the local API are such sources; each adds how payloads come in and what is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from bgpd.config.schema import WorkloadsConfig
from bgpd.model.reports import Problem
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.workload import Claim
from bgpd.runtime.events import log
from bgpd.runtime.programs import is_program
from bgpd.runtime.turns import soon
from bgpd.workload.feed.feed import Feed
from bgpd.workload.feed.reports import STATE_FILE
from bgpd.workload.feed.saved import Saved, read_saved
from bgpd.workload.feed.state_file import MAX_REPORTED, StateFile
from bgpd.workload.sources import ClaimSource, SourceParts
from bgpd.workload.standing import ClaimStatus


class FeedSource(ClaimSource):
    """Keeps one feed and its state file over restarts and reloads. `most`: workloads, and services, that are taken.

    `host` is the name by which orchestrators call this host, "" if they do not. What was said to a host of another name
    (a renamed host, a copied disk) is not this one's.
    """

    host = ""

    def __init__(self, parts: SourceParts, *, most: int) -> None:
        self._first_state = parts.first_state
        self._reports = parts.reports
        self._saved: Saved | None = None
        self.file = StateFile(parts.config.state.directory, f"{self.name}.json", changed=self._file_error_changed)
        self.feed = Feed(
            self.name,
            parts.claims,
            parts.presences,
            parts.services,
            vrfs=frozenset(parts.config.vrfs.values()),
            commands=_commands(parts.config.workload.health.command_directory),
            most=most,
            reports=parts.reports,
            journal=self.file,
        )

    def save(self) -> bytes:
        return msgspec.msgpack.encode(self.feed.saved())

    def remember(self, left: bytes | None = None) -> None:
        """Read what an earlier run saved, and which claims came first; `left` may have what the disk had not yet."""
        saved = self.file.load()
        if left is not None:
            with contextlib.suppress(*UNREADABLE):  # of another version, which has a file, too
                saved, wrong = read_saved(left, msgspec.msgpack.decode)
                for entry, reason in list(wrong.items())[:MAX_REPORTED]:
                    log.error("state.entry_left_out", source=self.name, entry=entry[:300], reason=reason[:1000])
                self.file.supersede()
        if saved is not None and saved.host not in ("", self.host):
            self.file.set_aside(f"of-{saved.host}")
            log.warning("state.of_another_host", path=str(self.file.path), its_host=saved.host, this_host=self.host)
            saved = None
        self._saved = saved
        self._file_error_changed()
        if self._saved is not None:
            self.feed.notes.remember(self._saved, self.feed.vrfs)

    async def restore(self) -> None:
        """Put in force what was saved: then the first state of this source has come."""
        if self._saved is None:
            return
        for _ in self.feed.restore(self._saved):
            await asyncio.sleep(0)
        self._saved = None
        log.info("workload.restored", source=self.name, workloads=len(self.feed.workloads))
        self._first_state.heard(self.name)

    async def run(self) -> None:
        """Write what changes, until cancelled."""
        await self.file.run(self.feed.saved)

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Other VRFs may be configured; broker, API, checks and state directory are those of the start."""
        self.feed.vrfs = frozenset(config.vrfs.values())
        _step(self.feed.follow_vrfs())

    def order_known(self) -> None:
        self.feed.notes.order_known()

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        self.feed.notes.states_changed(changed, order_known=self._first_state.is_order_known)

    def presence_changed(self, claims: Sequence[Claim]) -> None:
        self.feed.notes.presence_changed(claims)

    def errors(self) -> list[str]:
        return [self.file.error] if self.file.error else []

    def _file_error_changed(self) -> None:
        error = self.file.error
        problems = [Problem("", error, "claims are in force but not saved")] if error else []
        self._reports.note(self.name, STATE_FILE, "", problems)


def _step(walk: Iterator[None]) -> None:
    if next(walk, True) is None:
        soon(lambda: _step(walk))


def _commands(directory: str) -> Collection[str] | None:
    """The programs in the command directory, None if none is configured or it cannot be read."""
    if not directory:
        return None
    try:
        return frozenset(name for name in os.listdir(directory) if is_program(Path(directory) / name))
    except OSError as error:
        log.error("workload.command_directory", directory=directory, error=str(error))
        return None
