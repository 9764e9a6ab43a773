"""What a host should keep of leaves that are away for longer than their Restart Time (RFC 9494): their routes, as the
last choice, without those that forbid it, until the long-lived stale time is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from bgpd.simulation import policies
from bgpd.simulation.policies import MARK, Sort
from bgpd.simulation.wire import DEFAULTS, EVPN, NO_LLGR, Route, codes_of

if TYPE_CHECKING:
    from bgpd.simulation.host import SimulatedHost


class Kept(msgspec.Struct, frozen=True):
    """The routes that a leaf had sent, from when on they are the last choice, and for how long the leaf allows that."""

    routes: Mapping[str, Route]
    last_choice_at: float
    long_lived_s: int


def last_choices(host: SimulatedHost, away: Iterable[str], now: float) -> dict[str, tuple[str, ...]]:
    """By which of the leaves that are `away` a host may still send to each prefix, where it has no other way."""
    ranks: dict[str, dict[str, tuple[int, int]]] = {}
    for leaf in away:
        kept, config = host.kept.get(leaf), host.neighbors.get(leaf)
        if kept is None or config is None:
            continue
        time_s = min(kept.long_lived_s, config.graceful_restart.long_lived_s)
        if not kept.last_choice_at <= now < kept.last_choice_at + time_s:
            continue
        for prefix, route in kept.routes.items():
            is_own = host.config.router.asn in route.as_path
            if codes_of(prefix) == EVPN or NO_LLGR in route.communities or is_own:
                continue
            preference = policies.preference(
                host.config,
                config.import_,
                Sort.of(prefix),
                is_default=prefix in DEFAULTS,
                is_marked=MARK in route.communities,
            )
            if preference is not None:
                ranks.setdefault(prefix, {})[leaf] = (-preference, len(route.as_path))
    return {
        prefix: tuple(leaf for leaf, rank in found.items() if rank == min(found.values()))
        for prefix, found in ranks.items()
    }
