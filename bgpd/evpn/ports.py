"""What EVPN uses of the RIB and of the daemon, as protocols and plain callables. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, Overlay, Path, Source


class Decided(Protocol):
    """A decision of the RIB (rib/loc_rib.py)."""

    @property
    def candidates(self) -> tuple[Path, ...]: ...

    @property
    def multipath(self) -> tuple[Path, ...]: ...

    @property
    def is_local(self) -> bool: ...


class RibTable(Protocol):
    """A table of the RIB: its decisions by key, this host's own keys, and those that an aggregate stands for."""

    @property
    def routes(self) -> Mapping[bytes, Decided]: ...

    @property
    def local(self) -> Mapping[bytes, None]: ...

    @property
    def suppressed(self) -> AbstractSet[bytes]: ...


class RibPort(Protocol):
    """The RIB (rib/rib.py)."""

    def table(self, vrf: str, family: Family) -> RibTable: ...

    def import_routes(self, vrf: str, family: Family, keys: Sequence[bytes], path: Path) -> None: ...

    def withdraw_imported(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None: ...

    def remove_imported(self, vrf: str, family: Family, source: Source) -> Iterator[None]: ...

    def announce_local(
        self, source: Source, family: Family, keys: Sequence[bytes], attributes: Attributes, *, overlay: Overlay | None
    ) -> None: ...

    def withdraw_local(self, source: Source, family: Family, keys: Sequence[bytes]) -> None: ...


class EvpnPorts(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon gives.

    `expansion_changed(vrf, next_hop)`: to the VRF's FIB, which asks `Evpn.expand` again for what uses that next hop.
    `next_hop_changed(vrf, next_hop, why)`: to the RIB. `run(walk)`: step a long work in slices. `moved(vrf, family,
    keys, why)`: to the workload table. `resend(neighbor)`: what was told to this neighbor of EVPN must be told again
    with another gateway. `former(vrf, family, key)` and `presence_changed(vrf, family, key)`: from and to the workload
    table, see MobilityWatch. `now()`: monotonic seconds. `call_at(when, callback)`: a timer; earlier ones may stay.
    """

    rib: RibPort
    expansion_changed: Callable[[str, NextHop], None]
    next_hop_changed: Callable[[str, NextHop, str], None]
    run: Callable[[Iterator[None]], None]
    moved: Callable[[str, Family, list[bytes], str], None]
    resend: Callable[[str], None]
    former: Callable[[str, Family, bytes], int | None]
    presence_changed: Callable[[str, Family, bytes], None]
    now: Callable[[], float]
    call_at: Callable[[float, Callable[[], None]], object]
