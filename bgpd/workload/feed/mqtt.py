"""The orchestrator's feed over MQTT 5: topics in and out, connection, backoff, last will.

Topics below `bgpd/v1/hosts/<host>/`: in, retained: `workloads/<id>`, `services/<name>`, `sync`; out, retained:
`status`, `neighbors/<name>`, `workloads/<id>/state`, `services/<name>/state`; out: `events`. `generations` interprets
what comes in; `published` renders what goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bgpd.config.schema_workloads import MqttWorkloadConfig
from bgpd.model.reports import Problem
from bgpd.runtime.events import log
from bgpd.runtime.memory import cycle_left
from bgpd.workload.feed.generations import Generations
from bgpd.workload.feed.mqtt_client import MAX_PACKET, BrokerMisbehaves, Client
from bgpd.workload.feed.mqtt_kind import MQTT
from bgpd.workload.feed.outbox import PUBLISH_AT_ONCE, Outbox
from bgpd.workload.feed.published import PublishedStates
from bgpd.workload.feed.reports import RIGHTS, SNAPSHOT
from bgpd.workload.feed.source import FeedSource
from bgpd.workload.sources import SourceParts
from bgpd.workload.standing import ClaimStatus

CALL_TIMEOUT_S = 5.0
"""How long the broker may take to answer a call; a silent refusal of a TLS 1.3 client certificate shows only so."""

TAKE_PAUSE_S = 0.005
"""Messages that follow one another faster are taken together: one step of table, kernel and neighbors for all."""

TAKE_AT_ONCE_S = 0.003
"""Longest step, so that the loop is not blocked."""

MAX_RECEIVED = 1000
MAX_RECEIVED_BYTES = 4 * 1024 * 1024
"""Messages that may wait to be taken, and their payloads together; with more, nothing more is read."""

BACKOFF_S = (0.5, 30.0)
"""First and longest pause between connection attempts, before jitter."""

TAKEN_OVER = "Session taken over"
"""The broker's reason for a client in whose place another one of its name has come (MQTT 5 section 3.14.2.1)."""

OFTEN = (3, 120.0)
"""So many connections that stood are lost within so many seconds: more than a broker that is restarted."""

STABLE_S = 1.0
"""A connection that ends before has not succeeded."""

GOODBYE_S = 1.0
"""How long the daemon's end waits for the broker."""


class MqttSource(FeedSource):
    """Keeps one connection to a broker for ever, and brings what comes in and goes out to its place."""

    name = MQTT

    def __init__(self, parts: SourceParts, config: MqttWorkloadConfig) -> None:
        self.host = config.host or parts.hostname
        super().__init__(parts, most=config.max_workloads)
        self.initial_wait_s = config.initial_wait_s
        self._config = config
        self._new_client = parts.ways_out.mqtt_client or Client
        self._base = f"bgpd/v1/hosts/{self.host}"
        self._generations = Generations(
            self.feed, heard_whole=lambda: self._first_state.heard(MQTT), ask_again=self._ask_again
        )
        self._asking = asyncio.Event()
        self._outbox = Outbox(self._base, is_hearing=lambda: bool(self._received), denied=self._denied)
        self._published = PublishedStates(
            self._outbox,
            reports=parts.reports,
            services=parts.services,
            sessions=parts.sessions,
            generations=self._generations,
        )
        self._tick_handle: asyncio.TimerHandle | None = None
        self._received: deque[tuple[str, bytes]] = deque()
        self._received_bytes = 0
        self._messages = 0
        self._taking: asyncio.Handle | None = None
        self._taken_at = 0.0
        self._misbehaviour: BrokerMisbehaves | None = None
        self._ended = ""
        self._lost_at: deque[float] = deque(maxlen=OFTEN[0])
        self._connected_at: float | None = None
        self.connected = False
        self.error = ""

    # A source of claims.

    async def restore(self) -> None:
        await super().restore()
        self.feed.belongs_to(self.host, self._config.broker)
        for id in self.feed.workloads:
            self._published.workload_changed(id)

    async def run(self) -> None:
        """Follow the broker, and write what it says to the state file, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._follow())

    async def stop(self) -> None:
        """Publish that this host is offline, if that takes less than a second."""
        await self._take_all()
        self._published.stopping()
        with contextlib.suppress(TimeoutError):
            if self.connected:
                await self._outbox.all_sent(GOODBYE_S)

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        super().states_changed(changed)
        self._published.states_changed(changed)

    def neighbors_changed(self) -> None:
        self._published.neighbors_changed()

    def readiness_changed(self, reason: str) -> None:
        self._published.readiness_changed(reason)

    def errors(self) -> list[str]:
        found = [f"the broker {self._config.broker}: {self.error}"] if self.error else []
        found += [str(problem) for kind in (SNAPSHOT, RIGHTS) for problem in self._reports.problems(MQTT, kind)]
        return found + super().errors()

    # The connection.

    async def _follow(self) -> None:
        """Connect, and connect again."""
        pause, most = BACKOFF_S
        attempts = 0
        loop = asyncio.get_running_loop()
        while True:
            attempts += 1
            self._connected_at = None
            self._misbehaviour, self._ended = None, ""
            # A task of its own: a TaskGroup that ends early may leave its task marked as cancelled (Python 3.11).
            connection = loop.create_task(self._connect(attempts))
            try:
                await connection
            except* Exception as errors:
                lasted = loop.time() - self._connected_at if self._connected_at is not None else None
                self._disconnected(errors, lasted)
                if lasted is not None and lasted >= STABLE_S and self._misbehaviour is None:
                    pause, attempts = BACKOFF_S[0], 0
            finally:
                self.connected = False
                self._generations.left()
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the library may raise its own error in the place of this one
                raise asyncio.CancelledError
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, most)

    async def _connect(self, attempts: int) -> None:
        """One connection, from its beginning to its end."""
        async with self._client() as client:
            self._connected_at = asyncio.get_running_loop().time()
            self.connected = True
            await self._serve(client, attempts)

    def _disconnected(self, errors: BaseExceptionGroup[Exception], lasted: float | None) -> None:
        """Tell why, once for the same reason; the broker's own code is the best reason there is."""
        leaves = list(_leaves(errors))
        coded = next((error for error in leaves if isinstance(error, aiomqtt.MqttCodeError)), leaves[0])
        reason = self._ended or _explain(self._misbehaviour or coded)
        if TAKEN_OVER in reason or (lasted is not None and lasted >= STABLE_S and self._is_lost_often()):
            reason += f"; is another client bgpd-{self.host}, a host with the same workload.mqtt.host?"
        elif lasted is not None and lasted < STABLE_S and self._misbehaviour is None:
            reason += f"; ended by the broker at once: does it let this user be host {self.host}, and no other"
            reason += f" client be bgpd-{self.host}?"
        if reason != self.error:
            log.warning("mqtt.disconnected", broker=self._config.broker, reason=reason)
        self.error = reason

    def _is_lost_often(self) -> bool:
        """Whether connections that stood were lost again and again: brokers may say nothing of a client of the same
        name, which takes the place of the one before."""
        self._lost_at.append(asyncio.get_running_loop().time())
        return len(self._lost_at) == OFTEN[0] and self._lost_at[-1] - self._lost_at[0] < OFTEN[1]

    def _connection_ended(self, reason: str) -> None:
        self._ended = reason

    def _broker_misbehaves(self, reason: BrokerMisbehaves) -> None:
        self._misbehaviour = reason

    def _client(self) -> Client:
        """Raises: OSError: a file cannot be read; ValueError: it holds nothing useful, or the URL is wrong."""
        url = urlsplit(self._config.broker)
        tls = url.scheme == "mqtts"
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._config.session_expiry_s
        properties.MaximumPacketSize = MAX_PACKET
        password = Path(self._config.password_file).read_text().strip() if self._config.password_file else None
        client = self._new_client(
            url.hostname or "",
            url.port or (8883 if tls else 1883),
            identifier=f"bgpd-{self.host}",
            username=self._config.username or None,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=self._config.keepalive_s,
            queue_type=self._inbox(),
            timeout=CALL_TIMEOUT_S,
            will=self._will(),
            properties=properties,
            tls_context=self._tls_context() if tls else None,
        )
        client.pending_calls_threshold = PUBLISH_AT_ONCE + 4
        client.count = lambda: self._messages
        client.full = self._is_full
        client.take = self._take
        client.failed = self._broker_misbehaves
        client.verdict = self._outbox.verdict
        client.ended = self._connection_ended
        return client

    def _will(self) -> aiomqtt.Will:
        body = self._published.offline("the daemon is gone")
        return aiomqtt.Will(f"{self._base}/status", body, qos=1, retain=True)

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._config.ca_file or None)
        if self._config.cert_file:
            context.load_cert_chain(self._config.cert_file, self._config.key_file or None)
        return context

    async def _serve(self, client: Client, attempts: int) -> None:
        await self._take_all()
        self._generations.joined()
        self._outbox.connected()
        self._asking.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(client))
            await self._subscribe(client, qos=1, retained=True)
            group.create_task(self._outbox.send(client))
            group.create_task(self._ask_when_wanted(client))
            await asyncio.sleep(STABLE_S)
            log.info("mqtt.connected", broker=self._config.broker, attempts=attempts)
            self.error = ""

    async def _subscribe(self, client: Client, *, qos: int, retained: bool) -> None:
        """Hear what is said to this host, `retained`: and what was said before.

        Raises: MqttError: the broker does not let this user hear it.
        """
        options = SubscribeOptions(qos=qos, noLocal=True, retainAsPublished=True, retainHandling=0 if retained else 2)
        topics = [(f"{self._base}/{what}", options) for what in ("workloads/+", "services/+", "sync")]
        for code in await client.subscribe(topics):
            if getattr(code, "is_failure", False):
                raise aiomqtt.MqttError(f"the broker refused the subscription to {self._base}: {code}")

    def _ask_again(self) -> None:
        self._asking.set()

    async def _ask_when_wanted(self, client: Client) -> None:
        """Have the broker send again all that it retains, when that is wanted.

        With QoS 0, since a broker drops messages of QoS 1 beyond the length of its queue; what is said from then on is
        heard with QoS 1 again.
        """
        while True:
            await self._asking.wait()
            self._asking.clear()
            await self._subscribe(client, qos=0, retained=True)
            await self._subscribe(client, qos=1, retained=False)

    def _denied(self, kinds: Mapping[str, str]) -> None:
        """What the broker does not let this host publish is no reason to leave it: workloads come in all the same."""
        problems = [
            Problem("", f"the broker does not take {self._base}/{kind}: {why}", "check the broker's ACL for this user")
            for kind, why in kinds.items()
        ]
        known = self._reports.problems(MQTT, RIGHTS)
        for problem in problems:
            if problem not in known:
                log.warning("mqtt.denied", broker=self._config.broker, reason=str(problem))
        self._reports.note(MQTT, RIGHTS, "", problems)

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
                cycle_left()
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
        """The broker counts these as delivered and will not send them again."""
        while self._received:
            self._take()
            await asyncio.sleep(0)

    def _take_one(self, topic: str, body: bytes, now: float) -> None:
        base, slash, rest = topic.partition(f"{self._base}/")
        match rest.split("/") if slash and not base else ():
            case ["workloads", id]:
                self._generations.workload_received(id, body, now)
            case ["services", name]:
                self._generations.service_received(name, body, now)
            case ["sync"]:
                self._generations.sync_received(body, now)
                self._published.status_changed()
            case _:
                return
        self._plan_tick()

    def _plan_tick(self) -> None:
        at, planned = self._generations.timer(), self._tick_handle
        if at is None or (planned is not None and planned.when() <= at):
            return
        if planned is not None:
            planned.cancel()
        self._tick_handle = asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        """Call the feed when it wants to be called."""
        loop = asyncio.get_running_loop()
        self._tick_handle = None
        before = self._generations.applied
        self._generations.tick(loop.time())
        self._plan_tick()
        if before != self._generations.applied:
            self._published.status_changed()


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _explain(error: BaseException) -> str:
    """Why there is no connection, and what to do where that is known."""
    text = str(error) or type(error).__name__
    if text.startswith("Disconnected during") or "not currently connected" in text:
        text = "the connection was lost"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        text = f'"{error.filename}" cannot be read: {error.strerror}' if error.filename else error.strerror
    hints = {
        "CERTIFICATE_VERIFY_FAILED": "check workload.mqtt.ca_file and the broker's name in its certificate; "
        "without ca_file it is the system's CAs that count (package ca-certificates)",
        "Bad user name or password": "check workload.mqtt.username and password_file",
        "Not authorized": "check workload.mqtt.username, password_file or cert_file, and the broker's ACL",
        "Connection refused": "is the broker running there?",
        "timed out": "does the broker answer there, and does it accept workload.mqtt.cert_file?",
        "certificate required": "set workload.mqtt.cert_file and key_file",
    }
    remedy = next((hint for mark, hint in hints.items() if mark in text), "")
    return f"{text}; {remedy}" if remedy else text
