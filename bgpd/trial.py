"""A configuration on trial: `bgpd reload --confirm 60s` goes back by itself unless `bgpd confirm` comes in time.

The trial is a file in the state directory, so that a crash, a restart or a reboot meanwhile does not make a
configuration permanent that nobody has confirmed: what was tried is still what the configuration's own file says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from bgpd.config.schema import Config
from bgpd.runtime.files import replace_file

NAME = "trial.json"
"""Of the file in the state directory."""

log = structlog.get_logger()


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried, until when (seconds since the epoch), and what it goes back to. `is_over`: it has gone back."""

    until: float
    tried: Config
    former: Config
    is_over: bool = False


class Trial:
    """The trial of this host, if there is one; `file` is the configuration's."""

    def __init__(self, directory: str, *, file: str, clock: Callable[[], float] = time.time) -> None:
        self.now: Tried | None = None
        self._path = Path(directory) / NAME
        self._file = file
        self._clock = clock

    def at_start(self, config: Config) -> Config:
        """What a process is to start with whose file says `config`: that, or what a trial that is over goes back to."""
        found = self._read()
        if found is None:
            return config
        if found.tried != config:
            log.info("trial.ended", reason=f"{self._file} has changed since")
            self.end()
            return config
        self.now = found
        if not found.is_over and self._clock() < found.until:
            return config
        self.go_back()
        return found.former

    def _read(self) -> Tried | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Tried)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("trial.unreadable", path=str(self._path), error=str(error))
            return None

    @property
    def until(self) -> float | None:
        """When it goes back, seconds since the epoch; None if none goes on."""
        return None if self.now is None or self.now.is_over else self.now.until

    @property
    def left_s(self) -> float | None:
        """How long the trial still takes; None if none goes on."""
        return None if self.until is None else max(0.0, self.until - self._clock())

    def begin(self, tried: Config, former: Config, seconds: float) -> None:
        """Try a configuration so long. A trial that goes on goes on, with what it goes back to. Raises: OSError."""
        if self.now is not None and not self.now.is_over:
            former = self.now.former
        self._set(Tried(until=self._clock() + seconds, tried=tried, former=former))

    def follow(self, tried: Config) -> None:
        """Another configuration was applied: it is on trial instead for as long as there is one. Raises: OSError."""
        if self.now is not None and not self.now.is_over:
            self._set(msgspec.structs.replace(self.now, tried=tried))
        else:
            self.end()

    def keep(self, before: Tried | None) -> None:
        """What was to be tried could not be applied: the trial is as it was. Raises: OSError."""
        if before is None:
            self.end()
        else:
            self._set(before)

    def go_back(self) -> Config | None:
        """The time is over: what is to be in force again."""
        if self.now is None:
            return None
        over = msgspec.structs.replace(self.now, is_over=True)
        try:
            self._set(over)
        except OSError as error:
            log.error("trial.not_saved", path=str(self._path), error=str(error))
            self.now = over
        return over.former

    def end(self) -> bool:
        """It is confirmed, or does not matter any more; whether a trial went on."""
        went_on = self.left_s is not None
        self.now = None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        return went_on

    def warnings(self) -> list[str]:
        """What an operator should know of it."""
        if self.now is None:
            return []
        if self.now.is_over:
            what = f"{self._file} was tried, not confirmed, and is not in force"
            return [f"{what}: change it, or bgpd reload applies it again"]
        until = time.strftime("%H:%M:%S", time.localtime(self.now.until))
        return [f"the configuration is on trial: at {until} it goes back, unless bgpd confirm keeps it"]

    def _set(self, tried: Tried) -> None:
        replace_file(self._path, msgspec.json.encode(tried))
        self.now = tried
