"""Kernel routes that bgpd keeps for its own workloads, and how they stand beside learned ones: they always win.

The RIB knows no kernel route for a local prefix; the workload table does. This joins both into one wish per key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bgpd.model.iana import Family
from bgpd.model.path import NextHops

Table = tuple[str, Family]
"""VRF name ("" for the main table) and unicast family."""


class HostRoutes:
    """What workloads want, by table. `learned(vrf, family, key)` is the RIB's wish for a key."""

    def __init__(self, learned: Callable[[str, Family, bytes], NextHops | None]) -> None:
        self._learned = learned
        self._tables: dict[Table, dict[bytes, NextHops]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def wish(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should have for a key."""
        own = self._tables.get((vrf, family))
        hops = own.get(key) if own else None
        return self._learned(vrf, family, key) if hops is None else hops

    def set(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """Workloads want other routes now; the answer is what the FIB must hear: a learned route may follow an own."""
        own = self._tables.setdefault((vrf, family), {})
        wishes: dict[bytes, NextHops | None] = {}
        for key, hops in changes.items():
            if hops is None:
                own.pop(key, None)
                hops = self._learned(vrf, family, key)
            else:
                own[key] = hops
            wishes[key] = hops
        return wishes

    def keys(self, vrf: str, family: Family) -> list[bytes]:
        """The prefixes that workloads have."""
        return list(self._tables.get((vrf, family), ()))

    def overlay(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """The RIB's changes without those of keys that workloads have."""
        own = self._tables.get((vrf, family))
        if not own or own.keys().isdisjoint(changes.keys()):
            return changes
        return {key: hops for key, hops in changes.items() if key not in own}

    def among(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that workloads have."""
        own = self._tables.get((vrf, family))
        return list(filter(own.__contains__, keys)) if own else []
