"""The commands of docs/performance.md run what they say: each names variants that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import main

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
SHOWN = re.findall(r"^    python -m benchmarks (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
COMMANDS = [command for command in SHOWN if command != "report"]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_page_has_something_to_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not re.search(r'"[^"]*`[^"]*"', command), "a shell runs what stands between these quotes"
    assert main([*shlex.split(command), "--list"]) == 0
    assert capsys.readouterr().out.strip()


def test_page_has_commands() -> None:
    assert len(COMMANDS) > 4
