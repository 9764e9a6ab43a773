"""A workload: one claim of addresses on this host, by whichever source made it.

Decides nothing: `workload/table.py` merges claims, the RIB announces them.
"""

from __future__ import annotations

import enum

import msgspec

from bgpd.model.iana import Family


class WorkloadState(enum.StrEnum):
    """What became of a claim; each is shown with its reason and since when."""

    PENDING = "pending"
    ANNOUNCED = "announced"
    SUPPRESSED = "suppressed"
    CONFLICT = "conflict"
    MOVED = "moved"
    FAILED = "failed"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix that a source says is reachable on this host.

    `source` is the kind of the source ("static", "kernel", "mqtt", "api"), `id` the workload's name within it, `key`
    the route key of `family`. `vrf` is "" for the main table. With `manage_route` bgpd keeps the kernel's
    host route (`dev interface scope link`) itself; otherwise another program does and bgpd only follows it.
    """

    source: str
    id: str
    family: Family
    key: bytes
    interface: str = ""
    vrf: str = ""
    manage_route: bool = False
