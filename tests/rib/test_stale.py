"""What is kept of a neighbor whose session has ended, by the rules of RFC 4724 section 4.2, RFC 8538 and RFC 9494."""

from __future__ import annotations

import pytest

from bgpd.message.open import GracefulRestart, LongLived, Negotiated
from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.rib.stale import Kept, Stage, StaleRoutes, kept_families
from tests.message.decoding import negotiated
from tests.rib.build import V4, leaf

V6, EVPN = Family.IPV6_UNICAST, Family.L2VPN_EVPN
WALL = 1_000_000.0
BOTH = ((1, 1, True), (2, 1, True))


def agreed(
    *, forwarding: bool = True, time_s: int = 120, both_notify: bool = True, long_lived_s: int = 0
) -> Negotiated:
    families = tuple((afi, safi, forwarding) for afi, safi, _ in BOTH)
    restart = GracefulRestart(notification=both_notify, restart_time_s=time_s, families=families)
    long_lived = tuple(LongLived(afi, safi, forwarding, long_lived_s) for afi, safi, _ in BOTH if long_lived_s)
    return negotiated(families=(V4, V6, EVPN), graceful_restart=restart, hard_reset=both_notify, long_lived=long_lived)


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.stale = StaleRoutes(wall=lambda: WALL + self.now)

    def lose(self, source: Source, session: Negotiated, *holding: Family, long_lived_s: int = 0) -> list[object]:
        covered = kept_families(session, long_lived_s=long_lived_s)
        return list(self.stale.keep(source, session, covered, holding=holding or (V4,), now=self.now))

    def back(self, source: Source, session: Negotiated) -> list[object]:
        return list(self.stale.back(source, session, stale_time_s=360, now=self.now))

    def kept(self, source: Source, family: Family = V4) -> Kept:
        return self.stale.kept[source][family]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_only_families_of_the_capability_outlive_the_session() -> None:
    assert kept_families(agreed(), long_lived_s=0) == {V4: 0, V6: 0}
    assert kept_families(negotiated(), long_lived_s=0) == {}
    assert kept_families(agreed(forwarding=False), long_lived_s=0) == {V4: 0, V6: 0}, "the F bit counts when it is back"
    assert kept_families(agreed(time_s=0), long_lived_s=0) == {}, "there is no time to keep it for"


def test_long_lived_time_is_the_lower_of_both(rig: Rig) -> None:
    assert kept_families(agreed(long_lived_s=900), long_lived_s=600) == {V4: 600, V6: 600}
    assert kept_families(agreed(long_lived_s=300), long_lived_s=600) == {V4: 300, V6: 300}
    assert kept_families(agreed(long_lived_s=300, time_s=0), long_lived_s=600) == {V4: 300, V6: 300}
    assert kept_families(agreed(long_lived_s=300), long_lived_s=0) == {V4: 0, V6: 0}


def test_restart_time_then_stale_time_then_end_of_rib(rig: Rig) -> None:
    one, two = leaf(1), leaf(1)
    assert rig.lose(one, agreed(), V4, V6) == []
    kept = rig.kept(one)
    assert (kept.stage, kept.until, kept.since, kept.ends_at) == (Stage.AWAY, 220, WALL + 100, WALL + 220)
    rig.now = 150
    assert rig.back(two, agreed()) == []
    assert (kept.stage, kept.until, kept.ends_at) == (Stage.BACK, 510, WALL + 510)
    assert rig.stale.due(509) == ([], [])
    assert rig.stale.end_of_rib("leaf1", V4) == [(one, V4)]
    assert rig.stale.due(510) == ([(one, V6)], [])
    assert rig.stale.kept == {}
    assert rig.stale.deadline() is None


def test_neighbor_that_stays_away(rig: Rig) -> None:
    one = leaf(1)
    rig.lose(one, agreed(), V4, V6)
    assert rig.stale.deadline() == 220
    assert rig.stale.due(219.9) == ([], [])
    assert rig.stale.due(220) == ([(one, V4), (one, V6)], [])


@pytest.mark.parametrize(
    ("source", "session"),
    [
        (leaf(1), agreed(forwarding=False)),
        (leaf(1), negotiated()),
        (leaf(1), negotiated(families=(V6,), graceful_restart=agreed().graceful_restart)),
        (leaf(1), negotiated(graceful_restart=GracefulRestart(families=((2, 1, True),)))),
        (leaf(1, asn=65209), agreed()),
        (leaf(2, name="leaf1"), agreed()),
    ],
    ids=["F bit", "no capability", "family not negotiated", "family not in the capability", "AS", "router ID"],
)
def test_what_goes_when_the_neighbor_is_back(rig: Rig, source: Source, session: Negotiated) -> None:
    one = leaf(1)
    rig.lose(one, agreed())
    assert rig.back(source, session) == [(one, V4)]
    assert rig.stale.kept == {}


def test_second_restart_deletes_what_was_stale_without_the_n_bit(rig: Rig) -> None:
    """RFC 4724 section 4.2."""
    one, two = leaf(1), leaf(1)
    plain = agreed(both_notify=False)
    rig.lose(one, plain)
    rig.back(two, plain)
    assert rig.lose(two, plain) == [(one, V4)]
    assert list(rig.stale.kept) == [two]


def test_second_restart_with_the_n_bit_keeps_all_but_not_for_ever(rig: Rig) -> None:
    """RFC 8538 section 4.1: bounded by the stale-path time since the first return."""
    first, session = leaf(1), agreed()
    rig.lose(first, session)
    for _ in range(20):
        rig.now += 20
        source = leaf(1)
        rig.stale.due(rig.now)
        rig.back(source, session)
        assert rig.lose(source, session) == []
    assert first not in rig.stale.kept
    assert all(one.until <= rig.now + 360 for _, _, one in rig.stale.of("leaf1"))
    assert len(rig.stale.kept) <= 20
    rig.stale.end_of_rib("leaf1", V4)
    assert rig.stale.kept == {}


def test_second_restart_without_a_route_keeps_the_first(rig: Rig) -> None:
    one, two = leaf(1), leaf(1)
    rig.lose(one, agreed())
    rig.back(two, agreed())
    covered = kept_families(agreed(), long_lived_s=0)
    assert rig.stale.keep(two, agreed(), covered, holding=(), now=rig.now) == []
    assert list(rig.stale.kept) == [one]
    assert rig.kept(one).stage is Stage.AWAY


def test_long_lived_follows_the_restart_time_and_no_restart_prolongs_it(rig: Rig) -> None:
    one, two = leaf(1), leaf(1)
    session = agreed(long_lived_s=600)
    rig.lose(one, session, long_lived_s=600)
    assert rig.stale.due(220) == ([], [(one, V4)])
    assert (rig.kept(one).stage, rig.kept(one).until) == (Stage.LONG_LIVED, 820)
    rig.now = 300
    assert rig.back(two, session) == []
    assert rig.kept(one).until == 820
    assert rig.lose(two, session, long_lived_s=600) == []
    assert rig.kept(one).until == 820
    assert rig.stale.due(820) == ([(one, V4)], [(two, V4)]), "the second is long-lived in its turn"


@pytest.mark.parametrize("session", [agreed(), agreed(forwarding=False, long_lived_s=600)])
def test_long_lived_routes_go_by_the_f_bit_of_their_own_capability(rig: Rig, session: Negotiated) -> None:
    one = leaf(1)
    rig.lose(one, agreed(long_lived_s=600), long_lived_s=600)
    rig.stale.due(220)
    assert rig.back(leaf(1), session) == [(one, V4)]


def test_other_neighbors_are_not_concerned(rig: Rig) -> None:
    one, two = leaf(1), leaf(2)
    rig.lose(one, agreed())
    rig.lose(two, agreed())
    assert rig.stale.end_of_rib("leaf2", V4) == [(two, V4)]
    assert rig.stale.forget("leaf1") == [(one, V4)]
