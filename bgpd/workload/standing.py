"""What becomes of one address: the state of its claims, its kernel route and its announcement, from the facts at hand.

A pure function of the claims (the first is the holder) and of what the kernel said. It never orders claims and never
acts: `table` does both.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import format_key
from bgpd.model.views import WorkloadView
from bgpd.model.workload import PLAIN, Claim, ClaimInfo, WorkloadState

Table = tuple[str, Family]
"""VRF name ("" for the main table) and unicast family."""


class Held(msgspec.Struct, eq=False, gc=False):
    """A claim that the table holds, what became of it, why, and since when (wall clock, seconds).

    `rank`: its place among the claims of its address (`claim_order`). `former`: the sequence with which an earlier run
    announced it to EVPN; None if none did, or since it is announced again.
    """

    claim: Claim
    state: WorkloadState = WorkloadState.PENDING
    reason: str = ""
    since: float = 0.0
    announced: bool = False
    rank: int = 0
    former: int | None = None


class Entry(msgspec.Struct, eq=False, gc=False):
    """One address of one VRF: its claims, holder first, and what the kernel and the RIB were told and said.

    `route` was asked of the kernel; `acknowledged` is whether it said yes; `lost` that it may have dropped it since.
    `gone` are claims given up since the last flush. `info` is what the RIB was told of the announced address, None if
    it is not announced.
    """

    claims: list[Held] = []
    gone: list[Held] = []
    route: NextHops | None = None
    acknowledged: bool = False
    lost: bool = False
    error: str = ""
    moved: str = ""
    suppressed_by: str = ""
    info: ClaimInfo | None = None


class Standing(NamedTuple):
    """The holder's state and reason, the kernel route that bgpd should keep, and whether to announce."""

    state: WorkloadState
    reason: str
    route: NextHops | None
    announce: bool


class Foreign(NamedTuple):
    """Another program's route: where it leads to, and whether it wins over bgpd's own of the same prefix."""

    interface: str
    preferred: bool


KERNEL = "kernel"
"""The source of claims that are nothing but a kernel route."""
ANNOUNCED = Standing(WorkloadState.ANNOUNCED, "", None, True)
AWAITING = Standing(
    WorkloadState.PENDING, "another claim of it came first before the restart, and is waited for", None, False
)


def judge(entry: Entry, host: Host, foreign: Foreign | None) -> Standing:
    """Standing of an entry that has a holder."""
    claim = entry.claims[0].claim
    if entry.moved:
        return Standing(WorkloadState.MOVED, entry.moved, None, False)
    if claim.interface and not host.is_up(claim.interface):
        why = "is down" if host.named(claim.interface) else "does not exist"
        return Standing(WorkloadState.PENDING, f"interface {claim.interface} {why}", None, False)
    if claim.needs_route and foreign is None:
        return Standing(WorkloadState.PENDING, "no route on an interface of this host leads to it", None, False)
    if not claim.manage_route or (foreign and foreign.interface == claim.interface and entry.route is None):
        standing = ANNOUNCED
    else:
        standing = _judge_managed(entry, claim)
        if foreign and foreign.preferred and foreign.interface != claim.interface:
            followed = any(held.claim.interface == foreign.interface for held in entry.claims)
            why = f"another program's route of it leads to {foreign.interface}"
            standing = Standing(WorkloadState.CONFLICT, why, standing.route, standing.announce and followed)
    if standing.announce and claim.withheld:
        return Standing(WorkloadState.PENDING, claim.withheld, standing.route, False)
    if standing.announce and entry.suppressed_by and standing.state is WorkloadState.ANNOUNCED:
        return standing._replace(state=WorkloadState.SUPPRESSED, reason=f"covered by {entry.suppressed_by}")
    return standing


def _judge_managed(entry: Entry, claim: Claim) -> Standing:
    route = claim.members or (NextHop(address=b"", interface=claim.interface),)
    if entry.error:
        return Standing(WorkloadState.FAILED, entry.error, route, False)
    if not entry.acknowledged or entry.lost:
        return Standing(WorkloadState.PENDING, "waiting for the kernel to acknowledge the route", route, False)
    return Standing(WorkloadState.ANNOUNCED, "", route, True)


def agree(first: Claim, second: Claim) -> bool:
    """Whether two claims of one address say the same: then both are in force.

    A workload without an interface rests on whatever route the kernel has, so a route that the kernel tells of is its.
    """
    if first.members != second.members:
        return False
    rests_on_kernel = KERNEL in (first.source, second.source) and (first.needs_route or second.needs_route)
    return rests_on_kernel or first.interface == second.interface


def info_of(claim: Claim) -> ClaimInfo:
    """What is announced beside the key; the MAC only matters in a VRF (EVPN type 2)."""
    mac = claim.mac if claim.vrf else b""
    if not (claim.exception or claim.sticky or mac):
        return PLAIN
    return ClaimInfo(exception=claim.exception, sticky=claim.sticky, mac=mac)


def name_of(claim: Claim) -> str:
    """How a reason names a claim: its source, its id, where it is."""
    where = f" on {claim.interface}" if claim.interface else ""
    return f"{claim.source} workload {claim.id}{where}"


def view_of(held: Held) -> WorkloadView:
    """A claim as `bgpd show workloads` shows it."""
    claim = held.claim
    return WorkloadView(
        id=claim.id,
        source=claim.source,
        prefix=format_key(claim.family, claim.key),
        interface=claim.interface,
        vrf=claim.vrf,
        state=held.state,
        reason=held.reason,
        since=held.since,
        announced=held.announced,
        kind=claim.kind,
        mac=claim.mac.hex(":"),
        sticky=claim.sticky,
        exception=claim.exception,
    )
