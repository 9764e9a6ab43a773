"""What happened, kept on disk: events are gathered and written some times a second, in a thread.

Nothing waits for it, and a disk that is full, slow or read-only costs the journal only: the latest events stay in
memory (`log.EventRing`), and what could not be kept is counted. Its threads are its own: those of the event loop read
the kernel, too, and none of them may hang with a disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bgpd.journal.store import JournalFile, JournalUnusable, Sought, read
from bgpd.log import EventRing
from bgpd.model.views.host import EventView
from bgpd.runtime.events import log

NAME = "journal.sqlite"
"""Of the file in the state directory."""
WRITE_S = 0.5
"""How long events are gathered before they are written."""
RETRY_S = 10.0
"""Pause after a write that failed."""
PATIENCE_S = 1.0
"""How long a write waits for one that is under way: longer, and the disk hangs."""
MOST_WAITING = 10_000
"""Events that wait for the disk; the oldest are dropped, and counted."""
_MANY = 500
"""Events that are gathered at once, before the ring drops them: hundreds of sessions may end in one moment."""


class Journal:
    """One file of events, or without a path the events in memory only.

    `error` is why the last write failed, "" if it did not; `lost` counts events that were not kept, `written` those
    that were, `bytes` is what the file holds.
    """

    def __init__(self, path: Path | None, *, max_bytes: int, events: EventRing) -> None:
        self.error = ""
        self.lost = self.written = self.bytes = 0
        self._events = events
        self._file = None if path is None else JournalFile(path, max_bytes=max_bytes)
        self._waiting: deque[EventView] = deque()
        self._taken = 0
        self._gathering = threading.Lock()
        self._using = threading.Lock()
        self._writer, self._reader = (ThreadPoolExecutor(1, thread_name_prefix="journal") for _ in range(2))
        self._wake = asyncio.Event()

    def open(self) -> None:
        """Take up the file, and let the numbers of events go on from those in it. Blocks for the disk."""
        if self._file is None:
            return
        try:
            self._events.go_on_from(self._file.open())
        except JournalUnusable as error:
            self._failed(error)
        self._say_put_aside(self._file)

    async def run(self) -> None:
        """Write what happens, until cancelled."""
        if self._file is None:
            return
        loop = asyncio.get_running_loop()

        def noticed() -> None:
            if self._events.latest - self._taken >= _MANY:
                self._gather()
            loop.call_soon_threadsafe(self._wake.set)

        unsubscribe = self._events.subscribe(noticed)
        try:
            while True:
                await loop.run_in_executor(self._writer, self.write)
                if self.error:
                    await asyncio.sleep(RETRY_S)
                    continue
                if self._events.latest <= self._taken and not self._waiting:
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(WRITE_S)
        finally:
            unsubscribe()

    async def flush(self) -> bool:
        """Write all that has happened so far: whether that is done, or cannot be; False: another waits for the disk."""
        if self._file is None:
            return True
        latest = self._events.latest
        await asyncio.get_running_loop().run_in_executor(self._writer, self.write)
        return bool(self.error) or (self._taken >= latest and not self._waiting)

    def write(self) -> None:
        """Write all that has happened so far; blocks for the disk. May be called in any thread."""
        if self._file is None or not self._using.acquire(timeout=PATIENCE_S):
            return
        try:
            self._gather()
            with self._gathering:
                events, self._waiting = self._waiting, deque()
            if not events:
                return
            try:
                self._file.append(events)
            except JournalUnusable as error:
                self._gather(before=events)
                self._failed(error)
                return
            self.written += len(events)
            self.bytes = self._file.bytes
        finally:
            self._using.release()
        if self.error:
            self.error = ""
            log.info("journal.recovered", lost=self.lost)
        self._say_put_aside(self._file)

    def _gather(self, before: Iterable[EventView] = ()) -> None:
        """Have what came since the last time wait; what the ring has dropped meanwhile is lost. `before`: what could
        not be written. In any thread."""
        with self._gathering:
            self._waiting = deque([*before, *self._waiting])
            for event in self._events.since(self._taken):
                self.lost += event.sequence - self._taken - 1 if self._taken else 0
                self._taken = event.sequence
                self._waiting.append(event)
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1

    async def read(self, sought: Sought) -> list[EventView]:
        """Events of this run and of earlier ones, oldest first; of a file that cannot be read those in memory."""
        if self._file is not None:
            path = self._file.path

            def written_then_read() -> list[EventView]:
                self.write()
                return read(path, sought)

            try:
                events = await asyncio.get_running_loop().run_in_executor(self._reader, written_then_read)
                if not self.error:
                    return events
            except JournalUnusable as error:
                self._failed(error)
        return [event for event in self._events.since() if sought.matches(event)][-sought.limit :]

    def close(self) -> None:
        """Write the rest, and give the file up; blocks for the disk, but not longer than it may hang."""
        if self._file is not None:
            try:
                self._writer.submit(self._write_and_close, self._file).result(PATIENCE_S)
            except TimeoutError:
                log.warning("journal.not_written", reason="the disk does not answer")

    def _write_and_close(self, file: JournalFile) -> None:
        self.write()
        if self._using.acquire(blocking=False):
            file.close()
            self._using.release()

    def warnings(self) -> list[str]:
        """What an operator should know of it."""
        return [f"events are not kept: {self.error}"] if self.error else []

    def _failed(self, error: JournalUnusable) -> None:
        is_new, self.error = not self.error, str(error)
        if is_new:
            log.warning("journal.not_written", reason=self.error)

    def _say_put_aside(self, file: JournalFile) -> None:
        if file.put_aside:
            log.warning("journal.put_aside", reason=file.put_aside)
            file.put_aside = ""
