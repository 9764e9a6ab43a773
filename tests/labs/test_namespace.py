"""Namespaces and daemons of a laboratory are gone afterwards, whatever happened in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs.daemons import Bird, Frr
from labs.laboratory import Laboratory
from labs.namespace import NETNS_DIR, Namespace, link, remove_stale
from labs.process import LabError, wait_until
from labs.topology import load

pytestmark = pytest.mark.netns

HEED_SIGNALS = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
"""A shell's background job is started with both ignored."""
HOLD_ONE_OPEN = """
import sys, time
from pathlib import Path
from labs.namespace import Namespace
namespace = Namespace("held", prefix="labtest").open()
namespace.popen("sleep", "100", log_path=Path(sys.argv[1]))
print(namespace.name, flush=True)
time.sleep(100)
"""


def exists(name: str) -> bool:
    return (NETNS_DIR / name).exists()


def test_namespaces_are_linked_and_forward() -> None:
    with (
        Namespace("a", prefix="labtest") as a,
        Namespace("r", prefix="labtest") as router,
        Namespace("b", prefix="labtest") as b,
    ):
        link(a, "eth0", router, "eth0")
        link(b, "eth0", router, "eth1")
        for namespace, interface, prefix in ((a, "eth0", 1), (b, "eth0", 2)):
            namespace.addresses(interface, f"10.0.{prefix}.1/24", f"2001:db8:{prefix}::1/64")
            router.addresses(f"eth{prefix - 1}", f"10.0.{prefix}.254/24", f"2001:db8:{prefix}::fe/64")
            namespace.batch(f"route add default via 10.0.{prefix}.254", f"route add default via 2001:db8:{prefix}::fe")
        a.run("ping", "-c", "1", "-W", "2", "10.0.2.1")
        a.run("ping", "-c", "1", "-W", "2", "2001:db8:2::1")
        names = [a.name, router.name, b.name]
    assert not any(map(exists, names))


def test_namespace_is_removed_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), Namespace("x", prefix="labtest") as namespace:
        1 / 0  # noqa: B018
    assert not exists(namespace.name)


def test_processes_and_directories_end_with_the_namespace(tmp_path: Path) -> None:
    with Namespace("x", prefix="labtest") as namespace:
        directory = namespace.make_directory("scratch")
        process = namespace.popen("sleep", "100", log_path=tmp_path / "log")
        assert process.exit_code is None
    assert process.exit_code == -signal.SIGTERM
    assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_the_program_removes_its_namespaces(tmp_path: Path, number: signal.Signals) -> None:
    code = HEED_SIGNALS + HOLD_ONE_OPEN
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        name = program.stdout.readline().decode().strip()
        assert exists(name)
        program.send_signal(number)
        program.wait(10)
    assert not exists(name)


def test_namespaces_of_a_killed_program_are_found_and_removed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_ONE_OPEN, str(tmp_path / "log")], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        name = program.stdout.readline().decode().strip()
        program.kill()
        program.wait(10)
    assert exists(name)
    with Namespace("mine", prefix="labtest") as mine:
        assert remove_stale("labtest") == [name]
        assert exists(mine.name)
    assert not exists(name)


def test_socket_opened_while_inside_belongs_there() -> None:
    with Namespace("x", prefix="labtest") as namespace:
        home = Path("/proc/thread-self/ns/net").readlink()
        with namespace.entered():
            assert Path("/proc/thread-self/ns/net").readlink() != home
        assert Path("/proc/thread-self/ns/net").readlink() == home


def test_daemon_that_refuses_its_configuration_is_reported_with_its_words() -> None:
    with Namespace("x", prefix="labtest") as namespace:
        with pytest.raises(LabError, match="syntax error"):
            Bird(namespace, "nonsense")
        with pytest.raises(LabError, match="Unknown command"):
            Frr(namespace, "nonsense\n")


def test_frr_and_bird_peer_in_their_namespaces() -> None:
    frr_config = """
router bgp 65001
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 neighbor 10.0.0.2 remote-as 65002
 neighbor 10.0.0.2 timers connect 1
"""
    bird_config = """
router id 10.0.0.2;
protocol device {}
protocol bgp leaf {
  local as 65002;
  neighbor 10.0.0.1 as 65001; connect delay time 1; ipv4 { import all; export none; }; }
"""
    with Namespace("frr", prefix="labtest") as left, Namespace("bird", prefix="labtest") as right:
        link(left, "eth0", right, "eth0")
        left.addresses("eth0", "10.0.0.1/24")
        right.addresses("eth0", "10.0.0.2/24")
        with Frr(left, frr_config) as frr, Bird(right, bird_config) as bird:
            wait_until(
                lambda: frr.established() == ["10.0.0.2"], 20, "FRR to peer with BIRD", logs=[*frr.logs, *bird.logs]
            )
            wait_until(lambda: bird.established() == ["leaf"], 5, "BIRD to say so too", logs=bird.logs)


def test_laboratory_is_removed_when_a_node_fails_to_come_up(tmp_path: Path) -> None:
    path = tmp_path / "bad.clab.yml"
    path.write_text("""
name: bad
topology:
  nodes:
    good: {kind: linux, exec: [ip address add 10.0.0.1/24 dev eth0]}
    bad: {kind: linux, exec: [ip address add 10.0.0.2/24 dev eth7]}
  links:
    - endpoints: ["good:eth0", "bad:eth0"]
""")
    lab = Laboratory(load(path), progress=lambda text: None)
    with pytest.raises(LabError, match=r'node bad: exec "ip address add 10.0.0.2/24 dev eth7" failed'), lab:
        pass
    assert [namespace.name for namespace in lab.namespaces.values() if exists(namespace.name)] == []
    assert len(lab.namespaces) == 2
