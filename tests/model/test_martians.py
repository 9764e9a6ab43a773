"""Which prefixes are martians: equal to a block or inside it, whatever the other keys of a field are."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.iana import Family
from bgpd.model.martians import BLOCKS, martians
from bgpd.model.prefix import key_of, parse_prefix

RD = b"\0\0\xfe\xb1\0\0\0\1"
MAC = bytes.fromhex("020000000001")


def block_of(text: str) -> str:
    family, key = parse_prefix(text)
    found = martians(family, [key], key)
    return found[0][1].prefix if found else ""


@pytest.mark.parametrize(
    ("prefix", "block"),
    [
        ("0.0.0.0/8", "0.0.0.0/8"),
        ("0.0.0.0/32", "0.0.0.0/8"),
        ("0.1.0.0/16", "0.0.0.0/8"),
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("127.0.0.53/32", "127.0.0.0/8"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("169.254.169.254/32", "169.254.0.0/16"),
        ("224.0.0.0/4", "224.0.0.0/4"),
        ("239.255.255.255/32", "224.0.0.0/4"),
        ("240.0.0.0/4", "240.0.0.0/4"),
        ("255.255.255.255/32", "240.0.0.0/4"),
        ("::/128", "::/128"),
        ("::1/128", "::1/128"),
        ("::ffff:0:0/96", "::ffff:0:0/96"),
        ("::ffff:10.0.0.1/128", "::ffff:0:0/96"),
        ("fe80::/10", "fe80::/10"),
        ("fe80::/64", "fe80::/10"),
        ("febf:ffff::1/128", "fe80::/10"),
        ("ff00::/8", "ff00::/8"),
        ("ff02::1/128", "ff00::/8"),
    ],
)
def test_inside_a_block_is_a_martian(prefix, block):
    assert block_of(prefix) == block


@pytest.mark.parametrize(
    "prefix",
    [
        "0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/7", "126.0.0.0/7", "128.0.0.0/1", "169.0.0.0/8", "169.253.0.0/16",
        "169.254.0.0/15", "192.0.0.0/2", "224.0.0.0/3", "1.0.0.0/8", "223.255.255.255/32",
        "::/0", "::/1", "::/127", "::2/128", "::/95", "::fffe:0:0/96", "fe00::/9", "fec0::/10", "fe00::/7", "fc00::/7",
    ],
)  # fmt: skip
def test_what_covers_a_block_or_lies_beside_it_is_none(prefix):
    assert block_of(str(ipaddress.ip_network(prefix, strict=False))) == ""


def reference(family: Family, key: bytes) -> bool:
    size = 4 if family is Family.IPV4_UNICAST else 16
    network = ipaddress.ip_network((key[1:].ljust(size, b"\0"), key[0]))
    return any(network.subnet_of(ipaddress.ip_network(block.prefix)) for block in BLOCKS[family])


@st.composite
def keys(draw):
    family = draw(st.sampled_from((Family.IPV4_UNICAST, Family.IPV6_UNICAST)))
    bits = 32 if family is Family.IPV4_UNICAST else 128
    starts = [ipaddress.ip_network(block.prefix).network_address.packed for block in BLOCKS[family]]
    address = st.one_of(
        st.binary(min_size=bits // 8, max_size=bits // 8),
        st.builds(lambda start, at, value: start[:at] + bytes((value,)) + start[at + 1 :],
                  st.sampled_from(starts), st.integers(0, bits // 8 - 1), st.integers(0, 255)),
        st.sampled_from(starts),
    )  # fmt: skip
    length = draw(st.one_of(st.none(), st.integers(0, bits)))
    made = draw(st.lists(st.tuples(address, st.integers(0, bits)), min_size=1, max_size=8))
    networks = [ipaddress.ip_network((one, own if length is None else length), strict=False) for one, own in made]
    return family, [key_of(network) for network in networks]


@given(keys())
def test_agrees_with_the_list_for_every_mixture_of_keys(drawn):
    family, made = drawn
    expected = [key for key in made if reference(family, key)]
    assert [key for key, _block in martians(family, made, b"".join(made))] == expected
    assert [key for key, _block in martians(family, made)] == expected


def test_evpn_routes_are_told_by_their_ip_prefix():
    type5 = [prefix_key(RD, prefix=bytes((first, 0, 0, 0)), prefix_length=24) for first in (10, 127, 240)]
    assert [key for key, _ in martians(Family.L2VPN_EVPN, type5)] == type5[1:]
    type5 = [prefix_key(RD, prefix=bytes(16), prefix_length=length) for length in (0, 1, 96, 128)]
    assert [key for key, _ in martians(Family.L2VPN_EVPN, type5)] == type5[3:]
    type2 = [mac_ip_key(RD, mac=MAC, ip=bytes((first, 0, 0, 1))) for first in (10, 127, 224)]
    assert [key for key, _ in martians(Family.L2VPN_EVPN, type2)] == type2[1:]
    assert martians(Family.L2VPN_EVPN, [mac_ip_key(RD, mac=MAC)]) == []
    assert martians(Family.L2VPN_EVPN, [mac_ip_key(RD, mac=MAC, ip=b"\xfe\x80" + bytes(13) + b"\1")]) == []
    assert len(martians(Family.L2VPN_EVPN, [mac_ip_key(RD, mac=MAC, ip=bytes(15) + b"\1")])) == 1
    assert martians(Family.L2VPN_EVPN, [b"\x03" + RD + bytes(9)]) == []
