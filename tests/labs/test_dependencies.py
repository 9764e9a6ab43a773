"""What bgpd is built from: which licences go with its own, and which versions are known to be vulnerable."""

from __future__ import annotations

import pytest

from labs import dependencies


def test_nothing_is_wrong_with_what_is_locked() -> None:
    assert not [*dependencies.wrong_licences(), *dependencies.vulnerabilities()]


@pytest.mark.parametrize(
    ("choices", "is_permitted"),
    [
        (["MIT"], True),
        (["Apache-2.0 AND MIT"], True),
        (["GPL-2.0-or-later", "Apache-2.0"], True),
        (["GPL-3.0-only"], False),
        (["MIT AND GPL-3.0-only"], False),
        ([""], False),
    ],
)
def test_licences(choices: list[str], is_permitted: bool) -> None:
    assert dependencies.is_permitted(choices) is is_permitted


def test_each_choice_of_an_expression_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dependencies.is_permitted(dependencies.licences("pyroute2"))
    assert "GPL-2.0-or-later" in dependencies.licences("pyroute2")


def test_version_before_the_fixed_one_is_told() -> None:
    known = {"some-package": [{"id": "CVE-1", "what": "it breaks", "fixed": "2.10"}]}
    assert dependencies.vulnerable("Some_Package", "2.9", known) == ["CVE-1 (it breaks), fixed in 2.10"]
    assert not dependencies.vulnerable("some-package", "2.10", known)
