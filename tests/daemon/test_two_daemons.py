"""Two daemons in one network namespace: the second is refused, or waits for the first to end."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bgpd import __version__
from bgpd.runtime.lock import DIRECTORY
from labs.daemons import Frr
from labs.namespace import Namespace
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, RouteWatch, config, leaf, started
from tests.daemon.fabric import table as toml

pytestmark = pytest.mark.netns

POD = toml("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def test_second_daemon_is_refused_with_the_first_s_process_and_no_route_is_touched(fabric: Fabric, frr: Frr) -> None:
    with started(fabric, leaf(1), POD) as first, RouteWatch(fabric.host, first.directory) as watch:
        first.wait_ready()
        before = len(watch.lines())
        second = Host(fabric.host, config(leaf(1), POD), wait=False)
        try:
            second.wait(lambda: second.processes[-1].exit_code is not None, "the second to end")
            assert second.processes[-1].exit_code == 1
            said = f"bgpd: another bgpd (process {first.pid}) keeps routes of protocol 217 in this network namespace"
            assert said in second.log_path.read_text()
            assert not second.socket_path.exists()
        finally:
            second.stop()
        assert watch.lines()[before:] == []
        assert first.established() == ["leaf1"]


def test_second_daemon_that_starts_while_the_first_ends_takes_over(fabric: Fabric, frr: Frr) -> None:
    with started(fabric, leaf(1), POD) as first, RouteWatch(fabric.host, first.directory) as watch:
        first.wait_ready()
        before = len(watch.lines())
        with started(fabric, leaf(1), POD, wait=False) as second:
            second.wait(lambda: second.log("bgpd.waiting_for_another"), "the second to wait")
            os.kill(first.pid, signal.SIGTERM)
            second.wait_established("leaf1")
            second.wait_ready()
            assert watch.lines()[before:] == []


def test_daemon_that_starts_answers_what_needs_the_kernel_when_it_has_started(fabric: Fabric, frr: Frr) -> None:
    with started(fabric, leaf(1), POD) as first:
        first.wait_ready()
        with started(fabric, leaf(1), POD, wait=False) as second, ThreadPoolExecutor() as threads:
            second.wait(lambda: second.log("bgpd.waiting_for_another"), "the second to wait")
            assert second.health()["reasons"] == ["starting"]
            assert second.metric("bgpd_info", version=__version__) == 1
            second.reload()
            answer = threads.submit(second.explain, "10.9.0.1")
            listings = [threads.submit(second.get, listing) for listing in ("routes", "workloads", "services", "vrfs")]
            time.sleep(0.2)
            assert not any(one.done() for one in (answer, *listings))
            os.kill(first.pid, signal.SIGTERM)
            assert [one["prefix"] for one in listings[1].result()] == ["10.64.1.5/32"], "not that there is none"
            assert answer.result()["kernel"]["prefix"] == "10.9.0.0/16"
            second.wait(lambda: second.log("reload.done"), "the reload")
            second.wait_ready()


def test_another_user_cannot_keep_it_from_starting(fabric: Fabric) -> None:
    """By the name of the abstract socket that once was the lock, nor by the lock's file or its directory."""
    squat = "s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'bgpd/routes/217'); s.listen()"
    program = f"import socket, time; {squat}; print('held', flush=True); time.sleep(600)"
    log = fabric.host.make_directory("squatter") / "log"
    drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    squatter = fabric.host.popen(*drop, "/usr/bin/python3", "-c", program, log_path=log)
    wait_until(lambda: "held" in log.read_text(), 10, "the name to be taken", logs=[log])
    with started(fabric, POD) as host:
        host.wait_ready()
        lock = next(path for path in DIRECTORY.iterdir() if path.read_text() == f"{host.pid}\n")
        for command in (("flock", "-n", str(lock), "true"), ("rm", "-f", str(lock)), ("touch", f"{DIRECTORY}/x")):
            said = fabric.host.run(*drop, "sh", "-c", 'LC_ALL=C "$@" 2>&1', "sh", *command, check=False)
            assert "Permission denied" in said
    squatter.stop()


def test_each_network_namespace_has_its_own(fabric: Fabric) -> None:
    with Namespace("other", prefix="t") as other, started(fabric, POD), Host(other, config()) as second:
        assert second.health()["pid"] == second.pid
