"""Takes up the routes of one table that another process has left, by the policies of now.

A million routes have to be there within a second or two, while their neighbors wait. So most go by columns: the paths
of one next hop are made by one call, then the decision of each set of candidates, and then each dict of the table is
filled by one. What takes more than that goes by `_enter`, entry by entry: policies that look at prefixes, EVPN routes
and memberships, which others follow, sessions that were not adopted, and keys that this host announces itself.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, Overlay, Path, RouteBatch, Source
from bgpd.rib.loc_rib import SLICE, Changes
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.ports import EvpnRoutes
from bgpd.rib.saved import NO_ENTRY, NONE, SavedPart, SavedRib, SavedTable
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.tables import Tables

_ENTRIES = 1024
"""Entries of one step, since each may be a decision of its own, of paths that are nobody else's."""
_PATHS = 8 * _ENTRIES
"""Paths of one step that only looks at them."""
_Groups = list[tuple[tuple[Path, ...], Sequence[bytes]]]


class TableWalk:
    """The routes of one table, but for the `skipped` keys."""

    def __init__(
        self,
        saved: SavedRib,
        table: SavedTable,
        states: Sequence[NeighborState | None],
        *,
        tables: Tables,
        evpn: EvpnRoutes,
        skipped: frozenset[bytes] = frozenset(),
    ) -> None:
        self._saved = saved
        self._skipped = skipped
        self._entries = table.entries
        self._paths = table.paths
        self._saved_parts = table.parts
        self._states = states
        self._tables = tables
        self._evpn = evpn
        self._family = Family(table.family)
        self._table = (
            tables.guest_table(table.guest, self._family) if table.guest else tables.table(table.vrf, self._family)
        )
        self._made: list[Path | None] = []
        """The path of each number, if all its keys get the same one and nobody else follows it."""
        self._decided: list[Entry | None] = []
        """The decision of each entry; None if its keys may get different ones."""
        self._has_overlays = any(number != NONE for number in set(table.paths.overlays))
        self._epoch = self._table.epoch
        speaking = [state for number in set(table.paths.sources) if (state := states[number]) is not None]
        self._judges = {state.source: (state, state.adj_rib_in.verdicts) for state in speaking}
        """Whose paths are made, and by which of their verdicts."""
        self._has_forgotten = bool(skipped)
        self._entered: defaultdict[Source, dict[bytes, int]] = defaultdict(dict)
        """By the block of its attributes, the next hop of the path that is found by that alone."""
        self._whole: dict[int, Path] = {}
        """The path of a number, where the policy does not look at prefixes."""
        self._parts: dict[tuple[int, object], Path] = {}

    def walk(self) -> Iterator[None]:
        """Stepping enters some of the routes each time."""
        for start in range(0, len(self._entries), _ENTRIES):
            yield from self._follow()
            self._decide(self._entries[start : start + _ENTRIES])
            yield
        for saved, part in zip(self._saved_parts, self._table.routes.parts, strict=True):
            keys, numbers = self._wanted(saved)
            if part and not part.keys().isdisjoint(keys):
                yield from self._enter_each(keys, numbers)
                continue
            yield from self._follow()
            entries = list(map(self._decided.__getitem__, numbers))
            self._fill(part, keys, entries)
            yield
            if None in entries:
                yield from self._enter_each(*_without_decision(keys, numbers, entries))
        yield from self._end_refreshes()
        if self._has_forgotten:
            self._table.drop_unused()

    def _wanted(self, saved: SavedPart) -> tuple[Sequence[bytes], Sequence[int]]:
        """The keys of a part that are to be entered, and the numbers of their entries."""
        numbers = array("I", saved.numbers)
        if NO_ENTRY not in numbers and self._skipped.isdisjoint(saved.keys):
            return saved.keys, numbers
        wanted = [
            number != NO_ENTRY and key not in self._skipped for key, number in zip(saved.keys, numbers, strict=True)
        ]
        return list(compress(saved.keys, wanted)), list(compress(numbers, wanted))

    # By columns.

    def _decide(self, entries: Sequence[tuple[int, ...]]) -> None:
        """Make the decisions of these, and their paths: each entry names those that are new with it in order."""
        last = max(map(max, entries)) + 1
        if last > len(self._made):
            self._make(len(self._made), last)
        made, decision, decided = self._made.__getitem__, self._table.decision_of_known, self._decided.append
        for numbers in entries:
            candidates = tuple(map(made, numbers))
            if None in candidates:
                decided(None)
            else:
                decided(candidates[0] if len(candidates) == 1 else decision(candidates))  # type: ignore[arg-type]

    def _make(self, first: int, last: int) -> None:
        """The paths of these numbers."""
        self._made += [None] * (last - first)
        if self._family in (Family.L2VPN_EVPN, Family.ROUTE_TARGET):
            return
        paths = self._paths
        alike: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, place in enumerate(zip(paths.sources[first:last], paths.next_hops[first:last]), first):
            alike[place].append(number)
        for (source, hop), numbers in alike.items():
            state = self._states[source]
            if state is None or self._family not in state.tables or state.adj_rib_in.policy.by_prefix:
                continue
            if hop != NONE and not self._has_overlays:
                self._make_alike(state, hop, numbers)

    def _make_alike(self, state: NeighborState, hop: int, numbers: Sequence[int]) -> None:
        """The paths of a neighbor that have one next hop."""
        next_hop, paths = self._saved.next_hops[hop], self._paths
        blocks = [paths.blocks[number] for number in numbers]
        ranks, are_simple = [paths.ranks[number] for number in numbers], [paths.are_simple[one] for one in numbers]
        entered = self._entered[state.source].setdefault
        found = state.adj_rib_in.all_heard_before(
            self._family,
            next_hop,
            list(map(Attributes.read, blocks, ranks, are_simple)),
            [paths.heard_at[number] for number in numbers],
            [block if entered(block, hop) == hop else (block, next_hop, None, None) for block in blocks],
        )
        self._table.now_known(found, next_hop)
        for number, path in zip(numbers, found):
            self._made[number] = path

    def _follow(self) -> Iterator[None]:
        """Since the last step sessions may have ended, next hops come or gone, and routes are judged otherwise. All is
        decided as of now when it ends."""
        while True:
            changed = {
                source: state
                for source, (state, verdicts) in self._judges.items()
                if self._family not in state.tables or state.adj_rib_in.verdicts != verdicts
            }
            if changed:
                yield from self._forget(changed)
            elif self._epoch != self._table.epoch:
                yield from self._decide_again()
            else:
                return

    def _forget(self, changed: Mapping[Source, NeighborState]) -> Iterator[None]:
        """What is decided with paths of these goes entry by entry, with those of now."""
        self._has_forgotten = True
        for source, state in changed.items():
            del self._judges[source]
            if self._family in state.tables:
                self._judges[source] = state, state.adj_rib_in.verdicts
        self._whole = {number: path for number, path in self._whole.items() if path.source not in changed}
        self._parts = {place: path for place, path in self._parts.items() if path.source not in changed}
        made, decided = self._made, self._decided
        for start in range(0, len(made), _PATHS):
            some = made[start : start + _PATHS]
            made[start : start + _PATHS] = [None if path is None or path.source in changed else path for path in some]
            yield
        for start in range(0, len(decided), _ENTRIES):
            decided[start : start + _ENTRIES] = [
                None if one is None or any(path.source in changed for path in one.candidates) else one
                for one in decided[start : start + _ENTRIES]
            ]
            yield

    def _decide_again(self) -> Iterator[None]:
        """By what is known of next hops now; ends early if that is another thing once more."""
        epoch, made, decided = self._table.epoch, self._made, self._decided
        for start in range(0, len(made), _PATHS):
            for path in made[start : start + _PATHS]:
                if path is not None:
                    self._table.alone(path)
            yield
            if self._table.epoch != epoch:
                return
        for start in range(0, len(decided), _ENTRIES):
            decided[start : start + _ENTRIES] = [
                None if one is None else self._table.decision(one.candidates)
                for one in decided[start : start + _ENTRIES]
            ]
            yield
            if self._table.epoch != epoch:
                return
        self._epoch = epoch

    def _fill(self, part: dict[bytes, Entry], keys: Sequence[bytes], entries: Sequence[Entry | None]) -> None:
        """Enter keys of one dict of the table, but for those without a decision."""
        if None in entries:
            keys = list(compress(keys, [entry is not None for entry in entries]))
        changes = Changes()
        self._table.fill(part, keys, [entry for entry in entries if entry is not None], changes)
        if not self._table.guest and changes.next_hops:
            changes.next_hops = self._tables.kernel.confirm(self._table.vrf, self._family, changes.next_hops)
        self._tables.commit(self._table, changes)

    # Entry by entry.

    def _enter_each(self, keys: Sequence[bytes], numbers: Sequence[int]) -> Iterator[None]:
        by_entry: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, number in zip(keys, numbers):
            by_entry[number].append(key)
        yield from self._follow()
        changes, work = Changes(), 0
        for number, chosen in by_entry.items():
            for start in range(0, len(chosen), SLICE):
                some = chosen[start : start + SLICE]
                self._enter(self._entries[number], some, changes)
                work += 8 + len(some)
                if work > SLICE:
                    self._tables.commit(self._table, changes)
                    changes, work = Changes(), 0
                    yield
                    yield from self._follow()
        self._tables.commit(self._table, changes)

    def _enter(self, candidates: Iterable[int], keys: Sequence[bytes], changes: Changes) -> None:
        groups: _Groups = [((), keys)]
        for number in candidates:
            state = self._states[self._paths.sources[number]]
            if state is None or self._family not in state.tables:
                continue
            whole = self._made[number] or self._whole.get(number)
            if whole is not None:
                groups = [((*former, whole), chosen) for former, chosen in groups]
            else:
                groups = [
                    ((*former, path), part)
                    for former, chosen in groups
                    for path, part in self._divided(number, state, chosen)
                ]
        for paths, chosen in groups:
            if paths:
                self._table.load(chosen, paths, changes)
                for path in paths:
                    self._tell_evpn(path, chosen)

    def _divided(self, number: int, state: NeighborState, keys: Sequence[bytes]) -> list[tuple[Path, Sequence[bytes]]]:
        """The path that each of the keys gets of a saved one, by the policy of now."""
        saved, adj_rib_in = self._paths, state.adj_rib_in
        received = Attributes.read(saved.blocks[number], saved.ranks[number], saved.are_simple[number])
        next_hop, overlay = self._next_hop(saved.next_hops[number]), self._overlay(saved.overlays[number])
        found: list[tuple[Path, Sequence[bytes]]] = []
        for trace, chosen in adj_rib_in.traces(self._family, keys, received, next_hop):
            path = self._parts.get((number, trace))
            if path is None:
                heard_at = saved.heard_at[number]
                path = adj_rib_in.heard_before(self._family, received, next_hop, overlay, trace, heard_at)
                self._parts[number, trace] = path
            if trace is None:
                self._whole[number] = path
            found.append((path, chosen))
        return found

    def _next_hop(self, number: int) -> NextHop | None:
        return None if number == NONE else self._saved.next_hops[number]

    def _overlay(self, number: int) -> Overlay | None:
        return None if number == NONE else self._saved.overlays[number]

    def _tell_evpn(self, path: Path, keys: Sequence[bytes]) -> None:
        if self._family is Family.L2VPN_EVPN and not path.rejected:
            self._evpn.evpn_received(path.source, keys, path)
        elif self._family is Family.ROUTE_TARGET:
            batch = RouteBatch(self._family, announced=keys, attributes=path.received, next_hop=path.next_hop)
            self._evpn.memberships_received(path.source, batch)

    def _end_refreshes(self) -> Iterator[None]:
        """What was not announced again since a refresh began is stale, as it was."""
        stale = set(self._paths.stale)
        if not stale:
            return
        divided = [path for (number, _), path in self._parts.items() if number in stale]
        paths = [*divided, *map(self._made.__getitem__, stale)]
        for start in range(0, len(paths), _PATHS):
            for path in paths[start : start + _PATHS]:
                interned = None if path is None else self._table.interned.get(path.source)
                if path is not None and interned is not None and interned.refreshed is not None:
                    interned.refreshed.discard(path)
            yield


def _without_decision(
    keys: Sequence[bytes], numbers: Sequence[int], entries: Sequence[Entry | None]
) -> tuple[list[bytes], list[int]]:
    """The keys, and the numbers of their entries, of which no decision was made."""
    lack = [entry is None for entry in entries]
    return list(compress(keys, lack)), list(compress(numbers, lack))
