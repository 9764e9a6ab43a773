"""`fib.table` other than main: `[workload.kernel]` follows routes of that table, and none of the main one."""

from __future__ import annotations

import pytest

from tests.daemon.fabric import Fabric, started
from tests.daemon.fabric import table as toml

pytestmark = pytest.mark.netns


def test_kernel_workloads_are_routes_of_the_table_that_bgpd_keeps(fabric: Fabric) -> None:
    fabric.host.ip("route", "add", "10.66.9.1/32", "dev", "pod1", "table", "1004")
    fabric.host.ip("route", "add", "10.66.9.2/32", "dev", "pod1")
    try:
        with started(fabric, toml("[fib]", table=1004), toml("[workload.kernel]", interfaces=["pod*"])) as host:
            host.wait_ready()
            host.wait(lambda: "10.66.9.1/32" in {view["prefix"] for view in host.get("workloads")}, "the first route")
            fabric.host.ip("route", "add", "10.66.9.3/32", "dev", "pod2", "table", "1004")
            host.wait(lambda: "10.66.9.3/32" in {view["prefix"] for view in host.get("workloads")}, "the second route")
            assert "10.66.9.2/32" not in {view["prefix"] for view in host.get("workloads")}
    finally:
        fabric.host.ip("route", "flush", "table", "1004")
        fabric.host.ip("route", "del", "10.66.9.2/32")
