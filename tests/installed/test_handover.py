"""`systemctl restart bgpd` under a real systemd is seen by no neighbor: FRR, BIRD and GoBGP say so themselves.

BGPD_HANDOVERS=100 BGPD_ROUTES=100000 make it the long run. A test that fails leaves all logs of that moment, the whole
journal of the machine among them, in BGPD_LOGS, or else in pytest's directory of the run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.process import LabError, wait_until
from tests.daemon.vip import ADDRESSES, DNS, HTTP
from tests.installed.handed_over import Rig, Seen, rig

pytestmark = pytest.mark.netns

HANDOVERS = int(os.environ.get("BGPD_HANDOVERS", "3"))
ROUTES = int(os.environ.get("BGPD_ROUTES", "2000"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    try:
        with rig(tmp_path_factory.mktemp("rig"), routes=ROUTES) as made:
            yield made
    except LabError as error:
        if "systemd" in str(error):
            pytest.skip(f"no systemd can be booted here: {error}")
        raise


@pytest.fixture(autouse=True)
def logs(server: Rig, request: pytest.FixtureRequest) -> Iterator[None]:
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        server.keep_logs(Path(os.environ.get("BGPD_LOGS", server.directory)) / request.node.name)


@pytest.fixture(autouse=True)
def settled(server: Rig, logs: None) -> None:
    server.wait_established()
    server.unit.wait(lambda: server.received() == ROUTES + 200, "all routes of BIRD")
    server.unit.wait(lambda: server.status()["fib_pending"] == 0, "the kernel to have all")
    server.unit.wait(server.is_quiet, "leaves to have said all")


def test_restart_is_seen_by_nobody(server: Rig) -> None:
    before = Seen(server)
    with server.flows() as lost:
        for _ in range(HANDOVERS):
            server.restart()
            assert server.established() == ["bird", "frr", "gobgp", "unnumbered"], server.unit.journal()[-3000:]
    assert Seen(server).all() == before.all(), server.unit.journal()[-3000:]
    assert [result.lost for result in lost] == [0, 0]
    assert server.received() == ROUTES + 200


def test_restart_while_routes_change_is_seen_by_nobody(server: Rig) -> None:
    before = Seen(server)
    with server.flows() as lost, server.churn():
        for _ in range(HANDOVERS):
            server.restart()
    server.bird.birdc("enable churn")  # when nobody disables it any more
    assert Seen(server).sessions() == before.sessions(), server.unit.journal()[-3000:]
    assert [result.lost for result in lost] == [0, 0]
    wait_until(lambda: server.received() == ROUTES + 200, 60, "all routes of BIRD")
    wait_until(lambda: server.status()["fib_pending"] == 0, 60, "the kernel to have all")


@pytest.mark.parametrize("probe", [{"type": "http", "port": HTTP, "path": "/health"}, {"type": "dns", "port": DNS}])
def test_probes_of_services_and_the_journal_have_the_rights_that_the_unit_gives(
    server: Rig, probe: dict[str, object]
) -> None:
    bgpd, pod = "/usr/local/bin/bgpd", server.pod
    for address, length in zip(ADDRESSES, (32, 128)):
        pod.ip("addr", "replace", f"{address}/{length}", "dev", "lo")
    site = pod.make_directory(str(probe["type"]))
    (site / "status").write_text("200")
    asked = {**probe, "interval_s": 0.2, "timeout_s": 0.2, "rise": 2, "fall": 2}
    if probe["type"] == "dns":
        asked["query"] = "www.example.org"
    service = {
        "addresses": ADDRESSES[:1],
        "backends": [{"id": "pod", "addresses": ["10.64.1.5"]}],
        "probe": asked,
    }
    server.machine.write("/run/service.json", json.dumps(service))
    answering = pod.popen(sys.executable, "-m", "tests.daemon.vip", str(site), "pod", log_path=site / "log")
    try:
        server.machine.run(bgpd, "service", "add", "web", "/run/service.json", "--timeout", "0", check=False)
        server.unit.wait(lambda: announced(server), "the address to answer")
        (site / "status").write_text("503")
        server.unit.wait(lambda: not announced(server), "the address to be withdrawn")
    finally:
        server.machine.run(bgpd, "service", "del", "web", check=False)
        answering.stop()
    events = json.loads(server.machine.run(bgpd, "show", "events", "--json", "--event", "service"))
    assert {"service.address_answers", "service.address_fails"} <= {event["event"] for event in events}
    assert server.machine.run("ls", "/var/lib/bgpd/journal.sqlite")
    assert not [text for text in server.status()["warnings"] if "events" in text]


def announced(server: Rig) -> bool:
    return any(view["announced"] for view in server.unit.show("services"))


def test_upgrade_by_root_restarts_the_unit_and_by_the_user_executes_the_installed_version(server: Rig) -> None:
    before, pid = Seen(server), server.unit.property("MainPID")
    with server.flows() as lost:
        said = server.machine.run("runuser", "-u", "bgpd", "--", "/usr/local/bin/bgpd", "upgrade", timeout_s=120)
        assert f"process {pid}" in said
        assert server.unit.property("MainPID") == pid
        server.machine.run("/usr/local/bin/bgpd", "upgrade", timeout_s=120)
    assert server.unit.property("MainPID") != pid
    assert Seen(server).all() == before.all(), server.unit.journal()[-3000:]
    assert [result.lost for result in lost] == [0, 0]


def test_version_that_cannot_start_is_refused_and_nothing_changes(server: Rig) -> None:
    before, pid = Seen(server), server.unit.property("MainPID")
    package = server.machine.run("sh", "-c", "echo /opt/bgpd/lib/python3*/site-packages/bgpd").strip()
    server.machine.run("sh", "-c", f"cp {package}/routing.py /run/kept; echo 'import nowhere' >>{package}/routing.py")
    try:
        said = server.machine.run("sh", "-c", "/usr/local/bin/bgpd upgrade 2>&1 || true", timeout_s=120)
        assert "the installed bgpd cannot start" in said
        assert "No module named 'nowhere'" in said
    finally:
        server.machine.run("cp", "/run/kept", f"{package}/routing.py")
    assert server.unit.property("MainPID") == pid
    assert Seen(server).all() == before.all()


@pytest.mark.parametrize(
    "fault",
    [
        "import os, sys; os.path.exists('/run/bgpd/broken') and sys.exit(3)",  # does not start
        "import os, time; os.path.exists('/run/bgpd/broken') and time.sleep(600)",  # hangs at its start
        "from bgpd.handover import snapshot; snapshot.VERSION += 1",  # knows another snapshot
    ],
)
def test_broken_new_version_is_a_graceful_restart_and_no_packet_is_lost(server: Rig, fault: str) -> None:
    before = Seen(server)
    package = server.machine.run("sh", "-c", "echo /opt/bgpd/lib/python3*/site-packages/bgpd").strip()
    server.machine.run("sh", "-c", f"touch /run/bgpd/broken; cp {package}/__main__.py /run/kept")
    try:
        with server.flows() as lost:
            server.machine.run(
                "sh", "-c", 'sed -i "/^from __future__/a $1" "$2"', "sh", fault, f"{package}/__main__.py"
            )
            server.machine.run("systemctl", "restart", "bgpd", check=False, timeout_s=120)
            server.machine.run("rm", "-f", "/run/bgpd/broken")
            server.unit.wait(lambda: server.unit.property("ActiveState") == "active", "it to start after all")
            server.wait_established()
            server.unit.wait(lambda: server.received() == ROUTES + 200, "all routes to be back")
    finally:
        server.machine.run("sh", "-c", f"cp /run/kept {package}/__main__.py; rm -f /run/bgpd/broken")
    after = Seen(server)
    assert [result.lost for result in lost] == [0, 0]
    assert after.frr["10.0.1.1"]["notifications"] == before.frr["10.0.1.1"]["notifications"], "it was told nothing"
    assert after.frr["10.0.1.1"]["opens"] != before.frr["10.0.1.1"]["opens"]


def test_new_version_that_crashes_after_adoption_is_a_graceful_restart(server: Rig) -> None:
    before = Seen(server)
    with server.flows() as lost:
        server.restart()
        assert Seen(server).all() == before.all(), server.unit.journal()[-3000:]
        pid = server.unit.property("MainPID")
        server.machine.run("kill", "-SEGV", pid)
        server.unit.wait(lambda: server.unit.property("MainPID") not in ("0", pid), "it to be started again")
        server.unit.wait(lambda: server.unit.property("ActiveState") == "active", "it to be ready")
        server.wait_established()
    assert [result.lost for result in lost] == [0, 0]
    after = Seen(server)
    assert after.frr["10.0.1.1"]["notifications"] == before.frr["10.0.1.1"]["notifications"], "it was told nothing"


def test_stop_is_told_to_all(server: Rig) -> None:
    before = Seen(server)
    server.machine.run("systemctl", "stop", "bgpd")
    after = Seen(server)
    for name in before.frr:
        heard = [seen.frr[name]["notifications"][1] for seen in (before, after)]
        assert heard[1] > heard[0]
    assert "10.64.1.5" not in server.leaf1.ip("route", "show"), "the leaf keeps nothing"
    server.machine.run("systemctl", "start", "bgpd", timeout_s=120)
    server.wait_established()
