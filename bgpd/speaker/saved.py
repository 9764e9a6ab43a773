"""An established session as one process leaves it to the next: all but its routes (rib/saved.py).

What was negotiated follows from both OPEN messages, which are kept as they stood on the wire.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from bgpd.config.effects import GUESTS
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.iana import Family
from bgpd.speaker.next_hop_self import SelfAddresses


class Notice(NamedTuple):
    """A NOTIFICATION in words, and when it was sent or received (wall clock, seconds)."""

    text: str = ""
    at: float | None = None


class SavedFailures(NamedTuple):
    """What people are shown of a FailureLog."""

    last: str
    last_at: float | None
    sent: Notice
    received: Notice
    cause: str


class SavedRetries(NamedTuple):
    """Retries: until when the neighbor is refused (0: it is not), and what makes the next pauses longer. Times are of
    the monotonic clock."""

    refused_until: float
    held_off_until: float
    failures: int
    short_lived: int


class SavedRequests(NamedTuple):
    """RefreshRequests, by family."""

    begun_at: dict[Family, float]
    not_before: dict[Family, float]
    waiting: list[Family]


class SavedExchange(msgspec.Struct, frozen=True, kw_only=True):
    """`end_of_rib` are the families of which the neighbor has sent it. `own` are the addresses that it is given."""

    messages_sent: int
    martians: int
    end_of_rib: list[Family]
    own: SelfAddresses
    requests: SavedRequests


class SavedConnection(msgspec.Struct, frozen=True, kw_only=True):
    """Times are of the monotonic clock. `unread` was received and not read, `unsent` is to be sent before all else.
    `hold_deadline`: when the hold timer expires; None: there is none, or the version that left it did not say."""

    incoming: bool
    local_open: bytes
    peer_open: bytes
    opened_at: float
    established_at: float
    messages_received: int
    messages_sent: int
    unread: bytes
    unsent: bytes
    keepalive_time_s: int
    hold_deadline: float | None = None


class SavedSession(msgspec.Struct, frozen=True, kw_only=True):
    """One neighbor whose session is established, and which `descriptor` is its socket.

    `config` is its section of the configuration, and `router` that of the host, as they were in force (MessagePack).
    `address`, `interface` and `arrival` as in Peering; `runs_over` is the interface that the session runs over.
    """

    name: str
    descriptor: str
    section: str
    config: bytes
    router: bytes
    address: bytes
    interface: str
    arrival: str
    runs_over: str
    state_since: float
    established_count: int
    flaps: int
    former_martians: int
    failures: SavedFailures
    retries: SavedRetries
    connection: SavedConnection
    exchange: SavedExchange

    @property
    def settings(self) -> SessionConfig:
        """Its section.

        Raises: UNREADABLE: another version of bgpd had keys that this one does not know.
        """
        return _settings(self.section, self.config)


class SavedWait(msgspec.Struct, frozen=True, kw_only=True):
    """One neighbor that has no session, as `SavedSession` says it; it may be refused for a while."""

    name: str
    section: str
    config: bytes
    established_count: int
    flaps: int
    former_martians: int
    failures: SavedFailures
    retries: SavedRetries

    @property
    def settings(self) -> SessionConfig:
        """Its section. Raises: UNREADABLE, as above."""
        return _settings(self.section, self.config)


def _settings(section: str, config: bytes) -> SessionConfig:
    kinds: dict[str, type[SessionConfig]] = {GUESTS: GuestConfig, "listen": ListenConfig}
    return msgspec.msgpack.decode(config, type=kinds.get(section, NeighborConfig))


class SavedKeys(msgspec.Struct, frozen=True):
    """Of whom a listening socket wants signed segments. `tcp_ao`: the IDs of the keys, none of TCP MD5. No secrets."""

    address: bytes
    prefix_length: int
    tcp_ao: list[tuple[int, int]]


class SavedListener(msgspec.Struct, frozen=True):
    """One listening socket: the VRF that it accepts in ("": the main table), its socket family and port, and the keys
    that it has."""

    descriptor: str
    vrf: str
    family: int
    port: int
    keys: list[SavedKeys] = []


class SavedSpeaker(msgspec.Struct, frozen=True):
    """All sessions that are left to the next process, each by itself (MessagePack of SavedSession): one that cannot be
    read costs itself only. So are the `waits` of neighbors without one (SavedWait). `bfd`: what the BFD process
    had said of its sessions."""

    sessions: list[bytes]
    waits: list[bytes]
    listeners: list[SavedListener]
    bfd: list[str] = []
