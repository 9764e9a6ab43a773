"""The labels of EVPN routes that share a path with routes of other labels.

A label neither decides nor resolves anything here (this host has no tunnels): it is shown, and passed on. So a route
whose label is its own costs an entry, not a path. Routes of one UPDATE that have the same labels have them from their
path's Overlay and are not in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bgpd.model.containers import ShardedDict
from bgpd.model.evpn import with_labels
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source

_ENTRY_BYTES = 100
"""What an entry takes in memory, the key but for its place not counted: the table has that in any case."""


class RouteLabels:
    """Of one table: the labels by source and key, as in the NLRI. An entry counts while the route's path has none."""

    def __init__(self) -> None:
        self._by_source: dict[Source, ShardedDict[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_source)

    def __len__(self) -> int:
        return sum(map(len, self._by_source.values()))

    def of(self, source: Source) -> Mapping[bytes, bytes]:
        """All of one source."""
        return self._by_source.get(source, {})

    def entries_of(self, source: Source) -> ShardedDict[bytes] | None:
        """Those of a source, None if it has none; who gives a route a path with labels takes the route's own away."""
        return self._by_source.get(source)

    def bytes_kept(self, source: Source) -> int:
        """Bytes of memory that the labels of a source's routes take."""
        known = self._by_source.get(source)
        return 0 if known is None else _ENTRY_BYTES * len(known)

    def announced(self, source: Source, keys: Sequence[bytes], labels: Sequence[bytes] | None) -> list[bytes]:
        """These routes have these labels now, in this order; None: those of their path. Returns the keys that had other
        ones here."""
        known = self._by_source.get(source)
        if labels is None:
            if known is not None:
                known.discard_all(keys)
            return []
        if known is None:
            known = self._by_source[source] = ShardedDict(of_prefixes=False)
        parts = known.split(keys)
        by_key = dict(zip(keys, labels)) if len(parts) > 1 else {}
        changed: list[bytes] = []
        for part, chosen in parts:
            its = list(map(by_key.__getitem__, chosen)) if by_key else labels
            size = len(part)
            olds = list(map(part.setdefault, chosen, its))
            if len(part) - size != len(chosen):
                changed += [key for key, old, label in zip(chosen, olds, its) if old != label]
                part.update(zip(chosen, its))
        return changed

    def lost(self, source: Source, keys: Sequence[bytes]) -> None:
        """The source has no routes of these keys any more."""
        known = self._by_source.get(source)
        if known is not None:
            known.discard_all(keys)

    def forget(self, source: Source) -> None:
        """The source has no routes any more."""
        self._by_source.pop(source, None)

    def overlay(self, path: Path, key: bytes) -> Overlay | None:
        """The Overlay of a route that has this path, with the route's labels."""
        overlay = path.overlay
        if overlay is None or overlay.labels:
            return overlay
        known = self._by_source.get(path.source)
        own = None if known is None else known.get(key)
        return with_labels(overlay, own or b"")


def labels_of(batch: RouteBatch, keys: Sequence[bytes]) -> Sequence[bytes] | None:
    """The labels of these of a batch's announced routes; None: those of their path."""
    if batch.labels is None or keys is batch.announced:
        return batch.labels
    return list(map(dict(zip(batch.announced, batch.labels)).__getitem__, keys))
