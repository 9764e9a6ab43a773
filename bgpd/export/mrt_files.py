"""What sessions say, as MRT files (RFC 6396 BGP4MP_ET): one after the other, of a bounded size in all.

Records are gathered for half a second and written by a thread. A disk that is full or hangs costs records, which are
counted, and never the sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from bgpd.config.schema import MrtConfig
from bgpd.export.sessions import TappedSessions
from bgpd.message.exabgp_codec import Notification, encode_message
from bgpd.message.mrt import MrtPeer, SessionState, message_record, state_change
from bgpd.model.iana import MessageType
from bgpd.model.source import Source
from bgpd.runtime.events import log
from bgpd.speaker.tap import TappedSession

FLUSH_S = 0.5
PATIENCE_S = 1.0
"""How long the end waits for the disk."""
MAX_WAITING_BYTES = 8 * 1024 * 1024
AGAIN_S = 60.0
"""After a defect, when it is listened again."""
_PATTERN = "updates-*.mrt"


class MrtFiles:
    """[mrt]: a SessionTap. `local_asn` answers with this host's AS number."""

    def __init__(self, config: MrtConfig, *, sessions: TappedSessions, local_asn: Callable[[], int]) -> None:
        self.lost = 0
        self.problem = ""
        self._config = config
        self._sessions = sessions
        self._local_asn = local_asn
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._path: Path | None = None
        self._begun_at = -math.inf
        self._listen_at: float | None = None
        self._one_at_a_time = threading.Lock()

    async def run(self) -> None:
        """Write what comes, until cancelled; what has come by then is written, too."""
        self._listen()
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            self._sessions.remove(self)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await asyncio.to_thread(self._write, self._taken())
            except TimeoutError:
                log.warning("mrt.files", problem="the disk does not answer, and the last records are lost")

    def _listen(self) -> None:
        self._listen_at = None
        self._sessions.add(self)
        for session in self._sessions.established.values():
            self.session_up(session)

    def failed(self, defect: Exception) -> None:
        self.problem = f"a defect of bgpd: {defect!r}"
        self._listen_at = time.monotonic() + AGAIN_S

    # SessionTap

    def session_up(self, session: TappedSession) -> None:
        self._put(
            state_change(time.time(), *self._sides(session), (SessionState.OPENCONFIRM, SessionState.ESTABLISHED))
        )

    def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
        session = self._sessions.established.get(source)
        if session is not None:
            sides, now = self._sides(session), time.time()
            for body in bodies:
                message = encode_message(MessageType.UPDATE, body)
                self._put(message_record(now, *sides, message, four_octet_as=session.four_octet_as))

    def updates_sent(self, source: Source, messages: Sequence[bytes]) -> None:
        """Only what neighbors say is kept."""

    def session_down(self, source: Source, notification: Notification | None, *, sent: bool) -> None:
        peer = MrtPeer(source.router_id, source.address, source.asn)
        local = MrtPeer(b"", bytes(len(source.address)), self._local_asn())
        self._put(state_change(time.time(), peer, local, (SessionState.ESTABLISHED, SessionState.IDLE)))

    def _sides(self, session: TappedSession) -> tuple[MrtPeer, MrtPeer]:
        source = session.source
        return (
            MrtPeer(source.router_id, source.address, source.asn),
            MrtPeer(b"", session.local_address, self._local_asn()),
        )

    # The files

    def _put(self, record: bytes) -> None:
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.lost += 1
            return
        self._waiting.append(record)
        self._waiting_bytes += len(record)

    def _taken(self) -> list[bytes]:
        taken = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return taken

    async def flush(self) -> None:
        """Write what has come; returns when it is written, or cannot be."""
        try:
            if self._listen_at is not None and time.monotonic() >= self._listen_at:
                self._listen()
            await self._flush()
        except Exception as defect:
            log.exception("export.failed", listener="MrtFiles")
            self.problem = f"a defect of bgpd: {defect!r}"

    async def _flush(self) -> None:
        if not self._waiting:
            return
        taken = self._taken()
        problem = await asyncio.to_thread(self._write, taken)
        if problem:
            self.lost += len(taken)
        if problem != self.problem:
            log.tell("warning" if problem else "info", "mrt.files", problem=problem, lost=self.lost)
        if self._listen_at is None or problem:
            self.problem = problem

    def _write(self, records: Sequence[bytes]) -> str:
        """Why they could not be written, "" if they were. Runs in a thread."""
        if not records:
            return ""
        data = b"".join(records)
        try:
            with self._one_at_a_time, self._current(len(data)).open("ab") as file:
                size = file.tell()
                try:
                    file.write(data)
                    file.flush()
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(file.fileno(), size)
                    raise
        except OSError as error:
            self._path = None
            return f"{self._config.directory} cannot be written: {error.strerror}"
        return ""

    def _current(self, coming: int) -> Path:
        """The file to write to: a new one when its time is over; the oldest ones go when all are too much."""
        now = time.time()
        is_due = time.monotonic() - self._begun_at >= self._config.rotate_s
        if self._path is None or is_due or not self._path.exists():
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
            self._path = Path(self._config.directory) / f"updates-{stamp}-{int(now % 1 * 1000):03}.mrt"
            self._begun_at = time.monotonic()
        sizes = {}
        for file in self._oldest_first(self._path):
            with contextlib.suppress(FileNotFoundError):  # somebody else deletes files, too
                sizes[file] = file.stat().st_size
        total = sum(sizes.values()) + coming
        for file, size in sizes.items():
            if total <= self._config.max_bytes or file == self._path:
                break
            file.unlink(missing_ok=True)
            total -= size
        if total > self._config.max_bytes and sizes.get(self._path, 0):
            self._begun_at = -math.inf  # the next flush begins another file, and this one may go
        return self._path

    def _oldest_first(self, current: Path) -> list[Path]:
        """All files. One that is named after the current one is of a clock that has gone back since: it is older."""
        return sorted(Path(self._config.directory).glob(_PATTERN), key=lambda file: (file.name <= current.name, file))
