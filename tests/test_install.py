"""`make install`: where it puts what, which Pythons it refuses and why, and what `make uninstall` takes away."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PREFIX = "/usr/lib/bgpd"
INSTALLED = {
    "usr/local/bin/bgpd",
    "etc/bgpd/bgpd.toml",
    "etc/systemd/system/bgpd.service",
    "etc/systemd/system/bgpd-drain.service",
    "etc/systemd/system/bgpd-bfd.service",
    "etc/sysusers.d/bgpd.conf",
    "etc/sysctl.d/90-bgpd.conf",
    "etc/systemd/networkd.conf.d/90-bgpd.conf",
    "etc/iproute2/rt_protos.d/bgpd.conf",
}


PAGES = {
    "usr/local/share/man/man1/bgpd.1",
    "usr/local/share/man/man1/bgpd-show.1",
    "usr/local/share/man/man5/bgpd.toml.5",
    "usr/local/share/bash-completion/completions/bgpd",
    "usr/local/share/zsh/site-functions/_bgpd",
    "usr/local/share/fish/vendor_completions.d/bgpd.fish",
}
"""Some of what the program makes."""


def make(target: str, root: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(ROOT), target, f"DESTDIR={root}", f"PREFIX={PREFIX}", *variables]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.fixture
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_python", ROOT / "systemd" / "check_python.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_is_below_destdir_and_the_unit_starts_what_is_installed(tmp_path: Path) -> None:
    done = make("install-files", tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == INSTALLED
    unit = (tmp_path / "etc/systemd/system/bgpd.service").read_text()
    assert f"ExecStart={PREFIX}/bin/bgpd run" in unit
    assert f"ExecReload={PREFIX}/bin/bgpd reload" in unit
    assert "/opt/bgpd" not in unit
    drain = (tmp_path / "etc/systemd/system/bgpd-drain.service").read_text()
    assert f"{PREFIX}/bin/bgpd drain on --shutdown" in drain
    assert "/opt/bgpd" not in drain
    bfd = (tmp_path / "etc/systemd/system/bgpd-bfd.service").read_text()
    assert f"ExecStart={PREFIX}/bin/python -I -m bgpd.bfd" in bfd
    assert "/opt/bgpd" not in bfd
    assert str((tmp_path / "usr/local/bin/bgpd").readlink()) == f"{PREFIX}/bin/bgpd"


def test_an_upgrade_keeps_the_configuration(tmp_path: Path) -> None:
    make("install-files", tmp_path)
    config = tmp_path / "etc/bgpd/bgpd.toml"
    config.write_text("# mine\n")
    assert make("install-files", tmp_path).returncode == 0
    assert config.read_text() == "# mine\n"


def test_configuration_begins_without_settings_and_names_the_example(tmp_path: Path) -> None:
    make("install-files", tmp_path)
    text = (tmp_path / "etc/bgpd/bgpd.toml").read_text()
    assert [line for line in text.splitlines() if not line.startswith("#")] == []
    assert f"{PREFIX}/share/bgpd/conf/bgpd.toml" in text


def test_uninstall_leaves_the_configuration_and_nothing_else(tmp_path: Path) -> None:
    make("install-files", tmp_path)
    made = make("install-pages", tmp_path, f"MADE_BY={sys.executable} -m bgpd")
    assert made.returncode == 0, made.stderr
    assert files(tmp_path) >= PAGES
    venv = tmp_path / PREFIX[1:]
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    (venv / "bin/bgpd").touch(mode=0o755)
    done = make("uninstall", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files(tmp_path) == {"etc/bgpd/bgpd.toml"}


def test_uninstall_touches_no_directory_that_is_not_its_own(tmp_path: Path) -> None:
    other = tmp_path / PREFIX[1:]
    (other / "bin").mkdir(parents=True)
    (other / "bin/bgpd").touch(mode=0o755)
    done = make("uninstall", tmp_path)
    assert done.returncode != 0
    assert "PREFIX?" in done.stdout
    assert (other / "bin/bgpd").exists()


def test_a_python_that_the_service_s_user_cannot_use_is_refused_with_the_reason(
    check: ModuleType, tmp_path: Path
) -> None:
    closed = tmp_path / "pyenv" / "bin"
    closed.mkdir(parents=True)
    python = closed / "python3"
    python.touch(mode=0o755)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # pytest's own, and those of its workers
            parent.chmod(0o755)
    prefix = Path("/opt/bgpd")
    assert list(check.problems(prefix, [python], (3, 11, 2))) == []
    (tmp_path / "pyenv").chmod(0o700)
    (problem,) = check.problems(prefix, [python], (3, 11, 2))
    assert str(tmp_path / "pyenv") in problem
    assert "mode 700" in problem


@pytest.mark.parametrize("place", ["/root/.pyenv/versions/3.11.7/bin/python3.11", "/home/me/python/bin/python3"])
def test_a_python_in_somebody_s_home_is_refused(check: ModuleType, place: str) -> None:
    (problem,) = check.problems(Path("/opt/bgpd"), [Path(place)], (3, 11, 7))
    assert "ProtectHome" in problem
    (problem,) = check.problems(Path(place), [], (3, 11, 7))
    assert "ProtectHome" in problem


def test_an_old_python_is_refused(check: ModuleType) -> None:
    (problem,) = check.problems(Path("/opt/bgpd"), [], (3, 9, 2))
    assert "3.9.2 is too old" in problem


def test_a_prefix_with_other_things_is_refused(check: ModuleType, tmp_path: Path) -> None:
    assert list(check.wrong_place(Path("/opt/bgpd"), tmp_path)) == []
    (tmp_path / "bin").mkdir()
    (problem,) = check.wrong_place(Path("/usr/local"), tmp_path)
    assert "a directory of its own" in problem
    (tmp_path / "pyvenv.cfg").touch()
    assert list(check.wrong_place(Path("/opt/bgpd"), tmp_path)) == []
    (problem,) = check.wrong_place(Path("opt/bgpd"), tmp_path)
    assert "absolute" in problem


def test_install_stops_before_anything_is_written_where_python_is_refused(tmp_path: Path) -> None:
    done = make("install", tmp_path, f"INSTALL_PYTHON={refusing(tmp_path)}")
    assert done.returncode != 0
    assert not (tmp_path / "etc").exists()


def refusing(tmp_path: Path) -> Path:
    script = tmp_path / "python3"
    script.write_text("#!/bin/sh\necho too old >&2\nexit 1\n")
    script.chmod(0o755)
    return script
