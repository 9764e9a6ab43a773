"""The usual decision, by few numbers: what decision.py says by its steps, of paths that need no others.

An Internet table has a decision for each few routes. Compiled where a compiler is (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bgpd.model.iana import AttributeFlag, AttributeType, SegmentType
from bgpd.model.path import Path
from bgpd.model.source import SourceKind

MULTIPATH_MAXIMUM: Final = 64
"""Paths of a multipath set: as many next hops as one kernel group is given."""
_EBGP: Final = SourceKind.EBGP
_IBGP: Final = SourceKind.IBGP
_AS_PATH: Final = int(AttributeType.AS_PATH)
_MED: Final = int(AttributeType.MULTI_EXIT_DISC)
_ORIGINATOR_ID: Final = int(AttributeType.ORIGINATOR_ID)
_CLUSTER_LIST: Final = int(AttributeType.CLUSTER_LIST)
_EXTENDED_COMMUNITIES: Final = int(AttributeType.EXTENDED_COMMUNITIES)
_EXTENDED_LENGTH: Final = int(AttributeFlag.EXTENDED_LENGTH)
_SEQUENCE: Final = int(SegmentType.AS_SEQUENCE)
_NO_MED: Final = bytes(4)


def compare(candidates: tuple[Path, ...]) -> tuple[Path, ...] | None:
    """The multipath set of usable paths of neighbors, by their numbers alone: what `decide` says of them, too. None:
    others are among them, or it takes more than numbers to tell the best ones apart."""
    if len(candidates) == 2 and (found := _compare_two(candidates, *candidates)):
        return found
    lowest: list[Path] = []
    rank = 0
    for path in candidates:
        via = path.via
        kind = via.source.kind
        if not via.is_usable or not (kind is _EBGP or kind is _IBGP):
            return None
        its = path.attributes.code >> 1
        if its == rank and lowest:
            lowest.append(path)
        elif its < rank or not lowest:
            lowest, rank = [path], its
    if len(lowest) > 1:
        for path in lowest:
            if path.via.source.kind is not _EBGP or path.attributes.code & 1:
                return None
        if len(lowest) == len(candidates) <= MULTIPATH_MAXIMUM and _are_in_order(candidates):
            return candidates
        lowest.sort(key=_source_order)
    return tuple(lowest[:MULTIPATH_MAXIMUM])


def _compare_two(both: tuple[Path, ...], first: Path, second: Path) -> tuple[Path, ...]:
    """`compare` for two external neighbors, as most hosts have; () for others."""
    via, its_via = first.via, second.via
    source, its_source = via.source, its_via.source
    if not (via.is_usable and its_via.is_usable and source.kind is _EBGP and its_source.kind is _EBGP):
        return ()
    one, other = first.attributes, second.attributes
    code, its_code = one.code, other.code
    if code >> 1 != its_code >> 1:
        return (first,) if code < its_code else (second,)
    if code & 1 or its_code & 1:
        mine, its = one.block, other.block
        if not (_has_numbers_only(mine) and _has_numbers_only(its)):
            return ()
        med, its_med = _value(mine, _MED) or _NO_MED, _value(its, _MED) or _NO_MED
        if med != its_med and _first_asn(mine) == _first_asn(its):
            return (first,) if med < its_med else (second,)
    return both if source.order <= its_source.order else (second, first)


def _has_numbers_only(block: bytes) -> bool:
    """Whether nothing is compared or weighed after step 6 but who the neighbor is."""
    return not (_value(block, _ORIGINATOR_ID) or _value(block, _CLUSTER_LIST) or _value(block, _EXTENDED_COMMUNITIES))


def _first_asn(block: bytes) -> bytes:
    """The neighboring AS, b"" for an empty path or one that starts with a set."""
    path = _value(block, _AS_PATH)
    return path[2:6] if path and path[0] == _SEQUENCE else b""


def _value(block: bytes, kind: int) -> bytes:
    """The value of the attribute of this type in a well-formed block; b"" if there is none."""
    at, end = 0, len(block)
    while at < end:
        start, size = at + 3, block[at + 2]
        if block[at] & _EXTENDED_LENGTH:
            start, size = at + 4, size << 8 | block[at + 3]
        if block[at + 1] == kind:
            return block[start : start + size]
        at = start + size
    return b""


def _are_in_order(paths: Sequence[Path]) -> bool:
    order = paths[0].source.order
    for path in paths:
        if path.source.order < order:
            return False
        order = path.source.order
    return True


def _source_order(path: Path) -> tuple[bytes, bytes, str]:
    return path.source.order
