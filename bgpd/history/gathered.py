"""What the history gathers until it is written: records, and what becomes one where there is time for it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bgpd.history.blocks import EncodedHeard, encoded
from bgpd.history.records import AnyRecord, Claimed, Heard, Imported, Mark, SavedClaim, SavedPath
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.workload import Claim

_IPV4, _IPV6, _EVPN = Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN


class Import(msgspec.Struct, gc=False):
    """Routes that a VRF was given from EVPN, until they are made a record in the writer's thread."""

    at: float
    number: int
    vrf: str
    family: Family
    routes: Sequence[tuple[bytes, Path]] = ()
    path: Path | None = None
    keys: Sequence[bytes] = ()

    def record(self) -> Imported:
        """As it is written."""
        by_path: dict[Path, list[bytes]] = {} if self.path is None else {self.path: list(self.keys)}
        for key, path in self.routes:
            by_path.setdefault(path, []).append(key)
        paths = [saved_import(self.number, path) for path in by_path]
        return Imported(self.at, self.vrf, str(self.family), paths, list(by_path.values()))


class Claims(msgspec.Struct, gc=False):
    """Claims, and what became of them, until they are made a record in the writer's thread."""

    at: float
    said: Sequence[tuple[Claim, str, str, float, bool, bool]]
    """Claim, state, reason, since when, whether it is announced, and whether it is gone."""

    def record(self) -> Claimed:
        """As it is written."""
        return Claimed(self.at, [_saved_claim(*one) for one in self.said])


def _saved_claim(claim: Claim, state: str, reason: str, since: float, announced: bool, is_gone: bool) -> SavedClaim:
    return SavedClaim(
        claim.source,
        claim.id,
        claim.vrf,
        str(claim.family),
        claim.key,
        state,
        reason,
        since,
        announced,
        claim.interface,
        claim.kind,
        claim.mac,
        claim.sticky,
        claim.exception,
        claim.guests,
        is_gone,
    )


def saved_import(number: int, path: Path) -> SavedPath:
    """The path of a VRF's route from EVPN; `number` is that of its ImportSource."""
    after, before = path.attributes, path.received
    return SavedPath(
        number,
        None,
        after.block,
        after.rank,
        after.is_simple,
        path.next_hop,
        path.heard_at,
        path.rejected,
        path.overlay,
        None if before is after else (before.block, before.rank, before.is_simple),
    )


class Run(msgspec.Struct, gc=False):
    """UPDATEs of one session that were read within TOGETHER_S, and the keys that they are about. `encoded` once there
    are no more."""

    at: float
    number: int
    bodies: list[bytes]
    keys: list[bytes]
    encoded: EncodedHeard | None = None

    def hear(self, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        """More UPDATEs of the same session, without their headers, and what they came to."""
        self.bodies += bodies
        keys = self.keys
        for one in batches:
            if one.family is _IPV4 or one.family is _IPV6:
                keys += one.withdrawn
                keys += one.announced
            elif one.family is _EVPN:
                keys.append(Mark.EVPN)

    def end(self) -> EncodedHeard:
        """While it is all in the processor's cache."""
        if self.encoded is None:
            self.encoded = encoded(Heard(self.at, self.number, self.bodies), self.keys)
            self.bodies, self.keys = [], []
        return self.encoded


Later = Run | Import | Claims
"""What becomes a record when it is written."""


class Gathered:
    """What waits to be written, in order."""

    def __init__(self) -> None:
        self.waiting: list[AnyRecord | Later] = []
        self.size = 0

    def records(self) -> list[AnyRecord | EncodedHeard]:
        """All that waits, as it is written."""
        return [_record_of(one) for one in self.waiting]


def _record_of(one: AnyRecord | Later) -> AnyRecord | EncodedHeard:
    match one:
        case Import() | Claims():
            return one.record()
        case Run():
            return one.end()
    return one
