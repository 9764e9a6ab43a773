"""The text of extended communities that EVPN routes carry."""

from __future__ import annotations

import pytest

from bgpd.model.communities import DEFAULT_GATEWAY, VXLAN, format_evpn_community, parse_link_bandwidth


@pytest.mark.parametrize(
    ("community", "text"),
    [
        (bytes.fromhex("0002feb100001389"), "rt:65201:5001"),
        (bytes.fromhex("01020a0000011389"), "rt:10.0.0.1:5001"),
        (bytes.fromhex("0202fa56ea000005"), "rt:4200000000:5"),
        (bytes.fromhex("0600000000000007"), "mac-mobility:7"),
        (bytes.fromhex("06000100ffffffff"), "mac-mobility:4294967295 sticky"),
        (bytes.fromhex("0601010000001389"), "esi-label:5001 single-active"),
        (bytes.fromhex("0603020000000077"), "router-mac:02:00:00:00:00:77"),
        (bytes.fromhex("0608000000000000"), "arp-nd"),
        (bytes.fromhex("06080b0000000000"), "arp-nd router override immutable"),
        (DEFAULT_GATEWAY, "default-gateway"),
        (VXLAN, "encapsulation:vxlan"),
        (bytes.fromhex("030c0000000000ff"), "encapsulation:255"),
        (parse_link_bandwidth("bandwidth:65201:1250000000"), "bandwidth:65201:1250000000"),
        (bytes.fromhex("4004feb14e9502f9"), "bandwidth-non-transitive:65201:1250000000"),
        (bytes.fromhex("8000112233445566"), "8000112233445566"),
    ],
)
def test_each_kind_has_its_text_and_an_unknown_one_its_digits(community: bytes, text: str) -> None:
    assert format_evpn_community(community) == text
