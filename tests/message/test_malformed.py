"""Each rule of the RFCs about malformed messages, and that there is none without a case."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bgpd.message
from bgpd.message.attribute_rules import rules_for
from bgpd.model.iana import AttributeType, FsmSubcode, HeaderSubcode, OpenSubcode, UpdateSubcode
from bgpd.model.wire import Reaction
from tests.message.decoding import negotiated
from tests.message.malformed import CASES, ELSEWHERE, RFCS, Answer, Case, Elsewhere, answer, by_rfc

MODULES = sorted(Path(bgpd.message.__file__).parent.glob("*.py"))
SECTION = re.compile(r"RFC \d+ section \d+(\.\d+)*( [a-z])?")
OF_THE_REPORT = {"RFC 4271 section 4.1", "RFC 4271 section 6.1", "RFC 4271 section 6.2", "RFC 7313 section 5"}
"""Sections of errors that end a session before or beside UPDATEs: the connection has them as NOTIFICATIONs."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_malformed_costs_what_the_rfc_says(case: Case) -> None:
    found = answer(case)
    assert (found.reaction, found.notification) == (case.reaction, case.notification), found
    if found.sections:
        assert case.rfc in found.sections


def answers() -> Iterator[tuple[Case, Answer]]:
    for case in CASES:
        yield case, answer(case)


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_each_attribute_has_cases_of_its_value_and_of_its_flags() -> None:
    flags = {case.about for case in CASES if case.what in ("flags", "not transitive")}
    values = {case.about for case in CASES} - {
        about for about in flags if all(case.what == "flags" for case in CASES if case.about == about)
    }
    known = {AttributeType(kind).name for kind in rules_for(negotiated())}
    assert known - flags == known - values == set()
    for case, found in answers():
        if case.about in known:
            assert case.about in found.attributes, case.name


def test_each_rfc_is_there() -> None:
    named = by_rfc()
    assert set(RFCS) - set(named) == set()
    assert sum(named[7606].values()) > 70
    assert named[4456] == {"": 1}, "its attributes have their malformed form and its cost in RFC 7606"


def test_each_section_that_the_code_names_for_an_error_has_a_case() -> None:
    named = {
        node.value
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SECTION.fullmatch(node.value)
    }
    assert len(named) > 30
    seen = {section for _, found in answers() for section in found.sections}
    assert named - seen - OF_THE_REPORT == set()


def test_each_notification_that_an_error_is_answered_with_has_a_case() -> None:
    """What a route must have is asked for only where there is one, which is withdrawn then: never 3/3."""
    seen = {found.notification for _, found in answers()} - {None}
    codes = {(1, int(one)) for one in HeaderSubcode} | {(2, int(one)) for one in OpenSubcode}
    codes |= {(5, int(one)) for one in FsmSubcode if one} | {(7, 1)}
    codes |= {(3, int(one)) for one in UpdateSubcode if one is not UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE}
    assert seen == codes


@pytest.mark.parametrize("case", [one for one in CASES if one.reaction is Reaction.SESSION_RESET], ids=lambda c: c.name)
def test_a_reset_has_its_notification(case: Case) -> None:
    assert case.notification is not None


@pytest.mark.parametrize("row", ELSEWHERE, ids=lambda row: row.what)
def test_what_is_proved_elsewhere_is_proved_there(row: Elsewhere) -> None:
    name, _, function = row.test.partition("::")
    tree = ast.parse((Path(__file__).parents[2] / name).read_text())
    assert function in {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
