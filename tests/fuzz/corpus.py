"""The inputs that are kept, `corpora/NAME.txt`: one on each line, as Python writes bytes. Comments begin with `#`.

Of those that a search ended with there are as many as reach all that the others reach (reached.py); those that were
found to go wrong stand below a comment that says how, and stay.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpora")
LONGEST = 600
"""Bytes of an input that a search adds."""
MOST = 60
"""Inputs that a search may leave in a file, beside those that stand below comments."""


def path_of(name: str) -> Path:
    return DIRECTORY / f"{name}.txt"


def kept(name: str) -> list[bytes]:
    """The inputs of a target."""
    lines = path_of(name).read_text().splitlines() if path_of(name).exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


def keep(name: str, chosen: Iterable[bytes]) -> None:
    """Put these, the shortest first, in the place of what a search had found before."""
    lines = path_of(name).read_text().splitlines() if path_of(name).exists() else []
    first = next((at for at, line in enumerate(lines) if line.startswith("#")), len(lines))
    ordered = sorted(chosen, key=lambda one: (len(one), one))
    path_of(name).write_text("".join(f"{line}\n" for line in [*map(repr, ordered), *lines[first:]]))
