"""The words of policy rules."""

from __future__ import annotations

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
    assert isinstance(pattern, syntax.AsPathPattern)
    assert pattern.matches("65201 65202")
    assert not pattern.matches("652011")
    with pytest.raises(ValueError, match="not a regular expression"):
        syntax.parse_as_path_condition("(65201")


@pytest.mark.parametrize("text", [r"^(65\d+ ?)+$", r"^((65\d+)* ?)*$", r"(.*)*9$", r"(\d+|\d+ |65\d)+$"])
def test_path_that_only_nearly_matches_is_answered_in_linear_time(text: str) -> None:
    """A matcher that goes back and tries again takes years for these; the neighbor chooses the path."""
    pattern = syntax.parse_as_path_condition(text)
    assert isinstance(pattern, syntax.AsPathPattern)
    assert not pattern.matches(" ".join(["65001"] * syntax.LONGEST_MATCHED_PATH) + " x")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (r"(65\d+) \1", "backreference"),
        ("(?=65201)", "lookaround"),
        ("(?!65201)", "lookaround"),
        ("65201(?<=1)", "lookaround"),
        ("65201(?<!1)", "lookaround"),
        ("(?>65201)", "linear time"),
        ("((6{100}){100}){100}", "linear time"),
        ("[0-9 ]{500}[1-9 ]{500}.*[0-9]{500}" * 20, "pattern too large"),
        ("([0-9 ]*1[0-9 ]{90}){8}", "instructions of RE2, at most 512"),
        ("^" + "6" * 1024, "1025 characters: at most 1024"),
    ],
)
def test_expression_without_a_linear_matcher_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        syntax.parse_as_path_condition(text)


def test_number_of_thousands_of_digits_is_refused_with_its_range() -> None:
    for parse in (syntax.parse_as_path_condition, lambda text: syntax.parse_community(f"1:{text}")):
        with pytest.raises(ValueError, match="must be a number from 0 to"):
            parse("9" * 5000)


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
