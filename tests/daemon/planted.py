"""Code of a test that each bgpd runs at its start: Python loads `sitecustomize` from a folder on PYTHONPATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.daemons import REPOSITORY


class Planted:
    """In processes that start from now on. `gate` is a file for which the code may look, by `os.environ["GATE"]`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = folder / "gate"
        self._code = folder / "sitecustomize.py"
        monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{REPOSITORY}")
        monkeypatch.setenv("GATE", str(self.gate))

    def code(self, text: str) -> None:
        """Have this run."""
        self._code.write_text(text)
