"""The orchestrator's feed over MQTT 5 (aiomqtt): topics in and out, connection, backoff, last will.

Topics below `bgpd/v1/hosts/<host>/`: in, retained: `workloads/<id>`, `services/<name>`, `sync`; out, retained:
`status`, `neighbors/<name>`, `workloads/<id>/state`, `services/<name>/state`; out: `events`. What the payloads mean,
`feed` decides.

Outgoing retained topics are level-triggered: each is rendered when it is sent, and all are sent again on a new
connection. Therefore QoS 0 is enough for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiomqtt
import msgspec
import structlog
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bgpd.config.schema import MqttWorkloadConfig
from bgpd.model.reports import HostStatus
from bgpd.workload.feed.feed import QUIET_S, Feed

log = structlog.get_logger()

MAX_PACKET = 16 * 1024 * 1024
"""Bytes of an incoming packet; the broker is told to drop larger ones, and is left if it sends one all the same.
Between 64 KiB and this, a payload is refused unread."""

_KERNEL_BUFFER = 8 * 1024 * 1024
"""What may have come of the next packets beside the one that is read."""

MAX_EVENTS = 1000
"""Events kept while the broker is away; older ones are dropped."""

CALL_TIMEOUT_S = 5.0
"""How long the broker may take to answer a call; a silent refusal of a TLS 1.3 client certificate shows only so."""

TAKE_PAUSE_S = 0.005
"""Messages that follow one another faster are taken together: one step of table, kernel and neighbors for all."""

TAKE_AT_ONCE_S = 0.003
"""After so long a step ends, so that the loop is not held."""

READ_AT_ONCE = 20
"""Messages read in one turn of the loop, if they are there already."""

MAX_RECEIVED = 1000
MAX_RECEIVED_BYTES = 4 * 1024 * 1024
"""Messages that may wait to be taken, and their payloads together; with more, nothing more is read."""

MAX_UNSENT = 20_000
"""Messages that are read while a broker takes nothing of what it is sent; then it is left."""

PUBLISH_AT_ONCE = 32
PUBLISH_PAUSE_S = 0.004
HEARING_PAUSE_S = 0.1
"""Between two lots; the longer one in a burst: hearing what is new goes before telling what became of it."""

BACKOFF_S = (0.5, 30.0)
"""First and longest pause between connection attempts, before jitter."""

STABLE_S = 1.0
"""A connection that ends before has not succeeded."""

PACKET_OVERHEAD = 16
"""Most bytes of a PUBLISH beside topic and payload: header, lengths and no properties."""

Render = Callable[[], bytes]


class _Reader:
    """A paho client that reads on while messages come; aiomqtt reads one in each turn of the loop.

    `count()` is how many came until now; while `full()`, `take()` makes room first; `failed` is told why the connection
    is given up. What the library cannot read, or should not, ends the connection: it would find the same packet again
    in each turn of the loop. So does what would fill the memory: messages of QoS 2, which were not subscribed to and
    which the library keeps until they are released, and a broker that does not read what it is sent.
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


class BrokerMisbehaves(Exception):
    """The broker breaks the protocol; the text says how."""


def _bytes_received(sock: Any) -> int:
    """What TCP has received on a connection since it began (tcp(7), TCP_INFO; Linux 4.1); 0 if it is closed."""
    if sock is None or sock.fileno() < 0:
        return 0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_RECEIVED.size)
    return int(_TCP_INFO_BYTES_RECEIVED.unpack(info)[0])


_TCP_INFO_BYTES_RECEIVED = struct.Struct("=128xQ")
"""tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""


class _Client(aiomqtt.Client):
    """aiomqtt's client with a `_Reader`; `count`, `full`, `take` and `failed` are to be set before it is entered.

    `max_packet`: bytes of a packet that the broker takes (MQTT 5 section 3.2.2.3.6).
    """

    count: Callable[[], int]
    full: Callable[[], bool]
    take: Callable[[], None]
    failed: Callable[[BrokerMisbehaves], None]
    max_packet: int = 2**28

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        reader = _Reader(client, self.count, full=self.full, take=self.take, failed=self.failed)
        super()._on_socket_open(cast(paho.Client, reader), userdata, sock)

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


class MqttSource:
    """One connection to a broker, kept for ever. `host` is this host's name in topics.

    `feed` takes what comes in. `status` answers the host's present status.
    """

    def __init__(
        self,
        config: MqttWorkloadConfig,
        *,
        host: str,
        feed: Feed,
        status: Callable[[], HostStatus],
    ) -> None:
        self._config = config
        self._host = host
        self._base = f"bgpd/v1/hosts/{host}"
        self._feed = feed
        self._status = status
        self._topics: dict[str, Render] = {}
        self._outbox: dict[str, Render] = {}
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._outgoing = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._stopping = False
        self._tick_handle: asyncio.TimerHandle | None = None
        self._received: deque[tuple[str, bytes]] = deque()
        self._received_bytes = 0
        self._messages = 0
        self._taking: asyncio.Handle | None = None
        self._taken_at = 0.0
        self.connected = False
        self._too_large_told = False
        self._misbehaviour: BrokerMisbehaves | None = None
        self.error = ""
        self.publish("status", self._render_status)

    def publish(self, topic: str, render: Render) -> None:
        """Keep the retained `topic` (below this host's) at what `render()` answers; b"" clears it at the broker.

        Called again whenever the answer may have changed.
        """
        self._topics[topic] = render
        self._outbox[topic] = render
        self._outgoing.set()

    def publish_event(self, at: float, event: str, fields: dict[str, Any]) -> None:
        """Something happened: `at` in seconds since the epoch."""
        self._events.append(msgspec.json.encode({"at": at, "event": event, **fields}))
        self._outgoing.set()

    def status_changed(self) -> None:
        """The status should be told again."""
        self.publish("status", self._render_status)

    def _render_status(self) -> bytes:
        return self._offline("the daemon was stopped") if self._stopping else msgspec.json.encode(self._status())

    def _offline(self, reason: str) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self._status(), online=False, ready=False, reason=reason))

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        pause, most = BACKOFF_S
        attempts = 0
        loop = asyncio.get_running_loop()
        while True:
            attempts += 1
            connected_at = None
            self._misbehaviour = None
            try:
                async with self._client() as client:
                    connected_at = loop.time()
                    self.connected = True
                    await self._serve(client, attempts)
            except* Exception as errors:
                lasted = loop.time() - connected_at if connected_at is not None else None
                self._disconnected(errors, lasted)
                if lasted is not None and lasted >= STABLE_S and self._misbehaviour is None:
                    pause, attempts = BACKOFF_S[0], 0
            finally:
                self.connected = False
                self._feed.left()
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the library may raise its own error in the place of this one
                raise asyncio.CancelledError
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, most)

    def _disconnected(self, errors: BaseExceptionGroup[Exception], lasted: float | None) -> None:
        """Tell why, once for the same reason; the broker's own code is the best reason there is."""
        leaves = list(_leaves(errors))
        coded = next((error for error in leaves if isinstance(error, aiomqtt.MqttCodeError)), leaves[0])
        reason = _explain(self._misbehaviour or coded)
        if lasted is not None and lasted < STABLE_S and self._misbehaviour is None:
            reason += f"; ended by the broker at once: does it let this user be host {self._host}, and no other"
            reason += f" client be bgpd-{self._host}?"
        if reason != self.error:
            log.warning("mqtt.disconnected", broker=self._config.broker, reason=reason)
        self.error = reason

    def _broker_misbehaves(self, reason: BrokerMisbehaves) -> None:
        self._misbehaviour = reason

    def _client(self) -> _Client:
        """Raises: OSError: a file cannot be read; ValueError: it holds nothing useful, or the URL is wrong."""
        url = urlsplit(self._config.broker)
        tls = url.scheme == "mqtts"
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._config.session_expiry_s
        properties.MaximumPacketSize = MAX_PACKET
        password = Path(self._config.password_file).read_text().strip() if self._config.password_file else None
        client = _Client(
            url.hostname or "",
            url.port or (8883 if tls else 1883),
            identifier=f"bgpd-{self._host}",
            username=self._config.username or None,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=self._config.keepalive_s,
            queue_type=self._inbox(),
            timeout=CALL_TIMEOUT_S,
            will=aiomqtt.Will(f"{self._base}/status", self._offline("the daemon is gone"), qos=1, retain=True),
            properties=properties,
            tls_context=self._tls_context() if tls else None,
        )
        client.pending_calls_threshold = PUBLISH_AT_ONCE + 4
        client.count = lambda: self._messages
        client.full = self._is_full
        client.take = self._take
        client.failed = self._broker_misbehaves
        return client

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._config.ca_file or None)
        if self._config.cert_file:
            context.load_cert_chain(self._config.cert_file, self._config.key_file or None)
        return context

    async def _serve(self, client: _Client, attempts: int) -> None:
        await self._take_all()
        self._feed.joined()
        self._outbox = dict(self._topics)
        self._outgoing.set()
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=0)
        topics = [(f"{self._base}/{what}", options) for what in ("workloads/+", "services/+", "sync")]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(client))
            for code in await client.subscribe(topics):
                if getattr(code, "is_failure", False):
                    raise aiomqtt.MqttError(f"the broker refused the subscription to {self._base}: {code}")
            group.create_task(self._send(client))
            await asyncio.sleep(STABLE_S)
            log.info("mqtt.connected", broker=self._config.broker, attempts=attempts)
            self.error = ""

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Only notices the end of the connection: messages come by `_inbox`.

        Raises: MqttError: the connection ended.
        """
        async for _ in client.messages:
            pass

    def _inbox(self) -> type[asyncio.Queue[aiomqtt.Message]]:
        """A queue type that hands each message on at once, instead of by two tasks per message."""

        class Inbox(asyncio.Queue[aiomqtt.Message]):
            def put_nowait(inbox, message: aiomqtt.Message) -> None:
                body = message.payload
                self._messages += 1
                if isinstance(body, (bytes, bytearray)):
                    self._received.append((str(message.topic), bytes(body)))
                    self._received_bytes += len(body)
                    self._plan_taking()

        return Inbox

    def _is_full(self) -> bool:
        return len(self._received) >= MAX_RECEIVED or self._received_bytes >= MAX_RECEIVED_BYTES

    def _plan_taking(self) -> None:
        """At once if it was quiet, else together with what comes meanwhile."""
        if self._taking is None and self._received:
            loop = asyncio.get_running_loop()
            at = self._taken_at + TAKE_PAUSE_S
            self._taking = loop.call_soon(self._take) if at <= loop.time() else loop.call_at(at, self._take)

    def _take(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        loop = asyncio.get_running_loop()
        self._taken_at = now = loop.time()
        while self._received and loop.time() - now < TAKE_AT_ONCE_S:
            topic, body = self._received.popleft()
            self._received_bytes -= len(body)
            try:
                self._take_one(topic, body, now)
            except Exception as error:  # a defect of ours; it costs this message, not the daemon
                log.error("mqtt.message_failed", topic=topic[:300], size=len(body), exc_info=error)
        self._plan_taking()

    async def _take_all(self) -> None:
        """The broker was told that these arrived: it will not say them again."""
        while self._received:
            self._take()
            await asyncio.sleep(0)

    def _take_one(self, topic: str, body: bytes, now: float) -> None:
        base, slash, rest = topic.partition(f"{self._base}/")
        match rest.split("/") if slash and not base else ():
            case ["workloads", id]:
                self._feed.workload_received(id, body, now)
            case ["services", name]:
                self._feed.service_received(name, body)
            case ["sync"]:
                self._feed.sync_received(body, now)
                self.status_changed()
            case _:
                return
        if self._tick_handle is None:
            self._tick_handle = asyncio.get_running_loop().call_later(QUIET_S, self._tick)

    def _tick(self) -> None:
        """Call the feed when it wants to be called."""
        loop = asyncio.get_running_loop()
        self._tick_handle = None
        before = self._feed.generation
        self._feed.tick(loop.time())
        at = self._feed.timer()
        if at is not None:
            self._tick_handle = loop.call_at(at, self._tick)
        if before != self._feed.generation:
            self.status_changed()

    async def _send(self, client: _Client) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            while self._outbox:
                await self._send_some(client)
                if self._outbox:
                    await asyncio.sleep(HEARING_PAUSE_S if self._received else PUBLISH_PAUSE_S)
            while self._events:
                event = self._events.popleft()
                if self._fits(client, "events", event):
                    await client.publish(f"{self._base}/events", event)
            self._all_sent.set()

    async def _send_some(self, client: _Client) -> None:
        """Some of the retained topics at once; what could not be sent goes back into the outbox."""
        batch = [(topic, self._outbox.pop(topic)) for topic in list(islice(self._outbox, PUBLISH_AT_ONCE))]
        bodies = [(topic, render()) for topic, render in batch]
        try:
            async with asyncio.TaskGroup() as group:
                for topic, body in bodies:
                    if self._fits(client, topic, body):
                        group.create_task(client.publish(f"{self._base}/{topic}", body, retain=True))
        except BaseException:
            for topic, render in batch:
                self._outbox.setdefault(topic, render)
            raise
        for topic, body in bodies:
            if not body and topic not in self._outbox:
                self._topics.pop(topic, None)

    def _fits(self, client: _Client, topic: str, body: bytes) -> bool:
        """Whether the broker takes a packet of that size: it would close the connection for a larger one."""
        size = len(self._base) + 1 + len(topic.encode()) + len(body) + PACKET_OVERHEAD
        fits = size <= client.max_packet
        if not fits and not self._too_large_told:
            self._too_large_told = True
            log.warning("mqtt.not_sent", topic=topic, size=size, broker_takes=client.max_packet)
        return fits

    async def say_goodbye(self) -> None:
        """Before a stop: tell the broker that this host is offline, if that takes less than a second."""
        await self._take_all()
        self._stopping = True
        self._all_sent.clear()
        self.status_changed()
        with contextlib.suppress(TimeoutError):
            if self.connected:
                await asyncio.wait_for(self._all_sent.wait(), 1.0)


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _explain(error: BaseException) -> str:
    """Why there is no connection, and what to do where that is known."""
    text = str(error) or type(error).__name__
    hints = {
        "CERTIFICATE_VERIFY_FAILED": "check workload.mqtt.ca_file and the broker's name in its certificate",
        "Bad user name or password": "check workload.mqtt.username and password_file",
        "Not authorized": "check workload.mqtt.username, password_file or cert_file, and the broker's ACL",
        "Connection refused": "is the broker running there?",
        "timed out": "does the broker answer there, and does it accept workload.mqtt.cert_file?",
        "certificate required": "set workload.mqtt.cert_file and key_file",
    }
    remedy = next((hint for mark, hint in hints.items() if mark in text), "")
    return f"{text}; {remedy}" if remedy else text
