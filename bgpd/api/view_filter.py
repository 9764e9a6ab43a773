"""Whether a view is one that a query asks for.

A backend narrows by what it has an index for (prefix, family); this holds each answer to the whole query. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from bgpd.journal.store import LEVELS
from bgpd.model.communities import parse_route_distinguisher
from bgpd.model.iana import Family
from bgpd.model.prefix import covers, parse_prefix
from bgpd.model.views.queries import ViewQuery
from bgpd.model.workload import WorkloadState
from bgpd.workload.sources import kinds

ViewFilter = Callable[[Any], bool]

_WORDS: dict[str, tuple[str | int, ...]] = {
    "family": tuple(Family),
    "state": (
        *("idle", "connect", "active", "opensent", "openconfirm", "established"),
        *("up", "init", "down", "admin-down", "unknown"),
        *("installed", "blocked", "local", *WorkloadState),
    ),
    "level": LEVELS,
}
"""The words of each field, of all views together; those of `source` are the sources of claims."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")


def view_filter(query: ViewQuery) -> ViewFilter:
    """A function that says of each view whether the query asks for it; fields that a view lacks do not narrow it.

    Raises: ValueError: a word of the query is none that any view has: an empty answer would be taken for the truth.
    """
    _check_words(query)
    if query.until and query.until < query.since:
        raise ValueError("until is before since: nothing happened in between")
    conditions: list[ViewFilter] = []
    if query.prefix:
        conditions.append(_prefix_condition(query))
    if query.family:
        conditions.append(lambda view: _has_family(view, query.family))
    if query.vrf is not None:
        conditions.append(lambda view: getattr(view, "vrf", query.vrf) == query.vrf)
    if query.neighbor:
        conditions.append(lambda view: _has_neighbor(view, query.neighbor))
    if query.name:
        conditions.append(lambda view: query.name in (getattr(view, "id", None), getattr(view, "name", None)))
    if query.rejected:
        conditions.append(lambda view: bool(getattr(view, "rejected", "")))
    exact = ("state", "source", "type", "mac", "rd")
    conditions += [_equals(field, getattr(query, field)) for field in exact if getattr(query, field)]
    if not conditions:
        return lambda view: True
    return lambda view: all(condition(view) for condition in conditions)


def _check_words(query: ViewQuery) -> None:
    for field, known in {**_WORDS, "source": tuple(kinds())}.items():
        value = getattr(query, field)
        if value and value not in known:
            raise ValueError(f'"{value}" is no {field}; one of: {", ".join(map(str, known))}')
    if query.type and not 1 <= query.type <= 255:
        raise ValueError(f"{query.type} is no EVPN route type; 1 to 255")
    if query.mac and not _MAC.match(query.mac):
        raise ValueError(f'"{query.mac}" is no MAC address, such as "02:00:00:00:00:01"')
    if query.rd:
        parse_route_distinguisher(query.rd)


def _equals(field: str, wanted: Any) -> ViewFilter:
    if field == "state":
        return lambda view: getattr(view, "state", None) == wanted or getattr(view, "fib", None) == wanted
    return lambda view: getattr(view, field, wanted) == wanted


def _prefix_condition(query: ViewQuery) -> ViewFilter:
    family, key = parse_prefix(query.prefix)

    def holds(view: Any) -> bool:
        text = getattr(view, "prefix", None)
        if text is None:
            return True
        try:
            view_family, view_key = parse_prefix(text)
        except ValueError:
            return False
        if view_family is not family:
            return False
        return covers(key, view_key) if query.longer_prefixes else view_key == key

    return holds


def _has_family(view: Any, wanted: str) -> bool:
    if (families := getattr(view, "families", None)) is not None:
        return wanted in families
    if (family := getattr(view, "family", None)) is not None:
        return bool(family == wanted)
    try:
        version = ipaddress.ip_network(getattr(view, "prefix", "")).version
    except ValueError:
        return True
    return wanted == (Family.IPV4_UNICAST if version == 4 else Family.IPV6_UNICAST)


def _has_neighbor(view: Any, wanted: str) -> bool:
    if (candidates := getattr(view, "candidates", None)) is not None:
        return any(candidate.source == wanted for candidate in candidates)
    if (fields := getattr(view, "fields", None)) is not None:
        return bool(fields.get("neighbor") == wanted)
    if hasattr(view, "neighbor"):
        return wanted in (view.neighbor, getattr(view, "neighbor_address", ""), getattr(view, "address", ""))
    return not hasattr(view, "address") or wanted in (view.name, view.address)
