"""Which candidate path of a route is best, and by which numbered step every other one lost (RFC 4271 section 9.1.2).

The steps are those of `RULES`, in order. Each keeps only the paths that are as good as any in it, so the outcome does
not depend on the order in which paths arrived (what vendors call deterministic MED). Paths that are equal through step
8, all external, are the multipath set; their AS_PATHs may differ. next_hops.py says what share of traffic each gets.

A decision is a function of the candidates and of what is reachable. All routes with the same candidates share it
(shared_decisions.py). The age of a path (RFC 5004) decides nothing: the choice must be the same after a restart.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import msgspec

from bgpd.model.attributes import DEFAULT_LOCAL_PREF
from bgpd.model.evpn import format_origin
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from bgpd.model.path import Path
from bgpd.model.prefix import format_address
from bgpd.model.source import SourceKind
from bgpd.rib.comparison import MULTIPATH_MAXIMUM

BEST = 255
MULTIPATH = 254
"""What stands in `Outcome` in place of a step number for the paths that did not lose."""

Outcome = tuple[tuple[Path, ...], bytes]
"""The multipath set, best path first (empty if no path is usable), and for each candidate BEST, MULTIPATH or its
step."""

_LONG_LIVED_BEFORE = 2.5
"""Where the step of that name comes, by its number."""

_EBGP, _EVPN, _IBGP, _WORKLOAD = SourceKind.EBGP, SourceKind.EVPN, SourceKind.IBGP, SourceKind.WORKLOAD
_MAC_MOBILITY = b"\x06\x00"
_HERE = (-1 << 34, b"")
_NEVER_MOVED = (0, b"")
_STICKY_FLAG, _STICKY = 0x01, -1 << 33
"""RFC 7432 section 15.2: it does not move, so that its sequence does not count."""


def _router_id(path: Path) -> bytes:
    return path.attributes.originator_id or path.source.router_id


def _local_pref(path: Path) -> int:
    preference = path.attributes.local_pref
    return DEFAULT_LOCAL_PREF if preference is None else preference


def _med(path: Path) -> int:
    return path.attributes.med or 0


def _locality(path: Path) -> int:
    if path.source.is_local:
        return path.source.kind is SourceKind.AGGREGATE
    return 2


def _place(path: Path, candidates: Sequence[Path]) -> tuple[int, bytes]:
    """What step 1 compares, lower wins: (-MAC mobility sequence, origin).

    The origin is empty for sequence 0. Sticky routes sort before all sequences, by origin; this host's own workload
    without the community sorts before all.
    """
    kind = path.source.kind
    if kind is _EVPN or kind is _WORKLOAD:
        for community in path.attributes.extended_communities:
            if community[:2] == _MAC_MOBILITY:
                if community[2] & _STICKY_FLAG:
                    return _STICKY, _origin(path, candidates)
                sequence = int.from_bytes(community[4:8])
                return (-sequence, _origin(path, candidates)) if sequence else _NEVER_MOVED
        if kind is _WORKLOAD:
            return _HERE
    return _NEVER_MOVED


def _origin(path: Path, candidates: Sequence[Path]) -> bytes:
    """The origin of a path, the lowest of those that share its Ethernet segment (ESI 0 is none)."""
    esi = path.overlay.esi if path.overlay is not None else b""
    if not any(esi):
        return path.source.origin
    return min(one.source.origin for one in candidates if one.overlay is not None and one.overlay.esi == esi)


def _rank(path: Path, candidates: Sequence[Path]) -> tuple[object, ...]:
    """The values of the steps of `_RANK_STEPS`, lower is better."""
    attributes = path.attributes
    kind, preference = path.source.kind, attributes.local_pref
    is_neighbor = kind is _EBGP or kind is _IBGP
    return (
        _NEVER_MOVED if is_neighbor else _place(path, candidates),
        2 if is_neighbor else _locality(path),
        attributes.is_least_preferred,
        -DEFAULT_LOCAL_PREF if preference is None else -preference,
        attributes.as_path_length,
        attributes.origin,
    )


class Step(enum.IntEnum):
    """At which step a path lost. The numbers are shown to people and stay as they are."""

    USABLE = 0
    PLACE = 1
    LOCALITY = 2
    LOCAL_PREF = 3
    AS_PATH = 4
    ORIGIN = 5
    MED = 6
    EXTERNAL = 7
    INTERIOR_COST = 8
    ROUTER_ID = 9
    CLUSTER_LIST = 10
    PEER = 11
    LONG_LIVED = 12


_RANK_STEPS = (Step.PLACE, Step.LOCALITY, Step.LONG_LIVED, Step.LOCAL_PREF, Step.AS_PATH, Step.ORIGIN)


def lost_at(step: int) -> float:
    """How far a path came that lost at a step: the later, the higher."""
    return _LONG_LIVED_BEFORE if step == Step.LONG_LIVED else step


class Rule(msgspec.Struct, frozen=True):
    """One step: what wins and who says so; the words for what the best route has and another has not, and the
    value of a path in it ("" where no value is compared)."""

    step: Step
    wins: str
    section: str
    best_has: str = ""
    value: Callable[[Path], str] = lambda path: ""


RULES: tuple[Rule, ...] = (
    Rule(Step.USABLE, "not rejected by policy or loop detection, and the next hop is reachable", "RFC 4271 9.1.2.1"),
    Rule(
        Step.PLACE,
        "the place of a host: a sticky MAC, else the highest MAC mobility sequence of EVPN routes and workloads; of "
        "equal ones the lowest origin (leaves of one Ethernet segment are one place); a workload without one wins",
        "RFC 7432 7.7, 15",
        "has MAC mobility sequence",
        lambda path: _place_text(path),
    ),
    Rule(
        Step.LOCALITY,
        "originated on this host, by a workload rather than as an aggregate",
        "bgpd",
        "is",
        lambda path: ("this host's own", "an aggregate of this host's", "of another router")[_locality(path)],
    ),
    Rule(
        Step.LOCAL_PREF,
        "highest LOCAL_PREF (100 where absent)",
        "RFC 4271 9.1.1",
        "has the higher LOCAL_PREF:",
        lambda path: _local_pref_text(path),
    ),
    Rule(
        Step.AS_PATH,
        "shortest AS_PATH (an AS_SET counts one; confederation segments none)",
        "RFC 4271 9.1.2.2 a, RFC 5065",
        "has the shorter AS path:",
        lambda path: str(path.attributes.as_path_length),
    ),
    Rule(
        Step.ORIGIN,
        "lowest ORIGIN",
        "RFC 4271 9.1.2.2 b",
        "has the lower ORIGIN:",
        lambda path: path.attributes.origin.name,
    ),
    Rule(
        Step.MED,
        "lowest MED among paths of the same neighboring AS (0 where absent)",
        "RFC 4271 9.1.2.2 c",
        "has the lower MED:",
        lambda path: str(_med(path)),
    ),
    Rule(
        Step.EXTERNAL,
        "external rather than IBGP",
        "RFC 4271 9.1.2.2 d",
        "was learned",
        lambda path: "by IBGP" if path.source.kind is SourceKind.IBGP else "by EBGP",
    ),
    Rule(
        Step.INTERIOR_COST,
        "lowest interior cost to the next hop: always equal, since the next hops of a host are all on-link",
        "RFC 4271 9.1.2.2 e",
    ),
    Rule(
        Step.ROUTER_ID,
        "lowest router ID, or ORIGINATOR_ID where present",
        "RFC 4271 9.1.2.2 f, RFC 4456 9",
        "has the lower router ID:",
        lambda path: format_address(_router_id(path)),
    ),
    Rule(
        Step.CLUSTER_LIST,
        "shortest CLUSTER_LIST",
        "RFC 4456 9",
        "has the shorter CLUSTER_LIST:",
        lambda path: str(path.attributes.cluster_list_length),
    ),
    Rule(
        Step.PEER,
        "lowest peer address, then name",
        "RFC 4271 9.1.2.2 g",
        "has the lower peer address or name:",
        lambda path: _peer_text(path),
    ),
    Rule(
        Step.LONG_LIVED,
        "not long-lived stale (LLGR_STALE); it is the step before LOCAL_PREF",
        "RFC 9494 4.3",
        "is",
        lambda path: "long-lived stale" if path.attributes.is_least_preferred else "not stale",
    ),
)
"""The decision process, by step number."""


def decide(candidates: Sequence[Path], unusable: Callable[[Path], str]) -> Outcome:
    """Best path, multipath set and the step at which each of the others lost.

    `unusable` says why a path cannot be used at all, or "".
    """
    steps = bytearray(len(candidates))
    alive = [index for index, path in enumerate(candidates) if not unusable(path)]
    if not alive:
        return (), bytes(steps)
    if len(alive) > 1:
        alive = _keep_lowest_rank(candidates, alive, steps)
    if len(alive) > 1:
        alive = _keep_lowest_med(candidates, alive, steps)
        alive = _keep_external(candidates, alive, steps)
    if len(alive) > 1:
        orders = [_order(candidates[index]) for index in alive]
        if sorted(orders) != orders:
            alive = [index for _, index in sorted(zip(orders, alive))]
    best = candidates[alive[0]]
    is_external = best.source.kind is _EBGP or best.source.kind is _EVPN
    chosen = alive[: MULTIPATH_MAXIMUM if is_external else 1]
    for index in alive[len(chosen) :]:
        steps[index] = _tie_break(candidates[index], best)
    for index in chosen:
        steps[index] = MULTIPATH
    steps[chosen[0]] = BEST
    return tuple([candidates[index] for index in chosen]), bytes(steps)


def _keep_lowest_rank(candidates: Sequence[Path], alive: list[int], steps: bytearray) -> list[int]:
    """Up to step 5: a path loses at the first value in which it differs from the lowest rank."""
    ranks = [_rank(candidates[index], candidates) for index in alive]
    lowest = min(ranks)
    if ranks.count(lowest) == len(ranks):
        return alive
    first = 1 if lowest[0] is _HERE else 0
    kept = []
    for index, rank in zip(alive, ranks):
        if rank == lowest:
            kept.append(index)
        else:
            differing = (at for at in range(first, len(_RANK_STEPS)) if rank[at] != lowest[at])
            steps[index] = _RANK_STEPS[next(differing)]
    return kept


def _keep_lowest_med(candidates: Sequence[Path], alive: list[int], steps: bytearray) -> list[int]:
    """Step 6: a path loses if another one of its neighboring AS has a lower MED."""
    meds = [candidates[index].attributes.med or 0 for index in alive]
    if not any(meds) or meds.count(meds[0]) == len(meds):
        return alive
    lowest: dict[int | None, int] = {}
    for index, med in zip(alive, meds):
        asn = candidates[index].attributes.first_asn
        lowest[asn] = min(med, lowest.get(asn, med))
    kept = []
    for index, med in zip(alive, meds):
        if med == lowest[candidates[index].attributes.first_asn]:
            kept.append(index)
        else:
            steps[index] = Step.MED
    return kept


def _keep_external(candidates: Sequence[Path], alive: list[int], steps: bytearray) -> list[int]:
    """Step 7."""
    kinds = [candidates[index].source.kind for index in alive]
    internal = kinds.count(_IBGP)
    if not internal or internal == len(kinds):
        return alive
    kept = [index for index, kind in zip(alive, kinds) if kind is not _IBGP]
    for index in set(alive) - set(kept):
        steps[index] = Step.EXTERNAL
    return kept


def _order(path: Path) -> tuple[bytes, int, bytes, str]:
    """The values of steps 9 to 11, lower is better."""
    attributes, source = path.attributes, path.source
    return attributes.originator_id or source.router_id, attributes.cluster_list_length, source.address, source.name


_TIE_BREAKS = (Step.ROUTER_ID, Step.CLUSTER_LIST, Step.PEER, Step.PEER)
"""The step of each value of `_order`."""


def _tie_break(path: Path, best: Path) -> int:
    return next(step for step, mine, theirs in zip(_TIE_BREAKS, _order(path), _order(best)) if mine != theirs)


def reason(candidates: Sequence[Path], outcome: Outcome, index: int, unusable: Callable[[Path], str]) -> str:
    """A sentence that says why candidate `index` is not the best, with both values and the step; "" for the best."""
    step = outcome[1][index]
    path = candidates[index]
    if step == BEST:
        return ""
    if step == MULTIPATH:
        return f"used beside the best route: equal through step {Step.INTERIOR_COST:d}"
    if step == Step.USABLE:
        return f"{unusable(path) or 'not usable'} (step {step})"
    better = _winner(candidates, outcome, path) if step == Step.MED else outcome[0][0]
    rule = RULES[step]
    who = "the best route"
    if better is not outcome[0][0]:
        who = f"{better.source.name}, of the same neighboring AS,"
    if step == Step.LOCALITY and not path.source.is_local:
        return f"{who} {rule.best_has} {rule.value(better)} (step {step})"
    return f"{who} {rule.best_has} {rule.value(better)}, this one {rule.value(path)} (step {step})"


def _winner(candidates: Sequence[Path], outcome: Outcome, path: Path) -> Path:
    """MED compares within one neighboring AS, so the path that won at this step need not be the best one."""
    asn = path.attributes.first_asn
    rivals = [
        rival
        for rival, step in zip(candidates, outcome[1])
        if lost_at(step) > Step.MED and rival.attributes.first_asn == asn
    ]
    return min(rivals, key=_order)


def _peer_text(path: Path) -> str:
    address = path.source.address
    return f"{format_address(address)} of {path.source.name}" if address else path.source.name


def _local_pref_text(path: Path) -> str:
    preference = _local_pref(path)
    is_drained = not preference and path.attributes.has_community(COMMUNITY_GRACEFUL_SHUTDOWN)
    return f"{preference} for GRACEFUL_SHUTDOWN" if is_drained else str(preference)


def _place_text(path: Path) -> str:
    sequence, origin = _place(path, (path,))
    if sequence == _STICKY:
        return f"sticky of {format_origin(origin)}"
    return f"{-sequence} of {format_origin(origin)}" if origin else str(-sequence)
