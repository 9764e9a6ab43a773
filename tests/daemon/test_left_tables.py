"""What an earlier run had in tables that the new configuration lacks: it goes at the start, as with a reload."""

from __future__ import annotations

import pytest

from labs.namespace import Namespace
from tests.daemon.fabric import Fabric, Host, kernel_routes, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

BLUE = toml("[[vrf]]", name="blue", table=1001, vni=5001)
RED = toml("[[vrf]]", name="red", table=1002, vni=5002)


def traces(namespace: Namespace, table: str) -> list[str]:
    """All of bgpd's that names a table: routes (also the unreachable default), rules, a VRF device."""
    found = []
    for family in ("-4", "-6"):
        routes = namespace.run("ip", "-N", family, "route", "show", "table", table, "proto", "217", check=False)
        found += routes.splitlines()
        rules = namespace.ip("-N", family, "rule", "show").splitlines()
        found += [rule for rule in rules if f"lookup {table}" in rule]
    return found + [line for line in namespace.ip("-d", "link", "show").splitlines() if f"table {table} " in line]


def add(host: Host, vrf: str, address: str, interface: str) -> None:
    host.cli("workload", "add", f"in-{vrf}", "--address", address, "--vrf", vrf, "--interface", interface)


def test_vrf_that_the_new_configuration_lacks_leaves_nothing_in_the_kernel(fabric: Fabric) -> None:
    with started(fabric, API, BLUE, RED) as host:
        host.wait_ready()
        add(host, "blue", "10.66.0.5", "pod1")
        add(host, "red", "10.66.0.6", "pod2")
        host.wait(lambda: "10.66.0.5" in kernel_routes(fabric.host, table="1001"), "the route in blue")
        host.wait(lambda: "10.66.0.6" in kernel_routes(fabric.host, table="1002"), "the route in red")
    assert traces(fabric.host, "1001")
    with started(fabric, API, RED) as host:
        host.wait_ready()
        add(host, "red", "10.66.0.6", "pod2")
        host.wait(lambda: not traces(fabric.host, "1001"), "nothing of table 1001")
        host.wait(lambda: "10.66.0.6" in kernel_routes(fabric.host, table="1002"), "the route in red")
        assert "10.66.0.6" in kernel_routes(fabric.host, table="1002")
    with started(fabric, API) as host:
        host.wait_ready()
        host.wait(lambda: not traces(fabric.host, "1002"), "nothing of table 1002")
        assert "blue" not in fabric.host.ip("link", "show")


def test_another_main_table_takes_the_routes_out_of_the_former_one(fabric: Fabric) -> None:
    with started(fabric, API, toml("[fib]", table=1003)) as host:
        host.wait_ready()
        host.cli("workload", "add", "one", "--address", "10.66.0.7", "--interface", "pod1")
        host.wait(lambda: "10.66.0.7" in kernel_routes(fabric.host, table="1003"), "the route")
    with started(fabric, API) as host:
        host.wait_ready()
        host.wait(lambda: not traces(fabric.host, "1003"), "nothing of table 1003")
