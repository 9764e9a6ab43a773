"""Communities as text, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model import policy_syntax as communities


@given(st.integers(0, 0xFFFFFFFF))
def test_community_round_trip(value: int) -> None:
    assert communities.parse_community(communities.format_community(value)) == value


@given(st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 3))
def test_large_community_round_trip(value: tuple[int, int, int]) -> None:
    assert communities.parse_large_community(communities.format_large_community(value)) == value


@given(st.binary(min_size=8, max_size=8) | st.binary(min_size=6, max_size=6).map(lambda rest: b"\2\3" + rest))
def test_extended_community_round_trip(value: bytes) -> None:
    assert communities.parse_extended_community(communities.format_extended_community(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rt:65000:7", b"\0\2\xfd\xe8\0\0\0\7"),
        ("soo:10.0.0.1:7", b"\1\3\x0a\0\0\1\0\7"),
        ("rt:4200000000:7", b"\2\2\xfa\x56\xea\0\0\7"),
    ],
)
def test_extended_community_text(text: str, value: bytes) -> None:
    assert communities.parse_extended_community(text) == value
    assert communities.format_extended_community(value) == text
