"""EVPN routes as they are followed per neighbor, and the VRF tables that are filled from them."""

from __future__ import annotations

import pytest

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig
from bgpd.model.attributes import Attributes
from bgpd.model.evpn import prefix_key
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib import loc_rib, received
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

EVPN = Family.L2VPN_EVPN
HOP1 = hop("10.0.1.2")
KEYS = [prefix_key(b"\0\0\xfd\xe8\0\0\0\1", prefix=bytes((10, one, 0, 0)), prefix_length=16) for one in range(4)]
TAGGED = 65000 << 16 | 1
POLICY = PolicyConfig(rules=(RuleConfig(match=MatchConfig(community=("65000:1",)), action="reject"), RuleConfig()))


def evpn_leaf(**fields: object) -> tuple[Recorder, Source]:
    config = session("leaf1", **fields)
    recorder = Recorder(configuration(config, policy={"untagged": POLICY}))
    return recorder, recorder.up(leaf(1), config, families=(EVPN,))


def say(recorder: Recorder, source: Source, keys: list[bytes], given: Attributes) -> None:
    batch = RouteBatch(family=EVPN, announced=keys, attributes=given, next_hop=HOP1)
    recorder.rib.received.routes_received(source, [batch])


def test_followed_routes_are_those_that_policy_accepts() -> None:
    recorder, leaf1 = evpn_leaf(import_="untagged")
    say(recorder, leaf1, KEYS[:3], attributes(1))
    assert set(recorder.followed[leaf1]) == set(KEYS[:3])
    assert recorder.followed[leaf1][KEYS[0]].next_hop == HOP1
    say(recorder, leaf1, KEYS[2:], attributes(1, communities=(TAGGED,)))
    assert set(recorder.followed[leaf1]) == set(KEYS[:2])
    recorder.rib.received.routes_received(leaf1, [RouteBatch(family=EVPN, withdrawn=KEYS[:1])])
    assert set(recorder.followed[leaf1]) == set(KEYS[1:2])


def test_followed_routes_change_with_the_policy() -> None:
    recorder, leaf1 = evpn_leaf()
    say(recorder, leaf1, KEYS, attributes(1, communities=(TAGGED,)))
    assert set(recorder.followed[leaf1]) == set(KEYS)
    drain(recorder.rib.reconfigure(configuration(session("leaf1", import_="untagged"), policy={"untagged": POLICY})))
    assert recorder.followed[leaf1] == {}
    drain(recorder.rib.reconfigure(configuration(session("leaf1"))))
    assert set(recorder.followed[leaf1]) == set(KEYS)


def test_followed_routes_end_with_the_session_and_its_successors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, leaf1 = evpn_leaf()
    say(recorder, leaf1, KEYS, attributes(1))
    lost = recorder.rib.received.neighbor_down(leaf1)
    again = recorder.up(leaf(1), session("leaf1"), families=(EVPN,))
    say(recorder, again, KEYS[:1], attributes(1))
    drain(lost)
    assert set(recorder.followed[leaf1]) <= set(KEYS[:1])
    assert set(recorder.followed[again]) == set(KEYS[:1])


def test_followed_routes_go_when_they_are_stale() -> None:
    recorder, leaf1 = evpn_leaf()
    say(recorder, leaf1, KEYS, attributes(1))
    recorder.rib.received.refresh_began(leaf1, EVPN)
    say(recorder, leaf1, KEYS[:1], attributes(1))
    drain(recorder.rib.received.refresh_ended(leaf1, EVPN))
    assert set(recorder.followed[leaf1]) == set(KEYS[:1])


def test_followed_routes_are_told_again_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "REPLAYED", 1)
    recorder, leaf1 = evpn_leaf()
    say(recorder, leaf1, KEYS, attributes(1))
    recorder.rib.announce_local(LOCAL, EVPN, [KEYS[0]], attributes())
    recorder.followed.clear()
    drain(recorder.rib.received.replay_evpn())
    assert set(recorder.followed) == {leaf1}
    assert set(recorder.followed[leaf1]) == set(KEYS)


def pseudo(number: int, name: str = "") -> Source:
    name = name or f"leaf{number} rd 10.0.0.{number}:1001 type-5"
    return Source(name=name, kind=SourceKind.EVPN, router_id=bytes((10, 0, 0, number)))


def path(source: Source, next_hop: NextHop, given: Attributes) -> Path:
    return Path.of(source=source, attributes=given, next_hop=next_hop, received=given, heard_at=0.0)


def give(recorder: Recorder, one: Path, *prefixes: str) -> None:
    recorder.rib.import_routes("blue", V4, [key(prefix) for prefix in prefixes], one)
    recorder.rib.commit_gathered()


def test_imported_routes_of_two_leaves_are_multipath_in_their_vrf_only() -> None:
    recorder = Recorder(configuration())
    one, two = pseudo(1), pseudo(2)
    give(recorder, path(one, HOP1, attributes(1)), "10.1.0.0/24", "10.2.0.0/24")
    give(recorder, path(two, hop("10.0.2.2"), attributes(1)), "10.1.0.0/24")
    assert recorder.vrf_fib == {key("10.1.0.0/24"): (HOP1, hop("10.0.2.2")), key("10.2.0.0/24"): (HOP1,)}
    assert recorder.fib == {}
    recorder.rib.withdraw_imported("blue", V4, one, [key("10.1.0.0/24"), key("10.9.0.0/24")])
    recorder.rib.commit_gathered()
    assert recorder.vrf_fib[key("10.1.0.0/24")] == (hop("10.0.2.2"),)
    drain(recorder.rib.remove_imported("blue", V4, two))
    assert recorder.vrf_fib == {key("10.2.0.0/24"): (HOP1,)}


def test_next_hops_resolve_in_their_vrf() -> None:
    recorder = Recorder(configuration())
    recorder.resolved_in["blue", HOP1] = "no uplink has it"
    give(recorder, path(pseudo(1), HOP1, attributes(1)), "10.1.0.0/24")
    assert recorder.vrf_fib == {}
    drain(recorder.rib.next_hop_changed(HOP1, ""))
    assert recorder.vrf_fib == {}
    drain(recorder.rib.next_hop_changed(HOP1, "", vrf="blue"))
    assert recorder.vrf_fib == {key("10.1.0.0/24"): (HOP1,)}


def test_a_workload_that_moved_away_leaves_its_route_to_where_it_is_now() -> None:
    recorder = Recorder(configuration())
    here = attributes(extended_communities=(b"\6\0\0\0\0\0\0\1",))
    there = attributes(extended_communities=(b"\6\0\0\0\0\0\0\2",))
    recorder.rib.announce_local(LOCAL, V4, [key("10.1.0.1/32")], here, vrf="blue")
    give(recorder, path(pseudo(1), HOP1, attributes()), "10.1.0.1/32")
    assert recorder.vrf_fib == {}
    give(recorder, path(pseudo(1), HOP1, there), "10.1.0.1/32")
    assert recorder.vrf_fib == {key("10.1.0.1/32"): (HOP1,)}
