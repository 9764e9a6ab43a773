"""The short way of the usual UPDATE held against the decoder that looks at everything."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.message.plain_updates import cut_updates
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.evpn import with_labels
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from tests.message.decoding import (
    AS_PATH,
    GLOBAL,
    LINK_LOCAL,
    MANDATORY,
    NEXT_HOP,
    ORIGIN,
    attribute,
    decoder,
    reach,
    unreach,
    update,
)
from tests.message.test_corpus import cases

SESSIONS: list[dict[str, object]] = [
    {},
    {"ibgp": True},
    {"peer_asn": 0},
    {"accept_martians": False},
    {"extended_next_hop": True, "interface": "eth0"},
    {"four_octet_as": False},
    {"four_octet_as": False, "ibgp": True},
    {"families": (Family.IPV6_UNICAST,)},
    {"add_path": frozenset((Family.IPV4_UNICAST,))},
]
PATHS = [
    AS_PATH,
    bytes.fromhex("50020006 0201 0000feb1".replace(" ", "")),
    attribute(2, struct.pack("!BBII", 2, 2, 65201, 7), 0x40),
    attribute(2, struct.pack("!BBII", 2, 2, 65202, 7), 0x40),
    attribute(2, struct.pack("!BBII", 2, 2, 65201, 0), 0x40),
    attribute(2, struct.pack("!BBHHBBH", 2, 2, 65201, 7, 2, 1, 9), 0x40),
    attribute(2, b"\2\0", 0x40),
    attribute(2, b"\2", 0x40),
    b"\x50\2\0\1\2",
    b"\x50\2\0\2\2\0",
    b"\x50\2\0\0",
    b"\x50\2\1",
    attribute(2, b"", 0x40),
    attribute(2, struct.pack("!BBI", 1, 1, 65201), 0x40),
]
OTHERS = [
    attribute(4, b"\0\0\0\7", 0x80),
    attribute(4, b"\0\0\0", 0x80),
    attribute(5, b"\0\0\0\x64", 0x40),
    attribute(6, b"", 0x40),
    attribute(7, b"\0\0\xfe\xb1\1\2\3\4", 0xC0),
    attribute(7, b"\0\0\0\0\1\2\3\4", 0xC0),
    attribute(7, b"\0\0\xfe\xb1\1\2\3", 0xC0),
    attribute(6, b"x", 0x40),
    attribute(8, b"\xfd\xe8\0\1" * 3, 0xC0),
    attribute(8, b"\xfd\xe8\0\1" * 3, 0xE0),
    attribute(8, b"\xfd\xe8\0\1" * 70, 0xC0),
    attribute(8, b"", 0xC0),
    attribute(9, b"\1\1\1\1", 0x80),
    attribute(10, b"\1\1\1\1" * 2, 0x80),
    attribute(16, b"\0\2\xfd\xe8\0\0\0\1", 0xC0),
    attribute(16, b"\0\2\xfd\xe8\0\0\0", 0xC0),
    attribute(16, b"\6\3\2\0\0\0\0\1", 0xC0),
    attribute(16, b"\0\2\xfd\xe8\0\0\0\1" + b"\6\3\1\0\0\0\0\1", 0xC0),
    attribute(32, bytes(range(24)), 0xC0),
    attribute(32, bytes(12) * 2, 0xC0),
    attribute(99, b"abc", 0xC0),
    b"\xc0",
    b"\xc0\x08",
    b"\xd0\x08\0",
    b"\xc0\x08\x08\0\0\0\1",
]
HOPS = [b"", NEXT_HOP, attribute(3, b"\x7f\0\0\1", 0x40), attribute(3, b"\x0a\0\1", 0x40)]
PREFIXES = [
    b"\x18\x0a\1\2",
    b"\x18\x0a\1\3",
    b"\x14\x0a\1\x20",
    b"\x14\x0a\1\x2f",
    b"\x20\x0a\1\2\3",
    b"\0",
    b"\x18\x7f\0\0",
    b"\x08\xe0",
    b"\x21\x0a\1\2\3\4",
]
IPV6_PREFIXES = [b"\x40\x20\1\x0d\xb8" + bytes(4), b"\0", b"\x0a\xfe\x80", b"\x80" + GLOBAL, b"\x81" + GLOBAL + b"\0"]
REACHED = [
    reach(2, 1, field, b"".join(nlri))
    for field in (GLOBAL, GLOBAL + LINK_LOCAL, b"\x0a\0\1\2", bytes(16))
    for nlri in (IPV6_PREFIXES[:1], IPV6_PREFIXES[:2], IPV6_PREFIXES[2:3], IPV6_PREFIXES[3:], [])
] + [
    reach(1, 1, GLOBAL, PREFIXES[0]),
    reach(1, 1, b"\x0a\0\1\2", PREFIXES[0]),
    attribute(14, b"\0\2\1\x40", 0x80),
    unreach(2, 1, b""),
]
RD, TAG = bytes.fromhex("00010aff010103e9"), bytes(4)
EVPN_ROUTES = [
    b"\2\x25" + RD + bytes(10) + TAG + b"\x30\2\0\0\0\0\1\x20\x0a\x40\0\1\0\0\1",
    b"\2\x25" + RD + bytes(10) + TAG + b"\x30\2\0\0\0\0\2\x20\x0a\x40\0\2\0\0\2",
    b"\2\x34" + RD + bytes(10) + TAG + b"\x30\2\0\0\0\0\2\x80" + GLOBAL + b"\0\0\2\0\0\7",
    b"\2\x25" + RD + bytes(10) + TAG + b"\x2f\2\0\0\0\0\2\x20\x0a\x40\0\2\0\0\2",
    b"\2\x25" + RD + bytes(10) + TAG + b"\x30\2\0\0\0\0\3\x18\x0a\x40\0\3\0\0\3",
    b"\2\x21" + RD + bytes(10) + TAG + b"\x30\2\0\0\0\0\3\0\0\0\3",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x20\x0a\x41\0\1" + bytes(4) + b"\0\0\1",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x20\x0a\x41\0\2" + bytes(4) + b"\0\0\2",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x20\x0a\x41\0\3" + bytes(4) + b"\0\0\0",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x18\x0a\x41\1\7" + b"\x0a\0\0\7" + b"\0\0\0",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x20\x0a\x41\1\7" + b"\x0a\0\0\7" + b"\0\0\3",
    b"\5\x22" + RD + bytes(9) + b"\1" + TAG + b"\x20\x0a\x41\1\7" + b"\x0a\0\0\7" + b"\0\0\3",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x21\x0a\x41\1\7" + bytes(4) + b"\0\0\3",
    b"\5\x22" + RD + bytes(10) + TAG + b"\x20\x7f\0\0\1" + bytes(4) + b"\0\0\3",
    b"\5\x3a" + RD + bytes(10) + TAG + b"\x80" + GLOBAL + bytes(16) + b"\0\0\3",
    b"\3\x11" + RD + TAG + b"\x20\x0a\0\0\1",
    b"\3\x11" + RD + TAG + b"\x21\x0a\0\0\1",
    b"\x0b\1x",
    b"\5\x22" + RD,
]
"""Each twice with the same labels, so that it does not matter which one of them counts."""
REACHED += [reach(25, 70, b"\x0a\0\1\2", one) for one in EVPN_ROUTES]
REACHED += [
    reach(25, 70, field, b"".join(nlri))
    for field in (b"\x0a\0\1\2", GLOBAL, b"\x0a\0\1")
    for nlri in (EVPN_ROUTES[:2], EVPN_ROUTES[:3], EVPN_ROUTES[6:8], EVPN_ROUTES[6:9], EVPN_ROUTES[9:11], EVPN_ROUTES)
]

UNREACHED = [
    unreach(2, 1, IPV6_PREFIXES[0]),
    unreach(2, 1, b"".join(IPV6_PREFIXES[:2])),
    unreach(2, 1, IPV6_PREFIXES[0] * 40),
    unreach(2, 1, IPV6_PREFIXES[2]),
    unreach(2, 1, IPV6_PREFIXES[4]),
    unreach(1, 1, PREFIXES[0]),
    unreach(1, 1, b"\0"),
    unreach(2, 1, b""),
    unreach(1, 1, b""),
    unreach(25, 70, b"\0"),
    unreach(25, 70, EVPN_ROUTES[0]),
    unreach(25, 70, b"".join(EVPN_ROUTES[:3])),
    unreach(25, 70, EVPN_ROUTES[3]),
    unreach(25, 70, EVPN_ROUTES[8] + EVPN_ROUTES[13]),
    unreach(25, 70, EVPN_ROUTES[-1]),
    unreach(2, 1, IPV6_PREFIXES[0]) + ORIGIN,
    attribute(15, b"\0\2\1\0", 0xC0),
    attribute(15, b"\0\2", 0x80),
    b"\x80\x0f\xff\0\2\1\0",
]


def contents(attributes: Attributes | None) -> object:
    return None if attributes is None else (attributes.fields, attributes.rank, attributes.is_simple)


def general(session: dict[str, object]) -> UpdateDecoder:
    """A decoder that finds nothing usual."""
    one = decoder(**session)
    one._attributes.plain.rules.short = {}
    one._attributes.plain.rules.long = {}
    return one


Said = list[tuple[object, ...]]


def said(batches: Sequence[RouteBatch]) -> Said:
    """What the batches say of each route, in order."""
    found: Said = []
    for batch in batches:
        found += [(batch.family, key, None) for key in batch.withdrawn]
        what, own = (contents(batch.attributes), batch.next_hop), batch.labels or repeat(b"")
        routes = zip(batch.announced, own)
        found += [(batch.family, key, what, with_labels(batch.overlay, label)) for key, label in routes]
    return found


def assert_agree(bodies: Sequence[bytes], **session: object) -> int:
    """Whatever is read as usual is what the general decoder makes of it, alone and in a run; how many were."""
    short, long = decoder(**session), general(session)
    waiting, found = list(bodies), 0
    while waiting:
        run: list[RouteBatch] = []
        taken = short.read_run(waiting, run)
        wanted: Said = []
        for body in waiting[:taken]:
            alone: list[RouteBatch] = []
            assert short.read_run([body], alone) == 1
            decoded = long.decode(body)
            assert not decoded.errors
            assert decoded.end_of_rib is None
            assert said(alone) == said(decoded.batches)
            wanted += said(decoded.batches)
        assert said(run) == wanted
        if taken < len(waiting):
            assert short.read_run([waiting[taken]], []) == 0
            again, decoded = short.decode(waiting[taken]), long.decode(waiting[taken])
            assert said(again.batches) == said(decoded.batches)
            assert again.notification == decoded.notification
        found += taken
        del waiting[: taken + 1]
    return found


def test_any_beginning_of_a_block_is_read_alike() -> None:
    for path in PATHS:
        block = ORIGIN + path + attribute(8, b"\xfd\xe8\0\1", 0xC0) + NEXT_HOP
        for session in SESSIONS:
            assert_agree([update(block[:end], PREFIXES[0]) for end in range(len(block) + 1)], **session)


def test_paths_of_two_octet_as_numbers_are_never_read_as_of_four() -> None:
    """A sequence of two and one of one take as many bytes as one sequence of two that have four octets each."""
    body = update(REACHED[0] + ORIGIN + attribute(2, struct.pack("!BBHHBBH", 2, 2, 65201, 7, 2, 1, 9), 0x40))
    one = decoder(four_octet_as=False, ibgp=True)
    assert one.read_run([body], []) == 0
    (batch,) = one.decode(body).batches
    assert batch.attributes is not None
    assert [tuple(segment.asns) for segment in batch.attributes.as_path] == [(65201, 7), (9,)]


blocks = st.builds(
    lambda *parts: b"".join(parts),
    st.one_of(st.just(b""), st.sampled_from(REACHED)),
    st.sampled_from([ORIGIN, ORIGIN, attribute(1, b"\3", 0x40), b""]),
    st.sampled_from([AS_PATH, *PATHS]),
    st.sampled_from([NEXT_HOP, *HOPS]),
    st.lists(st.sampled_from(OTHERS), max_size=4).map(b"".join),
)
bodies = st.one_of(
    st.builds(
        update,
        blocks,
        st.lists(st.sampled_from(PREFIXES), max_size=3).map(b"".join),
        st.sampled_from([b"", b"", b"", b"\x18\x0a\1\2"]),
    ),
    st.builds(
        lambda fields: update(withdrawn=b"".join(fields)), st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3)
    ),
    st.sampled_from([update(one) for one in UNREACHED]),
)


@settings(max_examples=400)
@given(st.lists(bodies, min_size=1, max_size=4), st.sampled_from(SESSIONS))
def test_made_updates_are_read_alike(given_bodies: list[bytes], session: dict[str, object]) -> None:
    assert_agree(given_bodies, **session)


@settings(max_examples=400)
@given(bodies, st.data(), st.sampled_from(SESSIONS))
def test_damaged_updates_are_read_alike(body: bytes, data: st.DataObject, session: dict[str, object]) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:at] + bytes((data.draw(st.integers(0, 255)),)) + body[at + 1 :]
    assert_agree([damaged, body[: at + 1], body], **session)


@given(st.binary(min_size=4, max_size=60))
def test_any_bytes_are_read_alike(body: bytes) -> None:
    assert_agree([body])


@pytest.mark.parametrize("name", ["malformed.jsonl", "updates_core.jsonl", "updates_evpn.jsonl"])
def test_messages_of_other_speakers_are_read_alike(name: str) -> None:
    messages = [bytes.fromhex(case["hex"]) for case in cases(name) if isinstance(case.get("hex"), str)]
    given_bodies = [message[19:] for message in messages if len(message) >= 23 and message[18] == 2]
    if not given_bodies:
        pytest.skip("no messages of other speakers here")
    for session in SESSIONS:
        assert_agree(given_bodies, **session)


def test_usual_updates_are_plain() -> None:
    one = MANDATORY + attribute(8, b"\xfd\xe8\0\1", 0xC0)
    ipv6 = reach(2, 1, GLOBAL, IPV6_PREFIXES[0]) + ORIGIN + AS_PATH
    usual = [update(one, PREFIXES[0]), update(one, PREFIXES[0] + PREFIXES[2]), update(one, PREFIXES[5]), update(ipv6)]
    aggregated = MANDATORY + attribute(6, b"", 0x40) + attribute(7, b"\0\0\xfe\xb1\1\2\3\4", 0xC0)
    usual.append(update(aggregated, PREFIXES[0]))
    usual += [update(withdrawn=PREFIXES[0]), update(withdrawn=PREFIXES[2] + PREFIXES[0]), update(UNREACHED[0])]
    usual.append(update(one.replace(b"\xc0\x08", b"\xe0\x08"), PREFIXES[0]))
    usual.append(update(MANDATORY + attribute(35, b"\0\0\0\7", 0xC0), PREFIXES[0]))
    assert assert_agree(usual, accept_martians=False) == len(usual)
    targets = ORIGIN + AS_PATH + attribute(16, b"\0\2\xfd\xe8\0\0\0\1" + b"\6\3\2\0\0\0\0\1", 0xC0)
    usual = [update(reach(25, 70, b"\x0a\0\1\2", one) + targets) for one in (*EVPN_ROUTES[:3], *EVPN_ROUTES[6:11])]
    usual += [update(one) for one in UNREACHED if one[3:6] == b"\0\x19\x46"][1:3]
    assert assert_agree(usual, accept_martians=False) == len(usual)
    internal = ORIGIN + attribute(2, b"", 0x40) + NEXT_HOP + attribute(5, b"\0\0\0\x64", 0x40)
    assert assert_agree([update(internal, PREFIXES[0])], ibgp=True) == 1


def test_evpn_routes_of_like_neighbors_are_one_batch_with_all_their_labels() -> None:
    first, second = EVPN_ROUTES[0] + EVPN_ROUTES[1], EVPN_ROUTES[1].replace(b"\x40\0\2\0\0\2", b"\x40\0\3\0\0\3")
    third = second.replace(b"\x40\0\3\0\0\3", b"\x40\0\4\0\0\4")
    given_bodies = [update(reach(25, 70, b"\x0a\0\1\2", one) + ORIGIN + AS_PATH) for one in (first, second + third)]
    run: list[RouteBatch] = []
    assert decoder().read_run(given_bodies, run) == 2
    (batch,) = run
    assert batch.labels is not None
    assert [label[-1] for label in batch.labels] == [1, 2, 3, 4]


def test_next_hops_are_compared_with_the_addresses_of_the_host_in_each_run() -> None:
    own: set[bytes] = set()
    one = decoder(local_addresses=own)
    body = update(MANDATORY, PREFIXES[0])
    assert one.read_run([body], []) == 1
    own.add(b"\x0a\0\1\2")
    assert one.read_run([body], []) == 0
    assert one.decode(body).errors[0].is_echo


def test_a_next_hop_of_one_family_is_not_taken_for_the_other() -> None:
    """16 bytes are a next hop of IPv6 routes, and of IPv4 routes only where RFC 8950 was negotiated."""
    ipv6 = update(reach(2, 1, GLOBAL, IPV6_PREFIXES[0]) + ORIGIN + AS_PATH)
    ipv4 = update(reach(1, 1, GLOBAL, PREFIXES[0]) + ORIGIN + AS_PATH)
    assert decoder().read_run([ipv6, ipv4], []) == 1
    assert decoder(extended_next_hop=True).read_run([ipv6, ipv4], []) == 2


def test_like_neighbors_are_one_batch_and_others_stay_apart_in_order() -> None:
    first, second = MANDATORY, MANDATORY + attribute(8, b"\xfd\xe8\0\1", 0xC0)
    net, other, many = PREFIXES[0], PREFIXES[1], PREFIXES[0] + PREFIXES[4]
    given_bodies = [
        update(first, net),
        update(first, many),
        update(first, other),
        update(second, net),
        update(withdrawn=net),
        update(withdrawn=many),
        update(unreach(1, 1, other)),
        update(unreach(2, 1, IPV6_PREFIXES[0])),
        update(first, net),
    ]
    found: list[RouteBatch] = []
    assert decoder().read_run(given_bodies, found) == len(given_bodies)
    shapes = [(len(one.announced), len(one.withdrawn), one.family) for one in found]
    v4, v6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
    assert shapes == [(4, 0, v4), (1, 0, v4), (0, 4, v4), (0, 1, v6), (1, 0, v4)]
    assert found[0].attributes is found[4].attributes, "remembered"


@given(st.lists(st.tuples(st.sampled_from([update(MANDATORY, PREFIXES[0]), update(), b""]), st.integers(0, 2))))
def test_updates_are_cut_as_they_stand(parts: list[tuple[bytes, int]]) -> None:
    """Whole UPDATEs up to another message, a bad header, or the end of what has come."""
    marker = b"\xff" * 16
    data, wanted, is_open = b"", [], True
    for body, damage in parts:
        message = marker + struct.pack("!HB", 19 + len(body), 2) + body
        if damage == 1:
            message = b"\0" + message[1:]
        if damage == 2:
            message = message[:18] + b"\4" + message[19:]
        if damage or not body:
            is_open = False
        data += message
        if is_open:
            wanted.append(body)
    for most in (1, 2, 100):
        found: list[bytes] = []
        end = cut_updates(b"xx" + data, 2, 4096, most, 1 << 20, found)
        assert found == wanted[:most]
        assert end == 2 + sum(len(one) + 19 for one in found)
    found = []
    cut_updates(data[:-1], 0, 4096, 100, 1 << 20, found)
    assert found == wanted[: len(wanted) - is_open] if parts else not found
    found = []
    cut_updates(data, 0, 4096, 100, 1, found)
    assert found == wanted[:1]
