"""Support bundles that the daemon takes by itself: at a defect, and when the host has not been ready for a minute.

Few and small: the newest ones are kept, one an hour is taken at most. What can be taken in a process of its own is; at
a defect, after which the process ends, only what it has in memory is written, by a thread that is not waited for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from bgpd import __version__
from bgpd.config.redaction import redacted, redacted_text
from bgpd.config.schema import Config
from bgpd.log import EventRing
from bgpd.model.views.host import HealthView
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.events import log
from bgpd.runtime.programs import output_of

DIRECTORY = "bundles"
"""In the state directory."""
KEPT = 5
MOST_BYTES = 64 * 1024 * 1024
"""Of all together."""
UNREADY_S = 60.0
PAUSE_S = 3600.0
"""Between two that are taken since the host is not ready."""
TIMEOUT_S = 120.0
LOOK_S = 5.0
DEFECT_PATIENCE_S = 2.0


class Bundles:
    """`health`, `neighbors` and `config` answer with what is now; `is_drained` whether a person took the host out."""

    def __init__(
        self,
        state_directory: str,
        *,
        socket: str,
        events: EventRing,
        health: Callable[[], HealthView],
        neighbors: Callable[[], list[NeighborView]],
        config: Callable[[], Config],
        is_drained: Callable[[], bool],
    ) -> None:
        self.directory = Path(state_directory) / DIRECTORY
        self._socket = socket
        self._events = events
        self._health = health
        self._neighbors = neighbors
        self._config = config
        self._is_drained = is_drained
        self._unready_since: float | None = None
        self._taken_at: float | None = None
        self._has_defect = False

    async def run(self) -> None:
        """Look again and again whether the host is ready, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.is_due(time.monotonic()):
                await self._take("; ".join(self._health().reasons) or "not ready")

    def is_due(self, now: float) -> bool:
        """Whether the host has not been ready for a minute now, and none was taken for it or in the last hour."""
        if self._is_drained() or self._health().ready:
            self._unready_since = None
            return False
        if self._unready_since is None:
            self._unready_since = now
        if now - self._unready_since < UNREADY_S:
            return False
        if self._taken_at is not None and (self._taken_at >= self._unready_since or now - self._taken_at < PAUSE_S):
            return False
        self._taken_at = now
        return True

    async def _take(self, reason: str) -> None:
        file = self._new_file("unready")
        command = [sys.executable, "-m", "bgpd", "bundle", "--socket", self._socket, f"--reason={reason}", str(file)]
        try:
            await asyncio.to_thread(self._make_room)
            code, said = await output_of(command, timeout_s=TIMEOUT_S)
        except OSError as error:
            code, said = 1, str(error)
        if code:
            log.warning("bundle.failed", file=str(file), reason=said[-500:])
            return
        log.warning("bundle.taken", file=str(file), reason=reason)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._make_room, 0)

    def at_defect(self, error: BaseException) -> None:
        """Keep what the process has in memory, and wait no longer than a moment for the disk."""
        if self._has_defect:
            return
        self._has_defect = True
        parts = {"error.txt": "".join(traceback.format_exception(error)), "about.txt": f"bgpd {__version__}\n"}
        for name, read in (
            ("status.json", self._health),
            ("neighbors.json", self._neighbors),
            ("config.json", self._config),
            ("events.json", self._events.since),
        ):
            try:
                parts[name] = msgspec.json.encode(redacted(msgspec.to_builtins(read()))).decode()
            except Exception as failure:
                parts[name] = f"cannot be had: {failure!r}\n"
        writer = threading.Thread(target=self._write, args=(self._new_file("defect"), parts), daemon=True)
        writer.start()
        writer.join(DEFECT_PATIENCE_S)

    def _write(self, file: Path, parts: dict[str, str]) -> None:
        import tarfile  # and what it brings along: only when there is a defect

        part = file.with_name(file.name + ".part")
        try:
            self._make_room()
            with (
                open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw,
                tarfile.open(fileobj=raw, mode="w:gz") as archive,
            ):
                for name, text in parts.items():
                    data = redacted_text(text).encode(errors="backslashreplace")
                    info = tarfile.TarInfo(f"bgpd-bundle/{name}")
                    info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
                    archive.addfile(info, io.BytesIO(data))
            part.replace(file)
            log.error("bundle.taken", file=str(file), reason="defect")
        except OSError as error:
            log.warning("bundle.failed", file=str(file), reason=str(error))
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _new_file(self, why: str) -> Path:
        return self.directory / f"bgpd-{time.strftime('%Y%m%d-%H%M%S')}-{why}.tar.gz"

    def _make_room(self, coming: int = 1) -> None:
        """Make the directory, and delete the oldest ones. Raises: OSError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for stray in self.directory.glob("bgpd-*.part"):
            stray.unlink(missing_ok=True)
        files = _oldest_first(self.directory.glob("bgpd-*.tar.gz"), time.time())
        sizes = [file.stat().st_size for file in files]
        while files and (len(files) + coming > KEPT or sum(sizes) > MOST_BYTES):
            files.pop(0).unlink(missing_ok=True)
            sizes.pop(0)


def _oldest_first(files: Iterable[Path], now: float) -> list[Path]:
    """In the order of their times. What is of a later time than now is of a clock that has gone back since: older."""
    times = {file: file.stat().st_mtime for file in files}
    return sorted(times, key=lambda file: (times[file] <= now, times[file], file))
