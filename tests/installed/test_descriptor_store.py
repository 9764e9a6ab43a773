"""What each way to restart or stop the service does to the descriptors that it has, under a real systemd.

In the place of bgpd, in its unit and so with its rights, runs a small program that keeps what it was left. What it
hears and finds, it writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from labs.machine import Machine
from labs.namespace import Namespace
from labs.process import LabError, wait_until
from tests.installed.test_unit import Unit, install

pytestmark = pytest.mark.netns

KEEPER = """
import os, signal, socket, sys, time
from bgpd.handover.store import inherited, store_of_service
from bgpd.runtime.systemd import READY, notify

def say(text):
    with open("/var/lib/bgpd/said", "a") as file:
        file.write(text + "\\n")

found = inherited()
if found:
    count = int(os.pread(found["snapshot"], 9, 0))
    socket.socket(fileno=os.dup(found["session-2"])).send(b"%d" % count)
    said = socket.socket(fileno=os.dup(found["session-1"])).recv(9)
    assert said == b"%d" % count, said
    say(f"found {len(found)} of start {count}")
else:
    left, right = socket.socketpair()
    found, count = {"session-1": left.detach(), "session-2": right.detach(), "snapshot": os.memfd_create("test")}, 0
    say("found nothing")

def heard(number, frame):
    say(f"heard {signal.Signals(number).name}")
    if number == signal.SIGTERM:
        os.ftruncate(found["snapshot"], 0)
        os.pwrite(found["snapshot"], b"%d" % (count + 1), 0)
        store_of_service().keep(found)
    os._exit(0)

signal.signal(signal.SIGTERM, heard)
signal.signal(signal.SIGINT, heard)
while os.path.exists("/var/lib/bgpd/slow"):
    time.sleep(0.05)
notify(READY)
while True:
    time.sleep(60)
"""
DROP_IN = "[Service]\nExecStart=\nExecStart=/opt/bgpd/bin/python /etc/bgpd/keeper.py\nExecReload=\nWatchdogSec=0\n"
NOTHING, FOUND = "found nothing", "found 3 of start {}"
RESTARTED = ["heard SIGTERM", FOUND]


class Service(Unit):
    """The unit with the keeper in it."""

    def does(self, *commands: str, lines: int | None = None) -> list[str]:
        """What the program wrote since before the commands, at least so many lines; "{}" is the start's number."""
        before = len(self.lines())
        self.machine.run("sh", "-c", "; ".join(commands))
        if lines is not None:
            wait_until(lambda: len(self.lines()) >= before + lines, 20, f"{lines} lines to be written")
        return [re.sub(r"start \d+", "start {}", line) for line in self.lines()[before:]]

    def lines(self) -> list[str]:
        return self.machine.run("sh", "-c", "cat /var/lib/bgpd/said || true").splitlines()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Namespace("machine", prefix="S") as network, ExitStack() as stack:
        try:
            machine = stack.enter_context(Machine(network))
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        install(machine)
        machine.write("/etc/bgpd/keeper.py", KEEPER)
        machine.write("/etc/systemd/system/bgpd.service.d/keeper.conf", DROP_IN)
        machine.write("/etc/systemd/system/calm.target", "[Unit]\nAllowIsolate=yes\nRequires=basic.target\n")
        machine.run("systemctl", "daemon-reload")
        yield Service(machine)


@pytest.fixture(autouse=True)
def started(service: Service) -> Iterator[None]:
    service.machine.run("sh", "-c", "rm -f /var/lib/bgpd/slow; systemctl reset-failed; systemctl start bgpd")
    yield
    service.machine.run("systemctl", "stop", "bgpd")


@pytest.mark.parametrize(
    "commands",
    [
        ["systemctl restart bgpd"],
        ["systemctl try-restart bgpd"],
        ["systemctl reload-or-restart bgpd"],
        ["systemctl daemon-reload", "systemctl restart bgpd"],
        ["systemctl daemon-reexec", "systemctl restart bgpd"],
        ["systemctl restart --no-block bgpd", "systemctl daemon-reexec", "systemctl start bgpd"],
    ],
    ids=" and ".join,
)
def test_restart_hands_over(service: Service, commands: list[str]) -> None:
    assert service.does(*commands) == RESTARTED


def test_many_restarts_in_a_row_hand_over_each_time(service: Service) -> None:
    assert service.does(*["systemctl restart bgpd"] * 5) == RESTARTED * 5


def test_restart_of_one_that_is_starting_hands_over_twice(service: Service) -> None:
    restart = "systemctl restart --no-block bgpd"
    assert service.does("touch /var/lib/bgpd/slow", restart, lines=2) == RESTARTED
    assert service.property("ActiveState") == "activating"
    assert service.does(restart, lines=2) == RESTARTED


def test_restart_of_what_it_requires_hands_over(service: Service) -> None:
    service.machine.write("/etc/systemd/system/bgpd.service.d/part.conf", "[Unit]\nPartOf=base.service\n")
    service.machine.write("/etc/systemd/system/base.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    seen = service.does("systemctl daemon-reload", "systemctl start base", "systemctl restart base", lines=2)
    service.machine.run("sh", "-c", "rm /etc/systemd/system/bgpd.service.d/part.conf; systemctl daemon-reload")
    assert seen == RESTARTED


@pytest.mark.parametrize("command", ["systemctl stop bgpd", "systemctl isolate calm.target"])
def test_stop_is_another_signal_and_leaves_nothing(service: Service, command: str) -> None:
    assert service.does(command, lines=1) == ["heard SIGINT"]
    wait_until(lambda: service.property("ActiveState") == "inactive", 20, "the service to have stopped")
    assert service.does("systemctl start bgpd") == [NOTHING]


def test_stop_while_it_starts_is_a_stop(service: Service) -> None:
    assert service.does("touch /var/lib/bgpd/slow", "systemctl restart --no-block bgpd", lines=2) == RESTARTED
    assert service.does("systemctl stop bgpd") == ["heard SIGINT"]


def test_crash_after_adoption_finds_nothing(service: Service) -> None:
    assert service.does("systemctl restart bgpd") == RESTARTED
    assert service.does("systemctl kill --kill-who=main --signal=KILL bgpd", lines=1) == [NOTHING]


def test_signal_by_hand_ends_the_service_and_nothing_is_kept(service: Service) -> None:
    assert service.does("systemctl kill --kill-who=main bgpd", lines=1) == ["heard SIGTERM"]
    wait_until(lambda: service.property("ActiveState") == "inactive", 20, "the service to have stopped")
    assert service.does("systemctl start bgpd") == [NOTHING]


def test_successor_that_is_not_started_again_leaves_nothing(service: Service) -> None:
    broken = "/run/systemd/system/bgpd.service.d/zz-broken.conf"
    service.machine.write(broken, "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit 78'\n")
    assert service.does("systemctl daemon-reload", "systemctl restart bgpd || true") == ["heard SIGTERM"]
    wait_until(lambda: service.property("ActiveState") == "failed", 10, "the service to have failed")
    seen = service.does(f"rm {broken}", "systemctl daemon-reload", "systemctl reset-failed", "systemctl start bgpd")
    assert seen == [NOTHING]


def test_successor_that_fails_to_start_leaves_nothing_to_the_next_attempt(service: Service) -> None:
    """What systemd kept is closed at once: neighbors begin a graceful restart, and do not wait for their hold time."""
    flaky = "/run/systemd/system/bgpd.service.d/zz-flaky.conf"
    once = "ExecStartPre=/bin/sh -c 'test -e /var/lib/bgpd/tried || { touch /var/lib/bgpd/tried; exit 1; }'"
    service.machine.write(flaky, f"[Service]\n{once}\n")
    seen = service.does("systemctl daemon-reload", "systemctl restart bgpd || true", lines=2)
    service.machine.run("sh", "-c", f"rm {flaky}; systemctl daemon-reload")
    assert seen == ["heard SIGTERM", NOTHING]
