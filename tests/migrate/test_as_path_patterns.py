"""AS path patterns of FRR and GoBGP: what they match, the converted ones do."""

from __future__ import annotations

import re

import pytest

from bgpd.migrate.as_path_patterns import without_delimiters
from bgpd.migrate.filters import Inexpressible
from bgpd.model.policy_syntax import parse_as_path_condition


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("^65201_[0-9]+$", "65201 64512", True),
        ("^65201_[0-9]+$", "65201", False),
        ("_65201_64512_", "65100 65201 64512", True),
        ("_65201_64512_", "65201 645123", False),
        ("_64512_", "65201 64512 65300", True),
        ("_64512_", "65201 164512", False),
        ("_6451[2-9]_", "64515", True),
        ("_6451[2-9]_", "645151", False),
        ("4512", "65201 64512", True),
        ("(_|^)64512($|_)", "65201 64512", True),
        ("_.*", "", True),
        ("^$", "", True),
        ("_65300$", "65201 65300", True),
        ("_64512_", "65201 {64512,64513}", True),
        ("^65201_64512", "65201 {64512}", False),
    ],
)
def test_underscore_of_an_as_path_pattern_is_a_delimiter(pattern: str, path: str, matches: bool) -> None:
    """As FRR has it: "(^|[,{}() ]|$)"."""
    assert bool(re.search(without_delimiters(pattern), path)) is matches
    parse_as_path_condition(without_delimiters(pattern) if pattern != "4512" else f"({pattern})")
    assert bool(re.search(pattern.replace("_", "(^|[,{}() ]|$)"), path)) is matches


@pytest.mark.parametrize("pattern", ["[_ ]1", "1\\_2", "[^_]2"])
def test_underscore_of_a_class_cannot_be_said(pattern: str) -> None:
    with pytest.raises(Inexpressible):
        without_delimiters(pattern)
