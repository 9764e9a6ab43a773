"""Route maps and prefix lists of a frr.conf, as far as they say which prefixes pass, and with which AS path,
communities and preference; what else they say is told (`unread`).

As FRR does: the first entry that matches decides, and what none matches is refused; so is all by a list that is not
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from bgpd.migrate.frr_text import FrrText, Line, MapEntry
from bgpd.simulation.fabric import FAMILIES
from bgpd.simulation.frr_matches import Matches, Matching, Passes, all_match, community, none_matches, prefix_list
from bgpd.simulation.peer import Filter
from bgpd.simulation.wire import EVPN, Codes, Route, codes_of

MOST_MED = 0xFFFFFFFF
CODES = {name: codes for codes, name in FAMILIES.items()}
"""Of families by the names that FRR and configurations have."""


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
        matching, version = Matching(text), "ip" if family == "ipv4-unicast" else "ipv6"
        if command == "route-map":
            yield route_map(text, line.word(3), asn, unread)
        elif command == "prefix-list":
            yield _by_list(prefix_list(text.prefix_lists.get(f"{version} {line.word(3)}", [])))
        elif command == "filter-list":
            yield _if(matching.as_path(line.word(3)))
        elif (passes := matching.access_list(version, line.word(3))) is not None:
            yield _by_list(passes)
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


def _if(matches: Matches) -> Filter:
    return lambda prefix, route: route if matches(prefix, route) else None


def _by_list(passes: Passes) -> Filter:
    return lambda prefix, route: route if passes(prefix) else None


def route_map(
    text: FrrText, name: str, asn: int, unread: dict[str, None], interfaces: Mapping[str, set[str]] | None = None
) -> Filter:
    """What a route map makes of routes. `asn`: the router's; `unread`: is given what is not simulated; `interfaces`: of
    the prefixes, where these are connected."""
    found = sorted(text.route_maps.get(name, ()), key=lambda entry: entry.number)
    matching = Matching(text, interfaces)
    entries = [_entry(name, one, matching, asn, unread) for one in found]

    def apply(prefix: str, route: Route) -> Route | None:
        kept: Route | None = route
        is_permitted, least = False, 0
        for one in entries:
            if one.number < least or kept is None or not all(matches(prefix, kept) for matches in one.matches):
                continue
            if not one.permits:
                return None
            kept, is_permitted = one.change(prefix, kept), True
            if one.goes_on_at is None:
                return kept
            least = one.goes_on_at
        return kept if is_permitted else None

    return apply


class _Entry(msgspec.Struct, frozen=True):
    """`goes_on_at`: the number of the entry that is looked at after a match, at least; None: no more is."""

    number: int
    permits: bool
    matches: tuple[Matches, ...]
    change: Filter
    goes_on_at: int | None


def _entry(name: str, entry: MapEntry, matching: Matching, asn: int, unread: dict[str, None]) -> _Entry:
    matches: list[Matches] = []
    changes: list[Filter] = []
    goes_on_at = None
    for line in entry.lines:
        where = f"route-map {name} {entry.number}: {line}"
        match line.words:
            case ("match", *_):
                found = matching.read(line)
                if (
                    found is None
                ):  # a route that is refused by mistake would tell more that is wrong than one that passes
                    unread[f"{where}: {'all are' if entry.permits else 'none is'} taken to match"] = None
                matches.append(found or (all_match if entry.permits else none_matches))
            case ("on-match", "next") | ("continue",):
                goes_on_at = entry.number + 1
            case ("on-match", "goto", number) | ("continue", number) if number.isdecimal():
                goes_on_at = int(number)
            case ("set", "as-path", "prepend", *numbers):
                changes.append(_prepend(numbers, asn))
            case ("set", "community", *words) if all(
                community(one) is not None or one in ("additive", "none") for one in words
            ):
                changes.append(_communities(words))
            case ("set", "local-preference", number) if number.isdecimal():
                changes.append(_preference(int(number)))
            case ("set", "metric", number) if number.lstrip("+-").isdecimal():
                changes.append(_med(number))
            case ("description", *_):
                pass
            case _:
                unread[where] = None

    def change(prefix: str, route: Route) -> Route | None:
        kept: Route | None = route
        for one in changes:
            kept = one(prefix, kept) if kept is not None else None
        return kept

    return _Entry(entry.number, entry.permits, tuple(matches), change, goes_on_at)


def _prepend(words: list[str], asn: int) -> Filter:
    if words[:1] == ["last-as"]:
        numbers = (asn,) * (int(words[1]) if words[1:2] and words[1].isdecimal() else 1)
    else:
        numbers = tuple(int(one) for one in words if one.isdecimal())
    return lambda _prefix, route: msgspec.structs.replace(route, as_path=(*numbers, *route.as_path))


def _communities(words: list[str]) -> Filter:
    new = tuple(number for one in words if (number := community(one)) is not None)
    is_added = "additive" in words
    return lambda _prefix, route: msgspec.structs.replace(
        route, communities=tuple(dict.fromkeys((*(route.communities if is_added else ()), *new)))
    )


def _preference(number: int) -> Filter:
    return lambda _prefix, route: msgspec.structs.replace(route, preference=number)


def _med(text: str) -> Filter:
    """A number, or one that is added to what it is, or taken off."""
    number, sign = int(text.lstrip("+-")), text[0]

    def apply(_prefix: str, route: Route) -> Route | None:
        before = route.med or 0
        med = {"+": before + number, "-": before - number}.get(sign, number)
        return msgspec.structs.replace(route, med=min(max(med, 0), MOST_MED))

    return apply
