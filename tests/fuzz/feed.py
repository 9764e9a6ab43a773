"""Target: what a broker says of workloads and services, in any order, with time, reconnections and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from bgpd.workload.feed import feed, generations, payload, restart_notes
from bgpd.workload.feed.saved import Saved
from tests.fuzz.target import Script, Target
from tests.workload.feed.test_feed import FeedRig

IDS = ("a", "b", "vm7")
SAID = (
    b'{"addresses":["10.64.1.5"],"interface":"pod1"}',
    b'{"addresses":["10.64.1.6","2001:db8::6"],"interface":"pod2"}',
    b'{"addresses":["10.64.1.5"],"interface":"pod2","vrf":"blue"}',
    b"",
    b"[]",
)
SERVICES = (b'{"addresses":["10.0.0.2"]}', b'{"addresses":["10.0.0.3"],"vrf":"blue"}', b"", b"{}")
SECONDS = (0.1, 0.6, 3.0, 6.0, 400.0)


class Broker:
    """What it says next is in a script. The host may start anew, with what it has saved."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.rig = FeedRig(most=3)

    def workload(self) -> None:
        self.rig.stream.workload_received(self.script.choice(IDS), self.script.choice(SAID), self.rig.at)

    def service(self) -> None:
        self.rig.stream.service_received(self.script.choice(IDS), self.script.choice(SERVICES), self.rig.at)

    def sync(self) -> None:
        number = self.script.byte()
        if number & 0x80:
            count, services = number >> 2 & 3, number & 3
            said = {"generation": number >> 4 & 3, "count": count, "services": services, "epoch": "ab"[number & 1]}
            self.rig.stream.sync_received(msgspec.json.encode(said), self.rig.at)
        else:
            self.rig.sync(number >> 2, number & 3)

    def anything(self) -> None:
        """Of any name and with any payload, to one of the topics."""
        kind, name = self.script.byte(), self.script.take(self.script.byte() & 7).decode(errors="replace")
        body = self.script.take(self.script.byte())
        match kind % 3:
            case 0:
                self.rig.stream.workload_received(name, body, self.rig.at)
            case 1:
                self.rig.stream.service_received(name, body, self.rig.at)
            case 2:
                self.rig.stream.sync_received(body, self.rig.at)

    def other_vrfs(self) -> None:
        self.rig.feed.vrfs = {""} if self.rig.feed.vrfs != {""} else {"", "blue"}
        list(self.rig.feed.follow_vrfs())

    def restart(self) -> None:
        """By what the journal of the state file says."""
        vrfs, at = self.rig.feed.vrfs, self.rig.at
        self.rig = FeedRig(saved=self.read_again(), most=3)
        self.rig.feed.vrfs, self.rig.at = vrfs, at
        list(self.rig.feed.follow_vrfs())

    def read_again(self) -> Saved:
        return msgspec.json.decode(msgspec.json.encode(self.rig.on_disk), type=Saved)

    def check(self) -> None:
        """What is in force is what the file says, and all of it can be told."""
        ours, on_disk = self.rig.feed, self.rig.on_disk
        saved = ours.saved()
        assert (saved.workloads, saved.services) == (on_disk.workloads, on_disk.services)
        assert (saved.generation, saved.epoch) == (on_disk.generation, on_disk.epoch)
        assert len(saved.workloads) <= 3
        assert len(saved.services) <= 3
        assert self.rig.applied.keys() == ours.services.keys()
        assert ours.workloads.keys() >= set(self.rig.claims.claimed("mqtt"))
        self.read_again()


STEPS: tuple[Callable[[Broker], None], ...] = (
    Broker.workload,
    Broker.workload,
    Broker.service,
    Broker.sync,
    Broker.anything,
    lambda of: of.rig.wait(of.script.choice(SECONDS)),
    lambda of: of.rig.wait(of.script.choice(SECONDS)),
    lambda of: of.rig.rejoin(),
    lambda of: of.rig.settle(),
    Broker.other_vrfs,
    Broker.restart,
)


def run_feed(data: bytes) -> None:
    """The feed of an orchestrator: what is in force is what is on the disk, whatever the broker says."""
    script = Script(data)
    broker = Broker(script)
    while not script.is_over:
        script.choice(STEPS)(broker)
        broker.check()


def seeds() -> Iterator[bytes]:
    """All that is said in one piece, before and after each other step."""
    for step in range(len(STEPS)):
        said = b"".join(bytes((0, name, number)) for name in range(len(IDS)) for number in range(len(SAID)))
        services = b"".join(bytes((2, name, number)) for name in range(len(IDS)) for number in range(len(SERVICES)))
        complete = bytes((3, 0x84, 5, 1))
        yield said + bytes((step, 3)) + complete + services + bytes((step, 4)) + complete


TARGETS = {"feed": Target(run_feed, (feed, generations, payload, restart_notes), seeds, messages=40)}
