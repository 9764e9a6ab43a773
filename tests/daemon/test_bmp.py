"""A BMP station, pmacct's pmbmpd, is told what neighbors announce and what is used; MRT files have it, too. A station
that reads nothing costs the daemon nothing."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, announce, leaf, started, table

pytestmark = pytest.mark.netns

LEARNED = {"10.9.0.0/16", "10.7.1.0/24", "2a01:4f8:9::/48"}
STATION = table(
    "[[bmp]]",
    address="127.0.0.1",
    port=11019,
    adj_rib_out=True,
    adj_rib_out_before_policy=True,
    loc_rib=True,
    statistics_interval_s=5,
)
OUT, AFTER_POLICY = {"is_out": 1}, {"is_out": 1, "is_post": 1}


class Pmbmpd:
    """pmacct's station in the host's namespace; `log` has what it makes of each message."""

    def __init__(self, fabric: Fabric, directory: Path) -> None:
        self._log_path = directory / "bmp.log"
        file = directory / "pmbmpd.conf"
        file.write_text(
            "bmp_daemon_ip: 127.0.0.1\nbmp_daemon_port: 11019\nbmp_daemon_msglog_output: json\n"
            f"bmp_daemon_msglog_file: {self._log_path}\n"
        )
        self.output = directory / "pmbmpd.log"
        self.process = fabric.host.popen("pmbmpd", "-f", str(file), log_path=self.output)

    def log(self, kind: str = "", **fields: str) -> list[dict[str, Any]]:
        if not self._log_path.exists():
            return []
        lines = self._log_path.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [
            one
            for one in records
            if kind in ("", one.get("bmp_msg_type")) and all(one.get(name) == value for name, value in fields.items())
        ]

    def table(self, peer: str, **of: int) -> dict[str, str]:
        """The routes of a peer by what was told last: prefix and AS path. `of`: its Adj-RIB-Out."""
        found: dict[str, str] = {}
        wanted = {"is_out": 0, "is_post": 0, **of}
        for one in self.log("route_monitor", peer_ip=peer):
            if any(one.get(name, 0) != value for name, value in wanted.items()):
                continue
            if "ip_prefix" in one and one["log_type"] == "withdraw":
                found.pop(one["ip_prefix"], None)
            elif "ip_prefix" in one:
                found[one["ip_prefix"]] = one.get("as_path", "")
        return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bmp")


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=tuple(LEARNED)) as frr:
        yield frr


@pytest.fixture(scope="module")
def tables(directory: Path) -> tuple[str, ...]:
    mrt = table("[mrt]", directory=str(directory / "mrt"))
    return leaf(1), leaf(2), table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod2"), STATION, mrt


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf1: Frr, leaf2: Frr, directory: Path, tables: tuple[str, ...]) -> Iterator[Host]:
    fabric.host.batch("link set lo up")
    (directory / "mrt").mkdir()
    with started(fabric, *tables) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        yield host


@pytest.fixture(scope="module")
def station(fabric: Fabric, host: Host, directory: Path) -> Iterator[Pmbmpd]:
    """It is there only after the sessions."""
    host.wait(lambda: any("BMP station" in one for one in host.health()["warnings"]), "a warning that it is not there")
    station = Pmbmpd(fabric, directory)
    try:
        wait_until(lambda: station.log("init"), 60, "the station to be spoken to", logs=[station.output, *host.logs])
        yield station
    finally:
        station.process.stop()


def test_station_is_told_the_sessions_and_what_they_announced(host: Host, station: Pmbmpd) -> None:
    for name, address in (("leaf1", "10.0.1.2"), ("leaf2", "10.0.2.2")):
        views = {view["prefix"]: view["as_path"] for view in host.get("received", neighbor=name)}
        host.wait(lambda views=views, address=address: station.table(address) == views, f"the routes of {name}")
        (up,) = station.log("peer_up", peer_ip=address)
        assert (up["bgp_id"], up["peer_asn"]) == (f"10.255.0.{address[5]}", 65200 + int(address[5]))
    assert host.metric("bgpd_bmp_connected", station="127.0.0.1:11019") == 1
    assert not any("BMP" in one for one in host.health()["warnings"])


def test_station_is_told_the_routes_that_are_used(host: Host, station: Pmbmpd) -> None:
    best = {view["prefix"] for view in host.get("routes")}
    host.wait(lambda: {one["ip_prefix"] for one in _loc_rib(station)} >= best, "the Loc-RIB")
    assert "10.64.1.5/32" in best


def _loc_rib(station: Pmbmpd) -> list[dict[str, Any]]:
    return [one for one in station.log("route_monitor") if one.get("is_loc") == 1 and "ip_prefix" in one]


def test_station_hears_changes_and_counts(host: Host, station: Pmbmpd, leaf1: Frr) -> None:
    announce(leaf1, "10.6.0.0/16")
    host.wait(lambda: "10.6.0.0/16" in station.table("10.0.1.2"), "the new route")
    announce(leaf1, "10.6.0.0/16", withdraw=True)
    host.wait(lambda: "10.6.0.0/16" not in station.table("10.0.1.2"), "its withdrawal")
    host.wait(
        lambda: [one for one in _loc_rib(station) if one["ip_prefix"] == "10.6.0.0/16"][-1]["log_type"] == "withdraw",
        "the withdrawal of what was used",
    )
    host.wait(lambda: station.log("stats", peer_ip="10.0.1.2"), "statistics", timeout_s=30)


def test_station_is_told_what_neighbors_are_sent_and_what_policy_withholds(
    host: Host, station: Pmbmpd, tables: tuple[str, ...], leaf1: Frr
) -> None:
    """leaf2 is sent this host's own routes only; before policy it might have all that leaf1 alone announces."""
    sent = {view["prefix"]: view["as_path"] for view in host.get("advertised", neighbor="leaf2")}
    assert sent == {"10.64.1.5/32": "65203"}
    host.wait(lambda: station.table("10.0.2.2", **AFTER_POLICY) == sent, "what leaf2 is sent")
    offered = {"10.64.1.5/32": "", "10.7.1.0/24": "65201", "2a01:4f8:9::/48": "65201"}
    host.wait(lambda: offered.items() <= station.table("10.0.2.2", **OUT).items(), "what it might be sent")
    assert "10.64.1.5/32" in station.table("10.0.1.2", **OUT)
    assert "10.7.1.0/24" not in station.table("10.0.1.2", **OUT), "its own"
    host.reload_with(*(one for one in tables if "workload" not in one))
    for of in (AFTER_POLICY, OUT):
        host.wait(lambda of=of: "10.64.1.5/32" not in station.table("10.0.2.2", **of), "its withdrawal")
    host.reload_with(*tables)
    host.wait(lambda: station.table("10.0.2.2", **AFTER_POLICY) == sent, "the route again")


def test_loc_rib_of_a_vrf_goes_down_with_it(host: Host, station: Pmbmpd, tables: tuple[str, ...]) -> None:
    def of_vrf(kind: str) -> list[dict[str, Any]]:
        return [
            one for one in station.log(kind) if one.get("peer_type") == 3 and one.get("rd")
        ]  # which is made of its name

    pod = table("[[workload.static]]", prefix="10.70.1.5/32", interface="pod1", vrf="blue")
    host.reload_with(*tables, table("[[vrf]]", name="blue", table=1001, vni=5001), pod)
    host.wait(lambda: of_vrf("peer_up"), "the Loc-RIB of the VRF")
    host.reload_with(*tables)
    host.wait(lambda: of_vrf("peer_down"), "its end")


def test_mrt_files_have_what_neighbors_said(host: Host, station: Pmbmpd, leaf1: Frr, directory: Path) -> None:
    announce(leaf1, "10.5.0.0/16")

    def said() -> set[str]:
        lines: set[str] = set()
        for file in (directory / "mrt").glob("updates-*.mrt"):
            done = subprocess.run(["bgpdump", "-m", file], capture_output=True, text=True, check=True)
            lines |= {"|".join(line.split("|")[2:6]) for line in done.stdout.splitlines()}
        return lines

    host.wait(lambda: "A|10.0.1.2|65201|10.5.0.0/16" in said(), "the new route")
    assert {f"A|10.0.1.2|65201|{prefix}" for prefix in LEARNED} <= said()
    shown = "\n".join(host.cli("mrt", "show", str(file)) for file in sorted((directory / "mrt").glob("updates-*.mrt")))
    assert "10.0.1.2 AS65201 UPDATE +10.5.0.0/16" in shown
    assert "10.0.1.2 AS65201 openconfirm to established" in shown


def test_session_that_ends_is_told(host: Host, station: Pmbmpd, leaf2: Frr, tables: tuple[str, ...]) -> None:
    host.reload_with(*(one for one in tables if 'name = "leaf2"' not in one))
    host.wait(lambda: station.log("peer_down", peer_ip="10.0.2.2"), "the end of the session")
    host.reload_with(*tables)
    host.wait_established("leaf2")
    host.wait(lambda: len(station.log("peer_up", peer_ip="10.0.2.2")) == 2, "the new session")


def test_stations_that_read_nothing_and_a_full_disk_cost_nothing(
    fabric: Fabric, host: Host, station: Pmbmpd, tables: tuple[str, ...], leaf1: Frr
) -> None:
    with fabric.host.entered():
        deaf = socket.socket()
    with deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.bind(("127.0.0.1", 11020))
        deaf.listen(1)
        other = table("[[bmp]]", address="127.0.0.1", port=11020, loc_rib=True)
        full = table("[mrt]", directory="/dev/full")
        host.reload_with(*tables[:-1], other, full)
        host.wait(lambda: host.metric("bgpd_bmp_connected", station="127.0.0.1:11020") == 1, "the deaf one")
        announce(leaf1, "10.4.0.0/16")
        host.wait(lambda: "10.4.0.0/16" in station.table("10.0.1.2"), "the other station to hear on")
        host.wait(lambda: any("MRT files" in one for one in host.health()["warnings"]), "a warning of the files")
        assert host.metric("bgpd_mrt_messages_lost_total") > 0
    host.reload_with(*tables)
    host.wait(lambda: not any("MRT" in one for one in host.health()["warnings"]), "the warning to go")
