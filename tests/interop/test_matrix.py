"""The page of the matrix says what the tests' marks say."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.interop.matrix import CANNOT, FEATURES, PAGE, SPEAKERS, TESTS, page, proofs


def test_page_is_the_one_that_the_marks_make() -> None:
    assert PAGE.read_text() == page(), "python -m tests.interop.matrix"


def test_marks_and_reasons_have_names_that_there_are() -> None:
    named = {(proof.speaker, proof.feature) for proof in proofs()}
    named |= {(speaker, feature) for speaker, reasons in CANNOT.items() for feature in reasons}
    assert {speaker for speaker, _ in named} == set(SPEAKERS)
    assert {feature for _, feature in named} <= set(FEATURES)


def test_nothing_is_shown_that_the_speaker_is_said_not_to_do() -> None:
    assert [proof for proof in proofs() if proof.feature in CANNOT.get(proof.speaker, {})] == []


def test_each_speaker_is_shown_something_and_by_a_test_in_namespaces() -> None:
    found = proofs()
    assert {proof.speaker for proof in found} == set(SPEAKERS)
    for file in {proof.test.partition("::")[0] for proof in found}:
        assert "\npytestmark = pytest.mark.netns\n" in (TESTS.parent / file).read_text(), file


@pytest.mark.parametrize("package", [package for speaker in SPEAKERS.values() for package in speaker.packages])
def test_version_is_the_installed_one(package: str) -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("no Debian")
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.split()
    if asked[:1] != ["installed"]:
        pytest.skip(f"{package} is not installed")
    said = next(speaker.packages[package] for speaker in SPEAKERS.values() if package in speaker.packages)
    assert asked[1].startswith(said)
    assert package in Path(TESTS.parent / "labs/debian-packages.txt").read_text().split()


def test_version_of_exabgp_is_the_locked_one() -> None:
    assert SPEAKERS["ExaBGP"].version == version("exabgp")
