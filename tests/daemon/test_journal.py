"""What happened is known after a restart, a crash and a hand-over, and a disk that fails costs only that."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from labs.process import LabError, run_command
from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.managed import managed
from tests.daemon.wire_peer import WirePeer

pytestmark = pytest.mark.netns

POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def events(host: Host, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.cli("show", "events", "--json", *options))
    return found


def names(host: Host, *options: str) -> list[str]:
    return [event["event"] for event in events(host, *options)]


def test_events_outlive_a_crash_and_are_found_by_what_they_are_about(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1), POD) as host:
        with peer.establish():
            host.wait(lambda: "session.established" in names(host, "leaf1"), "the session")
            host.wait(lambda: "workload.announced" in names(host, "10.64.1.5"), "the workload")
        host.wait(lambda: "session.closed" in names(host, "leaf1"), "the loss")
        journal = host.directory / "state" / "journal.sqlite"
        before = events(host)
        host.terminate(signal.SIGKILL)
        read = json.loads(host.cli("show", "events", "--json", "--file", str(journal), "--neighbor", "leaf1"))
        assert [event["event"] for event in read][:2] == ["session.established", "session.closed"]
        host.start()
        after = events(host)
        assert after[: len(before)] == before
        assert [event["sequence"] for event in after] == list(range(1, len(after) + 1))
        assert names(host, "--event", "bgpd.starting") == ["bgpd.starting"] * 2
        assert {event["level"] for event in events(host, "--level", "warning")} <= {"warning", "error"}
        (newest,) = events(host, "--since", "1h", "--limit", "1")
        assert newest["sequence"] >= after[-1]["sequence"], "the last one; it goes on"
        assert names(host, "--until", "2026-01-01") == []
        for wrong in (("--level", "loud"), ("--since", "yesterday"), ("--prefix", "10.0.0.0/33")):
            with pytest.raises(LabError):
                host.cli("show", "events", *wrong)


def test_events_go_on_over_a_hand_over(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, managed(fabric, leaf(1)) as host, peer.establish():
        host.wait_established("leaf1")
        started_before = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("bgpd.started")) > started_before, "the next process")
        found = names(host)
        assert found.count("bgpd.started") == 2
        assert found.index("handover.left") < found.index("session.adopted")


def test_a_disk_that_cannot_be_written_costs_the_journal_only(fabric: Fabric, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    state = table("[state]", directory=str(small))
    run_command(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)])
    try:
        with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1), state, wait=False) as host, peer.establish():
            host.wait_established("leaf1")
            full = small / "full"
            with contextlib.suppress(OSError), full.open("wb", buffering=0) as file:
                for _ in range(4000):
                    file.write(b"x" * 4096)
            host.cli("reload")
            host.wait(lambda: any("events are not kept" in text for text in host.health()["warnings"]), "the warning")
            assert "reload.done" in names(host)
            host.wait_established("leaf1")
            full.unlink()
            host.wait(lambda: "journal.recovered" in names(host), "the journal to go on", 30)
            assert "reload.done" in names(host)
            host.wait(lambda: host.health()["warnings"] == [], "no warning", 30)
    finally:
        run_command(["umount", str(small)])
