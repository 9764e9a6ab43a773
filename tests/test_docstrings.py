"""Docstrings of the program name what is there: identifiers, and files beside them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "bgpd"
OF_LINUX = {"keep_addr_on_down"}
BESIDE_THE_PACKAGE = {"hatch_build.py"}


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Of modules, classes, functions and, as they stand behind them, of constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_docstrings_name_what_is_there() -> None:
    """Identifiers in backticks stand in some code, not only in docstrings; modules are in some package."""
    code, names, modules, files = set(OF_LINUX), set(), set(), set(BESIDE_THE_PACKAGE)
    for path in PACKAGE.rglob("*.py"):
        files.add(path.name)
        rest = path.read_text()
        for text in docstrings(ast.parse(rest)):
            rest = rest.replace(text, "", 1)
            names |= {(path.name, name) for name in re.findall(r"`(\w+)`", text)}
            modules |= {(path.name, name) for name in re.findall(r"\w+\.py\b", text)}
        code |= set(re.findall(r"\w+", rest))
    assert {(place, name) for place, name in names if name not in code} == set()
    assert {(place, name) for place, name in modules if name not in files} == set()
    assert len(names) > 1000
