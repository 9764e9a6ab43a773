"""Descriptors go to whoever keeps them, and come back by name."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgpd.handover import store
from bgpd.handover.store import VARIABLE, ExecStore, StoreUnusable, SystemdStore, inherited, store_of_service
from bgpd.runtime import systemd


class Manager:
    """The service manager's side of the notification socket: takes messages in a thread, and keeps descriptors."""

    def __init__(self, path: Path, *, answers: bool = True) -> None:
        self.kept: list[tuple[str, int]] = []
        self.said: list[str] = []
        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 253)
            if data == b"end":
                return
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.said.append(data.decode())
            if fields.get("FDSTORE") == "1":
                self.kept += [(fields["FDNAME"], descriptor) for descriptor in descriptors]
            elif fields.get("FDSTOREREMOVE") == "1":
                gone = [one for one in self.kept if one[0] == fields["FDNAME"]]
                self.kept = [one for one in self.kept if one not in gone]
                for _, descriptor in gone:
                    os.close(descriptor)
            elif self._answers:
                for descriptor in descriptors:
                    os.close(descriptor)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
        for _, descriptor in self.kept:
            os.close(descriptor)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[Callable[[bytes], int]]:
    made = []

    def make(content: bytes) -> int:
        made.append(os.memfd_create("test"))
        os.write(made[-1], content)
        return made[-1]

    yield make
    for descriptor in made:
        os.close(descriptor)


def passed(monkeypatch: pytest.MonkeyPatch, items: list[tuple[str, int]]) -> None:
    """As if systemd had started this process with these."""
    monkeypatch.setattr(systemd, "_numbers", lambda count: [descriptor for _, descriptor in items])
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(items)))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(name for name, _ in items))


def test_systemd_has_all_when_keep_returns(manager: Manager, memory: Callable[[bytes], int]) -> None:
    SystemdStore(301).keep({f"session-{number}": memory(b"%d" % number) for number in range(300)})
    assert {name for name, _ in manager.kept} == {"bgpd"}
    assert [os.pread(descriptor, 9, 0) for _, descriptor in manager.kept[1:]] == [b"%d" % n for n in range(300)]
    assert all("FDPOLL=0" in said for said in manager.said if "FDSTORE=1" in said)


def test_what_systemd_has_no_place_for_is_not_sent(manager: Manager, memory: Callable[[bytes], int]) -> None:
    with pytest.raises(StoreUnusable, match="keeps 2 descriptors for this service, 3 are needed: raise FileDesc"):
        SystemdStore(2).keep({"snapshot": memory(b""), "session-1": memory(b"")})
    assert manager.said == []


def test_nothing_is_left_with_systemd_where_it_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Callable[[bytes], int]
) -> None:
    monkeypatch.setattr(systemd, "_SEND_TIMEOUT_S", 0)
    stuck = Manager(tmp_path / "stuck", answers=False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "stuck"))
    with pytest.raises(StoreUnusable, match="systemd does not take the descriptors: systemd did not answer"):
        SystemdStore(9).keep({"snapshot": memory(b"")})
    stuck.close()
    assert stuck.kept == []
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(StoreUnusable, match="No such file"):
        SystemdStore(9).keep({"snapshot": memory(b"")})


def test_store_of_service_is_what_the_manager_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (("8", "/run/x", True), ("8", "", False), ("0", "/run/x", False), ("x", "/run/x", False))
    for places, address, usable in said:
        monkeypatch.setenv("FDSTORE", places)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert (store_of_service() is not None) is usable


def test_inherited_are_the_newest_by_name_and_systemd_forgets_them(
    manager: Manager, memory: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    SystemdStore(9).keep({"snapshot": memory(b"old"), "session-7": memory(b"old")})
    SystemdStore(9).keep({"snapshot": memory(b"new"), "session-1": memory(b"one")})
    items = [(name, os.dup(descriptor)) for name, descriptor in reversed(manager.kept)]
    items.append(("stored", os.memfd_create("of another")))
    items.append(("bgpd", os.memfd_create("bgpd-descriptors")))  # a list that nobody can read
    passed(monkeypatch, items)
    found = inherited()
    assert {name: os.pread(descriptor, 9, 0) for name, descriptor in found.items()} == {
        "snapshot": b"new",
        "session-1": b"one",
    }
    assert not any(os.get_inheritable(descriptor) for descriptor in found.values())
    for _, descriptor in items:
        if descriptor not in found.values():
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(descriptor)
    assert inherited() == {}
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(os.environ)
    systemd.store_descriptors("bgpd", [])
    assert manager.kept == [], "it has read all that was sent before"
    for descriptor in found.values():
        os.close(descriptor)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LISTEN_PID", "1"), ("LISTEN_FDS", "many"), (VARIABLE, "a=99999,b,=3,c=-1,d=x,e=99999999999")],
)
def test_what_is_meant_for_another_process_is_not_used(
    variable: str, value: str, memory: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable != VARIABLE:
        passed(monkeypatch, [("bgpd", memory(b"x"))])
    monkeypatch.setenv(variable, value)
    assert inherited() == {}
    assert variable not in os.environ


BECOME = f"""
import os, signal, sys
from bgpd.handover.store import ExecStore, SIGNALS, inherited
found = inherited()
if not found:
    memory = os.memfd_create("test")
    os.write(memory, b"kept")
    one = ExecStore()
    one.keep({{"snapshot": memory, "session-1": memory}})
    try:
        one.become(["/nowhere"])
    except OSError as error:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        print(error.strerror, len(os.listdir("/proc/self/fd")), blocked, flush=True)
    print(len(os.listdir("/proc/self/fd")), flush=True)
    one.keep({{"snapshot": memory, "session-1": memory}})
    one.become(sys.orig_argv)
blocked = sorted(number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "it has time"
print({{name: os.pread(descriptor, 9, 0) for name, descriptor in found.items()}}, blocked, {VARIABLE!r} in os.environ)
print(any(map(os.get_inheritable, found.values())))
"""


def test_process_that_becomes_the_next_one_keeps_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BECOME], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    failed, after, kept, inheritable = done.stdout.splitlines()
    assert failed.startswith("No such file or directory")
    assert failed.endswith("set()"), "signals are heard again"
    assert failed.split()[-2] == after, "and the duplicates are closed"
    assert kept == f"{{'snapshot': b'kept', 'session-1': b'kept'}} {sorted(one.name for one in store.SIGNALS)} False"
    assert inheritable == "False"


def test_program_that_hangs_before_it_has_them_is_ended() -> None:
    text = """
from bgpd.handover import store
store.BEGIN_S = 0.1
one = store.ExecStore()
one.keep({"snapshot": 0})
one.become(["/bin/sleep", "60"])
"""
    done = subprocess.run([sys.executable, "-c", text], check=False, cwd=Path(__file__).parents[2], timeout=50)
    assert done.returncode == -signal.SIGALRM


def test_no_descriptor_left_is_said(monkeypatch: pytest.MonkeyPatch, memory: Callable[[bytes], int]) -> None:
    descriptors = {"snapshot": memory(b""), "session-1": 99_999}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreUnusable, match="no descriptor is left: Bad file descriptor"):
        ExecStore().keep(descriptors)
    assert len(os.listdir("/proc/self/fd")) == before
    assert signal.SIGTERM in store.SIGNALS


def test_none_left_for_the_signals_costs_no_duplicate(memory: Callable[[bytes], int]) -> None:
    """A duplicate that stays would keep a session's connection open after its end."""
    descriptors = {"snapshot": memory(b""), "session-1": memory(b"")}
    before = len(os.listdir("/proc/self/fd"))
    one = ExecStore()
    one.keep(descriptors)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            one.become(["/bin/true"], signals=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(store.SIGNALS)
