"""The inputs that are kept, `corpora/NAME.txt`: one on each line, as Python writes bytes. Comments begin with `#`.

Those that a search ended with were shrunk and thinned out; those that were found to go wrong stand below a comment that
says how, and stay.
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


def keep(name: str, found: Iterable[bytes]) -> None:
    """Put what a search has found, the shortest first, in the place of what one had found before."""
    lines = path_of(name).read_text().splitlines() if path_of(name).exists() else []
    first = next((at for at, line in enumerate(lines) if line.startswith("#")), len(lines))
    chosen = sorted({one for one in found if len(one) <= LONGEST}, key=lambda one: (len(one), one))[:MOST]
    path_of(name).write_text("".join(f"{line}\n" for line in [*map(repr, chosen), *lines[first:]]))
