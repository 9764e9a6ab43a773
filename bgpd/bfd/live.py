"""One session of the BFD process with its sockets, and what it shares with others: a receiving socket."""

from __future__ import annotations

import socket
import time

from bgpd.bfd import sockets
from bgpd.bfd.control import Report, Wish
from bgpd.bfd.session import Session

ReceiverKey = tuple[bytes, str, int]
"""Local address, interface, and the index that the interface had."""
Saved = tuple[
    tuple[bytes, bytes, str, int, int], dict[str, float | None], tuple[int, float, float], tuple[int, int, int]
]
"""A session for another process: what was wanted, what it is, what is shown of it, its sockets and interface."""


class Receiver:
    """One receiving socket, and the sessions that it receives for, by the address of the peer.

    `usual` has the last packet of each session that is steady, by its bytes: the next one is most likely the same.
    """

    def __init__(self, key: ReceiverKey, sock: socket.socket) -> None:
        self.key = key
        self.sock = sock
        self.members: dict[bytes, Live] = {}
        self.usual: dict[bytes, tuple[sockets.Datagram, Live]] = {}

    def follow_members(self) -> None:
        """Let the kernel pass what is theirs."""
        discriminators = [live.session.discriminator for live in self.members.values()]
        program = sockets.filter_program(len(self.key[0]), discriminators, list(self.members))
        sockets.set_filter(self.sock, program)


class Live:
    """One session with its sockets. `due` is for when it stands in the queue; `ends_at`: it is being removed."""

    def __init__(self, wish: Wish, session: Session) -> None:
        self.wish = wish
        self.session = session
        self.receiver: Receiver | None = None
        self.sender: socket.socket | None = None
        self.port = 0
        self.usual = b""
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
            self.wish.key,
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
