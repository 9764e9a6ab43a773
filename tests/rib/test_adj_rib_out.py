"""What a neighbor is told, in which order, and when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_NO_ADVERTISE, COMMUNITY_NO_EXPORT
from bgpd.model.source import Source, SourceKind
from bgpd.rib import dissemination as exports
from bgpd.rib.adj_rib_out import CHUNK, PATH_COST, Advertisement
from bgpd.rib.recording import Recorder as History
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1 = hop("10.0.1.2")
HOST = key("10.64.1.5/32")


def one_leaf(export: str = "local", *, policy: dict[str, PolicyConfig] | None = None) -> tuple[Recorder, Source]:
    config = session("leaf1", export=export)
    recorder = Recorder(configuration(config, session("other", export="all"), policy=policy))
    return recorder, recorder.up(leaf(1), config)


def with_other(export: str, *, kind: SourceKind = SourceKind.EBGP) -> tuple[Recorder, Source, Source]:
    """A neighbor that is told by `export`, and another one that says something."""
    recorder, leaf1 = one_leaf(export)
    return recorder, leaf1, recorder.up(leaf(7, name="other", kind=kind), session("other", export="none"))


def test_local_route_goes_out_with_its_attributes_and_ourselves_as_next_hop() -> None:
    recorder, leaf1 = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes(med=5, local_pref=300))
    recorder.turn()
    [(to, batch)] = recorder.sent
    assert to is leaf1
    assert batch.announced == [HOST]
    assert batch.next_hop is None
    assert batch.attributes is not None
    assert batch.attributes.same_as(attributes(med=5, local_pref=300))


def test_ibgp_neighbor_gets_the_med_of_a_learned_route_and_an_external_one_does_not() -> None:
    config = session("peer", export="all")
    recorder, leaf1, other = with_other("all")
    peer = recorder.up(leaf(1, kind=SourceKind.IBGP, name="peer"), config)
    recorder.announce(other, attributes(65202, med=7), HOP1, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert recorder.told[peer][key("10.1.0.0/24")].med == 7
    assert recorder.told[leaf1][key("10.1.0.0/24")].med is None


def test_changes_of_one_turn_are_one_message_per_attributes() -> None:
    recorder, _ = one_leaf()
    given = attributes()
    recorder.rib.announce_local(LOCAL, V4, [HOST], given)
    recorder.rib.withdraw_local(LOCAL, V4, [HOST])
    recorder.rib.announce_local(LOCAL, V4, [HOST, key("10.64.1.6/32")], given)
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.7/32")], given)
    recorder.turn()
    assert [len(batch.announced) for _, batch in recorder.sent] == [3]


def test_route_that_came_and_went_within_a_turn_is_not_told() -> None:
    recorder, _ = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.rib.withdraw_local(LOCAL, V4, [HOST])
    recorder.turn()
    assert recorder.sent == []


def test_announcements_precede_withdrawals_even_over_several_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FLUSH_KEYS", 2)
    recorder, _ = one_leaf()
    parts = [key(f"10.64.1.{n}/32") for n in range(5)]
    recorder.rib.announce_local(LOCAL, V4, parts, attributes())
    recorder.turn()
    recorder.sent.clear()
    recorder.rib.withdraw_local(LOCAL, V4, parts)
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.0/26")], attributes())
    recorder.turn()
    sizes = [(len(batch.announced), len(batch.withdrawn)) for _, batch in recorder.sent]
    assert sizes == [(1, 0), (0, 2), (0, 2), (0, 1)]


def test_end_of_rib_waits_for_the_sources_and_for_the_table() -> None:
    recorder, leaf1 = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    assert recorder.end_of_rib == []
    recorder.rib.dissemination.synchronised()
    recorder.turn()
    assert recorder.end_of_rib == [(leaf1, V4)]
    drain(recorder.rib.received.neighbor_down(leaf1))
    recorder.sent.clear()
    again = recorder.up(leaf(1), session("leaf1"))
    recorder.turn()
    assert [to for to, _ in recorder.sent] == [again]
    assert recorder.end_of_rib == [(leaf1, V4), (again, V4)]


def test_refresh_tells_everything_again_and_nothing_else() -> None:
    recorder, leaf1 = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    recorder.rib.received.refresh_requested(leaf1, V4)
    recorder.turn()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    assert [batch.announced for _, batch in recorder.sent] == [[HOST], [HOST]]
    assert recorder.refresh_sent == [(leaf1, V4)]


def test_refresh_before_end_of_rib_is_not_marked_as_one() -> None:
    """RFC 7313 section 4: what the neighbor has kept of a former session of this host would count as gone."""
    recorder, leaf1 = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    recorder.rib.received.refresh_requested(leaf1, V4)
    recorder.turn()
    assert [batch.announced for _, batch in recorder.sent] == [[HOST], [HOST]]
    assert recorder.refresh_began == recorder.end_of_rib == []
    recorder.rib.dissemination.synchronised()
    recorder.turn()
    recorder.rib.received.refresh_requested(leaf1, V4)
    assert recorder.refresh_began == recorder.end_of_rib == [(leaf1, V4)]


def test_learned_routes_do_not_leave_by_default() -> None:
    recorder, leaf1, other = with_other("local")
    recorder.announce(other, attributes(65202), HOP1, "10.1.0.0/24", "0.0.0.0/0")
    recorder.acknowledge(key("10.1.0.0/24"), b"\0")
    recorder.turn()
    assert recorder.sent == []
    assert recorder.rib.received.counts(leaf1)[V4].announced == 0


def test_learned_route_leaves_only_after_the_kernel_has_it() -> None:
    recorder, leaf1, other = with_other("all")
    recorder.announce(other, attributes(65202, med=7), HOP1, "10.1.0.0/24")
    recorder.turn()
    assert recorder.sent == []
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert recorder.told[leaf1][key("10.1.0.0/24")].same_as(attributes(65202))


def test_learned_route_that_the_kernel_refuses_later_is_taken_back_until_it_has_it() -> None:
    recorder, leaf1, other = with_other("all")
    route = key("10.1.0.0/24")
    recorder.announce(other, attributes(65202), HOP1, "10.1.0.0/24")
    recorder.acknowledge(route)
    recorder.turn()
    assert route in recorder.told[leaf1]
    recorder.rib.fib_refused("", V4, [route])
    recorder.turn()
    assert recorder.told[leaf1] == {}
    recorder.acknowledge(route)
    recorder.turn()
    assert route in recorder.told[leaf1]


def test_refused_route_that_is_withdrawn_is_forgotten_whenever_the_kernel_answers() -> None:
    recorder, _leaf1, other = with_other("all")
    route = key("10.1.0.0/24")
    recorder.announce(other, attributes(65202), HOP1, "10.1.0.0/24")
    recorder.rib.fib_refused("", V4, [route])
    assert recorder.rib.tables["", V4].refused == {route}
    recorder.withdraw(other, "10.1.0.0/24")
    recorder.turn()
    assert recorder.rib.tables["", V4].refused == set()
    recorder.rib.fib_refused("", V4, [route])
    assert recorder.rib.tables["", V4].refused == set()


def test_default_only_export_tells_just_the_default_route() -> None:
    recorder, leaf1, other = with_other("default-only")
    recorder.announce(other, attributes(65202), HOP1, "10.1.0.0/24", "0.0.0.0/0")
    recorder.acknowledge(key("10.1.0.0/24"), b"\0")
    recorder.turn()
    assert set(recorder.told[leaf1]) == {b"\0"}


def test_local_announcement_is_taken_back_while_its_learned_successor_is_on_its_way_to_the_kernel() -> None:
    recorder, leaf1, other = with_other("all")
    recorder.announce(other, attributes(65202), HOP1, "10.64.1.5/32")
    recorder.acknowledge(HOST)
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    assert recorder.told[leaf1][HOST].same_as(attributes())
    recorder.rib.withdraw_local(LOCAL, V4, [HOST])
    recorder.turn()
    assert recorder.told[leaf1] == {}
    recorder.acknowledge(HOST)
    recorder.turn()
    assert recorder.told[leaf1][HOST].same_as(attributes(65202))


class Told(History):
    """What the history is told of this host's own routes."""

    is_on = True

    def __init__(self) -> None:
        self.gone: list[list[bytes]] = []

    def told(
        self,
        source: Source,
        place: object,
        keys: Sequence[bytes],
        attributes: Attributes | None,
        *_: object,
        **__: object,
    ) -> None:
        if attributes is None:
            self.gone.append(list(keys))


def test_own_route_that_a_learned_one_replaces_at_once_is_told_as_gone() -> None:
    recorder, leaf1, other = with_other("all")
    history = recorder.rib.received.recorder = Told()
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    recorder.announce(other, attributes(65202), HOP1, "10.64.1.5/32")
    recorder.rib.withdraw_local(LOCAL, V4, [HOST])
    recorder.acknowledge(HOST)
    recorder.turn()
    assert recorder.told[leaf1][HOST].same_as(attributes(65202))
    assert history.gone == [[HOST]]


def test_nothing_goes_back_to_where_it_came_from() -> None:
    recorder, leaf1 = one_leaf("all")
    recorder.announce(leaf1, attributes(65202), HOP1, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert recorder.sent == []


@pytest.mark.parametrize("community", [COMMUNITY_NO_EXPORT, COMMUNITY_NO_ADVERTISE])
def test_well_known_communities_keep_a_learned_route_here(community: int) -> None:
    recorder, _, other = with_other("all")
    recorder.announce(other, attributes(65202, communities=(community,)), HOP1, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert recorder.sent == []


def test_ibgp_route_does_not_go_to_another_ibgp_neighbor() -> None:
    config = session("peer", export="all")
    recorder = Recorder(configuration(config))
    recorder.up(leaf(1, kind=SourceKind.IBGP, name="peer"), config)
    other = recorder.up(leaf(2, kind=SourceKind.IBGP, name="peer2"), session("peer2", export="none"))
    recorder.announce(other, attributes(1), HOP1, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    assert recorder.sent == []


def test_export_rules_change_what_is_sent_and_their_med_stays() -> None:
    rules = (
        RuleConfig(match=MatchConfig(prefix=("10.1.0.0/24",)), set=SetConfig(med=9, prepend=2)),
        RuleConfig(match=MatchConfig(prefix=("10.2.0.0/24",)), action="reject"),
    )
    recorder, leaf1 = one_leaf("tuned", policy={"tuned": PolicyConfig(rules=rules)})
    keys = [key("10.1.0.0/24"), key("10.2.0.0/24"), key("10.3.0.0/24")]
    recorder.rib.announce_local(LOCAL, V4, keys, attributes())
    recorder.turn()
    assert set(recorder.told[leaf1]) == {keys[0]}
    assert recorder.told[leaf1][keys[0]].same_as(attributes(LOCAL_ASN, LOCAL_ASN, med=9))


def test_changed_export_policy_tells_the_difference() -> None:
    recorder, leaf1 = one_leaf("none")
    recorder.rib.announce_local(LOCAL, V4, [HOST], attributes())
    recorder.turn()
    assert recorder.sent == []
    drain(recorder.rib.reconfigure(configuration(session("leaf1", export="local"))))
    recorder.turn()
    assert set(recorder.told[leaf1]) == {HOST}
    drain(recorder.rib.reconfigure(configuration(session("leaf1", export="none"))))
    recorder.turn()
    assert recorder.told[leaf1] == {}


@pytest.mark.parametrize("export", ["local", "default-only", "none"])
def test_tightened_export_takes_back_a_learned_route_that_is_on_its_way_to_the_kernel(export: str) -> None:
    recorder, leaf1, other = with_other("all")
    recorder.announce(other, attributes(65202), HOP1, "10.1.0.0/24")
    recorder.acknowledge(key("10.1.0.0/24"))
    recorder.turn()
    recorder.announce(other, attributes(65202), hop("10.0.9.9"), "10.1.0.0/24")
    drain(recorder.rib.reconfigure(configuration(session("leaf1", export=export), session("other", export="none"))))
    recorder.turn()
    assert recorder.told[leaf1] == {}


def many(count: int) -> list[bytes]:
    return [bytes((32, 10, 64, number >> 8, number & 255)) for number in range(count)]


def test_own_routes_are_sent_by_the_policy_of_now_whatever_routes_like_them_were_sent_as() -> None:
    def policy(med: int) -> dict[str, PolicyConfig]:
        return {"tuned": PolicyConfig(rules=(RuleConfig(set=SetConfig(med=med)),))}

    recorder, leaf1 = one_leaf("tuned", policy=policy(1))
    keys = [key(f"10.64.1.{number}/32") for number in range(4)]
    for number, given in enumerate((attributes(), attributes(), attributes(local_pref=300))):
        recorder.rib.announce_local(LOCAL, V4, [keys[number]], given)
        recorder.turn()
    assert [recorder.told[leaf1][one].med for one in keys[:3]] == [1, 1, 1]
    assert [recorder.told[leaf1][one].local_pref for one in keys[:3]] == [None, None, 300]
    drain(recorder.rib.reconfigure(configuration(session("leaf1", export="tuned"), policy=policy(2))))
    recorder.rib.announce_local(LOCAL, V4, [keys[3]], attributes())
    recorder.turn()
    assert [recorder.told[leaf1][one].med for one in keys] == [2, 2, 2, 2]


def test_thousands_of_requests_are_two_answers_in_slices() -> None:
    recorder, leaf1 = one_leaf()
    recorder.rib.announce_local(LOCAL, V4, many(5000), attributes())
    recorder.turn()
    recorder.sent.clear()
    recorder.rib.received.refresh_requested(leaf1, V4)
    recorder.scheduled.pop(0)()
    for _ in range(2849):
        recorder.rib.received.refresh_requested(leaf1, V4)
    assert recorder.refresh_sent == []
    recorder.turn()
    assert sum(len(batch.announced) for _, batch in recorder.sent) == 2 * 5000
    assert max(len(batch.announced) for _, batch in recorder.sent) <= exports.FLUSH_KEYS
    assert recorder.refresh_sent == [(leaf1, V4)]
    recorder.rib.received.refresh_requested(leaf1, V4)
    recorder.turn()
    assert recorder.refresh_sent == [(leaf1, V4)] * 2


def test_routes_with_attributes_of_their_own_are_fewer_in_a_slice() -> None:
    recorder, leaf1 = one_leaf()
    for number, one in enumerate(many(1000)):
        recorder.rib.announce_local(LOCAL, V4, [one], attributes(med=number))
    recorder.scheduled.pop(0)()
    most = exports.FLUSH_KEYS // PATH_COST + CHUNK
    assert 0 < len(recorder.sent) <= most
    recorder.turn()
    assert len(recorder.told[leaf1]) == len(recorder.sent) == 1000


def test_a_session_that_comes_and_goes_lists_no_table() -> None:
    config = session("leaf1", export="all")
    recorder, _, other = with_other("local")
    recorder.announce(other, attributes(65202), HOP1, *(f"10.{number}.0.0/16" for number in range(200)))
    for _ in range(50):
        source = recorder.up(leaf(5, name="leaf5"), config)
        drain(recorder.rib.received.neighbor_down(source))
        assert recorder.sent == []


def test_nothing_is_made_for_a_full_connection_and_what_changes_meanwhile_merges() -> None:
    recorder, leaf1, _ = with_other("local")
    recorder.full.add(leaf1)
    recorder.rib.dissemination.synchronised()
    for _ in range(3):
        recorder.rib.announce_local(LOCAL, V4, many(5000), attributes(med=1))
        recorder.rib.withdraw_local(LOCAL, V4, many(5000))
        recorder.rib.announce_local(LOCAL, V4, [HOST], attributes(med=2))
        recorder.rib.received.refresh_requested(leaf1, V4)
        recorder.turn()
    assert [source for source, _ in recorder.sent if source is leaf1] == []
    assert leaf1 not in [source for source, _ in recorder.end_of_rib]
    recorder.full.clear()
    recorder.rib.received.room_came(leaf1)
    recorder.turn()
    assert [batch.announced for source, batch in recorder.sent if source is leaf1] == [[HOST], [HOST]]
    assert recorder.end_of_rib.count((leaf1, V4)) == 1
    assert recorder.refresh_sent == [(leaf1, V4)]


def test_a_connection_that_fills_up_within_a_slice_stops_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FLUSH_KEYS", 100)
    configs = [session("leaf1"), session("leaf2")]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.rib.announce_local(LOCAL, V4, many(1000), attributes())
    recorder.after_send = lambda: recorder.full.add(leaf1)
    recorder.turn()
    assert 0 < len(recorder.told[leaf1]) <= 100
    assert len(recorder.told[leaf2]) == 1000


def test_neighbors_are_told_one_slice_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "FLUSH_KEYS", 100)
    configs = [session("leaf1"), session("leaf2")]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.rib.announce_local(LOCAL, V4, many(1000), attributes())
    for _ in range(4):
        recorder.scheduled.pop(0)()
    assert abs(len(recorder.told[leaf1]) - len(recorder.told[leaf2])) <= 100


def test_neighbor_that_was_told_all_differs_in_nothing() -> None:
    recorder = Recorder(configuration(session("leaf1", export="local")))
    recorder.up(leaf(1), session("leaf1", export="local"))
    keys = [key("10.64.1.0/24"), key("10.64.2.0/24")]
    recorder.rib.announce_local(LOCAL, V4, keys, attributes())
    (export,) = recorder.rib.dissemination.all()
    assert export.differing(keys) == []  # it is still to be told
    recorder.turn()
    assert export.differing([*keys, key("10.64.3.0/24")]) == []
    assert {one for part in export.slices(1) for one in part} == set(keys)


def test_what_a_neighbor_was_told_wrongly_is_found_and_told_again() -> None:
    recorder = Recorder(configuration(session("leaf1", export="local")))
    source = recorder.up(leaf(1), session("leaf1", export="local"))
    told, lost, gone = key("10.64.1.0/24"), key("10.64.2.0/24"), key("10.64.3.0/24")
    recorder.rib.announce_local(LOCAL, V4, [told, lost], attributes())
    recorder.turn()
    (export,) = recorder.rib.dissemination.all()
    del recorder.told[source][lost]
    recorder.told[source][gone] = attributes()
    export.advertised[gone] = export.advertised.pop(lost)
    assert sorted(export.differing([told, lost, gone])) == [lost, gone]
    recorder.rib.dissemination.send_again(export, [lost, gone])
    recorder.turn()
    assert set(recorder.told[source]) == {told, lost}
    assert export.differing([told, lost, gone]) == []


def test_own_routes_that_were_sent_by_what_was_remembered_wrongly_are_found_and_told_again() -> None:
    recorder, leaf1 = one_leaf()
    first, second = many(2)
    recorder.rib.announce_local(LOCAL, V4, [first], attributes())
    recorder.turn()
    (export,) = recorder.rib.dissemination.all()
    wrong = Advertisement(attributes(med=9), None, learned=False)
    export._of_own = dict.fromkeys(export._of_own, wrong)
    recorder.rib.announce_local(LOCAL, V4, [second], next(iter(export._of_own)))
    recorder.turn()
    assert recorder.told[leaf1][second].med == 9
    assert export.differing([first, second]) == [second]
    recorder.rib.dissemination.send_again(export, [second])
    recorder.turn()
    assert recorder.told[leaf1][second].med is None
