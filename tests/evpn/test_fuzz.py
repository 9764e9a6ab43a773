"""Whole UPDATEs of legal and illegal parts, through the decoder, the RIB and EVPN, and out to another neighbor.

Nothing may raise, whatever stands beside what in one message; and when the session ends, nothing that it said is left.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.open import Negotiated
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.message.update_encoder import UpdateEncoder
from bgpd.model.iana import Family
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from tests.evpn.build import CONFIG, Host

ALL = (Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.ROUTE_TARGET)
DECODERS = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}
TEXT = CONFIG.replace('families = ["l2vpn-evpn"]', 'families = ["l2vpn-evpn", "ipv4-unicast"]\nexport = "all"')


def hexes(*texts: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([bytes.fromhex(text) for text in texts])


def mostly(good: st.SearchStrategy[bytes], bad: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """What is `bad` resets the session, after which nothing of the message is taken: once in twenty times."""
    return st.integers(0, 19).flatmap(lambda number: bad if number == 13 else good)


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def sized(kind: int, *parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """An EVPN route: type, length and fields."""
    return joined(*parts).map(lambda value: bytes((kind, len(value) & 255)) + value[:255])


def attribute(kind: int, flags: int, value: bytes) -> bytes:
    if len(value) > 255:
        return struct.pack("!BBH", flags | 0x10, kind, len(value)) + value
    return bytes((flags, kind, len(value))) + value


RDS = hexes("00010aff090903e9", "00010aff080803e9", "0000000000000000", "00010aff010103e9")
ESIS = hexes("00" * 10, "00112233445566778899", "ff" * 10)
TAGS = hexes("00000000", "00000005", "ffffffff")
LABELS = hexes("001389", "00138a", "000000")
MACS = hexes("020000000009", "020000000007", "ffffffffffff")
V4S = hexes("0a400109", "0a400108", "0a020000", "00000000", "0a010001", "7f000001")
V6S = hexes("20010db8" + "00" * 11 + "01", "fe80" + "00" * 13 + "01", "00" * 16, "00" * 10 + "ffff0a400109")
GATEWAYS = hexes("00000000", "00000000", "0a400109", "0a400108")
MAC_IPS = sized(2, RDS, ESIS, TAGS, hexes("30", "30", "2f"), MACS, hexes("20", "20", "00"), V4S, LABELS)
PREFIXES = sized(5, RDS, ESIS, TAGS, hexes("18", "20", "00"), V4S, GATEWAYS, LABELS)
EVPN_ROUTES = st.one_of(
    MAC_IPS,
    PREFIXES,
    sized(2, RDS, ESIS, TAGS, hexes("30"), MACS, hexes("80", "80", "20"), V6S, LABELS, LABELS),
    sized(2, RDS, ESIS, TAGS, hexes("30"), MACS, hexes("00"), LABELS),
    sized(5, RDS, ESIS, TAGS, hexes("18", "21"), V4S, GATEWAYS, LABELS),
    sized(5, RDS, ESIS, TAGS, hexes("40", "80", "00", "81"), V6S, V6S, LABELS),
    sized(1, RDS, ESIS, TAGS, LABELS),
    sized(3, RDS, TAGS, hexes("20", "80"), V4S),
    sized(4, RDS, ESIS, hexes("20"), V4S),
    sized(11, st.binary(max_size=9)),
    sized(5, st.binary(max_size=60)),
)
V4_ROUTES = mostly(hexes("180a4002", "200a400109", "00", "100a40", "08ff", "20e0000001"), hexes("21ffffffffff", "20ff"))
V6_ROUTES = mostly(hexes("4020010db800000000", "80fe80" + "00" * 13 + "01", "00"), hexes("81" + "ff" * 17))
TARGETS = hexes("00", "600000feb10002feb100001389", "200000feb1", "10ffff", "61" + "00" * 13)
EVPN_FIELDS = st.one_of(
    *(st.lists(routes, min_size=1, max_size=8).map(b"".join) for routes in (EVPN_ROUTES, MAC_IPS, PREFIXES))
)
"""Of any routes, and of routes that are taken apart together."""
V6_FIELDS = st.lists(V6_ROUTES, max_size=3).map(b"".join)
TARGET_FIELDS = st.lists(TARGETS, max_size=3).map(b"".join)
MP = st.one_of(
    st.tuples(st.just((25, 70)), hexes("c0000201"), EVPN_FIELDS),
    st.tuples(st.just((25, 70)), mostly(hexes("c0000201", "20010db8" + "00" * 12), hexes("0a", "")), EVPN_FIELDS),
    st.tuples(st.just((25, 70)), hexes("c0000201"), st.just(b"")),
    st.tuples(st.just((2, 1)), mostly(hexes("20010db8" + "00" * 11 + "02", "fe80" * 16), hexes("")), V6_FIELDS),
    st.tuples(st.just((1, 132)), hexes("c0000201"), TARGET_FIELDS),
    st.tuples(st.just((1, 128)), hexes("00" * 12), st.binary(max_size=12)),
)
REACH = MP.map(
    lambda mp: attribute(14, 0x80, struct.pack("!HBB", *mp[0], len(mp[1])) + mp[1] + b"\0" + mp[2]),
)
UNREACH = MP.map(lambda mp: attribute(15, 0x80, struct.pack("!HB", *mp[0]) + mp[2]))
EXTENDED = st.lists(
    hexes(
        "0002feb100001389", "0002feb10000138a", "0600000000000003", "0601000000000009", "06000000ffffffff",
        "030d000000000000", "030c000000000008", "0603020000000009", "4004feb14cbebc20", "ffffffffffffffff",
    ),
    max_size=4,
).map(lambda values: attribute(16, 0xC0, b"".join(values)))  # fmt: skip
OTHERS = st.one_of(
    EXTENDED,
    hexes(
        "40010100", "40010107", "4002060201" "0000feb1", "400200", "40020601010000feb1", "40020a02020000feb10000feb3",
        "4003040a000102", "40030400000000", "80040400000001", "40050400000064", "400600", "c00708" "0000feb10a000001",
        "c00804ffffff01", "c00804ffffff02", "c0080400000000", "800904" "0aff0101", "800a04" "0aff0101",
        "c0200c" "0000feb10000000100000002", "c0c803" "616263", "80c803616263", "c01605" "0000000000",
        "c01704" "00010000", "c0281001000a", "c08006" "0000feb1" "4001", "801a0b" "01000b0000000000000001",
    ),
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20)).map(
        lambda one: attribute(one[1], 0x80 | (one[0] & 0x6F), one[2])
    ),
)  # fmt: skip
MANDATORY = bytes.fromhex("40010100 400206020100 00feb1 4003040a000102")


@st.composite
def updates(draw: st.DrawFn) -> bytes:
    """The body of an UPDATE."""
    parts = [draw(REACH)] if draw(st.booleans()) else []
    parts += [draw(UNREACH)] if draw(st.booleans()) else []
    parts += [MANDATORY] if draw(st.integers(0, 4)) else []
    parts += draw(st.lists(OTHERS, max_size=3))
    block = b"".join(draw(st.permutations(parts)))
    withdrawn = b"".join(draw(st.lists(V4_ROUTES, max_size=2)))
    nlri = b"".join(draw(st.lists(V4_ROUTES, max_size=3)))
    body = bytearray(struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(block)) + block + nlri)
    if draw(st.integers(0, 9)) == 7 and body:
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body)


class Wired(Host):
    """A host whose words to leaf2 are encoded, for a session of 4-octet AS numbers and for one without."""

    def __init__(self) -> None:
        super().__init__(TEXT)
        self.encoders = [
            UpdateEncoder(
                session(four_octet_as),
                local_ipv4=parse_address("172.16.2.1"),
                local_ipv6=parse_address("2001:db8::1"),
                local_link_local=None,
                nlri_decoders=DECODERS,
            )
            for four_octet_as in (True, False)
        ]

    def send(self, source: Source, batch: RouteBatch) -> None:
        super().send(source, batch)
        for encoder in self.encoders:
            encoder.encode(batch)

    def hear_all(self, source: Source, batches: Sequence[RouteBatch]) -> None:
        """A neighbor says these, and the kernel has taken what follows from it."""
        self.rib.received.routes_received(source, batches)
        for table in self.rib.tables.values():
            self.rib.fib_acknowledged(table.vrf, table.family, list(table.routes))
        self.turn()

    def assert_only_local(self) -> None:
        """Nothing is left of what neighbors have said."""
        for table in self.rib.tables.values():
            for key, decision in table.routes.items():
                assert all(path.source.is_local for path in decision.candidates), (table.vrf, table.family, key)
            assert not any(count for source, count in table.received.items() if not source.is_local)
        assert self.evpn.importer.gateways("blue") == set()


def session(four_octet_as: bool = True) -> Negotiated:
    return Negotiated(
        local_asn=65203,
        peer_asn=65201,
        local_router_id=b"\x0a\xff\1\1",
        peer_router_id=b"\x0a\0\0\1",
        hold_time_s=9,
        families=(*ALL, Family.L2VPN_EVPN),
        four_octet_as=four_octet_as,
    )


def play(bodies: Sequence[bytes], *, four_octet_as: bool) -> None:
    """A neighbor says these UPDATEs, and its session ends."""
    host = Wired()
    leaf1, leaf2 = host.up(1, *ALL), host.up(2, *ALL)
    host.workload("10.64.1.9/32", mac="02:00:00:00:00:09")
    decoder = UpdateDecoder(session(four_octet_as), nlri_decoders=DECODERS)
    for body in bodies:
        host.hear_all(leaf1, decoder.decode(body).batches)
    host.down(leaf1)
    host.assert_only_local()
    host.down(leaf2)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(st.lists(updates(), min_size=1, max_size=8), st.booleans())
def test_any_updates_are_taken_and_go_with_their_session(bodies: list[bytes], four_octet_as: bool) -> None:
    play(bodies, four_octet_as=four_octet_as)
