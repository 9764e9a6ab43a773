"""The times of what `ip -ts monitor` prints, and links whose ends differ in their indexes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from labs.namespace import Namespace, link
from labs.process import wait_until
from labs.route_changes import RouteChanges, in_words, last_change

OUTPUT = """[2026-11-26T18:35:27.750745] 10.0.0.0/8 dev aa scope link linkdown
[2026-11-26T18:35:28.001000] Deleted id 5 via 10.0.1.2 dev aa scope link proto bgpd
    and a line that belongs to it
"""


def test_the_last_event_counts() -> None:
    assert last_change(OUTPUT) == datetime(2026, 11, 26, 18, 35, 28, 1000)
    assert last_change("") is None


def test_the_earliest_is_told_first() -> None:
    assert in_words({"spine": 1013.4, "host1": 12.2}) == "kernel routes settled: host1 12 ms, spine 1013 ms"
    assert in_words({}) == "no kernel route changed"


@pytest.mark.netns
def test_changes_are_counted_from_the_given_time_by_namespace() -> None:
    with Namespace("one", prefix="changes") as one, Namespace("two", prefix="changes") as two:
        link(one, "eth0", two, "eth0")
        changes = RouteChanges((one, two), one.make_directory("routes"))
        logs = [monitor.log_path for monitor in changes._monitors.values()]

        def heard() -> str:
            """A route that is there already is no event: it comes and goes until the monitor follows."""
            one.ip("route", "add", "10.0.0.0/8", "dev", "eth0")
            one.ip("route", "del", "10.0.0.0/8", "dev", "eth0")
            return logs[0].read_text()

        wait_until(heard, 10, "events")
        began = datetime.now()
        one.ip("route", "add", "10.1.0.0/16", "dev", "eth0")
        wait_until(lambda: "10.1.0.0" in logs[0].read_text(), 10, "the event")
        took_ms = (datetime.now() - began) / timedelta(milliseconds=1)
        found = changes.stop(began)
        assert set(found) == {"one"}
        assert 0 <= found["one"] <= took_ms


@pytest.mark.netns
def test_no_two_ends_of_links_have_one_index() -> None:
    with Namespace("one", prefix="indexes") as one, Namespace("two", prefix="indexes") as two:
        link(one, "eth0", two, "eth0")
        link(one, "eth1", two, "eth1")
        found = [
            view["ifindex"]
            for namespace in (one, two)
            for view in json.loads(namespace.ip("-j", "link"))
            if view["ifname"] != "lo"
        ]
        assert len(set(found)) == 4
