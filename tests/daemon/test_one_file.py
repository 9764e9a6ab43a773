"""One file for all hosts: variables, fragments and automatic numbers in a running daemon; its session stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, kernel_hops, leaf, table
from tests.daemon.wire_peer import KEEPALIVE, WirePeer, message, notification, open_message

pytestmark = pytest.mark.netns

LOOPBACK = "10.255.1.1"
ROUTER = table("[router]", asn="${env:BGPD_TEST_ASN}", router_id="${loopback4}", hostname="${env:BGPD_TEST_NODE}-host")
HOPS = ["10.0.1.2%eth0"]
PREFIX = "10.9.0.0/16"


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGPD_TEST_ASN", "65203")
        patch.setenv("BGPD_TEST_NODE", "host1")
        yield


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    """It starts before it has its loopback address, as a host that boots does."""
    with Host(fabric.host, ROUTER, wait=False) as host:
        fragment(host, "10-leaf1.toml", leaf(1))
        host.wait(lambda: "waiting for a loopback address" in host.log_path.read_text(), "bgpd to wait")
        fabric.host.ip("address", "add", f"{LOOPBACK}/32", "dev", "lo")
        host.wait(lambda: host.established() == ["leaf1"], "the session", timeout_s=30)
        host.wait_hops(PREFIX, *HOPS)
        yield host


def fragment(host: Host, name: str, text: str) -> None:
    directory = host.directory / "conf.d"
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)


def bgpd(host: Host, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, in the namespace of the host."""
    command = ["ip", "netns", "exec", host.namespace.name, sys.executable, "-m", "bgpd", *arguments]
    given = {**os.environ, "BGPD_SOCKET": str(host.socket_path), **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=60)


def reload(host: Host) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = json.loads(host.cli("reload", "--json", check=False))
    return answer


def unharmed(host: Host) -> bool:
    neighbor = host.neighbor("leaf1")
    return (neighbor["state"], neighbor["established_count"]) == ("established", 1) and kernel_hops(
        host.namespace, PREFIX
    ) == HOPS


def test_the_values_in_force_and_where_they_come_from_are_shown(host: Host) -> None:
    configuration = host.health()["configuration"]
    assert configuration["variables"] == {
        "env:BGPD_TEST_ASN": "65203",
        "env:BGPD_TEST_NODE": "host1",
        "loopback4": LOOPBACK,
    }
    assert configuration["files"] == [str(host.config_path), str(host.directory / "conf.d/10-leaf1.toml")]
    router = host.get("config")["router"]
    assert (router["asn"], router["router_id"], router["hostname"]) == (65203, LOOPBACK, "host1-host")
    said = host.cli("status")
    assert f"  with {host.directory}/conf.d/10-leaf1.toml\n" in said
    assert f"${{loopback4}} is {LOOPBACK}\n" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("20.toml", "[fib\n", "/conf.d/20.toml:1: is not valid TOML"),
        ("20.toml", leaf(1), '/conf.d/20.toml:2: neighbor[1].name: "leaf1" is already the name of neighbor[0] ('),
        ("20.toml", "[router]\n\nasn = 1\n", "/conf.d/20.toml:3: router.asn: is already in "),
        ("20.toml", leaf(2, name="${env:BGPD_NO_SUCH}"), "no variable BGPD_NO_SUCH"),
        ("20.toml", leaf(2, name="${"), 'has "${" without "}"'),
        ("20.toml", "\0", "/conf.d/20.toml:1: is not valid TOML"),
        ("20.toml", '[fib]\nprotect = ["${loopback6}/128"]\n', "this host has no IPv6 loopback address"),
    ],
)
def test_a_fragment_with_an_error_changes_nothing(host: Host, name: str, text: str, said: str) -> None:
    fragment(host, name, text)
    try:
        answer = reload(host)
        assert any(said in problem for problem in answer["problems"]), answer
        assert answer["changes"] == []
        assert unharmed(host)
    finally:
        (host.directory / "conf.d" / name).unlink()
    assert reload(host)["changes"] == []


def test_fragments_come_and_go_and_plan_says_so_in_a_shell_without_the_variables(host: Host) -> None:
    fragment(host, "20-leaf2.toml", leaf(2, name="leaf-${env:BGPD_TEST_ASN}"))
    command = ["env", "-u", "BGPD_TEST_ASN", "-u", "BGPD_TEST_NODE", f"BGPD_SOCKET={host.socket_path}"]
    command += [sys.executable, "-m", "bgpd", "plan", str(host.config_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [["no-op", "neighbor.leaf-65203"]]
    assert [change["path"] for change in reload(host)["changes"]] == ["neighbor.leaf-65203"]  # type: ignore[index]
    assert [file.rpartition("/")[2] for file in host.health()["configuration"]["files"]] == [
        "bgpd.toml",
        "10-leaf1.toml",
        "20-leaf2.toml",
    ]
    (host.directory / "conf.d" / "20-leaf2.toml").unlink()
    assert [change["change"] for change in reload(host)["changes"]] == ["removed"]  # type: ignore[index]
    assert unharmed(host)


def test_check_says_what_is_missing_on_another_machine_and_takes_it_by_hand(host: Host) -> None:
    command = ["env", "-u", "BGPD_TEST_ASN", "unshare", "-n", sys.executable, "-m", "bgpd", "check"]
    file = str(host.config_path)
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--set env:BGPD_TEST_ASN=VALUE" in done.stderr
    assert "--set loopback4=ADDRESS" in done.stderr
    given = ("--set", "env:BGPD_TEST_ASN=65299", "--set", "loopback4=10.255.1.99")
    done = subprocess.run([*command, file, *given], capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: good (with 1 file of conf.d)\n"
    done = subprocess.run([*command, file, "--set", "loopback5=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--set NAME=VALUE" in done.stderr


def test_a_start_without_a_variable_ends_for_good(host: Host) -> None:
    command = ["env", "-u", "BGPD_TEST_ASN", "ip", "netns", "exec", host.namespace.name]
    command += [sys.executable, "-m", "bgpd", "run", "--config", str(host.config_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert f"{host.config_path}:2: router.asn: the environment has no variable BGPD_TEST_ASN" in done.stderr
    assert unharmed(host)


def test_a_loopback_that_goes_away_costs_nothing_until_it_is_another_one(host: Host) -> None:
    host.namespace.ip("address", "del", f"{LOOPBACK}/32", "dev", "lo")
    try:
        assert "no IPv4 loopback address" in reload(host)["problems"][0]
        assert unharmed(host)
        host.namespace.ip("address", "add", "10.255.1.2/32", "dev", "lo")
        said = bgpd(host, "plan", str(host.config_path)).stdout.splitlines()[1:]
        assert [line.split()[:2] for line in said] == [["reset", "router.router_id"]]
        assert unharmed(host)
    finally:
        host.namespace.ip("address", "flush", "dev", "lo", "scope", "global")
        host.namespace.ip("address", "add", f"{LOOPBACK}/32", "dev", "lo")
    began = time.time()
    assert reload(host)["changes"] == []
    assert host.health()["configuration"]["at"] >= began
    assert unharmed(host)


def test_numbers_of_its_own_stay_whatever_becomes_of_what_they_were_made_from(fabric: Fabric) -> None:
    lo = ("dev", "lo")
    router = table("[router]", asn="auto", router_id="auto", asn_range="64512-65534")
    fabric.pods.ip("address", "add", "10.255.7.1/32", *lo)
    with Host(fabric.pods, router) as host:
        first = host.get("config")["router"]
        assert first["router_id"] == "10.255.7.1"
        assert 64512 <= first["asn"] <= 65534
        assert "  router_id is 10.255.7.1, made from the loopback 10.255.7.1\n" in host.cli("status", check=False)
        same = f"is {first['asn']} here, made from the loopback address 10.255.7.1\n"
        assert same in bgpd(host, "check", str(host.config_path)).stdout
        assert host.cli("plan", str(host.config_path)) == "nothing changes\n", "asked from another namespace"
        fabric.pods.ip("address", "del", "10.255.7.1/32", *lo)
        host.kill()
        host.start()
        assert host.get("config")["router"] == first
        fabric.pods.ip("address", "add", "10.255.7.0/32", *lo)
        fabric.pods.ip("address", "add", "10.255.7.1/32", *lo)
        assert reload(host)["changes"] == []
        assert any("10.255.7.1 is kept" in warning for warning in reload(host)["warnings"])
        fabric.pods.ip("address", "del", "10.255.7.1/32", *lo)
        said = bgpd(host, "plan", str(host.config_path)).stdout.splitlines()[1:]
        assert [line.split()[:2] for line in said] == [["reset", "router.asn"], ["reset", "router.router_id"]]
        assert len(reload(host)["changes"]) == 2
        host.kill()
        host.start()
        assert host.get("config")["router"]["router_id"] == "10.255.7.0"


def hostname_capability(name: bytes) -> bytes:
    """FQDN, without a domain (draft-walton-bgp-hostname-capability)."""
    return bytes((73, len(name) + 2, len(name))) + name + b"\0"


@pytest.mark.parametrize(("asn", "seen"), [(65202, True), (65203, False)])
def test_a_neighbor_with_this_hosts_router_id_is_told_by_its_name(
    fabric: Fabric, host: Host, asn: int, seen: bool
) -> None:
    """By EBGP the session stands, with a warning; within the AS there can be none (RFC 6286)."""
    own = tuple(map(int, LOOPBACK.split(".")))
    with WirePeer(fabric.leaf2, "10.0.2.2", asn=asn) as peer:
        fragment(host, "20-leaf2.toml", leaf(2, asn=asn))
        try:
            assert reload(host)["problems"] == []
            connection = peer.accept()
            text = open_message(asn, router_id=own, more=hostname_capability(b"node9"))
            connection.sendall(text + message(KEEPALIVE))
            if seen:
                host.wait(lambda: host.established() == ["leaf1", "leaf2"], "the session")
                said = f'neighbor leaf2 (host name "node9") has this host\'s router ID, {LOOPBACK}: one needs another'
                assert said in host.health()["warnings"]
            else:
                assert notification(connection) == (2, 3)
                host.wait(lambda: "(host name" in host.neighbor("leaf2")["last_error"], "the reason")
                assert '(host name "node9") in our own AS has our own router ID' in host.neighbor("leaf2")["last_error"]
        finally:
            (host.directory / "conf.d" / "20-leaf2.toml").unlink()
    assert reload(host)["problems"] == []
    assert unharmed(host)
