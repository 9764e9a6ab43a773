"""Bad input at every entrance of the running daemon: MQTT, API, command line, configuration."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import run_command
from tests.daemon.fabric import Fabric, Host, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API, MQTT, Orchestrator

pytestmark = pytest.mark.netns

VRF = toml("[[vrf]]", name="blue", table=1001, import_rt=["65201:1"], export_rt=["65201:1"])
TABLES = (leaf(1), MQTT, API, VRF)
GOOD = {"addresses": ["10.64.1.1"], "interface": "pod1"}

BAD: dict[str, tuple[str, str, str]] = {
    "not JSON": ("nonsense", "", "not JSON"),
    "unknown field": ('{"addresses": ["10.0.0.1"], "adresses": []}', "adresses", "unknown field"),
    "wrong type": ('{"addresses": ["10.0.0.1"], "sticky": 1}', "sticky", "bool"),
    "addresses are no list": ('{"addresses": "10.0.0.1"}', "addresses", "array"),
    "no addresses": ('{"addresses": []}', "addresses", "is empty"),
    "addresses missing": ("{}", "addresses", "is missing"),
    "host bits": ('{"addresses": ["10.64.1.1/24"]}', "addresses[0]", "host bits"),
    "the same twice": ('{"addresses": ["10.0.0.1", "10.0.0.1/32"]}', "addresses[1]", "same as addresses[0]"),
    "another id": ('{"id": "other", "addresses": ["10.0.0.1"]}', "id", '"other"'),
    "multicast": ('{"addresses": ["239.1.1.1"]}', "addresses[0]", "multicast"),
    "multicast IPv6": ('{"addresses": ["ff02::1"]}', "addresses[0]", "multicast"),
    "loopback": ('{"addresses": ["127.0.0.1"]}', "addresses[0]", "loopback"),
    "loopback IPv6": ('{"addresses": ["::1"]}', "addresses[0]", "loopback"),
    "link-local": ('{"addresses": ["169.254.1.1"]}', "addresses[0]", "link-local"),
    "link-local IPv6": ('{"addresses": ["fe80::1"]}', "addresses[0]", "link-local"),
    "no such VRF": ('{"addresses": ["10.0.0.1"], "vrf": "red"}', "vrf", 'no VRF "red"'),
}
"""Payload, path of the error, what it says."""


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr, feed: Orchestrator) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_ready()
        yield host


def put(host: Host, target: str, body: bytes, method: str = "PUT") -> tuple[int, Any]:
    """Status and JSON of an order over the unix socket."""
    connection = http.client.HTTPConnection("bgpd", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(host.socket_path))
    with contextlib.closing(connection):
        # A refusal comes before the whole of a large body is taken.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, f"/v1/{target}", body=body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def claims(host: Host, id: str) -> dict[str, str]:
    return {view["prefix"]: view["state"] for view in host.get("workloads") if view["id"] == id}


def told(report: dict[str, Any], path: str, said: str) -> bool:
    """Whether a report has this error, and no other."""
    return [error["path"] for error in report["errors"]] == [path] and said in report["errors"][0]["wrong"]


def test_by_mqtt_each_is_answered_with_its_path_and_the_former_claim_stays(
    fabric: Fabric, host: Host, feed: Orchestrator
) -> None:
    feed.publish("workloads/a", GOOD)
    feed.wait_state(host, "a", "announced")
    for name, (payload, path, said) in BAD.items():
        feed.publish("workloads/a", payload)
        host.wait(lambda path=path, said=said: told(feed.state("a"), path, said), f"{name}: the answer")
        report = feed.state("a")
        assert report["errors"][0]["right"], name
        assert (report["state"], claims(host, "a")) == ("announced", {"10.64.1.1/32": "announced"}), name
    feed.publish("workloads/a", GOOD)
    host.wait(lambda: not feed.state("a")["errors"], "the good payload to be taken")
    feed.publish("workloads/a", "")
    host.wait(lambda: not claims(host, "a"), "the deletion")


def test_by_the_api_each_is_answered_with_400_its_path_and_the_former_claim_stays(fabric: Fabric, host: Host) -> None:
    assert put(host, "workloads/b", json.dumps(GOOD).encode())[0] == 200
    for name, (payload, path, said) in BAD.items():
        status, answer = put(host, "workloads/b", payload.encode())
        assert (status, [error["path"] for error in answer["errors"]]) == (400, [path]), name
        assert said in answer["errors"][0]["wrong"], name
        assert claims(host, "b") == {"10.64.1.1/32": "announced"}, name
    assert put(host, "workloads/b", b"", "DELETE")[0] == 200


def test_by_the_command_line_each_is_told_and_the_exit_code_is_1(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    for name, (payload, path, said) in BAD.items():
        file = tmp_path / "payload"
        file.write_text(payload)
        shown = bgpd(host, "workload", "add", "c", "--file", str(file))
        assert shown[0] == 1, name
        assert f"bgpd: {path}" in shown[1], name
        assert said in shown[1], name
    assert bgpd(host, "workload", "add", "c")[1].startswith("bgpd: no address given")
    assert bgpd(host, "workload", "del", "c")[0] == 1
    assert claims(host, "c") == {}


def bgpd(host: Host, *words: str) -> tuple[int, str]:
    """Exit code of a command, and all it says."""
    script = 'python="$1"; shift; "$python" -m bgpd "$@" 2>&1; echo "exit $?"'
    said = run_command(["env", f"BGPD_SOCKET={host.socket_path}", "sh", "-c", script, "sh", sys.executable, *words])
    text, _, code = said.rpartition("exit ")
    return int(code), text


@pytest.mark.parametrize("prefix", ["239.1.1.1/32", "127.0.0.1/32", "169.254.1.1/32", "fe80::1", "10.64.1.1/24", "x"])
def test_by_the_configuration_each_is_told_with_its_line(fabric: Fabric, host: Host, prefix: str) -> None:
    before = host.config_path.read_text()
    host.write_config(before + toml("[[workload.static]]", prefix=prefix, interface="pod1"))
    code, said = bgpd(host, "reload")
    assert code == 1
    assert "workload.static[0].prefix" in said
    host.write_config(before)


def test_ten_megabytes_are_refused_unread_at_every_entrance(
    fabric: Fabric, host: Host, feed: Orchestrator, tmp_path: Path
) -> None:
    feed.publish("workloads/big", GOOD)
    feed.wait_state(host, "big", "announced")
    payload = json.dumps({**GOOD, "addresses": ["10.64.1.1"] * 800_000})
    assert len(payload) > 10_000_000
    feed.publish("workloads/big", payload)
    host.wait(lambda: feed.state("big")["errors"], "the answer")
    assert "at most 65536" in feed.state("big")["errors"][0]["right"]
    assert claims(host, "big") == {"10.64.1.1/32": "announced"}
    status, answer = put(host, "workloads/big2", payload.encode())
    assert (status, bool(answer["error"])) == (413, True)
    assert put(host, "workloads/big2", b" " * 100_000)[0] == 413
    file = tmp_path / "big"
    file.write_text(payload)
    code, said = bgpd(host, "workload", "add", "big2", "--file", str(file))
    assert (code, "Too Large" in said) == (1, True), said
    assert claims(host, "big2") == {}
    feed.publish("workloads/big", "")


def test_names_that_no_topic_may_have_are_refused_by_the_api(host: Host) -> None:
    for name in ("%2e%2e", "a%20b", "x" * 254, "%00", "a+b"):
        status, answer = put(host, f"workloads/{name}", json.dumps(GOOD).encode())
        assert (status, answer["errors"][0]["path"]) == (400, "id"), name
    assert put(host, "workloads/x%2fy", json.dumps(GOOD).encode())[0] in (400, 404)


def test_id_of_another_source_is_refused_at_both_entrances(host: Host, feed: Orchestrator) -> None:
    feed.publish("workloads/both", GOOD)
    feed.wait_state(host, "both", "announced")
    status, answer = put(host, "workloads/both", json.dumps({**GOOD, "addresses": ["10.64.1.2"]}).encode())
    assert (status, "from mqtt" in answer["errors"][0]["wrong"]) == (409, True)
    assert put(host, "workloads/mine", json.dumps({**GOOD, "addresses": ["10.64.1.3"]}).encode())[0] == 200
    feed.publish("workloads/mine", {**GOOD, "addresses": ["10.64.1.4"]})
    host.wait(lambda: (feed.state("mine") or {}).get("errors"), "the refusal")
    assert "from api" in feed.state("mine")["errors"][0]["wrong"]
    assert claims(host, "mine") == {"10.64.1.3/32": "announced"}
    assert put(host, "workloads/mine", b"", "DELETE")[0] == 200
    for id in ("both", "mine"):
        feed.publish(f"workloads/{id}", "")
    host.wait(lambda: not host.get("workloads"), "the deletion")


def test_wrong_service_is_answered_and_the_former_one_stays(host: Host, feed: Orchestrator) -> None:
    good = {"addresses": ["10.64.100.1"], "check": {"type": "push"}}
    feed.publish("services/s", good)
    host.wait(lambda: (feed.latest("services/s/state") or {}).get("service"), "the service")
    for wrong, path in (
        ({**good, "addresses": ["10.64.100.0/24"]}, "addresses[0]"),
        ({**good, "check": {"type": "tcp"}}, "check.port"),
        ({**good, "check": {"type": "ping"}}, "check.type"),
        ({**good, "check": {"type": "exec", "command": "rm"}}, "check.command"),
        ({**good, "mode": "nat"}, "mode"),
        ({**good, "backends": [{"id": "a", "addresses": ["10.0.0.1"], "weight": 0}]}, "backends[0].weight"),
    ):
        feed.publish("services/s", wrong)
        host.wait(
            lambda path=path: [e["path"] for e in feed.latest("services/s/state")["errors"]] == [path],
            f"answer to {path}",
        )
        assert feed.latest("services/s/state")["service"]["addresses"] == ["10.64.100.1"]
        status, answer = put(host, "services/t", json.dumps(wrong).encode())
        assert (status, [error["path"] for error in answer["errors"]]) == (400, [path])
    feed.publish("services/s", "")
    host.wait(lambda: not host.get("services"), "the deletion")


def test_wrong_sync_is_told_in_the_status(host: Host, feed: Orchestrator) -> None:
    feed.publish("sync", {"generation": "one", "count": 0})
    host.wait(lambda: (feed.latest("status") or {}).get("errors"), "the error")
    assert feed.latest("status")["errors"][0]["path"] == "generation"
    feed.publish("sync", "")


def test_changes_by_the_api_are_logged_with_the_credentials_of_who_made_them(host: Host) -> None:
    assert stat.S_IMODE(host.socket_path.stat().st_mode) == 0o660
    me = f"uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"
    assert put(host, "workloads/w", json.dumps(GOOD).encode())[0] == 200
    assert put(host, "services/s", b'{"addresses": ["10.64.100.1"]}')[0] == 202
    assert put(host, "workloads/w", b"nonsense")[0] == 400
    assert put(host, "workloads/w", b"", "DELETE")[0] == 200
    assert put(host, "services/s", b"", "DELETE")[0] == 200
    for event in ("workload.put", "service.put", "workload.refused", "workload.deleted", "service.deleted"):
        assert host.log(event)[-1]["by"] == me, event
