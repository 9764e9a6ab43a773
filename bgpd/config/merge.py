"""One configuration from the texts of several files: tables are merged key by key, [[arrays]] are put one behind the
other, and a key that is given twice is an error.

Knows of each key path in which file and line it stands. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bgpd.config.toml_lines import KeyPath, line_of, lines_and_arrays


class Place(NamedTuple):
    """Where something stands: in which of the files (by index), and in which line, from 1."""

    file: int
    line: int


class Twice(NamedTuple):
    """A key that stands in two files."""

    path: KeyPath
    first: Place
    second: Place


class Merged(NamedTuple):
    """The data of all files, where each key path stands, and the keys that are given twice."""

    data: dict[str, Any]
    places: dict[KeyPath, Place]
    twice: list[Twice]

    def place(self, path: KeyPath) -> Place:
        """Of a key path, or of the nearest table around it; the first line if none stands in a text."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(0, 1))


def merge(texts: Sequence[tuple[str, dict[str, Any]]]) -> Merged:
    """Of the text of each file and what it was parsed to, in the order in which they count."""
    merger = _Merger()
    for text, data in texts:
        merger.add(text, data)
    return Merged(merger.data, merger.places, merger.twice)


class _Merger:
    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}
        self.twice: list[Twice] = []
        self._arrays: set[KeyPath] = set()
        self._file = -1

    def add(self, text: str, data: dict[str, Any]) -> None:
        self._file += 1
        self._lines, self._own_arrays = lines_and_arrays(text)
        self._table(self.data, data, (), ())

    def _table(self, into: dict[str, Any], new: dict[str, Any], own: KeyPath, path: KeyPath) -> None:
        """`new`, which stands at `own` in its file, becomes part of the table at `path`."""
        for key, value in new.items():
            there, where = (*own, key), (*path, key)
            present = into.get(key)
            if key not in into:
                into[key] = {} if isinstance(value, dict) else [] if isinstance(value, list) else value
                self._note(there, where)
                self._fill(into[key], value, there, where)
            elif isinstance(present, dict) and isinstance(value, dict):
                self._table(present, value, there, where)
            elif isinstance(present, list) and there in self._own_arrays and where in self._arrays:
                self._fill(present, value, there, where)
            else:
                self.twice.append(Twice(where, self.places[where], self._place(there)))

    def _fill(self, into: Any, new: Any, own: KeyPath, path: KeyPath) -> None:
        """All of a new table or list; `into` is a list that may have elements already."""
        if isinstance(new, dict):
            self._table(into, new, own, path)
        elif isinstance(new, list):
            if own in self._own_arrays:
                self._arrays.add(path)
            for index, item in enumerate(new):
                there, where = (*own, index), (*path, len(into))
                self._note(there, where)
                into.append({} if isinstance(item, dict) else [] if isinstance(item, list) else item)
                self._fill(into[-1], item, there, where)

    def _note(self, own: KeyPath, path: KeyPath) -> None:
        self.places[path] = self._place(own)

    def _place(self, own: KeyPath) -> Place:
        return Place(self._file, line_of(self._lines, own))
