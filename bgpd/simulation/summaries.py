"""Aggregates that a modelled router makes of others' routes: announced while it has a route inside, and in place of
what is inside where they are summaries."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from bgpd.simulation.wire import EVPN, Route, codes_of

SUMMARY = Route(peer=None)
"""How each is announced: as the router's own. Packets to what has no other route there are dropped."""


class Summaries:
    """Those of one router. `configured`: whether each is announced in place of what is inside; `active` are those
    that have something inside."""

    def __init__(self) -> None:
        self.configured: dict[str, bool] = {}
        self.active: set[str] = set()

    def hides(self, prefix: str) -> bool:
        """Whether neighbors are told a summary instead."""
        return any(self.configured[one] and _is_inside(prefix, one) for one in self.active)

    def changed(self, changed: Iterable[str], best: Iterable[str]) -> list[str]:
        """Those that came or went, since routes did. `best`: all that there are."""
        changed, best = list(changed), list(best)
        found = []
        for one in self.configured:
            if not any(_is_inside(prefix, one) for prefix in changed):
                continue
            is_active = any(_is_inside(prefix, one) for prefix in best if prefix not in self.configured)
            if is_active != (one in self.active):
                found.append(one)
        self.active.symmetric_difference_update(found)
        return found

    def hidden(self, those: Iterable[str], best: Iterable[str]) -> list[str]:
        """What the summaries among those stand in place of."""
        summaries = [one for one in those if self.configured[one]]
        return [prefix for prefix in best if any(_is_inside(prefix, one) for one in summaries)]


@functools.lru_cache(1 << 16)
def _is_inside(prefix: str, aggregate: str) -> bool:
    """Whether a prefix is a longer one."""
    if codes_of(prefix) == EVPN or prefix == aggregate:
        return False
    inner, whole = ipaddress.ip_network(prefix), ipaddress.ip_network(aggregate)
    return inner.version == whole.version and inner.subnet_of(whole)  # type: ignore[arg-type]
