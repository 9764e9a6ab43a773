"""Services inside a VRF: checked by way of the backend's interface, told as type 5, and a backend that moves away."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from labs.daemons import Bgpd, Gobgp
from labs.namespace import Namespace, link
from labs.process import wait_until
from tests.daemon.anycast import ADDRESSES, HTTP
from tests.interop.evpn_fabric import BLUE, EvpnFabric, host_config, vrf
from tests.interop.test_evpn_gobgp import gobgp_config
from tests.interop.test_evpn_gobgp import table as evpn_at

pytestmark = pytest.mark.netns

SERVICE = "10.64.100.1"
TYPE_5 = (5, "", f"{SERVICE}/32")
FIRST, SECOND = (f"{address}%pod{number}" for number, address in enumerate(ADDRESSES, 1))
CHECK = {"type": "http", "port": HTTP, "path": "/health", "interval_s": 0.2, "timeout_s": 0.2, "rise": 1, "fall": 2}


@pytest.fixture(scope="module")
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        yield made


@pytest.fixture(scope="module")
def gobgp(fabric: EvpnFabric) -> Iterator[Gobgp]:
    with Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn")) as made:
        yield made


class Tenant:
    """pod1 and pod2 of VRF blue, in a namespace; in the main table their addresses are others', which do not answer."""

    def __init__(self, fabric: EvpnFabric, namespace: Namespace) -> None:
        self.namespace = namespace
        self.directory = namespace.make_directory("anycast")
        for number, address in enumerate(ADDRESSES, 1):
            link(fabric.hosts[1], f"pod{number}", namespace, f"pod{number}")
            link(fabric.hosts[1], f"main{number}", fabric.ends, f"main{number}")
            namespace.batch(
                f"addr add {address}/32 dev lo",
                f"route add default dev pod{number} table {number}",
                f"rule add from {address} lookup {number}",
            )
            fabric.hosts[1].ip("route", "add", f"{address}/32", "dev", f"main{number}")
        namespace.ip("link", "set", "lo", "up")
        log = self.directory / "log"
        namespace.popen(sys.executable, "-m", "tests.daemon.anycast", str(self.directory), log_path=log)

    def set(self, number: int, status: int) -> None:
        """What pod 1 or 2 answers to a check."""
        path = self.directory / ADDRESSES[number - 1]
        path.with_suffix(".new").write_text(str(status))
        path.with_suffix(".new").replace(path)


@pytest.fixture(scope="module")
def tenant(fabric: EvpnFabric) -> Iterator[Tenant]:
    with Namespace("tenant", prefix="x") as namespace:
        yield Tenant(fabric, namespace)


class Host:
    """bgpd on host1 with VRF blue, its two pods, and the service over them."""

    def __init__(self, fabric: EvpnFabric, bgpd: Bgpd, gobgp: Gobgp, directory: Path) -> None:
        self.namespace = fabric.hosts[1]
        self.bgpd = bgpd
        self._gobgp = gobgp
        self._file = directory / "service.json"

    def add_pods(self) -> None:
        for number, address in enumerate(ADDRESSES, 1):
            mac = f"02:00:00:00:02:0{number}"
            words = ["--address", address, "--interface", f"pod{number}", "--vrf", "blue", "--mac", mac]
            self.bgpd.cli("workload", "add", f"pod{number}", *words)

    def offer(self, **fields: Any) -> str:
        backends = [{"id": f"pod{n}", "addresses": [address]} for n, address in enumerate(ADDRESSES, 1)]
        service = {"addresses": [SERVICE], "vrf": "blue", "backends": backends, "check": CHECK, **fields}
        self._file.write_text(json.dumps(service))
        return self.bgpd.cli("service", "add", "web", str(self._file))

    @property
    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = self.bgpd.show("services")[0]
        return found

    def group(self, table: int = 1001) -> dict[str, Any]:
        """The nexthop group of the service's route in a kernel table."""
        rows = json.loads(self.namespace.ip("-j", "route", "show", "table", str(table), SERVICE) or "[]")
        if not rows:
            return {}
        id = str(rows[0]["nhid"])
        found: dict[str, Any] = json.loads(self.namespace.ip("-j", "-d", "nexthop", "show", "id", id))[0]
        return found

    def hops(self, table: int = 1001) -> list[str]:
        objects = {one["id"]: one for one in json.loads(self.namespace.ip("-j", "nexthop", "show") or "[]")}
        members = [objects[member["id"]] for member in self.group(table).get("group", ()) if member["id"] in objects]
        return sorted(f"{one['gateway']}%{one['dev']}" for one in members)

    def wait(self, predicate: Callable[[], object], what: str) -> None:
        wait_until(predicate, 20, what, logs=self.bgpd.logs, interval_s=0.05)

    def wait_hops(self, *hops: str, table: int = 1001) -> None:
        self.wait(lambda: self.hops(table) == sorted(hops), f"the service by {hops} in table {table}")

    def wait_heard(self, heard: bool = True) -> None:
        self.wait(lambda: (TYPE_5 in evpn_at(self._gobgp, "10.0.1.1")) is heard, f"the leaf to hear it: {heard}")


@pytest.fixture
def host(fabric: EvpnFabric, gobgp: Gobgp, tenant: Tenant, tmp_path: Path) -> Iterator[Host]:
    for number in (1, 2):
        tenant.set(number, 200)
    with fabric.bgpd(1, host_config(1, vrf())) as bgpd:
        host = Host(fabric, bgpd, gobgp, tmp_path)
        host.add_pods()
        yield host


def test_backends_are_checked_in_the_vrf_and_the_address_is_a_type_5_route_while_enough_are_healthy(
    host: Host, tenant: Tenant
) -> None:
    assert host.offer().startswith("web announced")
    host.wait_heard()
    host.wait_hops(FIRST, SECOND)
    assert host.namespace.ip("route", "show", SERVICE) == "", "nothing of it in the main table"
    tenant.set(1, 503)
    host.wait_hops(SECOND)
    assert [(one["state"], one["reason"]) for one in host.view["backends"]] == [
        ("unhealthy", "HTTP status 503"),
        ("healthy", ""),
    ]
    tenant.set(2, 503)
    host.wait_heard(False)
    assert "0 of at least 1 backends are healthy" in host.view["reason"]
    tenant.set(2, 200)
    host.wait_heard()
    host.wait_hops(SECOND)


def test_service_of_a_vrf_is_there_again_after_a_crash_with_its_flows_group_untouched(
    host: Host, tenant: Tenant
) -> None:
    host.offer(resilient=True)
    host.wait_hops(FIRST, SECOND)
    before = host.group()
    host.bgpd.kill()
    host.bgpd.start()
    host.wait(lambda: host.view["announced"], "the service to be announced again")
    host.wait_heard()
    assert host.group() == before


def test_backend_that_moved_to_another_host_is_none_until_it_is_back(host: Host, gobgp: Gobgp) -> None:
    def elsewhere(do: str) -> None:
        words = ["macadv", "02:00:00:00:02:01", ADDRESSES[0], "etag", "0", "label", "5001", "rd", "10.255.0.5:1001"]
        gobgp.run("global", "rib", do, "-a", "evpn", *words, "rt", BLUE)

    def state() -> str:
        return str(next(view["state"] for view in host.bgpd.show("workloads") if view["id"] == "pod1"))

    host.offer()
    host.wait_hops(FIRST, SECOND)
    elsewhere("add")
    host.wait(lambda: state() == "moved", "pod1 to be given up")
    host.wait_hops(SECOND)
    (first, second) = host.view["backends"]
    assert first["reason"] == f"no announced workload on an interface of this host has {ADDRESSES[0]}"
    assert second["state"] == "healthy"
    elsewhere("del")
    host.wait(lambda: state() == "announced", "pod1 to be taken back")
    host.wait_hops(FIRST, SECOND)


def test_drained_host_withdraws_the_type_5_route_of_a_service_and_lowers_all_else(host: Host, gobgp: Gobgp) -> None:
    def told() -> dict[tuple[Any, ...], bool]:
        """Each route of host1 at the leaf: whether it has GRACEFUL_SHUTDOWN."""
        found = {}
        answer = gobgp.json("global", "rib", "-a", "evpn")
        for path in (path for route in answer.values() for path in route if path.get("neighbor-ip") == "10.0.1.1"):
            value = path["nlri"]["value"]
            communities = next((one["communities"] for one in path["attrs"] if one["type"] == 8), [])
            place = (path["nlri"]["type"], value.get("mac", ""), value.get("ip", value.get("prefix", "")))
            found[place] = COMMUNITY_GRACEFUL_SHUTDOWN in communities
        return found

    host.offer()
    host.wait_heard()
    before = told()
    assert not any(before.values())
    host.bgpd.write_config(host_config(1, vrf(), "[drain]\nsettle_s = 1\n"))
    host.bgpd.cli("reload")
    host.bgpd.cli("drain", "on", "--force")
    host.wait(lambda: all(told().values()), "all routes to be lowered")
    assert told().keys() == before.keys()
    host.wait_heard(False)
    assert told().keys() == before.keys() - {TYPE_5}
    host.wait(lambda: json.loads(host.bgpd.cli("drain", "status", "--json"))["state"] == "drained", "it to be drained")
    counted = json.loads(host.bgpd.cli("drain", "status", "--json"))["counters"]
    assert [(one["kind"], one["of"]) for one in counted] == [("nexthop-group", [f"service {SERVICE}/32 in VRF blue"])]
    host.bgpd.cli("drain", "off")
    host.wait(lambda: told() == before, "all as before")


def test_vrf_that_changes_its_table_or_goes_and_comes_takes_its_service_along(host: Host) -> None:
    host.offer()
    host.wait_hops(FIRST, SECOND)
    host.bgpd.write_config(host_config(1, vrf().replace("1001", "1004")))
    host.bgpd.cli("reload")
    host.wait_hops(FIRST, SECOND, table=1004)
    host.wait_heard()
    host.bgpd.write_config(host_config(1))
    host.bgpd.cli("reload")
    host.wait_heard(False)
    host.bgpd.write_config(host_config(1, vrf()))
    host.bgpd.cli("reload")
    host.wait_hops(FIRST, SECOND)
    host.wait_heard()


def test_address_in_a_vrf_is_asked_by_its_backends_also_when_the_vrf_s_table_leads_elsewhere(
    host: Host, tenant: Tenant, gobgp: Gobgp, fabric: EvpnFabric
) -> None:
    listen = f"import socket, time; s = socket.create_server(('{SERVICE}', 7000)); time.sleep(600)"
    tenant.namespace.batch(f"addr add {SERVICE}/32 dev lo", f"rule add from {SERVICE} lookup 1")
    filters = {f"net.ipv4.conf.{interface}.rp_filter": "1" for interface in ("all", "pod1", "pod2")}
    host.namespace.set_sysctls(filters)
    server = tenant.namespace.popen(sys.executable, "-c", listen, log_path=tenant.directory / "vip")
    probe = {"type": "tcp", "port": 7000, "interval_s": 0.2, "timeout_s": 0.2, "rise": 1, "fall": 2}
    try:
        host.offer(check=None, probe=probe)
        host.wait_heard()
        assert [one["state"] for one in host.view["probes"]] == ["healthy"]
        server.stop()
        host.wait_heard(False)
        assert "Connection refused" in host.view["reason"]
        assert host.namespace.ip("route", "show", "table", "2170002", SERVICE) != "", "the VRF's probes have a table"
        server = tenant.namespace.popen(sys.executable, "-c", listen, log_path=tenant.directory / "vip")
        host.wait_heard()
    finally:
        server.stop()
        host.namespace.set_sysctls(dict.fromkeys(filters, "0"))
        tenant.namespace.batch(f"addr del {SERVICE}/32 dev lo", f"rule del from {SERVICE} lookup 1")
