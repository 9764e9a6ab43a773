"""The paths of one source and family that keys have: found again by what they were made of, and counted.

The table of the family (keyed_routes.py) says when the first key has a path and when the last one has lost it. From the
one to the other the path is found here, its memory counts for the source (docs/decisions/0013), and so does its next
hop. A path that was made and given to no key leaves nothing behind. No weak references: a table of the Internet has a
hundred thousand paths and more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from bgpd.model.attributes import OBJECT_BYTES
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path, Via
from bgpd.model.source import Source
from bgpd.rib.policy import Trace

PARTS: Final = 16
"""Number of dicts that share the paths, so that none holds the loop for long when it grows."""
VIAS_KEPT: Final = 256
"""Next hops of which the way that paths come now is known."""
_VIA_COARSENESS_S: Final = 1.0
_PATH_BYTES: Final = 400
"""What a path takes with its places in the tables, and with its decision if it is one of several candidates."""
USUAL_BYTES: Final = _PATH_BYTES + OBJECT_BYTES
"""The same with its attributes as received, but for the bytes of their block."""
_OVERLAY_BYTES: Final = 300


class InternedPaths:
    """`bytes_kept` is what the paths and their attributes take in memory. `next_hops`: how many paths have
    each. `refreshed`: the paths announced since a refresh began, while one is in progress (RFC 7313).
    `revised`: what paths became by another policy, by the rules that matched, and `revised_vias` what that shares, by
    why it is rejected; kept for one walk. `vias`: how the latest paths came, by next hop; of those that
    are rejected, by next hop and why.
    """

    __slots__ = ("bytes_kept", "next_hops", "parts", "refreshed", "revised", "revised_vias", "vias")

    def __init__(self) -> None:
        self.parts: tuple[dict[Hashable, Path], ...] = tuple({} for _ in range(PARTS))
        self.bytes_kept = 0
        self.next_hops: dict[NextHop, int] = {}
        self.vias: dict[Hashable, Via] = {}
        self.refreshed: set[Path] | None = None
        self.revision_ended()

    def get(self, key: Hashable) -> Path | None:
        """The path that was made of this, if keys have it."""
        return self.parts[hash(key) % PARTS].get(key)

    def via(
        self, source: Source, next_hop: NextHop, now: float, next_hops: NextHops | None, is_usable: bool, epoch: int
    ) -> Via:
        """How an accepted path that comes now comes: what it shares with others of about this time."""
        via = self.vias.get(next_hop)
        if (
            via is not None
            and via.next_hops is next_hops
            and via.is_usable is is_usable
            and via.epoch == epoch
            and is_now(via, now)
        ):
            return via
        return self._came(next_hop, Via(source, next_hop, now, "", None, next_hops, epoch, is_usable))

    def via_of_unknown(self, source: Source, next_hop: NextHop, now: float, rejected: str) -> Via:
        """The same, where the table of the keys is yet to say whether the next hop can be used; or of a path that is
        rejected."""
        place = (next_hop, rejected) if rejected else next_hop
        via = self.vias.get(place)
        return via if via is not None and is_now(via, now) else self._came(place, Via(source, next_hop, now, rejected))

    def _came(self, place: Hashable, via: Via) -> Via:
        if len(self.vias) >= VIAS_KEPT:
            self.vias.clear()
        self.vias[place] = via
        return via

    def has_come(self, path: Path) -> None:
        """A first key has `path`."""
        key = path.entered
        if key is not None:
            self.parts[hash(key) % PARTS][key] = path
            if self.refreshed is not None:
                self.refreshed.add(path)
        self.bytes_kept += _weight(path)
        next_hop = path.via.next_hop
        if next_hop is not None:
            self.next_hops[next_hop] = self.next_hops.get(next_hop, 0) + 1

    def have_come(self, paths: Sequence[Path]) -> None:
        """First keys have each of `paths`."""
        parts = self.parts
        for path in paths:
            key = path.entered
            if key is not None:
                parts[hash(key) % PARTS][key] = path
        if self.refreshed is not None:
            self.refreshed.update([path for path in paths if path.entered is not None])
        self.bytes_kept += _weight_of_all(paths)
        for next_hop, count in Counter([path.via.next_hop for path in paths]).items():
            if next_hop is not None:
                self.next_hops[next_hop] = self.next_hops.get(next_hop, 0) + count

    def has_gone(self, path: Path) -> None:
        """No key has `path` any more."""
        key = path.entered
        if key is not None:
            part = self.parts[hash(key) % PARTS]
            if part.get(key) is path:
                del part[key]
        if self.refreshed is not None:
            self.refreshed.discard(path)
        self.bytes_kept -= _weight(path)
        next_hop = path.via.next_hop
        if next_hop is not None:
            left = self.next_hops[next_hop] - 1
            if left:
                self.next_hops[next_hop] = left
            else:
                del self.next_hops[next_hop]

    def find_again(self, path: Path) -> None:
        """Other rules come to the same of `path`, which keys have."""
        key = path.entered
        self.parts[hash(key) % PARTS][key] = path

    def forget(self) -> None:
        """Make paths anew from now on, by other rules; those that keys have still count."""
        self.parts = tuple({} for _ in range(PARTS))
        self.revision_ended()

    def revision_ended(self) -> None:
        """Nothing more is judged again by the rules of now."""
        self.revised: dict[tuple[Path, Trace | None], Path] = {}
        self.revised_vias: dict[tuple[Via, str], Via] = {}

    def refresh_began(self) -> None:
        """Only what is announced from now on counts as announced again."""
        self.forget()
        self.refreshed = set()


def is_now(via: Via, now: float) -> bool:
    """Whether what is heard now may count as heard together with this."""
    return 0 <= now - via.heard_at < _VIA_COARSENESS_S


def _weight_of_all(paths: Sequence[Path]) -> int:
    changed = [path for path in paths if path.attributes is not path.received or path.overlay is not None]
    as_usual = paths if not changed else set(paths).difference(changed)
    blocks = sum([len(path.received.block) for path in as_usual])
    return USUAL_BYTES * len(as_usual) + blocks + sum([_weight(path) for path in changed])


def _weight(path: Path) -> int:
    received = path.received
    weight = USUAL_BYTES + len(received.block)
    if path.attributes is not received:
        weight += path.attributes.size
    return weight if path.via.overlay is None else weight + _OVERLAY_BYTES
