"""What is logged of workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bgpd.workload.events import BURST, WorkloadEvents
from tests.logs import capture_logs
from tests.workload.fixtures import Rig, claim


class EventRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Callable[[], None]] = []
        self.table.listeners.append(WorkloadEvents(lambda seconds, callback: self.ends.append(callback)))
        self.link("pod1")

    def put(self, prefix: str = "10.64.1.5/32", interface: str = "pod1", *, id: str = "a", source: str = "mqtt") -> Any:
        """Claim an address; what was logged."""
        with capture_logs() as logs:
            self.claims.claim(source, id, (claim(prefix, interface, id=id, source=source),))
            self.settle()
        return said(logs)


def said(logs: Any) -> list[tuple[str, str, str]]:
    return [(line["event"], line["id"], line.get("reason", "")) for line in logs]


def test_life_of_a_workload_is_told_once_each() -> None:
    rig = EventRig()
    assert rig.put() == [("workload.announced", "a", "")]
    with capture_logs() as logs:
        rig.link("pod1", up=False)
        rig.settle()
        rig.link("pod1")
        rig.settle()
        rig.claims.claim("mqtt", "a")
        rig.settle()
    assert said(logs) == [
        ("workload.withdrawn", "a", "interface pod1 is down"),
        ("workload.announced", "a", ""),
        ("workload.withdrawn", "a", "it is not claimed any more"),
    ]


def test_what_is_not_announced_says_why() -> None:
    rig = EventRig()
    assert rig.put(interface="pod9") == [("workload.pending", "a", "interface pod9 does not exist")]
    with capture_logs() as logs:
        rig.claims.claim("mqtt", "a")
        rig.settle()
    assert said(logs) == []


def test_conflict_is_a_warning_on_both() -> None:
    rig = EventRig()
    rig.link("pod2")
    rig.put()
    with capture_logs() as logs:
        rig.claims.claim("api", "b", (claim("10.64.1.5/32", "pod2", id="b", source="api"),))
        rig.settle()
    assert [(line["event"], line["id"], line["log_level"]) for line in logs] == [
        ("workload.conflict", "a", "warning"),
        ("workload.conflict", "b", "warning"),
    ]


def test_burst_is_counted() -> None:
    rig = EventRig()
    with capture_logs() as logs:
        for number in range(BURST + 7):
            rig.claims.claim("mqtt", f"w{number}", (claim(f"10.64.1.{number}/32", id=f"w{number}"),))
        rig.settle()
        assert len(logs) == BURST
        (end,) = rig.ends
        end()
    assert (logs[-1]["event"], logs[-1]["announced"]) == ("workload.events_suppressed", 7)
    assert rig.put("10.64.2.1/32", id="later") == [("workload.announced", "later", "")]
