"""Another configuration in the same restart: what it leaves alone goes on, all else is as at a start with it, and the
kernel has in the end what the neighbors of now announce, whatever was announced and withdrawn meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, config, kernel_routes, leaf, table
from tests.daemon.managed import ManagedHost, managed
from tests.daemon.wire_peer import END_OF_RIB, WirePeer, update, withdrawal

pytestmark = pytest.mark.netns

POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
HALF = '[policy.half]\n[[policy.half.rules]]\nmatch = { prefix = ["10.9.0.0/16", "10.10.0.0/16"] }\naction = "accept"\n'
STEPS = 4


class Section(NamedTuple):
    """A neighbor as a configuration has it: another `name` or `hold_time_s` is another session, a policy is not."""

    name: str
    hold_time_s: int
    policy: str

    def goes_on_as(self, other: Section | None) -> bool:
        return other is not None and self[:2] == other[:2]


class Talker:
    """A leaf that takes each connection, announces two routes, and announces and withdraws a third all the time."""

    def __init__(self, fabric: Fabric, number: int) -> None:
        self.number = number
        self.routes = {f"10.{8 + number}.0.0/16": "half", f"10.{28 + number}.0.0/16": "all"}
        self.established = 0
        self._peer = WirePeer((fabric.leaf1, fabric.leaf2)[number - 1], f"10.0.{number}.2", asn=65200 + number)
        self._peer.timeout(0.2)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._peer.__exit__()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                connection = self._peer.establish(hold_time_s=90)
            except (TimeoutError, LabError):
                continue
            self._update(connection, *self.routes)
            connection.sendall(END_OF_RIB)
            self.established += 1
            self._speak(connection)

    def _speak(self, connection: socket.socket) -> None:
        connection.settimeout(0.02)
        passing = f"10.{48 + self.number}.0.0/16"
        try:
            while not self._ending.is_set():
                self._update(connection, passing)
                connection.sendall(withdrawal(passing))
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return
        except OSError:
            return

    def _update(self, connection: socket.socket, *prefixes: str) -> None:
        connection.sendall(update(prefixes, asn=self._peer.asn, next_hop=f"10.0.{self.number}.2"))

    def expected(self, section: Section | None) -> set[str]:
        """What of its routes the kernel has in the end."""
        if section is None:
            return set()
        return {prefix for prefix, least in self.routes.items() if section.policy in (least, "all")}


@pytest.fixture
def talkers(fabric: Fabric) -> Iterator[list[Talker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Talker(fabric, number)) for number in (1, 2)]


def text(sections: list[Section | None], *, has_pod: bool) -> str:
    neighbors = [
        leaf(
            number,
            name=one.name,
            hold_time_s=one.hold_time_s,
            import_=one.policy,
            families=["ipv4-unicast"],
            # its neighbor has no graceful restart here: what is lost is lost at once
        )
        for number, one in enumerate(sections, 1)
        if one is not None
    ]
    return config(*neighbors, HALF, *([POD] if has_pod else []))


def other_section(chosen: random.Random, number: int, other: Section | None) -> Section | None:
    """Any that may stand beside the other one; now and then it has a name that was the other's before."""
    if chosen.random() < 0.25:
        return None
    names = [name for name in ("a", "b", f"leaf{number}") if other is None or other.name != name]
    return Section(chosen.choice(names), chosen.choice([90, 90, 60]), chosen.choice(["all", "half"]))


@pytest.mark.parametrize("seed", [1, 2])
def test_any_other_configuration_in_the_same_restart(fabric: Fabric, talkers: list[Talker], seed: int) -> None:
    chosen = random.Random(seed)
    sections: list[Section | None] = [Section("a", 90, "all"), Section("b", 90, "all")]
    with managed(fabric, "") as host:
        host.write_config(text(sections, has_pod=True))
        host.cli("reload")
        wait_for(host, fabric, talkers, sections, has_pod=True)
        for step in range(STEPS):
            former, counts = list(sections), [one.established for one in talkers]
            has_pod = chosen.random() < 0.5
            sections = list[Section | None]([None, None])
            for place in chosen.sample([0, 1], 2):
                keep = chosen.random() < 0.4 and (
                    former[place] is None or sections[1 - place] is None or former[place][0] != sections[1 - place][0]
                )
                sections[place] = former[place] if keep else other_section(chosen, place + 1, sections[1 - place])
            host.write_config(text(sections, has_pod=has_pod))
            host.hand_over()
            wait_for(host, fabric, talkers, sections, has_pod=has_pod)
            for one, before, now, count in zip(talkers, former, sections, counts):
                goes_on = now is not None and now.goes_on_as(before)
                assert one.established == count + (now is not None and not goes_on), (step, one.number, before, now)


def wait_for(
    host: ManagedHost, fabric: Fabric, talkers: list[Talker], sections: list[Section | None], *, has_pod: bool
) -> None:
    """Until sessions and the kernel's routes are those of a configuration, but for the routes that come and go."""
    names = sorted(one.name for one in sections if one is not None)
    host.wait(lambda: host.established() == names, f"{names} to be established", timeout_s=30)
    wanted = set[str]().union(*[one.expected(section) for one, section in zip(talkers, sections)])
    wanted |= {"10.64.1.5"} if has_pod else set()
    passing = {f"10.{48 + one.number}.0.0/16" for one in talkers}

    def is_right() -> bool:
        return kernel_routes(fabric.host).keys() - passing == wanted

    host.wait(is_right, f"the kernel to have {wanted}", timeout_s=30)
