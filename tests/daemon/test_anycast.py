"""Services in the running daemon: checked backends, a kernel group of their own, announced while enough are healthy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import run_command
from tests.daemon.anycast import ADDRESSES, HTTP, HTTPS
from tests.daemon.fabric import (
    Fabric,
    Host,
    RouteWatch,
    heard_from_host,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
)
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

SERVICE = "10.64.100.1"
FIRST, SECOND = "10.64.1.1%pod1", "10.64.1.2%pod2"
FAST = {"interval_s": 0.1, "timeout_s": 0.1, "rise": 1, "fall": 2}
CHECKS: dict[str, dict[str, Any]] = {
    "tcp": {"port": HTTP},
    "http": {"port": HTTP, "path": "/health", "status": [200, 204]},
    "https": {"port": HTTPS, "path": "/health"},
    "exec": {"command": "alive"},
}


class Pods:
    """pod1 and pod2 with their addresses, and what answers there."""

    def __init__(self, fabric: Fabric) -> None:
        self.directory = fabric.pods.make_directory("anycast")
        for number, address in enumerate(ADDRESSES, 1):
            fabric.pods.batch(f"addr add {address}/32 dev lo", f"route add 10.0.{number}.1/32 dev pod{number}")
        fabric.pods.ip("link", "set", "lo", "up")
        key, certificate = str(self.directory / "key"), str(self.directory / "certificate")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run_command([*command, "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=pod"])
        self.commands = self.directory / "commands"
        self.commands.mkdir()
        script = self.commands / "alive"
        script.write_text(f'#!/bin/sh\ntest "$(cat {self.directory}/"$1")" = 200\n')
        script.chmod(0o755)
        fabric.pods.popen(
            sys.executable, "-m", "tests.daemon.anycast", str(self.directory), log_path=self.directory / "log"
        )

    def set(self, number: int, status: int | None = 200) -> None:
        """Pod 1 or 2 answers with this status; None: nothing listens there."""
        path = self.directory / ADDRESSES[number - 1]
        if status is None:
            path.unlink(missing_ok=True)
        else:
            path.with_suffix(".new").write_text(str(status))
            path.with_suffix(".new").replace(path)


@pytest.fixture(scope="module")
def pods(fabric: Fabric) -> Pods:
    return Pods(fabric)


@pytest.fixture(scope="module")
def shared(fabric: Fabric, frr: Frr, pods: Pods) -> Iterator[Host]:
    health = toml("[workload.health]", command_directory=str(pods.commands))
    block = toml("[[aggregate]]", prefix="10.64.0.0/16", summary_only=True)
    with started(fabric, leaf(1), API, health, block) as host:
        host.wait_ready()
        for number, address in enumerate(ADDRESSES, 1):
            host.cli("workload", "add", f"pod{number}", "--address", address, "--interface", f"pod{number}")
        yield host


@pytest.fixture
def host(shared: Host, pods: Pods) -> Iterator[Host]:
    for number in (1, 2):
        pods.set(number)
    yield shared
    shared.cli("service", "del", "web", check=False)
    shared.wait(lambda: not shared.get("services"), "the service to be gone")
    shared.wait_hops(f"{SERVICE}/32")


def offer(host: Host, tmp_path: Path, *, wait: bool = True, drained: int = 0, **fields: Any) -> None:
    """`bgpd service add`, with both pods as backends unless `fields` say otherwise; pod `drained` gets no new flows."""
    backends = [
        {"id": f"pod{n}", "addresses": [address], "drain": n == drained} for n, address in enumerate(ADDRESSES, 1)
    ]
    file = tmp_path / "service.json"
    file.write_text(json.dumps({"addresses": [SERVICE], "backends": backends, **fields}))
    host.cli("service", "add", "web", str(file), *([] if wait else ["--timeout", "0"]), check=wait)


def view(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.get("services")[0]
    return found


def wait_announced(host: Host, frr: Frr, announced: bool = True) -> None:
    host.wait(lambda: heard_from_host(frr, f"{SERVICE}/32") is announced, f"the leaf to hear it: {announced}")


def group(fabric: Fabric) -> dict[str, Any]:
    """The nexthop group of the service's route."""
    id = kernel_routes(fabric.host)[SERVICE]["nhid"]
    found: dict[str, Any] = json.loads(fabric.host.ip("-j", "-d", "nexthop", "show", "id", str(id)))[0]
    return found


@pytest.mark.parametrize("kind", CHECKS)
def test_checked_backends_serve_while_healthy_and_the_address_is_announced_while_enough_are(
    fabric: Fabric, host: Host, frr: Frr, pods: Pods, tmp_path: Path, kind: str
) -> None:
    offer(host, tmp_path, check={"type": kind, **FAST, **CHECKS[kind]})
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    pods.set(1, None if kind == "tcp" else 503)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    reason = {"tcp": "Connection refused", "exec": "ended with code 1"}.get(kind, "HTTP status 503")
    assert [(b["state"], reason in b["reason"]) for b in view(host)["backends"]] == [
        ("unhealthy", True),
        ("healthy", False),
    ]
    assert heard_from_host(frr, f"{SERVICE}/32")
    pods.set(2, None)
    wait_announced(host, frr, announced=False)
    assert "0 of at least 1 backends are healthy" in view(host)["reason"]
    pods.set(1)
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", FIRST)


def test_pushed_health_and_min_healthy(fabric: Fabric, host: Host, frr: Frr, tmp_path: Path) -> None:
    def push(*healthy: bool | None) -> None:
        backends = [
            {"id": f"pod{n}", "addresses": [ADDRESSES[n - 1]], "healthy": good} for n, good in enumerate(healthy, 1)
        ]
        offer(host, tmp_path, wait=False, check={"type": "push"}, min_healthy=2, backends=backends)

    push(True, None)
    assert "1 of at least 2 backends are healthy" in view(host)["reason"]
    assert not heard_from_host(frr, f"{SERVICE}/32")
    push(True, True)
    wait_announced(host, frr)
    push(False, True)
    wait_announced(host, frr, announced=False)
    host.wait_hops(f"{SERVICE}/32", SECOND)


def test_drained_backend_gets_no_new_flows_and_a_drained_service_serves_what_still_comes(
    fabric: Fabric, host: Host, frr: Frr, tmp_path: Path
) -> None:
    offer(host, tmp_path)
    wait_announced(host, frr)
    offer(host, tmp_path, drained=1)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    assert [b["state"] for b in view(host)["backends"]] == ["drained", "healthy"]
    assert heard_from_host(frr, f"{SERVICE}/32")
    offer(host, tmp_path, wait=False, drain=True)
    wait_announced(host, frr, announced=False)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    assert view(host)["reason"] == "the service is drained"


def test_draining_all_backends_withdraws_first_and_serves_on_until_the_fabric_knows(
    fabric: Fabric, host: Host, frr: Frr, tmp_path: Path
) -> None:
    offer(host, tmp_path)
    wait_announced(host, frr)
    backends = [{"id": f"pod{n}", "addresses": [address], "drain": True} for n, address in enumerate(ADDRESSES, 1)]
    offer(host, tmp_path, wait=False, backends=backends)
    wait_announced(host, frr, announced=False)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    host.wait_hops(f"{SERVICE}/32")


def test_of_two_services_with_one_address_the_healthy_one_is_announced(
    host: Host, frr: Frr, pods: Pods, tmp_path: Path
) -> None:
    pods.set(1, 500)
    pods.set(2, 500)
    offer(host, tmp_path, wait=False, check={"type": "http", **FAST, **CHECKS["http"]})
    host.wait(lambda: view(host)["backends"][0]["state"] == "unhealthy", "the first service to be unhealthy")
    file = tmp_path / "other.json"
    file.write_text(json.dumps({"addresses": [SERVICE], "backends": [{"id": "pod2", "addresses": [ADDRESSES[1]]}]}))
    host.cli("service", "add", "other", str(file))
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    host.cli("service", "del", "other")


def test_weights_and_resilience_are_the_kernel_s_and_a_lost_backend_costs_one_message(
    fabric: Fabric, host: Host, frr: Frr, pods: Pods, tmp_path: Path
) -> None:
    backends = [{"id": f"pod{n}", "addresses": [address], "weight": 3 * n} for n, address in enumerate(ADDRESSES, 1)]
    check = {"type": "http", **FAST, **CHECKS["http"]}
    offer(host, tmp_path, backends=backends, resilient=True, check=check)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    found = group(fabric)
    assert sorted(member.get("weight", 1) for member in found["group"]) == [3, 6]
    assert found["type"] == "resilient"
    log = tmp_path / "nexthops"
    monitor = fabric.host.popen("ip", "-o", "monitor", "nexthop", "route", log_path=log)
    host.wait(lambda: fabric.host.ip("nexthop", "replace", "id", "7", "dev", "eth0") or log.read_text(), "the monitor")
    fabric.host.ip("nexthop", "del", "id", "7")
    pods.set(1, 500)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    host.wait(lambda: f"id {found['id']} " in log.read_text(), "the change to be heard")
    monitor.stop()
    told = [line for line in log.read_text().splitlines() if not line.replace("Deleted ", "").startswith("id 7 ")]
    assert len([line for line in told if line.startswith(f"id {found['id']} ")]) == 1, told
    assert not [line for line in told if SERVICE in line]
    assert group(fabric)["id"] == found["id"]


def test_announce_only_keeps_no_route(fabric: Fabric, host: Host, frr: Frr, tmp_path: Path) -> None:
    offer(host, tmp_path, mode="announce-only")
    wait_announced(host, frr)
    assert kernel_hops(fabric.host, f"{SERVICE}/32") == []
    offer(host, tmp_path, mode="prefer-local")
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)


def test_all_checks_that_fail_at_once_are_a_last_resort_until_one_is_good_again(
    fabric: Fabric, host: Host, frr: Frr, pods: Pods, tmp_path: Path
) -> None:
    offer(host, tmp_path, check={"type": "http", **FAST, **CHECKS["http"]}, last_resort="keep", resilient=True)
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)  # what has never worked does not count as failing with the other
    before = group(fabric)
    with RouteWatch(fabric.host, tmp_path) as watch:
        seen = len(watch.lines())
        for number in (1, 2):
            pods.set(number, 500)
        host.wait(lambda: view(host)["kept"] == [SERVICE], "the last resort")
        assert [backend["state"] for backend in view(host)["backends"]] == ["unhealthy"] * 2
        assert "last resort" in host.explain(SERVICE)["verdict"]
        assert host.metric("bgpd_services", state="last-resort") == 1
        assert host.log("service.last_resort")[-1]["service"] == "web"
        assert (heard_from_host(frr, f"{SERVICE}/32"), view(host)["announced"]) == (True, True)
        host.wait(lambda: group(fabric)["group"] == before["group"], "the group as it was")
        assert not [line for line in watch.lines()[seen:] if SERVICE in line], "its route was never touched"
    pods.set(2)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    assert (view(host)["kept"], view(host)["reason"]) == ([], "")
    pods.set(1)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    assert heard_from_host(frr, f"{SERVICE}/32")


def test_service_that_goes_down_again_and_again_is_held_back(host: Host, frr: Frr, tmp_path: Path) -> None:
    def push(healthy: bool) -> None:
        backends = [{"id": "pod1", "addresses": [ADDRESSES[0]], "healthy": healthy}]
        offer(host, tmp_path, wait=False, check={"type": "push"}, backends=backends)

    push(True)
    wait_announced(host, frr)
    for _ in range(5):
        push(False)
        push(True)
    wait_announced(host, frr, announced=False)
    found = view(host)
    assert (found["announced"], found["healthy"]) == (False, 1)
    assert "it went down 5 times lately: announced again at" in found["reason"]
    assert found["damped_since"] + 10 < found["damped_until"] < found["damped_since"] + 130
    assert host.metric("bgpd_services", state="damped") == 1
    assert [view["id"] for view in host.get("workloads", state="damped")] == ["web"]
    assert "it went down 5 times" in host.explain(SERVICE)["verdict"]
    assert len([one for one in host.log("service.damped") if one["address"] == SERVICE]) == 1
    host.wait_hops(f"{SERVICE}/32", FIRST)


def test_backend_that_comes_back_gets_its_weight_in_steps(
    fabric: Fabric, host: Host, frr: Frr, pods: Pods, tmp_path: Path
) -> None:
    check = {"type": "http", **FAST, **CHECKS["http"]}
    offer(host, tmp_path, check=check, slow_start_s=2)
    host.wait(lambda: [one["weight_now"] for one in view(host)["backends"]] == [1, 1], "both to have started")
    pods.set(1, 500)
    host.wait_hops(f"{SERVICE}/32", SECOND)
    steps: list[list[int]] = []

    def is_whole() -> bool:
        weights = sorted(member.get("weight", 1) for member in group(fabric)["group"])
        if weights != (steps or [[]])[-1]:
            steps.append(weights)
        return len(steps) > 1 and weights == [1, 1]

    pods.set(1)
    host.wait(is_whole, f"the whole weight: {steps}")
    shares = [low / high for low, high in (step for step in steps if len(step) == 2)]
    assert shares == sorted(shares), steps
    assert shares[0] < 1, steps


def test_command_line_adds_lists_and_deletes(host: Host, frr: Frr, tmp_path: Path) -> None:
    offer(host, tmp_path)
    shown = host.cli("service", "list")
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["web", ADDRESSES[0], ADDRESSES[1]]
    assert host.cli("service", "list", "--json") == host.cli("show", "services", "--json")
    assert host.cli("service", "del", "web") == "web deleted\n"
    wait_announced(host, frr, announced=False)
    assert host.cli("service", "list") == "no services\n"


def test_backends_gone_with_their_interface_are_no_backends(
    fabric: Fabric, host: Host, frr: Frr, tmp_path: Path
) -> None:
    offer(host, tmp_path)
    wait_announced(host, frr)
    fabric.host.ip("link", "set", "pod2", "down")
    host.wait_hops(f"{SERVICE}/32", FIRST)
    fabric.host.ip("link", "set", "pod2", "up")
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)


def test_last_resort_is_announced_again_after_a_crash(
    fabric: Fabric, host: Host, frr: Frr, pods: Pods, tmp_path: Path
) -> None:
    """What the checks found out before is known after it, before they have said anything."""
    offer(host, tmp_path, last_resort="keep", check={"type": "http", **FAST, **CHECKS["http"]})
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    pods.set(1, 500)
    pods.set(2, 500)
    host.wait(lambda: host.metric("bgpd_services", state="last-resort") == 1, "both to fail")
    saved = host.directory / "state" / "services.json"
    host.wait(lambda: saved.exists() and "last-resort" in saved.read_text(), "it to be saved")
    host.kill()
    host.start()
    host.wait_ready()
    assert host.metric("bgpd_services", state="last-resort") == 1
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    pods.set(2)
    host.wait_hops(f"{SERVICE}/32", SECOND)


def test_service_is_there_again_after_a_crash_with_its_flows_group_untouched(
    fabric: Fabric, host: Host, frr: Frr, tmp_path: Path
) -> None:
    offer(host, tmp_path, resilient=True, check={"type": "tcp", **FAST, **CHECKS["tcp"]})
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    before = group(fabric)
    host.kill()
    host.start()
    host.wait_ready()
    wait_announced(host, frr)
    host.wait_hops(f"{SERVICE}/32", FIRST, SECOND)
    assert group(fabric) == before
