import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.notification import (
    decode_communication,
    describe_notification,
    encode_communication,
    unwrap_hard_reset,
    wrap_hard_reset,
)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60))
def test_shutdown_communication_round_trip(text):
    assert decode_communication(encode_communication(text)) == text


def test_a_long_text_is_cut_between_characters():
    data = encode_communication("é" * 200)
    assert (data[0], len(data)) == (254, 255)


@pytest.mark.parametrize("data", [b"", b"\5abc", b"\0"])
def test_malformed_communications_are_empty(data):
    assert decode_communication(data) == ""


def test_control_characters_and_bad_utf_8_are_replaced():
    assert decode_communication(b"\4a\nb\xff") == "a\ufffdb\ufffd"


def test_a_hard_reset_in_a_hard_reset_is_named_and_not_opened():
    assert describe_notification(6, 9, bytes((6, 9)) * 30_000) == "cease/hard-reset (cease/hard-reset)"
    assert describe_notification(6, 9, bytes((6, 9, 6, 2))) == "cease/hard-reset (cease/hard-reset)"


def test_hard_reset_wraps_and_unwraps():
    assert unwrap_hard_reset(6, 9, wrap_hard_reset(2, b"\2hi")) == (6, 2, b"\2hi")
    assert unwrap_hard_reset(6, 9, b"") == (6, 9, b"")
    assert unwrap_hard_reset(6, 2, b"\6\3") == (6, 2, b"\6\3")


@pytest.mark.parametrize(
    ("notification", "text"),
    [
        ((6, 2, b"\2hi"), "cease/administrative-shutdown: hi"),
        ((6, 9, b"\6\3"), "cease/hard-reset (cease/peer-deconfigured)"),
        ((6, 9, b""), "cease/hard-reset"),
        ((4, 0, b""), "hold-timer-expired"),
        ((5, 0, b""), "finite-state-machine/unspecified"),
        ((2, 2, b""), "open-message/bad-peer-as"),
        ((6, 99, b""), "cease/99"),
        ((99, 1, b""), "error 99/1"),
        ((1, 2, b"\x10\x01"), "message-header/bad-message-length: 4097 bytes"),
        ((1, 3, b"\x09"), "message-header/bad-message-type: type 9"),
        ((2, 1, b"\0\4"), "open-message/unsupported-version: version 4 is spoken"),
        ((2, 2, b"\xfe\xb3"), "open-message/bad-peer-as: AS 65203"),
        (
            (2, 7, bytes.fromhex("0104001900464600")),
            "open-message/unsupported-capability: multiprotocol l2vpn-evpn, enhanced-route-refresh",
        ),
        ((2, 7, b"\xc8\0\1"), "open-message/unsupported-capability: capability 200"),
        ((2, 7, b"\1"), "open-message/unsupported-capability: 01"),
        ((3, 3, b"\x02"), "update-message/missing-well-known-attribute: attribute as-path"),
        (
            (3, 5, bytes.fromhex("4001020000")),
            "update-message/attribute-length-error: attribute origin, flags 0x40, value 0000",
        ),
        ((3, 1, b"\x50\x02"), "update-message/malformed-attribute-list: attribute as-path, flags 0x50"),
        ((5, 3, b"\2"), "finite-state-machine/unexpected-in-established: UPDATE received"),
        ((6, 1, bytes.fromhex("00010100000064")), "cease/maximum-prefixes: ipv4-unicast, at most 100 prefixes"),
        ((6, 5, b"\xaa" * 20), f"cease/connection-rejected: {'aa' * 16}... (20 bytes)"),
    ],
)
def test_notifications_are_described(notification, text):
    assert describe_notification(*notification) == text
