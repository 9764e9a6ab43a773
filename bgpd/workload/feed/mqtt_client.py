"""An MQTT 5 client (aiomqtt, paho) that a broker cannot make spin, fill the memory or hold up the loop.

Decides only when to give a connection up; `mqtt` interprets messages.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

MAX_PACKET = 16 * 1024 * 1024
"""Bytes of an incoming packet; the broker is told to drop larger ones, and is left if it sends one all the same.
Between 64 KiB and this, a payload is refused unread."""

_KERNEL_BUFFER = 8 * 1024 * 1024
"""What may have come of the next packets beside the one that is read."""

READ_AT_ONCE = 20
"""Messages read in one turn of the loop, if they are there already."""

MAX_UNSENT = 20_000
"""Messages that are read while a broker takes nothing of what it is sent; then it is left."""

_TCP_INFO_BYTES_RECEIVED = struct.Struct("=128xQ")
"""tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""


_OF_LOST_CONNECTIONS = ("failed to receive on socket", "timeout on socket")
"""How the library's errors begin that say no more than that a connection was lost: whoever runs `Client` hears that."""
_LIBRARY = logging.getLogger("mqtt")
_LIBRARY.addFilter(lambda record: not str(record.msg).startswith(_OF_LOST_CONNECTIONS))


class BrokerMisbehaves(Exception):
    """The broker breaks the protocol; the text says how."""


class Reader:
    """A paho client that reads on while messages come; aiomqtt reads one in each turn of the loop.

    `count()` is how many came until now; while `full()`, `take()` makes room first; `failed` gets the reason why the
    connection is given up. What the library cannot read, or should not, ends the connection: it would find the same
    packet again in each turn of the loop. So does what would fill the memory: messages of QoS 2, which were not
    subscribed to and which the library keeps until they are released, and a broker that does not read what it is sent.
    """

    def __init__(
        self,
        client: paho.Client,
        count: Callable[[], int],
        *,
        full: Callable[[], bool],
        take: Callable[[], None],
        failed: Callable[[BrokerMisbehaves], None],
    ) -> None:
        self._client = client
        self._count = count
        self._full = full
        self._take = take
        self._failed = failed
        self._bytes_before = 0
        self._count_at_sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def loop_read(self) -> None:
        """Raises: BrokerMisbehaves: the connection is over."""
        try:
            if self._full():
                self._take()
            for _ in range(READ_AT_ONCE):
                if self._full():
                    return
                before = self._count()
                self._client.loop_read()
                self._check_kept()
                if self._count() == before:
                    self._check_size()
                    return
                self._bytes_before = _bytes_received(self._client.socket())
        except BrokerMisbehaves as error:
            self._give_up(error)
            raise
        except Exception as error:
            reason = BrokerMisbehaves(f"the broker sent what no MQTT client can read ({error!r})")
            self._give_up(reason)
            raise reason from error

    def _check_kept(self) -> None:
        """Raises: BrokerMisbehaves: the library keeps what it does not get rid of."""
        if self._client._in_messages:  # no public name tells of messages that wait for PUBREL
            raise BrokerMisbehaves("the broker sent a message with QoS 2, and QoS 1 was subscribed to")
        if not self._client.want_write():
            self._count_at_sent = self._count()
        elif self._count() - self._count_at_sent > MAX_UNSENT:
            raise BrokerMisbehaves("the broker does not read what it is sent")

    def _check_size(self) -> None:
        """Raises: BrokerMisbehaves: of the packet that is being read, more has come than a packet may have."""
        if _bytes_received(self._client.socket()) - self._bytes_before > MAX_PACKET + _KERNEL_BUFFER:
            raise BrokerMisbehaves(f"the broker sends a packet of more than {MAX_PACKET} bytes")

    def _give_up(self, reason: BrokerMisbehaves) -> None:
        self._failed(reason)
        sock = self._client.socket()
        if sock is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            loop.call_soon(self._client.disconnect)  # after the reason has been taken


def _bytes_received(sock: Any) -> int:
    """What TCP has received on a connection since it began (tcp(7), TCP_INFO; Linux 4.1); 0 if it is closed."""
    if sock is None or sock.fileno() < 0:
        return 0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_RECEIVED.size)
    return int(_TCP_INFO_BYTES_RECEIVED.unpack(info)[0])


class Client(aiomqtt.Client):
    """aiomqtt's client with a `Reader`; its callables are to be set before it is entered.

    `max_packet`: bytes of a packet that the broker takes (MQTT 5 section 3.2.2.3.6).
    """

    count: Callable[[], int]
    full: Callable[[], bool]
    take: Callable[[], None]
    failed: Callable[[BrokerMisbehaves], None]
    verdict: Callable[[str, str], None]
    ended: Callable[[str], None]
    max_packet: int = 2**28

    def __init__(self, hostname: str, port: int, **options: Any) -> None:
        super().__init__(hostname, port, logger=_LIBRARY, **options)
        self._probes: dict[int, str] = {}

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        reader = Reader(client, self.count, full=self.full, take=self.take, failed=self.failed)
        self._loop.call_soon_threadsafe(self._follow, reader, sock)

    def _follow(self, reader: Reader, sock: Any) -> None:
        """The library's socket is open, if it still is: it may have been closed since, by the thread that connects."""

        def read() -> None:
            while True:
                reader.loop_read()
                if not getattr(sock, "pending", int)():  # a TLS socket may hold more than the kernel tells of
                    return

        if self._watch(self._loop.add_reader, sock, read):
            self._misc_task = self._loop.create_task(self._misc_loop())

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch, self._loop.add_writer, sock, client.loop_write)

    def _watch(self, add: Callable[[Any, Callable[[], None]], None], sock: Any, work: Callable[[], object]) -> bool:
        """Have the loop call `work` for a socket; False if it was closed: its number may be another file's by now."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        if sock.fileno() < 0:
            return False
        try:
            add(sock, guarded)
        except OSError:  # closed in this very moment
            return False
        return True

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.max_packet = getattr(properties, "MaximumPacketSize", self.max_packet)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """The library raises a text of its own, and not what the broker has said."""
        if flags.is_disconnect_packet_from_server:
            self.ended(str(reason_code))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def probe(self, topic: str, body: bytes, *, retain: bool) -> None:
        """Publish with QoS 1, without waiting: `verdict` gets why the broker did not take it ("Not authorized"), or "".

        A broker drops without a word what it denies with QoS 0.
        """
        sent = self._client.publish(topic, body, qos=1, retain=retain)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "Could not publish message")
        self._probes[sent.mid] = topic

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        topic = self._probes.pop(mid, None)
        if topic is not None:
            self.verdict(topic, str(reason_code) if reason_code.is_failure else "")
        super()._on_publish(client, userdata, mid, reason_code, properties)
