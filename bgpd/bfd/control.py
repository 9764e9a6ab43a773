"""What the daemon and the BFD process say to each other over their unix socket: lines of text.

Both begin with `HELLO VERSION`; the process goes on with a `session` line for each that it has, then `end`. The daemon
says the whole set of sessions that it wants, as often as it likes: a `want` line each, then `end`, which is answered as
the hello is. A `session` line follows whenever one changes, and `gone` when one has been removed. Values are
`name=value`; names that a reader does not know are skipped, so that a newer side can say more without another version.
Sans-IO.
"""

from __future__ import annotations

HELLO = "bgpd-bfd"
VERSION = 1
"""Of what a reader of the other version would misunderstand. A daemon is often newer than the process."""
WANT, SESSION, GONE, DISCARDED, END = "want", "session", "gone", "discarded", "end"
ORPHAN_S = 600.0
"""How long sessions go on without a daemon; then they go AdminDown."""
REPORT_S = 5.0
"""Counters are reported that often, states at once."""
MAX_LINE = 4096
_MOST = (1 << 63) - 1
"""What a number of a report is at most: more could not be shown."""

Key = tuple[bytes, bytes, str]
"""Local and peer address, packed, and interface: what makes a session another one."""


class BadLine(ValueError):
    """A line that says nothing."""


class Desired:
    """A session that the daemon wants. `interface` is "" where the session is bound to none."""

    __slots__ = ("interface", "interval_us", "local", "multiplier", "peer")

    def __init__(self, *, local: bytes, peer: bytes, interface: str, interval_us: int, multiplier: int) -> None:
        self.local = local
        self.peer = peer
        self.interface = interface
        self.interval_us = interval_us
        self.multiplier = multiplier

    @property
    def key(self) -> Key:
        """Which session it is about."""
        return self.local, self.peer, self.interface

    def line(self) -> str:
        """As it is sent."""
        return f"{WANT} {_key_text(self.key)} interval_us={self.interval_us} multiplier={self.multiplier}"


class Report:
    """A session as the process has it. Times are seconds since the epoch; `problem`: why it cannot send, "" if it can.

    `discriminator` is another one if the session began anew, and with it `ups`, `downs` and the counters of packets.
    """

    __slots__ = (
        "detection_time_us",
        "diagnostic",
        "discriminator",
        "downs",
        "independent",
        "interval_us",
        "key",
        "multiplier",
        "problem",
        "received",
        "remote_diagnostic",
        "remote_discriminator",
        "remote_min_rx_us",
        "remote_min_tx_us",
        "remote_multiplier",
        "remote_state",
        "sent",
        "since",
        "source_port",
        "state",
        "transmit_interval_us",
        "ups",
    )

    def __init__(self, key: Key, *, since: float = 0.0, problem: str = "", **numbers: int) -> None:
        self.key = key
        self.since = since
        self.problem = problem
        for name in NUMBERS:
            setattr(self, name, numbers.get(name, 0))

    state: int
    diagnostic: int
    remote_state: int
    remote_diagnostic: int
    discriminator: int
    remote_discriminator: int
    interval_us: int
    multiplier: int
    transmit_interval_us: int
    detection_time_us: int
    remote_min_tx_us: int
    remote_min_rx_us: int
    remote_multiplier: int
    independent: int
    ups: int
    downs: int
    sent: int
    received: int
    source_port: int

    def line(self) -> str:
        """As it is sent; the problem last, since it has spaces."""
        numbers = " ".join(f"{name}={int(getattr(self, name))}" for name in NUMBERS)
        return f"{SESSION} {_key_text(self.key)} {numbers} since={self.since:.3f} problem={self.problem}"


_JUDGED = ("state", "remote_state", "diagnostic", "discriminator", "downs")
"""Without these a report says nothing; others are 0 where an older process does not know them."""
NUMBERS = tuple(sorted(set(Report.__slots__) - {"key", "since", "problem"}))


def read_desired(rest: str) -> Desired:
    """A `want` line without its first word. Raises: BadLine."""
    values = _values(rest)
    try:
        local, peer, interface = _key(values)
        interval_us, multiplier = int(values["interval_us"]), int(values["multiplier"])
    except (KeyError, ValueError) as error:
        raise BadLine(f"want {rest}: {error!r}") from error
    if not 1_000 <= interval_us <= 0xFFFFFFFF or not 1 <= multiplier <= 255 or len(local) != len(peer):
        raise BadLine(f"want {rest}: out of range")
    return Desired(local=local, peer=peer, interface=interface, interval_us=interval_us, multiplier=multiplier)


def read_report(rest: str) -> Report:
    """A `session` line without its first word. Raises: BadLine."""
    head, _, problem = rest.partition(" problem=")
    values = _values(head)
    try:
        numbers = {name: int(values[name]) for name in NUMBERS if name in values or name in _JUDGED}
        since = float(values["since"])
        if max(map(abs, numbers.values())) > _MOST or not abs(since) <= _MOST:
            raise ValueError("a number that is none of a session")
        return Report(_key(values), since=since, problem=problem, **numbers)
    except (KeyError, ValueError) as error:
        raise BadLine(f"session {rest}: {error!r}") from error


def read_key(rest: str) -> Key:
    """A `gone` line without its first word. Raises: BadLine."""
    try:
        return _key(_values(rest))
    except (KeyError, ValueError) as error:
        raise BadLine(f"gone {rest}: {error!r}") from error


def gone_line(key: Key) -> str:
    """That a session was removed."""
    return f"{GONE} {_key_text(key)}"


def counts_line(counts: dict[str, int]) -> str:
    """Packets that were discarded, by cause."""
    return " ".join([DISCARDED, *(f"{cause}={count}" for cause, count in sorted(counts.items()))])


def read_counts(rest: str) -> dict[str, int]:
    """A `discarded` line without its first word. Raises: BadLine."""
    try:
        return {cause: int(count) for cause, count in _values(rest).items()}
    except ValueError as error:
        raise BadLine(f"discarded {rest}: {error!r}") from error


def hello_line() -> str:
    """The first line of either side."""
    return f"{HELLO} {VERSION}"


def wrong_hello(line: str) -> str:
    """Why the first line of the other side is not understood, "" if it is."""
    return "" if line == hello_line() else f"it says {line[:40]!r}, and not {hello_line()!r}"


def _key_text(key: Key) -> str:
    local, peer, interface = key
    return f"local={local.hex()} peer={peer.hex()} interface={interface}"


def _key(values: dict[str, str]) -> Key:
    local, peer = bytes.fromhex(values["local"]), bytes.fromhex(values["peer"])
    if len(local) not in (4, 16) or len(peer) not in (4, 16):
        raise ValueError("no address")
    return local, peer, values["interface"]


def _values(text: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in text.split(" "))
    return {name: value for name, equals, value in pairs if equals}
