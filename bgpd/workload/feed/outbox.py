"""What is sent to a broker: retained topics, each rendered when it is sent, and events.

Level-triggered: all retained topics are sent again on a new connection. Therefore QoS 0 is enough for them, but for
the first of each kind, which shows whether the broker takes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import msgspec

from bgpd.runtime.events import log
from bgpd.workload.feed.mqtt_client import Client

MAX_EVENTS = 1000
"""Events kept while the broker is away; older ones are dropped."""

PUBLISH_AT_ONCE = 32
PUBLISH_PAUSE_S = 0.004
HEARING_PAUSE_S = 0.1
"""Between two lots; the longer one in a burst: hearing what is new goes before telling what became of it."""

DENIED_S = 300.0
"""Pause before sending again what the broker did not take. Mosquitto 2.0.11 ends the connection for each try."""

PACKET_OVERHEAD = 16
"""Most bytes of a PUBLISH beside topic and payload: header, lengths and no properties."""

Render = Callable[[], bytes]


class Outbox:
    """The topics below `base` as they should be at the broker. `is_hearing()`: whether much is coming in.

    `denied(kinds)` is called with what the broker does not let this host publish ("status", "workloads", ...), by the
    reason, when that is known to be another.
    """

    def __init__(
        self, base: str, *, is_hearing: Callable[[], bool], denied: Callable[[Mapping[str, str]], None]
    ) -> None:
        self._base = base
        self._is_hearing = is_hearing
        self._denied_changed = denied
        self._verdicts: dict[str, str] = {}
        self._denied: dict[str, float] = {}
        self._topics: dict[str, Render] = {}
        self._unsent: dict[str, Render] = {}
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._outgoing = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._is_too_large_logged = False

    def publish(self, topic: str, render: Render) -> None:
        """Keep the retained `topic` (below this host's) at what `render()` answers; b"" clears it at the broker.

        Called again whenever the answer may have changed.
        """
        self._topics[topic] = render
        self._unsent[topic] = render
        self._outgoing.set()

    def publish_event(self, at: float, event: str, fields: dict[str, Any]) -> None:
        """Something happened: `at` in seconds since the epoch."""
        self._events.append(msgspec.json.encode({"at": at, "event": event, **fields}))
        self._outgoing.set()

    def connected(self) -> None:
        """A new connection: all topics are to be sent."""
        self._unsent = dict(self._topics)
        self._verdicts = {kind: why for kind, why in self._verdicts.items() if why}
        self._outgoing.set()

    async def all_sent(self, timeout_s: float) -> None:
        """Wait until what is to be sent now was sent.

        Raises: TimeoutError.
        """
        self._all_sent.clear()
        await asyncio.wait_for(self._all_sent.wait(), timeout_s)

    async def send(self, client: Client) -> None:
        """Send what should be sent, until cancelled."""
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            while self._unsent:
                await self._send_some(client)
                if self._unsent:
                    await asyncio.sleep(HEARING_PAUSE_S if self._is_hearing() else PUBLISH_PAUSE_S)
            while self._events:
                event = self._events.popleft()
                if self._is_denied("events") or self._is_probe(client, "events", event, retain=False):
                    continue
                if self._fits(client, "events", event):
                    await client.publish(f"{self._base}/events", event)
            self._all_sent.set()

    async def _send_some(self, client: Client) -> None:
        """Some of the retained topics at once; what could not be sent is tried again."""
        batch = [(topic, self._unsent.pop(topic)) for topic in list(islice(self._unsent, PUBLISH_AT_ONCE))]
        bodies = [(topic, render()) for topic, render in batch if not self._is_denied(topic)]
        try:
            bodies = [one for one in bodies if not self._is_probe(client, *one, retain=True)]
            async with asyncio.TaskGroup() as group:
                for topic, body in bodies:
                    if self._fits(client, topic, body):
                        group.create_task(client.publish(f"{self._base}/{topic}", body, retain=True))
        except BaseException:
            for topic, render in batch:
                self._unsent.setdefault(topic, render)
            raise
        for topic, body in bodies:
            if not body and topic not in self._unsent:
                self._topics.pop(topic, None)

    def _is_probe(self, client: Client, topic: str, body: bytes, *, retain: bool) -> bool:
        """Whether this was sent as the first of its kind on this connection, to learn if the broker takes it."""
        kind = _kind_of(topic)
        if kind in self._verdicts or not body or not self._fits(client, topic, body):
            return False
        self._verdicts[kind] = ""
        client.probe(f"{self._base}/{topic}", body, retain=retain)
        return True

    def verdict(self, topic: str, why: str) -> None:
        """Why the broker did not take a topic, "" if it did."""
        kind = _kind_of(topic.removeprefix(f"{self._base}/"))
        self._verdicts[kind] = why
        if why:
            self._denied[kind] = time.monotonic()
        elif self._denied.pop(kind, None) is not None:
            self._unsent |= {topic: render for topic, render in self._topics.items() if _kind_of(topic) == kind}
            self._outgoing.set()
        self._denied_changed({kind: why for kind, why in self._verdicts.items() if why})

    def _is_denied(self, topic: str) -> bool:
        """Whether the broker did not take this kind a moment ago: some end the connection for each try."""
        kind = _kind_of(topic)
        if not self._verdicts.get(kind):
            return False
        if time.monotonic() - self._denied[kind] <= DENIED_S:
            return True
        del self._verdicts[kind]
        return False

    def _fits(self, client: Client, topic: str, body: bytes) -> bool:
        """Whether the broker takes a packet of that size: it would close the connection for a larger one."""
        size = len(self._base) + 1 + len(topic.encode()) + len(body) + PACKET_OVERHEAD
        fits = size <= client.max_packet
        if not fits and not self._is_too_large_logged:
            self._is_too_large_logged = True
            log.warning("mqtt.not_sent", topic=topic, size=size, broker_takes=client.max_packet)
        return fits


def _kind_of(topic: str) -> str:
    return topic.partition("/")[0]
