"""The state of a feed on disk: what orchestrators said, kept over restarts, crashes and loss of power.

A snapshot, replaced as a whole and atomically (temporary file, fsync, rename), and a journal of what changed since, one
JSON line for each change. All writing is done in a thread. A failed write is reported once and tried again, and costs
nothing but the persistence. A file that cannot be read is kept aside and reported: the feed rebuilds it. So is one with
entries that cannot be taken; the others are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of, sync_directory, write_synced
from bgpd.workload.feed.saved import Change, Saved, check_saved, read_saved, replay_change

RETRY_S, LOOK_S = 10.0, 0.25
"""Pause after a write that failed, at most; meanwhile it is looked so often whether there is more space."""

PAUSE_PART, PAUSE_S = 5, 0.05
"""Pause after a write that succeeded: so many times what it took, this at most. A burst is not slowed by the disk."""

MAX_REPORTED = 20
"""Entries that are left out: so many are logged."""

JOURNAL_BYTES = 256 * 1024
"""A journal of so many bytes, and longer than its snapshot, becomes part of a new snapshot."""


class StateFile:
    """One file below the state directory, and its journal. `changed()` is called when `error` changed.

    `error` is why the last read or write failed, "" if it did not.
    """

    def __init__(self, directory: str, name: str, *, changed: Callable[[], None] = lambda: None) -> None:
        self.path = Path(directory) / name
        self.error = ""
        self._error_changed = changed
        self._pending: list[bytes] = []
        self._changed = asyncio.Event()
        self._progress = asyncio.Event()
        self._noted = self._kept = 0
        self._is_failing = False
        self._free_at_failure = 0
        self._writing = threading.Lock()
        self._started = self._replaced = 0
        self._journal = 0
        self._bytes = (0, 0)
        self._must_replace = False

    def supersede(self) -> None:
        """What is in force is not what the file says: it is to be written whole."""
        self._must_replace = True

    def journal_path(self, number: int) -> Path:
        """The journal that follows the snapshot of this number."""
        return self.path.with_name(f"{self.path.name}.{number}.journal")

    def load(self) -> Saved | None:
        """What was saved; None if there is nothing, or nothing that can be read (then it is kept aside)."""
        saved, wrong = None, dict[str, str]()
        try:
            body = self.path.read_bytes()
            saved, wrong = read_saved(body)
            self._journal = saved.journal
        except FileNotFoundError:
            pass
        except OSError as error:
            self._failed("state.unreadable", error)
            return None
        except UNREADABLE as error:
            for path in (self.path, *self._journals()):
                with contextlib.suppress(OSError):
                    path.replace(path.with_name(path.name + ".damaged"))
            self._failed("state.damaged", error, kept_as=f"{self.path}.damaged")
            return None
        saved = self._replay(saved, wrong)
        if saved is not None:
            wrong |= check_saved(saved)
        if wrong:
            self._report_left_out(wrong)
        return saved

    def _report_left_out(self, wrong: Mapping[str, str]) -> None:
        """Entries of the file, or of its journal, are not in force: the next snapshot will not have them."""
        import shutil  # and compression with it: only when a file is damaged

        for path in (self.path, *self._journals()):
            with contextlib.suppress(OSError):
                shutil.copy2(path, path.with_name(path.name + ".damaged"))
        for entry, reason in list(wrong.items())[:MAX_REPORTED]:
            log.error("state.entry_left_out", path=str(self.path), entry=entry[:300], reason=reason[:1000])
        first = next(iter(wrong))
        many = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        self.error = f"{self.path}: {first[:300]}{many} cannot be taken; kept as {self.path}.damaged"

    def _replay(self, saved: Saved | None, wrong: dict[str, str]) -> Saved | None:
        """With the changes of the journal; one whose writing was cut short is no change. `wrong` gets the entries that
        cannot be taken."""
        path = self.journal_path(self._journal)
        try:
            *lines, rest = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return saved
        except OSError as error:
            self._failed("state.unreadable", error)
            return saved
        saved = saved or Saved()
        self._must_replace = True
        try:
            for line in lines:
                replay_change(line, saved, wrong)
        except UNREADABLE as error:
            self._failed("state.damaged", error, kept_as=f"{path}.damaged")
            with contextlib.suppress(OSError):
                path.replace(path.with_name(path.name + ".damaged"))
        if rest:
            log.warning("state.cut_short", path=str(path), bytes=len(rest))
        return saved

    def _journals(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.*.journal"))

    def set_aside(self, suffix: str) -> None:
        """Begin with nothing; what was there is kept under a longer name."""
        for path in (self.path, *self._journals()):
            with contextlib.suppress(OSError):
                path.replace(path.with_name(f"{path.name}.{suffix}"))
        self._journal = 0
        self._must_replace = True

    def _failed(self, event: str, error: Exception, **fields: str) -> None:
        if not self.error:
            log.error(event, path=str(self.path), error=reason_of(error), **fields)
        self.error = f"{self.path}: {reason_of(error)}"

    def note(self, change: Change) -> None:
        """This changed, and is to be written."""
        self._pending.append(msgspec.json.encode(change) + b"\n")
        self._noted += 1
        self._changed.set()

    async def kept(self) -> str:
        """Wait until all that was noted is on disk: ""; or cannot be written: the reason."""
        noted = self._noted
        while self._kept < noted and not self._is_failing:
            await self._progress.wait()
        return self.error if self._kept < noted else ""

    @property
    def why_not_kept(self) -> str:
        """Why what was noted is not on disk now, "" if it is."""
        if self._kept == self._noted:
            return ""
        return self.error if self._is_failing else f"{self.path}: the disk has not taken it yet"

    async def run(self, snapshot: Callable[[], Saved]) -> None:
        """Write what is noted, or now and then `snapshot()`, until cancelled; then the whole."""
        if self._must_replace:
            self._changed.set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                began = loop.time()
                if await self._write_noted(snapshot):
                    await asyncio.sleep(min(PAUSE_PART * (loop.time() - began), PAUSE_S))
                else:
                    await self._wait_for_space()
                    self._changed.set()
        finally:
            if self._bytes[0] or self._must_replace or self._kept < self._noted:
                self._started += 1
                self.write(snapshot(), self._started)

    async def _wait_for_space(self) -> None:
        """Until the file system has more space than when a write failed, or for `RETRY_S`."""
        loop = asyncio.get_running_loop()
        end, least = loop.time() + RETRY_S, self._free_at_failure
        while loop.time() < end:
            await asyncio.sleep(LOOK_S)
            free = await asyncio.to_thread(_free_space, self.path.parent)
            if free > least:
                return
            least = free

    async def _write_noted(self, snapshot: Callable[[], Saved]) -> bool:
        lines, noted, error = b"".join(self._pending), self._noted, self.error
        self._pending.clear()
        self._started += 1
        journal, whole = self._bytes
        if self._must_replace or journal + len(lines) > max(JOURNAL_BYTES, whole):
            done = await asyncio.to_thread(self.write, snapshot(), self._started)
        else:
            done = await asyncio.to_thread(self.append, lines, self._started)
        self._must_replace = self._is_failing = not done
        if done:
            self._kept = noted
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()
        if error != self.error:
            self._error_changed()
        return done

    def append(self, lines: bytes, number: int) -> bool:
        """Add to the journal; blocks for the disk. Whether it succeeded. `number` as for `write`."""
        with self._writing:
            if number < self._replaced:
                return True
            path = self.journal_path(self._journal)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_synced(path, lines, os.O_APPEND)
                if not self._bytes[0]:
                    sync_directory(path.parent)
            except OSError as error:
                self._free_at_failure = _free_space(self.path.parent)
                self._failed("state.not_written", error)
                return False
            self._bytes = (self._bytes[0] + len(lines), self._bytes[1])
            self._succeeded()
            return True

    def write(self, saved: Saved, number: int = 0) -> bool:
        """Replace the file, and begin a new journal; blocks for the disk. Whether it succeeded.

        `number` orders what several threads write: nothing older is written after a snapshot.
        """
        with self._writing:
            if number < self._replaced:
                return True
            temporary = self.path.with_name(self.path.name + ".new")
            body = msgspec.json.encode(msgspec.structs.replace(saved, journal=self._journal + 1))
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_synced(temporary, body, os.O_TRUNC)
                temporary.replace(self.path)
                self._journal += 1
                sync_directory(self.path.parent)
                for path in self._journals():
                    path.unlink(missing_ok=True)
            except OSError as error:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                self._free_at_failure = _free_space(self.path.parent)
                self._failed("state.not_written", error)
                return False
            self._replaced = number
            self._bytes = (0, len(body))
            self._must_replace = False
            self._succeeded()
            return True

    def _succeeded(self) -> None:
        if self.error:
            log.info("state.written_again", path=str(self.path))
        self.error = ""


def _free_space(directory: Path) -> int:
    """Bytes that a write may take; 0 if there is no such directory."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
