"""What the daemon says of itself: explain in its cases, health, metrics, monitor, and the tables for people."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from labs.daemons import Frr
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, leaf, started, table

pytestmark = pytest.mark.netns

TABLES = (
    leaf(1),
    leaf(2),
    table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1"),
    table("[[workload.static]]", prefix="10.64.1.6/32", interface="missing1"),
    table("[workload.kernel]", interfaces=["pod2"]),
    table("[[aggregate]]", prefix="10.64.1.0/24", blackhole=True),
    table("[fib]", protect=["10.99.0.0/16"]),
)


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=("10.9.0.0/16", "10.8.0.0/16", "10.99.0.0/24")) as frr:
        yield frr


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf1: Frr, leaf2: Frr) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        yield host


def test_overview_tells_the_host_on_one_screen(host: Host) -> None:
    view = host.get("overview")
    assert view["health"]["ready"]
    assert [one["name"] for one in view["neighbors"]] == ["leaf1", "leaf2"]
    assert [(one["interface"], one["up"], one["neighbors"]) for one in view["uplinks"]] == [
        ("eth0", True, ["leaf1"]),
        ("eth1", True, ["leaf2"]),
    ]
    (main,) = view["tables"]
    assert main["desired"] == main["installed"] + main["blocked"]
    assert main["blocked"] == 1, "the protected one"
    assert main["prefixes"]["ipv4-unicast"] >= main["desired"]
    both = {("10.0.1.2", "eth0"), ("10.0.2.2", "eth1")}
    assert both in [{(hop["address"], hop["interface"]) for hop in one["next_hops"]} for one in view["groups"]]
    assert view["workloads"]["static"] == {"announced": 1, "pending": 1}
    assert view["withheld"] == 1


def test_explain_forwarded(host: Host) -> None:
    view = host.explain("10.9.1.1")
    assert view["agrees"]
    assert view["kernel"]["prefix"] == "10.9.0.0/16"
    assert view["kernel"]["ours"]
    assert all(hop["live"] for hop in view["kernel"]["next_hops"])
    assert "leaf1" in view["verdict"]
    assert "leaf2" in view["verdict"]
    assert [neighbor["name"] for neighbor in view["neighbors"]] == ["leaf1", "leaf2"]


def test_explain_workload(host: Host) -> None:
    view = host.explain("10.64.1.5")
    assert view["agrees"]
    assert view["verdict"] == "workload 10.64.1.5/32 on pod1 of this host, announced to the neighbors leaf1, leaf2"


def test_explain_workload_without_its_interface(host: Host) -> None:
    view = host.explain("10.64.1.6")
    assert "missing1" in view["verdict"]
    assert view["workload"]["announced"] is False


def test_explain_workload_of_another_program(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("route", "add", "10.64.3.9/32", "dev", "pod2")
    host.wait(lambda: "announced to the neighbors" in host.explain("10.64.3.9")["verdict"], "the workload")
    assert host.explain("10.64.3.9")["agrees"]
    fabric.host.ip("route", "del", "10.64.3.9/32", "dev", "pod2")


def test_explain_blackhole_of_an_aggregate(host: Host) -> None:
    host.wait(lambda: host.explain("10.64.1.77")["kernel"], "the blackhole")
    view = host.explain("10.64.1.77")
    assert "blackhole" in view["verdict"]
    assert view["agrees"]


def test_explain_foreign(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("route", "add", "10.7.0.0/16", "dev", "pod1", "proto", "250")
    view = host.explain("10.7.1.1")
    assert "protocol 250" in view["verdict"]
    assert "not bgpd's" in view["verdict"]
    assert view["agrees"]
    fabric.host.ip("route", "del", "10.7.0.0/16", "proto", "250")


def test_explain_nothing(host: Host) -> None:
    view = host.explain("198.51.100.1")
    assert view["verdict"].startswith("no route")
    assert view["agrees"]
    assert view["kernel"] is None


def test_explain_blocked(host: Host) -> None:
    view = host.explain("10.99.0.1")
    assert "fib.protect" in view["fib"]["error"]
    assert "fib.protect" in view["verdict"]


def test_explain_own_address(host: Host) -> None:
    assert (
        host.explain("10.0.1.1")["verdict"] == "10.0.1.1 is an address of this host: packets to it are delivered here"
    )
    assert host.explain("2001:db8:1::1")["agrees"]


def test_explain_dead_next_hop(fabric: Fabric, host: Host, leaf1: Frr) -> None:
    """A route whose next hop is on no network of this host stays out of the kernel, and says why."""
    leaf1.vtysh(
        "configure terminal",
        "route-map FAR permit 10",
        "set ip next-hop 192.0.2.7",
        "exit",
        "router bgp 65201",
        "address-family ipv4 unicast",
        "neighbor 10.0.1.1 route-map FAR out",
    )
    host.wait(lambda: "192.0.2.7" in str(host.explain("10.8.1.1")), "the far next hop")
    host.wait(lambda: host.explain("10.8.1.1")["kernel"] is None, "the kernel route to go")
    view = host.explain("10.8.1.1")
    assert "192.0.2.7" in view["verdict"] or "next hop" in view["verdict"]
    leaf1.vtysh(
        "configure terminal",
        "router bgp 65201",
        "address-family ipv4 unicast",
        "no neighbor 10.0.1.1 route-map FAR out",
    )
    host.wait_hops("10.8.0.0/16", "10.0.1.2%eth0")


def test_explain_refuses_what_is_no_address(host: Host) -> None:
    status, body = host.request("/v1/explain/leaf1")
    assert status == 400
    assert "is not an IP address" in json.loads(body)["error"]


def test_explain_for_people(host: Host) -> None:
    lines = host.cli("explain", "10.9.1.1").splitlines()
    assert lines[0] == "10.9.1.1: reachable"
    assert lines[1].startswith("forwarded by 10.9.0.0/16 to ")
    assert lines[2] == "kernel and RIB agree"
    assert any("neighbor table: " in line for line in lines)
    assert any('policy "' in line for line in lines)


@pytest.mark.parametrize("view", ["neighbors", "routes", "fib", "workloads", "aggregates", "events"])
def test_tables_for_people_are_one_line_each(host: Host, view: str) -> None:
    lines = host.cli("show", view).splitlines()
    assert len(lines) > 1
    assert all(line.strip() for line in lines)


def test_metrics_are_what_prometheus_reads_and_asks_of_names(host: Host) -> None:
    status, body = host.request("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["bgpd_neighbor_messages_sent"].type == "counter"
    assert families["bgpd_loop_hold_seconds"].type == "histogram"
    assert {sample.labels["neighbor"] for sample in families["bgpd_bfd_up"].samples} <= {"leaf1", "leaf2"}
    linted = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")
    assert host.metric("bgpd_ready") == 1
    assert host.metric("bgpd_neighbor_established", neighbor="leaf1") == 1
    assert host.metric("bgpd_neighbor_routes_received", neighbor="leaf1", family="ipv4-unicast") >= 3
    assert host.metric("bgpd_neighbor_routes_announced", neighbor="leaf1", family="ipv4-unicast") == 2
    assert host.metric("bgpd_fib_routes_failed", vrf="") == 0
    assert host.metric("bgpd_fib_routes_blocked", vrf="") == 1


def test_answers_are_as_the_api_describes_them(host: Host) -> None:
    description = json.loads(host.request("/openapi.json")[1])
    tried = 0
    for path, methods in description["paths"].items():
        if "{" in path or path in ("/v1/live", "/v1/monitor", "/v1/why-not", "/v1/what-if") or "get" not in methods:
            continue
        status, body = host.request(path)
        content = methods["get"]["responses"][str(status)]["content"].get("application/json")
        if content is not None:
            whole = {**content["schema"], "components": description["components"]}
            errors = [str(error) for error in jsonschema_rs.validator_for(whole).iter_errors(json.loads(body))]
            assert errors == [], path
            tried += 1
    assert tried > 20


def test_monitor_tells_events_as_they_happen(fabric: Fabric, host: Host, leaf2: Frr) -> None:
    log_path = host.directory / "monitor.log"
    command = ["env", f"BGPD_SOCKET={host.socket_path}", sys.executable, "-m", "bgpd", "monitor", "--json"]
    monitor = fabric.host.popen(*command, log_path=log_path)
    try:
        sequence = host.get("events")[-1]["sequence"]

        def told() -> list[dict[str, Any]]:
            leaf2.vtysh("clear bgp 10.0.2.1")
            events = [json.loads(line) for line in log_path.read_text().splitlines()]
            return [event for event in events if event["event"] == "session.closed"]

        wait_until(told, 20, "the monitor to tell of the session", logs=host.logs, interval_s=1)
        assert told()[0]["fields"]["neighbor"] == "leaf2"
        assert told()[0]["sequence"] > sequence
    finally:
        monitor.stop()


def test_health_is_503_with_the_reason_once_nothing_is_heard(host: Host, leaf1: Frr, leaf2: Frr) -> None:
    host.wait_established("leaf1", "leaf2")
    status, body = host.request("/v1/health")
    view = json.loads(body)
    assert status == 200
    assert (view["ready"], view["reasons"], view["neighbors_established"]) == (True, [], 2)
    for frr, peer in ((leaf1, "10.0.1.1"), (leaf2, "10.0.2.1")):
        frr.vtysh(
            "configure terminal", f"router bgp 6520{peer[5]}", f"neighbor {peer} shutdown message rack 7 is moved"
        )
    host.wait(lambda: host.request("/v1/health")[0] == 503, "health to be 503")
    assert host.health()["reasons"] == ["no neighbor is established"]
    assert "rack 7 is moved" in host.neighbor("leaf1")["last_error"]
