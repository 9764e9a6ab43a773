"""Decides the state of one address: of its claims, its kernel route and its announcement.

A pure function of the claims (the first is the holder) and of the kernel's answers. It never orders claims
(`claim_order` does) and never acts (`table` does).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from bgpd.kernel.host import Host
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import VrfFamily, format_key
from bgpd.model.views.routes import WorkloadView
from bgpd.model.workload import PLAIN, Claim, ClaimInfo, WorkloadState
from bgpd.workload.sources import Restart, kinds

AddressKey = tuple[VrfFamily, bytes]
"""One address: where it is, and its route key."""


class ClaimStatus(msgspec.Struct, eq=False, gc=False):
    """A claim, what became of it, why, and since when (wall clock, seconds).

    `is_given_up`: nobody claims it any more. `is_reported_announced`: an event said that it is announced.
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
    is_given_up: bool = False
    is_reported_announced: bool = False

    def is_of(self, source: str, id: str) -> bool:
        """Whether it is a claim of this workload."""
        return self.claim.source == source and self.claim.id == id


class Entry(msgspec.Struct, eq=False, gc=False):
    """One address of one VRF: its claims, holder first, its kernel route, and what is announced of it.

    `route` was asked of the kernel, and to give way to a learned one if it `yields`; `acknowledged` is whether it said
    yes; `lost` that it may have dropped it since. `gone` are claims given up since the last flush. `info` is what is
    announced beside the address, None if it is not announced. `may_flap`: it is to be announced, though it may be held
    back, for a source whose addresses are damped.
    """

    claims: list[ClaimStatus] = []
    gone: list[ClaimStatus] = []
    route: NextHops | None = None
    yields: bool = False
    acknowledged: bool = False
    lost: bool = False
    error: str = ""
    moved: str = ""
    suppressed_by: str = ""
    info: ClaimInfo | None = None
    may_flap: bool = False


class Judgement(NamedTuple):
    """The holder's state and reason, the kernel route that bgpd should keep, and whether to announce."""

    state: WorkloadState
    reason: str
    route: NextHops | None
    announce: bool


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """Another program's route: where it leads to, and whether it wins over bgpd's own of the same prefix."""

    interface: str
    preferred: bool


AWAITING_KERNEL = "waiting for the kernel to acknowledge the route"
ANNOUNCED = Judgement(WorkloadState.ANNOUNCED, "", None, True)
AWAITING = Judgement(
    WorkloadState.PENDING, "another claim of it came first before the restart, and is waited for", None, False
)


def judge(entry: Entry, host: Host, foreign: Foreign | None) -> Judgement:
    """The judgement on an entry that has a holder."""
    claim = entry.claims[0].claim
    if entry.moved:
        return Judgement(WorkloadState.MOVED, entry.moved, None, False)
    if claim.interface and not claim.is_own and not host.is_up(claim.interface):
        why = "is down" if host.named(claim.interface) else "does not exist"
        return Judgement(WorkloadState.PENDING, f"interface {claim.interface} {why}", None, False)
    if claim.needs_route and foreign is None:
        return Judgement(WorkloadState.PENDING, "no route on an interface of this host leads to it", None, False)
    if (
        not claim.manage_route
        or _is_own_address(claim, host)
        or (foreign and foreign.interface == claim.interface and (entry.route is None or entry.error))
    ):
        judged = ANNOUNCED
    else:
        judged = _judge_managed(entry, claim)
        if foreign and foreign.preferred and foreign.interface != claim.interface:
            followed = any(status.claim.interface == foreign.interface for status in entry.claims)
            why = f"another program's route of it leads to {foreign.interface}"
            judged = Judgement(WorkloadState.CONFLICT, why, judged.route, judged.announce and followed)
    if judged.announce and claim.withheld:
        state = WorkloadState.DAMPED if claim.is_damped else WorkloadState.PENDING
        return Judgement(state, claim.withheld, judged.route, False)
    if judged.announce and entry.suppressed_by and judged.state is WorkloadState.ANNOUNCED:
        return judged._replace(state=WorkloadState.SUPPRESSED, reason=f"covered by {entry.suppressed_by}")
    if claim.note and judged.announce and not judged.reason:
        return judged._replace(reason=claim.note)
    return judged


def _is_own_address(claim: Claim, host: Host) -> bool:
    """Whether the host itself has the address on the claim's interface (lo, say), and not tentatively: the kernel
    delivers it, and needs no route to it. For IPv4 it could have none: its local table comes first.
    """
    own = host.with_address(claim.key[1:]) if claim.key[0] == 8 * len(claim.key[1:]) else ()
    return any(one.interface == claim.interface and one.usable for one in own)


def _judge_managed(entry: Entry, claim: Claim) -> Judgement:
    route = claim.members or claim.via or (NextHop(address=b"", interface=claim.interface),)
    if entry.error:
        return Judgement(WorkloadState.FAILED, entry.error, route, False)
    if not entry.acknowledged or entry.lost or (entry.yields and not claim.yields):
        return Judgement(WorkloadState.PENDING, AWAITING_KERNEL, route, False)
    return Judgement(WorkloadState.ANNOUNCED, "", route, True)


def is_kernel_route(claim: Claim) -> bool:
    """Whether a claim is nothing but a route of another program."""
    return kinds()[claim.source].is_kernel_route


def agree(first: Claim, second: Claim) -> bool:
    """Whether two claims of one address say the same: then both are in force.

    A workload without an interface rests on whatever route the kernel has, so that route is its own. A guest on this
    host says of an address that it is here, as an address of the host does.
    """
    if first.members != second.members or first.via != second.via:
        return False
    if (first.is_own and second.guests) or (first.guests and second.is_own):
        return True
    rests_on_kernel = is_kernel_route(first) or is_kernel_route(second)
    rests_on_kernel = rests_on_kernel and (first.needs_route or second.needs_route)
    return rests_on_kernel or first.interface == second.interface


def info_of(claim: Claim) -> ClaimInfo:
    """What is announced beside the key; the MAC only matters in a VRF (EVPN type 2)."""
    mac = claim.mac if claim.vrf else b""
    is_service = claim.is_anycast or kinds()[claim.source].is_service
    if not (claim.exception or claim.sticky or mac or is_service or claim.has_attributes):
        return PLAIN
    return ClaimInfo(
        exception=claim.exception,
        sticky=claim.sticky,
        mac=mac,
        is_service=is_service,
        bandwidth=claim.bandwidth,
        communities=claim.communities,
        med=claim.med,
        only_to_customer=claim.only_to_customer,
    )


def name_of(claim: Claim) -> str:
    """How a reason names a claim: its source, its id, where it is."""
    if kinds()[claim.source].restart is Restart.DERIVED:
        return f"{claim.source} {claim.id}"
    where = f" on {claim.interface}" if claim.interface else ""
    return f"{claim.source} workload {claim.id}{where}"


def view_of(status: ClaimStatus) -> WorkloadView:
    """A claim as `bgpd show workloads` shows it."""
    claim = status.claim
    return WorkloadView(
        id=claim.id,
        source=claim.source,
        prefix=format_key(claim.family, claim.key),
        interface=claim.interface,
        vrf=claim.vrf,
        state=status.state,
        reason=status.reason,
        since=status.since,
        announced=status.announced,
        kind=claim.kind,
        mac=claim.mac.hex(":"),
        sticky=claim.sticky,
        exception=claim.exception,
        guests=list(claim.guests),
    )
