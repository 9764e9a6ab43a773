"""All sources joined: start, restart, reload."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.config.schema import Config, RouterConfig, VrfConfig, WorkloadsConfig
from bgpd.config.schema_workloads import (
    HealthWorkloadConfig,
    KernelWorkloadConfig,
    StaticWorkloadConfig,
    WorkloadConfig,
)
from bgpd.model.kernel import KernelRoute, RouteChanged
from tests.own_network import own_network
from tests.waiting import until
from tests.workload.broker import Node
from tests.workload.fixtures import V4, key


def workload(
    *static: str, globs: tuple[str, ...] = ("pod*",), concurrency: int = 64, vrfs: tuple[str, ...] = ()
) -> WorkloadsConfig:
    return Config(
        router=RouterConfig(asn=65203, router_id="10.255.1.1"),
        workload=WorkloadConfig(
            static=tuple(StaticWorkloadConfig(prefix=prefix, interface="pod1") for prefix in static),
            kernel=KernelWorkloadConfig(interfaces=globs),
            health=HealthWorkloadConfig(concurrency=concurrency),
        ),
        vrf=tuple(VrfConfig(name=name, table=1001) for name in vrfs),
    ).workloads


async def test_reload_changes_static_and_kernel_workloads_and_vrfs(tmp_path: Path) -> None:
    node = Node(tmp_path, mqtt=False)
    await node.start()
    route = KernelRoute(family=V4, key=key("10.64.1.9/32"), table=254, protocol=3, interface="pod2")
    node.workloads.kernel.event(RouteChanged(route))
    node.workloads.reconfigure(workload("10.64.1.1/32", concurrency=2))
    await until(lambda: set(node.announced) == {"10.64.1.1/32", "10.64.1.9/32"}, lambda: node.announced)
    refused = await node.api.put_workload("a", b'{"addresses": ["10.1.0.1"], "vrf": "blue"}', who="root")
    assert refused.status == 400
    node.workloads.reconfigure(workload("10.64.1.1/32", vrfs=("blue",)))
    taken = await node.api.put_workload("a", b'{"addresses": ["10.1.0.1"], "vrf": "blue"}', who="root", timeout_s=0)
    assert taken.status == 202
    await node.api.delete_workload("a", who="root")
    node.workloads.reconfigure(workload(globs=("tap*",)))
    await until(lambda: not node.announced, lambda: node.announced)
    await node.stop()


@pytest.mark.netns
async def test_services_are_waited_for_until_their_checks_have_said_something(tmp_path: Path) -> None:
    with own_network():
        node = await started(tmp_path)
        await node.api.put_workload("a", b'{"addresses": ["10.64.1.5"], "interface": "pod1"}', who="root")
        check = {"type": "tcp", "port": 1, "interval_s": 5, "timeout_s": 0.1, "fall": 1}
        backends = [{"id": "a", "addresses": ["10.64.1.5"]}]
        service = msgspec.json.encode({"addresses": ["10.64.9.1"], "backends": backends, "check": check})
        await node.api.put_service("web", service, who="root", timeout_s=0)
        await node.stop()
        restarted = await started(tmp_path)
        await until(lambda: restarted.announced)
        assert (set(restarted.announced), restarted.synchronised) == ({"10.64.1.5/32"}, 0)
        await until(lambda: restarted.synchronised)
        await restarted.stop()


async def started(state: Path) -> Node:
    node = Node(state, mqtt=False)
    await node.start()
    return node
