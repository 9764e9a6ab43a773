"""The BFD process's end of the control channel, with a daemon that does what a daemon should not."""

from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from bgpd.bfd.control import END, hello_line
from bgpd.bfd.server import AnotherRuns, Server


class Side:
    """The server in this process, with what it called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.poller = select.epoll()
        self.lines: list[str] = []
        self.wanted = 0
        self.server = Server(str(path), self.poller, greeted=lambda: None, wanted=self._want, log=self.lines.append)

    def _want(self, all_desired: object) -> None:
        self.wanted += 1

    def turn(self) -> None:
        """What is ready now."""
        for descriptor, events in self.poller.poll(0):
            self.server.handles(descriptor, events)

    def connect(self) -> socket.socket:
        """A daemon that has greeted."""
        daemon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        daemon.connect(str(self.path))
        daemon.sendall(f"{hello_line()}\n".encode())
        self.turn()
        self.turn()
        assert self.server.has_client
        return daemon


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path / "bfd.sock")
    yield side
    side.server.close()
    side.poller.close()


def test_a_daemon_that_ends_without_having_read_costs_its_connection_only(side: Side) -> None:
    daemon = side.connect()
    side.server.send("session " + "x" * (1 << 20))
    daemon.close()
    side.turn()
    assert not side.server.has_client
    with side.connect() as again:
        again.sendall(f"{END}\n".encode())
        side.turn()
        assert side.wanted == 1


def test_a_daemon_that_never_reads_is_disconnected_and_nothing_else_ends(side: Side) -> None:
    with side.connect():
        for _ in range(6):
            side.server.send("session " + "x" * (1 << 20))
        assert side.lines[-1] == "daemon is disconnected: it does not read"
        side.turn()
    side.connect().close()
    side.turn()


def test_a_daemon_that_cannot_be_accepted_waits_and_keeps_nobody_busy(side: Side) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.connect(str(side.path))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            side.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "Too many open files" in side.lines[-1]
        assert side.poller.poll(0) == []
        side.server.listen_again()
        daemon.sendall(f"{hello_line()}\n".encode())
        side.turn()
        side.turn()
        assert side.server.has_client


def test_a_socket_that_somebody_removed_is_no_fault_at_the_end(tmp_path: Path) -> None:
    side = Side(tmp_path / "other.sock")
    side.path.unlink()
    side.server.close()


def test_a_process_that_is_stopped_is_another_one_however_many_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "bfd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stopped, ExitStack() as waiting:
        stopped.bind(str(path))
        stopped.listen(0)
        for _ in range(3):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            with suppress(BlockingIOError):
                one.connect(str(path))
            with pytest.raises(AnotherRuns):
                Side(path)
    Side(path).server.close()


def test_what_is_no_socket_is_left_and_told(tmp_path: Path) -> None:
    (tmp_path / "bfd.sock").write_text("notes")
    with pytest.raises(OSError, match="is no socket: remove it"):
        Side(tmp_path / "bfd.sock")
    assert (tmp_path / "bfd.sock").read_text() == "notes"
