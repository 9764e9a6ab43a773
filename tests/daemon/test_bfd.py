"""BFD from the configuration to the kernel: leaves with FRR that die without a word, restart, or have no BFD."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Bfd, Frr
from labs.process import wait_until
from tests.bfd.switched import LEARNED, SwitchedFabric
from tests.daemon.fabric import Host, leaf, started, table

pytestmark = pytest.mark.netns

DETECTION_S = 0.3
BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")


def bfd(number: int, *, words: str = "interval_ms = 100", **fields: object) -> str:
    """The [[neighbor]] of a leaf, with BFD."""
    return f"{leaf(number, **fields).rstrip()}\nbfd = {{ {words} }}\n"


def process_table(process: Bfd) -> str:
    return table("[bfd]", socket=str(process.socket_path))


@pytest.fixture(scope="module")
def fabric() -> Iterator[SwitchedFabric]:
    with SwitchedFabric() as fabric:
        yield fabric


@pytest.fixture(scope="module")
def leaves(fabric: SwitchedFabric) -> Iterator[tuple[Frr, Frr]]:
    with fabric.bfd_leaf(1) as leaf1, fabric.bfd_leaf(2) as leaf2:
        yield leaf1, leaf2


@pytest.fixture
def process(fabric: SwitchedFabric) -> Iterator[Bfd]:
    with Bfd(fabric.host) as process:
        yield process


@pytest.fixture
def host(fabric: SwitchedFabric, leaves: tuple[Frr, Frr], process: Bfd) -> Iterator[Host]:
    restart = {"graceful_restart": None}
    with started(fabric, bfd(1, **restart), bfd(2, **restart), process_table(process)) as host:
        wait_settled(host)
        yield host


def views(host: Host) -> dict[str, dict[str, Any]]:
    return {view["neighbor"]: view for view in host.get("bfd")}


def wait_up(host: Host, *names: str) -> None:
    wanted = names or ("leaf1", "leaf2")
    host.wait(
        lambda: [views(host).get(name, {}).get("state") for name in wanted] == ["up"] * len(wanted), "BFD to be Up"
    )


def wait_settled(host: Host) -> None:
    """FRR may end BFD once more where its session comes up just after it: it makes BFD anew for its addresses."""
    host.wait_ready()
    host.wait_established("leaf1", "leaf2")
    host.wait(lambda: [view["detection_time_ms"] for view in views(host).values()] == [300, 300], "the fast timers")
    wait_up(host)


def downs(frr: Frr) -> int:
    """How often the leaf's own BFD went down, as it counts."""
    return sum(one["session-down"] for one in frr.vtysh_json("show bfd peers counters json"))


def test_silent_death_moves_the_kernel_within_the_detection_time(
    host: Host, fabric: SwitchedFabric, leaves: tuple[Frr, Frr], tmp_path: Path
) -> None:
    host.wait_hops(LEARNED, *BOTH)
    ends = len(host.log("bfd.down"))
    packets = fabric.host.popen(
        "tcpdump", "-l", "-n", "-tt", "-i", "eth0", "udp port 3784 and src 10.0.1.2", log_path=tmp_path / "packets"
    )
    wait_until(lambda: packets.log_path.read_text().count("BFDv1") > 3, 10, "tcpdump")
    moves = fabric.host.popen("ip", "-ts", "monitor", "nexthop", log_path=tmp_path / "moves")
    time.sleep(0.2)
    fabric.cut(1)
    try:
        host.wait_hops(LEARNED, BOTH[1])
        assert host.neighbor("leaf1")["state"] != "established"
        assert host.neighbor("leaf1")["last_error"] == "BFD down: no BFD packet of the neighbor came for 300 ms"
        assert [record["reason"] for record in host.log("bfd.down")[ends:]] == [
            "no BFD packet of the neighbor came for 300 ms"
        ]
        assert views(host)["leaf1"]["diagnostic"] == "detection time expired"
        packets.stop()
        moves.stop()
        last = max(float(stamp) for stamp in re.findall(r"^(\d+\.\d+) IP ", packets.log_path.read_text(), re.MULTILINE))
        gone = re.search(r"\[\S+T\d+:\d+:(\d+\.\d+)\] Deleted id \d+ via 10.0.1.2", moves.log_path.read_text())
        assert gone
        took = (float(gone[1]) - last) % 60
        assert took >= DETECTION_S, "not before its time"
        print(f"kernel moved {1000 * (took - DETECTION_S):.1f} ms after the detection time")
    finally:
        fabric.mend(1)
    host.wait_established("leaf1", "leaf2")
    wait_up(host)
    host.wait_hops(LEARNED, *BOTH)


@pytest.mark.interop("FRR", "bfd")
def test_views_metrics_and_explain_say_it(host: Host, leaves: tuple[Frr, Frr]) -> None:
    view = views(host)["leaf1"]
    assert (view["address"], view["interface"], view["local_address"]) == ("10.0.1.2", "eth0", "10.0.1.1")
    host.wait(lambda: views(host)["leaf1"]["detection_time_ms"] == 300, "the timers")
    view = views(host)["leaf1"]
    assert (view["remote_state"], view["remote_multiplier"], view["transmit_interval_ms"]) == ("up", 3, 100)
    assert host.metric("bgpd_bfd_up", neighbor="leaf1") == 1
    assert host.metric("bgpd_bfd_detection_time_seconds", neighbor="leaf2") == pytest.approx(0.3)
    host.wait_hops(LEARNED, *BOTH)
    found = host.explain("10.9.0.1")
    assert [hop["bfd"] for hop in found["kernel"]["next_hops"]] == ["up", "up"]
    assert "dev eth0 BFD up" in host.cli("explain", "10.9.0.1")
    shown = host.cli("show", "bfd", "leaf2").splitlines()
    assert shown[-1].split()[:3] == ["leaf2", "10.0.2.2%eth1", "up"]
    assert len(shown) == 2
    assert json.loads(host.cli("show", "bfd", "--json", "--state", "up"))[1]["neighbor"] == "leaf2"
    peer = leaves[0].vtysh_json("show bfd peers json")[0]
    assert (peer["remote-id"], peer["id"]) == (view["discriminator"], view["remote_discriminator"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_daemon_is_not_seen_by_bfd(host: Host, leaves: tuple[Frr, Frr], number: signal.Signals) -> None:
    before = [downs(frr) for frr in leaves]
    discriminators = {name: view["discriminator"] for name, view in views(host).items()}
    host.terminate(number)
    host.start()
    host.wait_established("leaf1", "leaf2")
    wait_up(host)
    assert {name: view["discriminator"] for name, view in views(host).items()} == discriminators
    assert [downs(frr) for frr in leaves] == before


def test_end_of_the_bfd_process_is_no_failure_here(host: Host, process: Bfd) -> None:
    """FRR takes AdminDown for one all the same, and says so."""
    closed, ends = len(host.log("session.closed")), len(host.log("bfd.down"))
    process.processes[-1].stop(signal.SIGTERM, 5.0)
    host.wait(lambda: host.health()["warnings"], "a warning")
    assert "BFD does not work" in host.health()["warnings"][0]
    assert views(host)["leaf1"]["state"] == "unknown"
    process.start()
    host.wait_established("leaf1", "leaf2")
    wait_up(host)
    assert host.health()["warnings"] == []
    why = {record["reason"] for record in host.log("session.closed")[closed:]}
    assert why <= {"the neighbor sent cease/hard-reset (cease/bfd-down)"}, "hard, since both have the N bit"
    assert len(host.log("bfd.down")) == ends


def test_reload_changes_timers_without_a_reset_and_removes_by_admin_down(
    host: Host, process: Bfd, leaves: tuple[Frr, Frr]
) -> None:
    since = host.neighbor("leaf1")["since"]
    before = downs(leaves[0])

    def remote(name: str) -> Any:
        return leaves[0].vtysh_json("show bfd peers json")[0][name]

    def reload(first: str) -> None:
        host.write_config("\n".join([config_head(), first, bfd(2), process_table(process)]))
        host.reload()

    ends = len(host.log("bfd.down"))
    reload(bfd(1, words="interval_ms = 250, multiplier = 4"))
    wait_until(lambda: remote("remote-transmit-interval") == 250, 10, "the leaf to hear it")
    assert remote("remote-detect-multiplier") == 4
    assert downs(leaves[0]) == before
    assert host.neighbor("leaf1")["since"] == since
    reload(leaf(1))
    wait_until(lambda: remote("status") == "down", 10, "AdminDown")
    assert remote("remote-diagnostic") == "administratively down"
    assert "leaf1" not in views(host)
    reload(bfd(1))
    wait_up(host)
    assert len(host.log("bfd.down")) == ends


def config_head() -> str:
    return table("[router]", asn=65203, router_id="10.255.1.1", hostname="host1")


def test_leaf_without_bfd_keeps_its_session_unless_strict(
    fabric: SwitchedFabric, leaves: tuple[Frr, Frr], process: Bfd
) -> None:
    leaf1 = leaves[0]
    leaf1.vtysh("configure terminal", "router bgp 65201", "no neighbor 10.0.1.1 bfd")
    try:
        with started(fabric, bfd(1), bfd(2), process_table(process)) as host:
            host.wait_established("leaf1", "leaf2")
            wait_up(host, "leaf2")
            assert views(host)["leaf1"]["state"] == "down"
            strict = bfd(1, words="interval_ms = 100, strict = true")
            host.write_config("\n".join([config_head(), strict, bfd(2), process_table(process)]))
            host.reload()
            host.wait(lambda: views(host)["leaf1"]["strict"], "strict")
            assert host.established() == ["leaf1", "leaf2"], "only the next session waits"
            host.terminate()
            host.start()
            host.wait_established("leaf2")
            host.wait(lambda: "waits for BFD" in host.neighbor("leaf1")["last_error"], "leaf1 to be waited for")
            leaf1.vtysh("configure terminal", "router bgp 65201", "neighbor 10.0.1.1 bfd 3 100 100")
            host.wait_established("leaf1", "leaf2")
            wait_up(host, "leaf1")
    finally:
        leaf1.vtysh("configure terminal", "router bgp 65201", "neighbor 10.0.1.1 bfd 3 100 100")


def test_leaf_whose_programs_hang_is_dead_and_its_end_of_bfd_is_not(host: Host, leaves: tuple[Frr, Frr]) -> None:
    """All of FRR stopped by SIGSTOP: TCP lives on in its kernel, and acknowledges all that is sent. Each time again."""
    pids = [process.pid for process in leaves[0].processes]
    ends = len(host.log("bfd.down"))
    for number in range(ends + 1, ends + 4):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            host.wait(lambda number=number: len(host.log("bfd.down")) == number, "BFD to be Down")
            host.wait_hops(LEARNED, BOTH[1])
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        host.wait_established("leaf1", "leaf2")
        wait_up(host)
        host.wait_hops(LEARNED, *BOTH)
    leaves[0].vtysh(
        "configure terminal",
        "bfd",
        "profile off",
        "shutdown",
        "exit",
        "exit",
        "router bgp 65201",
        "neighbor 10.0.1.1 bfd profile off",
    )
    try:
        host.wait(lambda: views(host)["leaf1"]["remote_state"] == "admin-down", "the leaf's AdminDown")
        assert host.log("bfd.admin_down")
        assert host.established() == ["leaf1", "leaf2"]
    finally:
        leaves[0].vtysh(
            "configure terminal",
            "router bgp 65201",
            "no neighbor 10.0.1.1 bfd profile off",
            "neighbor 10.0.1.1 bfd 3 100 100",
            "exit",
            "bfd",
            "no profile off",
        )
