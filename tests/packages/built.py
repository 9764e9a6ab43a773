"""Copies of what packages are built from, and what is built of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("bgpd", "conf", "docs", "packages", "systemd"),
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "hatch_build.py", "pyproject.toml"),
    *("requirements-build.lock", "requirements-host.lock"),
)


def copy_sources(to: Path) -> Path:
    """As in a clone without git's own files, made a moment ago."""
    to.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, to / name, ignore=ignored, copy_function=shutil.copy)
        else:
            shutil.copy(source, to / name)
    return to


def build(project: Path, into: Path, **environment: str) -> list[Path]:
    """Sdist and wheel; plain Python, since no compiler is found."""
    into.mkdir()
    environ = {**os.environ, "PATH": str(tools_without_compiler(into.parent)), **environment}
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(into)]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(into.iterdir())


def tools_without_compiler(folder: Path) -> Path:
    """A PATH that has git and nothing else."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    found = shutil.which("git")
    if found and not (tools / "git").exists():
        (tools / "git").symlink_to(found)
    return tools


def make_deb(folder: Path) -> Path:
    """The Debian package of a copy of the sources there."""
    sources = copy_sources(folder / "sources")
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [str(sources / "packages/build-deb"), str(folder / "into")]
    done = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.split()[-1])
