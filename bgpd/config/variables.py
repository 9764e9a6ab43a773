"""Variables in the texts of a configuration: ${hostname}, ${loopback4}, ${loopback6}, ${env:NAME}; $${ for "${" itself.

They are looked for in the values of parsed TOML, never in its text: no value can break the file. What a variable
stands for is not looked at again. Where a key takes a number or a boolean, a text with a variable in it becomes one.
Sans-IO: `Values` says what each stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

from msgspec import inspect

from bgpd.config.schema import Config
from bgpd.config.shape import Finding, did_you_mean
from bgpd.config.toml_lines import KeyPath

_ENVIRONMENT = "env:"
VARIABLES = ("hostname", "loopback4", "loopback6")
"""Beside env:NAME."""
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")


class NoValue(Exception):
    """A variable that stands for nothing here: what is missing, and what to do. `may_come`: a little later, perhaps."""

    may_come = False

    def __init__(self, what: str, right: str) -> None:
        super().__init__(f"{what}; {right}")
        self.what, self.right = what, right


class Values(Protocol):
    """What variables stand for."""

    def value_of(self, name: str) -> str:
        """Of a known variable: "hostname", "env:ASN". Raises: NoValue."""
        ...


class Expansion:
    """The expansion of one configuration's data, in place.

    Afterwards: `findings`, what went wrong; `used`, the variables that were found and what they stand for;
    `misses_loopback_only`: all that went wrong may be otherwise a little later.
    """

    def __init__(self, values: Values) -> None:
        self.findings: list[Finding] = []
        self.used: dict[str, str] = {}
        self.misses_loopback_only = True
        self._values = values

    def expand(self, data: dict[str, Any]) -> None:
        """All values of a configuration."""
        self._table(data, (), inspect.type_info(Config))

    def _table(self, table: dict[str, Any], path: KeyPath, expected: inspect.Type | None) -> None:
        for key, value in table.items():
            where = (*path, key)
            if path == ("router",) and key == "loopbacks" and "${" in str(value):
                self._failed(where, "has a variable", "it says which address ${loopback4} and ${loopback6} are")
            elif "${" in key:
                self._failed(where, "is a key with a variable", "variables stand in values only")
            else:
                table[key] = self._value(value, where, _below(expected, key))

    def _value(self, value: Any, path: KeyPath, expected: inspect.Type | None) -> Any:
        if isinstance(value, str):
            return self._text(value, path, expected) if "${" in value else value
        if isinstance(value, dict):
            self._table(value, path, expected)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                value[index] = self._value(item, (*path, index), _item(expected))
        return value

    def _text(self, text: str, path: KeyPath, expected: inspect.Type | None) -> Any:
        parts, at, has_variable = [], 0, False
        for found in _VARIABLE.finditer(text):
            parts.append(text[at : found.start()])
            at = found.end()
            if found[0] == "$${":
                parts.append("${")
                continue
            try:
                parts.append(self._of(found))
                has_variable = True
            except NoValue as missing:
                self._failed(path, missing.what, missing.right, may_come=missing.may_come)
                return text
        expanded = "".join((*parts, text[at:]))
        return _as_expected(expanded, expected) if has_variable else expanded

    def _failed(self, path: KeyPath, what: str, right: str, *, may_come: bool = False) -> None:
        self.findings.append(Finding(path, what, right))
        self.misses_loopback_only = self.misses_loopback_only and may_come

    def _of(self, found: re.Match[str]) -> str:
        name, closed = found[1], found[2]
        if not closed:
            raise NoValue('has "${" without "}"', 'write ${NAME}, or $${ for "${" itself')
        is_environment = name.startswith(_ENVIRONMENT)
        if not is_environment and name not in VARIABLES:
            known = [*VARIABLES, f"{_ENVIRONMENT}NAME"]
            right = f"one of: {', '.join(known)}"
            if _ENVIRONMENT_NAME.fullmatch(name) and name.upper() == name:
                right = f"write ${{env:{name}}} for a variable of the environment"
            elif near := did_you_mean(name, list(VARIABLES)):
                right = near if near.startswith("did") else right
            raise NoValue(f"there is no variable ${{{name}}}", right)
        if is_environment and not _ENVIRONMENT_NAME.fullmatch(name.removeprefix(_ENVIRONMENT)):
            raise NoValue(f"${{{name}}} cannot be a variable of the environment", "letters, digits and _ only")
        value = self._values.value_of(name)
        if not value.isprintable():
            raise NoValue(f"${{{name}}} has characters that cannot be printed", "it must be one line of text in UTF-8")
        self.used[name] = value
        return value


def _below(expected: inspect.Type | None, key: str) -> inspect.Type | None:
    """The type of a key of a table; None where there is no such key."""
    for one in _alternatives(expected):
        if isinstance(one, inspect.StructType):
            return next((field.type for field in one.fields if field.encode_name == key), None)
        if isinstance(one, inspect.DictType):
            return one.value_type
    return None


def _item(expected: inspect.Type | None) -> inspect.Type | None:
    for one in _alternatives(expected):
        if isinstance(one, inspect.VarTupleType | inspect.ListType):
            return one.item_type
    return None


def _alternatives(expected: inspect.Type | None) -> Iterator[inspect.Type]:
    match expected:
        case None:
            return
        case inspect.Metadata(type=inner):
            yield from _alternatives(inner)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _alternatives(one)
        case _:
            yield expected


def _as_expected(text: str, expected: inspect.Type | None) -> Any:
    """A number or a boolean where that is what the key takes and the text reads as one; else the text."""
    for one in _alternatives(expected):
        if isinstance(one, inspect.IntType) and _NUMBER.fullmatch(text):
            return int(text)
        if isinstance(one, inspect.BoolType) and text in ("true", "false"):
            return text == "true"
    return text
