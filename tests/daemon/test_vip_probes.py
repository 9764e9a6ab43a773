"""Services with a probe: announced only while their own addresses answer here, whoever else announces them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.namespace import Namespace
from tests.daemon.fabric import Fabric, Host, announce, heard_from_host, kernel_hops, kernel_routes, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API
from tests.daemon.managed import managed
from tests.daemon.vip import ADDRESSES, DNS, HTTP

pytestmark = pytest.mark.netns

VIP4, VIP6 = ADDRESSES
POD, LEAF = "pod1", "eth0"
PROBES: dict[str, dict[str, Any]] = {
    "http": {"port": HTTP, "path": "/health"},
    "dns": {"port": DNS, "query": "www.example.org"},
    "tcp": {"port": HTTP},
    "exec": {"command": "ask"},
}
FAST = {"interval_s": 0.1, "timeout_s": 0.1, "rise": 2, "fall": 2}
TABLE = "2170001"
SOURCES = ("169.254.62.1", "fd62:6770:6470::1")
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read().decode())"


PROGRAM = f"""#!{sys.executable}
import sys, urllib.request
host = f"[{{sys.argv[1]}}]" if ":" in sys.argv[1] else sys.argv[1]
urllib.request.urlopen(f"http://{{host}}:{HTTP}/health", timeout=1)
"""


class Site:
    """What answers at the service's addresses: `here` in the pod, `elsewhere` behind the leaf."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.directory = namespace.make_directory(name)
        self.set(200)
        (self.directory / "asked").touch()
        log = self.directory / "log"
        namespace.popen(sys.executable, "-m", "tests.daemon.vip", str(self.directory), name, log_path=log)

    def set(self, status: int) -> None:
        new = self.directory / "new"
        new.write_text(str(status))
        new.replace(self.directory / "status")

    def asked(self) -> list[str]:
        """Where the requests of its health came from."""
        return (self.directory / "asked").read_text().split()


@pytest.fixture(scope="module")
def here(fabric: Fabric) -> Site:
    """The pod, with the reverse path filter of the host as strict as it can be."""
    for namespace in (fabric.pods, fabric.leaf1):
        namespace.batch(*(f"addr add {vip}/{128 if ':' in vip else 32} dev lo" for vip in ADDRESSES))
    fabric.pods.batch(
        "addr add 10.64.1.1/32 dev lo",
        "addr add 2001:db8:64::1/128 dev pod1",
        "route add default dev pod1",
        "route add ::/0 via fe80::1 dev pod1",
    )
    fabric.host.ip("addr", "add", "fe80::1/64", "dev", "pod1")
    filters = {f"net.ipv4.conf.{interface}.rp_filter": "1" for interface in ("all", "pod1", "eth0")}
    fabric.host.set_sysctls({**filters, "net.ipv4.conf.pod1.proxy_arp": "1"})
    return Site(fabric.pods, "here")


@pytest.fixture(scope="module")
def elsewhere(fabric: Fabric, here: Site) -> Site:
    return Site(fabric.leaf1, "elsewhere")


@pytest.fixture(scope="module")
def commands(fabric: Fabric, here: Site) -> Path:
    """A program that asks the address itself."""
    directory = fabric.host.make_directory("commands")
    script = directory / "ask"
    script.write_text(PROGRAM)
    script.chmod(0o755)
    return directory


@pytest.fixture
def host(fabric: Fabric, frr: Frr, here: Site, elsewhere: Site, commands: Path) -> Iterator[Host]:
    here.set(200)
    health = toml("[workload.health]", command_directory=str(commands))
    with started(fabric, leaf(1), API, health) as host:
        host.wait_ready()
        addresses = ["--address", "10.64.1.1", "--address", "2001:db8:64::1"]
        host.cli("workload", "add", "pod1", *addresses, "--interface", "pod1")
        yield host


def offer(host: Host, directory: Path, kind: str = "http", name: str = "web", **fields: Any) -> None:
    backends = [{"id": "pod1", "addresses": ["10.64.1.1", "2001:db8:64::1"]}]
    service = {
        "addresses": list(ADDRESSES),
        "backends": backends,
        "probe": {"type": kind, **FAST, **PROBES[kind]},
        **fields,
    }
    file = directory / "service.json"
    file.write_text(json.dumps(service))
    host.cli("service", "add", name, str(file), "--timeout", "0", check=False)


def view(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.get("services")[0]
    return found


def states(host: Host) -> list[str]:
    return [one["state"] for one in view(host)["probes"]]


def wait_announced(host: Host, frr: Frr, announced: bool = True) -> None:
    for prefix in (f"{VIP4}/32", f"{VIP6}/128"):
        host.wait(
            lambda prefix=prefix: heard_from_host(frr, prefix) is announced, f"the leaf to hear {prefix}: {announced}"
        )


def wait_by(host: Host, interface: str, *vips: str) -> None:
    """Wait until the kernel forwards these addresses, or both, out of an interface."""
    for vip in vips or ADDRESSES:
        prefix = f"{vip}/{128 if ':' in vip else 32}"
        host.wait(
            lambda prefix=prefix: [hop.partition("%")[2] for hop in kernel_hops(host.namespace, prefix)] == [interface],
            f"{vip} by {interface}",
        )


def who_answers(fabric: Fabric, vip: str) -> str:
    """Who answers a client on the host."""
    where = f"[{vip}]" if ":" in vip else vip
    return fabric.host.run(sys.executable, "-c", ASK, f"http://{where}:{HTTP}/").strip()


def test_an_address_is_announced_while_it_answers_here_and_the_fabric_s_route_takes_its_place(
    fabric: Fabric, host: Host, frr: Frr, here: Site, elsewhere: Site, tmp_path: Path
) -> None:
    here.set(503)
    offer(host, tmp_path)
    host.wait(lambda: states(host) == ["unhealthy"] * 2, "the probes to fail")
    assert "the probe of 10.64.100.1: HTTP status 503" in view(host)["reason"]
    wait_by(host, POD)
    wait_announced(host, frr, announced=False)

    here.set(200)
    wait_announced(host, frr)
    assert view(host)["announced"]
    assert {source.removeprefix("::ffff:") for source in here.asked()} == set(SOURCES)

    announce(frr, f"{VIP4}/32", f"{VIP6}/128")
    host.wait(lambda: len(host.get("routes", prefix=f"{VIP4}/32")[0]["candidates"]) == 2, "the leaf's route")
    wait_by(host, POD)

    here.set(503)
    wait_announced(host, frr, announced=False)
    wait_by(host, LEAF)
    assert [who_answers(fabric, vip) for vip in ADDRESSES] == ["elsewhere", "elsewhere"]
    before = len(here.asked())
    host.wait(lambda: len(here.asked()) > before + 20, "the pod to be asked on")
    assert states(host) == ["unhealthy"] * 2
    assert elsewhere.asked() == []
    assert not view(host)["announced"]
    verdict = host.explain(VIP4)["verdict"]
    assert verdict.startswith("forwarded by 10.64.100.1/32 to 10.0.1.2%eth0, as said by leaf1"), verdict
    assert "service web of this host is not announced" in verdict
    assert host.explain(VIP4)["agrees"]

    announce(frr, f"{VIP6}/128", withdraw=True)
    wait_by(host, LEAF, VIP4)
    wait_by(host, POD, VIP6)
    here.set(200)
    wait_announced(host, frr)
    wait_by(host, POD)
    assert [who_answers(fabric, vip) for vip in ADDRESSES] == ["here", "here"]
    announce(frr, f"{VIP4}/32", withdraw=True)


def test_one_of_two_services_with_one_address_may_go(
    fabric: Fabric, host: Host, frr: Frr, here: Site, elsewhere: Site, tmp_path: Path
) -> None:
    """The old and the new one of a deployment; the new one is asked on when the fabric's route has taken its place."""
    offer(host, tmp_path, addresses=[VIP4])
    host.wait(lambda: heard_from_host(frr, f"{VIP4}/32"), "the leaf to hear it")
    offer(host, tmp_path, name="web-new", addresses=[VIP4])
    both = ["healthy"] * 2
    host.wait(lambda: [one["probes"][0]["state"] for one in host.get("services")] == both, "both to answer")
    host.cli("service", "del", "web")
    host.wait(lambda: len(host.get("services")) == 1 and view(host)["announced"], "the new one to be announced")
    announce(frr, f"{VIP4}/32")
    here.set(503)
    wait_by(host, LEAF, VIP4)
    here.set(200)
    host.wait(lambda: view(host)["announced"], "it to answer again")
    wait_by(host, POD, VIP4)
    announce(frr, f"{VIP4}/32", withdraw=True)


@pytest.mark.parametrize("kind", ["dns", "tcp", "exec"])
def test_other_ways_to_ask(
    fabric: Fabric, host: Host, frr: Frr, here: Site, elsewhere: Site, tmp_path: Path, kind: str
) -> None:
    slow = {"interval_s": 1, "timeout_s": 1} if kind == "exec" else {}
    offer(host, tmp_path, probe={"type": kind, **FAST, **slow, **PROBES[kind]})
    wait_announced(host, frr)
    assert states(host) == ["healthy"] * 2
    if kind != "tcp":
        here.set(500)
        wait_announced(host, frr, announced=False)
        here.set(200)
        wait_announced(host, frr)
    host.cli("service", "del", "web")
    wait_announced(host, frr, announced=False)
    host.wait(lambda: VIP4 not in kernel_routes(fabric.host, table=TABLE), "the probe's route to go")


def rules(fabric: Fabric) -> list[str]:
    """The policy rules that lead to the table of probes."""
    lines = [line for family in ("-4", "-6") for line in fabric.host.ip(family, "rule", "show").splitlines()]
    return sorted(line.partition(":")[2].strip() for line in lines if TABLE in line)


def test_what_others_remove_is_there_again_and_nothing_is_withdrawn_by_that_nor_by_an_upgrade(
    fabric: Fabric, frr: Frr, here: Site, elsewhere: Site, tmp_path: Path
) -> None:
    here.set(200)
    with managed(fabric, leaf(1), API) as host:
        host.wait_ready()
        addresses = ["--address", "10.64.1.1", "--address", "2001:db8:64::1"]
        host.cli("workload", "add", "pod1", *addresses, "--interface", "pod1")
        offer(host, tmp_path, probe={"type": "http", **PROBES["http"], "interval_s": 0.5, "timeout_s": 0.5})
        wait_announced(host, frr)
        found = rules(fabric)
        assert len(found) == 4
        for family in ("-4", "-6"):
            fabric.host.ip(family, "route", "flush", "table", TABLE)
            for _ in range(2):
                fabric.host.ip(family, "rule", "del", "priority", "990")
        host.wait(lambda: rules(fabric) == found, "the rules again")
        host.wait(lambda: VIP4 in kernel_routes(fabric.host, table=TABLE), "the route again")
        host.wait(lambda: VIP6 in kernel_routes(fabric.host, ipv6=True, table=TABLE), "the IPv6 route again")

        host.hand_over()
        assert states(host) == ["healthy"] * 2
        asked = len(here.asked())
        host.wait(lambda: len(here.asked()) > asked + 4, "the next process to ask")
        assert view(host)["announced"]
        assert not host.log("workload.withdrawn")
        assert len(host.log("service.address_answers")) == 2

        host.kill()
        host.start()
        host.wait_ready()
        wait_announced(host, frr)
        assert not host.log("service.address_fails")
        host.terminate()
        assert len(rules(fabric)) == 4, "all stays in the kernel"
        fabric.host.run(sys.executable, "-m", "bgpd", "flush", "--config", str(host.config_path))
        assert rules(fabric) == []
        for family in ("-4", "-6"):
            assert fabric.host.ip(family, "route", "show", "table", "all", "proto", "217") == ""


def test_address_that_hangs_is_withdrawn_and_a_service_may_go_while_it_is_asked(
    fabric: Fabric, host: Host, frr: Frr, here: Site, tmp_path: Path
) -> None:
    """A backend that takes connections and is silent, for longer than the service lasts."""
    silent = fabric.pods.popen(
        *(sys.executable, "-c", "import socket, time; s = socket.create_server(('', 7000)); time.sleep(600)"),
        log_path=tmp_path / "silent",
    )
    slow = {"type": "http", "port": 7000, "interval_s": 0.5, "timeout_s": 0.5, "rise": 1, "fall": 1}
    offer(host, tmp_path, addresses=[VIP4], probe=slow)
    host.wait(lambda: "no answer in 0.5 s" in str(view(host)["probes"][0]["reason"]), "the reason")
    assert not view(host)["announced"]
    assert f"the probe of {VIP4}: no answer in 0.5 s" in host.explain(VIP4)["workload"]["reason"]
    assert "no answer in 0.5 s" in host.cli("show", "services")
    assert host.metric("bgpd_service_probes", state="unhealthy") == 1
    offer(host, tmp_path, addresses=[VIP4], probe={**slow, "interval_s": 30, "timeout_s": 30})
    host.wait(lambda: view(host)["probes"][0]["state"] == "unknown", "the other probe")
    host.cli("service", "del", "web")
    host.wait(lambda: not host.get("services"), "the service to go")
    silent.stop()
