"""Two wired namespaces and real daemons in them, for tests of bgpd against other speakers.

    def test_session_with_bird(wire, start):
        bird = start(Bird, wire.peer, BIRD_CONFIG)
        bgpd = start(Bgpd, wire.host, BGPD_CONFIG)
        wait_until(bird.established, 10, "the session", logs=bgpd.logs)

When a test fails its report holds the tails of all daemons' logs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeVar

import pytest

from labs.daemons import Daemon
from labs.namespace import Namespace, link
from labs.process import tail

AnyDaemon = TypeVar("AnyDaemon", bound=Daemon)


class Wire(NamedTuple):
    """A host and its peer: host eth0 10.0.1.1/24 and 2001:db8:1::1/64, peer eth0 10.0.1.2 and 2001:db8:1::2."""

    host: Namespace
    peer: Namespace


class Fork(NamedTuple):
    """A host with two leaves: host eth0 and eth1 are 10.0.1.1 and 10.0.2.1, each leaf's eth0 is .2; IPv6 likewise."""

    host: Namespace
    leaf1: Namespace
    leaf2: Namespace


class Starter:
    """Starts daemons for one test; they end with it."""

    def __init__(self) -> None:
        self.daemons: list[Daemon] = []

    def __call__(self, kind: Callable[..., AnyDaemon], namespace: Namespace, config: str, **options: Any) -> AnyDaemon:
        """Start a daemon of labs.daemons in a namespace and wait until it answers."""
        daemon = kind(namespace, config, **options)
        self.daemons.append(daemon)
        return daemon

    def stop(self) -> None:
        """End all, newest first."""
        for daemon in reversed(self.daemons):
            daemon.stop()


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Host and peer on one link."""
    with Namespace("host", prefix="test") as host, Namespace("peer", prefix="test") as peer:
        _connect(host, "eth0", peer, 1)
        yield Wire(host, peer)


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Host with a link to each of two leaves."""
    with (
        Namespace("host", prefix="test") as host,
        Namespace("leaf1", prefix="test") as leaf1,
        Namespace("leaf2", prefix="test") as leaf2,
    ):
        _connect(host, "eth0", leaf1, 1)
        _connect(host, "eth1", leaf2, 2)
        yield Fork(host, leaf1, leaf2)


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starter of daemons."""
    starter = Starter()
    try:
        yield starter
    finally:
        starter.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Put the logs of the test's daemons into the report of a failure."""
    outcome = yield
    report = outcome.get_result()
    starter = getattr(item, "funcargs", {}).get("start")
    if report.when == "call" and report.failed and isinstance(starter, Starter):
        for daemon in starter.daemons:
            for path in dict.fromkeys(daemon.logs):
                report.sections.append((f"{daemon.namespace.label}: {daemon.kind}", tail(path, 40)))


def _connect(host: Namespace, interface: str, peer: Namespace, number: int) -> None:
    link(host, interface, peer, "eth0")
    host.addresses(interface, f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
    peer.addresses("eth0", f"10.0.{number}.2/24", f"2001:db8:{number}::2/64")
