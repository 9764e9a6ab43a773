"""The BFD process of a simulated host: bgpd's own sessions (bgpd/bfd/session.py) over modelled links, and its end of
the unix socket. It outlives the daemon, and may itself be restarted, crash, or be away."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from typing import Any

from bgpd.bfd.control import END, REPORT_S, WANT, Desired, Key, gone_line, hello_line, read_desired
from bgpd.bfd.live import Live
from bgpd.bfd.packet import Discarded, decode
from bgpd.bfd.session import SLOW_US, Session
from bgpd.simulation.loop import Process
from bgpd.simulation.network import Port, Stack

_LATE_S = 0.002
_NEVER = float("inf")


class BfdProcess:
    """All sessions of a host. `is_running`: somebody listens on the unix socket."""

    def __init__(self, stack: Stack, chance: random.Random) -> None:
        self.is_running = True
        self._stack = stack
        self._loop = stack.loop
        self._chance = chance
        self._sessions: dict[Key, Live] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._daemon: DaemonEnd | None = None
        self._numbers = 0
        stack.bfd_received = self._received
        self._loop.call_later(REPORT_S, self._report)

    # Life

    def stop(self, *, is_orderly: bool) -> None:
        """It ends; in order, peers hear that this is on purpose."""
        for live in self._sessions.values() if is_orderly else ():
            live.session.disable(self._loop.time())
            self._send(live)
        for timer in self._timers.values():
            timer.cancel()
        self._sessions.clear()
        self._timers.clear()
        self.is_running = False
        if self._daemon is not None:
            self._daemon.lost()
            self._daemon = None

    def start(self) -> None:
        """It runs again, and knows nothing."""
        self.is_running = True

    # The daemon

    def connect(self, process: Process, protocol: asyncio.Protocol) -> DaemonEnd:
        """A daemon is there; one that was before is gone. Raises: FileNotFoundError: nobody listens."""
        if not self.is_running:
            raise FileNotFoundError
        self._daemon = DaemonEnd(self, process, protocol)
        return self._daemon

    def greeted(self, daemon: DaemonEnd) -> None:
        """A daemon has connected: it is told the version, and all sessions."""
        daemon.say(hello_line(), *self._lines(), END)

    def follow(self, all_desired: dict[Key, Desired]) -> None:
        """Have just these sessions."""
        now = self._loop.time()
        for key, live in self._sessions.items():
            if key not in all_desired and live.ends_at == _NEVER:
                live.session.disable(now)
                live.ends_at = now + live.session.multiplier * SLOW_US / 1e6
                self._settle(live)
        for key, desired in all_desired.items():
            found = self._sessions.get(key)
            if found is None:
                found = self._sessions[key] = self._begin(desired)
            found.ends_at, found.desired = _NEVER, desired
            found.session.enable(now)
            self._settle(found)
        self._say(*self._lines(), END)

    def _begin(self, desired: Desired) -> Live:
        self._numbers += 1
        session = Session(
            self._numbers,
            interval_us=desired.interval_us,
            multiplier=desired.multiplier,
            random=self._chance.random,
            now=self._loop.time(),
        )
        return Live(desired, session)

    def _lines(self) -> list[str]:
        return [live.report().line() for live in self._sessions.values()]

    def _say(self, *lines: str) -> None:
        if self._daemon is not None:
            self._daemon.say(*lines)

    def _report(self) -> None:
        self._say(*self._lines())
        self._loop.call_later(REPORT_S, self._report)

    # Packets and timers

    def _port(self, key: Key) -> Port | None:
        ports = (one for one in self._stack.ports if one.name == key[2] and one.other is not None)
        return next((one for one in ports if one.other is not None and one.other.address == key[1]), None)

    def _received(self, port: Port, data: bytes) -> None:
        try:
            packet = decode(data)
        except Discarded:
            return
        for live in list(self._sessions.values()):
            is_its = not packet.your_discriminator or packet.your_discriminator == live.session.discriminator
            if self._port(live.desired.key) is port and is_its:
                live.session.received(packet, self._loop.time())
                self._settle(live)

    def _settle(self, live: Live) -> None:
        """Send what it wants sent, say what changed, and have it called when it is due."""
        key, one = live.desired.key, live.session
        self._send(live)
        shown = (one.state, one.remote_state, one.diagnostic, one.detection_time_us)
        if live.shown != shown:
            live.shown = shown
            self._say(live.report().line())
        timer = self._timers.get(key)
        if timer is not None:
            timer.cancel()
        at = min(one.deadline(), live.ends_at)
        if at != _NEVER:
            self._timers[key] = self._loop.call_at(at, self._tick, live)

    def _tick(self, live: Live) -> None:
        now = self._loop.time()
        if now >= live.ends_at:
            del self._sessions[live.desired.key], self._timers[live.desired.key]
            self._say(gone_line(live.desired.key))
            return
        live.session.tick(now)
        self._settle(live)

    def _send(self, live: Live) -> None:
        port = self._port(live.desired.key)
        for data in live.session.take_output():
            if port is not None:
                port.send_bfd(data)


class DaemonEnd(asyncio.Transport):
    """The daemon's end of the unix socket. Lines take their time both ways, and keep their order."""

    def __init__(self, owner: BfdProcess, process: Process, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._owner = owner
        self._process = process
        self._protocol = protocol
        self._is_closed = False
        self._unread = b""
        self._all_desired: dict[Key, Desired] = {}
        self._is_greeted = False
        process.call_soon(protocol.connection_made, self)

    def say(self, *lines: str) -> None:
        """To the daemon."""
        data = "".join(f"{line}\n" for line in lines).encode()
        self._process.call_later(_LATE_S, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self._is_closed:
            self._protocol.data_received(data)

    def lost(self) -> None:
        """The other end is gone."""
        self._process.call_later(_LATE_S, self._lose)

    def _lose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._protocol.connection_lost(None)

    def write(self, data: Any) -> None:
        self._owner._loop.call_later(_LATE_S, self._take, bytes(data))

    def _take(self, data: bytes) -> None:
        if self._owner._daemon is not self:
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if not self._is_greeted:
                self._is_greeted = True
                self._owner.greeted(self)
            elif word == WANT:
                desired = read_desired(rest)
                self._all_desired[desired.key] = desired
            elif word == END:
                all_desired, self._all_desired = self._all_desired, {}
                self._owner.follow(all_desired)

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._lose()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Credentials() if name == "socket" else default


class _Credentials:
    """What the kernel says of who is at the other end: the same user."""

    def getsockopt(self, _level: int, _option: int, _length: int = 0) -> bytes:
        """SO_PEERCRED: who is at the other end (unix(7))."""
        return struct.pack("3i", 1, os.geteuid(), 0)
