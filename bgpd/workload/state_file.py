"""The state file of a feed: what orchestrators said, kept over restarts.

Written whole and atomically (temporary file, fsync, rename, in a thread); a failed write is told once and tried again,
and costs nothing but the persistence. A file that cannot be read is kept aside and told: the feed rebuilds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from bgpd.workload.feed import Saved

log = structlog.get_logger()

SETTLE_S = 0.1
"""Changes within this time are written together, ..."""
PAUSE_PART = 5
"""... and after a write follows a pause of so many times what it took: a burst is not slowed by its persistence."""

RETRY_S = 10.0
"""Pause after a write that failed."""


class StateFile:
    """One file below the state directory. `error` is why the last read or write failed, "" if it did not."""

    def __init__(self, directory: str, name: str) -> None:
        self.path = Path(directory) / name
        self.error = ""
        self._changed = asyncio.Event()
        self._writing = threading.Lock()
        self._snapshots = 0
        self._written = 0

    def load(self) -> Saved | None:
        """What was saved; None if there is nothing, or nothing that can be read (then it is kept aside)."""
        try:
            body = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed("state.unreadable", error)
            return None
        try:
            return msgspec.json.decode(body, type=Saved)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            aside = self.path.with_name(self.path.name + ".damaged")
            with contextlib.suppress(OSError):
                self.path.replace(aside)
            self._failed("state.damaged", error, kept_as=str(aside))
            return None

    def _failed(self, event: str, error: Exception, **fields: str) -> None:
        if not self.error:
            log.error(event, path=str(self.path), error=str(error), **fields)
        self.error = f"{self.path}: {error}"

    def changed(self) -> None:
        """There is something to write."""
        self._changed.set()

    async def run(self, snapshot: Callable[[], Saved]) -> None:
        """Write `snapshot()` after each change, until cancelled; then once more if something was left."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(SETTLE_S)
                self._changed.clear()
                self._snapshots += 1
                began = loop.time()
                if not await asyncio.to_thread(self.write, snapshot(), self._snapshots):
                    self._changed.set()
                    await asyncio.sleep(RETRY_S)
                    continue
                await asyncio.sleep(PAUSE_PART * (loop.time() - began))
        finally:
            if self._changed.is_set():
                self._snapshots += 1
                self.write(snapshot(), self._snapshots)

    def write(self, saved: Saved, number: int = 0) -> bool:
        """Replace the file; blocks for the disk. Whether it succeeded.

        `number` orders snapshots that several threads write: an older one never replaces a newer one.
        """
        with self._writing:
            if number < self._written:
                return True
            if not self._write(saved):
                return False
            self._written = number
            return True

    def _write(self, saved: Saved) -> bool:
        temporary = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(saved))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._failed("state.not_written", error)
            return False
        if self.error:
            log.info("state.written_again", path=str(self.path))
        self.error = ""
        return True

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
