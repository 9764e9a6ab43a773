"""The Internet table is deterministic, has the distributions that it claims, no martians, and arrives in its orders."""

from __future__ import annotations

import functools
import ipaddress
import operator
import struct
import zlib
from collections import Counter

import msgspec
import pytest

from benchmarks import wire
from benchmarks.internet_attributes import ALL, EVEN, ODD
from benchmarks.internet_table import InternetTable, routes_of
from benchmarks.routes import RouteSet, format_prefix

COUNT = 50_000
KINDS = ("internet-v4", "internet-v6")
NEXT_HOP = {"internet-v4": "10.0.0.2", "internet-v6": "2001:db8::2"}
DIGESTS = {"internet-v4": 501863543, "internet-v6": 997255712}
"""Checksums of all UPDATEs: with another table, figures cannot be compared with those before."""


@functools.cache
def table(kind: str = "internet-v4") -> InternetTable:
    return InternetTable(kind=kind, count=COUNT)


@functools.cache
def networks(kind: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(format_prefix(prefix, table(kind).family)) for prefix in table(kind).prefixes()]


def attributes(block: bytes) -> dict[int, bytes]:
    """The attributes of a block by code, in their order."""
    found, start = {}, 0
    while start < len(block):
        flags, kind = block[start], block[start + 1]
        head = 4 if flags & 0x10 else 3
        length = int.from_bytes(block[start + 2 : start + head], "big")
        found[kind] = block[start + head : start + head + length]
        start += head + length
    return found


def as_path(block: bytes) -> list[int]:
    value = attributes(block)[2]
    return list(struct.unpack_from(f">{value[1]}I", value, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_prefixes_are_distinct_and_the_same_in_every_process(kind: str) -> None:
    prefixes = table(kind).prefixes()
    assert len(set(prefixes)) == len(prefixes) == COUNT
    digest = zlib.crc32(b"".join(table(kind).announcements(asn=65201, next_hop=NEXT_HOP[kind])))
    assert digest == DIGESTS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_no_prefix_is_a_martian_or_the_laboratory_s(kind: str) -> None:
    some = networks(kind)[::5]
    assert all(network.is_global and not network.is_multicast for network in some)
    own = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "169.254.0.0/16", "2001:db8::/32")]
    special = [ipaddress.ip_network(text) for text in ("100.64.0.0/10", "192.0.2.0/24", "198.18.0.0/15")]
    for network in some:
        assert not any(network.version == other.version and network.overlaps(other) for other in (*own, *special))


def test_prefix_lengths_are_the_internet_s() -> None:
    lengths = Counter(network.prefixlen for network in networks("internet-v4"))
    assert lengths[24] / COUNT == pytest.approx(0.62, abs=0.02)
    assert lengths[22] > lengths[23] > lengths[21] > lengths[19] > lengths[16] > lengths[17]
    assert max(lengths) == 24
    lengths = Counter(network.prefixlen for network in networks("internet-v6"))
    assert lengths[48] / COUNT == pytest.approx(0.4, abs=0.02)
    assert max(lengths) == 48
    assert sum(length * number for length, number in lengths.items()) / COUNT == pytest.approx(42.8, abs=0.4)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_half_of_the_prefixes_lie_inside_another(kind: str) -> None:
    known = set(networks(kind))
    inside = sum(
        any(network.supernet(new_prefix=length) in known for length in range(12, network.prefixlen))
        for network in networks(kind)[:5000]
    )
    assert inside / 5000 == pytest.approx(0.57, abs=0.06)


@pytest.mark.long
def test_a_million_prefixes_fit_into_the_address_space() -> None:
    assert len(set(InternetTable(count=1_000_000).prefixes())) == 1_000_000


def test_attribute_sets_are_as_many_as_asked_for_and_have_a_heavy_tail() -> None:
    sizes = sorted(table().sizes(), reverse=True)
    assert len(sizes) == table().attribute_sets == COUNT * 15 // 100
    assert sum(sizes) == COUNT
    assert sum(sizes[: len(sizes) // 100]) / COUNT == pytest.approx(0.33, abs=0.05)
    assert sum(size <= 2 for size in sizes) / len(sizes) > 0.5
    assert sizes[0] < COUNT / 50
    assert sum(InternetTable(count=100, sets=100).sizes()) == 100
    assert list(InternetTable(count=100, sets=1).sizes()) == [100]


def test_blocks_are_distinct_well_formed_and_carry_the_usual_attributes() -> None:
    blocks = table().blocks(asn=65201)
    assert len(set(blocks)) == len(blocks) == table().attribute_sets
    found = [attributes(block) for block in blocks]
    assert all(list(one) == sorted(one) for one in found)

    def share(code: int) -> float:
        return sum(code in one for one in found) / len(found)

    assert share(8) == pytest.approx(0.75, abs=0.03)
    assert share(32) == pytest.approx(0.125, abs=0.02)
    assert share(4) == pytest.approx(0.15, abs=0.02)
    assert share(7) == pytest.approx(0.09, abs=0.02)
    assert share(6) == pytest.approx(0.06, abs=0.02)
    assert {len(one[8]) % 4 for one in found if 8 in one} == {0}
    assert {len(one[32]) % 12 for one in found if 32 in one} == {0}


def test_paths_begin_at_the_leaf_and_have_the_internet_s_lengths() -> None:
    paths = [as_path(block) for block in table().blocks(asn=65201)]
    assert {path[0] for path in paths} == {65201}
    assert sum(len(path) - 1 for path in paths) / len(paths) == pytest.approx(4.7, abs=0.15)
    assert sum(path[-1] == path[-2] for path in paths) / len(paths) == pytest.approx(0.25, abs=0.03)
    numbers = {number for path in paths for number in path[1:]}
    assert not any(64_496 <= number <= 131_071 or number in (0, 23_456, 65_203) for number in numbers)
    assert sum(path[-1] > 65_535 for path in paths) / len(paths) == pytest.approx(0.3, abs=0.05)


def test_each_leaf_has_the_shorter_path_of_a_third_and_both_of_a_third() -> None:
    first, second = (
        [len(as_path(block)) for block in table().blocks(asn=65201, variant=variant)] for variant in (0, 1)
    )
    assert table().blocks(asn=65201, variant=0) != table().blocks(asn=65201, variant=1)
    shorter = {EVEN: operator.lt, ODD: operator.gt, ALL: operator.eq}
    which = table().preferred_by()
    assert all(shorter[group](one, other) for group, one, other in zip(which, first, second))
    leaves = [b"\x0a\0\0\2", b"\x0a\0\1\2"]
    shares = Counter(table().next_hops(leaves).values())
    for expected in (frozenset(leaves[:1]), frozenset(leaves[1:]), frozenset(leaves)):
        assert shares[expected] / COUNT == pytest.approx(1 / 3, abs=0.05)


def test_what_decides_besides_the_path_is_the_same_by_every_leaf() -> None:
    for one, other in zip(table().blocks(asn=65201), table().blocks(asn=65201, variant=1)):
        assert [attributes(one).get(code) for code in (1, 4)] == [attributes(other).get(code) for code in (1, 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_arrives_by_set_in_random_order_and_complete(kind: str) -> None:
    few = InternetTable(kind=kind, count=3000)
    heard, blocks = [], []
    for message in few.announcements(asn=65201, next_hop=NEXT_HOP[kind]):
        assert len(message) <= wire.MAX_MESSAGE_LENGTH
        announced, _ = wire.unicast_changes(message[wire.HEADER_LENGTH :])
        heard += announced
        blocks.append(announced[0])
    assert sorted(heard) == sorted(few.prefixes())
    assert heard != list(few.prefixes())
    assert len(blocks) == few.attribute_sets


def test_in_scattered_order_each_update_has_one_prefix() -> None:
    few = InternetTable(count=1000, order="scattered")
    messages = list(few.announcements(asn=65201, next_hop="10.0.0.2"))
    changes = [wire.unicast_changes(message[wire.HEADER_LENGTH :])[0] for message in messages]
    assert {len(announced) for announced in changes} == {1}
    assert {announced[0] for announced in changes} == set(few.prefixes())


def test_next_hop_stands_in_its_place() -> None:
    message = next(table().announcements(asn=65201, next_hop="10.0.0.2"))
    length = int.from_bytes(message[wire.HEADER_LENGTH + 2 : wire.HEADER_LENGTH + 4], "big")
    block = message[wire.HEADER_LENGTH + 4 : wire.HEADER_LENGTH + 4 + length]
    assert list(attributes(block)) == sorted(attributes(block))
    assert attributes(block)[3] == b"\x0a\0\0\2"


def test_routes_are_read_back_from_what_is_sent_to_another_process() -> None:
    for routes in (RouteSet(count=5), table("internet-v6")):
        assert routes_of(msgspec.to_builtins(routes)) == routes
