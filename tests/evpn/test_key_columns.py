"""Many keys at once are cut as each alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.evpn.key_columns import HEAD, common_head, host_prefixes, ip_prefixes, split_by_head
from bgpd.model.evpn import mac_ip_key, parse_key, prefix_key

RDS = [bytes((0, 1, 10, 0, 0, host, 0, vrf)) for host in (1, 2) for vrf in (1, 2)]
BYTE = st.sampled_from([0, 1, 255])
HOSTS = st.builds(
    lambda rd, mac, ip, tag: mac_ip_key(rd, mac=bytes(5) + bytes((mac,)), ip=ip, ethernet_tag=tag),
    st.sampled_from(RDS),
    BYTE,
    st.one_of(
        st.just(b""), BYTE.map(lambda last: bytes((10, 0, 0, last))), BYTE.map(lambda last: bytes(15) + bytes((last,)))
    ),
    st.sampled_from([0, 7]),
)
PREFIXES = st.builds(
    lambda rd, length, size: prefix_key(rd, prefix=b"\x20" + bytes(size - 1), prefix_length=min(length, size * 8)),
    st.sampled_from(RDS),
    st.integers(0, 128),
    st.sampled_from([4, 16]),
)


@given(st.lists(st.one_of(HOSTS, PREFIXES), min_size=1, max_size=12))
def test_keys_are_split_by_head_and_length_in_their_order(keys: list[bytes]) -> None:
    parts = split_by_head(keys)
    kinds = list(dict.fromkeys((key[:HEAD], len(key)) for key in keys))
    assert parts == [(head, [key for key in keys if (key[:HEAD], len(key)) == (head, size)]) for head, size in kinds]
    assert common_head(keys) == (keys[0][:HEAD] if len(kinds) == 1 else b"")


@given(st.lists(HOSTS.filter(lambda key: len(key) > 19), min_size=1, max_size=6))
def test_host_prefixes_are_the_addresses_of_type_2_routes(keys: list[bytes]) -> None:
    for _, alike in split_by_head(keys):
        ips = [parse_key(key).ip for key in alike]
        assert host_prefixes(alike) == [bytes((8 * len(ip),)) + ip for ip in ips]


@given(st.lists(PREFIXES, min_size=1, max_size=6))
def test_prefixes_of_type_5_routes_have_their_significant_bytes(keys: list[bytes]) -> None:
    routes = [parse_key(key) for key in keys]
    assert ip_prefixes(keys) == [
        bytes((route.prefix_length,)) + route.prefix[: (route.prefix_length + 7) // 8] for route in routes
    ]


def test_bytes_that_look_like_a_head_where_keys_of_other_lengths_stand_are_none() -> None:
    """Two keys whose bytes, one after the other, have the head of the first at each multiple of its length."""
    short = mac_ip_key(RDS[0], mac=bytes(6))
    odd = mac_ip_key(RDS[1], mac=bytes(6), ip=bytes(4))
    assert common_head([short, short[:-1], odd]) == b""
