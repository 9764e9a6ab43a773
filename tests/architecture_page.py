"""What docs/architecture.md says of the three journeys, as tests read it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
MOST = {
    "An UPDATE becomes a kernel route": 20,
    "A claim becomes the leaf's route": 18,
    "A configuration value takes effect": 20,
}
"""The journeys, and how many files each may pass."""


def section(journey: str) -> str:
    """The text of a journey's section."""
    found = re.search(rf"^### {re.escape(journey)}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no section {journey}"
    return found[1]


def passed(journey: str) -> list[str]:
    """The files of its table, in order."""
    return re.findall(r"^\| \d+ \| `([^`]+)` \|", section(journey), re.MULTILINE)


def named(journey: str) -> set[str]:
    """All files that its section names."""
    return set(re.findall(r"`(bgpd/[\w/]+\.py)`", section(journey)))
