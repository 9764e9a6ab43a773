"""TCP flows to a service: a lost backend breaks its flows and no other, and each is counted where it belongs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from labs.daemons import REPOSITORY
from labs.namespace import Namespace
from labs.process import LabError, wait_until
from labs.service_traffic import ServiceFlow, ServiceTraffic, hold_to, summary

GOOD = ServiceFlow("pod1", 10, 10, 4.2, "")
RESET = ServiceFlow("pod2", 5, 4, 3.0, "Connection reset by peer")
NEVER = ServiceFlow("", 0, 0, 0.0, "Connection refused")


def test_summary_tells_backends_and_what_broke() -> None:
    assert summary([GOOD, GOOD, RESET]) == (
        "3 flows (pod1 2, pod2 1): 1 broken, 24 answers, slowest 4 ms; broken: 1 of pod2 (Connection reset by peer)"
    )


def test_only_flows_of_the_ended_backend_may_break() -> None:
    hold_to([GOOD, GOOD])
    hold_to([GOOD, RESET], may_break=["pod2"])
    with pytest.raises(LabError, match="1 flows broke that nothing was to happen to: 1 of pod2"):
        hold_to([GOOD, RESET])
    with pytest.raises(LabError, match=r"1 of none \(Connection refused\)"):
        hold_to([GOOD, NEVER], may_break=["pod2"])
    with pytest.raises(LabError, match="1 flows to pod1, which was ended, still live"):
        hold_to([GOOD, RESET], may_break=["pod1", "pod2"])


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace("flows", prefix="L") as namespace:
        yield namespace


@pytest.mark.netns
def test_flows_to_a_backend_that_ends_are_reported_broken(namespace: Namespace) -> None:
    program = REPOSITORY / "labs" / "containerlab" / "echo_server.py"
    log_path = namespace.make_directory("server") / "log"
    server = namespace.popen("python3", str(program), "pod1", "8000", log_path=log_path)
    wait_until(lambda: ":8000" in namespace.run("ss", "-Hltn"), 10, "the server to listen", logs=[log_path])
    traffic = ServiceTraffic(namespace, "127.0.0.1", 8000, flows=3)
    server.kill()
    time.sleep(0.3)
    flows = traffic.stop()
    assert [flow.backend for flow in flows] == ["pod1"] * 3
    assert all(flow.error for flow in flows)


@pytest.mark.netns
def test_flows_to_nobody_are_reported_at_once(namespace: Namespace) -> None:
    flows = ServiceTraffic(namespace, "127.0.0.1", 8000, flows=2).stop()
    assert [flow.backend for flow in flows] == ["", ""]
    assert all("refused" in flow.error or "Connect" in flow.error for flow in flows)
