"""Queries on the tables, for people and the FIB: `bgpd show routes`, `bgpd explain`, and which route would be used
instead.

Only reads. A query that may walk a whole table is an iterator with short steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice

from bgpd.model.as_path import as_path_text
from bgpd.model.communities import format_membership
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.policy_syntax import format_community, format_extended_community, format_large_community
from bgpd.model.prefix import covering_keys, covers, format_key, in_address_order
from bgpd.model.views.routes import CandidateView, RouteView
from bgpd.rib.decision import Outcome, lost_at, reason
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Entry, outcome_of
from bgpd.rib.stale import Kept, StaleOf

_PAGE = 256
_SCANNED = 4096
_FALLBACK_SCANNED = 2048
_FALLBACK_VOTES = 128
"""Distinct decisions of a table that are looked at most for the fallbacks of one loss, and asked for each: however many
sets of next hops a neighbor's end touches, that takes some tens of milliseconds, ..."""
_FALLBACK_AT_ONCE = 128
"""... and where there are few sets, as of two leaves, less than one: so many are looked at before it is asked whether
they do."""


def route_view(table: LocRib, family: Family, key: bytes, *, vrf: str = "") -> RouteView | None:
    """One prefix with all its candidates: best, multipath, then the losers, the later they lost the higher, each with
    the reason; None if there is no route."""
    decision = table.routes.get(key)
    if decision is None:
        return None
    return _route_view(table, family, key, decision, vrf, table.stale_of())


def _route_view(table: LocRib, family: Family, key: bytes, decision: Entry, vrf: str, stale_of: StaleOf) -> RouteView:
    outcome = outcome_of(decision)
    order = sorted(range(len(decision.candidates)), key=lambda index: -lost_at(outcome[1][index]))
    return RouteView(
        family=family,
        prefix=_prefix_text(family, key),
        vrf=vrf,
        fib="local" if decision.is_local else "",
        candidates=[
            _candidate_view(table, decision, outcome, index, stale_of(decision.candidates[index], key))
            for index in order
        ],
    )


def _prefix_text(family: Family, key: bytes) -> str:
    if family is Family.ROUTE_TARGET:
        return format_membership(key)
    return key.hex() if family is Family.L2VPN_EVPN else format_key(family, key)


def _candidate_view(table: LocRib, decision: Entry, outcome: Outcome, index: int, kept: Kept | None) -> CandidateView:
    path = decision.candidates[index]
    attributes = path.attributes
    return CandidateView(
        source=path.source.name,
        kind=path.source.kind,
        role=decision.role(path),
        reason=reason(decision.candidates, outcome, index, table.unusable),
        next_hop="" if path.next_hop is None else str(path.next_hop),
        as_path=as_path_text(attributes.packed_as_path),
        origin=attributes.origin.name.lower(),
        med=attributes.med,
        local_pref=attributes.local_pref,
        communities=[format_community(value) for value in attributes.communities],
        extended_communities=[format_extended_community(value) for value in attributes.extended_communities],
        large_communities=[format_large_community(value) for value in attributes.large_communities],
        only_to_customer=attributes.only_to_customer,
        neighbor_asn=path.source.asn,
        heard_at=path.heard_at,
        stale_since=None if kept is None else kept.since,
        stale_until=None if kept is None else kept.ends_at,
    )


def routes(
    table: LocRib,
    family: Family,
    *,
    vrf: str = "",
    inside: bytes | None = None,
    neighbor: str = "",
    limit: int = 0,
) -> Iterator[list[RouteView]]:
    """Pages of `show routes`: each step looks at a few thousand keys, and its page may be empty.

    `inside`: only prefixes within this route key, itself included. `neighbor`: only routes with a candidate of that
    name. `limit`: at most so many (0: all). In order of address.
    """
    given, stale_of = 0, table.stale_of()
    wanted = (
        (key for key in keys if _is_wanted(table, key, inside, neighbor)) for keys in table.routes.slices(_SCANNED)
    )
    for keys in in_address_order(wanted):
        page: list[RouteView] = []
        for key in keys:
            decision = table.routes.get(key)
            if decision is not None:
                page.append(_route_view(table, family, key, decision, vrf, stale_of))
                given += 1
            if given == limit > 0:
                yield page
                return
            if len(page) == _PAGE:
                yield page
                page = []
        yield page


def _is_wanted(table: LocRib, key: bytes, inside: bytes | None, neighbor: str) -> bool:
    if inside is not None and not covers(inside, key):
        return False
    if not neighbor:
        return True
    decision = table.routes.get(key)
    return decision is not None and decision.path_of(neighbor) is not None


def longest_match(table: LocRib, family: Family, address: bytes, *, usable: bool = True) -> bytes | None:
    """Key of the most specific route that covers a packed address, with `usable` only one that has a usable path."""
    for key in covering_keys(family, address):
        decision = table.routes.get(key)
        if decision is not None and (decision.multipath or not usable):
            return key
    return None


def fallback(tables: Iterable[LocRib], dead: Set[NextHop]) -> Callable[[NextHops], NextHops | None]:
    """What most routes that use a set of next hops would use without the `dead` ones (None: no route of ours).

    Works on distinct decisions, weighed by their routes; of very many only the first are looked at, since the exact
    answer for each route follows with its own change. They are sorted by their next hops once for all sets.
    """
    sorted_tables = [_ByNextHops(table) for table in tables]

    def instead(used: NextHops) -> NextHops | None:
        votes: Counter[NextHops | None] = Counter()
        for one in sorted_tables:
            for decision in one.forwarded_by(used, _FALLBACK_VOTES):
                votes[one.table.next_hops_without(decision, dead)] += decision.routes or 1  # 0: they are yet to come
        return votes.most_common(1)[0][0] if votes else None

    return instead


class _ByNextHops:
    """The first decisions of a table over several candidates, and the only candidates of some of its routes, by what
    they are forwarded by. No more of them are looked at than it takes: packets are lost meanwhile. The table must not
    change."""

    def __init__(self, table: LocRib) -> None:
        self.table = table
        self._unseen = _first_decisions(table)
        self._found: dict[NextHops, list[Entry]] = {}
        self._by_object: dict[int, list[Entry]] = {}
        self._by_places: dict[frozenset[tuple[bytes, str]], list[Entry]] | None = None

    def forwarded_by(self, used: NextHops, most: int) -> list[Entry]:
        """So many of those that are forwarded by these, or by what has the same places if they are weighted."""
        if all(hop.weight == 1 for hop in used):
            found = self._found.setdefault(used, [])
            while len(found) < most and self._look_on():
                pass
            return found[:most]
        if self._by_places is None:
            while self._look_on():
                pass
            self._by_places = _by_places(self._found)
        return self._by_places.get(_places(used), [])[:most]

    def _look_on(self) -> bool:
        """Look at some more; whether there were any."""
        some = list(islice(self._unseen, _FALLBACK_AT_ONCE))
        for decision in some:
            next_hops = decision.next_hops
            if next_hops is not None:
                same = self._by_object.get(id(next_hops))
                if same is None:
                    same = self._by_object[id(next_hops)] = self._found.setdefault(next_hops, [])
                same.append(decision)
        return bool(some)


def _first_decisions(table: LocRib) -> Iterator[Entry]:
    yield from islice(table.several(), _FALLBACK_SCANNED)
    yield from table.some_alone(_FALLBACK_SCANNED)


def _by_places(decisions: Mapping[NextHops, list[Entry]]) -> dict[frozenset[tuple[bytes, str]], list[Entry]]:
    """The same whatever the weights: what is left of a weighted set may have others than are desired."""
    found: dict[frozenset[tuple[bytes, str]], list[Entry]] = {}
    for next_hops, same in decisions.items():
        found.setdefault(_places(next_hops), []).extend(same)
    return found


def _places(next_hops: NextHops) -> frozenset[tuple[bytes, str]]:
    return frozenset((hop.address, hop.interface) for hop in next_hops)
