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
from bgpd.model.attributes import Attributes
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
