"""Where the output goes: narrow terminals, without colour, locales without UTF-8, and readers that go away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.cli.exit_codes import EXIT_CODES
from tests.cli.terminal import on_terminal
from tests.cli.test_main import serving
from tests.scripted_backend import ScriptedBackend

BGPD = [sys.executable, "-m", "bgpd"]


@pytest.fixture(autouse=True)
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    with serving(path, ScriptedBackend()):
        yield


@pytest.mark.parametrize("no_color", ["", "1"])
def test_forty_columns_are_enough(no_color: str) -> None:
    with on_terminal([*BGPD, "show", "neighbors"], columns=40, environment={"NO_COLOR": no_color}) as terminal:
        assert terminal.wait_for_end() == 0
        lines = terminal.text.splitlines()
        assert all(len(line) <= 40 for line in lines), lines
        assert "connection" in terminal.text
        assert "refused" in terminal.text
        assert ("\x1b[1m" in terminal.seen) is not bool(no_color)


@pytest.mark.parametrize("command", ["show neighbors", "show neighbors --format csv", "explain 10.0.0.1", "status"])
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_what_a_locale_does_not_have_ends_no_command(command: str, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([*BGPD, *command.split()], capture_output=True, env=environment, timeout=60)
    assert done.returncode in (0, 1)
    assert done.stderr == b""
    assert done.stdout
    if command == "show neighbors":
        assert b"connection refused ?[31m" in done.stdout


@pytest.mark.parametrize("command", ["--help", "show --help", "show routes --json", "schema config"])
def test_reader_that_goes_away_is_told_nothing(command: str) -> None:
    line = f"set -o pipefail; {' '.join(BGPD)} {command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


def test_document_has_the_exit_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in text
