"""A bare orchestrator: MQTT 5 publications and API requests whose bytes are all made before the clock starts.

Never the bottleneck: a burst is one write to the broker's socket, or a few dozen connections of a bare HTTP client.
Times are CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

BROKER = ("127.0.0.1", 1883)
_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 0x10, 0x20, 0x30, 0x40
_RETAINED_ONCE = 0x03
"""Flags of a PUBLISH: QoS 1, retain."""
_TIMEOUT_S = 60.0
_CONNECTIONS = 32


def connect_packet(client: str) -> bytes:
    """MQTT 5 section 3.1: clean start, no keepalive."""
    return _packet(_CONNECT, _text("MQTT") + b"\x05\x02" + struct.pack(">H", 0) + b"\x00" + _text(client))


def publish_packet(topic: str, payload: bytes, number: int) -> bytes:
    """MQTT 5 section 3.3: retained, QoS 1; `number` is the packet identifier, 1 to 65535."""
    return _packet(_PUBLISH | _RETAINED_ONCE, _text(topic) + struct.pack(">HB", number, 0) + payload)


def packets(stream: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole packets of a stream as (type, body), and the rest."""
    found: list[tuple[int, bytes]] = []
    while True:
        length, shift, at = 0, 0, 1
        while at < len(stream):
            byte = stream[at]
            length |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not byte & 0x80:
                break
        else:
            return found, stream
        if len(stream) < at + length:
            return found, stream
        found.append((stream[0] & 0xF0, stream[at : at + length]))
        stream = stream[at + length :]


def _packet(kind: int, body: bytes) -> bytes:
    length, size = len(body), b""
    while True:
        length, byte = length >> 7, length & 0x7F
        size += bytes((byte | (0x80 if length else 0),))
        if not length:
            return bytes((kind,)) + size + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded


class Publisher:
    """A connection to the broker. To be made inside the broker's network namespace."""

    def __init__(self) -> None:
        self._socket = socket.create_connection(BROKER, timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._acknowledged = 0
        self._changed = threading.Condition()
        self._socket.sendall(connect_packet("benchmark"))
        threading.Thread(target=self._read, daemon=True).start()
        self._wait(0)

    def _read(self) -> None:
        """Counts what the broker acknowledges; the first is the connection itself."""
        rest = b""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            found, rest = packets(rest + data)
            with self._changed:
                self._acknowledged += sum(kind in (_CONNACK, _PUBACK) for kind, _ in found)
                self._changed.notify_all()

    def _wait(self, published: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._acknowledged > published, _TIMEOUT_S):
                raise OSError(f"the broker acknowledged {self._acknowledged - 1} of {published} messages")

    def publish(self, messages: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
        """Publishes (topic, payload) in one go: when the first and when the last byte was handed to the kernel.

        Raises: OSError: the broker did not acknowledge all.
        """
        stream = b"".join(
            publish_packet(topic, body, 1 + number % 65535) for number, (topic, body) in enumerate(messages)
        )
        before = self._acknowledged - 1
        first = time.monotonic_ns()
        self._socket.sendall(stream)
        last = time.monotonic_ns()
        self._wait(before + len(messages))
        return first, last

    def close(self) -> None:
        self._socket.close()


def put(path: Path, requests: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
    """Puts (target, body) over the API's socket, by up to 32 connections at once.

    Answers when the first and when the last request was sent, after all were answered.

    Raises: OSError: one was not answered with 200.
    """
    return asyncio.run(_put_all(path, iter([_request(path, target, body) for target, body in requests]), len(requests)))


def _request(path: Path, target: str, body: bytes) -> bytes:
    return f"PUT {target} HTTP/1.1\r\nHost: bgpd\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _put_all(path: Path, requests: Iterator[bytes], count: int) -> tuple[int, int]:
    sent: list[int] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        for request in requests:
            sent.append(time.monotonic_ns())
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_content_length(head))
            if not head.startswith(b"HTTP/1.1 200"):
                raise OSError(f"PUT: {head.splitlines()[0].decode()}")
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_CONNECTIONS, count)):
            group.create_task(connection())
    return sent[0], sent[-1]


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
