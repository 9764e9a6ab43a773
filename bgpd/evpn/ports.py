"""What EVPN uses of the RIB, kernel tables and workloads.

Each of these parts implements its protocol itself; EVPN calls it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source


class Decided(Protocol):
    """A decision of the RIB."""

    @property
    def candidates(self) -> tuple[Path, ...]:
        """All paths, those that are not used too."""

    @property
    def multipath(self) -> tuple[Path, ...]:
        """The paths in use, the best one first; () if none is usable."""

    @property
    def is_local(self) -> bool:
        """Whether the best path is one of this host's own."""

    def role(self, path: Path) -> str:
        """What a candidate is for the route: "best", "multipath", "lost" or "rejected"."""


class RibLabels(Protocol):
    """The labels of a table that are not those of paths."""

    def overlay(self, path: Path, key: bytes) -> Overlay | None:
        """The Overlay of a route that has this path, with the route's labels."""


class Stale(Protocol):
    """Of which time the session of a stale route ended, and until when it is kept at most."""

    @property
    def since(self) -> float:
        """When the session ended, in seconds since the epoch."""

    @property
    def ends_at(self) -> float:
        """Until when it is kept at most, by the loop's clock."""


class RibRoutes(Protocol):
    """The decisions of a table, which may be very many, by key."""

    def get(self, key: bytes) -> Decided | None:
        """The decision of one key."""

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """All keys, so many at a time."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...

    def __contains__(self, key: object) -> bool: ...


class RibTable(Protocol):
    """A table of the RIB: its decisions by key, this host's own keys, and those that an aggregate suppresses."""

    @property
    def routes(self) -> RibRoutes: ...

    @property
    def local(self) -> Mapping[bytes, None]:
        """This host's own keys."""

    @property
    def received(self) -> Mapping[Source, int]:
        """How many routes it has of each session."""

    @property
    def labels(self) -> RibLabels:
        """The labels that are not those of paths."""

    def distinct(self) -> Collection[Decided]:
        """All decisions that keys have."""

    def stale_of(self) -> Callable[[Path, bytes], Stale | None]:
        """For one query: who says until when the candidates of routes are kept; None: they are not stale."""

    def is_suppressed(self, key: bytes, best: Path) -> bool:
        """Whether an aggregate suppresses a route towards the neighbors."""


class NeighborsPort(Protocol):
    """The neighbors of the RIB."""

    def refresh_requested(self, source: Source, family: Family) -> None:
        """All of a family is to be sent to a neighbor again, though no route changed."""


class RibPort(Protocol):
    """The RIB."""

    @property
    def received(self) -> NeighborsPort:
        """The routes of neighbors."""

    def table(self, vrf: str, family: Family) -> RibTable:
        """One table; made if there is none."""

    def import_routes(self, vrf: str, family: Family, keys: Sequence[bytes], path: Path) -> None:
        """Routes of a VRF that EVPN routes became."""

    def import_few(self, vrf: str, family: Family, routes: Sequence[tuple[bytes, Path]]) -> None:
        """The same of routes that have a path each."""

    def withdraw_imported(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None:
        """These keys are no longer imported from `source`."""

    def remove_imported(self, vrf: str, family: Family, source: Source) -> Iterator[None]:
        """Stepping removes all imported routes of a source."""

    def announce_local(
        self, source: Source, family: Family, keys: Sequence[bytes], attributes: Attributes, *, overlay: Overlay | None
    ) -> None:
        """Routes of this host."""

    def withdraw_local(self, source: Source, family: Family, keys: Sequence[bytes]) -> None:
        """Originate these no longer."""

    def next_hop_changed(self, next_hop: NextHop, why: str, *, vrf: str) -> Iterator[None]:
        """Stepping decides anew where a next hop counts, which can be reached now ("") or no longer, and why."""


class KernelPort(Protocol):
    """The kernel's tables."""

    def resolution_changed(self, vrf: str, next_hop: NextHop) -> None:
        """A recursive next hop leads elsewhere: `Evpn.resolve` is to be asked again."""


class ClaimPort(Protocol):
    """The table of workloads."""

    def moved(self, vrf: str, family: Family, keys: Iterable[bytes], reason: str) -> None:
        """Another host has these addresses, and why; "": none has any more."""


class PresencePort(Protocol):
    """What is saved of workloads."""

    def take_former(self, vrf: str, family: Family, key: bytes) -> int | None:
        """The sequence that an earlier run advertised a workload with, once; else None."""

    def presence_changed(self, vrf: str, family: Family, key: bytes) -> None:
        """`Evpn.presence` of a workload changed, though it neither came nor went."""


class WalkPort(Protocol):
    """Where long work is stepped."""

    def run(self, walk: Iterator[None]) -> None:
        """Have a walk stepped, among others, until it ends."""
