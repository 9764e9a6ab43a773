"""What a hostile or broken leaf does: each a scenario of a size that can be told, played by raw sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable

import msgspec

from labs.namespace import Namespace
from labs.process import LabError
from tests.daemon.wire_peer import (
    END_OF_RIB,
    KEEPALIVE,
    NOTIFICATION,
    Restart,
    WirePeer,
    attribute,
    message,
    notification,
    receive,
    update,
    withdrawal,
)

ASN = 65201
ROUTE_REFRESH = 5
REQUEST = message(ROUTE_REFRESH, b"\0\1\0\1")
REQUESTS = 2_849
"""That many requests are one write of 64 KiB."""
STRANGERS = [f"10.0.1.{number}" for number in range(100, 164)]
PREFIXES_OF_MESSAGE = 16_000
"""/24 prefixes in a message of 64 KiB."""


class Play(msgspec.Struct):
    """leaf1, and how often a scenario does what it does. `await_read` waits until the daemon has read so many messages
    of the session, KEEPALIVEs included."""

    namespace: Namespace
    peer: WirePeer
    count: int
    await_read: Callable[[int], object]


class Scenario(msgspec.Struct, frozen=True):
    """`play` says how many `units` it did. `few` of them prove it, `many` are measured, `some` (0: `many`) go on while
    another leaf's routes are waited for. `ends` is how, in words, and `reason` what the neighbor's `last_error` then
    has of it."""

    name: str
    units: str
    ends: str
    few: int
    many: int
    play: Callable[[Play], int]
    reason: str = ""
    some: int = 0


def reset(connection: socket.socket) -> None:
    """End a connection with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def swallow(connection: socket.socket) -> None:
    """Read until the other side has ended it."""
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass


def ended(connection: socket.socket, code: tuple[int, int]) -> None:
    """Wait for the NOTIFICATION that ends the session; a connection that was reset may have lost it."""
    with contextlib.suppress(LabError):
        assert notification(connection) == code


def strangers(play: Play) -> int:
    """Connections from addresses that are no neighbor's, 32 at a time."""
    with play.namespace.entered():
        for start in range(0, play.count, 32):
            opened = []
            for number in range(start, min(start + 32, play.count)):
                with contextlib.suppress(OSError):
                    origin = STRANGERS[number % len(STRANGERS)]
                    opened.append(socket.create_connection(("10.0.1.1", 179), 10, source_address=(origin, 0)))
            for connection in opened:
                swallow(connection)
                reset(connection)
    return play.count


def silence(play: Play) -> int:
    """Connections of the neighbor's own address that say nothing."""
    with play.namespace.entered():
        opened = [socket.create_connection(("10.0.1.1", 179), 10) for _ in range(play.count)]
    for connection in opened:
        connection.settimeout(30)
        swallow(connection)
        connection.close()
    return play.count


def nonsense(play: Play) -> int:
    """Connections of the neighbor's own address that speak something else than BGP."""
    for _ in range(play.count):
        with play.namespace.entered(), contextlib.suppress(OSError):
            connection = socket.create_connection(("10.0.1.1", 179), 10)
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            swallow(connection)
            connection.close()
    return play.count


def slow_reader(play: Play) -> int:
    """Asks for everything again and again, and reads nothing."""
    play.peer.receive_buffer(4096)
    connection = play.peer.establish()
    for _ in range(play.count):
        connection.sendall(REQUEST * 100)
    play.await_read(100 * play.count)
    reset(connection)
    return 100 * play.count


def drip(play: Play) -> int:
    """An UPDATE byte by byte, one a second, until the hold time is over."""
    connection = play.peer.establish(is_quiet=True, hold_time_s=3)
    for sent, byte in enumerate(update(("10.20.0.0/16",), asn=ASN), 1):
        connection.sendall(bytes((byte,)))
        if _is_over(connection, time.monotonic() + 1.0):
            return sent
    raise AssertionError("nothing ended it")


def _is_over(connection: socket.socket, deadline: float) -> bool:
    """Whether the other side ends it until then (monotonic clock, s)."""
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(4096):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def default_routes(play: Play) -> int:
    """Messages of 65,535 bytes, each with 65,000 times the default route, announced and withdrawn."""
    connection = play.peer.establish(extended=True)
    for _ in range(play.count):
        connection.sendall(update(("0.0.0.0/0",) * 65_000, asn=ASN))
        connection.sendall(withdrawal(*("0.0.0.0/0",) * 65_000))
    return _read(play, connection, 2 * play.count)


def minimal_routes(play: Play) -> int:
    """Messages of 64 KB, each with 16,000 /24s; from the second round on all have other attributes."""
    connection = play.peer.establish(extended=True)
    for number in range(play.count):
        first, version = number % 3 * PREFIXES_OF_MESSAGE, number // 3
        prefixes = tuple(f"20.{one >> 8}.{one & 255}.0/24" for one in range(first, first + PREFIXES_OF_MESSAGE))
        connection.sendall(update(prefixes, asn=ASN, extra=attribute(0xC0, 8, struct.pack("!I", version))))
    return _read(play, connection, play.count)


def _read(play: Play, connection: socket.socket, messages: int) -> int:
    """Wait until all was read, and end the session."""
    play.await_read(messages)
    connection.close()
    return messages


def long_paths(play: Play) -> int:
    """Routes with attributes of their own, each with a path of 255 AS numbers, until the memory for them is used up."""
    connection = play.peer.establish()
    sent = 0
    with contextlib.suppress(OSError):
        for number in range(play.count):
            path = struct.pack("!BB255I", 2, 255, ASN, number + 1, *range(70_000, 70_253))
            prefix = f"20.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"
            connection.sendall(update((prefix,), asn=ASN, as_path=attribute(0x40, 2, path)))
            sent += 1
    ended(connection, (6, 8))
    return sent


def too_many(play: Play) -> int:
    """Routes until max_prefixes ends the session."""
    connection = play.peer.establish()
    sent = 0
    with contextlib.suppress(OSError):
        for start in range(0, play.count, 800):
            numbers = range(start, start + 800)
            prefixes = tuple(f"20.{one >> 16}.{one >> 8 & 255}.{one & 255}/32" for one in numbers)
            connection.sendall(update(prefixes, asn=ASN))
            sent += 800
    ended(connection, (6, 1))
    return sent


def flap(play: Play) -> int:
    """Sessions with 500 routes each, reset as soon as these are sent."""
    for _ in range(play.count):
        connection = play.peer.establish()
        connection.sendall(update(tuple(f"20.1.{one >> 8}.{one & 255}/32" for one in range(500)), asn=ASN))
        reset(connection)
    return play.count


def _hosts(first: int, count: int) -> tuple[str, ...]:
    """So many /32 from 20.0.0.0 on."""
    numbers = range(first, first + count)
    return tuple(f"20.{one >> 16}.{one >> 8 & 255}.{one & 255}/32" for one in numbers)


def churn(play: Play) -> int:
    """40,000 routes that are announced and withdrawn again and again: each time the kernel is told."""
    connection = play.peer.establish()
    lots = [_hosts(first, 800) for first in range(0, 40_000, 800)]
    come, go = b"".join(update(lot, asn=ASN) for lot in lots), b"".join(withdrawal(*lot) for lot in lots)
    for _ in range(play.count):
        connection.sendall(come)
        connection.sendall(go)
    _read(play, connection, 2 * len(lots) * play.count)
    return 2 * 40_000 * play.count


def unknown(play: Play) -> int:
    """Withdrawals of routes that were never announced."""
    connection = play.peer.establish()
    for number in range(play.count):
        connection.sendall(withdrawal(*_hosts(800 * number, 800)))
    _read(play, connection, play.count)
    return 800 * play.count


def turning_next_hops(play: Play) -> int:
    """500 routes, each with another next hop of its network at each turn: the kernel has a group for each next hop."""
    connection = play.peer.establish()
    for turn in range(play.count):
        for number in range(500):
            next_hop = f"10.0.1.{3 + (number + turn) % 240}"
            connection.sendall(update(_hosts(number, 1), asn=ASN, next_hop=next_hop))
    _read(play, connection, 500 * play.count)
    return 500 * play.count


def distant_next_hops(play: Play) -> int:
    """Routes with a next hop of their own, which none can be reached by, until there are too many next hops."""
    connection = play.peer.establish()
    sent = 0
    with contextlib.suppress(OSError):
        for number in range(play.count):
            next_hop = f"172.20.{number >> 8}.{number & 255}"
            connection.sendall(update(_hosts(number, 1), asn=ASN, next_hop=next_hop))
            sent += 1
    ended(connection, (6, 8))
    return sent


def changing_opens(play: Play) -> int:
    """Sessions whose OPEN has other families, timers and names each time, the names with control characters."""
    for number in range(play.count):
        name = f"\x1b[2J\x1b]0;leaf{number}\x07\r\n".encode().ljust(120, b"\xff")
        fqdn = bytes((73, 2 + len(name), len(name))) + name + b"\0"
        families = ((1, 1), (2, 1)) if number % 2 else ((1, 1),)
        connection = play.peer.establish(
            families=families,
            extended=number % 3 == 0,
            hold_time_s=9 + number,
            more=fqdn,
            router_id=(10, 255, number, 9),
        )
        connection.sendall(update(_hosts(0, 500), asn=ASN))
        _say_goodbye(connection)
    return play.count


def _say_goodbye(connection: socket.socket) -> None:
    """Shut down with a text of 255 bytes, which a terminal would obey (RFC 9003)."""
    text = b"\x1b[31mbye\x07\x1b[2J\r".ljust(255, b".")
    connection.sendall(message(NOTIFICATION, bytes((6, 2, len(text))) + text))
    swallow(connection)
    connection.close()


def graceful_flap(play: Play) -> int:
    """Sessions with graceful restart and 40,000 routes, which are stale as soon as they are there."""
    come = b"".join(update(_hosts(first, 800), asn=ASN) for first in range(0, 40_000, 800))
    for _ in range(play.count):
        connection = play.peer.establish(restart=Restart(restarted=True, time_s=3))
        connection.sendall(come + END_OF_RIB)
        reset(connection)
    return play.count


def refreshes(play: Play) -> int:
    """Requests to send everything again; what is answered is read."""
    connection = play.peer.establish()
    for _ in range(play.count):
        connection.sendall(REQUEST * REQUESTS)
    quiet = 0
    while quiet < 2:
        kind = receive(connection)[0]
        quiet = quiet + 1 if kind == KEEPALIVE else 0
    connection.close()
    return REQUESTS * play.count


def keepalives(play: Play) -> int:
    """KEEPALIVEs as fast as they are taken."""
    connection = play.peer.establish()
    for _ in range(play.count):
        connection.sendall(message(KEEPALIVE) * 1000)
    return _read(play, connection, 1000 * play.count)


def malformed(play: Play) -> int:
    """UPDATEs whose ORIGIN is none: each is treat-as-withdraw."""
    connection = play.peer.establish()
    bad = update(("10.20.0.0/16",), asn=ASN).replace(b"\x40\x01\x01\x00", b"\x40\x01\x01\x07")
    for _ in range(play.count):
        connection.sendall(bad * 100)
    return _read(play, connection, 100 * play.count)


SCENARIOS = [
    Scenario("connections of strangers", "connection", "each is closed", 320, 100_000, strangers, some=5_000),
    Scenario("connections of its own that say nothing", "connection", "closed after 5 s", 4, 8, silence),
    Scenario("connections of its own that speak HTTP", "connection", "each is closed", 50, 5_000, nonsense, some=2_000),
    Scenario("asks for all routes, and reads nothing", "request", "nothing is ended", 5, 200, slow_reader),
    Scenario("an UPDATE of one byte a second", "byte", "Hold Timer Expired", 1, 1, drip, "hold timer expired"),
    Scenario("messages of 65 KB: 65,000 times the default route", "message", "nothing is ended", 2, 40, default_routes),
    Scenario("messages of 64 KB: 16,000 prefixes in each", "message", "nothing is ended", 4, 30, minimal_routes),
    Scenario(
        "a path of 255 AS numbers for each route",
        "route",
        "Cease, Out of Resources",
        40_000,
        40_000,
        long_paths,
        "more than max_attribute_bytes",
    ),
    Scenario(
        "more routes than max_prefixes",
        "route",
        "Cease, Maximum Prefixes",
        80_000,
        80_000,
        too_many,
        "more than max_prefixes",
    ),
    Scenario("sessions that are reset, with 500 routes each", "session", "dialed more slowly", 2, 20, flap),
    Scenario(
        "sessions with another OPEN each time, and texts of control characters",
        "session",
        "dialed more slowly",
        2,
        20,
        changing_opens,
    ),
    Scenario(
        "sessions with graceful restart that are reset, with 40,000 routes each",
        "session",
        "dialed more slowly",
        2,
        20,
        graceful_flap,
    ),
    Scenario("40,000 routes that come and go", "change", "nothing is ended", 1, 20, churn),
    Scenario("withdrawals of routes that it never announced", "withdrawal", "nothing is ended", 5, 1_000, unknown),
    Scenario("500 routes with other next hops at each turn", "change", "nothing is ended", 2, 40, turning_next_hops),
    Scenario(
        "a next hop for each route that cannot be reached",
        "route",
        "Cease, Out of Resources",
        4_000,
        4_000,
        distant_next_hops,
        "next hops",
    ),
    Scenario("requests for all routes, which are read", "request", "few answers", 1, 20, refreshes),
    Scenario("KEEPALIVEs", "message", "nothing is ended", 10, 300, keepalives, some=60),
    Scenario("malformed UPDATEs", "message", "the routes are withdrawn", 5, 200, malformed, some=50),
]
