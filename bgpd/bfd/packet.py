"""BFD Control packets (RFC 5880 section 4.1): bytes to fields and back, and the checks that need no session.

Authentication is not supported: a packet that bears it is discarded, as section 6.8.6 asks where none is in use. Plain
classes in place of msgspec values: the process that uses them has a few megabytes in all (decision 23).
"""

from __future__ import annotations

import struct
from enum import IntEnum

VERSION = 1
LENGTH = 24
"""Of a packet without authentication; the shortest one that has it is two bytes longer."""
_AUTHENTICATED_LENGTH = 26
_FORMAT = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class State(IntEnum):
    """RFC 5880 section 4.1 (Sta)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    @property
    def word(self) -> str:
        """As people and programs are shown it: "admin-down"."""
        return self.name.lower().replace("_", "-")


class Diagnostic(IntEnum):
    """RFC 5880 section 4.1 (Diag): why a session was last taken down."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


class Discarded(Exception):
    """A packet that is not used. `cause` is one word, by which such packets are counted."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Packet:
    """The fields of a packet. Intervals are in microseconds; `diagnostic` is a number, since values may be unknown."""

    __slots__ = (
        "demand",
        "desired_min_tx_us",
        "diagnostic",
        "final",
        "independent",
        "multiplier",
        "my_discriminator",
        "poll",
        "required_min_rx_us",
        "state",
        "your_discriminator",
    )

    def __init__(
        self,
        *,
        state: State,
        multiplier: int,
        my_discriminator: int,
        your_discriminator: int,
        desired_min_tx_us: int,
        required_min_rx_us: int,
        diagnostic: int = 0,
        poll: bool = False,
        final: bool = False,
        independent: bool = False,
        demand: bool = False,
    ) -> None:
        self.state = state
        self.multiplier = multiplier
        self.my_discriminator = my_discriminator
        self.your_discriminator = your_discriminator
        self.desired_min_tx_us = desired_min_tx_us
        self.required_min_rx_us = required_min_rx_us
        self.diagnostic = diagnostic
        self.poll = poll
        self.final = final
        self.independent = independent
        self.demand = demand

    def encode(self) -> bytes:
        """The 24 bytes of it; bgpd sends no echo packets, and says so."""
        flags = self.state << 6
        for is_set, flag in (
            (self.poll, _POLL),
            (self.final, _FINAL),
            (self.independent, _INDEPENDENT),
            (self.demand, _DEMAND),
        ):
            flags |= flag if is_set else 0
        return _FORMAT.pack(
            VERSION << 5 | self.diagnostic,
            flags,
            self.multiplier,
            LENGTH,
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            0,
        )


def decode(data: bytes) -> Packet:
    """Read a packet, with the checks of RFC 5880 section 6.8.6 in its order. Those about its session are the caller's.

    Raises: Discarded: "length", "version", "multiplier", "multipoint", "discriminator", "state" or "authentication".
    """
    if len(data) < LENGTH:
        raise Discarded("length")
    first, flags, multiplier, length, mine, yours, desired, required, _echo = _FORMAT.unpack_from(data)
    if first >> 5 != VERSION:
        raise Discarded("version")
    if not (_AUTHENTICATED_LENGTH if flags & _AUTHENTICATED else LENGTH) <= length <= len(data):
        raise Discarded("length")
    if multiplier == 0:
        raise Discarded("multiplier")
    if flags & _MULTIPOINT:
        raise Discarded("multipoint")
    if mine == 0:
        raise Discarded("discriminator")
    state = State(flags >> 6)
    if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
        raise Discarded("state")
    if flags & _AUTHENTICATED:
        raise Discarded("authentication")
    return Packet(
        state=state,
        multiplier=multiplier,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx_us=desired,
        required_min_rx_us=required,
        diagnostic=first & 0x1F,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        independent=bool(flags & _INDEPENDENT),
        demand=bool(flags & _DEMAND),
    )
