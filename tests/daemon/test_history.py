"""What the routes were at an earlier moment is known while the daemon runs, after a crash and a hand-over."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from labs.process import LabError, run_command
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started, table
from tests.daemon.managed import managed
from tests.daemon.wire_peer import WirePeer, update, withdrawal

pytestmark = pytest.mark.netns

NET = "10.200.0.0/24"
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def at(host: Host, moment: float, address: str = "10.200.0.1", *options: str) -> dict[str, Any]:
    """How it was."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + f"{moment % 1:.6f}"[1:]
    found: dict[str, Any] = json.loads(host.cli("explain", address, "--at", when, "--json", *options))
    return found


def rows_at(host: Host, moment: float, *options: str) -> list[dict[str, Any]]:
    """The workloads of then."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + f"{moment % 1:.6f}"[1:]
    found: list[dict[str, Any]] = json.loads(host.cli("show", "workloads", "--at", when, "--json", *options))
    return found


def tables_at(host: Host, moment: float) -> object:
    """Counts of routes of then, as far as they were seen."""
    try:
        return host.get("past/overview", at=f"{moment:.6f}")["overview"]["tables"]
    except LabError:
        return None


def installed(host: Host, fabric: Fabric, *, is_there: bool = True) -> float:
    """When the route was seen in the kernel, or no longer."""
    host.wait(lambda: (NET in kernel_routes(fabric.host)) is is_there, "the route")
    return time.time()


def test_the_chain_is_as_it_was_after_changes_a_crash_and_without_a_daemon(fabric: Fabric) -> None:
    with started(fabric, leaf(1), POD) as host:
        began = time.time()
        with WirePeer(fabric.leaf1) as peer:
            with peer.establish() as connection:
                host.wait_established("leaf1")
                connection.sendall(update((NET,), asn=65201))
                first = installed(host, fabric)
                connection.sendall(withdrawal(NET))
                second = installed(host, fabric, is_there=False)
                connection.sendall(update((NET,), asn=65201))
                third = installed(host, fabric)
                workloads = json.loads(host.cli("show", "workloads", "--json"))
                overview = host.get("overview")["tables"]
                host.wait(lambda: tables_at(host, time.time()) == overview, "the overview to be kept")
                kept = time.time()
            host.wait(lambda: host.log("session.closed"), "the loss")
            fourth = installed(host, fabric, is_there=False)
        assert [(one["neighbor"], one["routes"]) for one in host.log("routes.lost")] == [("leaf1", 1)]
        assert host.log("fib.next_hops_lost")[-1]["next_hops"] == "10.0.1.2"
        assert "went to 10.0.1.2" in at(host, first)["verdict"]
        assert at(host, second)["verdict"].startswith("no route")
        view = at(host, third)
        assert [(one["name"], one["established"]) for one in view["neighbors"]] == [("leaf1", True)]
        assert [one.get("after", "")[:12] for one in view["changes"]] == ["via 10.0.1.2", "", "via 10.0.1.2"]
        assert view["messages"][0]["data"].endswith("18" + "0ac800")
        assert "session.established" in [one["event"] for one in view["events"]]
        last = at(host, fourth)
        assert last["route"] is None
        assert last["changes"][-1]["why"].startswith("its session ended")
        pod = json.loads(host.cli("explain", "10.64.1.5", "--json"))
        assert pod["announced"] == []
        own = at(host, third, "10.64.1.5")
        assert "workload" in own["verdict"]
        assert [(one["neighbor"], one["prefix"], one["as_path"]) for one in own["announced"]] == [
            ("leaf1", "10.64.1.5/32", "65203")
        ]
        assert own["withheld"] == []
        assert [(one["prefix"], one["state"], one["neighbors"]) for one in own["claims"]] == [
            ("10.64.1.5/32", "announced", ["leaf1"])
        ]
        assert rows_at(host, third) == workloads
        assert rows_at(host, fourth)[0]["reason"].startswith("to nobody")
        assert at(host, fourth, "10.64.1.5")["announced"] == []
        changes = json.loads(host.cli("show", "events", "--prefix", NET, "--json"))
        assert [one["event"] for one in changes] == [
            "history.begins",
            *("route.announced", "route.withdrawn") * 2,
        ]
        assert changes[-1]["fields"]["why"].startswith("its session ended")
        assert changes[1]["fields"]["message"] == view["messages"][0]["digest"]
        about_pod = json.loads(host.cli("show", "events", "10.64.1.0/24", "--longer-prefixes", "--json"))
        assert {"route.announced", "workload.announced"} & {one["event"] for one in about_pod} >= {"route.announced"}
        assert "no route" in host.cli("explain", "10.200.0.1", "--wire")
        with pytest.raises(LabError, match="the history of routes begins at"):
            at(host, began - 600)
        with pytest.raises(LabError, match="no VRF"):
            host.cli("explain", "10.200.0.1", "--vrf", "green", "--at", "1s")
        host.terminate(signal.SIGKILL)
        state = ("--state", str(host.directory / "state"))
        file = str(host.directory / "state" / "journal.sqlite")
        left = json.loads(host.cli("show", "events", "--prefix", NET, "--file", file, "--json"))
        assert [one["event"] for one in left][-4:] == [one["event"] for one in changes][-4:]
        assert "went to 10.0.1.2" in at(host, first, "10.200.0.1", *state)["verdict"]
        assert at(host, second, "10.200.0.1", *state)["route"] is None
        assert rows_at(host, third, "--directory", str(host.directory / "state")) == workloads
        with WirePeer(fabric.leaf1) as peer:
            host.start()
            assert "went to 10.0.1.2" in at(host, first)["verdict"]
            assert rows_at(host, third) == workloads
            assert tables_at(host, kept) == overview
            with peer.establish() as connection:
                host.wait_established("leaf1")
                connection.sendall(update((NET,), asn=65201))
                assert "went to 10.0.1.2" in at(host, installed(host, fabric))["verdict"]
                assert "UPDATE" in host.cli("explain", "10.200.0.1", "--wire")
                (sent,) = json.loads(host.cli("explain", "10.64.1.5", "--json"))["announced"]
                assert (sent["neighbor"], sent["prefix"], sent["as_path"]) == ("leaf1", "10.64.1.5/32", "65203")
                fabric.host.run("ip", "link", "del", "pod1")
                host.wait(lambda: json.loads(host.cli("explain", "10.64.1.5", "--json"))["withheld"], "the withdrawal")
                (held,) = json.loads(host.cli("explain", "10.64.1.5", "--json"))["withheld"]
                assert (held["neighbor"], "static 10.64.1.5/32 is" in held["reason"]) == ("leaf1", True)
                assert began < held["since"] <= time.time()
                assert "from leaf1 for" in host.cli("explain", "10.64.1.5")
                past = at(host, time.time(), "10.64.1.5")
                assert past["announced"] == []
                assert past["changes"][-1]["source"] == "workload"
        directory = host.directory / "state" / "history"
        assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_the_history_goes_on_over_a_hand_over(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, managed(fabric, leaf(1)) as host, peer.establish() as connection:
        host.wait_established("leaf1")
        connection.sendall(update((NET, "10.201.0.0/24"), asn=65201))
        before = installed(host, fabric)
        started_before = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("bgpd.started")) > started_before, "the next process")
        meanwhile = time.time()
        connection.sendall(withdrawal(NET))
        after = installed(host, fabric, is_there=False)
        assert "went to 10.0.1.2" in at(host, before)["verdict"]
        assert "went to 10.0.1.2" in at(host, meanwhile)["verdict"]
        assert at(host, after)["verdict"].startswith("no route")
        other = at(host, after, "10.201.0.1")
        assert "went to 10.0.1.2" in other["verdict"]
        assert other["neighbors"][0]["established"]


def test_a_disk_that_cannot_be_written_costs_the_history_only(fabric: Fabric, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run_command(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)])
    state = table("[state]", directory=str(small))

    def is_known(host: Host) -> bool:
        return "went to 10.0.1.2" in str(at(host, time.time())["verdict"])

    try:
        with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1), state) as host, peer.establish() as connection:
            host.wait_established("leaf1")
            full = small / "full"
            full.write_bytes(b"x" * (5 << 20))
            connection.sendall(update((NET,), asn=65201))
            installed(host, fabric)
            host.wait(lambda: any("history of routes" in text for text in host.health()["warnings"]), "the warning")
            full.unlink()
            connection.sendall(update(("10.201.0.0/24",), asn=65201))
            host.wait(lambda: host.log("history.recovered"), "the history to go on", 30)
            host.wait(lambda: host.health()["warnings"] == [], "no warning")
            host.wait(lambda: is_known(host), "the next base")
    finally:
        run_command(["umount", str(small)])
