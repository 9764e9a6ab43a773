"""What systemd is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bgpd.runtime import systemd as systemd_notify


@pytest.mark.parametrize("abstract", [False, True])
def test_assignments_reach_the_socket(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"@bgpd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + path[1:] if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert systemd_notify.notify(systemd_notify.READY, systemd_notify.status("2 of 2\nneighbors"))
        assert receiver.recv(100) == b"READY=1\nSTATUS=2 of 2 neighbors"


def test_systemd_that_reads_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is frozen, and the messages of all services wait for it: a sign of life would have taken the loop for ever."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setattr(systemd_notify, "_SEND_TIMEOUT_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as frozen:
        frozen.bind(str(tmp_path / "notify"))
        while systemd_notify.notify(systemd_notify.WATCHDOG, waits=False):
            pass
        assert not systemd_notify.notify(systemd_notify.READY)
        assert frozen.recv(100) == b"WATCHDOG=1"
        assert systemd_notify.notify(systemd_notify.WATCHDOG, waits=False)


def test_without_systemd_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd_notify.notify(systemd_notify.WATCHDOG)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not systemd_notify.notify(systemd_notify.WATCHDOG)


def test_watchdog_is_fed_twice_as_often_as_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert systemd_notify.watchdog_interval_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert systemd_notify.watchdog_interval_s() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    assert systemd_notify.watchdog_interval_s() is None


def test_reload_begins_with_the_monotonic_time() -> None:
    begin, at = systemd_notify.reloading()
    assert begin == "RELOADING=1"
    assert at.startswith("MONOTONIC_USEC=")


FAILS_AT_IMPORTS = """
import sys
sys.modules["bgpd.inheritance"] = None
from bgpd.__main__ import main
main(["run"])
"""


@pytest.mark.parametrize("passed", ["", "LISTEN_FDS", systemd_notify.LEFT_OPEN])
def test_a_start_that_nobody_waits_for_has_time_before_it_imports(passed: str, tmp_path: Path) -> None:
    """On a host that boots, with a slow disk and much else to do, imports took longer than the unit gives to a process
    that takes over sessions, and systemd ended it again and again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), **({passed: "1"} if passed else {})}
        done = subprocess.run(
            [sys.executable, "-c", FAILS_AT_IMPORTS], env=environment, capture_output=True, check=False
        )
        assert b"import of bgpd.inheritance halted" in done.stderr
        if passed:
            with pytest.raises(BlockingIOError):
                receiver.recv(100)
        else:
            assert receiver.recv(100) == b"EXTEND_TIMEOUT_USEC=90000000"
