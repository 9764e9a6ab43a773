"""Limits on dynamic neighbors ([[listen]]): per range, and per interface.

A neighbor takes a place once its session is established, and while it is refused for a cause. Connections before that
take none, so that nobody can fill a range by connecting alone. These have their own limit: at the limit the oldest is
closed, since a real router's connection is established soon. Connections by one interface are rate-limited (token
bucket), since each session that comes and goes is work. Decides only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from bgpd.config.schema_sessions import ListenConfig
from bgpd.runtime.rates import Bucket
from bgpd.speaker.peering import Peering

HALF_OPEN_MOST = 128
"""Connections of all dynamic neighbors that are not established yet."""


BURST = 64
EVERY_S = 0.25
_MAX_INTERFACES = 4096


class ConnectRates:
    """How often dynamic neighbors connect, by interface."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def take(self, interface: str, now: float) -> bool:
        """Whether one more may connect by this interface now (a monotonic clock)."""
        if len(self._buckets) > _MAX_INTERFACES:
            self._buckets.clear()
        return self._buckets.setdefault(interface, Bucket(BURST, EVERY_S)).take(now)


class Candidate(Protocol):
    """A dynamic neighbor. `takes_place`: it is established, or refused for cause."""

    @property
    def peering(self) -> Peering:
        """What is known of it."""

    @property
    def takes_place(self) -> bool:
        """Whether it counts."""


C = TypeVar("C", bound=Candidate)


def divided(others: Iterable[C]) -> tuple[list[C], list[C]]:
    """Those that take a place, and those that do not yet, in the order of before."""
    parts: tuple[list[C], list[C]] = [], []
    for other in others:
        parts[not other.takes_place].append(other)
    return parts


def why_full(listen: ListenConfig, interface: str, placed: Iterable[Candidate]) -> str:
    """Why there is no place for one more neighbor of the range that came in by this interface, "" if there is one.

    `placed` are those that take one.
    """
    taken = [other.peering for other in placed]
    in_range = sum([peering.config is listen or peering.config == listen for peering in taken])
    if in_range >= listen.max_neighbors:
        return f"there are {in_range} neighbors of {listen.prefix} already: max_neighbors"
    here = sum([peering.arrival == interface for peering in taken])
    if here >= listen.max_neighbors_per_interface:
        where = interface or "an unknown interface"
        return f"there are {here} dynamic neighbors by {where} already: max_neighbors_per_interface"
    return ""


def gives_way(listen: ListenConfig, interface: str, half_open: Sequence[C]) -> C | None:
    """Who ends so that one more connection may begin by this interface. `half_open` are those that take no place yet,
    in the order of their age."""
    here = [other for other in half_open if other.peering.arrival == interface]
    if len(here) >= listen.max_neighbors_per_interface:
        return here[0]
    return half_open[0] if len(half_open) >= HALF_OPEN_MOST else None
