"""YAML and JSON documents with the line of each key, from files that nobody vouches for.

Built from the parser's events, one after the other: nothing is called deeper the deeper the text is nested, an alias
is the same value and not a copy, and no tag makes an object. The only importer of PyYAML.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import yaml

from bgpd.migrate.draft import ImportFailed, Place

MOST_VALUES = 500_000
"""Values of a file, those behind an alias counted each time."""
DEEPEST = 60
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")
_KNOWN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "binary")}
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Mapping(dict[str, Any]):
    """A mapping that knows where it and its keys stand."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.lines: dict[str, int] = {}

    def at(self, key: str) -> Place:
        """Where a key stands; of one that is not there, where the mapping begins."""
        return Place(self.place.file, self.lines.get(key, self.place.line))

    def mapping(self, key: str) -> Mapping:
        """The mapping under a key; an empty one if there is none. Raises: ImportFailed: it is something else."""
        value = self.get(key)
        if value is None:
            return Mapping(self.at(key))
        if not isinstance(value, Mapping):
            raise ImportFailed(self.at(key), f'"{key}" is no mapping', "it takes keys with values")
        return value

    def items_of(self, key: str) -> list[Any]:
        """The list under a key; [] if there is none. Raises: ImportFailed: it is something else."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ImportFailed(self.at(key), f'"{key}" is no list', "it takes a list, even of one")
        return value

    def mappings(self, key: str) -> list[Mapping]:
        """The list of mappings under a key. Raises: ImportFailed: it is something else."""
        found = self.items_of(key)
        for value in found:
            if not isinstance(value, Mapping):
                right = "each item has keys with values"
                raise ImportFailed(self.at(key), f'"{key}" has something in it that is no mapping', right)
        return found

    def text(self, key: str) -> str:
        """The text under a key; a number as it was written, "" if there is none. Raises: ImportFailed."""
        value = self.get(key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, dict | list):
            raise ImportFailed(self.at(key), f'"{key}" is no text', "it takes one value")
        return str(value)

    def texts(self, key: str) -> list[str]:
        """The list of texts under a key. Raises: ImportFailed: it is something else."""
        found = self.items_of(key)
        if any(isinstance(value, dict | list) for value in found):
            right = "each item is a text; one with a colon and a space in it needs quotes"
            raise ImportFailed(self.at(key), f'"{key}" has something in it that is no text', right)
        return ["" if value is None else str(value) for value in found]

    def number(self, key: str) -> int | None:
        """The whole number under a key, also as a text; None if there is none. Raises: ImportFailed: no number."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not _NUMBER.fullmatch(str(value)):
            raise ImportFailed(self.at(key), f'"{key}" is no whole number', "write a number")
        return int(value)

    def flag(self, key: str) -> bool | None:
        """True or false under a key; None if there is none. Raises: ImportFailed: something else."""
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise ImportFailed(self.at(key), f'"{key}" is neither true nor false', "write true or false")


def read_documents(text: str, file: str, *, lines_before: int = 0) -> list[Mapping]:
    """The documents of a text, each a mapping; empty ones are left out. `lines_before` are those of the file above it.

    Raises: ImportFailed: no YAML, or more of it than anybody writes.
    """
    found: list[Mapping] = []
    builder = _Builder(file, lines_before)
    if text.lstrip()[:1] == "{":
        _check_json(text, file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            document = builder.take(event)
            if isinstance(document, Mapping):
                found.append(document)
            elif document is not None:
                raise ImportFailed(
                    Place(file, lines_before + _line_of(event)), "a document is no mapping", "give objects"
                )
    except yaml.YAMLError as error:
        at = _error_line(error)
        place, what = Place(file, lines_before + at), f"is no YAML: {_words_of(error)}"
        if text.split("\n")[at - 1 : at] and "\t" in text.split("\n")[at - 1]:
            raise ImportFailed(place, what, "the line has a tab: write spaces") from None
        raise ImportFailed(place, what) from None
    except RecursionError:
        raise ImportFailed(Place(file), "is nested too deeply") from None
    return found


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_json(text: str, file: str) -> None:
    """JSON is read as YAML, which it is; but of what is wrong in it the JSON reader speaks more plainly."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" and '"' in text[:200]:
            raise ImportFailed(Place(file, error.lineno), f"is no JSON: {error.msg}") from None
    except RecursionError:
        raise ImportFailed(Place(file), "is nested too deeply") from None


class _Open:
    """A collection whose end has not come yet; `key` waits for its value."""

    def __init__(self, value: Mapping | list[Any], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: str | None = None
        self.weight = 1


class _Builder:
    def __init__(self, file: str, lines_before: int) -> None:
        self._file = file
        self._lines_before = lines_before
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def take(self, event: yaml.Event) -> Any:
        """Take one event; the document, if it ends one."""
        line = self._lines_before + _line_of(event)
        match event:
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                ended = self._open.pop()
                if ended.anchor:
                    self._anchors[ended.anchor] = ended.value, ended.weight
                return self._place(ended.value, ended.weight, line)
            case yaml.ScalarEvent():
                value = self._scalar(event, line)
                if event.anchor:
                    self._anchors[event.anchor] = value, 1
                return self._place(value, 1, line)
            case yaml.AliasEvent():
                if any(one.anchor == event.anchor for one in self._open):
                    self._fail(line, f'"*{event.anchor}" stands inside what it names')
                named = self._anchors.get(event.anchor or "")
                if named is None:
                    self._fail(line, f'there is no anchor "&{event.anchor}"')
                return self._place(*named, line)
        return None

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        if event.tag is not None and event.tag not in _KNOWN_TAGS:
            self._fail(line, f'the tag "{event.tag}" is not taken')
        if len(self._open) >= DEEPEST:
            self._fail(line, f"is nested more than {DEEPEST} deep")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if not self._open and not is_mapping:
            self._fail(line, "a document is no mapping", "give objects")
        if is_mapping and self._open and isinstance(self._open[-1].value, Mapping) and self._open[-1].key is None:
            self._fail(line, "a key is a mapping", "keys are texts")
        self._open.append(_Open(Mapping(Place(self._file, line)) if is_mapping else [], event.anchor))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        if event.tag is not None and event.tag not in _KNOWN_TAGS and event.tag != "!":
            self._fail(line, f'the tag "{event.tag}" is not taken')
        if event.style or not event.implicit[0]:
            return event.value
        if event.value in _WORDS:
            return _WORDS[event.value]
        if _NUMBER.fullmatch(event.value):
            return int(event.value)
        return float(event.value) if _FLOAT.fullmatch(event.value) else event.value

    def _place(self, value: Any, weight: int, line: int) -> Any:
        """Put a value that has ended into what is around it; the value if that is nothing."""
        self._values += 1
        if not self._open:
            return value
        outer = self._open[-1]
        outer.weight += weight
        if outer.weight > MOST_VALUES or self._values > MOST_VALUES:
            self._fail(line, f"holds more than {MOST_VALUES} values", "give only what is to be imported")
        if isinstance(outer.value, list):
            outer.value.append(value)
        elif outer.key is None:
            outer.key = self._key(value, outer.value, line)
        else:
            self._put(outer.value, outer.key, value)
            outer.key = None
        return None

    def _key(self, value: Any, mapping: Mapping, line: int) -> str:
        if isinstance(value, dict | list):
            self._fail(line, "a key is no text", "keys are texts")
        key = "true" if value is True else "false" if value is False else str(value)
        if key in mapping.lines and key != "<<":
            self._fail(line, f'"{key}" stands twice, first in line {mapping.lines[key]}', "remove one")
        mapping.lines[key] = line
        return key

    def _put(self, mapping: Mapping, key: str, value: Any) -> None:
        if key != "<<":
            mapping[key] = value
            return
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                for name, inner in one.items():
                    mapping.setdefault(name, inner)

    def _fail(self, line: int, what: str, right: str = "") -> NoReturn:
        raise ImportFailed(Place(self._file, line), what, right)


def _line_of(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark is not None else 0


def _error_line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return int(mark.line) + 1 if mark is not None else 0


def _words_of(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be understood")
