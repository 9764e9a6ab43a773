"""Enhanced route refresh (RFC 7313): what a neighbor did not say again is removed, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from bgpd.config.schema_policies import PolicyConfig, RuleConfig, SetConfig
from bgpd.message.open import GracefulRestart
from bgpd.model.source import Source
from bgpd.rib import loc_rib
from tests.message.decoding import negotiated
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1 = hop("10.0.1.2")
HOP2 = hop("10.0.2.2")
PREFIXES = [f"10.{number}.0.0/24" for number in range(6)]


def loaded() -> tuple[Recorder, Source]:
    recorder = Recorder(configuration(session("leaf1")))
    leaf1 = recorder.up(leaf(1), session("leaf1"))
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES)
    return recorder, leaf1


def test_routes_that_are_not_said_again_go_and_the_fib_hears_only_of_them() -> None:
    recorder, leaf1 = loaded()
    recorder.rib.received.refresh_began(leaf1, V4)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[:4])
    assert len(recorder.fib) == 6
    recorder.fib_calls.clear()
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert set(recorder.fib) == {key(one) for one in PREFIXES[:4]}
    assert {one for call in recorder.fib_calls for one in call} == {key(one) for one in PREFIXES[4:]}
    assert recorder.rib.received.counts(leaf1)[V4].received == 4


@pytest.mark.parametrize("many", [1, 60])
def test_routes_that_are_repeated_long_after_they_were_heard_are_not_stale(many: int) -> None:
    recorder = Recorder(configuration(session("leaf1")))
    leaf1 = recorder.up(leaf(1), session("leaf1"))
    prefixes = [f"10.1.{number}.0/24" for number in range(many)]
    recorder.announce(leaf1, attributes(1), HOP1, *prefixes, "10.2.0.0/24")
    for _ in range(2):
        recorder.now += 100
        recorder.rib.received.refresh_began(leaf1, V4)
        recorder.announce(leaf1, attributes(1), HOP1, *prefixes)
        recorder.now += 100
        recorder.announce(leaf1, attributes(1), HOP1, *prefixes)
        drain(recorder.rib.received.refresh_ended(leaf1, V4))
        assert set(recorder.fib) == {key(one) for one in prefixes}


def test_what_is_said_while_the_stale_routes_are_removed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, leaf1 = loaded()
    recorder.rib.received.refresh_began(leaf1, V4)
    walk = recorder.rib.received.refresh_ended(leaf1, V4)
    next(walk)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[1:])
    drain(walk)
    assert set(recorder.fib) >= {key(one) for one in PREFIXES[1:]}
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert set(recorder.fib) >= {key(one) for one in PREFIXES[1:]}


def test_a_refresh_that_begins_anew_ends_the_removal_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, leaf1 = loaded()
    recorder.rib.received.refresh_began(leaf1, V4)
    first = recorder.rib.received.refresh_ended(leaf1, V4)
    recorder.rib.received.refresh_began(leaf1, V4)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[:2])
    drain(first)
    assert len(recorder.fib) == 6
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert set(recorder.fib) == {key(one) for one in PREFIXES[:2]}


def test_a_changed_policy_makes_no_stale_route_fresh() -> None:
    recorder, leaf1 = loaded()
    recorder.rib.received.refresh_began(leaf1, V4)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[:3])
    preferring = PolicyConfig(rules=(RuleConfig(set=SetConfig(local_pref=7)),))
    new = configuration(session("leaf1", import_="one"), policy={"one": preferring})
    drain(recorder.rib.reconfigure(new))
    assert len(recorder.fib) == 6
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert set(recorder.fib) == {key(one) for one in PREFIXES[:3]}


def test_another_neighbors_routes_are_untouched() -> None:
    configs = [session("leaf1"), session("leaf2")]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES)
    recorder.announce(leaf2, attributes(1), HOP2, *PREFIXES)
    recorder.rib.received.refresh_began(leaf1, V4)
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert recorder.fib == {key(one): (HOP2,) for one in PREFIXES}


def test_an_end_without_a_beginning_removes_nothing() -> None:
    recorder, leaf1 = loaded()
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    recorder.rib.received.refresh_began(leaf(9), V4)
    drain(recorder.rib.received.refresh_ended(leaf(9), V4))
    assert len(recorder.fib) == 6


def test_a_session_lost_within_a_refresh_leaves_nothing() -> None:
    recorder, leaf1 = loaded()
    recorder.rib.received.refresh_began(leaf1, V4)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[:3])
    removal = recorder.rib.received.refresh_ended(leaf1, V4)
    drain(recorder.rib.received.neighbor_down(leaf1))
    drain(removal)
    assert recorder.fib == {}
    assert not recorder.rib.table("", V4).routes


def test_thousands_of_ends_and_beginnings_are_one_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, leaf1 = loaded()
    walks = []
    for _ in range(1000):
        recorder.rib.received.refresh_began(leaf1, V4)
        walks += [recorder.rib.received.refresh_ended(leaf1, V4) for _ in range(2)]
    running = [walk for walk in walks if next(walk, "ended") is None]
    assert len(running) == 1
    recorder.rib.received.refresh_began(leaf1, V4)
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    drain(running[0])
    assert recorder.fib == {}
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES)
    recorder.rib.received.refresh_began(leaf1, V4)
    drain(recorder.rib.received.refresh_ended(leaf1, V4))
    assert recorder.fib == {}


def test_a_session_that_ends_gracefully_while_stale_routes_are_removed_keeps_none_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder = Recorder(configuration(session("leaf1")))
    restart = GracefulRestart(notification=True, restart_time_s=120, families=((1, 1, True),))
    agreed, received, leaf1 = negotiated(families=(V4,), graceful_restart=restart), recorder.rib.received, leaf(1)
    received.neighbor_up(leaf1, agreed, session("leaf1"))
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES)
    received.refresh_began(leaf1, V4)
    recorder.announce(leaf1, attributes(1), HOP1, *PREFIXES[:2])
    removal = received.refresh_ended(leaf1, V4)
    next(removal)
    drain(received.remove(received.session_lost(leaf1, is_graceful=True, now=0.0)))
    drain(removal)
    assert set(recorder.fib) == {key(one) for one in PREFIXES[:2]}
    drain(received.remove(received.stale.forget("leaf1")))
    assert recorder.fib == {}
