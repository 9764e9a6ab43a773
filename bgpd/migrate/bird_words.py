"""The words of a BIRD filter, read from left to right, and the values that are made of them: sets of prefixes,
communities, AS paths.
"""

from __future__ import annotations

import ipaddress
from typing import NoReturn

from bgpd.migrate.bird_text import Token, number_of, text_of
from bgpd.migrate.filters import Inexpressible, prefix_range

_WELL_KNOWN = {
    (65535, 65281): "no-export", (65535, 65282): "no-advertise", (65535, 65283): "no-export-subconfed",
    (65535, 0): "graceful-shutdown", (65535, 666): "blackhole",
}  # fmt: skip
_MOST_ASNS = 300


class Words:
    """Tokens and how far they have been read. What cannot be understood raises `Inexpressible`."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Whether all has been read."""
        return self._at >= len(self._tokens)

    def fail(self, what: str) -> NoReturn:
        """Raise `Inexpressible` for what stands here."""
        if self.is_at_end:
            line = self._tokens[-1].place.line if self._tokens else 0
            raise Inexpressible(f"its end {what}", line)
        near = text_of(self._tokens[self._at : self._at + 8])
        raise Inexpressible(f'"{near}" {what}', self._tokens[self._at].place.line)

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) and self._tokens[at].kind != "string" else ""

    def _take(self, *texts: str) -> bool:
        """Whether these come next; they are read then."""
        if all(self._peek(index) == text for index, text in enumerate(texts)):
            self._at += len(texts)
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self.fail(f'stands where "{text}" should')

    def _number(self) -> int:
        if self.is_at_end or self._tokens[self._at].kind != "number":
            self.fail("is no number")
        self._at += 1
        return number_of(self._tokens[self._at - 1])

    def _prefix_set(self) -> tuple[str, ...]:
        self._expect("[")
        found: list[str] = []
        while not self._take("]"):
            found += self._pattern()
            if not self._take(",") and self._peek() != "]":
                self.fail("cannot be understood")
        return tuple(dict.fromkeys(found))

    def _pattern(self, *, contained: bool = False) -> tuple[str, ...]:
        """10.0.0.0/8, with "+", "-" or "{16,24}" behind it."""
        if self.is_at_end or self._tokens[self._at].kind != "address":
            self.fail("is no prefix")
        address = self._tokens[self._at].text
        self._at += 1
        length = 128 if ":" in address else 32
        if self._take("/"):
            length = self._number()
        try:
            network = ipaddress.ip_network(f"{address}/{length}", strict=False)
        except ValueError:
            self.fail("stands behind what is no prefix")
        if self._take("+") or contained:
            return prefix_range(network, network.prefixlen, network.max_prefixlen)
        if self._take("-"):
            return prefix_range(network, 0, network.prefixlen)
        if self._take("{"):
            least = self._number()
            self._expect(",")
            most = self._number()
            self._expect("}")
            return prefix_range(network, least, most)
        return (str(network),)

    def _communities(self) -> list[str]:
        """One in parentheses, or several in brackets."""
        if not self._take("["):
            return [self._one_community()]
        found = []
        while not self._take("]"):
            found.append(self._one_community())
            if not self._take(",") and self._peek() != "]":
                self.fail("cannot be understood")
        return found

    def _one_community(self) -> str:
        self._expect("(")
        kind = ""
        if self._peek() in ("rt", "ro", "generic"):
            kind = self._peek()
            self._at += 1
            self._expect(",")
        numbers = []
        while True:
            if self._tokens[self._at : self._at + 1] and self._tokens[self._at].kind == "address" and kind:
                numbers.append(self._tokens[self._at].text)
                self._at += 1
            else:
                numbers.append(str(self._number()))
            if not self._take(","):
                break
        self._expect(")")
        if kind == "generic":
            self.fail("stands behind a generic community")
        if kind:
            return ":".join(("rt" if kind == "rt" else "soo", *numbers))
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            return _WELL_KNOWN.get((int(numbers[0]), int(numbers[1])), ":".join(numbers))
        return ":".join(numbers)

    def _mask(self) -> str:
        """[= * 65001 ? =] as a regular expression over AS numbers with spaces between."""
        parts: list[str] = []
        while not self._take("=]"):
            if self._take("*"):
                parts.append("*")
            elif self._take("?"):
                parts.append("[0-9]+")
            else:
                parts.append(str(self._number()))
        if all(part == "*" for part in parts):
            return ".*" if parts else "^$"
        pattern, any_before, is_first = "^", False, True
        for part in parts:
            if part == "*":
                any_before = True
                continue
            pattern += ("" if is_first else " ") + ("([0-9]+ )*" if any_before else "") + part
            any_before = is_first = False
        return f"{pattern}( [0-9]+)*$" if any_before else f"{pattern}$"

    def _as_numbers(self) -> list[int]:
        found: list[int] = []
        while not self._take("]"):
            first = self._number()
            last = self._number() if self._take("..") else first
            if last - first > _MOST_ASNS or len(found) > 2 * _MOST_ASNS:
                self.fail("stands behind too many AS numbers")
            found += range(first, last + 1)
            if not self._take(",") and self._peek() != "]":
                self.fail("cannot be understood")
        return found
