"""bird.conf (BIRD 2) as statements: words with the place of each, and blocks within braces; includes are followed.

Decides where a statement ends and what a constant stands for; says nothing of what statements mean.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.reading import read_text

DEEPEST_INCLUDE = 8
MOST_FILES = 1000
MOST_TOKENS = 500_000
_DEEPEST_BLOCK = 40
_MOST_OF_CONSTANT = 20_000

_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\f]+|\#[^\n]*|/\*.*?\*/)
    |(?P<string>"[^"\n]*")
    |(?P<address>\d+\.\d+\.\d+\.\d+|(?:[0-9A-Fa-f]{0,4}:){2,8}(?:\d+\.\d+\.\d+\.\d+|[0-9A-Fa-f]{0,4}))
    |(?P<number>0x[0-9A-Fa-f]+|\d+(?![A-Za-z_]))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*|'[^'\n]*'|\d+[A-Za-z_]\w*)
    |(?P<mark>\[=|=\]|&&|\|\||!~|!=|<=|>=|\.\.|->|[^\w\s"'\x00-\x1f\x7f])""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One word, number, address, string (without quotes) or mark, and where it stands."""

    kind: str
    text: str
    place: Place


class Statement(msgspec.Struct):
    """Words up to ";" or a block; `block` has what stands in its braces, None without one."""

    words: list[Token]
    block: list[Token] | None
    place: Place

    def __str__(self) -> str:
        return text_of(self.words)

    def texts(self) -> list[str]:
        """The words as texts."""
        return [word.text for word in self.words]

    def starts(self, *texts: str) -> bool:
        """Whether it begins with these words."""
        return self.texts()[: len(texts)] == list(texts)

    def number(self, *after: str) -> int | None:
        """The number that follows these words, in a row; None if they or a number do not stand there."""
        texts = self.texts()
        for index in range(len(texts) - len(after)):
            if texts[index : index + len(after)] == list(after) and self.words[index + len(after)].kind == "number":
                return number_of(self.words[index + len(after)])
        return None


def number_of(token: Token) -> int:
    """The value of a number."""
    return int(token.text, 16 if token.text.startswith("0x") else 10) if len(token.text) < 20 else 1 << 64


def text_of(tokens: Sequence[Token]) -> str:
    """Tokens as a text for people; what follows "password" is not shown."""
    shown = []
    for token in tokens[:60]:
        shown.append(f'"{token.text}"' if token.kind == "string" else token.text)
        if token.text == "password":
            shown.append("...")
            break
    text = " ".join(shown)
    for mark in (",", ")", "]", ";"):
        text = text.replace(f" {mark}", mark)
    return text.replace("( ", "(").replace("[ ", "[").replace(" / ", "/").replace(" . ", ".")


class BirdText:
    """All statements of a configuration, constants put in; includes are where they stand."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self._constants: dict[str, list[Token]] = {}
        self._files = 0
        self._tokens = 0

    def read(self, file: str, display: str, *, including: tuple[str, ...] = (), place: Place | None = None) -> None:
        """Add a file and what it includes. Raises: ImportFailed."""
        real = os.path.realpath(file) if file != "-" else file
        if real in including:
            raise ImportFailed(place or Place(display), f'"{file}" includes itself', "remove the include")
        self._files += 1
        if len(including) > DEEPEST_INCLUDE or self._files > MOST_FILES:
            raise ImportFailed(place or Place(display), "too many files are included")
        tokens = _tokens(read_text(file), display)
        self._tokens += len(tokens)
        if self._tokens > MOST_TOKENS:
            raise ImportFailed(Place(display), f"has more than {MOST_TOKENS} words")
        for statement in split_statements(tokens):
            if statement.starts("include"):
                self._include(statement, file, (*including, real))
            elif statement.starts("define"):
                self._define(statement)
            else:
                statement.words = self.expand(statement.words)
                if statement.block is not None:
                    statement.block = self.expand(statement.block)
                self.statements.append(statement)

    def _include(self, statement: Statement, file: str, including: tuple[str, ...]) -> None:
        if len(statement.words) != 2 or statement.words[1].kind != "string":
            raise ImportFailed(statement.place, "include without a file's name")
        pattern = statement.words[1].text
        if file != "-":
            pattern = os.path.join(os.path.dirname(file), pattern)
        is_pattern = any(one in pattern for one in "*?[")
        found = sorted(glob.glob(pattern)) if is_pattern else [pattern]
        if not is_pattern and not os.path.exists(pattern):
            raise ImportFailed(
                statement.place, f'includes "{pattern}", which is not there', "give it beside the others"
            )
        for one in found[: MOST_FILES + 1]:
            self.read(one, one, including=including, place=statement.place)

    def _define(self, statement: Statement) -> None:
        texts = statement.texts()
        if len(texts) < 4 or texts[2] != "=":
            raise ImportFailed(statement.place, f'"{statement}" cannot be understood')
        self._constants[texts[1]] = self.expand(statement.words[3:])

    def expand(self, tokens: list[Token]) -> list[Token]:
        """Tokens with constants in place of their names."""
        if not self._constants:
            return tokens
        expanded: list[Token] = []
        for token in tokens:
            constant = self._constants.get(token.text) if token.kind == "word" else None
            if constant is None:
                expanded.append(token)
            elif len(constant) > _MOST_OF_CONSTANT:
                raise ImportFailed(token.place, f'the constant "{token.text}" is too long')
            else:
                expanded += [Token(one.kind, one.text, token.place) for one in constant]
        self._tokens += len(expanded) - len(tokens)
        if self._tokens > MOST_TOKENS:
            raise ImportFailed(tokens[0].place, f"comes to more than {MOST_TOKENS} words")
        return expanded


def _tokens(text: str, file: str) -> list[Token]:
    found: list[Token] = []
    at, line = 0, 1
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None or matched.lastgroup is None:
            raise ImportFailed(Place(file, line), f'"{text[at : at + 10].splitlines()[0]}" cannot be understood')
        kind, part = matched.lastgroup, matched[0]
        if kind == "string":
            found.append(Token(kind, part[1:-1], Place(file, line)))
        elif kind != "space":
            found.append(Token(kind, part.strip("'") if kind == "word" else part, Place(file, line)))
        line += part.count("\n")
        at = matched.end()
    return found


def split_statements(tokens: list[Token]) -> list[Statement]:
    """Statements of a file or of a block. Raises: ImportFailed: braces or brackets do not match."""
    found: list[Statement] = []
    words: list[Token] = []
    at, brackets = 0, 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind != "mark":
            words.append(token)
        elif token.text in ("[", "(", "[="):
            brackets += 1
            words.append(token)
        elif token.text in ("]", ")", "=]"):
            brackets -= 1
            words.append(token)
        elif token.text == "{" and brackets <= 0:
            end = _closing(tokens, at)
            found.append(Statement(words, tokens[at + 1 : end], words[0].place if words else token.place))
            words, at = [], end
        elif token.text == "}" and brackets <= 0:
            raise ImportFailed(token.place, '"}" without "{"')
        elif token.text == ";" and brackets <= 0:
            if words:
                found.append(Statement(words, None, words[0].place))
            words = []
        else:
            words.append(token)
        at += 1
    if words:
        raise ImportFailed(words[-1].place, f'"{text_of(words)[:60]}" does not end with ";"')
    return found


def _closing(tokens: list[Token], start: int) -> int:
    depth = 0
    for at in range(start, len(tokens)):
        if tokens[at].kind == "mark" and tokens[at].text == "{":
            depth += 1
            if depth > _DEEPEST_BLOCK:
                raise ImportFailed(tokens[at].place, "blocks are nested too deeply")
        elif tokens[at].kind == "mark" and tokens[at].text == "}":
            depth -= 1
            if not depth:
                return at
    raise ImportFailed(tokens[start].place, '"{" is never closed')
