"""How many connections may come in, and what happens when there is no descriptor for one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from bgpd.runtime import descriptors
from bgpd.runtime.descriptors import Reserve, Shortage, is_exhausted, limit, raise_limit
from bgpd.runtime.rates import BURST_LINES
from bgpd.speaker import admission as admission_module
from bgpd.speaker import listener as listener_module
from bgpd.speaker.admission import MOST_OF_ONE, SPARE, Admission
from bgpd.speaker.listener import Listener
from bgpd.speaker.transport import Wire
from tests.logs import capture_logs
from tests.speaker.test_speaker import free_port
from tests.waiting import PATIENCE_S, until


class Listening:
    """A Listener on the loopback interface that keeps what it accepts."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.wires: list[Wire] = []
        self.port = free_port()
        self.listener = Listener(self.port, self.wires.append, admission=admission)
        assert self.listener.open()

    async def connect(self, address: str = "127.0.0.2") -> socket.socket:
        sock = socket.socket()
        await self.dial(sock, address)
        return sock

    async def dial(self, sock: socket.socket, address: str = "127.0.0.2") -> None:
        sock.setblocking(False)
        sock.bind((address, 0))
        with contextlib.suppress(ConnectionResetError):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    found = Listening(Admission(neighbors=10, shortage=Shortage()))
    yield found
    found.listener.close()
    found.admission.reserve.close()
    for wire in found.wires:
        wire.abort()


async def is_closed(sock: socket.socket, *, within_s: float = PATIENCE_S) -> bool:
    """Whether the other side closed it, or reset it at once."""
    sock.setblocking(False)
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_one_origin_and_all_together_are_limited() -> None:
    admission = Admission(neighbors=1, shortage=Shortage())
    assert [admission.admit("leaf1") for _ in range(MOST_OF_ONE + 2)].count(True) == MOST_OF_ONE
    assert admission.refused == 2
    admission.closed("leaf1")
    assert admission.admit("leaf1")
    others = [admission.admit(f"vm{number}") for number in range(100)]
    assert others.count(True) == admission.most - MOST_OF_ONE == 2 + SPARE - MOST_OF_ONE
    admission.neighbors = 20
    assert admission.admit("vm of a range that a reload brought")


def test_all_together_take_no_more_than_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "limit", lambda: 100)
    assert Admission(neighbors=1000, shortage=Shortage()).most == 50


async def test_idle_connections_of_one_address_are_few_and_leave_room_for_others(listening: Listening) -> None:
    idle = [await listening.connect() for _ in range(60)]
    other = await listening.connect("127.0.0.3")
    await until(lambda: len(listening.wires) == MOST_OF_ONE + 1)
    assert [await is_closed(sock) for sock in idle[MOST_OF_ONE:]] == [True] * (60 - MOST_OF_ONE)
    assert not await is_closed(other, within_s=0.2)
    assert listening.admission.refused == 60 - MOST_OF_ONE
    for sock in idle:
        sock.close()
    for wire in listening.wires:
        wire.abort()
    await asyncio.gather(*(wire.closed.wait() for wire in listening.wires))
    again = await listening.connect()
    await until(lambda: len(listening.wires) == MOST_OF_ONE + 2)
    for sock in (other, again):
        sock.close()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process has no free descriptor meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


async def test_without_descriptors_what_waits_is_closed_and_accepting_pauses(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "PAUSE_S", 0.05)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    clients = [socket.socket() for _ in range(3)]
    with no_descriptors():
        for client in clients:
            await listening.dial(client)
        assert [await is_closed(client) for client in clients] == [True] * 3
        assert listening.admission.shortage.count
        assert "out of file descriptors" in listening.admission.shortage.warning
    later = await listening.connect()
    await until(lambda: listening.wires)
    assert raised == []
    for sock in (*clients, later):
        sock.close()


async def test_connection_that_cannot_be_taken_over_is_closed_and_said(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", fail)
    with capture_logs() as records:
        client = await listening.connect()
        assert await is_closed(client)
    assert [record["event"] for record in records] == ["connection.defect"]
    client.close()


def test_only_a_lack_of_descriptors_or_memory_is_no_defect() -> None:
    assert is_exhausted(OSError(24, "Too many open files"))
    assert not is_exhausted(OSError(13, "Permission denied"))
    assert not is_exhausted(ValueError())


def test_the_limit_is_raised_as_far_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        monkeypatch.setattr(descriptors, "MOST", 256)
        assert raise_limit() == limit() == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_empty_reserve_sheds_nothing_and_raises_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        reserve = Reserve()
        assert not reserve.shed(server)
        reserve.close()


def test_one_interface_leaves_as_many_connections_as_it_has() -> None:
    admission = Admission(neighbors=18, shortage=Shortage())
    assert admission.most == 100
    assert [admission.admit(f"a{number}", 5) for number in range(200)].count(True) == 50
    assert [admission.admit(f"b{number}", 6) for number in range(200)].count(True) == 25
    assert admission.admit("leaf1", 7)
    for number in range(50):
        admission.closed(f"a{number}", 5)
    assert [admission.admit(f"b{number}", 6) for number in range(25, 200)].count(True) > 10
    assert admission.admit("leaf2", 8)


def test_refusals_without_end_fill_no_log() -> None:
    admission = Admission(neighbors=1, shortage=Shortage())
    with capture_logs() as records:
        for number in range(5000):
            admission.admit(f"vm{number}", 5)
    assert 0 < len(records) <= BURST_LINES + 1
