"""The installer of Debian packages: does nothing when all are there, and says what is missing before it needs root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LABS = Path(__file__).parents[2] / "labs"


def packages() -> list[str]:
    lines = (LABS / "debian-packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def run(directory: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the installer with some programs replaced by shell scripts, and an apt-get that must not be called."""
    for name, script in {"apt-get": "echo apt-get was called; exit 9", **programs}.items():
        path = directory / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
    return subprocess.run(
        [LABS / "install-packages"], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_nothing_is_installed_when_all_packages_are_there(tmp_path: Path) -> None:
    done = run(tmp_path, dpkg_query="printf installed")
    assert (done.returncode, done.stdout) == (0, "Debian packages: all there\n")


def test_without_root_the_missing_packages_are_named(tmp_path: Path) -> None:
    done = run(tmp_path, dpkg_query='[ "$4" = frr ] || printf installed', id="echo 1000")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("needs root: frr")


def test_list_is_sorted_and_free_of_duplicates() -> None:
    assert packages() == sorted(set(packages()))
