"""The feed over a real Mosquitto: claims, refusals, generations, and every way in which a broker can be missing."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bgpd.workload.feed.mqtt_client import READ_AT_ONCE, Reader
from tests.own_network import own_network
from tests.waiting import until
from tests.workload.broker import Broker, Node, Orchestrator, orchestrator

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed"),
]


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
def broker(network: None, tmp_path: Path) -> Iterator[Broker]:
    directory = tmp_path / "broker"
    directory.mkdir()
    made = Broker(directory)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("secret1\n")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


@asynccontextmanager
async def running(state: Path, password: Path, **mqtt: Any) -> AsyncIterator[Node]:
    node = Node(state, **({"password_file": str(password)} | mqtt))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def joined(tmp_path: Path, password: Path) -> AsyncIterator[tuple[Node, Orchestrator]]:
    async with running(tmp_path / "state", password) as node, orchestrator() as feed:
        await until(lambda: feed.heard.get("node1/status", {}).get("online"), lambda: feed.heard)
        yield node, feed


async def test_claim_is_announced_and_its_state_published_then_deleted(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.5", "2001:db8::5", kind="vm", mac="02:00:00:00:00:01")
        state = await feed.state("web-1", lambda s: s["state"] == "announced")
        assert {a["prefix"] for a in state["addresses"]} == {"10.64.1.5/32", "2001:db8::5/128"}
        assert set(node.announced) == set(node.kernel) == {"10.64.1.5/32", "2001:db8::5/128"}
        await feed.put("node1/workloads/web-1", b"")
        await feed.state("web-1", lambda s: s is None)
        assert (node.announced, node.kernel) == ({}, {})


async def test_missing_interface_is_published_as_pending(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        await feed.workload("web-1", "10.64.1.5", interface="pod9")
        state = await feed.state("web-1", lambda s: s["state"] == "pending")
        assert state["reason"] == "interface pod9 does not exist"


ROOT = Path(__file__).parents[3]
DAEMON = """
import asyncio, pathlib, sys
from tests.workload.broker import Node

async def main():
    node = Node(pathlib.Path(sys.argv[1]), password_file=sys.argv[2])
    await node.start()
    await asyncio.sleep(60)

asyncio.run(main())
"""

GOOD: dict[str, Any] = {"addresses": ["10.64.1.5"], "interface": "pod1"}


@pytest.mark.parametrize(
    ("payload", "path", "wrong"),
    [
        (b"{", "", "not JSON"),
        (b"[]", "", "Expected"),
        (GOOD | {"adresses": []}, "adresses", "unknown field"),
        (GOOD | {"addresses": "10.64.1.5"}, "addresses", "Expected"),
        (GOOD | {"addresses": [5]}, "addresses[0]", "Expected"),
        (GOOD | {"addresses": []}, "addresses", "is empty"),
        ({"interface": "pod1"}, "addresses", "is missing"),
        (GOOD | {"addresses": ["10.64.1.5/24"]}, "addresses[0]", "host bits"),
        (GOOD | {"addresses": ["10.64.1.5", "10.64.1.5/32"]}, "addresses[1]", "the same as addresses[0]"),
        (GOOD | {"addresses": ["224.0.0.5"]}, "addresses[0]", "multicast"),
        (GOOD | {"addresses": ["127.0.0.5"]}, "addresses[0]", "loopback"),
        (GOOD | {"addresses": ["fe80::5"]}, "addresses[0]", "link-local"),
        (GOOD | {"vrf": "red"}, "vrf", 'no VRF "red"'),
        (GOOD | {"id": "other"}, "id", "is not the"),
        (GOOD | {"kind": "container"}, "kind", "container"),
        (GOOD | {"mac": "02:00"}, "mac", "no MAC"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
async def test_wrong_payload_is_answered_and_the_former_claim_stays(
    broker: Broker, tmp_path: Path, password: Path, payload: Any, path: str, wrong: str
) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.4")
        await feed.state("web-1", lambda s: s["state"] == "announced")
        await feed.put("node1/workloads/web-1", payload)
        state = await feed.state("web-1", lambda s: s["errors"])
        assert (state["errors"][0]["path"], state["state"]) == (path, "announced")
        assert wrong in state["errors"][0]["wrong"]
        assert state["errors"][0]["right"]
        assert set(node.announced) == {"10.64.1.4/32"}
        await feed.workload("web-1", "10.64.1.6")
        await feed.state("web-1", lambda s: not s["errors"] and s["addresses"][0]["prefix"] == "10.64.1.6/32")


async def test_wrong_payload_of_an_unknown_workload_is_answered(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        await feed.put("node1/workloads/web-1", b"no")
        state = await feed.state("web-1", lambda s: s["errors"])
        assert state["state"] == "failed"


async def test_address_claimed_twice_is_shown_on_both_and_the_first_stays(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("a", "10.64.1.5")
        await feed.state("a", lambda s: s["state"] == "announced")
        await feed.workload("b", "10.64.1.5", interface="pod2")
        first = await feed.state("a", lambda s: s["state"] == "conflict")
        second = await feed.state("b", lambda s: s["state"] == "conflict")
        assert (first["addresses"][0]["announced"], second["addresses"][0]["announced"]) == (True, False)
        assert node.kernel["10.64.1.5/32"][0].interface == "pod1"


async def test_ten_megabytes_are_answered_and_the_former_claim_stays(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    broker.stop()
    broker.unlimited = True
    broker.start()
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.5")
        await feed.state("web-1", lambda s: s["state"] == "announced")
        await feed.put("node1/workloads/web-1", b"x" * 10_000_000)
        state = await feed.state("web-1", lambda s: s["errors"])
        assert state["errors"][0]["wrong"] == "the payload has 10000000 bytes"
        assert set(node.announced) == {"10.64.1.5/32"}


async def test_topic_of_another_host_is_not_taken(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.5", host="node2")
        await feed.workload("web-2", "10.64.1.6")
        await feed.state("web-2", lambda s: s["state"] == "announced")
        assert set(node.announced) == {"10.64.1.6/32"}


async def test_host_that_uses_anothers_name_hears_nothing(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with running(tmp_path / "state", password, host="node2") as node, orchestrator() as feed:
        mqtt = node.mqtt
        assert mqtt is not None
        await feed.workload("web-1", "10.64.1.5", host="node2")
        await until(lambda: mqtt.error)
        assert "does it let this user be host node2" in mqtt.error
        assert node.announced == {}
        assert "node2/status" not in feed.heard


async def test_another_host_of_the_same_name_is_told_by_both(broker: Broker, tmp_path: Path, password: Path) -> None:
    """Each connection takes the place of the other's. They pause longer and longer, so that it is no storm."""
    async with joined(tmp_path, password) as (node, _), running(tmp_path / "state2", password) as other:
        for mqtt in (node.mqtt, other.mqtt):
            assert mqtt is not None
            await until(lambda mqtt=mqtt: "client be bgpd-node1?" in mqtt.error, lambda mqtt=mqtt: mqtt.error)


async def test_a_broker_s_reason_is_told(tmp_path: Path, network: None, password: Path) -> None:
    """Mosquitto closes the connection without one; others say why."""

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(bytes.fromhex("2003 00 00 00e002 8e 00"))  # CONNACK, DISCONNECT: session taken over
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(broker, "127.0.0.1", 1883), running(tmp_path / "state", password) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error)
        assert (
            mqtt.error == "Session taken over; is another client bgpd-node1, a host with the same workload.mqtt.host?"
        )


async def test_broker_absent_at_start_is_waited_for(broker: Broker, tmp_path: Path, password: Path) -> None:
    broker.stop()
    async with running(tmp_path / "state", password, initial_wait_s=0) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error and node.synchronised)
        assert "is the broker running there?" in mqtt.error
        broker.start()
        async with orchestrator() as feed:
            await feed.workload("web-1", "10.64.1.5")
            await feed.state("web-1", lambda s: s["state"] == "announced")


async def test_refused_credentials_are_told(broker: Broker, tmp_path: Path, password: Path) -> None:
    write(password, "wrong")
    async with running(tmp_path / "state", password) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error)
        assert "check workload.mqtt.username" in mqtt.error
        write(password, "secret1")
        await until(lambda: mqtt.connected)


async def test_unreadable_password_file_is_told_and_ends_nothing(broker: Broker, tmp_path: Path) -> None:
    async with running(tmp_path / "state", tmp_path / "none") as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error)
        assert "No such file" in mqtt.error


async def test_broker_that_dies_deletes_nothing_and_its_return_brings_news(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.5")
        await feed.state("web-1", lambda s: s["state"] == "announced")
    async with running(tmp_path / "state", password) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.connected)
        broker.stop()
        await until(lambda: not mqtt.connected)
        assert "message iteration" not in mqtt.error
        assert set(node.announced) == {"10.64.1.5/32"}
        broker.start()
        async with orchestrator() as feed:
            await feed.workload("web-2", "10.64.1.6")
            await feed.state("web-2", lambda s: s["state"] == "announced")
            await feed.state("web-1", lambda s: s["state"] == "announced")


async def test_restart_without_a_broker_keeps_all_claims(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        await feed.workload("web-1", "10.64.1.5")
        await feed.state("web-1", lambda s: s["state"] == "announced")
    broker.stop()
    async with running(tmp_path / "state", password) as node:
        await until(lambda: node.synchronised)
        assert set(node.announced) == {"10.64.1.5/32"}


async def test_delete_while_away_is_heard_on_return(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        await feed.workload("web-1", "10.64.1.5")
        await feed.state("web-1", lambda s: s["state"] == "announced")
    async with orchestrator() as feed:
        await feed.put("node1/workloads/web-1", b"")
    async with running(tmp_path / "state", password) as node:
        await until(lambda: node.synchronised)
        await until(lambda: not node.announced, lambda: node.announced)


async def test_only_a_complete_later_generation_deletes(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        for i in (1, 2, 3):
            await feed.workload(f"web-{i}", f"10.64.1.{i}")
        await feed.put("node1/sync", {"generation": 1, "count": 3})
        await until(lambda: feed.heard["node1/status"]["generation"] == 1, lambda: feed.heard["node1/status"])
    broker.stop()
    (broker.directory / "mosquitto.db").unlink()
    broker.start()
    async with running(tmp_path / "state", password) as node, orchestrator() as feed:
        await feed.workload("web-1", "10.64.1.1")
        await feed.put("node1/sync", {"generation": 2, "count": 2})
        await until(lambda: feed.heard.get("node1/status", {}).get("online"))
        await asyncio.sleep(1.0)
        assert len(node.announced) == 3
        await feed.workload("web-4", "10.64.1.4")
        await until(lambda: feed.heard["node1/status"]["generation"] == 2, lambda: feed.heard["node1/status"])
        await until(lambda: set(node.announced) == {"10.64.1.1/32", "10.64.1.4/32"}, lambda: node.announced)
        await feed.put("node1/sync", {"generation": 1, "count": 0})
        await until(lambda: feed.heard["node1/status"]["errors"])
        assert "older than 2" in feed.heard["node1/status"]["errors"][0]["wrong"]


async def test_stopped_daemon_says_goodbye(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (_, feed):
        assert feed.heard["node1/status"]["ready"]
    async with orchestrator() as feed:
        await until(lambda: "node1/status" in feed.heard)
        status = feed.heard["node1/status"]
        assert (status["online"], status["ready"], status["reason"]) == (False, False, "the daemon was stopped")


def start_daemon(state: Path, password: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DAEMON, str(state), str(password)], cwd=ROOT)


async def test_dead_daemon_leaves_its_last_will(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with orchestrator() as feed:
        program = start_daemon(tmp_path / "state", password)
        try:
            await until(lambda: feed.heard.get("node1/status", {}).get("online"))
            boot_id = feed.heard["node1/status"]["boot_id"]
        finally:
            program.kill()
            program.wait()
        await until(lambda: not feed.heard["node1/status"]["online"])
        status = feed.heard["node1/status"]
        assert (status["reason"], status["boot_id"]) == ("the daemon is gone", boot_id)


async def test_service_follows_its_backends(broker: Broker, tmp_path: Path, password: Path) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("web-1", "10.64.1.5")
        await feed.workload("web-2", "10.64.1.6", interface="pod2")
        backends: list[dict[str, Any]] = [
            {"id": "a", "addresses": ["10.64.1.5"], "weight": 2},
            {"id": "b", "addresses": ["10.64.1.6"]},
        ]
        service: dict[str, Any] = {"addresses": ["10.64.9.1"], "backends": backends, "check": {"type": "push"}}
        await feed.put("node1/services/web", service)
        topic = "node1/services/web/state"
        await until(lambda: feed.heard.get(topic), lambda: feed.heard)
        assert "10.64.9.1/32" not in node.announced
        for backend in backends:
            backend["healthy"] = True
        await feed.put("node1/services/web", service)
        await until(lambda: "10.64.9.1/32" in node.announced)
        assert [(h.interface, h.weight) for h in node.kernel["10.64.9.1/32"]] == [("pod1", 2), ("pod2", 1)]
        await feed.put("node1/services/web", b'{"addresses": 5}')
        await until(lambda: feed.heard[topic]["errors"])
        assert "10.64.9.1/32" in node.announced
        await feed.put("node1/workloads/web-2", b"")
        await until(lambda: len(node.kernel["10.64.9.1/32"]) == 1)
        await feed.put("node1/services/web", b"")
        await until(lambda: "10.64.9.1/32" not in node.kernel)
        await until(lambda: feed.heard[topic] is None)


def make_certificates(directory: Path) -> None:
    """A CA, a broker and a host certificate (common name node1), and a CA that signed nothing."""
    for ca in ("ca", "other"):
        openssl(
            directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.crt",
        )  # fmt: skip
    for name, extra in (("broker", "subjectAltName=IP:127.0.0.1"), ("node1", "subjectAltName=DNS:node1")):
        openssl(
            directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        (directory / "ext").write_text(extra)
        openssl(
            directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "ext", "-out", f"{name}.crt",
        )  # fmt: skip


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def tls_broker(broker: Broker) -> Broker:
    make_certificates(broker.directory)
    broker.stop()
    files = {"cafile": "ca.crt", "certfile": "broker.crt", "keyfile": "broker.key"}
    broker.extra = "listener 8883 127.0.0.1\nrequire_certificate true\nuse_identity_as_username true\n" + "\n".join(
        f"{option} {broker.directory}/{file}" for option, file in files.items()
    )
    broker.start()
    return broker


def tls(broker: Broker, ca: str = "ca", certificate: str = "node1") -> dict[str, str]:
    return {
        "broker": "mqtts://127.0.0.1",
        "username": "",
        "password_file": "",
        "ca_file": f"{broker.directory}/{ca}.crt",
        "cert_file": f"{broker.directory}/{certificate}.crt",
        "key_file": f"{broker.directory}/{certificate}.key",
    }


async def test_client_certificate_is_enough(tls_broker: Broker, tmp_path: Path, password: Path) -> None:
    async with running(tmp_path / "state", password, **tls(tls_broker)) as node, orchestrator() as feed:
        await feed.workload("web-1", "10.64.1.5")
        await feed.state("web-1", lambda s: s["state"] == "announced")
        assert set(node.announced) == {"10.64.1.5/32"}


async def test_broker_of_a_wrong_ca_is_refused_and_told(tls_broker: Broker, tmp_path: Path, password: Path) -> None:
    async with running(tmp_path / "state", password, **tls(tls_broker, ca="other")) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error)
        assert "check workload.mqtt.ca_file" in mqtt.error


async def test_wrong_client_certificate_is_told(tls_broker: Broker, tmp_path: Path, password: Path) -> None:
    async with running(tmp_path / "state", password, **tls(tls_broker, certificate="other")) as node:
        mqtt = node.mqtt
        assert mqtt is not None
        await until(lambda: mqtt.error)
        assert not mqtt.connected


@pytest.mark.parametrize(("waiting", "turns"), [(0, 1), (3, 4), (100, READ_AT_ONCE)])
def test_reader_takes_what_is_there_but_holds_the_loop_for_no_more_than_a_lot(waiting: int, turns: int) -> None:
    client = mock.Mock()
    client.socket.return_value = None
    taken: list[int] = []

    def read_one() -> None:
        taken.extend([1] * (len(taken) < waiting))

    client.loop_read.side_effect = read_one
    client._in_messages = {}
    reader = Reader(client, lambda: len(taken), full=lambda: False, take=mock.Mock(), failed=mock.Mock())
    reader.loop_read()
    assert client.loop_read.call_count == turns
    assert reader.socket is client.socket


async def test_generation_that_a_short_queue_cuts_is_asked_for_again_and_completed(
    broker: Broker, tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker drops what exceeds its queue without a word to anybody."""
    monkeypatch.setattr("bgpd.workload.feed.generations.INCOMPLETE_S", (0.2, 1.0))
    broker.stop()
    broker.extra = "max_queued_messages 100"
    broker.start()
    async with orchestrator() as feed:
        for number in range(300):
            await feed.workload(f"w{number}", f"10.64.{number >> 8}.{number & 255}")
        await feed.put("node1/sync", {"generation": 1, "count": 300, "services": 0})
        async with running(tmp_path / "state", password) as node:
            await until(lambda: node.mqtt.feed.generation == 1, lambda: len(node.announced))
            assert len(node.announced) == 300
            await feed.workload("w0", "10.65.0.1")
            await until(lambda: "10.65.0.1/32" in node.announced)


async def test_incomplete_generation_is_told_in_status_and_health(
    broker: Broker, tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.workload.feed.generations.INCOMPLETE_S", (0.1, 0.2))
    async with joined(tmp_path, password) as (node, feed):
        await feed.put("node1/sync", {"generation": 1, "count": 1})
        await until(lambda: feed.heard["node1/status"]["errors"], lambda: feed.heard)
        wrong = "generation 1 is incomplete: it has 1 workloads, and 0 workloads were heard"
        assert feed.heard["node1/status"]["errors"][0]["wrong"] == wrong
        assert [error.partition(";")[0] for error in node.workloads.errors()] == [wrong]
        await feed.workload("a", "10.64.1.5")
        await until(lambda: not feed.heard["node1/status"]["errors"])
        assert (node.workloads.errors(), feed.heard["node1/status"]["generation"]) == ([], 1)


@pytest.mark.parametrize("kind", ["status", "workloads"])
async def test_what_the_broker_does_not_let_a_host_publish_is_told(
    broker: Broker, tmp_path: Path, password: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acl = broker.directory / "acl"
    allowed = acl.read_text()
    lines = [line for line in allowed.splitlines() if not (f"hosts/%u/{kind}" in line and "write" in line)]
    assert len(lines) < len(allowed.splitlines())
    broker.stop()
    write(acl, "\n".join(lines) + "\n")
    broker.start()
    wanted = (
        f"the broker does not take bgpd/v1/hosts/node1/{kind}: Not authorized; check the broker's ACL for this user"
    )
    async with running(tmp_path / "state", password) as node, orchestrator() as feed:
        await feed.workload("a", "10.64.1.5")
        await until(lambda: wanted in node.workloads.errors(), node.workloads.errors)
        await until(lambda: node.workloads.errors() == [wanted], node.workloads.errors)
        await until(lambda: "10.64.1.5/32" in node.announced, lambda: node.announced)
        write(acl, allowed)
        monkeypatch.setattr("bgpd.workload.feed.outbox.DENIED_S", 0.0)
        broker.stop()
        broker.start()
        await until(lambda: not node.workloads.errors(), node.workloads.errors)


async def test_what_was_said_to_a_host_of_another_name_is_not_this_ones(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("a", "10.64.1.5")
        await feed.put("node1/sync", {"generation": 9, "count": 1})
        await until(lambda: node.mqtt.feed.generation == 9)
    write(password, "secret2\n")
    async with orchestrator() as feed:
        await feed.workload("b", "10.64.1.6", host="node2")
        await feed.put("node2/sync", {"generation": 1, "count": 1})
        async with running(tmp_path / "state", password, username="node2", host="node2") as renamed:
            await until(lambda: renamed.mqtt.feed.generation == 1)
            assert set(renamed.announced) == {"10.64.1.6/32"}
    assert (tmp_path / "state" / "mqtt.json.of-node1").exists()


async def test_service_that_the_broker_has_lost_ends_with_the_next_generation(
    broker: Broker, tmp_path: Path, password: Path
) -> None:
    service = {"addresses": ["10.64.9.1"], "backends": [{"id": "a", "addresses": ["10.64.1.5"]}]}
    async with joined(tmp_path, password) as (node, feed):
        await feed.workload("a", "10.64.1.5")
        await feed.put("node1/services/web", service)
        await feed.put("node1/sync", {"generation": 1, "count": 1, "services": 1})
        await until(lambda: "10.64.9.1/32" in node.announced)
    broker.stop(kill=True)
    for path in broker.directory.glob("mosquitto.db*"):
        path.unlink()
    broker.start()
    async with running(tmp_path / "state", password) as node, orchestrator() as feed:
        await until(lambda: "10.64.9.1/32" in node.announced)
        await feed.workload("a", "10.64.1.5")
        await feed.put("node1/sync", {"generation": 2, "count": 1, "services": 0})
        await until(lambda: set(node.announced) == {"10.64.1.5/32"}, lambda: node.announced)
