"""What a neighbor's routes may take: bytes of attributes and next hops, counted while routes have them."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.schema_policies import PolicyConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig, attribute_limit
from bgpd.message.attribute_decoder import AttributeDecoder
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib.adj_rib_in import HEARD_AT_COARSENESS_S
from bgpd.rib.neighbor_state import MOST_NEXT_HOPS
from tests.message.decoding import AS_PATH, NEXT_HOP, ORIGIN, negotiated
from tests.rib.build import V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP = hop("10.0.1.2")


def block(*values: tuple[int, bytes]) -> bytes:
    extra = b"".join(bytes((0xD0, kind)) + len(value).to_bytes(2) + value for kind, value in values)
    return ORIGIN + AS_PATH + NEXT_HOP + extra


class Peer:
    """One session with an attribute decoder of its own, as the speaker has it."""

    def __init__(self, policy: dict[str, PolicyConfig] | None = None, **fields: object) -> None:
        self.config = session("leaf1", **fields)
        self.recorder = Recorder(configuration(self.config, policy=policy))
        self.decoder = AttributeDecoder(negotiated())
        self.source: Source = leaf(1)
        self.recorder.up(self.source, self.config)

    def announce(self, packed: bytes, *prefixes: str) -> None:
        given, _ = self.decoder.decode(packed)
        self.recorder.announce(self.source, given, HOP, *prefixes)

    @property
    def bytes(self) -> int:
        return self.recorder.rib.received.attribute_bytes(self.source)


def test_attributes_count_once_however_many_routes_have_them_and_until_none_has() -> None:
    peer = Peer()
    large = block((32, b"".join(number.to_bytes(12) for number in range(2000))))
    peer.announce(large, "10.0.0.0/24")
    first = peer.bytes
    assert 24_000 < first < 26_000
    peer.announce(large, *(f"10.1.{number}.0/24" for number in range(100)))
    assert peer.bytes == first
    peer.announce(block((8, b"\0\0\0\1")), "10.2.0.0/24")
    assert first + 500 < peer.bytes < first + 800
    peer.recorder.withdraw(peer.source, "10.0.0.0/24", *(f"10.1.{number}.0/24" for number in range(100)))
    peer.announce(block((8, b"\0\0\0\2")), "10.2.0.0/24")
    peer.recorder.turn()
    assert 500 < peer.bytes < 800
    peer.recorder.withdraw(peer.source, "10.2.0.0/24")
    assert peer.bytes == 0


def test_what_policy_makes_of_attributes_counts_too() -> None:
    rules = (RuleConfig(set=SetConfig(prepend=2), action="accept"),)
    long = block((32, b"".join(number.to_bytes(12) for number in range(200))), (200, bytes(5000)))
    path = bytes((2, 255)) + (65201).to_bytes(4) * 255
    long = long.replace(AS_PATH, b"\x50\x02" + len(path).to_bytes(2) + path)
    plain, changed = Peer(), Peer({"p": PolicyConfig(rules=rules)}, import_="p")
    plain.announce(long, "10.0.0.0/24")
    changed.announce(long, "10.0.0.0/24")
    assert len(long) < changed.bytes - plain.bytes < len(long) + 500


def test_paths_that_others_took_the_place_of_count_until_their_routes_go() -> None:
    peer = Peer()
    small = block((8, b"\0\0\0\1"))
    for number in range(10):
        peer.announce(small, f"10.0.{number}.0/24")
        peer.recorder.now += HEARD_AT_COARSENESS_S
    ten = peer.bytes
    assert ten > 10 * 400
    peer.recorder.rib.received.refresh_began(peer.source, V4)
    assert peer.bytes >= ten
    peer.announce(small, "10.0.0.0/24")
    drain(peer.recorder.rib.received.refresh_ended(peer.source, V4))
    assert peer.bytes < 3000


def test_too_many_bytes_are_told_once() -> None:
    peer = Peer(max_attribute_bytes=50_000)
    for number in range(100):
        peer.announce(block((8, number.to_bytes(4))), f"10.0.{number}.0/24")
    peer.recorder.turn()
    ((name, reason),) = peer.recorder.resets
    assert name == peer.source.name
    assert "more than max_attribute_bytes (50000)" in reason


@pytest.mark.parametrize(("most", "told"), [(0, 0), (None, 1)])
def test_default_follows_max_prefixes_and_0_is_no_limit(most: int | None, told: int) -> None:
    peer = Peer(max_attribute_bytes=most, max_prefixes=1)
    for number in range(40):
        peer.announce(block((200, number.to_bytes(2) * 16_000)), "10.0.0.0/24", f"10.0.{number}.0/24")
    peer.recorder.turn()
    assert sum("max_attribute_bytes" in reason for _, reason in peer.recorder.resets) == told


def test_default_limits() -> None:
    neighbor = NeighborConfig(name="a", asn=1, import_="all")
    assert attribute_limit(neighbor) == (1 << 20) + 256 * 2_000_000
    assert attribute_limit(msgspec.structs.replace(neighbor, max_prefixes=0)) == attribute_limit(neighbor)
    listen = ListenConfig(prefix="10.0.0.0/8", asn=1, import_="all")
    assert listen.max_prefixes == 10_000
    assert attribute_limit(listen) == (1 << 20) + 2_560_000


def test_next_hops_are_counted_while_routes_have_them() -> None:
    peer = Peer()
    given = attributes(65201)
    for number in range(2 * MOST_NEXT_HOPS):
        next_hop = hop(f"10.0.{number >> 8}.{number & 255}")
        batch = RouteBatch(family=V4, announced=[key("10.1.0.0/24")], attributes=given, next_hop=next_hop)
        peer.recorder.rib.received.routes_received(peer.source, [batch])
    peer.recorder.turn()
    assert peer.recorder.resets == []
    for number in range(MOST_NEXT_HOPS + 1):
        next_hop = hop(f"10.0.{number >> 8}.{number & 255}")
        one = key(f"10.{number >> 8}.{number & 255}.0/24")
        batch = RouteBatch(family=V4, announced=[one], attributes=given, next_hop=next_hop)
        peer.recorder.rib.received.routes_received(peer.source, [batch])
    peer.recorder.turn()
    assert peer.recorder.resets == [(peer.source.name, "its routes have more than 1024 different next hops")]
