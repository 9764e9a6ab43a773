"""What the code says to people, read from the source: texts of calls that say what is wrong and what would be right."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GAP = "…"
"""Stands for what is known at run time only: a name, a number."""
_MOST = 4
"""Forms of one message that are told of; more of them differ in a word."""
_HINTS = ("_whole_file", "_statement", "_brackets", "_value")
"""Functions of config/toml_errors.py that answer with what may be wrong in a line."""


class Said(NamedTuple):
    """A message: what it is about ("neighbor[].asn", an HTTP status), what is wrong, what would be right."""

    about: str
    what: str
    right: str


class Source(NamedTuple):
    """What names stand for beyond a function: the pairs that functions answer with, and the texts of constants."""

    answers: Mapping[str, Sequence[tuple[str, str]]]
    constants: Mapping[str, str]


def said_by(folder: Path, call: str) -> Iterator[Said]:
    """What is said by calls of one name in the modules of a folder, as far as it stands in the code.

    A call that only passes on what another place says has no text of its own.
    """
    trees = [ast.parse(file.read_text()) for file in sorted(folder.rglob("*.py")) if call in file.read_text()]
    trees += [ast.parse(file.read_text()) for file in sorted(folder.glob("words.py"))]
    source = _source(trees)
    for tree in trees:
        own = source._replace(constants={**source.constants, **_constants(tree)})
        for function in _functions(tree):
            scope = Scope(function, own)
            for node in scope.nodes:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == call:
                    yield from _of_call(node, scope)


def hints(file: Path) -> Iterator[str]:
    """What is said of a line that is no TOML (config/toml_errors.py)."""
    tree = ast.parse(file.read_text())
    source = _source([tree])
    for function in _functions(tree):
        scope = Scope(function, source)
        for node in scope.nodes if function.name in _HINTS else ():
            if isinstance(node, ast.Return) and node.value is not None:
                yield from (text for text in scope.texts(node.value) if _is_text(text))


def _of_call(node: ast.Call, scope: Scope) -> Iterator[Said]:
    given = {one.arg: one.value for one in node.keywords}
    arguments = list(node.args)
    about = [""]
    match node.func:
        case ast.Name(id="Finding") if arguments:
            about = [scope.path(arguments.pop(0))]
        case ast.Name(id="Rejected") if arguments:
            about = [one for one in scope.texts(arguments.pop(0)) if one != GAP]
    if "what" in given:
        arguments = [given["what"], given.get("right", given.get("hint", ast.Constant("")))]
    if arguments and isinstance(arguments[0], ast.Starred):
        pairs = scope.pairs(arguments[0].value)
    else:
        rights = scope.texts(arguments[1]) if len(arguments) > 1 else [""]
        pairs = [(what, right) for what in scope.texts(arguments[0]) for right in rights] if arguments else []
    for what, right in pairs[:_MOST]:
        if _is_text(what):
            yield from (Said(one, what, right if _is_text(right) else "") for one in about)


def _is_text(text: str) -> bool:
    return bool(text.strip(f"{GAP}: "))


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _source(trees: Sequence[ast.Module]) -> Source:
    constants = {name: text for tree in trees for name, text in _constants(tree).items()}
    answers: dict[str, list[tuple[str, str]]] = {}
    for tree in trees:
        for function in _functions(tree):
            scope = Scope(function, Source({}, constants))
            for node in scope.nodes:
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
                    answers.setdefault(function.name, []).extend(scope.pairs(node.value))
    return Source(answers, constants)


def _constants(tree: ast.Module) -> dict[str, str]:
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() | int() | float() as value)):
                found[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


class Scope:
    """One function: what its names may stand for."""

    def __init__(self, function: ast.FunctionDef | ast.AsyncFunctionDef, source: Source) -> None:
        self._source = source
        self.nodes = list(_nodes(function))
        self._named: dict[str, list[ast.expr]] = {}
        for node in self.nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._named.setdefault(name, []).append(value)
                case ast.NamedExpr(target=ast.Name(id=name), value=value):
                    self._named.setdefault(name, []).append(value)

    def texts(self, node: ast.expr) -> list[str]:
        """What an expression may be, with a gap for each part that is known at run time only."""
        match node:
            case ast.Constant(value=value):
                return ["" if value is None else str(value)]
            case ast.JoinedStr(values=values):
                return ["".join(self.texts(one)[0] for one in values)]
            case ast.FormattedValue(value=ast.Name(id=name)) if name in self._source.constants and name.isupper():
                return [self._source.constants[name]]
            case ast.IfExp(body=body, orelse=other):
                return [*self.texts(body), *self.texts(other)]
            case ast.BoolOp(values=values):
                return [text for one in values for text in self.texts(one)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return [a + b for a in self.texts(left) for b in self.texts(right)]
            case ast.Name(id=name) if (value := self._before(name, node)) is not None:
                return self.texts(value)
            case ast.Name(id=name) if name in self._source.constants:
                return [self._source.constants[name]]
        return [GAP]

    def pairs(self, node: ast.expr) -> list[tuple[str, str]]:
        """What an expression may be that is a pair: what is wrong, and what would be right."""
        match node:
            case ast.Tuple(elts=[what, right]):
                return [(one, other) for one in self.texts(what) for other in self.texts(right)]
            case ast.Call(func=ast.Name() as function):
                return self._answers_of(function)
            case ast.IfExp(body=body, orelse=other):
                return [*self.pairs(body), *self.pairs(other)]
            case ast.BoolOp(values=values):
                return [pair for one in values for pair in self.pairs(one)]
            case ast.Name(id=name) if (value := self._before(name, node)) is not None:
                return self.pairs(value)
        return []

    def path(self, node: ast.expr) -> str:
        """A key's path: "neighbor[].asn". What is before a part that the function is given is not known."""
        match node:
            case ast.Tuple(elts=parts):
                text = ""
                for part in parts:
                    match part:
                        case ast.Constant(value=str() as name):
                            text += f".{name}" if text else name
                        case ast.Starred(value=value):
                            text = self.path(value)
                        case _:
                            text += "[]" if text else ""
                return text
            case ast.Name(id=name) if (value := self._before(name, node)) is not None:
                return self.path(value)
        return ""

    def _answers_of(self, function: ast.Name) -> list[tuple[str, str]]:
        """A name may stand for one function or another."""
        match self._before(function.id, function):
            case ast.IfExp(body=ast.Name() as one, orelse=ast.Name() as other):
                return [*self._answers_of(one), *self._answers_of(other)]
        return list(self._source.answers.get(function.id, ()))

    def _before(self, name: str, node: ast.expr) -> ast.expr | None:
        """What a name was last given before a place."""
        given = [
            one for one in self._named.get(name, ()) if (one.lineno, one.col_offset) < (node.lineno, node.col_offset)
        ]
        given = [
            one for one in given if not any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(one))
        ]
        return given[-1] if given else None


def _nodes(function: ast.AST) -> Iterator[ast.AST]:
    """All inside a function but functions in it, in the order of the text."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            yield from _nodes(node)
