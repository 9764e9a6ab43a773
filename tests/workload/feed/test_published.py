"""Which topics are published when something changes, and what they say when they are sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bgpd.model.reports import Problem
from bgpd.model.views.sessions import NeighborView
from bgpd.workload.feed.published import PublishedStates
from bgpd.workload.feed.reports import SERVICE, STATE_FILE, SYNC, WORKLOAD
from tests.workload.feed.test_feed import FeedRig
from tests.workload.fixtures import claim

WRONG = Problem("count", "is no number")


class Rig:
    """Topics that keep what was published, and in which order."""

    def __init__(self) -> None:
        self.feed = FeedRig()
        self.topics: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._renders: dict[str, Callable[[], bytes]] = {}
        self.states = PublishedStates(
            self,
            reports=self.feed.reports,
            services=self.feed.services,
            sessions=self.feed,
            generations=self.feed.stream,
        )

    def publish(self, topic: str, render: Callable[[], bytes]) -> None:
        self.topics.append(topic)
        self._renders[topic] = render

    def publish_event(self, at: float, event: str, fields: dict[str, Any]) -> None:
        self.events.append((event, fields))

    def new(self) -> list[str]:
        """The topics that were published since this was asked last."""
        found, self.topics = self.topics, []
        return found

    def says(self, topic: str) -> Any:
        """What a topic says now; None if it is empty."""
        data = self._renders[topic]()
        return json.loads(data) if data else None


def neighbor(name: str, state: str = "established", since: float = 1.0) -> NeighborView:
    return NeighborView(
        name=name, address="10.0.1.2", interface="", asn=65201, local_asn=65001, state=state, since=since
    )


def test_status_from_the_start() -> None:
    rig = Rig()
    assert rig.new() == ["status"]
    status = rig.says("status")
    assert (status["online"], status["ready"], status["reason"]) == (True, False, "starting")
    assert (status["generation"], status["complete"], status["neighbors"], status["errors"]) == (None, False, {}, [])


def test_readiness_and_the_end() -> None:
    rig = Rig()
    rig.new()
    rig.states.readiness_changed("")
    assert rig.new() == ["status"]
    assert (rig.says("status")["ready"], rig.says("status")["reason"]) == (True, "")
    rig.states.stopping()
    assert rig.new() == ["status"]
    status = rig.says("status")
    assert (status["online"], status["ready"], status["reason"]) == (False, False, "the daemon was stopped")
    will = json.loads(rig.states.offline("no answer"))
    assert (will["online"], will["ready"], will["reason"]) == (False, False, "no answer")


def test_neighbors_that_come_change_and_go() -> None:
    rig = Rig()
    rig.new()
    rig.feed.sessions = [neighbor("leaf1"), neighbor("swp1/x#+")]
    rig.states.neighbors_changed()
    assert rig.new() == ["neighbors/leaf1", "neighbors/swp1%2Fx%23%2B", "status"]
    assert rig.events == [], "one that is new has not changed its state"
    assert rig.says("neighbors/leaf1")["state"] == "established"
    assert rig.says("status")["neighbors"] == {"leaf1": "established", "swp1/x#+": "established"}

    rig.states.neighbors_changed()
    assert rig.new() == ["status"], "nothing is new of any neighbor"

    rig.feed.sessions = [neighbor("leaf1", "idle", 2.0), neighbor("swp1/x#+", since=2.0)]
    rig.states.neighbors_changed()
    assert rig.new() == ["neighbors/leaf1", "neighbors/swp1%2Fx%23%2B", "status"]
    assert rig.events == [("neighbor.state", {"neighbor": "leaf1", "state": "idle"})]

    rig.feed.sessions = [neighbor("leaf1", "idle", 2.0)]
    rig.states.neighbors_changed()
    assert rig.new() == ["neighbors/swp1%2Fx%23%2B", "status"]
    assert rig.says("neighbors/swp1%2Fx%23%2B") is None
    assert rig.says("status")["neighbors"] == {"leaf1": "idle"}


def test_states_of_the_workloads_that_a_feed_sent() -> None:
    rig = Rig()
    rig.feed.claims.claim("mqtt", "a", (claim("10.64.1.5/32"),))
    rig.feed.claims.claim("static", "b", (claim("10.64.1.6/32", id="b", source="static"),))
    rig.feed.settle()
    rig.new()
    rig.states.states_changed(rig.feed.states)
    assert set(rig.new()) == {"workloads/a/state"}, "of others nobody asked"
    report = rig.says("workloads/a/state")
    assert (report["id"], report["state"], report["addresses"][0]["prefix"]) == ("a", "announced", "10.64.1.5/32")


def test_problems_are_told_where_they_belong() -> None:
    rig = Rig()
    rig.new()
    rig.feed.reports.note("mqtt", WORKLOAD, "a", [WRONG])
    rig.feed.reports.note("mqtt", SERVICE, "s", [WRONG])
    rig.feed.reports.note("mqtt", SYNC, "", [WRONG])
    rig.feed.reports.note("api", STATE_FILE, "", [WRONG])
    assert rig.new() == ["workloads/a/state", "services/s/state", "status", "status"]
    assert (rig.says("workloads/a/state")["state"], rig.says("workloads/a/state")["errors"][0]["path"]) == (
        "failed",
        "count",
    )
    assert (rig.says("services/s/state")["service"], len(rig.says("services/s/state")["errors"])) == (None, 1)
    assert len(rig.says("status")["errors"]) == 2
    for kind, id, source in ((WORKLOAD, "a", "mqtt"), (SERVICE, "s", "mqtt"), (SYNC, "", "mqtt")):
        rig.feed.reports.note(source, kind, id, [])
    assert rig.says("workloads/a/state") is None
    assert rig.says("services/s/state") is None
    assert len(rig.says("status")["errors"]) == 1
