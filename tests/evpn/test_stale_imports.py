"""Routes of VRFs while the neighbor restarts whose EVPN routes they are made of (RFC 4724, RFC 9494)."""

from __future__ import annotations

import pytest

from bgpd.evpn.views import evpn_routes
from bgpd.message.open import GracefulRestart, LongLived, Negotiated
from bgpd.model.prefix import parse_prefix
from bgpd.model.source import Source
from bgpd.model.views.queries import ViewQuery
from bgpd.model.views.routes import CandidateView
from bgpd.rib.views import route_view, routes
from tests.evpn.build import CONFIG, EVPN, Host, host_route, leaf, prefix_route
from tests.message.decoding import negotiated

LONG_LIVED = CONFIG.replace('import = "all"', 'import = "all"\ngraceful_restart = { long_lived_s = 600 }')
PREFIX, ADDRESS = "10.64.0.0/24", "10.64.0.7/32"
NET, VM = prefix_route(PREFIX), host_route("10.64.0.7")


def agreed() -> Negotiated:
    """What is agreed on with a leaf that restarts gracefully, and forwards for ten minutes without its BGP."""
    restart = GracefulRestart(notification=True, restart_time_s=120, families=((25, 70, True),))
    return negotiated(families=(EVPN,), graceful_restart=restart, long_lived=(LongLived(25, 70, True, 600),))


class Rig(Host):
    def up_gracefully(self, number: int) -> Source:
        source = leaf(number)
        config = self.config.neighbor[number - 1]
        self.run(self.rib.received.remove(self.rib.received.neighbor_back(source, agreed(), config, now=self.now)))
        self.evpn.neighbor_up(source, (EVPN,))
        self.rib.received.neighbor_up(source, agreed(), config)
        self.turn()
        return source

    def away(self, source: Source) -> None:
        self.run(self.rib.received.remove(self.rib.received.session_lost(source, is_graceful=True, now=self.now)))
        self.evpn.neighbor_away(source)
        self.turn()

    def of(self, prefix: str) -> dict[str, CandidateView]:
        """The candidates of a prefix in VRF blue by neighbor; a query of one prefix and one of the table agree."""
        family, key = parse_prefix(prefix)
        table = self.rib.table("blue", family)
        view = route_view(table, family, key, vrf="blue")
        (page,) = [one for page in routes(table, family, vrf="blue") for one in page if one.prefix == prefix]
        assert view is not None
        assert page == view
        return {one.source.split()[0]: one for one in view.candidates}


@pytest.fixture
def host() -> Rig:
    return Rig(LONG_LIVED)


def test_route_of_a_vrf_is_stale_while_its_evpn_route_is(host: Rig) -> None:
    one, two = host.up_gracefully(1), host.up_gracefully(2)
    for source in (one, two):
        host.hear(source, NET, VM)
    host.now = 1100.0
    host.away(one)
    for prefix in (PREFIX, ADDRESS):
        found = host.of(prefix)
        assert (found["leaf1"].stale_since, found["leaf1"].stale_until) == (1100.0, 1220.0)
        assert (found["leaf2"].stale_since, found["leaf2"].stale_until) == (None, None)
        assert host.forwards(prefix), "nothing moved"
    marks = {
        path.source: path.stale_until
        for view in evpn_routes(host.evpn, ViewQuery())
        if view
        for path in view.candidates
    }
    assert marks == {"evpn": None, "leaf1": 1220.0, "leaf2": None}


def test_what_was_said_again_is_not_stale_and_the_rest_goes_with_end_of_rib(host: Rig) -> None:
    one = host.up_gracefully(1)
    host.hear(one, NET, VM)
    host.away(one)
    host.now = 1050.0
    back = host.up_gracefully(1)
    assert host.of(PREFIX)["leaf1"].stale_until == 1050.0 + 360.0
    host.hear(back, NET)
    assert host.of(PREFIX)["leaf1"].stale_since is None
    assert host.of(ADDRESS)["leaf1"].stale_since == 1000.0
    host.run(host.rib.received.remove(host.rib.received.stale.end_of_rib("leaf1", EVPN), is_back=True))
    host.turn()
    assert host.forwards(ADDRESS) is None
    assert host.forwards(PREFIX)
    assert host.of(PREFIX)["leaf1"].stale_since is None


def test_of_two_macs_the_one_that_has_the_address_counts(host: Rig) -> None:
    one = host.up_gracefully(1)
    other = host_route("10.64.0.7", mac="02:00:00:00:00:01")
    host.hear(one, VM, other)
    host.away(one)
    back = host.up_gracefully(1)
    host.hear(back, other)
    assert host.of(ADDRESS)["leaf1"].stale_since is None, "the lower MAC has it"
    host.unhear(back, other)
    assert host.of(ADDRESS)["leaf1"].stale_since == 1000.0


def test_long_lived_stale_routes_are_the_last_choice_in_a_vrf(host: Rig) -> None:
    one, two = host.up_gracefully(1), host.up_gracefully(2)
    host.hear(one, NET, gateway="10.1.0.0")
    host.hear(two, NET, gateway="10.2.0.0")
    host.away(one)
    assert len(host.forwards(PREFIX) or ()) == 2, "for the Restart Time they are used as ever"
    host.now += 120.0
    going, long_lived = host.rib.received.stale.due(host.now)
    assert (going, long_lived) == ([], [(one, EVPN)])
    host.run(host.rib.received.become_long_lived(long_lived))
    host.turn()
    found = host.of(PREFIX)
    assert [hop.interface for hop in host.forwards(PREFIX) or ()] == ["eth1.101"]
    assert (found["leaf1"].role, found["leaf1"].stale_until) == ("lost", host.now + 600.0)
    assert "long-lived stale" in found["leaf1"].reason
    host.down(two)
    assert [hop.interface for hop in host.forwards(PREFIX) or ()] == ["eth0.101"], "nothing else is left"
