"""Paths and decisions are kept exactly while keys have them, whatever neighbors, policies and walks do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.rib import adj_rib_in, loc_rib, small_batches
from bgpd.rib.interned_paths import InternedPaths
from bgpd.rib.loc_rib import LocRib
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session
from tests.rib.test_model import ATTRIBUTES, HOPS, KEYS, RibMachine, keys_of, names

OVERLAYS = [Overlay(bytes(10), (number,)) for number in (1, 2)]


def _paths(interned: InternedPaths) -> list[Path]:
    return [path for part in interned.parts for path in part.values()]


def _check_source(source: Source, interned: InternedPaths, among: Counter[Path]) -> None:
    used = [path for path in among if path.source is source]
    assert set(_paths(interned)) <= set(used)
    assert all(path.entered == entered for part in interned.parts for entered, path in part.items())
    assert interned.next_hops == Counter(path.next_hop for path in used if path.next_hop is not None)
    alone = InternedPaths()
    for path in used:
        alone.has_come(path)
    assert interned.bytes_kept == alone.bytes_kept


def check(table: LocRib) -> None:
    """Every count against the keys themselves."""
    entries = Counter(table.routes.values())
    among = Counter(path for entry in table.routes.values() for path in entry.candidates)
    assert {path: path.keys for path in among} == among
    assert {entry: entry.routes for entry in entries} == entries
    assert all(not path.routes for path in among if path not in entries)
    assert set(table.several()) <= set(entries)
    assert +Counter(table.received) == Counter(path.source for path in among.elements())
    assert +Counter(table.rejected) == Counter(path.source for path in among.elements() if path.rejected)
    for source, interned in table.interned.items():
        _check_source(source, interned, among)


def check_empty(interned: Iterable[InternedPaths]) -> None:
    for one in interned:
        assert not _paths(one)
        assert not one.bytes_kept
        assert not one.next_hops


class InterningMachine(RibMachine):
    """The histories of the model, with routes of one set of attributes that differ beside it."""

    def __init__(self) -> None:
        self.interned: list[InternedPaths] = []
        super().__init__()

    def open(self, name: str) -> None:
        super().open(name)
        self.interned.append(self.recorder.rib.table("", V4).interned[self.sources[name]])

    @rule(name=names, keys=keys_of, next_hop=st.sampled_from(HOPS), overlay=st.sampled_from(OVERLAYS))
    def announce_with_overlay(self, name, keys, next_hop, overlay):  # type: ignore[no-untyped-def]
        source, given = self.sources[name], ATTRIBUTES[0]
        batch = RouteBatch(family=V4, announced=keys, attributes=given, next_hop=next_hop, overlay=overlay)
        self.recorder.rib.received.routes_received(source, [batch])
        self.said_anew(name, keys)
        self.reference.said[source].update(dict.fromkeys(keys, (given, next_hop)))
        self.stale.get(source, set()).difference_update(keys)

    @rule(
        name=names,
        run=st.lists(
            st.tuples(st.sampled_from(KEYS), st.sampled_from((*ATTRIBUTES, None)), st.sampled_from(HOPS)), max_size=8
        ),
    )
    def announce_or_withdraw_a_run(self, name, run):  # type: ignore[no-untyped-def]
        """UPDATEs of one route each."""
        source, batches = self.sources[name], []
        for one, given, next_hop in run:
            if given is None:
                batches.append(RouteBatch(family=V4, withdrawn=(one,)))
                self.reference.said[source].pop(one, None)
            else:
                batches.append(RouteBatch(family=V4, announced=(one,), attributes=given, next_hop=next_hop))
                self.reference.said[source][one] = given, next_hop
            self.said_anew(name, [one])
            self.stale.get(source, set()).discard(one)
        self.recorder.rib.received.routes_received(source, batches)

    @invariant()
    def counts_are_right(self) -> None:
        check(self.recorder.rib.table("", V4))

    def teardown(self) -> None:
        super().teardown()
        rib, table = self.recorder.rib, self.recorder.rib.table("", V4)
        for source in self.sources.values():
            drain(rib.received.neighbor_down(source))
        assert set(table.interned) <= {LOCAL}
        rib.withdraw_local(LOCAL, V4, KEYS)
        check_empty((*self.interned, *table.interned.values()))
        assert not table.routes
        assert not list(table.several())


class TestInterning(InterningMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

    @pytest.fixture(autouse=True)
    def _short_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loc_rib, "SLICE", 2)
        monkeypatch.setattr(adj_rib_in, "SLICE", 2)


class TestInterningOfManyKeys(TestInterning):
    """Batches of two keys and more enter by passes over all of them."""

    @pytest.fixture(autouse=True)
    def _by_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(small_batches, "FEW", 1)
        monkeypatch.setattr(small_batches, "MANY", 1)


HOP1, HOP2 = hop("10.0.1.2"), hop("10.0.2.2")


def test_a_decision_that_raises_leaves_no_path_and_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaf1, leaf2 = (recorder.up(leaf(number), session(f"leaf{number}")) for number in (1, 2))
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.0/24")
    recorder.announce(leaf1, attributes(2), HOP1, "10.2.0.0/24")
    table = recorder.rib.table("", V4)
    next_hops = table._next_hop_table
    by_all, made = next_hops.by_all, []

    def raising(multipath):  # type: ignore[no-untyped-def]
        if made:
            raise ValueError("no")
        made.append(by_all(multipath))
        return made[0]

    monkeypatch.setattr(next_hops, "by_all", raising)
    with pytest.raises(ValueError, match="no"):
        recorder.announce(leaf2, attributes(3), HOP2, "10.1.0.0/24", "10.2.0.0/24")
    monkeypatch.undo()
    check(table)
    assert all(decision.routes for decision in table.several())
    drain(recorder.rib.received.neighbor_down(leaf2))
    check(table)
    assert not list(table.several())


def test_a_key_that_moves_while_its_next_hop_is_walked_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is alone is unusable for all its keys at once; those not yet walked are reported, too."""
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder = Recorder(configuration(session("leaf1")))
    leaf1 = recorder.up(leaf(1), session("leaf1"))
    recorder.announce(leaf1, attributes(1), HOP1, *[f"10.1.{number}.0/24" for number in range(4)])
    recorder.resolved[HOP1] = "link down"
    walk = recorder.rib.next_hop_changed(HOP1, "link down")
    recorder.announce(leaf1, attributes(1), HOP1, "10.2.0.0/24")
    recorder.withdraw(leaf1, "10.1.3.0/24")
    recorder.announce(leaf1, attributes(2), HOP1, "10.1.2.0/24")
    assert set(recorder.fib) == {key("10.1.0.0/24"), key("10.1.1.0/24")}
    drain(walk)
    assert recorder.fib == {}


def test_local_routes_of_two_vrfs_have_paths_of_their_own() -> None:
    recorder = Recorder(configuration())
    for vrf in ("red", "blue"):
        recorder.rib.announce_local(LOCAL, V4, [key("10.1.0.1/32")], attributes(), vrf=vrf)
    red, blue = (recorder.rib.table(vrf, V4) for vrf in ("red", "blue"))
    check(red)
    recorder.rib.withdraw_local(LOCAL, V4, [key("10.1.0.1/32")], vrf="red")
    check(blue)
    assert not red.routes
    assert blue.routes


def test_paths_that_a_policy_changes_or_rejects_share_how_they_came() -> None:
    """There may be one for each route of a table."""
    tagged, refused = 65000 << 16 | 1, 65000 << 16 | 2
    rules = (
        RuleConfig(match=MatchConfig(community=("65000:1",)), set=SetConfig(local_pref=200)),
        RuleConfig(match=MatchConfig(community=("65000:2",)), action="reject"),
    )
    config = configuration(session("leaf1", import_="some"), policy={"some": PolicyConfig(rules=rules)})
    recorder = Recorder(config)
    source = recorder.up(leaf(1), config.neighbor[0])
    table = recorder.rib.table("", V4)

    def said(start: int, *, many: int = 1) -> None:
        for number in range(start, start + 8):
            given = attributes(65201, communities=(tagged if number % 2 else refused, number))
            prefixes = [f"10.{number}.{one}.0/24" for one in range(many)]
            recorder.announce(source, given, HOPS[number // 2 % 2], *prefixes)

    said(0)
    said(10, many=small_batches.FEW + 1)
    paths = [path for entry in table.distinct() for path in entry.candidates]
    assert len(paths) == 16
    ways = {(path.next_hop, path.rejected): path.via for path in paths}
    assert len(ways) == len({path.via for path in paths}) == 4
    assert {path.rejected == "" for path in paths if path.is_usable} == {True}
    drain(recorder.rib.next_hop_changed(HOPS[0], "down"))
    recorder.turn()
    assert set(recorder.fib.values()) == {(HOPS[1],)}
    recorder.now += 2
    said(20)
    assert len({path.via for path in table.distinct() if isinstance(path, Path)}) == 8
    check(table)
