"""BFD of a modelled router, for one neighbor: from RFC 5880 alone, asynchronous mode, one interval that never changes.

It is told by the forwarding plane, so that it goes on while the router's processes restart gracefully (C bit).
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from bgpd.simulation.network import Port

INTERVAL_S = 1.0
MULTIPLIER = 3
ADMIN_DOWN, DOWN, INIT, UP = range(4)
_FORMAT = struct.Struct("!BBBBIIIII")
_SILENT, _SIGNALED = 1, 3
_POLL, _FINAL, _INDEPENDENT = 0x20, 0x10, 0x08


class Pace(NamedTuple):
    """Of packets: how far apart, and how many may be missed."""

    interval_s: float = INTERVAL_S
    multiplier: int = MULTIPLIER


class LeafBfd:
    """`failed` is called when a session that was Up goes Down, and not on purpose. `is_shut`: its operator has taken it
    AdminDown, which it says for as long."""

    def __init__(
        self,
        port: Port,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
        *,
        failed: Callable[[], None],
        pace: Pace,
    ) -> None:
        self.state = ADMIN_DOWN
        self._pace = pace
        self.is_shut = False
        self._port = port
        self._loop = loop
        self._chance = chance
        self._failed = failed
        self._diagnostic = 0
        self._yours = 0
        self._detection: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, if it does not run."""
        if self._sending is None:
            self.state = ADMIN_DOWN if self.is_shut else DOWN
            self._send_again()

    def shut(self, *, is_shut: bool) -> None:
        """Its operator takes it AdminDown, or lets it go on."""
        if is_shut is not self.is_shut:
            self.is_shut = is_shut
            if self._sending is not None:
                self.stop(is_orderly=False)
                self.start()

    def stop(self, *, is_orderly: bool) -> None:
        """End; in order, the neighbor hears that this is on purpose."""
        self.state, self._yours = ADMIN_DOWN, 0
        for timer in (self._detection, self._sending):
            if timer is not None:
                timer.cancel()
        self._detection = self._sending = None
        if is_orderly:
            self._send()

    def received(self, data: bytes) -> None:
        """A packet of the neighbor (section 6.8.6)."""
        _first, flags, multiplier, _length, mine, yours, desired_us, _required, _echo = _FORMAT.unpack(data)
        theirs = flags >> 6
        if self.state == ADMIN_DOWN or (yours and yours != 1) or (not yours and theirs > DOWN):
            return
        self._yours = mine
        if self._detection is not None:
            self._detection.cancel()
        wait_s = multiplier * max(self._pace.interval_s, desired_us / 1e6)
        self._detection = self._loop.call_later(wait_s, self._silent)
        before = self.state
        if theirs == ADMIN_DOWN:
            self._down(_SIGNALED, is_failure=False)
        elif self.state == DOWN:
            self.state = {DOWN: INIT, INIT: UP}.get(theirs, DOWN)
        elif self.state == INIT and theirs in (INIT, UP):
            self.state = UP
        elif self.state == UP and theirs == DOWN:
            self._down(_SIGNALED, is_failure=True)
        if flags & _POLL:
            self._send(_FINAL)
        elif self.state != before:
            self._send()

    def _silent(self) -> None:
        self._yours = 0
        self._down(_SILENT, is_failure=True)
        self._send()

    def _down(self, diagnostic: int, *, is_failure: bool) -> None:
        was_up, self.state = self.state == UP, DOWN
        if was_up:
            self._diagnostic = diagnostic
        if was_up and is_failure:
            self._failed()

    def _send_again(self) -> None:
        self._send()
        pause_s = self._pace.interval_s * self._chance.uniform(0.75, 1.0)
        self._sending = self._loop.call_later(pause_s, self._send_again)

    def _send(self, flags: int = 0) -> None:
        interval_us = int(self._pace.interval_s * 1e6)
        self._port.send_bfd(
            _FORMAT.pack(
                1 << 5 | self._diagnostic,
                self.state << 6 | flags | _INDEPENDENT,
                self._pace.multiplier,
                _FORMAT.size,
                1,
                self._yours,
                interval_us,
                interval_us,
                0,
            )
        )
