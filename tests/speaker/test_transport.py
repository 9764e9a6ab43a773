"""Sockets and their options, against the real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest

from bgpd.model.prefix import parse_address
from bgpd.runtime import memory
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.memory import connection_came
from bgpd.speaker.admission import Admission
from bgpd.speaker.listener import Listener
from bgpd.speaker.socket_options import (
    DSCP_CS6,
    IP_MINTTL,
    arrival_index,
    require_ttl_255,
    set_common,
    set_md5_key,
    set_send_hold_time,
    take_syn_ttl,
    ttl_mismatch,
)
from bgpd.speaker.transport import Endpoint, Target, Wire, adopt, dial, explain_dial_error
from tests.waiting import until

LOOPBACK = parse_address("127.0.0.1")


def test_common_options_are_set() -> None:
    with socket.socket() as sock:
        set_common(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == DSCP_CS6
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 255
        require_ttl_255(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, IP_MINTTL) == 255
        set_send_hold_time(sock, 9)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 18_000


@pytest.mark.parametrize(("host", "ttl"), [("127.0.0.1", 64), ("127.0.0.1", 255), ("::1", 64), ("::1", 255)])
async def test_accepted_connection_tells_the_ttl_of_its_syn_and_its_interface(host: str, ttl: int) -> None:
    found: asyncio.Queue[tuple[str, int | None, int]] = asyncio.Queue()

    def accept(wire: Wire) -> None:
        found.put_nowait((ttl_mismatch(wire.socket), take_syn_ttl(wire.socket), arrival_index(wire.socket)))

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    admission = Admission(neighbors=1, shortage=Shortage())
    listener = Listener(port, accept, admission=admission)
    assert listener.open()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as peer:
        if family == socket.AF_INET:
            peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        else:
            peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, (host, port))
        problem, again, arrival = await asyncio.wait_for(found.get(), 3)
    listener.close()
    admission.reserve.close()
    assert again is None
    assert socket.if_indextoname(arrival) == "lo"
    assert problem.startswith("TTL mismatch: the neighbor connected with TTL 64") if ttl == 64 else problem == ""


@pytest.mark.parametrize(("prefix", "length"), [("10.0.0.0", 24), ("10.0.0.1", 32), ("fd00::", 64), ("fe80::1", 128)])
def test_md5_keys_of_addresses_and_ranges_are_taken_and_removed(prefix: str, length: int) -> None:
    address = parse_address(prefix)
    with socket.socket(socket.AF_INET if len(address) == 4 else socket.AF_INET6) as sock:
        set_md5_key(sock, address, length, b"secret")
        set_md5_key(sock, address, length, b"")
        with pytest.raises(FileNotFoundError):
            set_md5_key(sock, address, length, b"")


def test_endpoint_of_a_scoped_name() -> None:
    assert Endpoint.of(("fe80::1%eth0", 179, 0, 7)) == Endpoint(parse_address("fe80::1"), 7)
    assert Endpoint.of(("10.0.0.1", 179)) == Endpoint(parse_address("10.0.0.1"), 0)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ECONNREFUSED, "connection refused"),
        (errno.EHOSTUNREACH, "no route to it"),
        (errno.ETIMEDOUT, "does the neighbor want an MD5 password?"),
        (errno.EADDRNOTAVAIL, "192.0.2.9 is not an address of this host"),
    ],
)
def test_dial_errors_say_what_where_and_what_to_do(number: int, words: str) -> None:
    target = Target(address=parse_address("192.0.2.1"), port=179, source=parse_address("192.0.2.9"))
    text = explain_dial_error(OSError(number, "x"), target)
    assert text.startswith("192.0.2.1 port 179: ")
    assert words in text


@pytest.fixture
def nothing_collected() -> Iterator[None]:
    """As in the daemon: cycles stay until somebody collects them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", ["refused", "closed", "reset"])
async def test_a_connection_that_is_over_goes_with_the_next_hundred(
    nothing_collected: None, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who connects without end would otherwise fill the memory with what is left of each connection."""
    monkeypatch.setattr(memory, "MANY", 1)
    wires: list[Wire] = []
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    admission = Admission(neighbors=1, shortage=Shortage())
    listener = Listener(port, Wire.abort if end == "refused" else wires.append, admission=admission)
    assert listener.open()
    before = len([one for one in gc.get_objects() if isinstance(one, Wire | asyncio.Transport)])
    for _ in range(3):
        with socket.socket() as peer:
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
            if end == "refused":
                with contextlib.suppress(ConnectionResetError):
                    await asyncio.get_running_loop().sock_recv(peer, 1)
            else:
                await until(lambda: wires)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", end == "reset", 0))
        while wires:
            wire = wires.pop()
            await wire.closed.wait()
            del wire

    def is_gone() -> bool:
        connection_came()
        return len([one for one in gc.get_objects() if isinstance(one, Wire | asyncio.Transport)]) == before

    await until(is_gone)
    listener.close()
    admission.reserve.close()


async def test_refused_dial_raises() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await dial(Target(address=LOOPBACK, port=unused.getsockname()[1]))


async def test_goodbye_is_heard_although_the_peer_was_still_talking() -> None:
    served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: served.put_nowait((r, w)), "127.0.0.1", 0)
    async with server:
        wire = await dial(Target(address=LOOPBACK, port=server.sockets[0].getsockname()[1]))
        wire.attach(lambda data: None, lambda reason: None)
        reader, writer = await served.get()
        wire.pause()
        writer.write(b"x" * 100_000)
        await asyncio.sleep(0.05)
        wire.write(b"goodbye")
        wire.finish()
        assert await reader.read() == b"goodbye"
        writer.close()
        await asyncio.wait_for(wire.closed.wait(), 3)


async def test_loss_is_told_once_with_its_reason() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reasons: list[str] = []
    async with server:
        wire = await dial(Target(address=LOOPBACK, port=server.sockets[0].getsockname()[1]))
        wire.attach(lambda data: None, reasons.append)
        await asyncio.wait_for(wire.closed.wait(), 3)
        wire.write(b"late")
        wire.finish()
    assert reasons == ["the neighbor closed the connection"]


@contextlib.asynccontextmanager
async def ended_pair() -> AsyncIterator[tuple[socket.socket, Endpoint]]:
    """A connection whose peer has said its last words and closed it, and who that was."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            theirs.sendall(b"last words")
        yield ours, Endpoint(LOOPBACK, 0)


async def write_until_closed(wire: Wire) -> None:
    """The first write is answered with a reset."""

    def is_closed() -> bool:
        wire.write(b"?")
        return wire.closed.is_set()

    await until(is_closed)


async def test_what_came_before_a_write_failed_is_heard_before_the_end_is_told() -> None:
    heard: list[object] = []
    async with ended_pair() as (ours, _):
        ours.setblocking(False)
        _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(Wire.pause), sock=ours)
        wire.attach(heard.append, heard.append)
        await write_until_closed(wire)
        assert heard == [b"last words", "connection lost: Broken pipe"]


async def test_what_is_unread_is_known_without_reading_it() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname())
    ours, name = listener.accept()
    heard: list[bytes] = []
    lost: list[str] = []
    with listener, theirs:
        wire = await adopt(ours, Endpoint.of(name))
        wire.attach(heard.append, lost.append)
        assert not wire.has_unread
        theirs.sendall(b"some")
        await until(lambda: wire.has_unread)
        assert wire.has_unread
        wire.resume()
        await until(lambda: heard == [b"some"])
        assert not wire.has_unread
        wire.pause()
        theirs.close()
        await until(lambda: wire.has_unread)
        assert not lost
        wire.resume()
        await until(lambda: bool(lost))
        assert heard == [b"some"]
        assert lost == ["the neighbor closed the connection"]
        assert wire.has_unread


@pytest.mark.parametrize("is_lost_before", [True, False])
async def test_end_of_an_adopted_connection_is_told_when_it_is_read_on(is_lost_before: bool) -> None:
    heard: list[object] = []
    async with ended_pair() as (ours, peer):
        if is_lost_before:
            ours.sendall(b"?")
            await until(lambda: _is_over(ours))
        wire = await adopt(ours, peer)
        wire.attach(heard.append, heard.append)
        await write_until_closed(wire)
        assert wire.peer == peer
        assert heard == []
        wire.resume()
        await until(lambda: len(heard) == 2)
        assert heard == [b"last words", "connection lost: Broken pipe"]


def _is_over(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


async def test_received_bytes_come_in_slices_of_64_kib_at_most() -> None:
    sizes: list[int] = []

    def made(wire: Wire) -> None:
        wire.attach(lambda data: sizes.append(len(data)), lambda reason: None)

    server = await asyncio.get_running_loop().create_server(lambda: Wire(made), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"x" * 1_000_000)
        await writer.drain()
        writer.close()
        await until(lambda: sum(sizes) == 1_000_000)
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 65536


async def test_what_waits_in_this_process_is_known_byte_by_byte() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        _, wire = await asyncio.get_running_loop().create_connection(Wire, sock=ours)
        assert wire.unsent_bytes == b""
        written = heard = b""
        for size in (1, 40_000, 300_000, 19, 700_000, 4096):
            chunk = bytes(index % 251 for index in range(size))
            written += chunk
            wire.write(chunk)
        while wire.unsent:
            with contextlib.suppress(BlockingIOError):
                heard += theirs.recv(100_000)
            await asyncio.sleep(0)
            assert written.endswith(wire.unsent_bytes)
            assert len(wire.unsent_bytes) == wire.unsent
        assert wire.unsent_bytes == b""
        wire.abort()
