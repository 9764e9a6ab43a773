"""Routes that other programs put on pods' interfaces, with the real kernel and its monitor."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bgpd.kernel.monitor import KernelMonitor
from tests.own_network import own_network
from tests.waiting import until
from tests.workload.broker import Node

pytestmark = pytest.mark.netns


def ip(*arguments: str, batch: str = "") -> None:
    subprocess.run(["ip", *arguments], input=batch.encode() or None, check=True)


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        for name in ("pod1", "pod2", "eth0"):
            ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
            ip("link", "set", name, "up")
            ip("link", "set", f"{name}-peer", "up")
        yield


def follow(monitor: KernelMonitor, node: Node) -> None:
    """As the daemon does (`routing.Routing`): what comes in one burst is taken at its end."""
    workloads = node.workloads

    def reported() -> None:
        if workloads.kernel_reported():
            workloads.report()

    monitor.subscribe(workloads.kernel.event, replay=True, replay_routes=True, gather=workloads.kernel.gather)
    workloads.kernel.replayed()
    monitor.burst_ended.append(reported)


@pytest.fixture
async def node(network: None, tmp_path: Path) -> AsyncIterator[Node]:
    monitor = KernelMonitor()
    await monitor.start()
    made = Node(tmp_path, mqtt=False, globs=("pod[0-9]",), kernel=monitor.host)
    follow(monitor, made)
    await made.start()
    await until(lambda: made.synchronised)
    yield made
    await made.stop()
    await monitor.stop()


async def announced(node: Node, *prefixes: str) -> None:
    await until(lambda: set(node.announced) == set(prefixes), lambda: node.announced)


async def test_route_is_announced_when_added_and_withdrawn_when_deleted(node: Node) -> None:
    ip("route", "add", "10.64.1.9/32", "dev", "pod1")
    ip("route", "add", "10.64.1.10/32", "dev", "eth0")
    ip("-6", "route", "add", "2001:db8::9/128", "dev", "pod1")
    await announced(node, "10.64.1.9/32", "2001:db8::9/128")
    ip("route", "del", "10.64.1.9/32", "dev", "pod1")
    await announced(node, "2001:db8::9/128")


async def test_route_that_was_there_before_is_announced(network: None, tmp_path: Path) -> None:
    ip("route", "add", "10.64.1.9/32", "dev", "pod1")
    monitor = KernelMonitor()
    await monitor.start()
    made = Node(tmp_path, mqtt=False, globs=("pod*",), kernel=monitor.host)
    follow(monitor, made)
    await made.start()
    await announced(made, "10.64.1.9/32")
    await made.stop()
    await monitor.stop()


@pytest.mark.parametrize("down", [("link", "set", "pod1", "down"), ("link", "set", "pod1-peer", "down")])
async def test_interface_down_withdraws(node: Node, down: tuple[str, ...]) -> None:
    ip("route", "add", "10.64.1.9/32", "dev", "pod1")
    ip("route", "add", "10.64.2.9/32", "dev", "pod2")
    await announced(node, "10.64.1.9/32", "10.64.2.9/32")
    ip(*down)
    await announced(node, "10.64.2.9/32")
    ip(*down[:-1], "up")
    await asyncio.sleep(0.2)
    kernel = subprocess.run(["ip", "route", "show", "dev", "pod1"], capture_output=True, check=True).stdout  # noqa: ASYNC221
    wanted = {"10.64.2.9/32"} | ({"10.64.1.9/32"} if b"10.64.1.9" in kernel else set())
    await announced(node, *wanted)


async def test_interface_gone_withdraws(node: Node) -> None:
    ip("route", "add", "10.64.1.9/32", "dev", "pod1")
    await announced(node, "10.64.1.9/32")
    ip("link", "del", "pod1")
    await announced(node)
    await until(lambda: not list(node.workloads.claims.views()))


async def test_thousands_at_once_come_and_go(node: Node) -> None:
    prefixes = [f"10.70.{i >> 8}.{i & 255}/32" for i in range(3000)]
    ip("-batch", "-", batch="".join(f"route add {prefix} dev pod1\n" for prefix in prefixes))
    await announced(node, *prefixes)
    ip("link", "del", "pod1")
    await announced(node)
    await until(lambda: not list(node.workloads.claims.views()))
