"""Attributes are their block: values that go in come out, and as the numbers that are kept beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Aggregator, AttributeFields, Attributes, UnknownAttribute
from bgpd.model.iana import Origin, SegmentType

numbers = st.integers(0, 0xFFFFFFFF)
four = st.binary(min_size=4, max_size=4)
segments = st.builds(
    AsPathSegment, st.sampled_from(SegmentType), st.lists(numbers, min_size=1, max_size=255).map(tuple)
)
values = st.fixed_dictionaries(
    {},
    optional={
        "origin": st.sampled_from(Origin),
        "as_path": st.lists(segments, max_size=4).map(tuple),
        "med": st.none() | numbers,
        "local_pref": st.none() | numbers,
        "atomic_aggregate": st.booleans(),
        "aggregator": st.none() | st.builds(Aggregator, numbers, four),
        "communities": st.lists(numbers, max_size=70).map(tuple),
        "extended_communities": st.lists(st.binary(min_size=8, max_size=8), max_size=40).map(tuple),
        "large_communities": st.lists(st.tuples(numbers, numbers, numbers), max_size=30).map(tuple),
        "originator_id": st.none() | four,
        "cluster_list": st.lists(four, max_size=70).map(tuple),
        "unknown": st.lists(
            st.builds(UnknownAttribute, st.sampled_from([0xC0, 0xE0, 0x80]), st.integers(40, 255), st.binary()),
            max_size=3,
        ).map(tuple),
    },
)


def assert_holds(attributes: Attributes, wanted: dict[str, object]) -> None:
    for name, value in wanted.items():
        assert getattr(attributes, name) == value, name
    hops = {SegmentType.AS_SEQUENCE: len, SegmentType.AS_SET: lambda _: 1}
    length = sum(hops[one.type](one.asns) for one in attributes.as_path if one.type in hops)
    preference = 100 if attributes.local_pref is None else attributes.local_pref
    assert attributes.as_path_length == length
    assert attributes.rank == ((100 - preference) << 18) + (length << 2) + attributes.origin
    assert attributes.is_simple is not bool(
        attributes.med
        or attributes.fields.originator_id is not None
        or attributes.fields.packed_cluster_list
        or attributes.fields.packed_extended_communities
    )
    assert AttributeFields.pack(attributes.fields).block == attributes.block


@given(values, values)
def test_values_come_out_as_they_went_in_and_a_change_leaves_the_others(
    first: dict[str, object], second: dict[str, object]
) -> None:
    attributes = Attributes.of(**first)
    assert_holds(attributes, first)
    changed = attributes.changed(**second)
    assert_holds(changed, first | second)
    assert changed.same_as(Attributes.of(**(first | second)))
    assert changed.same_as(attributes) is (changed.fields == attributes.fields)


@given(values)
def test_what_stands_in_another_order_or_beside_a_next_hop_is_the_same(given_values: dict[str, object]) -> None:
    attributes = Attributes.of(**given_values)
    block = attributes.block
    moved = Attributes.read(block[4:] + b"\x40\3\4\1\2\3\4" + block[:4], attributes.rank, attributes.is_simple)
    assert moved.same_as(attributes)
    assert moved.contents == block[4:] + block[:4]
    hop = Attributes.read(b"\x40\3\4\1\2\3\4" + block, attributes.rank, attributes.is_simple)
    assert hop.contents == block


def test_lower_rank_is_better() -> None:
    path = (AsPathSegment(SegmentType.AS_SEQUENCE, (1, 2)),)
    worse = [
        Attributes.of(local_pref=101, as_path=path, origin=Origin.INCOMPLETE),
        Attributes.of(),
        Attributes.of(local_pref=100, origin=Origin.EGP),
        Attributes.of(as_path=path),
        Attributes.of(local_pref=99),
        Attributes.of(local_pref=0),
    ]
    assert [one.rank for one in worse] == sorted({one.rank for one in worse})
    assert Attributes.of(local_pref=2**32 - 1).rank < worse[0].rank


@pytest.mark.parametrize(
    "fields",
    [
        {"packed_as_path": b"".join(b"\2\xff" + number.to_bytes(4) * 255 for number in range(1, 90))},
        {"packed_communities": b"".join(number.to_bytes(4) for number in range(30_000))},
        {"packed_large_communities": b"".join(number.to_bytes(12) for number in range(9_000))},
    ],
)
def test_lists_that_are_longer_than_an_attribute_can_be_are_kept(fields: dict[str, bytes]) -> None:
    """Policy makes them longer, and paths of 2-octet AS numbers take twice as much here."""
    attributes = Attributes.of(**fields)
    for name, value in fields.items():
        assert len(value) > 65_535
        assert getattr(attributes, name) == value
    assert attributes.count_as(89) == (255 if "packed_as_path" in fields else 0)
    assert attributes.has_community(29_999) is ("packed_communities" in fields)


def test_bytes_of_other_attributes_are_no_community_and_no_as() -> None:
    attributes = Attributes.of(communities=(65201, 0x00010000), large_communities=((7, 65202, 1),))
    assert attributes.count_as(65201) == 0
    assert not attributes.has_community(65202)
    assert not attributes.has_community(0xFEB10001), "across the border of two"
    assert attributes.has_community(65201)
    assert not attributes.has_cluster((65201).to_bytes(4))
