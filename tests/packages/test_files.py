"""What packages are made from: scripts that a shell takes, files that are there, an image as closed as it says."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages.built import ROOT
from tests.packages.image import instructions

PACKAGES = ROOT / "packages"
SCRIPTS = [
    PACKAGES / "build-deb",
    *(PACKAGES / "debian" / name for name in ("changelog", "preinst", "postinst", "prerm", "postrm")),
]
DOCKERFILES = [PACKAGES / "image/Dockerfile", ROOT / "labs/containerlab/Dockerfile"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shell_takes_each_script(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    first, *lines = script.read_text().splitlines()
    assert first == "#!/bin/sh"
    assert any(re.match(r"set -eu?$", line) for line in lines), "a failed step ends it"


def test_every_file_that_the_package_installs_is_there() -> None:
    script = (PACKAGES / "build-deb").read_text()
    named = re.findall(r"(?<![\w/])((?:conf|systemd)/[\w./-]+\w)", script)
    assert "conf/tmpfiles.d/bgpd.conf" in named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_no_file_beside_the_program_is_forgotten() -> None:
    """Of conf/ and systemd/ the package has all that `make install` has, and the examples."""
    script = (PACKAGES / "build-deb").read_text()
    for file in (*(ROOT / "conf").rglob("*"), *(ROOT / "systemd").glob("*.service")):
        name = str(file.relative_to(ROOT))
        if file.is_file():
            assert name in script or f"{Path(name).parent}/*" in script, f"{name} is not in the Debian package"


def test_changelog_is_in_debian_s_form() -> None:
    command = [str(PACKAGES / "debian/changelog"), "1.2.3-1", "1700000000"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("bgpd (1.2.3-1) stable; urgency=medium\n\n  * ")
    assert " -- bgpd maintainers <maintainers@bgpd.example>  Tue, 14 Nov 2023 22:13:20 +0000\n" in said
    if shutil.which("dpkg-parsechangelog"):
        parse = ["dpkg-parsechangelog", "--all", "-l", "-"]
        done = subprocess.run(parse, input=said, capture_output=True, text=True, check=True)
        assert (done.stderr, "Version: 1.2.3-1\n" in done.stdout) == ("", True)


def taken(name: str) -> bool:
    """Whether .dockerignore lets a file of the repository into the build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    found = True
    for pattern in patterns:
        wanted = pattern.startswith("!")
        if fnmatch.fnmatch(name, pattern.lstrip("!")) or name.startswith(f"{pattern.lstrip('!')}/"):
            found = wanted
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_image_is_built_from_files_that_are_there_and_not_ignored(file: Path) -> None:
    for name, words in instructions(file.read_text()):
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert taken(source.removeprefix("./")), f".dockerignore keeps {source} out"
    assert not taken("tests/conftest.py")
    assert not taken(".git/config")


def test_image_is_pinned_and_runs_as_a_user_of_its_own() -> None:
    found = instructions((PACKAGES / "image/Dockerfile").read_text())
    for words in (words for name, words in found if name == "FROM"):
        assert re.match(r"debian:\d+\.\d+-slim( AS \w+)?$", words), "a base by its full version"
    last = [name for name, _ in found]
    assert ("USER", "179:179") in found, "as numbers, by which Kubernetes sees that it is not root"
    assert "RUN" not in last[last.index("USER") :], "nothing is done after it"
    for words in (words for name, words in found if name == "RUN" and "apt-get" in words):
        assert "--no-install-recommends" in words
        assert "rm -rf /var/lib/apt/lists/*" in words
