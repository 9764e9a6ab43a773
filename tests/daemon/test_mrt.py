"""The daemon's routes as an MRT file: bgpdump and bgpd read it alike, and a session that says it again has the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import REPOSITORY, Frr
from labs.process import wait_until
from tests.cli.test_json import fits
from tests.daemon.fabric import Fabric, Host, leaf, started, table

pytestmark = pytest.mark.netns

LEARNED = ("10.9.0.0/16", "10.8.0.0/15", "10.7.1.0/24", "2a01:4f8:9::/48")


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=LEARNED) as frr:
        yield frr


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf1: Frr, leaf2: Frr) -> Iterator[Host]:
    """With a third neighbor, in the pods' namespace, that says again what a file has."""
    fabric.host.batch(
        "link set lo up",
        "link set pod1 up",
        "addr add 10.0.3.1/24 dev pod1",
        "addr add 2001:db8:3::1/64 dev pod1 nodad",
    )
    fabric.pods.batch("link set pod1 up", "addr add 10.0.3.2/24 dev pod1", "addr add 2001:db8:3::2/64 dev pod1 nodad")
    again = table("[[neighbor]]", name="again", address="10.0.3.2", asn=65101, import_="all", passive=True)
    tables = (leaf(1), leaf(2), again, table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod2"))
    with started(fabric, *tables) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait(lambda: {view["prefix"] for view in received(host, "leaf1")} >= set(LEARNED), "leaf1's routes")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        yield host


@pytest.fixture(scope="module")
def dumped(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mrt") / "rib.mrt"
    assert "bytes" in host.cli("mrt", "dump", str(path))
    return path


def received(host: Host, neighbor: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.get("received", neighbor=neighbor)
    return found


def test_bgpdump_reads_what_neighbors_announced(host: Host, dumped: Path) -> None:
    done = subprocess.run(["bgpdump", "-m", dumped], capture_output=True, text=True, check=True)
    lines = [line.split("|") for line in done.stdout.splitlines()]
    for name, address in (("leaf1", "10.0.1.2"), ("leaf2", "10.0.2.2")):
        found = {(line[5], line[6], line[7], line[8].partition(" ")[0]) for line in lines if line[3] == address}
        expected = {
            (view["prefix"], view["as_path"], view["origin"].upper(), view["next_hop"].partition("%")[0])
            for view in received(host, name)
        }
        assert found == expected, name
    assert [line[5] for line in lines if line[3] == "0.0.0.0"] == ["10.64.1.5/32"], "this host's own"


def test_bgpd_reads_it_alike(host: Host, dumped: Path) -> None:
    found = [fits(line, "mrt-show") for line in host.cli("mrt", "show", "--json", str(dumped)).splitlines()]
    for name, address in (("leaf1", "10.0.1.2"), ("leaf2", "10.0.2.2")):
        views = {view["prefix"]: view["next_hop"].partition("%")[0] for view in received(host, name)}
        assert {one["route"]: one["next_hop"] for one in found if one["peer"] == address} == views
    lines = host.cli("mrt", "show", str(dumped)).splitlines()
    assert any(" 10.0.1.2 AS65201 10.7.1.0/24 by 10.0.1.2 as-path 65201" in line for line in lines)


def test_completion_finds_prefixes_by_a_part(host: Host) -> None:
    assert host.cli("completion", "bash", "--", "bgpd show routes 10.7.1").split() == ["10.7.1.0/24"]
    found = host.cli("completion", "bash", "--", "bgpd show fib --prefix=10.7.").split()
    assert "--prefix=10.7.1.0/24" in found


def test_looking_glass_has_the_same_routes(host: Host) -> None:
    def glass(target: str) -> Any:
        status, body = host.request(f"/birdwatcher/{target}")
        assert status == 200
        return json.loads(body)

    counts = glass("protocols/bgp")["protocols"]["leaf1"]["routes"]
    for kind, is_filtered in (("protocol", False), ("filtered", True)):
        expected = {view["prefix"] for view in received(host, "leaf1") if bool(view["rejected"]) is is_filtered}
        assert {route["network"] for route in glass(f"routes/{kind}/leaf1")["routes"]} == expected
        assert counts["filtered" if is_filtered else "imported"] == len(expected)
    assert [route["network"] for route in glass("routes/export/leaf1")["routes"]] == ["10.64.1.5/32"]
    assert "10.9.0.0/16" in {route["network"] for route in glass("routes/noexport/again")["routes"]}


def test_session_says_the_routes_of_a_file_again(fabric: Fabric, host: Host, dumped: Path, tmp_path: Path) -> None:
    log = tmp_path / "replay.log"
    command = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "bgpd", "replay", str(dumped), "--json"]
    options = ["--to", "10.0.3.1", "--asn", "65101", "--next-hop6", "2001:db8:3::2"]
    session = fabric.pods.popen(*command, *options, log_path=log)
    try:
        expected = {"10.64.1.5/32", *LEARNED, *(view["prefix"] for view in received(host, "leaf2"))}
        wait_until(lambda: log.read_text().endswith("}\n"), 30, "the file to be said", logs=[log, *host.logs])
        assert fits(log.read_text(), "replay")["sent"] == len(expected)
        host.wait(lambda: {view["prefix"] for view in received(host, "again")} == expected, "all routes again")
        view = next(view for view in received(host, "again") if view["prefix"] == "10.7.1.0/24")
        assert (view["as_path"], view["next_hop"]) == ("65101 65201", "10.0.3.2")
        host.wait(lambda: len(host.neighbor("again")["end_of_rib"]) >= 2, "End-of-RIB")
    finally:
        session.stop()
    host.wait(lambda: host.neighbor("again")["state"] != "established", "the session to end")


def test_file_that_cannot_be_written_or_read(host: Host, dumped: Path, tmp_path: Path) -> None:
    def failure(*arguments: str) -> str:
        command = [sys.executable, "-m", "bgpd", "mrt", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env={"BGPD_SOCKET": str(host.socket_path), "PATH": "/usr/bin"},
        )
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "No space left" in failure("dump", "/dev/full")
    assert "no VRF" in failure("dump", str(tmp_path / "x"), "--vrf", "blue")
    assert not (tmp_path / "x").exists()
    cut = tmp_path / "cut.mrt"
    cut.write_bytes(dumped.read_bytes()[:-3])
    assert "cut off" in failure("show", str(cut))
    assert "No such file" in failure("show", str(tmp_path / "none"))
