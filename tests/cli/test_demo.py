"""What `bgpd demo` removes and starts; the whole of it is in tests/daemon/test_demo.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.demo import namespaces
from bgpd.demo.network import PROGRAM
from bgpd.demo.story import _offer_shell

DEAD = 4194999
"""No process has it: it is above the kernel's maximum."""


def test_what_is_left_of_dead_demonstrations_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, files = tmp_path / "netns", tmp_path / "tmp"
    dead, own, alive = (f"bgpd-demo-{pid}-leaf1" for pid in (DEAD, os.getpid(), os.getppid()))
    for name in (dead, own, alive, f"bgpd-demo-{DEAD}", f"my-bgpd-demo-{DEAD}-leaf1", "bgpd-demo-notes"):
        (made / name).mkdir(parents=True)
        (files / name).mkdir(parents=True)
    (files / f"bgpd-demo-{DEAD}-file").touch()
    (files / f"bgpd-demo-{DEAD}-link").symlink_to(files / alive)
    monkeypatch.setattr(namespaces, "DIRECTORY", made)
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    removed: list[str] = []
    monkeypatch.setattr(namespaces, "remove", removed.append)
    told = namespaces.remove_left_behind()
    assert sorted(removed) == sorted([dead, own]), "a former process may have had this one's id"
    assert told == [*sorted([dead, own]), *sorted([str(files / dead), str(files / own)])]
    assert not (files / dead).exists()
    assert {path.name for path in files.iterdir()} == {
        *(path.name for path in made.iterdir() if path.name not in (dead, own)),
        f"bgpd-demo-{DEAD}-file",
        f"bgpd-demo-{DEAD}-link",
    }


def test_root_runs_no_module_of_the_folder_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "bgpd.py").write_text("raise SystemExit(9)")
    done = subprocess.run([*PROGRAM, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_commands_of_the_shell(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import signal; open({str(seen)!r}, 'w').write(str(signal.getsignal(signal.SIGINT) != signal.SIG_IGN))"
    network: Any = SimpleNamespace(
        environment=lambda name: dict(os.environ),
        namespaces=SimpleNamespace(command=lambda name, *shell: [sys.executable, "-c", code]),
    )
    _offer_shell(network)
    assert seen.read_text() == "True"
