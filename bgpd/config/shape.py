"""Whether parsed TOML has the form of the configuration: keys, types and ranges, all findings at once.

A value that does not fit is replaced by its default (or an empty value), so that the checks between fields can still
look at the rest. It never touches the system; check.py looks at what the values mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from bgpd.config.schema import Config
from bgpd.config.toml_lines import KeyPath


class Finding(NamedTuple):
    """One thing that is wrong: where (key path), what, and what would be right ("" where that is plain)."""

    path: KeyPath
    what: str
    right: str = ""


def shape_config(data: dict[str, Any]) -> tuple[Config, list[Finding]]:
    """The configuration of parsed TOML, and what did not fit its form; with findings it is fit for checking only."""
    findings: list[Finding] = []
    config = _struct(data, inspect.type_info(Config), (), findings)
    if not findings:
        try:
            config = msgspec.convert(data, Config)
        except msgspec.ValidationError as error:
            findings.append(Finding((), str(error)))
    assert isinstance(config, Config)
    return config, findings


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint after an unknown word: the nearest known one, or all of them."""
    near = nearest(word.replace("-", "_"), known) or nearest(word, known)
    if near:
        return f'did you mean "{near}"?'
    return f"one of: {', '.join(sorted(known))}" if known else ""


def nearest(word: str, known: list[str], *, likeness: float = 0.6) -> str:
    """The known word that is nearest to another; "" if none is as near as that (0 to 1, as difflib has it)."""
    import difflib  # 0.2 MB, for mistakes only

    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=likeness)), "")


def _shape(value: Any, expected: inspect.Type, path: KeyPath, findings: list[Finding]) -> Any:
    """The value as `expected`, or a stand-in after a finding."""
    match expected:
        case inspect.Metadata(type=inner):
            return _shape(value, inner, path, findings)
        case inspect.UnionType(types=types):
            for inner in types:
                if _fits(value, inner):
                    return _shape(value, inner, path, findings)
        case inspect.StructType() if isinstance(value, dict):
            return _struct(value, expected, path, findings)
        case inspect.VarTupleType() | inspect.ListType() if isinstance(value, list):
            return _sequence(value, expected, path, findings)
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            return {name: _shape(item, inner, (*path, name), findings) for name, item in _named(value, path, findings)}
        case _ if _fits(value, expected):
            wrong = _out_of_range(value, expected)
            if not wrong:
                return value
            findings.append(Finding(path, *wrong))
            return _stand_in(expected)
    right = f"must be {_describe(expected)}"
    if isinstance(value, dict) and isinstance(expected, inspect.VarTupleType | inspect.ListType):
        right += f": write [[{path[-1]}]] with two brackets"
    if value is True and _has_defaults(expected):
        right += f": write {path[-1]} = {{}} for the defaults"
    findings.append(Finding(path, f"is {_describe_value(value)}", right))
    return _stand_in(expected)


def _named(value: dict[str, Any], path: KeyPath, findings: list[Finding]) -> Iterator[tuple[str, Any]]:
    """The entries of a table whose keys are names; such a name is a text, too."""
    for name, item in value.items():
        if wrong := _unprintable(name):
            findings.append(Finding((*path, name), *wrong))
        else:
            yield name, item


def _struct(value: dict[str, Any], expected: inspect.Type, path: KeyPath, findings: list[Finding]) -> Any:
    assert isinstance(expected, inspect.StructType)
    fields = {field.encode_name: field for field in expected.fields}
    for name in value:
        if name not in fields:
            hint = did_you_mean(name, list(fields))
            findings.append(Finding((*path, name), f'unknown key "{name}"', hint))
    arguments = {}
    for name, field in fields.items():
        where = (*path, name)
        if name in value:
            before = len(findings)
            shaped = _shape(value[name], field.type, where, findings)
            is_bad_leaf = any(finding.path == where for finding in findings[before:])
            if not is_bad_leaf or field.required:
                arguments[field.name] = shaped
        elif field.required:
            section = isinstance(_plain(field.type), inspect.StructType)
            missing = f"[{name}] is missing" if section else f'"{name}" is missing'
            findings.append(Finding(where, missing, _description(field.type)))
            arguments[field.name] = _stand_in(field.type)
    return expected.cls(**arguments)


def _sequence(value: list[Any], expected: inspect.Type, path: KeyPath, findings: list[Finding]) -> Any:
    assert isinstance(expected, inspect.VarTupleType | inspect.ListType)
    if expected.min_length is not None and len(value) < expected.min_length:
        findings.append(Finding(path, "is an empty list", f"must have at least {expected.min_length} element"))
    items = [_shape(item, expected.item_type, (*path, index), findings) for index, item in enumerate(value)]
    return tuple(items) if isinstance(expected, inspect.VarTupleType) else items


def _plain(expected: inspect.Type) -> inspect.Type:
    while isinstance(expected, inspect.Metadata):
        expected = expected.type
    return expected


def _description(expected: inspect.Type) -> str:
    if isinstance(expected, inspect.Metadata):
        return str((expected.extra_json_schema or {}).get("description", "")) or _description(expected.type)
    return ""


def _fits(value: Any, expected: inspect.Type) -> bool:
    """Whether the value is of the expected kind, whatever its range."""
    match _plain(expected):
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.VarTupleType() | inspect.ListType():
            return isinstance(value, list)
        case inspect.LiteralType(values=values):
            return value in values
        case inspect.EnumType(cls=cls):
            return value in [member.value for member in cls]
        case inspect.NoneType():
            return value is None
        case _:
            return True


def _out_of_range(value: Any, expected: inspect.Type) -> tuple[str, str] | None:
    """What is wrong with a value of the right kind, and what would be right."""
    match expected:
        case inspect.IntType(ge=least, le=most) | inspect.FloatType(ge=least, le=most):
            if not (least is None or value >= least) or not (most is None or value <= most):  # nan is neither
                return f"is {value}", f"must be from {least} to {most}"
        case inspect.StrType(min_length=shortest, max_length=longest, pattern=pattern):
            if wrong := _unprintable(value):
                return wrong
            if (shortest and len(value) < shortest) or (longest is not None and len(value) > longest):
                return f'"{value}" has {len(value)} characters', f"must have {shortest or 0} to {longest or 'any'}"
            if pattern is not None and re.search(pattern, value) is None:
                return f'is "{value}"', f"must look like {pattern}"
    return None


def _unprintable(text: str) -> tuple[str, str] | None:
    """A text with a control character: no name, address or path needs one, and the system takes none with a NUL."""
    found = next((letter for letter in text if letter < " " or "\x7f" <= letter <= "\x9f"), "")
    if not found:
        return None
    return f"has the character {found!a} in it", "a text is one line that can be printed: remove it"


_NAMES: dict[type[inspect.Type], str] = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "a text in quotes",
    inspect.StructType: "a table",
    inspect.DictType: "a table",
    inspect.VarTupleType: "a list",
    inspect.ListType: "a list",
    inspect.NoneType: "",
}


def _describe(expected: inspect.Type) -> str:
    expected = _plain(expected)
    match expected:
        case inspect.UnionType(types=types):
            return " or ".join(filter(None, map(_describe, types)))
        case inspect.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case inspect.EnumType(cls=cls):
            return " or ".join(f'"{member.value}"' for member in cls)
        case inspect.VarTupleType(item_type=inner) | inspect.ListType(item_type=inner):
            return f"a list of {_describe(inner).removeprefix('a ')}s" if _is_table(inner) else "a list"
    return _NAMES.get(type(expected), "something else")


def _is_table(expected: inspect.Type) -> bool:
    return isinstance(_plain(expected), inspect.StructType)


def _has_defaults(expected: inspect.Type) -> bool:
    """Whether it may be a table in which nothing needs to be."""
    plain = _plain(expected)
    if isinstance(plain, inspect.UnionType):
        return any(map(_has_defaults, plain.types))
    return isinstance(plain, inspect.StructType) and not any(field.required for field in plain.fields)


def _describe_value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'the text "{value}"'
        case int() | float():
            return f"the number {value}"
        case dict():
            return "a table"
        case list():
            return "a list"
    return f"the {type(value).__name__} {value}"


def _stand_in(expected: inspect.Type) -> Any:
    match _plain(expected):
        case inspect.BoolType():
            return False
        case inspect.IntType() | inspect.FloatType():
            return 0
        case inspect.StrType():
            return ""
        case inspect.StructType() as struct:
            return _struct({}, struct, (), [])
        case inspect.VarTupleType():
            return ()
        case inspect.DictType():
            return {}
        case inspect.UnionType(types=types):
            return _stand_in(types[0])
    return None
