"""MRT records are read as they were written; any other bytes are an error with its place, and never a traceback."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.exabgp_codec import encode_message
from bgpd.message.mrt import (
    MalformedMrt,
    MessageRecord,
    MrtPeer,
    PeerIndex,
    Record,
    RibEntry,
    RibRecord,
    message_record,
    peer_index_table,
    read_records,
    rib_record,
    state_change,
)
from bgpd.message.mrt_attributes import next_hop_of, readdressed, rib_attributes, split_attributes, update_message
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes, pack_attribute
from bgpd.model.iana import AttributeType, Family, MessageType, Origin, SegmentType
from bgpd.model.prefix import parse_prefix

LEAF = MrtPeer(b"\x0a\xff\0\1", b"\x0a\0\1\2", 4_200_000_001)
HOST = MrtPeer(b"\x0a\xff\1\1", b"\x0a\0\1\1", 65203)
V6 = MrtPeer(b"\x0a\xff\0\2", bytes.fromhex("fe80" + 28 * "0")[:15] + b"\2", 65201)
PATH = (AsPathSegment(SegmentType.AS_SEQUENCE, (65201, 65299)),)
BLOCK = Attributes.of(as_path=PATH, origin=Origin.IGP, med=7, local_pref=200, communities=(0xFDE80001,)).block
HOP4, HOP6 = b"\x0a\0\1\2", bytes.fromhex("20010db8" + 22 * "0" + "02")


def read(data: bytes) -> list[Record]:
    return list(read_records(io.BytesIO(data)))


def read_as_far_as_possible(data: bytes) -> tuple[list[Record], str]:
    """The records, and what is wrong after them."""
    found: list[Record] = []
    try:
        for record in read_records(io.BytesIO(data)):
            found.append(record)  # noqa: PERF402  # those before an error count
    except MalformedMrt as error:
        return found, str(error)
    return found, ""


def key(text: str) -> bytes:
    return parse_prefix(text)[1]


peers = st.builds(MrtPeer, st.binary(min_size=4, max_size=4), st.sampled_from([HOP4, HOP6]), st.integers(0, 2**32 - 1))
entries = st.lists(
    st.builds(RibEntry, st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=4
)


@given(st.text(max_size=10), st.lists(peers, max_size=4), entries)
def test_tables_are_read_as_they_were_written(view: str, given_peers: list[MrtPeer], paths: list[RibEntry]) -> None:
    evpn = bytes((5, 34)) + bytes(range(34))
    data = (
        peer_index_table(7, collector=HOST.router_id, view=view, peers=given_peers)
        + rib_record(7, 0, Family.IPV4_UNICAST, key("10.64.0.0/15"), paths)
        + rib_record(7, 1, Family.IPV6_UNICAST, key("2001:db8::/33"), paths)
        + rib_record(7, 2, Family.L2VPN_EVPN, evpn, paths)
    )
    assert read(data) == [
        PeerIndex(HOST.router_id, view, given_peers),
        RibRecord(7, 1, 1, key("10.64.0.0/15"), paths),
        RibRecord(7, 2, 1, key("2001:db8::/33"), paths),
        RibRecord(7, 25, 70, evpn, paths),
    ]


@pytest.mark.parametrize("peer", [LEAF, V6])
def test_messages_are_read_as_they_were_written(peer: MrtPeer) -> None:
    local = HOST if peer is LEAF else HOST._replace(address=HOP6)
    message = encode_message(MessageType.KEEPALIVE, b"")
    found = read(message_record(1.5, peer, local, message) + state_change(2.25, peer, local, (5, 6)))
    nameless, local = peer._replace(router_id=b""), local._replace(router_id=b"")
    assert found == [
        MessageRecord(1.5, nameless, local, message),
        MessageRecord(2.25, nameless, local, b"", states=(5, 6)),
    ]


def test_message_of_a_session_with_two_octet_as_numbers() -> None:
    peer = LEAF._replace(asn=65201, router_id=b"")
    (found,) = read(message_record(1, peer, HOST, b"x", four_octet_as=False))
    assert found == MessageRecord(1, peer, HOST._replace(router_id=b""), b"x", four_octet_as=False)


def test_unknown_records_are_passed_over() -> None:
    unknown = struct.pack("!IHHI", 1, 48, 2, 3) + b"abc"
    assert read(unknown + state_change(1, LEAF, HOST, (1, 2)) + unknown) != []


WHOLE = (
    peer_index_table(7, collector=HOST.router_id, view="", peers=[HOST, LEAF, V6])
    + rib_record(7, 0, Family.IPV4_UNICAST, key("10.64.0.0/15"), [RibEntry(1, 5, BLOCK)])
    + message_record(1.5, LEAF, HOST, encode_message(MessageType.KEEPALIVE, b""))
)


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_a_file_that_is_cut_off_is_read_up_to_there(length: int) -> None:
    found, wrong = read_as_far_as_possible(WHOLE[:length])
    assert found == read(WHOLE)[: len(found)]
    assert len(found) < 3
    assert wrong == "" or "cut off" in wrong


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_told_to_be_malformed(data: bytes) -> None:
    found, wrong = read_as_far_as_possible(data)
    assert found or wrong or not data or len(data) >= 12


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_damaged_file_is_read_or_told_to_be_malformed(at: int, value: int) -> None:
    found, wrong = read_as_far_as_possible(WHOLE[:at] + bytes((value,)) + WHOLE[at + 1 :])
    assert len(found) == 3 or "byte" in wrong or found == [one for one in read(WHOLE) if one in found]


def test_attributes_of_a_table_have_the_next_hop_in_its_place() -> None:
    packed = rib_attributes(BLOCK, HOP4, Family.IPV4_UNICAST)
    kinds = [kind for kind, _ in split_attributes(packed)]
    assert kinds == sorted(kinds)
    assert AttributeType.NEXT_HOP in kinds
    assert next_hop_of(list(split_attributes(packed))) == HOP4
    for family in (Family.IPV4_UNICAST, Family.IPV6_UNICAST):
        packed = rib_attributes(BLOCK, HOP6, family)
        assert AttributeType.NEXT_HOP not in [kind for kind, _ in split_attributes(packed)]
        assert next_hop_of(list(split_attributes(packed))) == HOP6


def test_what_is_said_again_comes_from_the_neighbor_that_says_it() -> None:
    table = rib_attributes(BLOCK, HOP4, Family.IPV4_UNICAST)
    for hop in (b"", HOP4):
        message = update_message(1, 1, key("10.64.0.0/15"), table, next_hop=hop, asn=65100)
        again = readdressed(message[19:], 65101, {1: b"\x0a\0\x03\2"})
        attributes = dict(split_attributes(again[23 : 23 + int.from_bytes(again[21:23])]))
        assert AttributeType.LOCAL_PREF not in attributes
        assert attributes[AttributeType.NEXT_HOP][3:] == b"\x0a\0\x03\2"
        assert attributes[AttributeType.AS_PATH][3:] == bytes((2, 4)) + struct.pack("!4I", 65101, 65100, 65201, 65299)
        assert again.endswith(key("10.64.0.0/15"))
    first = dict(split_attributes(update_message(1, 1, b"\0", table, asn=65201)[23:-1]))
    assert first[AttributeType.AS_PATH][4:5] == b"\2", "the AS that it begins with is not put before it again"


@given(st.binary(max_size=80))
def test_any_update_is_said_again_or_told_to_be_malformed(body: bytes) -> None:
    for say in (
        lambda: readdressed(body, 65101, {1: HOP4, 2: HOP6, 25: HOP4}),
        lambda: update_message(1, 1, b"\0", body, next_hop=HOP4, asn=65101),
        lambda: update_message(2, 1, b"\0", body),
    ):
        try:
            assert len(say()) >= 23
        except ValueError:
            continue


@pytest.mark.parametrize("length", [0, 256, 1000])
def test_next_hop_of_a_length_that_no_update_can_have_is_malformed(length: int) -> None:
    attributes = struct.pack("!BBH", 0x50, AttributeType.NEXT_HOP, length) + bytes(length)
    with pytest.raises(ValueError, match="next hop"):
        update_message(1, 1, key("10.1.2.0/24"), attributes)


def block_of(message: bytes) -> list[tuple[int, bytes]]:
    """The attributes of an UPDATE that withdraws nothing."""
    return list(split_attributes(message[23 : 23 + int.from_bytes(message[21:23])]))


def reaching(afi: int, hop: bytes, nlri: bytes = b"") -> bytes:
    return pack_attribute(0x80, AttributeType.MP_REACH_NLRI, struct.pack("!HBB", afi, 1, len(hop)) + hop + b"\0" + nlri)


ORIGIN_AND_PATH = b"\x40\1\1\0" + b"\x40\2\6\2\1" + struct.pack("!I", 65201)
V6_KEY = b"\x20" + bytes.fromhex("20010db8")


@pytest.mark.parametrize(
    ("value", "hop"),
    [
        (bytes((16,)) + HOP6, HOP6),
        (struct.pack("!HBB", 2, 1, 16) + HOP6 + b"\0" + V6_KEY, HOP6),
        (b"\0\2\1\x10", b""),
        (b"", b""),
    ],
    ids=["of a table", "whole", "cut off", "empty"],
)
def test_next_hop_of_a_path_of_a_table(value: bytes, hop: bytes) -> None:
    """RFC 6396 section 4.3.4; some collectors write the whole attribute."""
    assert next_hop_of([(AttributeType.MP_REACH_NLRI, pack_attribute(0x80, 14, value))]) == hop


def test_routes_with_an_ipv6_next_hop_are_in_mp_reach() -> None:
    table = ORIGIN_AND_PATH + pack_attribute(0x80, AttributeType.MP_REACH_NLRI, bytes((16,)) + HOP6)
    attributes = block_of(update_message(2, 1, V6_KEY, table))
    assert [kind for kind, _ in attributes] == [14, 1, 2], "it comes first, for who reads the rest by it"
    assert attributes[0][1] == reaching(2, HOP6, V6_KEY)
    assert block_of(update_message(1, 1, b"\0", table))[0][1] == reaching(1, HOP6, b"\0"), "RFC 8950"


def test_ipv6_routes_are_said_again_with_the_next_hop_of_their_family() -> None:
    body = struct.pack("!HH", 0, len(ORIGIN_AND_PATH) + 29) + ORIGIN_AND_PATH + reaching(2, HOP6, V6_KEY)
    other = HOP6[:-1] + b"\x99"
    attributes = dict(block_of(readdressed(body, 65101, {1: HOP4, 2: other})))
    assert attributes[AttributeType.MP_REACH_NLRI] == reaching(2, other, V6_KEY)
    assert attributes[AttributeType.AS_PATH][3:] == b"\2\2" + struct.pack("!II", 65101, 65201)
    with pytest.raises(ValueError, match="no next hop for address family 2"):
        readdressed(body, 65101, {1: HOP4})


def test_withdrawals_are_said_again_as_they_are() -> None:
    """Without an AS path: nothing is announced."""
    gone = key("10.9.0.0/16")
    body = struct.pack("!H", len(gone)) + gone + b"\0\0"
    assert readdressed(body, 65101, {1: HOP4}) == encode_message(MessageType.UPDATE, body)


def test_attributes_that_are_longer_than_a_message_are_told() -> None:
    long = struct.pack("!BBH", 0xD0, 99, 65_500) + bytes(65_500)
    with pytest.raises(ValueError, match="longer than a message"):
        update_message(1, 1, b"\0", ORIGIN_AND_PATH + b"\x40\3\4" + HOP4 + long)


def test_records_of_other_families_and_states() -> None:
    """A prefix that is too long, addresses of no family and unknown subtypes; a change of state has both states."""
    long = struct.pack("!IHHI", 1, 13, 2, 5) + bytes(4) + b"\x21"
    assert read_as_far_as_possible(long)[1].endswith("a prefix of 33 bits")
    head = struct.pack("!IIHH", 65201, 65203, 0, 7)
    assert read_as_far_as_possible(struct.pack("!IHHI", 1, 16, 4, len(head)) + head)[1].endswith(
        "addresses of family 7"
    )
    assert read(struct.pack("!IHHI", 1, 16, 99, 0)) == []
    sides = struct.pack("!IIHH", 65201, 65203, 0, 1) + LEAF.address + bytes(4) + struct.pack("!HH", 5, 6)
    (found,) = read(struct.pack("!IHHI", 1, 16, 5, len(sides)) + sides)
    assert isinstance(found, MessageRecord)
    assert (found.states, found.message) == ((5, 6), b"")
