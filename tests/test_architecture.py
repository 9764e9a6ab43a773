"""The architecture page names only what there is, and each package and floor that there is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec
import pytest

from bgpd.evpn.mac_mobility import SavedMoves
from bgpd.fib.saved import SavedKernelTable
from bgpd.handover.snapshot import VERSION
from bgpd.inheritance import SavedDaemon
from bgpd.model.containers import PART_OF
from bgpd.rib.saved import SavedRib
from bgpd.speaker.saved import SavedSession, SavedSpeaker, SavedWait
from tests.architecture_page import MOST, PAGE, passed
from tests.test_import_rule import ABOVE_ALL, FLOORS

ROOT = Path(__file__).parent.parent


def test_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:bgpd|tests|docs)/[\w/.-]*)`", PAGE)) | {
        f"docs/{link}" for link in re.findall(r"\]\((decisions/[^)]*)\)", PAGE)
    }
    assert {name for name in named if not (ROOT / name).exists()} == set()
    assert len(named) > 60


def test_page_has_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "bgpd").glob("*/__init__.py")}
    assert packages == {part for floor in FLOORS for part in floor} - {"log"} | set(ABOVE_ALL)
    assert {package for package in packages if f"`bgpd/{package}/`" not in PAGE} == set()


def test_names_of_the_code_that_the_page_uses_exist() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "bgpd").rglob("*.py"))
    names = set(re.findall(r"`(?:\w+\.)?(\w+)(?:\(\w+\))?`", PAGE))
    words = set(re.findall(r"\w+", source))
    assert {name for name in names if not any(word.startswith(name) for word in words)} == set()
    assert {"_keep_lowest_rank", "_FOLLOWED", "_SECTIONS"} <= names


@pytest.mark.parametrize(("journey", "most"), MOST.items())
def test_journey_is_as_short_as_it_should_be(journey: str, most: int) -> None:
    files = passed(journey)
    assert 10 < len(files) <= most
    assert len(files) == len(set(files))


SNAPSHOT = (2, "662adcac8a9c08d9")
"""The version of what a process leaves to the next, and the digest of its form: of its values, and of tables."""


def test_form_of_the_snapshot_is_the_one_of_its_version() -> None:
    """An old snapshot must not be read by a new form: the routes of all neighbors would be wrong or gone."""
    form = repr(
        msgspec.inspect.multi_type_info(
            [SavedDaemon, SavedSpeaker, SavedSession, SavedWait, SavedRib, SavedKernelTable, SavedMoves]
        )
    )
    found = VERSION, hashlib.sha256(form.encode() + PART_OF).hexdigest()[:16]
    assert found == SNAPSHOT, (
        "what a process leaves to the next has another form: if the last release had the former one, raise VERSION of "
        f"bgpd/handover/snapshot.py; then SNAPSHOT here is {found}"
    )
