"""A broker as bgpd's feed sees it: retained messages, sessions that wait, connections that end; one that dies, forgets
all, says things twice and in another order.

`Client` stands for the library's client; the packets of MQTT are not modelled.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any

import msgspec

from bgpd.simulation.loop import Process

_LATE_S = 0.05
_QUEUED_MOST = 100
"""Messages that wait for a client that is away; later ones are dropped, as Mosquitto does."""
_ONLY_NEW = 2
"""Retain Handling (MQTT 5 section 3.8.3.1)."""


class Message(msgspec.Struct, frozen=True):
    """What a client is handed."""

    topic: str
    payload: bytes


class _Session:
    """What the broker knows of a client, connected or not."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.filters: dict[str, None] = {}
        self.waiting: deque[Message] = deque()


class Broker:
    """The only one of a fabric. It is reached by a network of its own. `repeats`: the share of messages that are sent
    twice; `shuffles`: retained ones come in any order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.is_up = True
        self.repeats = 0.0
        self.shuffles = False
        self.retained: dict[str, bytes] = {}
        self.is_back: Callable[[], None] = lambda: None
        self._sessions: dict[str, _Session] = {}

    # What happens to it

    def die(self, *, forgets: bool, back_in_s: float) -> None:
        """It stops without a word, and runs again later; with or without its disk."""
        if not self.is_up:
            return
        self.is_up = False
        self.drop_all()
        if forgets:
            self.retained.clear()
            self._sessions.clear()
        self.loop.call_later(back_in_s, self.start)

    def start(self) -> None:
        """It runs, whether or not it did."""
        if not self.is_up:
            self.is_up = True
            self.is_back()

    def drop_all(self) -> None:
        """All connections end."""
        for session in self._sessions.values():
            client, session.client = session.client, None
            if client is not None:
                client.lost()

    # What clients do

    def publish(self, topic: str, body: bytes) -> None:
        """A retained message for all that want it; an empty one ends another."""
        if body:
            self.retained[topic] = body
        else:
            self.retained.pop(topic, None)
        for session in self._sessions.values():
            if any(_fits(topic, one) for one in session.filters):
                self._say(session, (Message(topic, body),))

    def attach(self, client: Client, identifier: str) -> None:
        """A client is there; another one of its name is not any more."""
        session = self._sessions.setdefault(identifier, _Session())
        if session.client is not None:
            session.client.lost()
        session.client = client
        waiting, session.waiting = session.waiting, deque()
        self._say(session, waiting)

    def detach(self, client: Client, identifier: str) -> None:
        """The connection of a client has ended; its session stays."""
        session = self._sessions.get(identifier)
        if session is not None and session.client is client:
            session.client = None

    def subscribe(self, identifier: str, filters: Iterable[str], *, is_retained_wanted: bool) -> None:
        """Send a session what comes to these topics, and what they retain if that is wanted (MQTT 5 section 3.8)."""
        session = self._sessions.get(identifier)
        if session is None:
            return
        session.filters.update(dict.fromkeys(filters))
        if is_retained_wanted:
            found = [Message(topic, body) for topic, body in self.retained.items()]
            found = [one for one in found if any(_fits(one.topic, wanted) for wanted in filters)]
            if self.shuffles:
                self.chance.shuffle(found)
            self._say(session, found)

    def _say(self, session: _Session, messages: Iterable[Message]) -> None:
        client = session.client
        for message in messages:
            if client is not None and client.process.is_alive:
                client.hear(message)
                if self.repeats and self.chance.random() < self.repeats:
                    client.hear(message)
            elif len(session.waiting) < _QUEUED_MOST:
                session.waiting.append(message)


def _fits(topic: str, wanted: str) -> bool:
    parts, pattern = topic.split("/"), wanted.split("/")
    return len(parts) == len(pattern) and all(two in (one, "+") for one, two in zip(parts, pattern))


class Client:
    """One connection, as `workload/feed/mqtt.py` uses the library's. Attributes are set by whoever makes it."""

    max_packet = 1 << 28
    pending_calls_threshold = 0
    count: Callable[[], int]
    full: Callable[[], bool]
    take: Callable[[], None]
    failed: Callable[[Any], None]
    verdict: Callable[[str, str], None]

    def __init__(self, broker: Broker, process: Process, *, identifier: str, queue_type: type[Any]) -> None:
        self.process = process
        self._broker = broker
        self._identifier = identifier
        self._queue = queue_type()
        self._arriving: deque[Message] = deque()
        self._is_due = False
        self._ended: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Client:
        await self._pause()
        if not self._broker.is_up:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self._ended = asyncio.get_running_loop().create_future()
        self._broker.attach(self, self._identifier)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broker.detach(self, self._identifier)

    async def _pause(self) -> None:
        await asyncio.sleep(self._broker.chance.uniform(0, _LATE_S))

    def lost(self) -> None:
        """The connection ends here and now; its process hears it later."""
        self._arriving.clear()
        self.process.call_soon(self._end)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def hear(self, message: Message) -> None:
        """A message is on its way."""
        self._arriving.append(message)
        if not self._is_due:
            self._is_due = True
            self.process.call_later(self._broker.chance.uniform(0, _LATE_S), self._arrive)

    def _arrive(self) -> None:
        """Some of them, and the others later."""
        self._is_due = False
        for _ in range(self._broker.chance.randrange(1, 20)):
            if not self._arriving or self.full():
                break
            self._queue.put_nowait(self._arriving.popleft())
        if self._arriving:
            self._is_due = True
            self.process.call_later(self._broker.chance.uniform(0, _LATE_S), self._arrive)

    @property
    async def messages(self) -> AsyncIterator[Message]:
        """None: they come by the queue; its end is the connection's."""
        assert self._ended is not None
        await self._ended
        yield Message("", b"")

    async def subscribe(self, topics: list[tuple[str, Any]]) -> list[int]:
        """Answers the codes of the broker."""
        await self._pause()
        self._check()
        is_retained_wanted = any(options.retainHandling != _ONLY_NEW for _topic, options in topics)
        filters = [topic for topic, _options in topics]
        self._broker.subscribe(self._identifier, filters, is_retained_wanted=is_retained_wanted)
        return [0] * len(topics)

    async def publish(self, _topic: str, _body: bytes, *, retain: bool = False) -> None:
        """What hosts say is of no interest here."""
        self._check()

    def probe(self, topic: str, _body: bytes, *, retain: bool) -> None:
        """Publish, and call `verdict` with the topic once the broker has said what it made of it."""
        self._check()
        asyncio.get_running_loop().call_later(self._broker.chance.uniform(0, _LATE_S), self.verdict, topic, "")

    def _check(self) -> None:
        if self._ended is None or self._ended.done() or not self._broker.is_up:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
