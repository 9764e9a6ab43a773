"""One session of the BFD process with its sockets, and what it shares with others: a receiving socket."""

from __future__ import annotations

import contextlib
import socket
import time

from bgpd.bfd import sockets
from bgpd.bfd.control import Desired, Report
from bgpd.bfd.session import Session

ReceiverKey = tuple[bytes, str, int]
"""Local address, interface, and the index that the interface had."""
Saved = tuple[
    tuple[bytes, bytes, str, int, int], dict[str, float | None], tuple[int, float, float], tuple[int, int, int]
]
"""A session for another process: what was wanted, what it is, what is shown of it, its sockets and interface."""


_MOST_QUIET = 16
"""Of so many sessions on one socket the quiet one holds what comes until it is read, with room to spare."""
_STEP_S = 0.001
"""By so much the host's clock differs from the monotonic one after it has been set, and not from drift."""


class Receiver:
    """One receiving socket, and the sessions that it receives for, by the address of the peer.

    `usual` has the last packet of each session that is steady, by its bytes: the next one is most likely the same. From
    the first such session on there is a `quiet` socket beside `sock`, unless the kernel cannot do that.
    """

    def __init__(self, key: ReceiverKey, sock: socket.socket) -> None:
        self.key = key
        self.sock = sock
        self.quiet: socket.socket | None = None
        self.looked_at = -1.0
        self.members: dict[bytes, Live] = {}
        self.usual: dict[bytes, tuple[sockets.Datagram, Live]] = {}
        self._clock_ahead = 0.0
        self._can_be_quiet = True

    def follow_members(self) -> None:
        """Let the kernel pass what is theirs."""
        program = self._program()
        sockets.set_filter(self.sock, program)
        if self.quiet is not None:
            sockets.set_filter(self.quiet, program)
            self.follow_quiet()

    def follow_quiet(self) -> None:
        """Have the kernel keep quiet about the sessions that are so now."""
        chosen = [live.session.discriminator for live in self.members.values() if live.is_quiet]
        if len(self.members) > _MOST_QUIET:
            chosen = []
        if chosen and self.quiet is None and self._can_be_quiet:
            self._can_be_quiet = False
            with contextlib.suppress(OSError):
                self.quiet = sockets.open_quiet(self.sock, *self.key[:2], self._program())
        if self.quiet is not None:
            sockets.choose_quiet(self.sock, chosen)

    def begin_look(self, now: float, host_time: float) -> float:
        """What to take off the host's time of a packet for the monotonic one; inf if the host's clock was set since the
        last look: when the packets came is not known then."""
        before, self._clock_ahead = self._clock_ahead, host_time - now
        self.looked_at = now
        return self._clock_ahead if abs(self._clock_ahead - before) < _STEP_S else float("inf")

    def close(self) -> None:
        """Close its sockets."""
        self.sock.close()
        if self.quiet is not None:
            self.quiet.close()

    def _program(self) -> list[bytes]:
        discriminators = [live.session.discriminator for live in self.members.values()]
        return sockets.filter_program(len(self.key[0]), discriminators, list(self.members))


class Live:
    """One session with its sockets. `due` is for when it stands in the queue; `ends_at`: it is being removed."""

    def __init__(self, desired: Desired, session: Session) -> None:
        self.desired = desired
        self.session = session
        self.receiver: Receiver | None = None
        self.sender: socket.socket | None = None
        self.port = 0
        self.usual = b""
        self.is_quiet = False
        self.problem = ""
        self.retry_at = 0.0
        self.ends_at = float("inf")
        self.due = float("inf")
        self.since = time.time()
        self.shown: tuple[object, ...] = ()

    def deadline(self) -> float:
        """When something is to be done for it."""
        if self.sender is None:
            return min(self.retry_at, self.session.detection_at, self.ends_at)
        return min(self.session.deadline(), self.ends_at)

    def report(self) -> Report:
        """What the daemon hears of it."""
        one = self.session
        return Report(
            self.desired.key,
            since=self.since,
            problem=self.problem,
            state=one.state,
            diagnostic=one.diagnostic,
            remote_state=one.remote_state,
            remote_diagnostic=one.remote_diagnostic,
            discriminator=one.discriminator,
            remote_discriminator=one.remote_discriminator,
            interval_us=one.interval_us,
            multiplier=one.multiplier,
            transmit_interval_us=one.transmit_interval_us,
            detection_time_us=one.detection_time_us,
            remote_min_tx_us=one.remote_min_tx_us,
            remote_min_rx_us=one.remote_min_rx_us,
            remote_multiplier=one.remote_multiplier,
            independent=one.remote_is_independent,
            ups=one.ups,
            downs=one.downs,
            sent=one.sent,
            received=one.received_count,
            source_port=self.port,
        )
