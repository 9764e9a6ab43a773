"""The MQTT client's socket in the event loop: followed while it is open, and no longer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from bgpd.workload.feed.mqtt_client import BrokerMisbehaves, Client


class Paho:
    """What the library does when its socket can be read or written."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.done: list[str] = []
        self.error = error
        self._in_messages: dict[int, object] = {}

    def loop_read(self) -> None:
        self._do("read")

    def loop_write(self) -> None:
        self._do("write")

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.error is not None:
            raise self.error

    def want_write(self) -> bool:
        return False

    def socket(self) -> None:
        return None


@pytest.fixture
async def client() -> Client:
    made = Client("127.0.0.1", 1883)
    made.count, made.full, made.take = (lambda: 0), (lambda: False), (lambda: None)
    made.failed = lambda reason: None
    return made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
async def defects() -> list[Any]:
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: found.append(context))
    return found


@pytest.mark.parametrize("what", ["_on_socket_open", "_on_socket_register_write"])
async def test_socket_that_is_closed_before_the_loop_follows_it_is_no_defect(
    client: Client, defects: list[Any], what: str
) -> None:
    """The thread that connects asks for it; the broker may be gone by the time that the loop does it."""
    for reuse in (False, True):
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        paho: Any = Paho()
        getattr(client, what)(paho, None, ours)
        ours.close()
        other = socket.socket() if reuse else None
        for _ in range(3):
            await asyncio.sleep(0)
        assert not asyncio.get_running_loop().remove_reader(number)
        assert not asyncio.get_running_loop().remove_writer(number)
        theirs.close()
        if other is not None:
            assert other.fileno() == number, "the test is about a number that another socket has now"
            other.close()
    assert (defects, paho.done) == ([], [])
    assert client._misc_task is None


async def test_open_socket_is_read_and_written(client: Client, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    paho: Any = Paho()
    client._on_socket_register_write(paho, None, ours)
    for _ in range(3):
        await asyncio.sleep(0)
    assert paho.done[:1] == ["write"]
    asyncio.get_running_loop().remove_writer(ours)
    paho.done.clear()
    client._misc_loop = asyncio.Event().wait  # type: ignore[method-assign, assignment]
    client._on_socket_open(paho, None, ours)
    theirs.send(b"x")
    for _ in range(4):
        await asyncio.sleep(0)
    assert "read" in paho.done
    client._on_socket_close(paho, None, ours)
    assert not asyncio.get_running_loop().remove_reader(ours)


@pytest.mark.parametrize(("what", "expected"), [("read", BrokerMisbehaves), ("write", BrokenPipeError)])
async def test_what_reading_or_writing_raises_ends_the_connection_only(
    client: Client, pair: tuple[socket.socket, socket.socket], defects: list[Any], what: str, expected: type[Exception]
) -> None:
    ours, theirs = pair
    paho: Any = Paho(error=BrokenPipeError())
    client._misc_loop = asyncio.Event().wait  # type: ignore[method-assign, assignment]
    theirs.send(b"x")
    if what == "read":
        client._on_socket_open(paho, None, ours)
    else:
        client._on_socket_register_write(paho, None, ours)
    for _ in range(4):
        await asyncio.sleep(0)
    assert isinstance(client._disconnected.exception(), expected)
    assert defects == []
    asyncio.get_running_loop().remove_reader(ours)
    asyncio.get_running_loop().remove_writer(ours)
