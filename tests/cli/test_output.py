"""Outputs that nobody reads, that are full, or closed: commands end without a word of Python about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bgpd.__main__ import main
from bgpd.cli.client import CommandFailed

COMMANDS = ("--help", "show --help", "--version", "schema config", "check none.toml", "decode xx", "nosuch")


def ended(line: str, *, stdout: int, stderr: int) -> subprocess.CompletedProcess[bytes]:
    """Buffered as usual."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "bgpd", *line.split()]
    return subprocess.run(command, stdout=stdout, stderr=stderr, env=environment, check=False)


@pytest.fixture
def unread() -> int:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("line", COMMANDS)
def test_output_that_nobody_reads_is_no_news(line: str, unread: int) -> None:
    with os.fdopen(unread, "wb"):
        alone = ended(line, stdout=unread, stderr=subprocess.PIPE)
        both = ended(line, stdout=unread, stderr=unread)
    assert b"BrokenPipe" not in alone.stderr
    assert b"Traceback" not in alone.stderr
    assert {alone.returncode, both.returncode} <= {0, 1, 2}


@pytest.mark.parametrize("line", ["--help", "schema config"])
def test_output_that_is_full_is_told_once(line: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = ended(line, stdout=full.fileno(), stderr=subprocess.PIPE)
    assert done.stderr == b"bgpd: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_what_a_command_says_before_it_fails_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> int:
        print("so far")
        raise CommandFailed("no further")

    monkeypatch.setattr("bgpd.cli.main.version", fail)
    assert main(["version"]) == 1
    assert capsys.readouterr() == ("so far\n", "bgpd: no further\n")
