"""The architecture page names only what there is, and each package and floor that there is."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_import_rule import FLOORS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:bgpd|tests|docs)/[\w/.-]*)`", PAGE)) | {
        f"docs/{link}" for link in re.findall(r"\]\((decisions/[^)]*)\)", PAGE)
    }
    assert {name for name in named if not (ROOT / name).exists()} == set()
    assert len(named) > 60


def test_page_has_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "bgpd").glob("*/__init__.py")}
    assert packages == {part for floor in FLOORS for part in floor} - {"log"}
    assert {package for package in packages if f"`bgpd/{package}/`" not in PAGE} == set()


def test_names_of_the_code_that_the_page_uses_exist() -> None:
    decision = (ROOT / "bgpd" / "rib" / "decision.py").read_text()
    assert all(f"{name}(" in decision for name in ("class Step", "class Rule", "def _rank", "def _order"))
