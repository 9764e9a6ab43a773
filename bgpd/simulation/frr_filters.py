"""Route maps and prefix lists of a frr.conf, as far as they say which prefixes pass, and with which AS path,
communities and preference; what else they say is told (`unread`).

As FRR does: the first entry that matches decides, and what none matches is refused; so is all by a list that is not
there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.frr_text import FrrText, Line, MapEntry
from bgpd.simulation import evpn
from bgpd.simulation.fabric import FAMILIES
from bgpd.simulation.peer import Filter
from bgpd.simulation.wire import EVPN, Codes, Route, codes_of

CODES = {name: codes for codes, name in FAMILIES.items()}
"""Of families by the names that FRR and configurations have."""
_WELL_KNOWN = {
    "graceful-shutdown": 0xFFFF0000,
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "blackhole": 0xFFFF029A,
}
_Passes = Callable[[str], bool]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Filters(msgspec.Struct, frozen=True):
    """Both directions of a neighbor; None: all passes. `names` of what is applied, `unread` what is not simulated."""

    takes: Filter | None
    tells: Filter | None
    names: tuple[str, ...]
    unread: tuple[str, ...]


def filters_of(
    text: FrrText, general: Mapping[str, Line], families: Mapping[str, Mapping[str, Line]], *, asn: int, requires: bool
) -> Filters:
    """Those of one neighbor, by its commands. `asn`: the router's. `requires`: without, nothing passes (RFC 8212)."""
    unread: dict[str, None] = {}
    names: dict[str, None] = {}
    chosen: dict[str, dict[Codes, list[Filter]]] = {"in": {}, "out": {}}
    for family, codes in CODES.items():
        commands = {**(general if family == "ipv4-unicast" else {}), **families.get(family, {})}
        for way, found in chosen.items():
            its = list(_of_family(text, commands, way, family, asn, names, unread))
            if not its and requires and codes != EVPN:
                its = [_refuse]
            if its:
                found[codes] = its
    return Filters(_joined(chosen["in"]), _joined(chosen["out"]), tuple(names), tuple(unread))


def _of_family(
    text: FrrText,
    commands: Mapping[str, Line],
    way: str,
    family: str,
    asn: int,
    names: dict[str, None],
    unread: dict[str, None],
) -> Iterator[Filter]:
    for command in ("prefix-list", "filter-list", "distribute-list", "route-map"):
        line = commands.get(f"{command} {way}")
        if line is None or line.words[0] == "no":
            continue
        names[f"{command} {line.word(3)} {way}"] = None
        if command == "prefix-list":
            version = "ip" if family == "ipv4-unicast" else "ipv6"
            yield _by_list(prefix_list(text.prefix_lists.get(f"{version} {line.word(3)}", [])))
        elif command == "route-map":
            yield route_map(text, line.word(3), asn, unread)
        else:
            unread[str(line)] = None


def _refuse(_prefix: str, _route: Route) -> Route | None:
    return None


def _joined(found: dict[Codes, list[Filter]]) -> Filter | None:
    if not found:
        return None

    def apply(prefix: str, route: Route) -> Route | None:
        kept: Route | None = route
        for one in found.get(codes_of(prefix), ()):
            kept = one(prefix, kept) if kept is not None else None
        return kept

    return apply


def overriding(tells: Filter | None, *, old: int, new: int) -> Filter:
    """What else is done, and then each `old` AS number in the path of a route that goes out is `new` (as-override)."""

    def apply(prefix: str, route: Route) -> Route | None:
        told = route if tells is None else tells(prefix, route)
        if told is None or old not in told.as_path:
            return told
        return msgspec.structs.replace(told, as_path=tuple(new if one == old else one for one in told.as_path))

    return apply


def _by_list(passes: _Passes) -> Filter:
    return lambda prefix, route: route if passes(prefix) else None


def prefix_list(lines: list[Line]) -> _Passes:
    """Whether a list lets a prefix pass. `ip prefix-list NAME [seq N] permit|deny PREFIX|any [ge N] [le N]`."""
    entries = sorted(
        (_listed(line, 5 * (at + 1)) for at, line in enumerate(lines) if {"permit", "deny"} & set(line.words)),
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
    action = next(word for word in line.words if word in ("permit", "deny"))
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


class _Entry(msgspec.Struct, frozen=True):
    permits: bool
    matches: tuple[_Passes, ...]
    change: Filter


def route_map(text: FrrText, name: str, asn: int, unread: dict[str, None]) -> Filter:
    """What a route map makes of routes. `asn`: the router's; `unread`: is given what is not simulated."""
    found = sorted(text.route_maps.get(name, ()), key=lambda entry: entry.number)
    entries = [_entry(text, name, one, asn, unread) for one in found]

    def apply(prefix: str, route: Route) -> Route | None:
        for one in entries:
            if all(matches(prefix) for matches in one.matches):
                return one.change(prefix, route) if one.permits else None
        return None

    return apply


def _entry(text: FrrText, name: str, entry: MapEntry, asn: int, unread: dict[str, None]) -> _Entry:
    matches: list[_Passes] = []
    changes: list[Filter] = []
    for line in entry.lines:
        match line.words:
            case ("match", "ip" | "ipv6" as version, "address", "prefix-list", listed):
                matches.append(_of_version(version, prefix_list(text.prefix_lists.get(f"{version} {listed}", []))))
            case ("set", "as-path", "prepend", *numbers):
                changes.append(_prepend(numbers, asn))
            case ("set", "community", *words) if all(_community(one) is not None or one == "additive" for one in words):
                changes.append(_communities(words))
            case ("set", "local-preference", number) if number.isdecimal():
                changes.append(_preference(int(number)))
            case ("description", *_):
                pass
            case _:
                unread[f"route-map {name} {entry.number}: {line}"] = None

    def change(prefix: str, route: Route) -> Route | None:
        kept: Route | None = route
        for one in changes:
            kept = one(prefix, kept) if kept is not None else None
        return kept

    return _Entry(entry.permits, tuple(matches), change)


def _of_version(version: str, passes: _Passes) -> _Passes:
    return lambda prefix: (":" in evpn.prefix_of(prefix)) == (version == "ipv6") and passes(prefix)


def _prepend(words: list[str], asn: int) -> Filter:
    if words[:1] == ["last-as"]:
        numbers = (asn,) * (int(words[1]) if words[1:2] and words[1].isdecimal() else 1)
    else:
        numbers = tuple(int(one) for one in words if one.isdecimal())
    return lambda _prefix, route: msgspec.structs.replace(route, as_path=(*numbers, *route.as_path))


def _community(word: str) -> int | None:
    high, _, low = word.partition(":")
    if high.isdecimal() and low.isdecimal():
        return int(high) << 16 | int(low)
    return _WELL_KNOWN.get(word)


def _communities(words: list[str]) -> Filter:
    new = tuple(number for one in words if (number := _community(one)) is not None)
    is_added = "additive" in words
    return lambda _prefix, route: msgspec.structs.replace(
        route, communities=tuple(dict.fromkeys((*(route.communities if is_added else ()), *new)))
    )


def _preference(number: int) -> Filter:
    return lambda _prefix, route: msgspec.structs.replace(route, preference=number)
