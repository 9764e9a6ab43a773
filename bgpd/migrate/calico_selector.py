"""Calico's selectors: "rack == 'a' && has(gpu) || role in {'x', 'y'}" over labels. Sans-IO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")|(?P<word>not\s+in\b|starts\s+with\b|ends\s+with\b|[A-Za-z_0-9./-]+)"
    r"|(?P<mark>&&|\|\||==|!=|[!(){},]))"
)
_DEEPEST = 50


class BadSelector(ValueError):
    """A selector that cannot be understood."""


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels fit a selector; an empty one fits all.

    Raises: BadSelector: it cannot be understood.
    """
    if not selector.strip():
        return True
    parser = _Parser(selector, labels)
    answer = parser.any_of(0)
    parser.end()
    return answer


class _Parser:
    def __init__(self, text: str, labels: Mapping[str, str]) -> None:
        self._text = text
        self._labels = labels
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                self._fail()
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def _fail(self) -> NoReturn:
        raise BadSelector(f'the selector "{self._text[:100]}" cannot be understood')

    def _take(self, text: str) -> bool:
        if self._at < len(self._tokens) and " ".join(self._tokens[self._at][1].split()) == text:
            self._at += 1
            return True
        return False

    def _next(self, kind: str) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at][0] != kind:
            self._fail()
        self._at += 1
        return self._tokens[self._at - 1][1]

    def end(self) -> None:
        """Nothing may stand behind it."""
        if self._at != len(self._tokens):
            self._fail()

    def any_of(self, depth: int) -> bool:
        """Terms with "||" between them."""
        if depth > _DEEPEST:
            self._fail()
        answer = self._all_of(depth)
        while self._take("||"):
            answer = self._all_of(depth) or answer
        return answer

    def _all_of(self, depth: int) -> bool:
        answer = self._term(depth)
        while self._take("&&"):
            answer = self._term(depth) and answer
        return answer

    def _term(self, depth: int) -> bool:
        negated = False
        while self._take("!"):
            negated = not negated
        return self._bare_term(depth) != negated

    def _bare_term(self, depth: int) -> bool:
        if self._take("("):
            answer = self.any_of(depth + 1)
            self._expect(")")
            return answer
        name = self._next("word")
        if name in ("all", "global", "has") and self._take("("):
            key = self._next("word") if name == "has" else ""
            self._expect(")")
            return name == "all" or key in self._labels
        return self._compared(name)

    def _compared(self, key: str) -> bool:
        value = self._labels.get(key)
        for sign in ("==", "!=", "contains", "starts with", "ends with"):
            if self._take(sign):
                wanted = self._next("string")[1:-1]
                return {
                    "==": value == wanted,
                    "!=": value != wanted,
                    "contains": value is not None and wanted in value,
                    "starts with": value is not None and value.startswith(wanted),
                    "ends with": value is not None and value.endswith(wanted),
                }[sign]
        for sign in ("in", "not in"):
            if self._take(sign):
                return (value in self._strings()) == (sign == "in")
        self._fail()
        return None

    def _strings(self) -> list[str]:
        self._expect("{")
        found = [self._next("string")[1:-1]]
        while self._take(","):
            found.append(self._next("string")[1:-1])
        self._expect("}")
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail()
