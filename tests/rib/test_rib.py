"""The RIB from batch to outputs: what the FIB and the neighbors hear, and that nothing is kept."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_NO_EXPORT, Family
from bgpd.model.next_hop import BLACKHOLE, NextHop
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib import loc_rib
from bgpd.rib.policy import PolicyError
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1 = hop("10.0.1.2")
HOP2 = hop("10.0.2.2")
CONFIG1 = session("leaf1")
CONFIG2 = session("leaf2")


def two_leaves(**fields: object) -> tuple[Recorder, list]:  # type: ignore[type-arg]
    configs = [session("leaf1", **fields), session("leaf2", **fields)]
    recorder = Recorder(configuration(*configs))
    return recorder, [recorder.up(leaf(number), config) for number, config in enumerate(configs, 1)]


def test_two_equal_leaves_give_ascending_next_hops_that_are_one_object() -> None:
    recorder, (leaf1, leaf2) = two_leaves()
    recorder.announce(leaf2, attributes(65201), HOP2, "10.1.0.0/24", "10.2.0.0/24")
    recorder.announce(leaf1, attributes(65201), HOP1, "10.2.0.0/24")
    recorder.announce(leaf1, attributes(65201, med=0), HOP1, "10.1.0.0/24")
    assert recorder.fib[key("10.1.0.0/24")] == (HOP1, HOP2)
    assert recorder.fib[key("10.1.0.0/24")] is recorder.fib[key("10.2.0.0/24")]


MANY_PREFIXES = [f"10.3.{number}.0/24" for number in range(60)]


def heard_at(recorder: Recorder, prefix: str) -> float:
    decision = recorder.rib.decision("", V4, key(prefix))
    assert decision is not None
    assert decision.best is not None
    return decision.best.heard_at


@pytest.mark.parametrize("prefixes", [["10.3.0.0/24"], MANY_PREFIXES])
@pytest.mark.parametrize("policy", ["all", "med"])
def test_a_route_that_is_repeated_keeps_when_it_was_heard(prefixes: list[str], policy: str) -> None:
    rules = (RuleConfig(set=SetConfig(med=7)),)
    policies = {"med": PolicyConfig(rules=rules)}
    config = session("leaf1", import_=policy)
    recorder = Recorder(configuration(config, policy=policies))
    leaf1 = recorder.up(leaf(1), config)
    recorder.announce(leaf1, attributes(65201), HOP1, *prefixes)
    first = [recorder.rib.decision("", V4, key(prefix)) for prefix in prefixes]
    recorder.now += 100
    recorder.announce(leaf1, attributes(65201), HOP1, *prefixes)
    assert [recorder.rib.decision("", V4, key(prefix)) for prefix in prefixes] == first
    assert heard_at(recorder, prefixes[0]) == 1000.0
    assert len(recorder.fib_calls) == 1
    recorder.announce(leaf1, attributes(65201), HOP2, *prefixes)
    assert heard_at(recorder, prefixes[0]) == recorder.now
    recorder.now += 100
    recorder.withdraw(leaf1, *prefixes)
    recorder.announce(leaf1, attributes(65201), HOP2, *prefixes)
    assert heard_at(recorder, prefixes[0]) == recorder.now
    assert recorder.rib.received.counts(leaf1)[V4].received == len(prefixes)


@pytest.mark.parametrize("prefixes", [["10.3.0.0/24"], MANY_PREFIXES])
def test_a_route_that_gets_what_others_have_had_for_long_is_heard_now(prefixes: list[str]) -> None:
    recorder, (leaf1, leaf2) = two_leaves()
    recorder.announce(leaf1, attributes(65201), HOP1, "10.9.0.0/24")
    recorder.announce(leaf1, attributes(65201, 1), HOP1, *prefixes)
    recorder.announce(leaf2, attributes(65201), HOP2, *prefixes)
    recorder.now += 100
    recorder.announce(leaf1, attributes(65201), HOP1, "10.9.0.0/24", *prefixes)
    assert heard_at(recorder, "10.9.0.0/24") == 1000.0
    assert heard_at(recorder, prefixes[0]) == recorder.now
    assert recorder.fib[key(prefixes[0])] == (HOP1, HOP2)
    assert recorder.rib.received.counts(leaf1)[V4].received == 1 + len(prefixes)


def test_a_batch_that_repeats_keys_counts_each_once() -> None:
    recorder, (leaf1, _) = two_leaves()
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.0/24", "10.1.0.0/24", "10.2.0.0/24")
    assert recorder.rib.received.counts(leaf1)[V4].received == 2
    recorder.announce(leaf1, attributes(2), HOP1, "10.1.0.0/24", "10.1.0.0/24", "10.3.0.0/24", "10.3.0.0/24")
    assert recorder.rib.received.counts(leaf1)[V4].received == 3
    recorder.withdraw(leaf1, "10.1.0.0/24", "10.1.0.0/24", "10.9.0.0/24")
    assert recorder.rib.received.counts(leaf1)[V4].received == 2


def test_lost_session_leaves_what_its_successor_said_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, (leaf1, leaf2) = two_leaves()
    prefixes = [f"10.{n}.0.0/24" for n in range(10)]
    recorder.announce(leaf1, attributes(1), HOP1, *prefixes)
    recorder.announce(leaf2, attributes(1), HOP2, *prefixes)
    walk = recorder.rib.received.neighbor_down(leaf1)
    next(walk)
    again = recorder.up(leaf(1), CONFIG1)
    recorder.announce(again, attributes(1), HOP1, prefixes[0], prefixes[9])
    recorder.announce(leaf1, attributes(1), HOP1, "10.99.0.0/24")
    drain(walk)
    both = {key(prefixes[0]), key(prefixes[9])}
    assert recorder.fib == {key(one): (HOP1, HOP2) if key(one) in both else (HOP2,) for one in prefixes}
    assert recorder.rib.received.counts(leaf1) == {}
    assert recorder.rib.received.counts(again)[V4].received == 2


def lost_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, list[Source], list[bytes], Iterator[None]]:
    """leaf1 is gone, and one of ten keys was walked: (the RIB, both leaves, the other nine keys, the walk)."""
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    recorder, leaves = two_leaves()
    prefixes = [f"10.{n}.0.0/24" for n in range(10)]
    recorder.announce(leaves[0], attributes(1), HOP1, *prefixes, "10.99.0.0/24")
    recorder.announce(leaves[1], attributes(1), HOP2, *prefixes)
    walk = recorder.rib.received.neighbor_down(leaves[0])
    next(walk)
    return recorder, leaves, [one for one, hops in recorder.fib.items() if hops == (HOP1, HOP2)], walk


def test_what_a_lost_session_said_is_not_desired_before_the_walk_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _, left, walk = lost_in_the_middle(monkeypatch)
    assert len(left) >= 8
    assert {recorder.rib.desired("", V4, one) for one in left} == {(HOP2,)}
    assert recorder.rib.desired("", V4, key("10.99.0.0/24")) is None
    several = [*left, key("10.99.0.0/24")]
    assert recorder.rib.desired_all("", V4, several) == [recorder.rib.desired("", V4, one) for one in several]
    drain(walk)
    assert set(recorder.fib.values()) == {(HOP2,)}
    assert len(recorder.fib) == 10


def test_an_update_for_a_key_that_the_walk_has_not_reached_revives_no_lost_next_hop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, (_, leaf2), left, walk = lost_in_the_middle(monkeypatch)
    recorder.rib.received.routes_received(
        leaf2, [RouteBatch(family=V4, announced=left[-3:], attributes=attributes(1, 2), next_hop=HOP2)]
    )
    recorder.rib.commit_gathered()
    assert {recorder.fib[one] for one in left[-3:]} == {(HOP2,)}
    drain(recorder.rib.next_hop_changed(HOP2, "link down"))
    drain(recorder.rib.next_hop_changed(HOP2, ""))
    assert {recorder.fib[one] for one in left} == {(HOP2,)}
    drain(walk)
    assert {recorder.fib[one] for one in left} == {(HOP2,)}


def test_the_kernel_hears_of_a_successor_with_the_next_hops_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _, left, walk = lost_in_the_middle(monkeypatch)
    again = recorder.up(leaf(1), CONFIG1)
    recorder.fib_calls.clear()
    recorder.announce(again, attributes(1), HOP1, "10.99.0.0/24")
    recorder.rib.received.routes_received(
        again, [RouteBatch(family=V4, announced=left[-3:], attributes=attributes(1), next_hop=HOP1)]
    )
    recorder.rib.commit_gathered()
    assert recorder.fib_calls == [{key("10.99.0.0/24"): (HOP1,)}, dict.fromkeys(left[-3:], (HOP1, HOP2))]
    assert recorder.rib.desired("", V4, left[-1]) == (HOP1, HOP2)
    drain(walk)
    assert recorder.fib[key("10.99.0.0/24")] == (HOP1,)
    assert [recorder.fib[one] for one in left] == [(HOP2,)] * (len(left) - 3) + [(HOP1, HOP2)] * 3


def test_routes_of_a_neighbor_that_dies_next_do_not_fall_back_to_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 1)
    configs = [session(f"leaf{number}") for number in (1, 2, 3)]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2, leaf3 = [recorder.up(leaf(number), config) for number, config in enumerate(configs, 1)]
    prefixes = [f"10.{n}.0.0/24" for n in range(10)]
    third = hop("10.0.3.2")
    recorder.announce(leaf1, attributes(1, 2), HOP1, *prefixes)
    recorder.announce(leaf2, attributes(1), HOP2, *prefixes)
    recorder.announce(leaf3, attributes(1, 2, 3), third, *prefixes)
    walk = recorder.rib.received.neighbor_down(leaf1)
    assert recorder.rib.fallback("", {HOP2})((HOP2,)) == (third,)
    drain(walk)
    assert set(recorder.fib.values()) == {(HOP2,)}


def test_second_loss_while_the_first_is_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loc_rib, "SLICE", 3)
    recorder, (leaf1, leaf2) = two_leaves()
    prefixes = [f"10.{n}.0.0/24" for n in range(10)]
    recorder.announce(leaf1, attributes(1), HOP1, *prefixes)
    recorder.announce(leaf2, attributes(1), HOP2, *prefixes)
    first = recorder.rib.received.neighbor_down(leaf1)
    next(first)
    second = recorder.rib.received.neighbor_down(leaf2)
    next(second)
    next(second)
    drain(first)
    drain(second)
    assert recorder.fib == {}
    assert recorder.rib.table("", V4).routes == {}


def test_unreachable_next_hop_moves_routes_and_its_return_moves_them_back() -> None:
    recorder, (leaf1, leaf2) = two_leaves()
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.0/24")
    recorder.announce(leaf2, attributes(1), HOP2, "10.1.0.0/24")
    drain(recorder.rib.next_hop_changed(HOP1, "link down"))
    assert recorder.fib[key("10.1.0.0/24")] == (HOP2,)
    drain(recorder.rib.next_hop_changed(HOP2, "link down"))
    assert recorder.fib == {}
    drain(recorder.rib.next_hop_changed(HOP1, ""))
    drain(recorder.rib.next_hop_changed(HOP2, ""))
    assert recorder.fib[key("10.1.0.0/24")] == (HOP1, HOP2)


def test_own_as_in_the_path_is_a_loop_unless_allowed() -> None:
    recorder, (leaf1, _) = two_leaves()
    recorder.announce(leaf1, attributes(65201, 65203), HOP1, "10.1.0.0/24")
    assert recorder.fib == {}
    assert recorder.rib.received.counts(leaf1)[V4].rejected == 1
    drain(recorder.rib.reconfigure(configuration(session("leaf1", allow_own_as=1), CONFIG2)))
    assert recorder.fib[key("10.1.0.0/24")] == (HOP1,)
    assert recorder.rib.received.counts(leaf1)[V4].rejected == 0


@pytest.mark.parametrize("field", [{"originator_id": b"\x0a\xff\x01\x01"}, {"cluster_list": (b"\x0a\xff\x01\x01",)}])
def test_reflection_loop_is_rejected(field: dict[str, object]) -> None:
    recorder = Recorder(configuration(session("peer")))
    peer = recorder.up(leaf(1, kind=SourceKind.IBGP, name="peer"), session("peer"))
    recorder.announce(peer, attributes(1, **field), HOP1, "10.1.0.0/24")
    assert recorder.fib == {}


def test_reconfigured_policy_keeps_when_routes_were_heard_and_resets_nothing() -> None:
    recorder, (leaf1, _) = two_leaves()
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.0/24", "10.2.0.0/24")
    policy = PolicyConfig(
        rules=(RuleConfig(match=MatchConfig(prefix=("10.1.0.0/24",)), set=SetConfig(local_pref=7)),),
    )
    recorder.now += 100
    new = configuration(session("leaf1", import_="one"), CONFIG2, policy={"one": policy})
    drain(recorder.rib.reconfigure(new))
    assert set(recorder.fib) == {key("10.1.0.0/24")}
    decision = recorder.rib.decision("", V4, key("10.1.0.0/24"))
    assert decision is not None
    assert decision.candidates[0].heard_at == 1000.0
    assert decision.candidates[0].attributes.local_pref == 7
    drain(recorder.rib.reconfigure(configuration(CONFIG1, CONFIG2)))
    assert set(recorder.fib) == {key("10.1.0.0/24"), key("10.2.0.0/24")}


def test_unknown_policy_is_an_error_that_says_what_would_be_right() -> None:
    recorder = Recorder(configuration())
    with pytest.raises(PolicyError, match=r"neighbor leaf1.import: there is no policy \"nothing\"; one of none, "):
        recorder.up(leaf(1), session("leaf1", import_="nothing"))


def test_local_route_takes_the_kernel_route_of_a_learned_one_away_and_gives_it_back() -> None:
    recorder, (leaf1, _) = two_leaves()
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.1/32")
    recorder.rib.announce_local(LOCAL, V4, [key("10.1.0.1/32")], attributes())
    assert recorder.fib == {}
    recorder.rib.withdraw_local(LOCAL, V4, [key("10.1.0.1/32")])
    assert recorder.fib == {key("10.1.0.1/32"): (HOP1,)}


def test_local_blackhole_reaches_the_fib() -> None:
    recorder = Recorder(configuration())
    recorder.rib.announce_local(LOCAL, V4, [key("10.1.0.0/26")], attributes(), next_hop=BLACKHOLE[0])
    assert recorder.fib[key("10.1.0.0/26")] is BLACKHOLE


def test_prefix_limit_is_told_once() -> None:
    recorder, (leaf1, leaf2) = two_leaves(max_prefixes=3)
    recorder.announce(leaf2, attributes(1), HOP2, "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24")
    recorder.announce(leaf1, attributes(1), HOP1, "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24")
    recorder.announce(leaf1, attributes(1), HOP1, "10.5.0.0/24")
    assert recorder.resets == []
    recorder.turn()
    assert recorder.resets == [("leaf1", "sent 4 ipv4-unicast prefixes, more than max_prefixes")]


def test_families_that_were_not_negotiated_are_ignored() -> None:
    recorder, (leaf1, _) = two_leaves()
    batch = RouteBatch(family=Family.IPV6_UNICAST, announced=[b"\0"], attributes=attributes(1), next_hop=hop("fe80::1"))
    recorder.rib.received.routes_received(leaf1, [batch])
    assert recorder.fib_calls == []


@pytest.fixture
def _no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_gc")
def test_withdrawn_routes_free_paths_and_decisions_without_the_garbage_collector() -> None:
    """Each path is the only one with its overlay, and a decision has its paths."""
    recorder, (leaf1, leaf2) = two_leaves()
    watched: list[Overlay] = []

    def alive() -> int:
        """How many of them something else refers to, than the list, the loop and the count of references."""
        return sum(sys.getrefcount(one) > 3 for one in watched)

    def say(source: Source, given: Attributes, next_hop: NextHop) -> None:
        overlay = Overlay(bytes(10), (len(watched),))
        watched.append(overlay)
        batch = RouteBatch(
            family=V4, announced=[key("10.1.0.0/24")], attributes=given, next_hop=next_hop, overlay=overlay
        )
        recorder.rib.received.routes_received(source, [batch])

    for number in range(300):
        say(leaf1, attributes(65201, 1000 + number), HOP1)
        say(leaf2, attributes(65201, 1000 + number % 7), HOP2)
        recorder.turn()
    assert alive() == 2
    recorder.withdraw(leaf1, "10.1.0.0/24")
    recorder.withdraw(leaf2, "10.1.0.0/24")
    assert alive() == 0


@pytest.mark.usefixtures("_no_gc")
def test_lost_sessions_are_freed_with_all_they_said() -> None:
    recorder, (leaf1, leaf2) = two_leaves(export="all")
    recorder.announce(leaf1, attributes(1, communities=(COMMUNITY_NO_EXPORT,)), HOP1, "10.1.0.0/24", "10.2.0.0/24")
    recorder.announce(leaf2, attributes(1), HOP2, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"), key("10.2.0.0/24"))
    recorder.turn()
    drain(recorder.rib.next_hop_changed(HOP1, "gone"))
    drain(recorder.rib.next_hop_changed(HOP1, ""))
    drain(recorder.rib.reconfigure(configuration(session("leaf1", import_="default-only"), session("leaf2"))))
    watched = [weakref.ref(leaf1), weakref.ref(leaf2)]
    drain(recorder.rib.received.neighbor_down(leaf1))
    drain(recorder.rib.received.neighbor_down(leaf2))
    recorder.turn()
    recorder.sent.clear()
    recorder.told.clear()
    recorder.end_of_rib.clear()
    leaf1 = leaf2 = None  # type: ignore[assignment]
    assert [one() for one in watched] == [None, None]


@pytest.mark.parametrize(("path", "own"), [((65201, 65300), 65300), ((65201, LOCAL_ASN), LOCAL_ASN), ((65201, 7), 0)])
def test_a_loop_through_the_routers_own_as_is_found_where_the_neighbor_is_shown_another(
    path: tuple[int, ...], own: int
) -> None:
    settings, leaf1 = session("leaf1", local_asn=65300), leaf(1)
    recorder = Recorder(configuration(settings))
    recorder.rib.received.neighbor_up(leaf1, negotiated(local_asn=65300, families=(V4,)), settings)
    recorder.announce(leaf1, attributes(*path), hop("10.0.1.2"), "10.1.0.0/24")
    decision = recorder.rib.decision("", V4, key("10.1.0.0/24"))
    assert decision is not None
    expected = f"AS loop: own AS {own} is in the AS path once, allow_own_as is 0" if own else ""
    assert decision.candidates[0].rejected == expected


def test_allow_own_as_counts_each_own_as() -> None:
    settings, leaf1 = session("leaf1", local_asn=65300, allow_own_as=1), leaf(1)
    recorder = Recorder(configuration(settings))
    recorder.rib.received.neighbor_up(leaf1, negotiated(local_asn=65300, families=(V4,)), settings)
    recorder.announce(leaf1, attributes(65201, 65300, LOCAL_ASN), hop("10.0.1.2"), "10.1.0.0/24")
    recorder.announce(leaf1, attributes(65201, LOCAL_ASN, LOCAL_ASN), hop("10.0.1.2"), "10.2.0.0/24")
    table = recorder.rib.table("", V4)
    rejected = [table.routes[key(f"10.{one}.0.0/24")].candidates[0].rejected for one in (1, 2)]
    assert rejected == ["", f"AS loop: own AS {LOCAL_ASN} is in the AS path 2 times, allow_own_as is 1"]
