"""What is known of services, on the disk: a crash must not withdraw a service that works until its checks have answered
`rise` times.

A file of the state directory, `services.json`, written again soon after something in it changed. What an upgrade leaves
by its snapshot is newer, and goes before it. What is of another start of the host counts nothing: its clock began
anew, and so did all that runs on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.boot import boot_id
from bgpd.runtime.events import log
from bgpd.runtime.files import replace_file
from bgpd.workload.service.saved_health import SavedCheck
from bgpd.workload.service.saved_standing import SavedStanding

NAME = "services.json"
SLICE = 50
"""Services that are encoded in one step."""
PAUSE_S, PAUSE_PART = 1.0, 50
"""Pause after a write: so long, and so many times what it took."""


class SavedService(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one service."""

    standing: SavedStanding
    health: list[SavedCheck]


class _File(msgspec.Struct, frozen=True):
    boot_id: str
    services: dict[str, msgspec.Raw]


class ServiceFile:
    """The file; `of(name)` is what is known of a service now, None if there is none of this name."""

    def __init__(
        self,
        directory: str,
        *,
        of: Callable[[str], SavedService | None],
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        self._path = Path(directory) / NAME
        self._of = of
        self._boot_id = boot_id
        self._services: dict[str, bytes] = {}
        self._is_new = False
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._is_failing = False

    def load(self) -> dict[str, SavedService]:
        """What an earlier process knew; empty if nothing that counts is there."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
            if found.boot_id != self._boot_id():
                return {}
        except FileNotFoundError:
            return {}
        except (OSError, *UNREADABLE) as error:
            log.warning("service.file_unreadable", path=str(self._path), error=str(error))
            return {}
        saved: dict[str, SavedService] = {}
        for name, raw in found.services.items():
            try:
                saved[name] = msgspec.json.decode(raw, type=SavedService)
            except UNREADABLE as error:  # of a version that took what this one refuses
                log.warning("service.entry_unreadable", path=str(self._path), service=name[:300], error=str(error))
        return saved

    def note(self, name: str) -> None:
        """What is known of a service may have changed."""
        self._changed[name] = None
        self._wake.set()

    async def run(self) -> None:
        """Write what is noted, until cancelled; then the rest."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                began = loop.time()
                while self._changed:
                    self._take(SLICE)
                    await asyncio.sleep(0)
                await asyncio.to_thread(self._write, dict(self._services))
                await asyncio.sleep(max(PAUSE_S, PAUSE_PART * (loop.time() - began)))
        finally:
            self._take(len(self._changed))
            self._write(self._services)

    def _take(self, most: int) -> None:
        """Encode services that changed, so many at most."""
        for name in list(islice(self._changed, most)):
            del self._changed[name]
            known = self._of(name)
            before = self._services.pop(name, None)
            if known is not None:
                self._services[name] = msgspec.json.encode(known)
            self._is_new = self._is_new or before != self._services.get(name)

    def _write(self, services: dict[str, bytes]) -> None:
        if not self._is_new:
            return
        self._is_new = False
        raw = {name: msgspec.Raw(body) for name, body in services.items()}
        try:
            replace_file(self._path, msgspec.json.encode(_File(self._boot_id(), raw)))
        except OSError as error:
            if not self._is_failing:
                log.error("service.file_not_written", path=str(self._path), error=str(error))
            self._is_failing = self._is_new = True
        else:
            self._is_failing = False
