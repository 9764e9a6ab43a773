"""A drained host: what its neighbors are sent, and which services no other host announces."""

from __future__ import annotations

from bgpd.message.open import GracefulRestart
from bgpd.model.drain import DrainStage
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN, Family
from bgpd.model.source import Source, SourceKind
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, hop, key, leaf, session
from tests.rib.build import drain as walk

HOP1, HOP2 = hop("10.0.1.2"), hop("10.0.2.2")
POD, SERVICE, OTHERS = "10.64.1.5/32", "10.64.100.1/32", "10.9.0.0/16"
EVPN = Source(name="evpn", kind=SourceKind.WORKLOAD)
OWN = [(65203).to_bytes(4, "big")]
NONE: frozenset[tuple[str, Family, bytes]] = frozenset()


def host(*, kind: SourceKind = SourceKind.EBGP, export: str = "local") -> tuple[Recorder, Source]:
    """A host with a pod and a service, and the neighbor that was sent both."""
    configs = [session("leaf1", export=export), session("leaf2", export="none", import_="default-only")]
    recorder = Recorder(configuration(*configs))
    own = attributes(communities=(7,))
    recorder.rib.announce_local(LOCAL, V4, [key(POD)], own)
    recorder.rib.announce_local(LOCAL, V4, [key(SERVICE)], own, exception=True, is_service=True)
    to = recorder.up(leaf(1, kind=kind), configs[0])
    recorder.turn()
    recorder.sent.clear()
    return recorder, to


def drain(recorder: Recorder, stage: DrainStage, *kept: str) -> None:
    places = frozenset(("", V4, key(prefix)) for prefix in kept)
    recorder.rib.dissemination.drain(stage, places)
    recorder.turn()


def told(recorder: Recorder, to: Source) -> dict[bytes, tuple[int, ...]]:
    return {one: sent.communities for one, sent in recorder.told[to].items()}


def test_drain_lowers_all_first_then_withdraws_services_then_all_and_off_is_as_before() -> None:
    recorder, to = host()
    before = told(recorder, to)
    lowered = (7, COMMUNITY_GRACEFUL_SHUTDOWN)
    drain(recorder, DrainStage.LOWERED)
    assert told(recorder, to) == {key(POD): lowered, key(SERVICE): lowered}
    drain(recorder, DrainStage.SERVICES)
    assert told(recorder, to) == {key(POD): lowered}
    drain(recorder, DrainStage.ALL)
    assert told(recorder, to) == {}
    drain(recorder, DrainStage.OFF)
    assert told(recorder, to) == before


def test_a_route_that_was_not_withdrawn_does_not_flap() -> None:
    recorder, _ = host()
    for stage in (DrainStage.LOWERED, DrainStage.SERVICES, DrainStage.OFF):
        drain(recorder, stage)
    touched = [(key(POD) in batch.announced, key(POD) in batch.withdrawn) for _, batch in recorder.sent]
    assert [one for one in touched if any(one)] == [(True, False), (True, False)]


def test_what_appears_while_drained_is_sent_as_drained() -> None:
    recorder, to = host()
    drain(recorder, DrainStage.SERVICES)
    pod, service = key("10.64.1.6/32"), key("10.64.100.2/32")
    recorder.rib.announce_local(LOCAL, V4, [pod], attributes())
    recorder.rib.announce_local(LOCAL, V4, [service], attributes(), exception=True, is_service=True)
    recorder.turn()
    assert told(recorder, to)[pod] == (COMMUNITY_GRACEFUL_SHUTDOWN,)
    assert not any(service in batch.announced for _, batch in recorder.sent)
    late = recorder.up(leaf(3, name="late"), session("late"))
    recorder.turn()
    assert set(told(recorder, late)) == {key(POD), pod}


def test_an_internal_neighbor_is_also_sent_local_pref_0() -> None:
    recorder, to = host(kind=SourceKind.IBGP)
    drain(recorder, DrainStage.LOWERED)
    assert {sent.local_pref for sent in recorder.told[to].values()} == {0}
    drain(recorder, DrainStage.OFF)
    assert {sent.local_pref for sent in recorder.told[to].values()} == {None}


def test_a_route_that_is_passed_on_is_lowered_and_goes_with_all() -> None:
    recorder, to = host(export="all")
    other = recorder.up(leaf(4, name="other"), session("other", export="none"))
    recorder.announce(other, attributes(65202), HOP1, OTHERS)
    recorder.acknowledge(key(OTHERS))
    recorder.turn()
    drain(recorder, DrainStage.SERVICES)
    assert told(recorder, to)[key(OTHERS)] == (COMMUNITY_GRACEFUL_SHUTDOWN,)
    drain(recorder, DrainStage.ALL)
    assert told(recorder, to) == {}
    drain(recorder, DrainStage.OFF)
    assert told(recorder, to)[key(OTHERS)] == ()


def test_a_service_that_is_kept_stays_lowered_until_it_is_kept_no_more() -> None:
    recorder, to = host()
    drain(recorder, DrainStage.SERVICES, SERVICE)
    assert told(recorder, to)[key(SERVICE)] == (7, COMMUNITY_GRACEFUL_SHUTDOWN)
    drain(recorder, DrainStage.SERVICES)
    assert key(SERVICE) not in told(recorder, to)


def test_evpn_routes_of_a_vrfs_services_are_withheld_with_them_and_route_targets_never() -> None:
    recorder = Recorder(configuration(session("leaf1")))
    rib = recorder.rib
    rib.announce_local(LOCAL, V4, [key(SERVICE)], attributes(), vrf="blue", exception=True, is_service=True)
    table = rib.table("", Family.L2VPN_EVPN)
    rib.announce_local(EVPN, Family.L2VPN_EVPN, [b"service", b"uplink"], attributes())
    rib.announce_local(EVPN, Family.ROUTE_TARGET, [b"target"], attributes())
    recorder.prefixes[b"service"] = ("blue", V4, key(SERVICE))
    best = {one: table.routes[one].best for one in (b"service", b"uplink")}
    withheld = []
    for stage in DrainStage:
        rib.dissemination.drain(stage, NONE)
        withheld.append({one for one, path in best.items() if path and rib.drained.is_withheld(table, one, path)})
    assert withheld == [set(), set(), {b"service"}, {b"service", b"uplink"}]
    assert not rib.drained.withholds(Family.ROUTE_TARGET)
    given = attributes()
    assert rib.drained.lowered(given, Family.ROUTE_TARGET, is_ibgp=False) is given


def last(recorder: Recorder) -> bool:
    [place] = recorder.rib.drained.services()
    return recorder.rib.drained.is_last(place, OWN)


def test_the_last_host_with_a_service_is_the_one_that_sees_no_other_that_stays() -> None:
    recorder, _ = host()
    leaf2 = recorder.up(leaf(2), session("leaf2", import_="default-only"))
    assert last(recorder)
    recorder.announce(leaf2, attributes(65201, 65204), HOP2, SERVICE)
    assert not last(recorder), "what import policy rejects shows another host all the same"
    recorder.announce(leaf2, attributes(65201, 65204, communities=(COMMUNITY_GRACEFUL_SHUTDOWN,)), HOP2, SERVICE)
    assert last(recorder), "the other one is about to leave, too"
    recorder.announce(leaf2, attributes(65201, 65203), HOP2, SERVICE)
    assert last(recorder), "it may be this host's own announcement"


def test_what_a_neighbor_said_that_restarts_shows_no_other_host_until_it_has_said_it_again() -> None:
    recorder, _ = host()
    config, received = session("leaf2"), recorder.rib.received
    restart = GracefulRestart(restart_time_s=100, families=((1, 1, True),))
    restarts = negotiated(families=(V4,), graceful_restart=restart)
    leaf2 = leaf(2)
    received.neighbor_up(leaf2, restarts, config)
    recorder.announce(leaf2, attributes(65201, 65204), HOP2, SERVICE)
    assert not last(recorder)
    walk(received.remove(received.session_lost(leaf2, is_graceful=True, now=0.0)))
    assert recorder.rib.table("", V4).routes[key(SERVICE)].path_of(leaf2.name) is not None, "it is kept"
    assert last(recorder)
    back = leaf(2)
    received.neighbor_up(back, restarts, config)
    assert last(recorder)
    recorder.announce(back, attributes(65201, 65204), HOP2, SERVICE)
    assert not last(recorder)


def test_differing_routes_are_judged_by_the_stage() -> None:
    recorder, to = host()
    drain(recorder, DrainStage.SERVICES)
    [state] = [one for one in recorder.rib.received.states() if one.source is to]
    assert state.exports[V4].differing([key(POD), key(SERVICE)]) == []
