"""How descriptors reach the next process of bgpd: whoever keeps them until it starts.

Systemd keeps them while the service restarts: it knows them by name, passes them to the next process, and closes them
when the service is stopped instead, or is not started again. Where the process becomes the next one (execve(2)), they
just stay open. Knows nothing of what the descriptors are.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from bgpd.runtime import systemd

log = structlog.get_logger()

VARIABLE = "BGPD_DESCRIPTORS"
"""Names the descriptors that stay open when the process becomes the next one: "snapshot=7,session-1=9"."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Blocked from before the process becomes the next one until that one hears them: they would end it."""

_KEPT_NAME = re.compile(r"bgpd-([0-9a-f]{16})-(.+)")
"""By systemd: each hand-over has a higher number than those before it, so that what an earlier one left is not used."""


class StoreUnusable(Exception):
    """Nobody keeps the descriptors; the text says why."""


class HandOverFailed(Exception):
    """Why the sessions stay with this process."""


class DescriptorStore(Protocol):
    """Who keeps descriptors from one process to the next."""

    def keep(self, descriptors: Mapping[str, int]) -> None:
        """Have duplicates of these kept, by name, until the successor starts.

        Raises: StoreUnusable: none is kept.
        """


class SystemdStore:
    """Systemd keeps the descriptors (FileDescriptorStoreMax= of the unit)."""

    def __init__(self, places: int) -> None:
        self._places = places

    def keep(self, descriptors: Mapping[str, int]) -> None:
        if len(descriptors) > self._places:
            raise StoreUnusable(
                f"systemd keeps {self._places} descriptors for this service, {len(descriptors)} are needed: raise "
                "FileDescriptorStoreMax= and FDSTORE= of its unit"
            )
        number = f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME):016x}"
        named = [(f"bgpd-{number}-{name}", descriptor) for name, descriptor in descriptors.items()]
        try:
            systemd.store_descriptors(named)
        except OSError as error:
            with contextlib.suppress(OSError):
                systemd.remove_descriptors(name for name, _ in named)
            raise StoreUnusable(f"systemd does not take the descriptors: {error.strerror or error}") from error


class ExecStore:
    """The process itself keeps the descriptors, and becomes the next one."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}

    def keep(self, descriptors: Mapping[str, int]) -> None:
        try:
            for name, descriptor in descriptors.items():
                self._kept[name] = os.dup(descriptor)
        except OSError as error:
            self._close()
            raise StoreUnusable(f"no descriptor is left: {error.strerror}") from error

    def become(self, command: Sequence[str]) -> None:
        """Become this program, which finds the descriptors by `inherited`, and has SIGNALS blocked until it hears them.

        Raises: OSError: it cannot be run; nothing is kept any more.
        """
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment[VARIABLE] = ",".join(f"{name}={descriptor}" for name, descriptor in self._kept.items())
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for descriptor in self._kept.values():
                os.set_inheritable(descriptor, True)
            os.execve(command[0], list(command), environment)
        finally:
            self._close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _close(self) -> None:
        for descriptor in self._kept.values():
            os.close(descriptor)
        self._kept.clear()


def store_of_service() -> DescriptorStore | None:
    """Who keeps descriptors while this service restarts; None: it is no service, or nobody does."""
    places = systemd.store_places()
    return SystemdStore(places) if places else None


def inherited() -> dict[str, int]:
    """What a predecessor left to this process, by name, each once: a second call finds nothing."""
    found = _left_open()
    passed = systemd.passed_descriptors()
    if passed:
        with contextlib.suppress(OSError):
            systemd.remove_descriptors(dict.fromkeys(name for name, _ in passed if name))
    newest = max((match[1] for name, _ in passed if (match := _KEPT_NAME.fullmatch(name))), default="")
    for name, descriptor in passed:
        match = _KEPT_NAME.fullmatch(name)
        if match is None or match[1] != newest or match[2] in found:
            log.warning("handover.descriptor_not_used", name=name)
            os.close(descriptor)
        else:
            found[match[2]] = descriptor
    return found


def _left_open() -> dict[str, int]:
    """What this process kept open when it became this program."""
    found: dict[str, int] = {}
    for item in os.environ.pop(VARIABLE, "").split(","):
        name, _, number = item.rpartition("=")
        if not name or not number.isdecimal() or name in found:
            continue
        with contextlib.suppress(OSError):  # no descriptor of this process: the variable is another program's
            os.set_inheritable(int(number), False)
            found[name] = int(number)
    return found
