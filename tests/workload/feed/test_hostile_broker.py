"""A broker that breaks the protocol, whatever it sends, costs its own connection and one line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bgpd.config.schema import LogConfig
from bgpd.log import set_up_logging
from bgpd.runtime.memory import TABLE, GarbagePolicy
from bgpd.workload.feed import mqtt, mqtt_client
from tests.waiting import until
from tests.workload.broker import Node

BASE = b"bgpd/v1/hosts/node1/"
GOOD = json.dumps({"addresses": ["10.64.1.5"], "interface": "pod1"}).encode()
CONNACK = bytes.fromhex("2003000000")
CONNECT, SUBSCRIBE = 1, 8


def length(number: int) -> bytes:
    """A variable byte integer (MQTT 5 section 1.5.5)."""
    out = b""
    while True:
        number, rest = divmod(number, 128)
        out += bytes((rest | (0x80 if number else 0),))
        if not number:
            return out


def publish(topic: bytes, payload: bytes = GOOD, *, qos: int = 0, id: int = 1) -> bytes:
    """PUBLISH, retained."""
    body = struct.pack("!H", len(topic)) + topic + (struct.pack("!H", id) if qos else b"") + b"\0" + payload
    return bytes((0x31 | qos << 1,)) + length(len(body)) + body


class HostileBroker:
    """Accepts a client and its subscriptions, and then says `says`."""

    def __init__(self) -> None:
        self.says: list[bytes] = []
        self.connack = CONNACK
        self.resets = False
        """In the place of an answer to a subscription the connection ends by a TCP reset."""
        self.heard: list[bytes] = []
        self.connections = 0
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                body = await reader.readexactly(await self._length(reader))
                self.heard.append(body)
                if kind == CONNECT:
                    writer.write(self.connack)
                elif kind == SUBSCRIBE and self.resets:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    break
                elif kind == SUBSCRIBE:
                    writer.write(b"\x90\x06" + body[:2] + b"\0\1\1\1")
                    await writer.drain()
                    for packet in self.says:
                        writer.write(packet)
                        await writer.drain()
        self.ended += 1
        writer.close()

    async def _length(self, reader: asyncio.StreamReader) -> int:
        found = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            found |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    out = io.StringIO()
    set_up_logging(LogConfig(level="debug"), stream=out)
    yield out
    set_up_logging(LogConfig())


@asynccontextmanager
async def connected(
    tmp_path: Path, *says: bytes, connack: bytes = CONNACK, resets: bool = False, **options: Any
) -> AsyncIterator[tuple[Node, HostileBroker]]:
    hostile = HostileBroker()
    hostile.says = list(says)
    hostile.connack, hostile.resets = connack, resets
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    node = Node(tmp_path / "state", broker=f"mqtt://127.0.0.1:{port}", **options)
    await node.start()
    try:
        yield node, hostile
    finally:
        await node.stop(goodbye=False)
        server.close()


def error(node: Node) -> str:
    return node.mqtt.error


async def test_connection_that_ends_by_a_reset_is_no_error_of_a_library(tmp_path: Path, log: io.StringIO) -> None:
    async with connected(tmp_path, resets=True):
        await until(lambda: "mqtt.disconnected" in log.getvalue(), log.getvalue)
        assert "library.message" not in log.getvalue()


BAD = {
    "topic of no UTF-8": publish(BASE + b"workloads/\xff\xfe"),
    "topic with a wildcard": publish(BASE + b"workloads/#"),
    "topic with a plus": publish(BASE + b"workloads/+"),
    "packet type 0": b"\x00\x00",
    "packet type 15": b"\xf0\x00",
    "publish without a topic": b"\x31\x00",
    "topic longer than its packet": b"\x31\x04\xff\xff\x00\x00",
    "unknown property": b"\x31\x08\x00\x03a/b\x02\xff\x00",
    "length without end": b"\x31\xff\xff\xff\xff\xff",
    "second CONNACK": CONNACK + CONNACK,
    "SUBACK of nothing": b"\x90\x04\x99\x99\x00\x01",
    "DISCONNECT": b"\xe0\x02\x8b\x00",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_bad_packet_costs_the_connection_at_most(tmp_path: Path, log: io.StringIO, bad: bytes) -> None:
    async with connected(tmp_path, publish(BASE + b"workloads/web-1"), bad) as (node, hostile):
        await until(lambda: hostile.ended or node.announced, log.getvalue)
        hostile.says = [publish(BASE + b"workloads/web-2", GOOD.replace(b"1.5", b"1.6"))]
        if hostile.ended:
            await until(lambda: "10.64.1.6/32" in node.announced, lambda: (error(node), log.getvalue()[-2000:]))
        assert "10.64.1.5/32" in node.announced
        assert len(log.getvalue().splitlines()) < 30


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_many_bad_packets_make_few_lines(tmp_path: Path, log: io.StringIO, bad: bytes) -> None:
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, bad * 2_000, last) as (node, hostile):
        await until(lambda: hostile.ended >= 2 or node.announced, log.getvalue)
        assert len(log.getvalue().splitlines()) < 30


async def test_claims_that_are_repeated_without_end_leave_no_garbage(tmp_path: Path, log: io.StringIO) -> None:
    """The library leaves a cycle of each message, and the collector does not run by itself."""
    again = publish(BASE + b"workloads/web-1")
    GarbagePolicy().start()
    try:
        async with connected(tmp_path, *[again * 100] * 60) as (node, _):
            await until(lambda: node.mqtt._messages >= 6_000, log.getvalue)
            assert gc.get_count()[0] < TABLE // 2
    finally:
        gc.unfreeze()
        gc.enable()


async def test_packet_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "_KERNEL_BUFFER", 0)
    head = b"\x31" + length(200_000_000) + struct.pack("!H", 5) + b"a/b/c\0"
    async with connected(tmp_path, head, *[bytes(1 << 16)] * 3000) as (node, hostile):
        await until(lambda: hostile.ended)
        await until(lambda: "more than 16777216 bytes" in error(node), lambda: error(node))


@pytest.mark.parametrize(
    "topic",
    [
        b"workloads/web-1",
        b"bgpd/v1/hosts/node2/workloads/web-1",
        b"x/" + BASE + b"workloads/web-1",
        BASE + b"workloads/web-1/more",
        BASE + b"workloads",
        BASE + b"services",
        BASE.upper() + b"workloads/web-1",
    ],
)
async def test_only_topics_of_this_host_are_taken(tmp_path: Path, log: io.StringIO, topic: bytes) -> None:
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, publish(topic), last) as (node, _):
        await until(lambda: "10.64.1.9/32" in node.announced)
        assert set(node.announced) == {"10.64.1.9/32"}


async def test_more_workloads_than_the_host_takes_are_refused_and_told(tmp_path: Path, log: io.StringIO) -> None:
    def workload(index: int) -> bytes:
        address = f"10.64.{index >> 8}.{index & 255}"
        return publish(BASE + b"workloads/w%d" % index, GOOD.replace(b"10.64.1.5", address.encode()))

    async with connected(tmp_path, *map(workload, range(500)), max_workloads=3) as (node, _):
        await until(lambda: "feed.refusals_suppressed" in log.getvalue())
        assert len(node.announced) == 3
        reports = [node.mqtt._reports.workload("mqtt", f"w{index}") for index in range(500)]
        refused = [report.errors[0].wrong for report in reports if report is not None and report.errors]
        assert refused == ["this host has 3 workloads from mqtt"] * 497
        assert log.getvalue().count("workload.refused") == 20


async def test_a_defect_in_one_message_costs_that_message(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, publish(BASE + b"services/bad"), last) as (node, _):
        monkeypatch.setattr(node.mqtt._generations, "service_received", lambda name, body, now: 1 / 0)
        await until(lambda: "10.64.1.9/32" in node.announced)
        await until(lambda: "mqtt.message_failed" in log.getvalue())


@pytest.mark.parametrize("name", [b"x" * 65_500, b"x" * 254, b"a\x01", b"a\x00b", b"a\xc2\x85", b"a\xef\xbf\xbf"])
@pytest.mark.parametrize("kind", [b"workloads/", b"services/"])
async def test_nothing_is_kept_or_told_of_a_name_that_no_topic_can_have(
    tmp_path: Path, log: io.StringIO, kind: bytes, name: bytes
) -> None:
    """A report of it would end each connection from then on."""
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, publish(BASE + kind + name, b"{}"), last) as (node, hostile):
        await until(lambda: "mqtt.connected" in log.getvalue(), log.getvalue)
        await until(lambda: "10.64.1.9/32" in node.announced)
        assert (hostile.connections, hostile.ended) == (1, 0)
        assert node.mqtt._outbox._topics.keys() == {"status", "workloads/last/state"}
        assert node.mqtt._generations._heard["workload"] == {"last"}
        assert "no topic can have this name" in log.getvalue()


async def test_messages_of_qos_2_cost_the_connection(tmp_path: Path, log: io.StringIO) -> None:
    """They were not subscribed to, and the library keeps each until it is released."""
    async with connected(tmp_path, publish(BASE + b"workloads/web-1", qos=2)) as (node, hostile):
        await until(lambda: hostile.ended)
        await until(lambda: "QoS 2" in error(node), lambda: error(node))


async def test_broker_that_does_not_read_acknowledgements_is_left(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "MAX_UNSENT", 100)
    monkeypatch.setattr("paho.mqtt.client.Client.want_write", lambda client: True)
    flood = b"".join(publish(b"x/y", qos=1, id=1 + number) for number in range(500))
    async with connected(tmp_path, flood) as (node, hostile):
        await until(lambda: hostile.ended)
        await until(lambda: "does not read what it is sent" in error(node), lambda: error(node))


async def test_large_payloads_are_taken_before_more_are_read(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    take = mqtt.MqttSource._take

    def watched(source: mqtt.MqttSource) -> None:
        nonlocal most
        most = max(most, source._received_bytes)
        take(source)

    monkeypatch.setattr(mqtt.MqttSource, "_take", watched)
    monkeypatch.setattr(mqtt, "MAX_RECEIVED_BYTES", 500_000)
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, *[publish(BASE + b"workloads/big", bytes(400_000))] * 30, last) as (node, _):
        await until(lambda: "10.64.1.9/32" in node.announced)
        # The library reads as many packets at once as messages of its own wait for the broker's answer, up to a few.
        assert 0 < most <= 500_000 + 6 * 400_000
        assert node.mqtt._received_bytes == 0


async def test_packets_that_the_broker_does_not_take_are_not_sent(tmp_path: Path, log: io.StringIO) -> None:
    """It would close the connection for each (MQTT 5 section 3.2.2.3.6)."""
    connack = bytes.fromhex("200800000527") + struct.pack("!I", 1000)
    bad = publish(BASE + b"workloads/bad", json.dumps({"addresses": ["x" * 60] * 16}).encode())
    async with connected(tmp_path, bad, publish(BASE + b"workloads/web-1"), connack=connack) as (_, hostile):
        await until(lambda: any(BASE + b"workloads/web-1/state" in body for body in hostile.heard), log.getvalue)
        await until(lambda: "mqtt.not_sent" in log.getvalue())
        assert not any(b"workloads/bad/state" in body for body in hostile.heard)
        assert max(map(len, hostile.heard)) <= 1000
        assert (hostile.connections, hostile.ended) == (1, 0)
        assert '"workloads/bad/state"' in log.getvalue()


@pytest.mark.parametrize("kind", ["workloads", "services"])
async def test_addresses_are_bounded_whoever_has_them(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("bgpd.workload.feed.feed.LEAST_ADDRESSES", 10)

    def put(name: str, *last: int) -> bytes:
        addresses = [f"10.64.1.{number}" for number in last]
        fields = {"mode": "announce-only"} if kind == "services" else {"interface": "pod1"}
        return publish(BASE + f"{kind}/{name}".encode(), json.dumps({"addresses": addresses} | fields).encode())

    says = [
        put("a", *range(1, 9)),
        put("b", *range(11, 16)),
        put("a", 1),
        put("c", *range(21, 30)),
        put("d", 31, 32, 33),
    ]
    async with connected(tmp_path, *says, max_workloads=3) as (node, _):
        feed, stream = node.mqtt.feed, node.mqtt._generations
        await until(lambda: log.getvalue().count("addresses together") == 2)
        present = feed.workloads if kind == "workloads" else feed.services
        assert {name: len(one.addresses) for name, one in present.items()} == {"a": 1, "c": 9}
        stream.workload_received("c", b"", 0.0)
        stream.service_received("c", b"", 0.0)
        again = b"{" + put("d", *range(31, 40)).partition(b"{")[2]
        if kind == "workloads":
            stream.workload_received("d", again, 0.0)
        else:
            stream.service_received("d", again, 0.0)
        assert set(present) == {"a", "d"}


async def test_a_snapshot_of_more_than_can_be_taken_is_remembered_in_part_and_deletes_nothing(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.workload.feed.generations.REFUSED_HEARD", 5)
    says = [publish(BASE + b"workloads/w%d" % number, b"{}") for number in range(50)]
    sync = publish(BASE + b"sync", b'{"generation": 1, "count": 50}')
    last = publish(BASE + b"workloads/last", GOOD.replace(b"1.5", b"1.9"))
    async with connected(tmp_path, publish(BASE + b"workloads/web-1"), *says, sync, last, max_workloads=2) as (node, _):
        await until(lambda: "10.64.1.9/32" in node.announced)
        stream = node.mqtt._generations
        assert len(stream._heard["workload"]) == 8
        assert not stream.complete
        assert "10.64.1.5/32" in node.announced
