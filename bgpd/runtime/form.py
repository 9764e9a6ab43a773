"""In which form bgpd runs: with the compiled modules of its wheel, or all of it as plain Python (docs/decisions/0021).

Nobody chooses: where the wheel was compiled for the running Python, its import takes the libraries, else the sources
beside them.
"""

from __future__ import annotations

import enum
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from bgpd import __version__

_LIBRARY = "compiled__mypyc"
"""The code of all compiled modules (hatch_build.py)."""


class Form(enum.StrEnum):
    """What runs."""

    COMPILED = "compiled"
    PLAIN = "plain"


def form() -> Form:
    """The form in which this process runs."""
    package = Path(__file__).parents[1]
    is_there = any((package / f"{_LIBRARY}{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
    return Form.COMPILED if is_there else Form.PLAIN


def described_version() -> str:
    """ "bgpd 1.2.3 (compiled)"."""
    return f"bgpd {__version__} ({form()})"
