"""The local API and its commands against the running daemon: what a PUT answers, and when."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, heard_from_host, kernel_hops, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

BLOCK = toml("[[aggregate]]", prefix="10.66.0.0/24", summary_only=True)


@pytest.fixture(scope="module")
def shared(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    with started(fabric, leaf(1), API, BLOCK) as host:
        host.wait_ready()
        yield host


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    yield shared
    for id in {view["id"] for view in shared.get("workloads")}:
        shared.cli("workload", "del", id)
    shared.wait(lambda: not shared.get("workloads"), "no workload")


def order(host: Host, method: str, target: str, payload: Any = None) -> tuple[int, Any]:
    """Status and JSON of an order over the unix socket."""
    connection = http.client.HTTPConnection("bgpd", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(host.socket_path))
    with contextlib.closing(connection):
        connection.request(method, f"/v1/{target}", body=None if payload is None else json.dumps(payload))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_put_is_answered_when_it_is_announced_and_is_idempotent(fabric: Fabric, host: Host, frr: Frr) -> None:
    payload = {"addresses": ["10.64.1.1", "2001:db8:64::1"], "interface": "pod1"}
    status, report = order(host, "PUT", "workloads/a", payload)
    assert (status, report["state"]) == (200, "announced")
    assert kernel_hops(fabric.host, "10.64.1.1/32") == ["pod1"]
    view = next(view for view in host.get("routes") if view["prefix"] == "10.64.1.1/32")
    assert view
    host.wait(lambda: heard_from_host(frr, "10.64.1.1/32"), "the leaf to hear it")
    assert order(host, "PUT", "workloads/a", payload) == (status, report)
    assert order(host, "GET", "workloads/a") == (200, report)
    assert [record["changed"] for record in host.log("workload.put") if record["id"] == "a"] == [True, False]
    assert order(host, "DELETE", "workloads/a")[0] == 200
    host.wait(lambda: not heard_from_host(frr, "10.64.1.1/32"), "the leaf to forget it")
    assert order(host, "GET", "workloads/a")[0] == order(host, "DELETE", "workloads/a")[0] == 404


def test_put_that_is_not_announced_says_why_at_its_timeout(host: Host) -> None:
    began = time.monotonic()
    status, report = order(host, "PUT", "workloads/w?timeout_s=1", {"addresses": ["10.64.1.2"], "interface": "gone0"})
    assert 0.9 < time.monotonic() - began < 3
    assert (status, report["state"]) == (202, "pending")
    assert report["reason"] == "interface gone0 does not exist"
    for wrong in ("-1", "1.5", "601", "soon"):
        assert order(host, "PUT", f"workloads/w?timeout_s={wrong}", {})[0] == 400


def test_waiting_put_is_answered_as_soon_as_the_interface_comes(fabric: Fabric, host: Host) -> None:
    answers: list[tuple[int, Any]] = []
    payload = {"addresses": ["10.64.1.3"], "interface": "late0"}
    asking = threading.Thread(target=lambda: answers.append(order(host, "PUT", "workloads/l?timeout_s=15", payload)))
    asking.start()
    host.wait(lambda: [view for view in host.get("workloads") if view["id"] == "l"], "the claim")
    fabric.host.batch("link add late0 type veth peer name late0p", "link set late0p up", "link set late0 up")
    asking.join(timeout=5)
    assert [(status, report["state"]) for status, report in answers] == [(200, "announced")]
    fabric.host.ip("link", "del", "late0")


def test_put_inside_an_aggregate_is_suppressed_and_that_is_success(host: Host, frr: Frr) -> None:
    status, report = order(host, "PUT", "workloads/s", {"addresses": ["10.66.0.1"], "interface": "pod1"})
    assert (status, report["reason"]) == (200, "covered by 10.66.0.0/24")
    host.wait(lambda: heard_from_host(frr, "10.66.0.0/24"), "the leaf to hear the aggregate")


def test_conflict_is_answered_with_409_and_shown_on_both(fabric: Fabric, host: Host) -> None:
    assert order(host, "PUT", "workloads/one", {"addresses": ["10.64.1.4"], "interface": "pod1"})[0] == 200
    status, report = order(host, "PUT", "workloads/two", {"addresses": ["10.64.1.4"], "interface": "pod2"})
    assert (status, report["state"]) == (409, "conflict")
    assert "held by api workload one on pod1, which came first" in report["reason"]
    first = order(host, "GET", "workloads/one")[1]
    assert (first["state"], first["addresses"][0]["announced"]) == ("conflict", True)
    assert kernel_hops(fabric.host, "10.64.1.4/32") == ["pod1"]


def test_address_that_the_kernel_cannot_lead_to_a_workload_is_failed_with_the_reason(
    fabric: Fabric, host: Host
) -> None:
    """An address of this host itself: its local route stays what it is."""
    status, report = order(host, "PUT", "workloads/own", {"addresses": ["10.0.2.1"], "interface": "pod1"})
    assert (status, report["state"]) == (202, "failed")
    assert "this host's own address" in report["reason"]
    assert not report["addresses"][0]["announced"]
    assert "local 10.0.2.1 dev eth1" in fabric.host.ip("route", "show", "table", "local")
    assert kernel_hops(fabric.host, "10.0.2.1/32") == []


def test_command_line_adds_lists_and_deletes(host: Host, frr: Frr, tmp_path: Path) -> None:
    words = [
        "--address",
        "10.64.1.5",
        "--address",
        "2001:db8:64::5",
        "--interface",
        "pod1",
        "--mac",
        "02:00:00:00:00:05",
    ]
    said = host.cli("workload", "add", "vm5", *words, "--kind", "vm", "--sticky", "--exception")
    assert said == "vm5 announced\n"
    view = next(view for view in json.loads(host.cli("workload", "list", "--json")) if view["id"] == "vm5")
    assert (view["kind"], view["mac"], view["sticky"], view["exception"]) == ("vm", "02:00:00:00:00:05", True, True)
    assert [line.split()[:2] for line in host.cli("workload", "list").splitlines()[1:]] == [
        ["10.64.1.5/32", "vm5"],
        ["2001:db8:64::5/128", "vm5"],
    ]
    assert host.cli("workload", "del", "vm5") == "vm5 deleted\n"
    host.wait(lambda: not heard_from_host(frr, "10.64.1.5/32"), "the leaf to forget it")
    assert host.cli("workload", "list") == "no workloads\n"
    said = host.cli(
        "workload", "add", "late", "--address", "10.64.1.6", "--interface", "gone0", "--timeout", "1", check=False
    )
    assert said == "late pending: interface gone0 does not exist\n"


@pytest.mark.parametrize("name", ["workload", "service", "sync", "status"])
def test_schemas_are_printed_with_what_each_field_means(host: Host, name: str) -> None:
    schema = json.loads(host.cli("schema", name))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    (definition,) = (found for key, found in schema["$defs"].items() if schema["$ref"].endswith(f"/{key}"))
    if name != "status":
        assert definition["additionalProperties"] is False
    assert definition["properties"]


def test_other_programs_may_not_connect_unless_mode_and_group_let_them(host: Host) -> None:
    status = host.socket_path.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, 0)


@pytest.mark.parametrize("address", ["10.0.1.2", "10.0.1.0/28"])
def test_workload_that_would_take_the_leaf_is_refused_and_the_session_stays(host: Host, address: str) -> None:
    (before,) = host.get("neighbors")
    _, report = order(host, "PUT", "workloads/thief?timeout_s=2", {"addresses": [address], "interface": "pod1"})
    assert report["state"] == "failed"
    assert "this host itself needs 10.0.1.2, neighbor leaf1" in report["addresses"][0]["reason"]
    assert kernel_hops(host.namespace, address) == []
    (after,) = host.get("neighbors")
    assert (after["state"], after["since"]) == ("established", before["since"])


def test_a_monitor_that_begins_later_than_there_are_events_holds_nothing(host: Host) -> None:
    """As after a restart, when events are numbered anew; it took the daemon, its sessions and its API."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(host.socket_path))
        monitor.sendall(b"GET /v1/monitor?since=999999 HTTP/1.1\r\nHost: bgpd\r\n\r\n")
        assert monitor.recv(4096).startswith(b"HTTP/1.1 200")
        assert host.neighbor("leaf1")["state"] == "established"
        order(host, "PUT", "workloads/a", {"addresses": ["10.64.1.1"], "interface": "pod1"})
        assert b"workload.put" in monitor.recv(4096)
