"""What goes wrong around the daemon: each gets a clear error, and costs nothing that it does not have to."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, leaf, started, table

pytestmark = pytest.mark.netns

EX_CONFIG = 78


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf2: Frr) -> Iterator[Host]:
    with started(fabric, leaf(2)) as host:
        host.wait_established("leaf2")
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        yield host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[router", "is not valid TOML"),
        (config(leaf(1, colour="red")), 'unknown key "colour"'),
        (config(leaf(1, asn=[1])), "neighbor[0].asn"),
        (config(table("[[aggregate]]", prefix="10.0.0.1/8")), "10.0.0.1/8"),
        (config(leaf(1), leaf(1)), "already the name"),
        ("", "router"),
    ],
    ids=["bad TOML", "unknown key", "wrong type", "bad prefix", "duplicate neighbor", "empty"],
)
def test_bad_configuration_ends_the_start_and_tells_where(fabric: Fabric, text: str, said: str) -> None:
    with Host(fabric.host, text, wait=False) as host:
        assert host.processes[0].wait(10) == EX_CONFIG
        log = host.log_path.read_text()
        assert said in log
        assert log.startswith(f"{host.config_path}:")
        assert log.splitlines()[-1] in (f"{host.config_path}: 1 error", f"{host.config_path}: 2 errors")


def test_no_configuration_file(fabric: Fabric, tmp_path: Path) -> None:
    process = fabric.host.popen(
        sys.executable, "-m", "bgpd", "run", "--config", str(tmp_path / "no.toml"), log_path=tmp_path / "log"
    )
    assert process.wait(10) == EX_CONFIG
    assert "no.toml: cannot be read: No such file or directory" in process.log_path.read_text()


def test_port_179_in_use_is_told_and_costs_no_session(fabric: Fabric, leaf2: Frr) -> None:
    with fabric.host.entered():
        taken = socket.create_server(("", 179), family=socket.AF_INET6, dualstack_ipv6=True)
    with started(fabric, leaf(2)) as host:
        with taken:
            host.wait_established("leaf2")
            host.wait_ready()
            (warning,) = host.health()["warnings"]
            assert "179" in warning
            assert len(host.log("listen.failed")) == 1
        host.wait(lambda: not host.health()["warnings"], "the port to be taken", timeout_s=30)
        assert host.log("listen.recovered")


def test_password_file_that_is_missing_at_the_start_costs_that_neighbor_only(
    fabric: Fabric, leaf2: Frr, tmp_path: Path
) -> None:
    missing = tmp_path / "leaf1.key"
    with started(fabric, leaf(1, password_file=str(missing)), leaf(2)) as host:
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        assert f'neighbor[0].password_file: "{missing}" cannot be read' in host.log_path.read_text()
        assert str(missing) in host.neighbor("leaf1")["last_error"]
        assert host.cli("check", str(host.config_path), check=False) == ""


def test_password_file_that_is_lost_keeps_that_neighbor_down(fabric: Fabric, leaf2: Frr, tmp_path: Path) -> None:
    password = tmp_path / "leaf1.key"
    password.write_text("secret\n")
    with started(fabric, leaf(1, password_file=str(password)), leaf(2)) as host:
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        password.unlink()
        host.wait(lambda: "No such file" in host.neighbor("leaf1")["last_error"], "the reason")
        assert str(password) in host.neighbor("leaf1")["last_error"]
        before = host.get("config")
        host.cli("reload", check=False)
        assert host.get("config") == before
        assert host.established() == ["leaf2"]


def test_reload_with_a_password_file_that_cannot_be_read_keeps_the_session(
    fabric: Fabric, leaf2: Frr, tmp_path: Path
) -> None:
    with started(fabric, leaf(2)) as host:
        host.wait_established("leaf2")
        before = host.get("config")
        host.write_config(config(leaf(2, password_file=str(tmp_path / "missing")), leaf(1)))
        (problem,) = json.loads(host.cli("reload", "--json", check=False))["problems"]
        assert "its sessions would have to begin anew with it" in problem
        assert host.get("config") == before
        host.write_config(config(leaf(2), leaf(1, password_file=str(tmp_path / "missing"))))
        host.cli("reload")
        assert host.neighbor("leaf2")["established_count"] == 1
        assert "No such file" in host.neighbor("leaf1")["last_error"]


def test_interface_that_does_not_exist_is_named_with_those_that_do(fabric: Fabric, leaf2: Frr) -> None:
    with started(fabric, leaf(2), leaf(1, address="", interface="eth9")) as host:
        host.wait(lambda: "no interface eth9" in host.neighbor("leaf1")["last_error"], "the reason")
        assert "this host has eth" in host.neighbor("leaf1")["last_error"]
        host.wait_established("leaf2")
        assert "there is no interface eth9 now" in host.log_path.read_text()


def test_second_daemon_on_the_same_socket_gives_way(fabric: Fabric, host: Host) -> None:
    text = config(leaf(1), leaf(2), table("[api]", socket=str(host.socket_path)))
    second = Host(fabric.host, text, wait=False)
    try:
        assert second.processes[0].wait(10) == 1
        assert f"bgpd is already running: it answers on {host.socket_path}" in second.log_path.read_text()
    finally:
        second.stop()
    assert "leaf2" in host.established()
    assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.2.2%eth1"]


def test_socket_in_a_directory_that_is_missing(fabric: Fabric) -> None:
    with fabric_free(fabric, table("[api]", socket="/tmp/no/such/place/bgpd.sock")) as host:
        assert host.processes[0].wait(10) == 1
        assert "there is no directory /tmp/no/such/place" in host.log_path.read_text()


def test_metrics_port_in_use(fabric: Fabric) -> None:
    with fabric.host.entered():
        taken = socket.create_server(("127.0.0.1", 9179))
    with taken, fabric_free(fabric, "") as probe:
        probe.terminate()
        probe.write_config(config(table("[api]", socket=str(probe.socket_path), listen="127.0.0.1:9179")))
        probe.start(wait=False)
        assert probe.processes[-1].wait(10) == 1
        assert "api.listen 127.0.0.1:9179" in probe.log_path.read_text()
        assert not probe.socket_path.exists()


def fabric_free(fabric: Fabric, *tables: str) -> Host:
    """A daemon without neighbors, which leaves the module's daemon and the kernel alone."""
    return Bystander(fabric.host, config(*tables, table("[fib]", protocol=198)), wait=False)


class Bystander(Host):
    """A second daemon beside the module's one; its end leaves the kernel alone."""

    def __exit__(self, *exception: object) -> None:
        self.stop()


def test_without_cap_net_admin_it_says_so_and_ends(fabric: Fabric) -> None:
    with fabric_free(fabric, "") as host:
        host.terminate()
        command = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        host._start(*command, sys.executable, "-m", "bgpd", "run", "--config", str(host.config_path))
        assert host.processes[-1].wait(10) == 1
        assert "CAP_NET_ADMIN" in host.log_path.read_text()
        assert not host.socket_path.exists()


def test_nonsense_on_the_api_socket_is_answered(host: Host) -> None:
    for sent, refused in (
        (b"\x80" + os.urandom(3000) + b"\r\n\r\n", b"400"),
        (b"GET /v1/neighbors HTTP/9.9\r\n\r\n", b"505"),
        (b"POST /v1/reload HTTP/1.1\r\nContent-Length: z\r\n\r\n", b"400"),
    ):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(host.socket_path))
            client.sendall(sent)
            assert client.recv(4096).startswith(b"HTTP/1.1 " + refused)
    for target, status in (
        ("/v1/nonsense", 404),
        ("/v1/routes?prefix=10.0.0.0/99", 400),
        ("/v1/routes?colour=red", 400),
        ("/v1/routes?limit=-1", 400),
        ("/v1/explain/10.0.0.1?vrf=nowhere", 404),
        ("/nothing", 404),
    ):
        assert host.request(target)[0] == status, target
    assert "leaf2" in host.established()
