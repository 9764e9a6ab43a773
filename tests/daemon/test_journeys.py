"""The three journeys of docs/architecture.md, followed through a running daemon: they are as short as the page says."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labs.process import wait_until
from tests.architecture_page import MOST, named, passed
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started
from tests.daemon.feed import MQTT, Orchestrator
from tests.daemon.wire_peer import UPDATE, WirePeer, receive, update

pytestmark = pytest.mark.netns

TRACER = Path(__file__).parent / "tracer"
RECORDING = ("bgpd/journal/", "bgpd/history/", "bgpd/rib/recording.py", "bgpd/rib/losses.py")
EVERYWHERE = ("bgpd/model/", "bgpd/runtime/", "bgpd/readiness.py", "bgpd/log.py", *RECORDING)
"""Values and turns, the look at readiness that each change of routes asks for, and what is kept: events, losses in
bulk, and what enters the RIB."""
POLICY = '[[policy.p.rules]]\naction = "accept"\n'


class Traced:
    """A daemon that notes which files it runs through."""

    def __init__(self, host: Host, note: Path) -> None:
        self.host = host
        self._note = note

    def files(self, act: Callable[[], object], until: Callable[[], object]) -> set[str]:
        """The files that are touched from `act` until its effect is there."""
        wait_until(self._is_idle, 20, "the daemon to be idle")
        self._signal(signal.SIGUSR1)
        act()
        wait_until(until, 15, "the effect")
        return self._touched()

    def _is_idle(self) -> bool:
        """Whether nothing happens for a while: what is left over of the start would be noted, too."""
        self._signal(signal.SIGUSR1)
        time.sleep(0.3)
        return all(file.startswith(EVERYWHERE) for file in self._touched())

    def _touched(self) -> set[str]:
        return {f"bgpd/{line.split()[0]}" for line in self._signal(signal.SIGUSR2).splitlines()}

    def _signal(self, number: int) -> str:
        self._note.unlink(missing_ok=True)
        os.kill(self.host.pid, number)
        wait_until(self._note.exists, 10, "the tracer")
        return self._note.read_text()


@pytest.fixture
def orchestrator(fabric: Fabric) -> Iterator[Orchestrator]:
    with Orchestrator(fabric.host) as orchestrator:
        yield orchestrator


@contextlib.contextmanager
def traced(fabric: Fabric, peer: WirePeer, note: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    monkeypatch.setenv("PYTHONPATH", str(TRACER))
    monkeypatch.setenv("BGPD_TRACE", str(note))
    neighbor = leaf(1, hold_time_s=0).replace('"all"', '"p"')
    with started(fabric, neighbor, POLICY, MQTT, wait=False) as host:
        yield Traced(host, note)


def test_journeys_touch_the_files_that_the_page_names(
    fabric: Fabric, orchestrator: Orchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = MOST
    with WirePeer(fabric.leaf1) as peer, traced(fabric, peer, tmp_path / "note", monkeypatch) as daemon:
        connection = peer.establish()
        host = daemon.host
        host.wait_ready()
        announced = update(("10.200.0.0/24",), asn=65201)
        files = daemon.files(
            lambda: connection.sendall(announced), lambda: "10.200.0.0/24" in kernel_routes(fabric.host)
        )
        judge(files, passed(first), named(first))

        sent: list[bytes] = []

        def told() -> bool:
            kind, body = receive(connection)
            sent.extend([body] if kind == UPDATE else [])
            return any(bytes((32, 10, 64, 5, 5)) in body for body in sent)

        files = daemon.files(lambda: orchestrator.workload("w1", "10.64.5.5"), told)
        judge(files, passed(second), named(second) | named(first))

        text = host.config_path.read_text()
        host.config_path.write_text(text.replace('action = "accept"', 'action = "reject"'))
        files = daemon.files(
            lambda: os.kill(host.pid, signal.SIGHUP), lambda: "10.200.0.0/24" not in kernel_routes(fabric.host)
        )
        judge(files, passed(third), named(third) | named(first))


def judge(touched: set[str], table: list[str], allowed: set[str]) -> None:
    assert set(table) - touched == set(), "files of the table that are not touched"
    strangers = {file for file in touched - allowed if not file.startswith(EVERYWHERE)}
    assert strangers == set(), f"files that are touched and not named: {sorted(strangers)}"
