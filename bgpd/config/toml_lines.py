"""Where each key of a TOML text stands: key path to line number, for error messages.

It reads text that `tomllib` has accepted, so it looks only for keys and nesting and never judges. Key paths are tuples
of names and list indices, as the parsed data has them.
"""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_FILLER = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]\}\n#]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line number, from 1, of each key path and list element of a valid TOML text."""
    return lines_and_arrays(text)[0]


def lines_and_arrays(text: str) -> tuple[dict[KeyPath, int], set[KeyPath]]:
    """As `key_lines`; and the key paths that are [[arrays]] of tables."""
    scanner = _Scanner(text)
    return scanner.scan(), scanner.arrays


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of a key path, or of the nearest table around it; 1 if none stands in the text."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def format_key_path(path: KeyPath) -> str:
    """Text of a key path: "neighbor[0].asn"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class _Scanner:
    """One pass over a text; `_at` is the position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._line_at, self._line = 0, 1

    @property
    def arrays(self) -> set[KeyPath]:
        """Of what was scanned."""
        return set(self._counts)

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._skip(_FILLER)
            if self._at >= len(self._text):
                return self._lines
            before = self._at
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_value(table)
            if self._at == before:
                return self._lines

    def _header(self) -> KeyPath:
        """[a.b] or [[a.b]]: the path of the table that it opens."""
        line = self._current_line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        names = self._dotted_key()
        self._at += 2 if is_array else 1
        path = self._resolve((), names[:-1]) + names[-1:]
        if is_array:
            self._lines.setdefault(path, line)
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
        else:
            path = self._resolve(path[:-1], names[-1:])
        self._note(path, line)
        return path

    def _resolve(self, base: KeyPath, names: tuple[str, ...]) -> KeyPath:
        """`names` below `base`, through the last element of each array of tables on the way."""
        for name in names:
            base = (*base, name)
            if base in self._counts:
                base = (*base, self._counts[base] - 1)
        return base

    def _key_value(self, table: KeyPath) -> None:
        line = self._current_line()
        path = table + self._dotted_key()
        self._skip(_SPACE)
        self._at += 1  # "="
        self._note(path, line)
        self._skip(_FILLER)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at : self._at + 1]:
            case "{":
                self._items("}", path, is_table=True)
            case "[":
                self._items("]", path, is_table=False)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _items(self, closing: str, path: KeyPath, *, is_table: bool) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_FILLER)
            character = self._text[self._at : self._at + 1]
            if character in (closing, ""):
                self._at += 1
                return
            if character == ",":
                self._at += 1
            elif is_table:
                self._key_value(path)
            else:
                self._note((*path, index), self._current_line())
                self._value((*path, index))
                index += 1

    def _dotted_key(self) -> tuple[str, ...]:
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at : self._at + 1] in ('"', "'")
            found = (_STRING if quoted else BARE_KEY).match(self._text, self._at)
            if found is None:
                return tuple(names)
            self._at = found.end()
            names.append(found.group()[1:-1] if quoted else found.group())
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] != ".":
                return tuple(names)
            self._at += 1

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        return self._line
