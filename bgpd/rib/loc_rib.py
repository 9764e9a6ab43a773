"""The table of one VRF and family: its routes (keyed_routes.py), what else is known of them, and how it is walked.

Walks take a slice of the keys at each step, and batches may come in between two steps. Never applies policy, never
talks to kernel tables or neighbors; it says in a `Changes` what changed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import islice

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.source import Source, SourceKind
from bgpd.rib.keyed_routes import Changes, Compute, KeyedRoutes
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.route_labels import RouteLabels
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.slices import SLICE
from bgpd.rib.stale import Kept, StaleOf


class LocRib(KeyedRoutes):
    """One table: of a VRF, or of the `guest` of this host whose routes it has, which nobody else sees.

    `unacknowledged`: keys whose next hops the kernel has not yet acknowledged, and `refused`: that it does not have,
    both kept while `exports_learned`.
    `suppressed`: workloads that an aggregate stands for towards the neighbors, `suppressed_aggregates`: aggregates that
    another one does. `exceptions`: this host's own that none may. `services`: workloads' that other hosts may announce.
    `own_blocks`: whether aggregates of this host are configured in it. `labels`: those that are not their path's.
    `stale`: former sessions whose routes are kept, and how long.
    `stale_imports` answers, for one query, which routes of a VRF EVPN routes of such sessions became.
    """

    def __init__(self, next_hop_table: NextHopTable, vrf: str, family: Family, *, guest: str = "") -> None:
        is_unicast = family in (Family.IPV4_UNICAST, Family.IPV6_UNICAST)
        super().__init__(next_hop_table, is_unicast=is_unicast)
        self.vrf = vrf
        self.guest = guest
        self.family = family
        self.stale: dict[Source, Kept] = {}
        self.stale_imports: Callable[[], StaleOf] | None = None
        self.exports_learned = False
        self.unacknowledged: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.suppressed: set[bytes] = set()
        self.suppressed_aggregates: set[bytes] = set()
        self.exceptions: set[bytes] = set()
        self.services: set[bytes] = set()
        self.own_blocks = False
        self.labels = RouteLabels()

    def await_kernel(self, next_hops: Mapping[bytes, NextHops | None]) -> None:
        """These are on their way to the kernel."""
        self.unacknowledged.difference_update(next_hops)
        self.unacknowledged.update([key for key, wanted in next_hops.items() if wanted is not None])

    def leave(self, source: Source) -> None:
        """The session of a source has ended, and a walk that is to begin takes its paths away."""
        if self.checks_next_hops and self.received.get(source):
            super().leave(source)

    def stale_of(self) -> StaleOf:
        """For one query: who says until when the candidates of routes are kept."""
        imports = None if self.stale_imports is None else self.stale_imports()

        def kept(path: Path, key: bytes) -> Kept | None:
            return (
                imports(path, key) if imports and path.source.kind is SourceKind.EVPN else self.stale.get(path.source)
            )

        return kept

    def forget(self, source: Source) -> None:
        """Drop the counts of a source that has no paths left, and the room of dicts that became empty."""
        self.gone.discard(source)
        self.stale.pop(source, None)
        self.received.pop(source, None)
        self.rejected.pop(source, None)
        self.interned.pop(source, None)
        self.labels.forget(source)
        for part in self.routes.parts:
            if not part:
                part.clear()

    def shrink(self) -> Iterator[None]:
        """Give back the room that a burst took, in steps."""
        if not self.unacknowledged:
            self.unacknowledged.clear()
        yield from self.routes.shrink()

    def walk(self, compute: Compute, *, alone_by: NextHop | None = None) -> Iterator[Changes]:
        """Apply `compute` to all keys, one slice per step; what arrives between two steps is walked as it then is.

        With `alone_by` keys whose only candidate has this next hop count as changed in any case.
        """
        for part in self.routes.parts:
            keys = list(part)
            start = 0
            size = SLICE // 8 or 1
            while start < len(keys):
                changes = Changes()
                chosen = keys[start : start + size]
                olds = list(map(part.get, chosen))
                self._apply(part, chosen, olds, compute, changes)
                if alone_by is not None:
                    self._report_alone(chosen, olds, alone_by, changes)
                yield changes
                start += size
                size = SLICE if changes.decisions < SLICE // 16 else SLICE // 8 or 1

    def _report_alone(self, keys: list[bytes], olds: list[Entry | None], next_hop: NextHop, into: Changes) -> None:
        alone = {
            old: self.alone(old).next_hops for old in set(olds) if isinstance(old, Path) and old.next_hop == next_hop
        }
        found = {key: alone[old] for key, old in zip(keys, olds) if old in alone}
        if found:
            into.rerouted(found)
            if self.gathers_keys:
                into.keys.extend(found)

    def without(self, source: Source) -> Compute:
        """For a walk: take the paths of this incarnation of a source away, not those of its successor."""

        def compute(old: Entry | None) -> Entry | None:
            if old is None or isinstance(old, Path):
                return None if old is None or old.via.source is source else old
            for path in old.candidates:
                if path.via.source is source:
                    return self.decision_without(old.candidates, path)
            return old

        return compute

    def without_some(self, source: Source, unwanted: Callable[[Path], bool]) -> Compute:
        """For a walk: take those paths of `source` away that are not wanted."""

        def compute(old: Entry | None) -> Entry | None:
            for path in () if old is None else old.candidates:
                if old is not None and path.source is source and unwanted(path):
                    return None if path is old else self.decision_without(old.candidates, path)
            return old

        return compute

    def without_stale(self, source: Source, refreshed: Set[Path]) -> Compute:
        """For a walk: take the paths of `source` away that are not among the `refreshed`."""

        def compute(old: Entry | None) -> Entry | None:
            if old is None or all(path.source is not source or path in refreshed for path in old.candidates):
                return old
            return self.decision(
                tuple([path for path in old.candidates if path.source is not source or path in refreshed])
            )

        return compute

    def redecide(self, next_hop: NextHop) -> Iterator[Changes]:
        """Walk all keys that have `next_hop` among their candidates', since it can or cannot be reached any more.

        A path that is alone changes for all of its keys at once, so that what they had before is not known any more:
        until the walk ends all keys that move are reported.
        """
        self.redeciding += 1
        return self._redecide(next_hop)

    def _redecide(self, next_hop: NextHop) -> Iterator[Changes]:
        def compute(old: Entry | None) -> Entry | None:
            if old is None or all(path.via.next_hop != next_hop for path in old.candidates):
                return old
            return self.decision(old.candidates)

        yield from self.walk(compute, alone_by=next_hop)
        self.redeciding -= 1

    def by_path(self, keys: Sequence[bytes]) -> dict[Path, list[bytes]]:
        """The keys that have each path as a candidate."""
        found: dict[Path, list[bytes]] = {}
        for key, decision in zip(keys, self.routes.get_all(keys)):
            if decision is not None:
                for path in decision.candidates:
                    found.setdefault(path, []).append(key)
        return found

    def distinct(self) -> set[Entry]:
        """All that keys have."""
        found: set[Entry] = set()
        for part in self.routes.parts:
            found.update(part.values())
        return found

    def some_alone(self, most: int) -> list[Path]:
        """The only candidates of some of the routes: of so many, divided among the parts of the table."""
        found: dict[Entry, None] = {}
        for part in self.routes.parts:
            found.update(dict.fromkeys(islice(part.values(), most // len(self.routes.parts))))
        return [entry for entry in found if isinstance(entry, Path)]

    def mark_services(self, keys: Sequence[bytes], is_service: bool, into: Changes) -> None:
        """Note whether other hosts may announce these keys too; those for which that is new count as changed."""
        flipped = [key for key in dict.fromkeys(keys) if (key in self.services) is not is_service]
        self.services.symmetric_difference_update(flipped)
        into.local += flipped

    def is_suppressed(self, key: bytes, best: Path) -> bool:
        """Whether an aggregate suppresses a route towards the neighbors."""
        kind = best.source.kind
        if kind is SourceKind.WORKLOAD:
            return key in self.suppressed
        return kind is SourceKind.AGGREGATE and key in self.suppressed_aggregates

    def mark_exceptions(self, keys: Sequence[bytes], exception: bool, into: Changes) -> None:
        """Note whether these keys are exceptions; those for which that is new count as changed."""
        flipped = [key for key in dict.fromkeys(keys) if (key in self.exceptions) is not exception]
        self.exceptions.symmetric_difference_update(flipped)
        into.local += flipped
