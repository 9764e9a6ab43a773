"""A configuration on trial: `bgpd reload --confirm 60s` goes back by itself unless `bgpd confirm` comes in time.

The trial is a file in the state directory, so that a crash, a restart or a reboot meanwhile does not make a
configuration permanent that nobody has confirmed: what was tried is still what the configuration's own file says.
There are two copies of that file, so that one that is damaged loses nothing.

The time is that of the boot clock, which nobody can set; after a start of the host, that of the wall clock, and never
longer than the whole trial.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bgpd.config.effects import keep_until_restart
from bgpd.config.load import Loaded
from bgpd.config.schema import Config
from bgpd.model.clocks import Monotonic, WallClock
from bgpd.model.identity import Identity
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.views.host import ConfigurationView
from bgpd.runtime.boot import boot_id
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of, replace_file, sync_directory

NAME, COPY = "trial.json", "trial.copy.json"
"""Of the file in the state directory; and of its copy, which is written before it and counts only beside it."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried, until when (seconds since the epoch), and what it goes back to, with where that came from.

    `seconds`: how long it takes in all; `boot_until` is when it ends by the boot clock of `boot_id`. `is_over`: it has
    gone back.
    """

    until: WallClock
    seconds: Monotonic = 1e9
    boot_id: str = ""
    boot_until: Monotonic = 0.0
    tried: Config
    former: Config
    origin: ConfigurationView = msgspec.field(default_factory=ConfigurationView)
    is_over: bool = False


class Trial:
    """The trial of this host, if there is one; `file` is the configuration's.

    `clock()` is the wall clock, `boot_clock()` the time since the boot `boot_id()`, with what the host slept.
    """

    def __init__(
        self,
        directory: str,
        *,
        file: str,
        clock: Callable[[], float] = time.time,
        boot_clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        self.now: Tried | None = None
        self._path = Path(directory) / NAME
        self._copy = Path(directory) / COPY
        self._file = file
        self._clock = clock
        self._boot_clock = boot_clock
        self._boot_id = boot_id
        self._unreadable = ""

    def at_start(self, loaded: Loaded) -> Loaded:
        """What a process is to start with whose file says `loaded`: that, or what a trial that is over goes back to.

        While a trial goes on it tries the file as it is now, as a reload would; what takes effect at a start only
        is not tried.
        """
        found = self._read()
        if found is None:
            return loaded
        goes_on = not found.is_over and self._left_s(found) > 0
        if found.tried != loaded.config and not goes_on:
            log.info("trial.ended", reason=f"{self._file} has changed since")
            self.end()
            return loaded
        self.now = found
        if not goes_on:
            return self.go_back(loaded) or loaded
        if found.tried != loaded.config:
            self._keep(msgspec.structs.replace(found, tried=loaded.config))
        return loaded._replace(config=keep_until_restart(found.former, loaded.config))

    def _read(self) -> Tried | None:
        if not os.path.lexists(self._path):
            return None
        for path in (self._path, self._copy):
            try:
                return msgspec.json.decode(path.read_bytes(), type=Tried)
            except (OSError, *UNREADABLE) as error:
                log.error("trial.unreadable", path=str(path), error=reason_of(error))
        self._unreadable = f"{self._path} cannot be read, nor its copy"
        return None

    def _left_s(self, tried: Tried) -> float:
        if tried.boot_id == self._boot_id():
            return max(0.0, tried.boot_until - self._boot_clock())
        return max(0.0, min(tried.until - self._clock(), tried.seconds))

    @property
    def left_s(self) -> float | None:
        """How long the trial still takes; None if none goes on."""
        return None if self.now is None or self.now.is_over else self._left_s(self.now)

    @property
    def until(self) -> float | None:
        """When it goes back, seconds since the epoch; None if none goes on."""
        return None if self.left_s is None else self._clock() + self.left_s

    def begin(self, tried: Config, former: Config, seconds: float, *, origin: ConfigurationView | None = None) -> None:
        """Try a configuration so long. A trial that goes on goes on, with what it goes back to. Raises: OSError.

        `origin`: where the former configuration came from.
        """
        origin = origin or ConfigurationView()
        if self.now is not None and not self.now.is_over:
            former, origin = self.now.former, self.now.origin
        tried_now = Tried(
            until=self._clock() + seconds,
            seconds=seconds,
            boot_id=self._boot_id(),
            boot_until=self._boot_clock() + seconds,
            tried=tried,
            former=former,
            origin=origin,
        )
        self._set(tried_now)

    def follow(self, tried: Config) -> None:
        """Another configuration was applied: it is on trial instead for as long as there is one. Raises: OSError."""
        if self.now is not None and not self.now.is_over:
            self._set(msgspec.structs.replace(self.now, tried=tried))
        else:
            self.end()

    def keep(self, before: Tried | None) -> None:
        """What was to be tried could not be applied: the trial is as it was."""
        if before is None:
            self.end()
        else:
            self._keep(before)

    def go_back(self, loaded: Loaded) -> Loaded | None:
        """The time is over: what is to be in force again, where the file says `loaded`."""
        if self.now is None:
            return None
        now, origin = self.now, self.now.origin
        if not now.is_over:
            log.warning("trial.taken_back", file=self._file)
        self._keep(msgspec.structs.replace(now, is_over=True))
        loaded = loaded._replace(config=now.former)
        if not origin.files:
            return loaded
        identity = Identity(asn=origin.asn, router_id=origin.router_id)
        return loaded._replace(files=tuple(origin.files), variables=origin.variables, identity=identity)

    def confirm(self) -> bool:
        """Keep what is tried, or what is in force though its trial cannot be read; whether there was something to
        confirm. What has gone back already stays so.

        Raises: OSError: it would go back after a restart.
        """
        if self.until is None and not self._unreadable:
            return False
        self._remove()
        self.now = None
        return True

    def end(self) -> None:
        """It does not matter any more."""
        try:
            self._remove()
        except OSError as error:
            log.error("trial.not_saved", path=str(self._path), error=reason_of(error))
        self.now = None

    def warnings(self) -> list[str]:
        """What an operator should know of it."""
        if self._unreadable:
            what = f"{self._unreadable}: {self._file} is in force, though it may be on trial, and nothing goes back"
            return [f"{what}; bgpd confirm keeps it, a reload of another one replaces it"]
        if self.now is None:
            return []
        if self.now.is_over:
            what = f"{self._file} was tried, not confirmed, and is not in force"
            return [f"{what}: change it, or bgpd reload applies it again"]
        until = time.strftime("%H:%M:%S UTC", time.gmtime(self.until))
        return [f"the configuration is on trial: at {until} it goes back, unless bgpd confirm keeps it"]

    def _set(self, tried: Tried) -> None:
        body = msgspec.json.encode(tried)
        replace_file(self._copy, body)
        replace_file(self._path, body)
        self.now, self._unreadable = tried, ""

    def _keep(self, tried: Tried) -> None:
        """As `_set`, also where it cannot be saved."""
        try:
            self._set(tried)
        except OSError as error:
            log.error("trial.not_saved", path=str(self._path), error=reason_of(error))
            self.now = tried

    def _remove(self) -> None:
        """A loss of power does not bring it back. Raises: OSError."""
        for path in (self._path, self._copy):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
                sync_directory(path.parent)
        self._unreadable = ""
