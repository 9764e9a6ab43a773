"""Reachability and sets of next hops: asked once, shared, and forgotten when nothing uses them."""

from __future__ import annotations

import pytest

from bgpd.model.path import BLACKHOLE, NextHop
from bgpd.rib import next_hops
from bgpd.rib.next_hops import NextHopTable
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session


def table(asked: list[NextHop]) -> NextHopTable:
    def resolve(next_hop: NextHop) -> str:
        asked.append(next_hop)
        return "no route"

    return NextHopTable(resolve=resolve)


def test_each_next_hop_is_asked_once() -> None:
    asked: list[NextHop] = []
    known = table(asked)
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: no route"
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: no route"
    assert asked == [hop("10.0.0.1")]


def test_news_count_only_where_reachability_differs() -> None:
    known = table([])
    assert not known.changed(hop("10.0.0.1"), "")
    known.why_unreachable(hop("10.0.0.1"))
    assert not known.changed(hop("10.0.0.1"), "link down")
    assert known.epoch == 0
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: link down"
    assert known.changed(hop("10.0.0.1"), "")
    assert known.epoch == 1


def test_a_session_that_runs_through_next_hops_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_hops, "_PRUNE_AT", 20)
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaf1 = recorder.up(leaf(1), session("leaf1"))
    leaf2 = recorder.up(leaf(2), session("leaf2"))
    given = attributes(1)
    recorder.announce(leaf2, given, hop("10.0.2.2"), "10.1.0.0/24")
    for number in range(200):
        recorder.announce(leaf1, given, hop(f"10.0.1.{number}"), "10.1.0.0/24")
    known = recorder.rib.table("", V4)._next_hop_table
    assert len(known._why) + len(known._sets) <= 20
    both = recorder.rib.desired("", V4, key("10.1.0.0/24"))
    assert both == (hop("10.0.1.199"), hop("10.0.2.2"))
    recorder.announce(leaf1, given, hop("10.0.1.199"), "10.2.0.0/24")
    recorder.announce(leaf2, given, hop("10.0.2.2"), "10.2.0.0/24")
    assert recorder.rib.desired("", V4, key("10.2.0.0/24")) is both
    assert known._sets[BLACKHOLE] is BLACKHOLE


def test_what_is_forgotten_is_told_so_that_nobody_keeps_it() -> None:
    known = table([])
    for number in range(5):
        known.why_unreachable(hop(f"10.0.0.{number}"))
    assert known.prune([hop("10.0.0.3")], []) == [hop(f"10.0.0.{number}") for number in (0, 1, 2, 4)]


def test_next_hops_that_only_one_session_has_named() -> None:
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaf1, leaf2 = (recorder.up(leaf(number), session(f"leaf{number}")) for number in (1, 2))
    for number in range(3):
        recorder.announce(leaf1, attributes(1), hop(f"10.0.0.{number}"), f"10.1.{number}.0/24")
    recorder.announce(leaf2, attributes(1), hop("10.0.0.1"), "10.1.0.0/24")
    assert recorder.rib.next_hops_of_only(leaf1) == {hop("10.0.0.0"), hop("10.0.0.2")}
    assert recorder.rib.next_hops_of_only(leaf2) == set()
    drain(recorder.rib.neighbor_down(leaf2))
    assert recorder.rib.next_hops_of_only(leaf1) == {hop(f"10.0.0.{number}") for number in range(3)}
    assert recorder.rib.next_hops_of_only(leaf2) == set()
