"""Sdist and wheel: complete, the same bytes whenever and wherever they are built, and installed by pip without a
compiler."""

from __future__ import annotations

import email
import email.message
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from trove_classifiers import classifiers

from bgpd import __version__
from tests.packages.built import ROOT, build, copy_sources, tools_without_compiler

WHEEL = f"bgpd-{__version__}-py3-none-any.whl"
SDIST = f"bgpd-{__version__}.tar.gz"
ME = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both."""
    folder = tmp_path_factory.mktemp("built")
    found = build(copy_sources(folder / "sources"), folder / "dist")
    assert [file.name for file in found] == [WHEEL, SDIST]
    return folder / "dist"


def test_two_builds_have_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """In another folder, later, by a user with another umask."""
    before = os.umask(0o077)
    try:
        again = build(copy_sources(tmp_path / "elsewhere"), tmp_path / "dist", TZ="Pacific/Auckland", LC_ALL="C")
    finally:
        os.umask(before)
    for file in again:
        assert file.read_bytes() == (built / file.name).read_bytes(), file.name


def metadata(built: Path) -> email.message.Message:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        return email.message_from_bytes(wheel.read(f"bgpd-{__version__}.dist-info/METADATA"))


def test_metadata_is_complete(built: Path) -> None:
    found = metadata(built)
    assert (found["Name"], found["Version"]) == ("bgpd", __version__)
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    assert found["Requires-Python"] == ">=3.11"
    named = found.get_all("Classifier") or []
    assert named
    assert set(named) <= classifiers
    needed = {re.split(r"[^\w-]", line)[0] for line in found.get_all("Requires-Dist") or [] if "extra ==" not in line}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-host.lock").read_text(), re.MULTILINE)
    assert needed <= set(pinned)


def test_wheel_has_all_that_is_no_python(built: Path) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        names = set(wheel.namelist())
    page = {
        str(path.relative_to(ROOT)) for path in (ROOT / "bgpd").rglob("*") if path.suffix not in (".py", ".pyc", "")
    }
    assert "bgpd/page/index.html" in page
    share = f"bgpd-{__version__}.data/data/share/bgpd"
    conf = {f"{share}/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*") if path.is_file()}
    units = {f"{share}/systemd/{path.name}" for path in (ROOT / "systemd").glob("*.service")}
    assert f"{share}/conf/dashboard.json" in conf
    assert page | conf | units <= names
    assert f"bgpd-{__version__}.dist-info/licenses/LICENSE" in names


def test_sdist_has_what_the_wheel_and_make_install_are_built_from(built: Path) -> None:
    with tarfile.open(built / SDIST) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {
        "Makefile",
        "LICENSE",
        "hatch_build.py",
        "requirements-host.lock",
        "systemd/build-wheel",
        "bgpd/daemon.py",
    }
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests/", "labs/", "benchmarks/"))]


@pytest.mark.parametrize("name", [WHEEL, SDIST])
def test_pip_installs_it_into_a_bare_environment_without_a_compiler(built: Path, name: str, tmp_path: Path) -> None:
    """Libraries are those of this environment: what pip would fetch is tested with the Debian package."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next(venv.glob("lib/python3*/site-packages"))
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    tools = {"PATH": str(tools_without_compiler(tmp_path)), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-build-isolation", "--ignore-installed", str(built / name)]
    done = subprocess.run(command, env=tools, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bgpd, share = str(venv / "bin/bgpd"), venv / "share/bgpd"
    said = subprocess.run([bgpd, "--version"], env=tools, capture_output=True, text=True, check=True).stdout
    assert said == f"bgpd {__version__} (plain)\n"
    subprocess.run([bgpd, "check", str(share / "conf/bgpd.toml")], env=tools, check=True)
    assert (share / "systemd/bgpd.service").exists()


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hatch_build.py, for a repository of its own."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "bgpd").mkdir()
    (tmp_path / "bgpd/__init__.py").write_text('"""bgpd."""\n\n__version__ = "0.9.0"\n')
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def commit(folder: Path, *words: str) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *ME, *arguments], cwd=folder, check=True, capture_output=True)

    if not (folder / ".git").exists():
        git("init")
    git("add", ".")
    git("commit", "--allow-empty", "-m", "one more")
    if words:
        git("tag", *words)


def test_version_is_the_tag_s(hook: ModuleType, tmp_path: Path) -> None:
    commit(tmp_path, "v1.2.3")
    assert hook.version() == "1.2.3"
    commit(tmp_path)
    assert re.fullmatch(r"1\.2\.3\.post1\+g[0-9a-f]{8}", hook.version())
    (tmp_path / "bgpd/__init__.py").write_text('__version__ = "0.9.1"\n')
    assert re.fullmatch(r"1\.2\.3\.post1\+g[0-9a-f]{8}\.dirty", hook.version())
    commit(tmp_path, "-m", "signed or not", "-a", "v1.3.0rc1")
    assert hook.version() == "1.3.0rc1"


def test_other_tags_are_no_versions(hook: ModuleType, tmp_path: Path) -> None:
    commit(tmp_path, "before-the-move")
    assert re.fullmatch(r"0\.9\.0\.dev1\+g[0-9a-f]{8}", hook.version())


def test_without_tags_and_without_git_there_is_a_version(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hook.version() == "0.9.0"
    commit(tmp_path)
    commit(tmp_path)
    assert re.fullmatch(r"0\.9\.0\.dev2\+g[0-9a-f]{8}", hook.version())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.version() == "0.9.0"


def test_copy_of_the_sources_below_another_repository_has_not_its_version(hook: ModuleType, tmp_path: Path) -> None:
    commit(tmp_path, "v7.0.0")
    (tmp_path / "copy/bgpd").mkdir(parents=True)
    (tmp_path / "copy/bgpd/__init__.py").write_text('__version__ = "0.9.0"\n')
    hook.ROOT = tmp_path / "copy"
    assert hook.version() == "0.9.0"


def test_each_release_has_its_section_in_the_changelog() -> None:
    command = ["git", "-c", f"safe.directory={ROOT}", "tag", "--list", "v[0-9]*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert {tag.removeprefix("v") for tag in done.stdout.split()} <= set(sections)
