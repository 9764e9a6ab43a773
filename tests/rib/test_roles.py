"""Route leaks by roles and Only to Customer: each rule of RFC 9234 section 5, as the RIB keeps it."""

from __future__ import annotations

import pytest

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family, Role
from bgpd.model.path import Path
from bgpd.model.source import Source, SourceKind
from bgpd.rib.roles import RoleRules
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, hop, key, leaf, session

PREFIX, HOP = "10.1.0.0/24", hop("10.0.1.2")
PEER_ASN, OTHER_ASN = 65201, 64999
ABOVE = (Role.CUSTOMER, Role.RS_CLIENT)
"""This host's roles towards a provider and towards a route server."""
BELOW = (Role.PROVIDER, Role.RS)


def heard(role: Role | None, otc: int | None, *, import_: str = "all", kind: SourceKind = SourceKind.EBGP) -> Path:
    """The path of a route that came with this OTC."""
    config = session("leaf1", import_=import_)
    recorder = Recorder(configuration(config))
    leaf1 = recorder.up(leaf(1, kind=kind), config, role=role)
    recorder.announce(leaf1, attributes(PEER_ASN, only_to_customer=otc), HOP, PREFIX)
    decision = recorder.rib.decision("", V4, key(PREFIX))
    assert decision is not None
    return decision.candidates[0]


def sent(role: Role | None, otc: int | None, *, local: bool = False) -> Attributes | None:
    """What a neighbor is sent towards which this host has the role: of a route with this OTC, learned or its own."""
    config, other = session("leaf1", export="all"), session("other", export="none")
    recorder = Recorder(configuration(config, other))
    leaf1 = recorder.up(leaf(1), config, role=role)
    given = attributes(*(() if local else (65202,)), only_to_customer=otc)
    if local:
        recorder.rib.announce_local(LOCAL, V4, [key(PREFIX)], given)
    else:
        recorder.announce(recorder.up(leaf(7, name="other"), other), given, HOP, PREFIX)
        recorder.acknowledge(key(PREFIX))
    recorder.turn()
    return recorder.told.get(leaf1, {}).get(key(PREFIX))


@pytest.mark.parametrize("role", BELOW)
@pytest.mark.parametrize("otc", [PEER_ASN, OTHER_ASN])
def test_a_route_with_otc_from_a_customer_or_a_client_is_a_leak(role: Role, otc: int) -> None:
    path = heard(role, otc)
    assert not path.is_usable
    assert f"route leak: OTC is AS {otc}" in path.rejected


def test_a_route_with_otc_of_another_as_from_a_peer_is_a_leak() -> None:
    assert "route leak: OTC is AS 64999" in heard(Role.PEER, OTHER_ASN).rejected
    path = heard(Role.PEER, PEER_ASN)
    assert path.is_usable
    assert path.attributes.only_to_customer == PEER_ASN


@pytest.mark.parametrize("role", [*ABOVE, Role.PEER])
def test_a_route_without_otc_from_above_or_from_a_peer_gets_it(role: Role) -> None:
    path = heard(role, None)
    assert path.is_usable
    assert path.attributes.only_to_customer == PEER_ASN
    assert path.received.only_to_customer is None


@pytest.mark.parametrize("role", ABOVE)
def test_otc_of_a_provider_or_a_route_server_is_left_as_it_is(role: Role) -> None:
    path = heard(role, OTHER_ASN)
    assert path.is_usable
    assert path.attributes.only_to_customer == OTHER_ASN


@pytest.mark.parametrize("role", BELOW)
def test_a_route_without_otc_from_below_is_taken_as_it_is(role: Role) -> None:
    path = heard(role, None)
    assert path.is_usable
    assert path.attributes is path.received


@pytest.mark.parametrize("otc", [None, PEER_ASN, OTHER_ASN])
def test_without_a_role_otc_means_nothing(otc: int | None) -> None:
    path = heard(None, otc)
    assert path.is_usable
    assert path.attributes is path.received


@pytest.mark.parametrize("role", [*BELOW, Role.PEER])
@pytest.mark.parametrize("local", [True, False])
def test_a_route_that_goes_down_or_to_a_peer_gets_otc_of_this_as(role: Role, local: bool) -> None:
    told = sent(role, None, local=local)
    assert told is not None
    assert told.only_to_customer == LOCAL_ASN


@pytest.mark.parametrize("role", BELOW)
@pytest.mark.parametrize("local", [True, False])
def test_otc_that_is_there_is_preserved_on_the_way_down(role: Role, local: bool) -> None:
    """This host's own routes have it from a guest."""
    told = sent(role, OTHER_ASN, local=local)
    assert told is not None
    assert told.only_to_customer == OTHER_ASN


@pytest.mark.parametrize("role", [*ABOVE, Role.PEER])
@pytest.mark.parametrize("local", [True, False])
def test_a_route_with_otc_goes_to_customers_only(role: Role, local: bool) -> None:
    assert sent(role, OTHER_ASN, local=local) is None


@pytest.mark.parametrize("role", ABOVE)
@pytest.mark.parametrize("local", [True, False])
def test_a_route_without_otc_goes_up_without_it(role: Role, local: bool) -> None:
    told = sent(role, None, local=local)
    assert told is not None
    assert told.only_to_customer is None


def test_what_comes_from_a_provider_is_not_passed_on_to_another_and_says_why() -> None:
    """A host between two leaves that exports all: the leak that roles are for."""
    configs = [session(name, export="all") for name in ("leaf1", "leaf2")]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), one, role=Role.CUSTOMER) for number, one in enumerate(configs, 1))
    recorder.announce(leaf1, attributes(PEER_ASN), HOP, PREFIX)
    recorder.acknowledge(key(PREFIX))
    recorder.turn()
    assert leaf2 not in recorder.told
    state = recorder.rib.received.state(leaf2)
    assert state is not None
    assert state.exports[V4].why_not(key(PREFIX)) == (
        f"OTC is AS {PEER_ASN}: it goes to customers only, and this neighbor is none (RFC 9234 section 5)"
    )


@pytest.mark.parametrize("role", list(Role))
def test_only_unicast_routes_have_rules(role: Role) -> None:
    rules = RoleRules(role, local_asn=LOCAL_ASN, neighbor_asn=PEER_ASN)
    with_otc, without = attributes(PEER_ASN, only_to_customer=OTHER_ASN), attributes(PEER_ASN)
    for family in (Family.L2VPN_EVPN, Family.ROUTE_TARGET):
        assert rules.why_leaked(family, with_otc) == rules.why_not_sent(family, with_otc) == ""
        assert rules.marked_when_received(family, without) is without
        assert rules.marked_when_sent(family, without) is without


@pytest.mark.parametrize("role", list(Role))
def test_a_role_leaves_the_short_way_of_evpn_routes_as_it_is(role: Role) -> None:
    """Each EVPN route of a host below its leaves would go the long way, for nothing."""
    config = session("leaf1")
    recorder = Recorder(configuration(config))
    states = []
    for source, its in ((leaf(1), role), (leaf(2), None)):
        state = recorder.rib.received.state(recorder.up(source, config, role=its))
        assert state is not None
        states.append(state.adj_rib_in.signs)
    with_role, without = states
    for family in (Family.L2VPN_EVPN, Family.ROUTE_TARGET):
        assert with_role[family] == without[family]
    assert len(with_role[V4]) > len(without[V4])


@pytest.mark.parametrize("flags", [0xC0, 0xE0, 0xD0, 0xF0])
def test_otc_is_found_in_each_form_of_its_header(flags: int) -> None:
    """The RIB reads blocks as they came: Partial bit, and a length of two bytes where one would do."""
    head = bytes((flags, 35)) + (b"\0\4" if flags & 0x10 else b"\4")
    given = attributes(PEER_ASN)
    leaked = Attributes(given.block + head + OTHER_ASN.to_bytes(4, "big"), given.code)
    config = session("leaf1")
    recorder = Recorder(configuration(config))
    leaf1: Source = recorder.up(leaf(1), config, role=Role.PROVIDER)
    recorder.announce(leaf1, leaked, HOP, PREFIX)
    decision = recorder.rib.decision("", V4, key(PREFIX))
    assert decision is not None
    assert "route leak" in decision.candidates[0].rejected
