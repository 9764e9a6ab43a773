"""The first broken link of the chain that `bgpd explain` shows, and the rules that decided about a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.load import load_config
from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig
from bgpd.explain import _rules_text, _say_rules
from bgpd.model.views.explained import ExplainView
from bgpd.model.views.routes import CandidateView, NextHopView
from bgpd.reachable import first_broken
from bgpd.rib.views import route_view
from tests.rib.build import V4, Recorder, attributes, configuration, hop, key, leaf, session
from tests.test_explain import BEST, HOP1, WAITS, fib, kernel, route, workload

PREFIX = "10.9.0.0/16"


def next_hop(**fields: object) -> NextHopView:
    return NextHopView(address="10.0.1.2", interface="eth0", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"kernel": kernel(HOP1), "route": route(BEST), "fib": fib()}, ""),
        ({}, "no neighbor has announced a way to it"),
        (
            {"route": route(CandidateView(source="leaf1", kind="ebgp", role="rejected", reason="AS loop"))},
            "10.9.0.0/16 was announced and cannot be used (leaf1: AS loop)",
        ),
        ({"route": route(BEST), "fib": fib("failed", "no such device")}, "the kernel route is failed: no such device"),
        ({"route": route(BEST)}, "the kernel route is pending"),
        ({"kernel": kernel(error="a blackhole")}, "10.9.0.0/16 drops packets: a blackhole"),
        ({"kernel": kernel()}, "10.9.0.0/16 has no next hop"),
        ({"kernel": kernel(next_hop(live=False, why="eth0 is down"))}, "next hop 10.0.1.2%eth0: eth0 is down"),
        ({"kernel": kernel(next_hop(live=False, why="eth0 is down"), HOP1)}, ""),
        ({"kernel": kernel(next_hop(neighbor="failed"))}, "next hop 10.0.1.2%eth0 does not answer ARP"),
        ({"kernel": kernel(next_hop(neighbor="incomplete"))}, "does not answer ARP (neighbor table: incomplete)"),
        ({"kernel": kernel(next_hop(neighbor="stale 02:00:00:00:00:01"))}, ""),
        ({"kernel": kernel(next_hop(bfd="down"))}, "next hop 10.0.1.2%eth0: BFD is down"),
        ({"kernel": kernel(next_hop(bfd="admin-down"))}, ""),
        (
            {"kernel": kernel(NextHopView(address="fe80::1", interface="eth0", neighbor="failed"))},
            "next hop fe80::1%eth0 does not answer NDP",
        ),
        ({"kernel": kernel(table=255, ours=False)}, ""),
        ({"kernel": kernel(HOP1), "workload": workload()}, ""),
        ({"workload": WAITS}, "nobody is told that workload pod-a is here: waiting: no interface pod1"),
        ({"workload": workload(guests=["vm1"])}, ""),
    ],
)
def test_first_broken_link(parts: dict[str, object], said: str) -> None:
    view = ExplainView(address="10.9.0.5", verdict="", agrees=True, **parts)  # type: ignore[arg-type]
    found = first_broken(view)
    assert found.startswith(said) or said in found if said else not found


def test_rules_are_named_by_number_and_place() -> None:
    places = {("p", 0): "bgpd.toml:20", ("p", 2): "conf.d/p.toml:3"}
    assert _rules_text("all", (0,), {}) == 'policy "all"'
    assert _rules_text("p", (), places) == 'policy "p"'
    assert _rules_text("p", (2,), places) == 'policy "p", rule 2 (conf.d/p.toml:3)'
    assert _rules_text("p", (0, 2), places) == 'policy "p", rules 0 (bgpd.toml:20), 2 (conf.d/p.toml:3)'


def test_each_path_of_a_neighbor_has_the_rules_that_decided_about_it() -> None:
    rules = (
        RuleConfig(action="reject", match=MatchConfig(prefix=("10.8.0.0/16",))),
        RuleConfig(action="accept"),
    )
    one, two = session("leaf1", import_="p"), session("leaf2", import_="all", address="10.0.2.2")
    recorder = Recorder(configuration(one, two, policy={"p": PolicyConfig(rules=rules)}))
    places = {("p", number): f"bgpd.toml:{number + 10}" for number in range(2)}
    for number, config in ((1, one), (2, two)):
        source = recorder.up(leaf(number), config)
        recorder.announce(source, attributes(65201), hop(f"10.0.{number}.2"), PREFIX, "10.8.0.0/16")
    table = recorder.rib.table("", V4)
    for prefix, number in ((PREFIX, 1), ("10.8.0.0/16", 0)):
        rule = f'policy "p", rule {number} (bgpd.toml:{number + 10})'
        view = route_view(table, V4, key(prefix))
        assert view is not None
        _say_rules(recorder.rib, table, key(prefix), view, places)
        assert {one.source: one.rule for one in view.candidates} == {"leaf1": rule, "leaf2": 'policy "all"'}


def test_rules_stand_in_their_files_lines(tmp_path: Path) -> None:
    file, fragments = tmp_path / "bgpd.toml", tmp_path / "conf.d"
    fragments.mkdir()
    file.write_text('[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n[[policy.p.rules]]\naction = "accept"\n')
    (fragments / "q.toml").write_text('# q\n[policy.q]\nrules = [\n { action = "next" },\n { action = "reject" },\n]\n')
    rules = load_config(str(file)).rules
    assert rules == {
        ("p", 0): f"{file}:4",
        ("q", 0): f"{fragments / 'q.toml'}:4",
        ("q", 1): f"{fragments / 'q.toml'}:5",
    }
