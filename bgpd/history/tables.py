"""`bgpd show routes PREFIX --at TIME`: the routes of an earlier time, from the files of the history alone.

It is asked for a prefix and what is inside it, never for a whole table: a million routes would be decided anew.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from bgpd.history.prefixes import MOST_KEYS, TooMany
from bgpd.history.reading import (
    NotKnown,
    Progress,
    read,
    refuse_unknown,
    unsaid,
    vrfs_asked,
    whether_it_ran,
    why_not_known,
)
from bgpd.history.segments import known_from
from bgpd.history.wanted import Inside, These, Wanted
from bgpd.model.iana import UNICAST, Family
from bgpd.model.prefix import by_address, covering_keys, family_of, parse_prefix
from bgpd.model.views.explained import PastRoutesView
from bgpd.model.views.queries import PastQuery
from bgpd.rib.views import route_view


class AskedRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Which routes of which VRFs; of none means of all that the history has. `also_former`: of those that are not
    configured any more, too."""

    query: PastQuery
    vrfs: tuple[str, ...] = ("",)
    also_former: bool = False


def routes(state: Path, asked: AskedRoutes, progress: Progress = unsaid) -> PastRoutesView:
    """The routes of a time of day, by address and length. Raises: NotKnown."""
    query = asked.query
    try:
        family, wanted = _wanted(query)
    except ValueError as error:
        raise NotKnown(f'"{query.prefix}" is no prefix: {error}') from None
    try:
        vrfs = vrfs_asked(state, asked.vrfs, wanted, also_former=asked.also_former)
        segments, found = read(state, vrfs, family, wanted, since=query.at, until=query.at, progress=progress)
    except TooMany:
        raise NotKnown(f"more than {MOST_KEYS:,} prefixes are inside {query.prefix}: ask for a longer one") from None
    since = known_from(segments)
    known = [one for one in found if not one.problem]
    if not known:
        raise NotKnown(why_not_known(found[0].problem, since, query.at))
    places = [(one.prefixes, key) for one in known for key in sorted(one.prefixes.table.routes, key=by_address)]
    if not places:
        refuse_unknown(state, query.vrf)
    remarks = [whether_it_ran(known[0])]
    remarks += [f"VRF {one.prefixes.vrf or 'main'}: {one.problem}" for one in found if one.problem]
    views = [route_view(one.table, family, key, vrf=one.vrf) for one, key in places[: query.limit]]
    return PastRoutesView(
        prefix=query.prefix,
        at=query.at,
        known_from=max([since or known[0].at, *(gap for one in known for gap, _ in one.gaps)]),
        remark="; ".join(filter(None, remarks)),
        total=len(places),
        routes=[view for view in views if view is not None],
    )


def _wanted(query: PastQuery) -> tuple[Family, Wanted]:
    """Raises: ValueError: neither an address nor a prefix. NotKnown: there is no such family."""
    if query.family not in ("", *UNICAST):
        raise NotKnown(f'"{query.family}" is no family of routes; one of: {", ".join(UNICAST)}')
    wanted: Wanted
    if "/" in query.prefix:
        family, key = parse_prefix(query.prefix)
        wanted = Inside(key) if query.longer_prefixes else These([key])
    else:
        packed = ipaddress.ip_address(query.prefix).packed
        family = family_of(packed)
        wanted = These(covering_keys(family, packed))
    return family, wanted if query.family in ("", family) else These(())
