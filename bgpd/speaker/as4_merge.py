"""The real AS path of a route that came through speakers of 2-octet AS numbers (RFC 6793 section 4.2.3).

Decides between AS_PATH and AS4_PATH, AGGREGATOR and AS4_AGGREGATOR.
"""

from __future__ import annotations

from typing import Any

from bgpd.model.attributes import AsPathSegment
from bgpd.model.iana import AS_TRANS, SegmentType

_AsPath = tuple[AsPathSegment, ...]


def merge_as4(fields: dict[str, Any]) -> None:
    """Replace AS_PATH and AGGREGATOR in the parsed fields by what they mean, and drop the AS4_ ones."""
    as4_path = fields.pop("as4_path", None)
    as4_aggregator = fields.pop("as4_aggregator", None)
    aggregator = fields.get("aggregator")
    if aggregator is not None and as4_aggregator is not None:
        if aggregator.asn != AS_TRANS:
            return
        fields["aggregator"] = as4_aggregator
    path = fields.get("as_path")
    if path is not None and as4_path:
        fields["as_path"] = _merge_paths(path, as4_path)


def _merge_paths(path: _AsPath, as4_path: _AsPath) -> _AsPath:
    surplus = _count(path) - _count(as4_path)
    if surplus < 0:
        return path
    leading: list[AsPathSegment] = []
    for segment in path:
        size = _count((segment,))
        if size and not surplus:
            break
        if size > surplus:
            leading.append(AsPathSegment(segment.type, segment.asns[:surplus]))
            break
        leading.append(segment)
        surplus -= size
    return _join(leading, as4_path)


def _count(path: _AsPath) -> int:
    """AS numbers as RFC 4271 section 9.1.2.2 counts them: a set is one, a confederation segment none."""
    return sum(
        len(segment.asns) if segment.type is SegmentType.AS_SEQUENCE else segment.type is SegmentType.AS_SET
        for segment in path
    )


def _join(leading: list[AsPathSegment], rest: _AsPath) -> _AsPath:
    """Both parts, two sequences that meet made one as far as a segment can hold them."""
    if leading and leading[-1].type is rest[0].type is SegmentType.AS_SEQUENCE:
        together = leading[-1].asns + rest[0].asns
        if len(together) <= 255:
            return (*leading[:-1], AsPathSegment(SegmentType.AS_SEQUENCE, together), *rest[1:])
    return (*leading, *rest)
