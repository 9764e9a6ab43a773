"""The short way of the usual UPDATE held against the decoder that looks at everything."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
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
    {"families": (Family.IPV6_UNICAST,)},
    {"add_path": frozenset((Family.IPV4_UNICAST,))},
]
PATHS = [
    AS_PATH,
    bytes.fromhex("50020006 0201 0000feb1".replace(" ", "")),
    attribute(2, struct.pack("!BBII", 2, 2, 65201, 7), 0x40),
    attribute(2, struct.pack("!BBII", 2, 2, 65202, 7), 0x40),
    attribute(2, struct.pack("!BBII", 2, 2, 65201, 0), 0x40),
    attribute(2, b"\2\0", 0x40),
    attribute(2, b"\2", 0x40),
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


def contents(attributes: Attributes | None) -> object:
    return None if attributes is None else (attributes.fields, attributes.rank, attributes.is_simple)


def general(session: dict[str, object]) -> UpdateDecoder:
    one = decoder(**session)
    one._attributes._plain_rules.short.clear()
    one._attributes._plain_rules.long.clear()
    return one


def assert_agree(bodies: Sequence[bytes], **session: object) -> int:
    """Whatever is read as plain is what the general decoder makes of it; how many were."""
    short, long = decoder(**session), general(session)
    found = 0
    for body in bodies:
        plain, decoded = short.plain(body), long.decode(body)
        if plain is None:
            continue
        found += 1
        (batch,) = decoded.batches
        assert not decoded.errors
        assert decoded.end_of_rib is None
        assert (plain.family, list(plain.announced), plain.next_hop, plain.overlay, list(plain.withdrawn)) == (
            batch.family,
            list(batch.announced),
            batch.next_hop,
            batch.overlay,
            list(batch.withdrawn),
        )
        assert contents(plain.attributes) == contents(batch.attributes)
        (again,) = short.decode(body).batches
        assert again.attributes is plain.attributes
    return found


blocks = st.builds(
    lambda *parts: b"".join(parts),
    st.one_of(st.just(b""), st.sampled_from(REACHED)),
    st.sampled_from([ORIGIN, ORIGIN, attribute(1, b"\3", 0x40), b""]),
    st.sampled_from([AS_PATH, *PATHS]),
    st.sampled_from([NEXT_HOP, *HOPS]),
    st.lists(st.sampled_from(OTHERS), max_size=4).map(b"".join),
)
bodies = st.builds(
    update,
    blocks,
    st.lists(st.sampled_from(PREFIXES), max_size=3).map(b"".join),
    st.sampled_from([b"", b"", b"", b"\x18\x0a\1\2"]),
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
    assert assert_agree(usual, accept_martians=False) == len(usual)
    internal = ORIGIN + attribute(2, b"", 0x40) + NEXT_HOP + attribute(5, b"\0\0\0\x64", 0x40)
    assert assert_agree([update(internal, PREFIXES[0])], ibgp=True) == 1


def test_next_hops_are_compared_with_the_addresses_of_the_host_in_each_run() -> None:
    own: set[bytes] = set()
    one = decoder(local_addresses=own)
    body = update(MANDATORY, PREFIXES[0])
    assert one.plain(body) is not None
    own.add(b"\x0a\0\1\2")
    one.run_ended()
    assert one.plain(body) is None
    assert one.decode(body).errors[0].is_echo
