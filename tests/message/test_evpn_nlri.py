from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.model.evpn import EvpnRoute, mac_ip_key, parse_key, prefix_key, with_labels
from bgpd.model.iana import Family
from bgpd.model.martians import martians
from bgpd.model.route_batch import Overlay
from bgpd.model.wire import MalformedNlri, Reaction

RD = bytes.fromhex("00010aff010103e9")
MAC = bytes.fromhex("020000000a01")
ESI = bytes.fromhex("00112233445566778899")
V6 = bytes.fromhex("20010db8000000000000000000000001")
TYPE_2 = bytes.fromhex("0225" + RD.hex() + "00" * 10 + "00000005" + "30" + MAC.hex() + "20" + "0a400105" + "001389")
TYPE_2_TWO_LABELS = bytes.fromhex(
    "0234" + RD.hex() + ESI.hex() + "00000000" + "30" + MAC.hex() + "80" + V6.hex() + "000064" + "001389"
)
TYPE_2_MAC_ONLY = bytes.fromhex("0221" + RD.hex() + "00" * 10 + "00000000" + "30" + MAC.hex() + "00" + "000064")
TYPE_5 = bytes.fromhex("0522" + RD.hex() + "00" * 10 + "00000000" + "18" + "0a400100" + "0a000101" + "001389")
TYPE_5_V6 = bytes.fromhex("053a" + RD.hex() + "00" * 14 + "40" + V6[:8].hex() + "00" * 8 + "00" * 16 + "001389")
TYPE_1 = bytes.fromhex("0119" + RD.hex() + ESI.hex() + "ffffffff" + "000064")
TYPE_3 = bytes.fromhex("0311" + RD.hex() + "00000064" + "20" + "0a000001")
TYPE_4 = bytes.fromhex("0423" + RD.hex() + ESI.hex() + "80" + V6.hex())
UNKNOWN = bytes.fromhex("0903616263")
GOLDEN = [
    (TYPE_2, mac_ip_key(RD, mac=MAC, ip=b"\x0a\x40\1\5", ethernet_tag=5), Overlay(bytes(10), (5001,))),
    (TYPE_2_TWO_LABELS, mac_ip_key(RD, mac=MAC, ip=V6), Overlay(ESI, (100, 5001))),
    (TYPE_2_MAC_ONLY, mac_ip_key(RD, mac=MAC), Overlay(bytes(10), (100,))),
    (
        TYPE_5,
        prefix_key(RD, prefix=b"\x0a\x40\1\0", prefix_length=24),
        Overlay(bytes(10), (5001,), b"\x0a\0\1\1"),
    ),
    (TYPE_5_V6, prefix_key(RD, prefix=V6[:8] + bytes(8), prefix_length=64), Overlay(bytes(10), (5001,))),
    (TYPE_1, b"\1" + RD + ESI + b"\xff" * 4, Overlay(ESI, (100,))),
    (TYPE_3, b"\3" + TYPE_3[2:], None),
    (TYPE_4, b"\4" + TYPE_4[2:], None),
    (UNKNOWN, b"\x09abc", None),
]


def pairs(routes):
    """Each key with its Overlay, which has the route's labels."""
    return [
        (key, with_labels(group.overlay, own))
        for group in routes.announced
        for key, own in zip(group.keys, group.labels or repeat(b""))
    ]


def groups(routes):
    return [(group.overlay, list(group.keys)) for group in routes.announced if group.labels is None]


@pytest.mark.parametrize(("nlri", "key", "overlay"), GOLDEN)
def test_golden_bytes_both_ways(nlri, key, overlay):
    codec = EvpnNlri()
    routes = codec.decode(nlri)
    assert groups(routes) == [(overlay, [key])]
    assert (routes.errors, routes.malformed) == ([], [])
    assert codec.encode(key, overlay) == nlri


def test_all_types_in_one_field():
    routes = EvpnNlri().decode(b"".join(nlri for nlri, _, _ in GOLDEN) * 2)
    found = pairs(routes)
    expected = [(key, overlay) for _, key, overlay in GOLDEN] * 2
    assert sorted(found, key=lambda one: one[0]) == sorted(expected, key=lambda one: one[0])


def test_equal_overlays_of_different_messages_are_one_object():
    codec = EvpnNlri()
    first = codec.decode(TYPE_2 + TYPE_2)
    assert len(first.announced) == 1
    assert codec.decode(TYPE_2).announced[0].overlay is first.announced[0].overlay


def test_the_codec_keeps_only_so_many_overlays():
    codec = EvpnNlri()
    for number in range(5000):
        codec.decode(TYPE_2[:-3] + number.to_bytes(3, "big"))
    assert len(codec._overlays) <= 4096


def test_host_bits_of_a_prefix_are_no_part_of_its_key():
    noisy = bytearray(TYPE_5)
    noisy[2 + 23 + 3] = 0x77
    assert EvpnNlri().decode(bytes(noisy)) == EvpnNlri().decode(TYPE_5)


def altered(nlri, at, value):
    return nlri[:at] + bytes((value,)) + nlri[at + 1 :]


@pytest.mark.parametrize(
    "bad",
    [
        altered(TYPE_2, 24, 40),
        altered(TYPE_2, 31, 4),
        altered(TYPE_2, 31, 128),
        altered(TYPE_2_MAC_ONLY, 31, 32),
        altered(TYPE_5, 24, 33),
        altered(TYPE_5_V6, 24, 129),
        b"\5\x28" + bytes(40),
        b"\5\x2e" + RD + bytes(14) + b"\x18\x0a\x40\1\0" + V6 + bytes(3),
        b"\1\x18" + bytes(24),
        b"\3\x15" + bytes(12) + b"\x40" + bytes(8),
        b"\4\x05" + bytes(5),
        b"\2\x20" + bytes(32),
    ],
)
def test_a_malformed_route_of_readable_length_costs_only_itself(bad):
    routes = EvpnNlri().decode(TYPE_5 + bad + TYPE_2)
    assert len(pairs(routes)) == 2
    (error,) = routes.errors
    assert (error.reaction, error.one_route) == (Reaction.TREAT_AS_WITHDRAW, True)


def test_routes_that_differ_in_labels_are_one_group_with_a_label_for_each():
    field = b"".join(TYPE_2[:30] + bytes((number,)) + TYPE_2[31:-3] + number.to_bytes(3, "big") for number in (1, 2, 3))
    (group,) = EvpnNlri().decode(field).announced
    assert group.overlay == Overlay(bytes(10), ())
    assert list(group.labels) == [b"\0\0\1", b"\0\0\2", b"\0\0\3"]
    assert [key[-5] for key in group.keys] == [1, 2, 3]


def test_a_type_5_route_without_a_label_is_no_part_of_a_group_with_a_label_for_each():
    """Nothing but its label may say where packets go (RFC 9136 section 3.2)."""
    routes = [TYPE_5[:26] + bytes((number, 1, 0)) + bytes(4) + bytes((0, 0, number)) for number in (0, 1, 2)]
    groups = EvpnNlri().decode(b"".join(routes)).announced
    assert sorted((one.overlay.labels, len(one.keys)) for one in groups) == [((), 2), ((0,), 1)]


def test_bytes_inside_a_route_that_look_like_the_start_of_one_are_none():
    head = bytes((2, 37)) + bytes(22) + b"\x30"
    sound = [head + bytes((2, 0, 0, 0, 0, number)) + b"\x20\x0a\0\0" + bytes((number, 0, 0, 7)) for number in (1, 2)]
    odd = bytes((2, 37)) + RD + head + sound[0][25:29]
    routes = EvpnNlri().decode(sound[0] + odd + sound[1])
    assert pairs(routes) == [pair for one in sound for pair in pairs(EvpnNlri().decode(one))]
    assert routes.errors == EvpnNlri().decode(odd).errors != []


def test_malformed_routes_of_one_kind_are_one_error_however_many_they_are():
    routes = EvpnNlri().decode(b"\1\0" * 32_000 + TYPE_3 + b"".join(bytes((3, 14)) + RD + bytes(6) for _ in range(9)))
    assert groups(routes) == [(None, [b"\3" + TYPE_3[2:]])]
    assert len(routes.errors) == 2


def test_of_a_route_that_is_announced_twice_in_a_field_the_last_counts():
    first, second = TYPE_5, TYPE_5[:-3] + b"\0\0\7"
    other = TYPE_5.replace(b"\x0a\x40\1\0", b"\x0a\x40\2\0")
    table = {}
    for key, overlay in pairs(EvpnNlri().decode(second + other + first + second)):
        table[key] = overlay.labels
    assert sorted(table.values()) == [(7,), (5001,)]


def test_a_gateway_beside_an_esi_is_treated_as_withdraw():
    routes = EvpnNlri().decode(TYPE_5[:10] + ESI + TYPE_5[20:] + TYPE_5_V6)
    assert routes.malformed == [prefix_key(RD, prefix=b"\x0a\x40\1\0", prefix_length=24)]
    assert len(routes.announced) == 1
    assert "RFC 9136" in routes.errors[0].section


BY_ESI = TYPE_5[:10] + ESI + TYPE_5[20:24] + b"\x18\x0a\x40\x33\0" + bytes(4) + TYPE_5[-3:]
"""A type 5 route whose overlay index is an ESI (RFC 9136 section 4.2), as legal beside one with a gateway IP."""
BOTH = TYPE_5[:10] + ESI + TYPE_5[20:]


def test_an_esi_and_a_gateway_in_two_routes_of_one_field_are_two_legal_routes():
    routes = EvpnNlri().decode(BY_ESI + TYPE_5)
    assert (routes.errors, routes.malformed) == ([], [])
    assert {(overlay.esi, overlay.gateway_ip) for _, overlay in pairs(routes)} == {
        (ESI, b""),
        (bytes(10), b"\x0a\0\1\1"),
    }


def either(*options):
    return st.sampled_from([bytes.fromhex(option) for option in options])


ROUTES = st.one_of(
    st.sampled_from([nlri for nlri, _, _ in GOLDEN] + [BY_ESI, BOTH]),
    st.builds(
        lambda esi, bits, prefix, gateway, label: b"\5\x22" + RD + esi + bytes(4) + bits + prefix + gateway + label,
        either("00" * 10, ESI.hex()),
        either("00", "18", "20", "21", "ff"),
        either("0a400100", "0a4001ff"),
        either("00000000", "0a000101", "0a000102"),
        either("000064", "001389"),
    ),
    st.builds(
        lambda esi, bits, gateway: b"\5\x3a" + RD + esi + bytes(4) + bits + V6 + gateway + b"\0\0\x64",
        either("00" * 10, ESI.hex()),
        either("40", "80", "81"),
        either("00" * 16, V6.hex()),
    ),
    st.builds(
        lambda esi, mac_bits, mac, ip_bits, labels: (
            bytes((2, 34 + len(labels))) + RD + esi + bytes(4) + mac_bits + mac + ip_bits + b"\x0a\x40\1\5" + labels
        ),
        either("00" * 10, ESI.hex()),
        either("30", "2f"),
        either("020000000a01", "020000000a02"),
        either("20", "00", "80"),
        either("000064", "001389", "000064001389"),
    ),
)
"""Legal routes and those with one field wrong, of the lengths that are taken apart by column."""


@given(st.lists(ROUTES, min_size=1, max_size=12))
def test_a_field_of_any_routes_gives_what_each_route_gives_alone(routes):
    codec = EvpnNlri()
    together = codec.decode(b"".join(routes))
    alone = [codec.decode(route) for route in routes]
    announced = [pair for one in alone for pair in pairs(one)]
    assert set(pairs(together)) <= set(announced)
    assert dict(pairs(together)).keys() == dict(announced).keys()
    assert sorted(together.malformed) == sorted(key for one in alone for key in one.malformed)
    assert {error.message for error in together.errors} == {error.message for one in alone for error in one.errors}


def _mac_ip(rd, ip, labels, mac_bits=48, esi=0):
    body = RD[:-1] + bytes((rd,)) + bytes(9) + bytes((esi,)) + bytes(4) + bytes((mac_bits,)) + MAC
    body += bytes((8 * len(ip),)) + ip + labels
    return bytes((2, len(body))) + body


def _prefix(rd, length, last, label, gateway=0, esi=0):
    body = RD[:-1] + bytes((rd,)) + bytes(9) + bytes((esi,)) + bytes(4) + bytes((length, 32, 0, 0, last))
    body += bytes(3) + bytes((gateway,)) + label
    return bytes((5, len(body))) + body


LAST = st.integers(0, 255)
ADDRESS = LAST.map(lambda last: bytes((127 if last > 250 else 32, 0, 0, last)))
MOSTLY_NO = st.sampled_from([0] * 9 + [1])
LABEL = st.sampled_from([b"\0\0\1", b"\0\0\2", b"\0\0\3", bytes(3)])
HOST_ROUTES = st.one_of(
    st.builds(_mac_ip, LAST, ADDRESS, LABEL, esi=MOSTLY_NO),
    st.builds(_mac_ip, LAST, ADDRESS, LABEL),
)
COLUMNS = st.one_of(
    st.lists(HOST_ROUTES, min_size=2, max_size=8),
    st.lists(st.builds(_mac_ip, LAST, st.just(V6), LABEL.map(lambda one: one * 2)), min_size=2, max_size=8),
    st.lists(st.builds(_mac_ip, LAST, st.just(b""), LABEL, st.sampled_from([48] * 9 + [47])), min_size=2, max_size=8),
    st.lists(st.builds(_prefix, LAST, st.just(32), LAST, LABEL), min_size=2, max_size=8),
    st.lists(st.builds(_prefix, LAST, st.integers(22, 33), LAST, LABEL, MOSTLY_NO, MOSTLY_NO), min_size=2, max_size=8),
)


@given(COLUMNS)
def test_routes_of_one_length_are_cut_by_column_as_each_is_alone(routes):
    """Of any route distinguishers, with labels of their own, host bits, and now and then one with something wrong."""
    codec = EvpnNlri()
    together, last = codec.decode(b"".join(routes)), {}
    for route in routes:
        alone = codec.decode(route)
        last.update(dict(pairs(alone)))
    assert dict(pairs(together)) == last
    errors = {error.message for route in routes for error in codec.decode(route).errors}
    assert {error.message for error in together.errors} == errors
    for group in together.announced:
        assert martians(Family.L2VPN_EVPN, group.keys, b"".join(routes)) == martians(Family.L2VPN_EVPN, group.keys)


@pytest.mark.parametrize("field", [TYPE_2[:-1], TYPE_2 + b"\2", TYPE_5 + b"\2\xff" + bytes(9), b"\5"])
def test_a_route_longer_than_the_field_is_malformed_nlri(field):
    with pytest.raises(MalformedNlri):
        EvpnNlri().decode(field)


@given(st.binary(max_size=120))
def test_random_bytes_raise_only_malformed_nlri(field):
    try:
        routes = EvpnNlri().decode(field)
    except MalformedNlri:
        return
    for key, _ in pairs(routes):
        assert parse_key(key).route_type == key[0]


def test_keys_are_parsed_back_into_their_fields():
    assert parse_key(GOLDEN[0][1]) == EvpnRoute(route_type=2, rd=RD, ethernet_tag=5, mac=MAC, ip=b"\x0a\x40\1\5")
    assert parse_key(GOLDEN[3][1]) == EvpnRoute(route_type=5, rd=RD, prefix=b"\x0a\x40\1\0", prefix_length=24)
    assert parse_key(GOLDEN[5][1]) == EvpnRoute(route_type=1, rd=RD, esi=ESI, ethernet_tag=0xFFFFFFFF)
    assert parse_key(GOLDEN[6][1]).originator == b"\x0a\0\0\1"
    assert parse_key(GOLDEN[7][1]).originator == V6
    assert parse_key(GOLDEN[8][1]) == EvpnRoute(route_type=9, opaque=b"abc")


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 11])
def test_the_length_of_one_type_is_none_of_another(kind):
    """A route of another type as long as a well-formed one is what its own type says it is, or unknown."""
    for nlri in (TYPE_2, TYPE_2_MAC_ONLY, TYPE_3, TYPE_5, TYPE_5_V6, b"\1\x19" + RD + bytes(17)):
        if nlri[0] == kind:
            continue
        taken = EvpnNlri().decode(bytes((kind,)) + nlri[1:])
        assert all(key[0] == kind for key, _ in pairs(taken))
        assert all(overlay is None for _, overlay in pairs(taken)) or kind in (1, 2, 5)
