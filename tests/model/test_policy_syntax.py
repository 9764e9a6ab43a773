"""The words of policy rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model import policy_syntax as syntax
from bgpd.model.iana import Family


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("10.0.0.0/8", 8, 8),
        ("10.0.0.0/8 le 24", 8, 24),
        ("10.0.0.0/8 ge 24", 24, 32),
        ("10.0.0.0/8  ge 24 le 26", 24, 26),
        ("2001:db8::/32 ge 64", 64, 128),
    ],
)
def test_prefix_range_has_the_bounds_it_says(text: str, least: int, most: int) -> None:
    found = syntax.parse_prefix_range(text)
    assert (found.least, found.most) == (least, most)
    assert found.family is (Family.IPV6_UNICAST if ":" in text else Family.IPV4_UNICAST)


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8 le 4", "10.0.0.0/8 le 33", "10.0.0.0/8 ge 25 le 24", "10.0.0.1/8", "x", ""]
)
def test_bad_prefix_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        syntax.parse_prefix_range(text)


def test_as_path_condition_is_a_number_or_a_regular_expression() -> None:
    assert syntax.parse_as_path_condition("65201") == 65201
    pattern = syntax.parse_as_path_condition("^65201( |$)")
    assert isinstance(pattern, re.Pattern)
    assert pattern.search("65201 65202")
    with pytest.raises(ValueError, match="not a regular expression"):
        syntax.parse_as_path_condition("(65201")


@pytest.mark.parametrize("text", ["65000", "65536:1", "a:b", "1:2:3", "no-exports"])
def test_bad_community_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        syntax.parse_community(text)


@given(st.integers(0, 0xFFFFFFFF))
def test_community_text_reads_back(value: int) -> None:
    assert syntax.parse_community(syntax.format_community(value)) == value


@given(st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 3))
def test_large_community_text_reads_back(value: tuple[int, int, int]) -> None:
    assert syntax.parse_large_community(syntax.format_large_community(value)) == value


@given(st.binary(min_size=8, max_size=8) | st.binary(min_size=6, max_size=6).map(lambda rest: b"\0\x02" + rest))
def test_extended_community_text_reads_back(value: bytes) -> None:
    assert syntax.parse_extended_community(syntax.format_extended_community(value)) == value


@pytest.mark.parametrize("text", ["65000:1", "rt:65000", "rt:65000:4294967296", "xx:1:2", "00"])
def test_bad_extended_community_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        syntax.parse_extended_community(text)
