"""A workload: one claim of addresses on this host, by whichever source made it.

Decides nothing: `workload/table.py` merges claims, the RIB announces them.
"""

from __future__ import annotations

import enum

import msgspec

from bgpd.model.iana import Family
from bgpd.model.path import NextHops


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

    `source` is the kind of the source ("static", "kernel", "mqtt", "api", "service"), `id` the workload's name within it,
    `key` the route key of `family`. `vrf` is "" for the main table. With `manage_route` bgpd keeps the kernel's host route
    (`dev interface scope link`, or over `members` for a service address) itself; otherwise another program does, or none
    is needed, and bgpd only follows. `exception`: always announced, also inside an aggregate. `mac` is 6 bytes or b"".
    """

    source: str
    id: str
    family: Family
    key: bytes
    interface: str = ""
    vrf: str = ""
    manage_route: bool = False
    members: NextHops = ()
    resilient: bool = False
    kind: str = ""
    mac: bytes = b""
    sticky: bool = False
    exception: bool = False


class ClaimInfo(msgspec.Struct, frozen=True):
    """What the RIB and EVPN must know of an announced claim beside its key: see `Claim`."""

    exception: bool = False
    sticky: bool = False
    mac: bytes = b""


PLAIN = ClaimInfo()
"""Of nearly all claims in the main table."""
