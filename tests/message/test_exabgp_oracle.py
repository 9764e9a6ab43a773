"""The fast decoder and ExaBGP's own, held equal on well-formed messages (docs/decisions/0001-exabgp-in-process.md)."""

import struct
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.message.exabgp_codec import library_module, load
from bgpd.model.iana import Family
from tests.message.decoding import GLOBAL, LINK_LOCAL, attribute, decoder, reach, unreach, update
from tests.message.test_nlri import encoded, key_of

CODES = {Family.IPV4_UNICAST: (1, 1), Family.IPV6_UNICAST: (2, 1), Family.L2VPN_EVPN: (25, 70)}


@pytest.fixture(scope="module")
def exabgp():
    """ExaBGP's UPDATE decoder for a session of all families with 4-octet AS numbers."""
    loaded = load()
    asn = loaded.ASN
    session = library_module("bgp.message.open.capability.negotiated").Negotiated(
        {"capability": {"aigp": False}, "local-as": asn(65203), "peer-as": asn(65201), "router-id": None}
    )
    session.families = [(loaded.AFI.create(afi), loaded.SAFI.create(safi)) for afi, safi in CODES.values()]
    session.asn4, session.local_as, session.peer_as = True, asn(65203), asn(65201)
    message = library_module("bgp.message.update").Update
    direction = library_module("bgp.message.direction").Direction.IN
    announce = library_module("bgp.message.action").Action.ANNOUNCE
    return SimpleNamespace(decode=lambda body: message.unpack_message(body, direction, session), announce=announce)


def told_by_exabgp(exabgp, body):
    """Announced and withdrawn keys by family, and the plain attributes, as ExaBGP reads them."""
    decoded = exabgp.decode(body)
    routes = {True: set(), False: set()}
    for nlri in decoded.nlris:
        family = (int(nlri.afi), int(nlri.safi))
        key = bytes(nlri.cidr.pack_nlri()) if family[1] == 1 else bytes(nlri.pack_nlri())
        routes[nlri.action == exabgp.announce].add((family, key_of(key) if family[1] == 1 else key))
    attributes = {int(code): value for code, value in decoded.attributes.items()}
    return routes, attributes


def told_by_bgpd(body):
    decoded = decoder().decode(body)
    assert decoded.errors == []
    routes = {True: set(), False: set()}
    for batch in decoded.batches:
        for announce, keys in ((True, batch.announced), (False, batch.withdrawn)):
            routes[announce] |= {(CODES[batch.family], key) for key in keys}
    return routes, next((batch.attributes for batch in decoded.batches if batch.attributes), None)


paths = st.lists(st.integers(1, 0xFFFFFFFF), min_size=0, max_size=6).map(
    lambda asns: attribute(2, b"\2" + bytes((len(asns) + 1,)) + struct.pack(f"!{len(asns) + 1}I", 65201, *asns), 0x40)
)
meds = st.integers(0, 0xFFFFFFFF).map(lambda value: attribute(4, struct.pack("!I", value), 0x80))
communities = st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=70).map(
    lambda values: attribute(8, b"".join(values), 0xC0)
)
large = st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=5, unique=True).map(
    lambda values: attribute(32, b"".join(values), 0xC0)
)
extended = st.lists(st.binary(min_size=6, max_size=6).map(lambda b: b"\0\2" + b), min_size=1, max_size=5).map(
    lambda values: attribute(16, b"".join(values), 0xC0)
)
optional = st.tuples(*(st.one_of(st.just(b""), one) for one in (meds, communities, large, extended))).map(b"".join)
blocks = st.tuples(st.integers(0, 2).map(lambda value: attribute(1, bytes((value,)), 0x40)), paths, optional).map(
    b"".join
)
v4_fields = st.lists(encoded(32), max_size=20, unique_by=key_of).map(b"".join)
v6_fields = st.lists(encoded(128), max_size=20, unique_by=key_of).map(b"".join)
NEXT_HOP = attribute(3, b"\x0a\0\1\2", 0x40)


def same(exabgp, body):
    ours, attributes = told_by_bgpd(body)
    theirs, said = told_by_exabgp(exabgp, body)
    assert ours == theirs
    if attributes is None:
        return
    assert int(attributes.origin) == said[1].origin
    assert [(segment.type, list(segment.asns)) for segment in attributes.as_path] == [
        (segment.ID, [int(asn) for asn in segment]) for segment in said[2].aspath
    ]
    assert attributes.med == (said[4].med if 4 in said else None)
    for code, values in (
        (8, {struct.pack("!I", value) for value in attributes.communities}),
        (16, set(attributes.extended_communities)),
        (32, {struct.pack("!III", *value) for value in attributes.large_communities}),
    ):
        assert values == ({bytes(one.pack()) for one in said[code].communities} if code in said else set())


@given(block=blocks, announced=v4_fields, withdrawn=v4_fields)
@settings(max_examples=150, deadline=None)
def test_ipv4_messages_mean_the_same_to_both(exabgp, block, announced, withdrawn):
    if announced or withdrawn:
        same(exabgp, update(block + NEXT_HOP if announced else b"", announced, withdrawn))


@given(block=blocks, announced=v6_fields, withdrawn=v6_fields, hop=st.sampled_from([GLOBAL, GLOBAL + LINK_LOCAL]))
@settings(max_examples=100, deadline=None)
def test_ipv6_messages_mean_the_same_to_both(exabgp, block, announced, withdrawn, hop):
    gone = unreach(2, 1, withdrawn) if withdrawn else b""
    if announced:
        same(exabgp, update(gone + reach(2, 1, hop, announced) + block))
    elif withdrawn:
        same(exabgp, update(gone))
