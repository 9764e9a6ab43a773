"""The RIB from one process to the next: what was on its way when it was left comes to its end."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.schema_sessions import GracefulRestartConfig, NeighborConfig
from bgpd.message.open import GracefulRestart, LongLived
from bgpd.model.iana import COMMUNITY_LLGR_STALE, COMMUNITY_NO_LLGR, Family, Role
from bgpd.model.source import Source
from bgpd.rib.saved import SavedRib
from tests.message.decoding import negotiated
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP = hop("10.0.1.2")
ONE, TWO = "10.1.0.0/24", "10.2.0.0/24"
RESTARTS = negotiated(
    families=(V4,),
    graceful_restart=GracefulRestart(restart_time_s=100, families=((1, 1, True),)),
    long_lived=(LongLived(1, 1, True, 600),),
)
HELPED = session("leaf1", graceful_restart=GracefulRestartConfig(long_lived_s=300))


def handed_over(before: Recorder, *configs: NeighborConfig, adopted: Source | None = None) -> Recorder:
    """The next process, with what it was left; `adopted` is a session that it goes on with."""
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(before.rib.to_leave().rest()[0]), type=SavedRib)
    after = Recorder(configuration(*configs))
    if adopted is not None:
        after.rib.received.neighbor_up(adopted, negotiated(families=(V4,)), configs[0], is_adopted=True)
    former = after.rib.received.restore_former(saved)
    drain(after.rib.received.restore(saved, former))
    after.rib.commit_gathered()
    return after


def test_what_a_refresh_that_has_ended_takes_does_not_come_back() -> None:
    before = Recorder(configuration(session("leaf1")))
    leaf1 = before.up(leaf(1), session("leaf1"))
    before.announce(leaf1, attributes(1), HOP, ONE, TWO)
    before.rib.received.refresh_began(leaf1, V4)
    before.announce(leaf1, attributes(1), HOP, ONE)
    before.rib.received.refresh_ended(leaf1, V4)  # the removal has not had its turn yet
    after = handed_over(before, session("leaf1"), adopted=leaf(1))
    assert set(after.fib) == {key(ONE)}


def away(recorder: Recorder, config: NeighborConfig = HELPED) -> Source:
    """A neighbor whose session has ended, and whose routes are kept."""
    source = leaf(1)
    recorder.rib.received.neighbor_up(source, RESTARTS, config)
    recorder.announce(source, attributes(1), HOP, ONE)
    recorder.announce(source, attributes(1, communities=(COMMUNITY_NO_LLGR,)), HOP, TWO)
    drain(recorder.rib.received.remove(recorder.rib.received.session_lost(source, is_graceful=True, now=0.0)))
    return source


@pytest.mark.parametrize("is_walked", [True, False])
def test_long_lived_stale_routes_stay_the_last_choice(is_walked: bool) -> None:
    before = Recorder(configuration(HELPED))
    away(before)
    _, long_lived = before.rib.received.stale.due(101.0)
    walk = before.rib.received.become_long_lived(long_lived)
    if is_walked:
        drain(walk)
    after = handed_over(before, HELPED)
    assert set(after.fib) == {key(ONE)}
    (path,) = after.rib.table("", V4).routes[key(ONE)].candidates
    assert path.attributes.has_community(COMMUNITY_LLGR_STALE)


def test_routes_of_a_neighbor_that_is_in_another_vrf_now_are_not_kept() -> None:
    before = Recorder(configuration(HELPED))
    away(before)
    after = handed_over(before, msgspec.structs.replace(HELPED, vrf="red"))
    assert after.fib == {}
    assert after.rib.received.stale.kept == {}
    assert not after.rib.table("", Family.IPV4_UNICAST).routes


def test_routes_of_a_neighbor_that_is_the_same_are_kept() -> None:
    before = Recorder(configuration(HELPED))
    away(before)
    assert set(handed_over(before, HELPED).fib) == {key(ONE), key(TWO)}


@pytest.mark.parametrize("is_away", [True, False])
def test_the_roles_of_a_session_count_for_the_routes_that_are_handed_over(is_away: bool) -> None:
    """A route that came from a provider has OTC, in use and as it was sent on, in the next process as in this one."""
    config, down = HELPED, session("down", export="all")
    before = Recorder(configuration(config, down))
    source = leaf(1)
    restart = GracefulRestart(restart_time_s=100, families=((1, 1, True),))
    words = negotiated(families=(V4,), graceful_restart=restart, role=Role.CUSTOMER)
    before.rib.received.neighbor_up(source, words, config)
    before.announce(source, attributes(65201), HOP, ONE)
    below = before.up(leaf(7, name="down"), down, role=Role.PROVIDER)
    before.acknowledge(key(ONE))
    before.turn()
    assert before.told[below][key(ONE)].only_to_customer == 65201
    if is_away:
        drain(before.rib.received.remove(before.rib.received.session_lost(source, is_graceful=True, now=0.0)))
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(before.rib.to_leave().rest()[0]), type=SavedRib)
    after = Recorder(configuration(config, down))
    if not is_away:
        after.rib.received.neighbor_up(leaf(1), words, config, is_adopted=True)
    below = leaf(7, name="down")
    after.rib.received.neighbor_up(below, negotiated(families=(V4,), role=Role.PROVIDER), down, is_adopted=True)
    former = after.rib.received.restore_former(saved)
    drain(after.rib.received.restore(saved, former))
    after.rib.commit_gathered()
    after.rib.dissemination.release()
    (path,) = after.rib.table("", V4).routes[key(ONE)].candidates
    assert path.attributes.only_to_customer == 65201
    assert path.received.only_to_customer is None
    after.acknowledge(key(ONE))
    after.turn()
    assert below not in after.told, "it was sent the same already"


@pytest.mark.parametrize(("most", "is_over"), [(3, True), (4, False)])
@pytest.mark.parametrize("limit", ["max_prefixes", "max_attribute_bytes"])
def test_limits_of_the_next_process_count_what_is_kept_of_former_sessions(limit: str, most: int, is_over: bool) -> None:
    """A neighbor that restarts again and again has no more room than one that does not. `most`: of its four routes."""
    before = Recorder(configuration(HELPED))
    away(before)
    source = leaf(1)
    assert before.rib.received.neighbor_back(source, RESTARTS, HELPED, now=0.0) == []
    before.up(source, HELPED)
    for number, prefix in enumerate(["10.3.0.0/24", "10.4.0.0/24"], 2):
        before.announce(source, attributes(number), HOP, prefix)
    if limit == "max_attribute_bytes":
        kept = before.rib.received.attribute_bytes(source)
        most = kept if is_over else 3 * kept
    after = handed_over(before, msgspec.structs.replace(HELPED, **{limit: most}), adopted=leaf(1))
    after.turn()
    assert [name for name, _ in after.resets] == ["leaf1"] * is_over
