"""The mutants of a module: copies of its syntax tree with one small fault each, as people make them.

A comparison, an operator, a number, a condition, a statement that is not there; in tables of calls an argument that
belongs to another entry, and an entry that is not there. Texts stay: what tests say of them is seldom a fault's proof.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

_Node = TypeVar("_Node", bound=ast.AST)

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Mutant(NamedTuple):
    """`function` is the qualified name of the function or method that is changed, "" outside of all of them."""

    line: int
    function: str
    what: str
    tree: ast.Module


class _Place(NamedTuple):
    """A change of the node with this number in the walk over a tree."""

    number: int
    line: int
    function: str
    what: str
    change: Callable[[ast.AST], ast.AST]


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module."""
    tree = ast.parse(source)
    for place in _places(tree):
        changed = copy.deepcopy(tree)
        _Changer(place).visit(changed)
        yield Mutant(place.line, place.function, place.what, ast.fix_missing_locations(changed))


class _Changer(ast.NodeTransformer):
    """Changes one node; counts as `_numbered` does."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._number = -1

    def visit(self, node: ast.AST) -> ast.AST:
        self._number += 1
        if self._number == self._place.number:
            return self._place.change(node)
        return super().generic_visit(node)


def _numbered(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes in the order of a transformer: each before what is in it."""
    yield tree
    for inner in ast.iter_child_nodes(tree):
        yield from _numbered(inner)


def _places(tree: ast.Module) -> Iterator[_Place]:
    functions = _functions(tree)
    left_out = _left_out(tree)
    siblings = _arguments(tree)
    for number, node in enumerate(_numbered(tree)):
        if id(node) in left_out:
            continue
        function = functions.get(id(node), "")
        for what, change in _changes(node, in_table=not function, siblings=siblings):
            yield _Place(number, getattr(node, "lineno", 0), function, what, change)


def _functions(tree: ast.Module) -> dict[int, str]:
    """The outermost function or method that each node is in."""
    found: dict[int, str] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.ClassDef):
                walk(inner, f"{prefix}{inner.name}.")
            elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                for part in inner.body:
                    found.update(dict.fromkeys(map(id, _numbered(part)), prefix + inner.name))

    walk(tree, "")
    return found


def _left_out(tree: ast.Module) -> set[int]:
    """Nodes that say nothing when the module runs: docstrings, annotations, assertions, the default of a keyword."""
    found: set[int] = set()
    for node in _numbered(tree):
        hidden: list[ast.AST] = []
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assert() | ast.Import() | ast.ImportFrom():
                hidden = [node]
            case ast.AnnAssign():
                hidden = [node.annotation]
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                hidden = [node.args, *filter(None, [node.returns]), *node.decorator_list]
            case ast.ClassDef():
                hidden = [*node.bases, *node.keywords, *node.decorator_list]
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
                hidden = [node]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                hidden = [node]
        for one in hidden:
            found.update(map(id, _numbered(one)))
    return found


def _arguments(tree: ast.Module) -> dict[tuple[str, int], list[ast.expr]]:
    """What calls at the level of the module are given, by name and place."""
    found: dict[tuple[str, int], list[ast.expr]] = {}
    functions = _functions(tree)
    for node in _numbered(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not functions.get(id(node)):
            for place, argument in enumerate(node.args):
                found.setdefault((node.func.id, place), []).append(argument)
    return found


_Changes = Iterator[tuple[str, Callable[[ast.AST], ast.AST]]]


def _changes(node: ast.AST, *, in_table: bool, siblings: dict[tuple[str, int], list[ast.expr]]) -> _Changes:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            other = COMPARISONS[type(operator)]
            yield f"{type(operator).__name__} is {other.__name__}", _setting(ops=lambda _: [other()])
        case ast.BoolOp():
            swapped = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"{type(node.op).__name__} is {swapped.__name__}", _setting(op=lambda _: swapped())
        case ast.UnaryOp(op=ast.Not()):
            yield "not is left out", lambda one: one.operand  # type: ignore[attr-defined]
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            operation = OPERATORS[type(node.op)]
            yield f"{type(node.op).__name__} is {operation.__name__}", _setting(op=lambda _: operation())
        case ast.Constant(value=bool() as value):
            yield f"{value} is {not value}", _setting(value=lambda one: not one)
        case ast.Constant(value=int() | float() as value):
            yield f"{value} is {value + 1}", _setting(value=lambda one: one + 1)
        case ast.If() | ast.IfExp() | ast.While() if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.Constant):
            yield "the condition is the opposite", _setting(test=lambda one: ast.UnaryOp(ast.Not(), one))
        case ast.Break():
            yield "break is continue", lambda _: ast.Continue()
        case ast.Continue():
            yield "continue is break", lambda _: ast.Break()
        case ast.Dict() if in_table and len(node.keys) > 2:
            for place in range(len(node.keys)):
                yield f"entry {place + 1} is left out", _without_entry(place)
        case ast.Call(func=ast.Name(id=name)) if in_table:
            yield from _of_other_entries(node, name, siblings)
    if not in_table and _is_statement_with_effect(node):
        yield "the statement is left out", lambda _: ast.Pass()


def _is_statement_with_effect(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Delete():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.AugAssign():
            return True
    return False


def _of_other_entries(node: ast.Call, name: str, siblings: dict[tuple[str, int], list[ast.expr]]) -> _Changes:
    """Each argument as some other call has it there, if one has another."""
    for place, argument in enumerate(node.args):
        given = ast.dump(argument)
        other = next((one for one in siblings.get((name, place), []) if ast.dump(one) != given), None)
        if other is not None:
            yield f"argument {place + 1} is {ast.unparse(other)}", _with_argument(place, other)


def _with_argument(place: int, other: ast.expr) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        node.args[place] = copy.deepcopy(other)  # type: ignore[attr-defined]
        return node

    return change


def _without_entry(place: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        del node.keys[place], node.values[place]  # type: ignore[attr-defined]
        return node

    return change


def _setting(**fields: Callable[[object], object]) -> Callable[[ast.AST], ast.AST]:
    """The node with fields made of what they were."""

    def change(node: ast.AST) -> ast.AST:
        for name, made in fields.items():
            setattr(node, name, made(getattr(node, name)))
        return node

    return change
