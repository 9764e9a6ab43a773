"""How descriptors reach the next process of bgpd: whoever keeps them until it starts.

Systemd keeps them while the service restarts, passes them to the next process, and closes them when the service is
stopped instead, or the next process fails (ExecStopPost= of the unit): all by one name, so that they are closed at
once. Which is which says a list that is kept with them. Where the process becomes the next one (execve(2)), they just
stay open. Knows nothing of what the descriptors are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from bgpd.handover.signals import raise_again
from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime import systemd

VARIABLE = systemd.LEFT_OPEN
"""Names the descriptors that stay open when the process becomes the next one: "snapshot=7,session-1=9"."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Blocked from before the process becomes the next one until that one hears them: they would end it."""

BEGIN_S = 7.0
"""So long the next process may take until it has `inherited`, and is ended if it takes longer: less than a hold time of
9 s, so that neighbors see connections that end, which they help with. TimeoutStartSec= of the unit is the same."""

KEPT = "bgpd"
"""The name that systemd keeps all of them by; the unit knows it, too."""
_LIST = "bgpd-descriptors"
_KEPT_SIGNALS = "signals"
_Where = tuple[int, int]
"""Device and inode of what a descriptor is of: no two are alike as long as both are open."""


class _Listed(msgspec.Struct, frozen=True):
    """What is kept with the descriptors: which name each has. `number` is higher in later lists."""

    number: int
    names: dict[str, _Where]


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
        needed = len(descriptors) + 1
        if needed > self._places:
            raise StoreUnusable(
                f"systemd keeps {self._places} descriptors for this service, {needed} are needed: raise "
                "FileDescriptorStoreMax= and FDSTORE= of its unit"
            )
        names = {name: _where(descriptor) for name, descriptor in descriptors.items()}
        listed = os.memfd_create(_LIST, os.MFD_CLOEXEC)
        try:
            number = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            os.write(listed, msgspec.json.encode(_Listed(number=number, names=names)))
            systemd.store_descriptors(KEPT, [listed, *descriptors.values()])
        except OSError as error:
            systemd.remove_descriptors(KEPT)
            raise StoreUnusable(f"systemd does not take the descriptors: {error.strerror or error}") from error
        finally:
            os.close(listed)


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

    def become(self, command: Sequence[str], *, signals: int | None = None) -> None:
        """Become this program, which finds the descriptors by `inherited`, and has SIGNALS blocked until it hears them,
        also those that the descriptor `signals` has (signals.py). If it has not done so after BEGIN_S, the kernel ends
        it (SIGALRM).

        Raises: OSError: it cannot be run; nothing is kept any more.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if signals is not None:
                self._kept[_KEPT_SIGNALS] = os.dup(signals)
            environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
            environment[VARIABLE] = ",".join(f"{name}={descriptor}" for name, descriptor in self._kept.items())
            for descriptor in self._kept.values():
                os.set_inheritable(descriptor, True)
            signal.setitimer(signal.ITIMER_REAL, BEGIN_S)  # goes on over the exec
            os.execve(command[0], list(command), environment)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
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
    """What a predecessor left to this process, by name, each once: a second call finds nothing. There is time for the
    rest of the start from now on."""
    found = _left_open()
    if _KEPT_SIGNALS in found:
        raise_again(found.pop(_KEPT_SIGNALS))
    signal.setitimer(signal.ITIMER_REAL, 0)
    systemd.extend_timeout(systemd.START_S)
    passed = [descriptor for _, descriptor in systemd.passed_descriptors()]
    if passed:
        systemd.remove_descriptors(KEPT)
    lists = [listed for listed in map(_list_in, passed) if listed is not None]
    names = max(lists, key=lambda listed: listed.number).names if lists else {}
    by_place = {where: name for name, where in names.items() if name not in found}
    for descriptor in passed:
        name = by_place.pop(_where(descriptor), "")
        if name:
            found[name] = descriptor
        else:
            os.close(descriptor)
    return found


def _where(descriptor: int) -> _Where:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _list_in(descriptor: int) -> _Listed | None:
    """The list, if this is one."""
    try:
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"/memfd:{_LIST} "):
            return None
        return msgspec.json.decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0), type=_Listed)
    except (OSError, *UNREADABLE):
        return None


def _left_open() -> dict[str, int]:
    """What this process kept open when it became this program."""
    found: dict[str, int] = {}
    for item in os.environ.pop(VARIABLE, "").split(","):
        name, _, number = item.rpartition("=")
        if not name or not number.isdecimal() or name in found:
            continue
        with contextlib.suppress(OSError, OverflowError):  # no descriptor of this process: another program's variable
            os.set_inheritable(int(number), False)
            found[name] = int(number)
    return found
