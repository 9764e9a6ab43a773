"""The daemon's end of the control channel, in a test: says what it wants, and keeps what it hears."""

from __future__ import annotations

import socket
from pathlib import Path

from bgpd.bfd.control import (
    DISCARDED,
    END,
    GONE,
    SESSION,
    Desired,
    Key,
    Report,
    hello_line,
    read_counts,
    read_key,
    read_report,
)
from bgpd.bfd.packet import State
from labs.process import wait_until

TIMEOUT_S = 15.0


def desired(
    local: str = "10.0.1.1", peer: str = "10.0.1.2", *, interface: str = "eth0", interval_ms: int = 100, times: int = 3
) -> Desired:
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    return Desired(
        local=socket.inet_pton(family, local),
        peer=socket.inet_pton(family, peer),
        interface=interface,
        interval_us=interval_ms * 1000,
        multiplier=times,
    )


class DaemonSide:
    """A connection to the BFD process; a context manager."""

    def __init__(self, path: Path) -> None:
        self.reports: dict[Key, Report] = {}
        self.states: list[State] = []
        self.discarded: dict[str, int] = {}
        self.ends = 0
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._socket.settimeout(0.02)
        self._socket.sendall(f"{hello_line()}\n".encode())

    def __enter__(self) -> DaemonSide:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def want(self, *all_desired: Desired) -> None:
        """Say the whole set, and wait for the answer, which comes after that to the greeting."""
        wait_until(lambda: self.hear() and self.ends > 0, TIMEOUT_S, "the BFD process to greet")
        before = self.ends
        self.say(*(one.line() for one in all_desired), END)
        wait_until(lambda: self.hear() and self.ends > before, TIMEOUT_S, "the BFD process to answer")

    def say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def hear(self) -> bool:
        """Read what has come; False if the process has closed the connection."""
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == SESSION:
                report = read_report(rest)
                self.reports[report.key] = report
                self.states.append(State(report.state))
            elif word == GONE:
                del self.reports[read_key(rest)]
            elif word == DISCARDED:
                self.discarded = read_counts(rest)
            elif word == END:
                self.ends += 1
        return bool(data)

    def state(self, one: Desired) -> State | None:
        self.hear()
        report = self.reports.get(one.key)
        return State(report.state) if report is not None else None

    def wait_state(self, one: Desired, state: State | None, timeout_s: float = TIMEOUT_S) -> Report | None:
        wait_until(lambda: self.state(one) is state, timeout_s, f"BFD to be {state}", interval_s=0.005)
        return self.reports.get(one.key)
