"""The daemon's end of the control channel to the BFD process (bgpd/bfd/control.py): connects, and connects again.

Says the set of sessions that is wanted, as a whole, whenever it is another one, and hands on what the process reports.
That the process is away is no failure of any neighbor. Decides nothing about sessions (bfd.py).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from typing import Protocol

from bgpd.bfd.control import (
    DISCARDED,
    END,
    GONE,
    MAX_LINE,
    REPORT_S,
    SESSION,
    BadLine,
    Desired,
    Key,
    Report,
    hello_line,
    read_counts,
    read_key,
    read_report,
    wrong_hello,
)
from bgpd.runtime.events import log

RETRY_S = 1.0
SILENCE_S = 4 * REPORT_S
"""A process that says nothing for so long does not work: it reports every REPORT_S."""


class Refused(Exception):
    """The process is not one to speak with; the text is for people."""


class ReportTaker(Protocol):
    """Who hears what the BFD process says."""

    def connected(self, reports: Mapping[Key, Report]) -> None:
        """A connection is there; these are the sessions that the process has."""

    def reported(self, report: Report) -> None:
        """A session is like this now."""

    def removed(self, key: Key) -> None:
        """A session is gone."""


class BfdChannel:
    """The connection. `problem`: why there is none, "" if there is one or none was wanted yet."""

    def __init__(self, path: str, taker: ReportTaker) -> None:
        self.problem = ""
        self.discarded: dict[str, int] = {}
        self._path = path
        self._taker = taker
        self._needed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._said: list[str] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the process is there, and has reported what it has."""
        return self._writer is not None

    def need(self) -> None:
        """Somebody wants BFD: connect."""
        self._needed.set()

    def say(self, all_desired: Mapping[Key, Desired]) -> None:
        """Want just these sessions; nothing is sent where that was said already."""
        lines = [desired.line() for _, desired in sorted(all_desired.items())]
        if self._writer is not None and lines != self._said:
            self._said = lines
            self._writer.write("".join(f"{line}\n" for line in (*lines, END)).encode())

    async def run(self) -> None:
        """Connect once that is needed, and again whenever the connection ends; until cancelled."""
        await self._needed.wait()
        while True:
            try:
                await self._connect()
            except (OSError, Refused, BadLine, ValueError, asyncio.IncompleteReadError) as error:
                self._note(f"BFD does not work: {self._explain(error)}")
            finally:
                self._forget()
            await asyncio.sleep(RETRY_S)

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        try:
            _check_owner(writer.get_extra_info("socket"))
            writer.write(f"{hello_line()}\n".encode())
            if why := wrong_hello(await _line(reader)):
                raise Refused(f"{why}: was bgpd-bfd restarted after the upgrade?")
            reports: dict[Key, Report] = {}
            while (line := await _line(reader)) != END:
                word, _, rest = line.partition(" ")
                if word == SESSION:
                    report = read_report(rest)
                    reports[report.key] = report
            self._writer, self._said = writer, None
            self._note("")
            self._taker.connected(reports)
            while True:
                self._take(await _line(reader))
        finally:
            writer.close()

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == SESSION:
            self._taker.reported(read_report(rest))
        elif word == GONE:
            self._taker.removed(read_key(rest))
        elif word == DISCARDED:
            self.discarded = read_counts(rest)

    def _forget(self) -> None:
        self._writer, self._said = None, None

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem:
                log.warning("bfd.unavailable", reason=problem)
            else:
                log.info("bfd.available", socket=self._path)

    def _explain(self, error: Exception) -> str:
        match error:
            case FileNotFoundError() | ConnectionRefusedError():
                return f"nothing listens on {self._path}: does bgpd-bfd run (systemctl status bgpd-bfd)?"
            case PermissionError():
                return f"{self._path} is closed to this user: bgpd-bfd must run as the same one"
            case TimeoutError():
                return f"bgpd-bfd has said nothing for {SILENCE_S:.0f} s: is it stopped, or does it get no processor?"
            case asyncio.IncompleteReadError():
                return "bgpd-bfd has closed the connection: has it ended?"
        return str(error)


async def _line(reader: asyncio.StreamReader) -> str:
    """Raises: IncompleteReadError: the connection is closed. ValueError: a line has no end. TimeoutError: none came."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return (await reader.readuntil(b"\n"))[:-1].decode("ascii", "replace")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a line has no end") from error


def _check_owner(sock: socket.socket) -> None:
    """Raises: Refused: the process is of another user, who could make neighbors look dead."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", packed)
    if uid not in (0, os.geteuid()):
        raise Refused(f"the socket belongs to a process of user {uid}, not of this one")
