"""Route distinguishers and route targets: all three forms, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.communities import (
    automatic_route_distinguisher,
    format_route_distinguisher,
    format_route_target,
    is_route_target,
    parse_route_distinguisher,
    parse_route_target,
)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("65201:5001", "0002feb100001389"),
        ("10.0.0.1:5001", "01020a0000011389"),
        ("4200000000:5", "0202fa56ea000005"),
        ("65000L:5", "02020000fde80005"),
    ],
)
def test_route_target_forms_have_their_wire_bytes(text: str, wire: str) -> None:
    assert parse_route_target(text).hex() == wire
    assert format_route_target(bytes.fromhex(wire)) == text
    assert is_route_target(bytes.fromhex(wire))


@pytest.mark.parametrize(
    "text", ["", "1", "a:1", "1:a", "70000:70000", "1.2.3:4", "1.2.3.4:70000", "1:4294967296", "-1:1"]
)
def test_what_is_no_route_target_is_refused_with_the_text_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="route target") as refused:
        parse_route_target(text)
    assert f'"{text}"' in str(refused.value)


@given(st.binary(min_size=6, max_size=6), st.sampled_from([0, 1, 2]))
def test_route_distinguisher_text_round_trips(value: bytes, form: int) -> None:
    packed = form.to_bytes(2, "big") + value
    text = format_route_distinguisher(packed)
    again = parse_route_distinguisher(text)
    assert again == packed


def test_automatic_route_distinguisher_is_router_id_and_table() -> None:
    assert format_route_distinguisher(automatic_route_distinguisher(bytes((10, 0, 0, 1)), 1001)) == "10.0.0.1:1001"
    with pytest.raises(ValueError, match="set rd"):
        automatic_route_distinguisher(bytes(4), 70000)
