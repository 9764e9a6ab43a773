"""Prefix lists of a frr.conf, and what entries of its route maps match: by prefix, communities and AS path."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.frr_text import FrrText, Line
from bgpd.simulation import evpn
from bgpd.simulation.wire import Route

Passes = Callable[[str], bool]
Matches = Callable[[str, Route], bool]
WELL_KNOWN = {
    "graceful-shutdown": 0xFFFF0000,
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "blackhole": 0xFFFF029A,
}
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ACTIONS = {"permit", "deny"}
_BETWEEN = r"(^|[ ,{}()]|$)"
"""What "_" stands for in regular expressions of AS paths."""


def all_match(_prefix: str, _route: Route) -> bool:
    """Every route does."""
    return True


def none_matches(_prefix: str, _route: Route) -> bool:
    """No route does."""
    return False


def community(word: str) -> int | None:
    """A community by its numbers or its name; None: it is none."""
    high, _, low = word.partition(":")
    if high.isdecimal() and low.isdecimal():
        return int(high) << 16 | int(low)
    return WELL_KNOWN.get(word)


def prefix_list(lines: list[Line]) -> Passes:
    """Whether a list lets a prefix pass. `ip prefix-list NAME [seq N] permit|deny PREFIX|any [ge N] [le N]`."""
    entries = sorted(
        (_listed(line, 5 * (at + 1)) for at, line in enumerate(_acting(lines))),
        key=lambda entry: entry.place,
    )

    def passes(prefix: str) -> bool:
        network = ipaddress.ip_network(evpn.prefix_of(prefix))
        return next((one.permits for one in entries if one.has(network)), False)

    return passes


class _Listed(NamedTuple):
    """One entry of a prefix list. `whole`: None is any."""

    place: int
    permits: bool
    whole: _Network | None
    least: int
    most: int

    def has(self, network: _Network) -> bool:
        """Whether an entry of a prefix list is about a network."""
        if self.whole is None:
            return True
        is_inside = self.whole.version == network.version and network.subnet_of(self.whole)  # type: ignore[arg-type]
        return is_inside and self.least <= network.prefixlen <= self.most


def _listed(line: Line, place: int) -> _Listed:
    """Raises: ImportFailed: its prefix is none."""
    action = next(word for word in line.words if word in _ACTIONS)
    number, text, ge, le = line.after("seq"), line.after(action), line.after("ge"), line.after("le")
    whole = network_of(text, line) if text != "any" else None
    least = int(ge) if ge.isdecimal() else whole.prefixlen if whole is not None else 0
    longest = 0 if whole is None else whole.max_prefixlen if ge.isdecimal() else whole.prefixlen
    most = int(le) if le.isdecimal() else longest
    return _Listed(int(number) if number.isdecimal() else place, action == "permit", whole, least, most)


def network_of(text: str, line: Line) -> _Network:
    """Raises: ImportFailed: it is no prefix."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ImportFailed(line.place, f'"{text}": {error}', "write ADDRESS/LENGTH") from None


class Matching:
    """Reads the lines that begin with "match". `interfaces`: by which each prefix is connected; None: they are of
    others."""

    def __init__(self, text: FrrText, interfaces: Mapping[str, set[str]] | None = None) -> None:
        self._text = text
        self._interfaces = interfaces

    def read(self, line: Line) -> Matches | None:
        """What a line matches; None: that is not simulated. Raises: ImportFailed: a list has an error."""
        match line.words[1:]:
            case ("ip" | "ipv6" as version, "address", "prefix-list", name):
                return _of_version(version, prefix_list(self._text.prefix_lists.get(f"{version} {name}", [])))
            case ("ip" | "ipv6" as version, "address", "prefix-len", length) if length.isdecimal():
                return _of_version(version, lambda prefix: evpn.prefix_of(prefix).endswith(f"/{length}"))
            case ("ip" | "ipv6" as version, "address", name):
                passes = self.access_list(version, name)
                return _of_version(version, passes) if passes is not None else None
            case ("community", name, *rest) if rest in ([], ["exact-match"]):
                return self._communities(name, is_exact=bool(rest))
            case ("metric", number) if number.isdecimal():
                return lambda _prefix, route: (route.med or 0) == int(number)
            case ("as-path", name):
                return self.as_path(name)
            case ("interface", name) if self._interfaces is not None:
                names = self._interfaces
                return lambda prefix, _route: name in names.get(prefix, ())
        return None

    def _communities(self, name: str, *, is_exact: bool) -> Matches | None:
        entries: list[tuple[bool, frozenset[int]]] = []
        for line in _acting(self._text.lists.get(("community-list", name), [])):
            permits, words = _entry_of(line)
            numbers = [community(one) for one in words]
            if None in numbers:
                return None  # a regular expression
            entries.append((permits, frozenset(number for number in numbers if number is not None)))

        def matches(_prefix: str, route: Route) -> bool:
            has = frozenset(route.communities)
            found = (permits for permits, wanted in entries if (wanted == has if is_exact else wanted <= has))
            return next(found, False)

        return matches

    def access_list(self, version: str, name: str) -> Passes | None:
        """What an access list of prefixes lets pass; None: it is of another kind, or there is none."""
        return _access_list(self._text.lists.get((f"{version} access-list", name), []))

    def as_path(self, name: str) -> Matches:
        """What an access list of AS paths lets pass; nothing, if there is none."""
        entries = []
        for line in _acting(self._text.lists.get(("as-path", name), [])):
            permits, words = _entry_of(line)
            try:
                entries.append((permits, re.compile(" ".join(words).replace("_", _BETWEEN))))
            except re.error as error:
                right = "write a regular expression, such as _65001_"
                raise ImportFailed(line.place, f'"{" ".join(words)}": {error}', right) from None

        def matches(_prefix: str, route: Route) -> bool:
            path = " ".join(map(str, route.as_path))
            return next((permits for permits, pattern in entries if pattern.search(path)), False)

        return matches


def _acting(lines: list[Line]) -> list[Line]:
    """Without remarks and the like."""
    return [line for line in lines if not _ACTIONS.isdisjoint(line.words)]


def _entry_of(line: Line) -> tuple[bool, list[str]]:
    """Whether a line of a list permits, and what."""
    at = next(index for index, word in enumerate(line.words) if word in _ACTIONS)
    return line.words[at] == "permit", list(line.words[at + 1 :])


def _access_list(lines: list[Line]) -> Passes | None:
    """Of prefixes, or any; None: another kind, or there is none."""
    entries: list[tuple[bool, _Network | None, bool]] = []
    for line in _acting(lines):
        permits, words = _entry_of(line)
        if words[:1] != ["any"] and not (words and "/" in words[0]):
            return None
        whole = None if words[0] == "any" else network_of(words[0], line)
        entries.append((permits, whole, "exact-match" in words))

    def passes(prefix: str) -> bool:
        network = ipaddress.ip_network(evpn.prefix_of(prefix))
        for permits, whole, is_exact in entries:
            if whole is None or network == whole:
                return permits
            if not is_exact and network.version == whole.version and network.subnet_of(whole):  # type: ignore[arg-type]
                return permits
        return False

    return passes if entries else None


def _of_version(version: str, passes: Passes) -> Matches:
    return lambda prefix, _route: (":" in evpn.prefix_of(prefix)) == (version == "ipv6") and passes(prefix)
