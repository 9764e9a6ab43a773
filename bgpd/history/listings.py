"""Whole tables of an earlier time, from the files of the history alone: `bgpd show evpn --at TIME`, and the same of
workloads and services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bgpd.evpn.key_search import evpn_routes_with
from bgpd.evpn.views import route_view
from bgpd.history.course import Course
from bgpd.history.own import OwnTables
from bgpd.history.prefixes import MOST_KEYS, TooMany
from bgpd.history.reading import (
    NotKnown,
    Progress,
    read,
    read_into,
    refuse_unknown,
    unsaid,
    whether_it_ran,
    why_not_known,
)
from bgpd.history.records import Mark
from bgpd.history.segments import Segment, known_from
from bgpd.history.wanted import OfKind
from bgpd.model.iana import Family
from bgpd.model.prefix import covers, parse_prefix
from bgpd.model.views.explained import PastTableView
from bgpd.model.views.queries import PastTableQuery, ViewQuery

_NLRI = bytes((0, Family.L2VPN_EVPN.afi, Family.L2VPN_EVPN.safi))
"""AFI and SAFI as in MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760): no UPDATE with EVPN routes is without."""


class AskedTable(msgspec.Struct, frozen=True, kw_only=True):
    """Which table, and what of it."""

    kind: str
    query: PastTableQuery


def table(state: Path, asked: AskedTable, progress: Progress = unsaid) -> PastTableView:
    """The rows of a table at a time of day, in its order. Raises: NotKnown."""
    query = asked.query
    reading = _READING.get(asked.kind)
    if reading is None:
        raise NotKnown(f'the history has no "{asked.kind}"; it has: {", ".join(_READING)}')
    try:
        parse_prefix(query.prefix or "::/0")
    except ValueError as error:
        raise NotKnown(f'"{query.prefix}" is no prefix: {error}') from None
    segments, found, views = reading(state, query, progress)
    begins = known_from(segments)
    if found.problem:
        raise NotKnown(why_not_known(found.problem, begins, query.at))
    chosen = [view for view in views if _is_meant(view, query)]
    if not chosen:
        refuse_unknown(state, query.vrf)
    return PastTableView(
        at=query.at,
        known_from=max([begins or found.at, *(gap for gap, _ in found.gaps)]),
        remark=whether_it_ran(found),
        total=len(chosen),
        rows=chosen[: query.limit],
    )


_Found = tuple[list[Segment], Course, Iterator[Any]]


def _evpn(state: Path, query: PastTableQuery, progress: Progress) -> _Found:
    wanted = OfKind(Mark.EVPN, needle=_NLRI, keep=_keys_meant(query))
    family = Family.L2VPN_EVPN
    try:
        segments, (found,) = read(state, ("",), family, wanted, since=query.at, until=query.at, progress=progress)
    except TooMany:
        raise NotKnown(
            f"there were more than {MOST_KEYS:,} EVPN routes: ask for a type, a MAC, an address or an RD"
        ) from None
    vrfs = {name: _Tenant(rd, targets) for name, rd, targets in found.tenants}
    given = ViewQuery(vrf=query.vrf, mac=query.mac, rd=query.rd)
    keys = sorted(found.prefixes.table.routes)
    views = (
        route_view(found.prefixes.table, key, given, vrfs=vrfs, resolution=lambda *_: ([], ""))  # not known
        for key in keys
    )
    return segments, found, (view for view in views if view is not None)


class _Tenant(msgspec.Struct, frozen=True):
    """A VRF of then."""

    rd: bytes
    import_targets: Sequence[bytes]


def _keys_meant(query: PastTableQuery) -> Callable[[Sequence[bytes]], list[bytes]]:
    """EVPN keys are chosen as early as can be: there may be very many."""
    found = [evpn_routes_with(text) for text in (query.search, query.mac, query.rd) if text]
    keeps = [keep for keep in found if keep is not None]

    def keep(keys: Sequence[bytes]) -> list[bytes]:
        chosen = [key for key in keys if query.type in (0, key[0])]
        for one in keeps:
            chosen = one(chosen)
        return chosen

    return keep


def _own(views: Callable[[OwnTables], Iterator[Any]], state: Path, query: PastTableQuery, progress: Progress) -> _Found:
    segments, (found,) = read_into(
        lambda: [OwnTables()], state, OfKind(Mark.OWN), since=query.at, until=query.at, progress=progress
    )
    return segments, found, views(found)


_READING: Mapping[str, Callable[[Path, PastTableQuery, Progress], _Found]] = {
    "evpn": _evpn,
    "workloads": partial(_own, OwnTables.workloads),
    "services": partial(_own, OwnTables.services),
}


KINDS = tuple(_READING)


def _is_meant(view: Any, query: PastTableQuery) -> bool:
    """Whether a row is asked for; what a view lacks does not narrow it."""
    candidates = getattr(view, "candidates", None)
    if candidates is not None:
        sources = {one.source for one in candidates}
        is_key = query.search and evpn_routes_with(query.search) is not None
        return {query.neighbor, "" if is_key else query.search} - {""} <= sources and _has_prefix(view, query)
    state = getattr(view, "state", "announced" if view.announced else "withheld")
    return (
        query.vrf in (None, view.vrf)
        and query.state in ("", state)
        and query.source in ("", view.source)
        and query.name in ("", getattr(view, "id", ""), getattr(view, "name", ""))
        and _has_prefix(view, query)
        and _has(query.search, view)
    )


def _has_prefix(view: Any, query: PastTableQuery) -> bool:
    if not query.prefix and not query.family:
        return True
    try:
        family, key = parse_prefix(getattr(view, "prefix", ""))
    except ValueError:  # it is about none
        return not hasattr(view, "prefix")
    if query.family not in ("", family):
        return False
    if not query.prefix:
        return True
    wanted_family, wanted = parse_prefix(query.prefix)
    return family is wanted_family and (covers(wanted, key) if query.longer_prefixes else wanted == key)


_SHOWN = ("id", "name", "prefix", "mac", "interface", "source")


def _has(text: str, view: Any) -> bool:
    shown = [getattr(view, name, "") for name in _SHOWN] + getattr(view, "addresses", [])
    return not text or any(text.lower() in one.lower() for one in shown)
