"""What is wrong with a text that is no TOML: the place, the line with a mark below it, and one hint.

The place is the parser's. The hint is guessed from the line: what people write where TOML wants something else.
Sans-IO.
"""

from __future__ import annotations

import re

import msgspec

DEEPEST = 64
"""Tables and lists within each other; the schema has seven."""
_SHOWN = 100
"""Characters of a long line that are shown."""
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
_ASSIGNMENT = re.compile(r"\s*(?P<key>[\w.\"-]+)\s*=\s*(?P<value>.*?)\s*(?:#.*)?$")
_TABLE = re.compile(r"\s*\[\s*(?P<name>neighbor|listen|vrf|aggregate|workload\.static)\s*\]\s*(?:#.*)?$")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_IN_A_LIST = "put each text in quotes, and close the list or table in which it stands"
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a`"


class TextError(msgspec.Struct, frozen=True, kw_only=True):
    """`line` counts from 1; `excerpt` marks the column in it."""

    line: int
    what: str
    hint: str
    excerpt: str


def text_error(error: Exception, text: str) -> TextError:
    """What the TOML parser's error means; also one that is raised by a text nested too deeply."""
    if isinstance(error, RecursionError):
        return nested_too_deeply(text)
    found = _PLACE.search(str(error))
    what = str(error)[: found.start()] if found else str(error)
    lines = text.split("\n")
    line = int(found[1]) if found and found[1] else len(lines) if lines[-1] or len(lines) == 1 else len(lines) - 1
    column = int(found[2]) if found and found[2] else len(lines[line - 1]) + 1
    if "integer string conversion" in what:
        line, column = _longest_number(lines)
        what = "a number has more than 4,300 digits"
    if "Cannot" in what or not found or not found[1]:
        column = _first_column(lines[line - 1])
    return TextError(
        line=line,
        what=f"is not valid TOML: {what}",
        hint=_hint(text, lines[line - 1], column, what),
        excerpt=_excerpt(lines[line - 1], column),
    )


def bytes_error(data: bytes, at: int) -> TextError:
    """The byte at `at` is no part of a UTF-8 text."""
    line = data.count(b"\n", 0, at) + 1
    start = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    column = len(data[start:at].decode(errors="replace")) + 1
    shown = data[start : end if end >= 0 else len(data)].decode(errors="replace")
    what = f"is not UTF-8 text: byte {at} is {data[at]:#04x}"
    hint = "save it as UTF-8"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = "it is UTF-16: save it as UTF-8"
        shown = ""
    return TextError(line=line, what=what, hint=hint, excerpt=_excerpt(shown, column) if shown else "")


def nested_too_deeply(text: str) -> TextError:
    """Tables and lists, or the parts of a dotted key, are more than `DEEPEST` within each other."""
    line, column = _deepest(text)
    return TextError(
        line=line,
        what=f"is nested more than {DEEPEST} levels deep",
        hint="close the brackets; no key of bgpd is that deep",
        excerpt=_excerpt(text.split("\n")[line - 1], column),
    )


def _deepest(text: str) -> tuple[int, int]:
    """Line and column where a text becomes nested too deeply; of quotation marks it knows nothing."""
    depth = 0
    for line, content in enumerate(text.split("\n"), 1):
        for column, character in enumerate(content, 1):
            depth += (character in "[{") - (character in "]}")
            if depth > DEEPEST or content.count(".", 0, column) > DEEPEST:
                return line, column
    return 1, 1


def _hint(text: str, line: str, column: int, what: str) -> str:
    for guess in (_whole_file, _statement, _brackets, _value):
        if hint := guess(text, line, column, what):
            return hint
    return ""


def _whole_file(text: str, line: str, column: int, what: str) -> str:
    if text.startswith("\ufeff"):
        return "the file begins with a byte order mark: save it as UTF-8 without one"
    if text.lstrip().startswith("{"):
        return "this is JSON; TOML has [router] and, below it, lines such as asn = 65203"
    if "\0" in text:
        return "the file has a NUL character: save it as plain UTF-8 text"
    if "\r" in text.replace("\r\n", ""):
        return "lines end with a carriage return alone: save it with line feeds"
    if re.match(r"\s*(- |[\w-]+:(\s|$))", line):
        key, _, value = line.strip(" -").partition(":")
        if value.strip():
            return f"this is YAML; TOML writes {key.strip()} = {_in_toml(value.strip())}"
        return f"this is YAML; TOML writes [{key.strip()}], or [[neighbor]] for each of several"
    return ""


def _statement(text: str, line: str, column: int, what: str) -> str:
    stripped = line.strip()
    if stripped.startswith(("//", ";", "--", "/*")):
        return "a comment begins with #"
    if what.startswith("Expected '=' after a key"):
        words = stripped.split(None, 1)
        if len(words) == 2 and re.fullmatch(r"[\w-]+", words[0]) and "=" not in stripped:
            return f"write {words[0]} = {_in_toml(words[1])}"
        return "write KEY = VALUE; a key has no blanks"
    if ("declare" in what and "twice" in what) or "Cannot mutate" in what or "overwrite" in what:
        if _TABLE.match(line) or re.match(r"\s*\[\[", line):
            name = line.strip().strip("[] ")
            return f"write [[{name}]], with two brackets, for each of several"
        if stripped.startswith("["):
            return f"{stripped} stands twice: put all its keys below one of them"
        return f"{line.partition('=')[0].strip()} stands twice: remove one"
    return ""


def _brackets(text: str, line: str, column: int, what: str) -> str:
    if "table declaration" in what or "array declaration" in what:
        return "a table's name stands alone in its line, as [router] or [[neighbor]]"
    if "Unclosed array" in what:
        return "put each text in quotes, commas between, and close the list with ]"
    if re.search(r"=\s*\{[^}]*$", line):
        return "a table in braces stands on one line, up to its }"
    if "key part" in what:
        return "a key has letters, digits, - and _ only"
    return ""


def _value(text: str, line: str, column: int, what: str) -> str:
    if "digits" in what:
        return "a number has at most 19 digits"
    if what == "Invalid value" and column <= _first_column(line):
        return "close the list or table that begins above"
    if any(quote in line for quote in _QUOTES):
        return 'use the plain quotation mark "'
    if line.lstrip()[:1] in ('"', "'"):
        return "a key stands without quotation marks"
    found = _ASSIGNMENT.match(line)
    if found is None:
        return _IN_A_LIST
    value = found["value"]
    if not value:
        return f'a value is missing, such as {found["key"]} = ""'
    if value.startswith("="):
        return f"one = is enough: {found['key']} = {_in_toml(value.strip('= '))}"
    if value[0] in "\"'":
        if "\\" in value:
            return "write \\\\ for a backslash, or put the text in single quotes"
        return "close the text with the quotation mark that it begins with"
    if value[0] in "[{":
        return _IN_A_LIST
    if value[-1] in ",;":
        return f"nothing stands behind a value: {found['key']} = {_in_toml(value[:-1].strip())}"
    return f"write {found['key']} = {_in_toml(value)}"


def _in_toml(value: str) -> str:
    """A value as TOML writes it: a number, true or false, or a text in quotes."""
    word = value.strip("\"'")
    if word.lower() in (*_TRUE, *_FALSE):
        return "true" if word.lower() in _TRUE else "false"
    if word.lower() in ("null", "none", "~", "nil"):
        return '""'
    digits = word.replace("_", "").replace(",", "")
    return str(int(digits)) if digits.isdecimal() and len(digits) < 20 else f'"{word}"'


def _longest_number(lines: list[str]) -> tuple[int, int]:
    """Line and column of the longest run of digits."""
    best = max(
        (
            (len(found[0]), -number, found.start() + 1)
            for number, line in enumerate(lines, 1)
            for found in re.finditer(r"[\d_]+", line)
        ),
        default=(0, -1, 1),
    )
    return -best[1], best[2]


def _first_column(line: str) -> int:
    return len(line) - len(line.lstrip()) + 1


def _excerpt(line: str, column: int) -> str:
    """The line, or what is around the column of a long one, and a mark below the column."""
    start = max(0, column - 1 - _SHOWN // 2) if len(line) > _SHOWN else 0
    part = line[start : start + _SHOWN]
    shown = "".join(character if character.isprintable() else " " for character in part)
    before, after = "..." if start else "", "..." if start + _SHOWN < len(line) else ""
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + min(column - 1 - start, len(part)))}^"
