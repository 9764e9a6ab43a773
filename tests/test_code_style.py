"""What makes the code readable and can be counted: no file too long, and each public function says what it is for.

Read from the syntax trees. That modules, classes and functions have docstrings is ruff's part (D100, D101, D103).
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "bgpd"
MOST_LINES = 520
FILES = {str(path.relative_to(PACKAGE.parent)): path for path in sorted(PACKAGE.rglob("*.py"))}


class Class(NamedTuple):
    """A class of the tree: its public methods and properties, and whether each has a docstring; its other attributes;
    the names of its bases, and what of them is a library's."""

    place: str
    name: str
    methods: dict[str, bool]
    attributes: frozenset[str]
    bases: tuple[str, ...]
    inherited: frozenset[str]

    @property
    def is_protocol(self) -> bool:
        return "Protocol" in self.bases


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def of_library(tree: ast.Module, base: str) -> frozenset[str]:
    """The attributes of a base class that a file imports from a library."""
    module, _, name = base.rpartition(".")
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == base and node.value is not None:
            module, _, name = ast.unparse(node.value).rpartition(".")
        if isinstance(node, ast.ImportFrom) and base in {alias.asname or alias.name for alias in node.names}:
            module, name = str(node.module), base
    if not module or module.startswith("bgpd") or (name == "Protocol" and module == "typing"):
        return frozenset()
    return frozenset(dir(getattr(importlib.import_module(module), name)))


def classes_of(place: str, path: Path) -> Iterator[Class]:
    tree = tree_of(path)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = tuple(ast.unparse(base).partition("[")[0] for base in node.bases)
        methods = {
            one.name: ast.get_docstring(one) is not None
            for one in node.body
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_")
        }
        attributes = frozenset(
            one.id if isinstance(one, ast.Name) else one.attr
            for one in ast.walk(node)
            if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store)
        )
        inherited = frozenset().union(*(of_library(tree, base) for base in bases))
        names = tuple(base.rpartition(".")[2] for base in bases)
        yield Class(place, node.name, methods, attributes, names, inherited)


@functools.cache
def classes() -> tuple[Class, ...]:
    return tuple(found for place, path in FILES.items() for found in classes_of(place, path))


def lineage(one: Class) -> list[Class]:
    """A class and those of the tree that it is derived from."""
    found = [one]
    for ancestor in found:
        found += [other for other in classes() if other.name in ancestor.bases and other not in found]
    return found


def told_elsewhere(one: Class) -> set[str]:
    """The methods that a base class documents, or a protocol that the class fulfils."""
    family = lineage(one)
    names = {name for member in family for name in (*member.methods, *member.attributes)}
    protocols = [other for other in classes() if other.is_protocol and other.methods and names >= other.methods.keys()]
    others = [*family[1:], *(other for other in protocols if other is not one)]
    return {name for other in others for name, is_told in other.methods.items() if is_told} | {
        name for member in family for name in member.inherited
    }


@pytest.mark.parametrize("file", FILES)
def test_file_is_read_in_one_sitting(file: str) -> None:
    assert len(FILES[file].read_text().splitlines()) <= MOST_LINES, f"{file}: cut it where a stranger would look"


def test_public_methods_say_what_they_do() -> None:
    """In their docstring, or in that of the protocol or base class whose method they are."""
    bare = {
        f"{one.place}: {one.name}.{name}"
        for one in classes()
        if not one.name.startswith("_")
        for name in {name for name, is_told in one.methods.items() if not is_told} - told_elsewhere(one)
    }
    assert bare == set()
    assert len(classes()) > 500


PUBLIC_ALL_THE_SAME = {"_replace", "_asdict", "_fields", "_make", "_exit", "_get_running_loop", "_set_running_loop"}
"""Of named tuples, os and asyncio, which document them."""
OF_LIBRARIES = {
    "bgpd/cli/parser.py": {"_SubParsersAction", "_get_subactions", "_indent_increment"},
    "bgpd/workload/feed/mqtt_client.py": {"_in_messages", "_misc_loop"},
}
"""Names of libraries that have no public way: the width of argparse's help, and what a broker makes paho keep."""


def private_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that begin with an underscore: those that a file defines, and the attributes that it uses."""
    made, used = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                made.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self")):
                made.add(name)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                used.add(name)
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
    return only_private(made), only_private(used)


def only_private(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_private_attribute_of_a_library_is_used() -> None:
    """It would go with any release of the library, and nobody would be told."""
    names = {place: private_names(tree_of(path)) for place, path in FILES.items()}
    made = set().union(*(own for own, _ in names.values())) | PUBLIC_ALL_THE_SAME
    found = {place: used - made for place, (_, used) in names.items() if used - made}
    assert found == OF_LIBRARIES
