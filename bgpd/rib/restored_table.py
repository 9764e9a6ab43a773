"""Takes up the routes of one table that another process has left, by the policies of now.

A million routes have to be there within a second or two. So most go by columns: the paths of one next hop are made by
one call, then the decision of each set of candidates, and then the dicts of the table are filled by some calls for
each. What takes more than that goes by `_enter`, entry by entry: policies that look at prefixes, EVPN routes and
memberships, which others follow, sessions that were not adopted, and keys that this host announces itself.

Neighbors are heard meanwhile: the keys that one names are entered at once (`demand`), so that what it says of them
finds what was there before.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any

from bgpd.model.attributes import Attributes
from bgpd.model.containers import part_number
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.rib.keyed_routes import Changes
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.ports import EvpnRoutes
from bgpd.rib.saved import NO_ENTRY, NONE, SavedRib, SavedTable
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.slices import SLICE
from bgpd.rib.tables import Tables

_ENTRIES = 512
"""Entries of one step, since each may be a decision of its own, of paths that are nobody else's."""
_AHEAD = 2048
"""Entries of which it is known what they would be without next hops that are lost, before any is in the table."""
_KEYS = 4096
"""Keys of one step that only enters them."""
_PATHS = 8 * _ENTRIES
"""Paths of one step that only looks at them."""
_Groups = list[tuple[tuple[Path, ...], Sequence[bytes]]]


class TableWalk:
    """The routes of one table, but for the `skipped` keys, of which something newer is left."""

    def __init__(
        self,
        saved: SavedRib,
        table: SavedTable,
        states: Sequence[NeighborState | None],
        *,
        tables: Tables,
        evpn: EvpnRoutes,
        skipped: Iterable[bytes] = (),
    ) -> None:
        self._saved = saved
        self._taken = set(skipped)
        """Keys that the walk has not to enter, or not any more."""
        self._reached = (0, 0)
        """How far the walk has come: the number of the part, and the place in its column."""
        self._places: dict[int, tuple[Sequence[int], dict[bytes, int]]] = {}
        """Of parts that were asked for: the numbers of the entries, and the place of each key."""
        self._entries = table.entries
        self._paths = table.paths
        self._saved_parts = table.parts
        self._states = states
        self._tables = tables
        self._evpn = evpn
        self._family = table.family
        self.table = (
            tables.guest_table(table.guest, self._family) if table.guest else tables.table(table.vrf, self._family)
        )
        self._made: list[Path | None] = []
        """The path of each number, if all its keys get the same one and nobody else follows it."""
        self._decided: list[Entry | None] = []
        """The decision of each entry; None if its keys may get different ones."""
        self._has_overlays = any(number != NONE for number in set(table.paths.overlays))
        self._epoch = self.table.epoch
        speaking = [state for number in set(table.paths.sources) if (state := states[number]) is not None]
        self._judges = {state.source: (state, state.adj_rib_in.verdicts) for state in speaking}
        """Whose paths are made, and by which of their verdicts."""
        self._outdated: set[Source] = set()
        self._forgetting: set[Source] = set()
        """Of whom what is in `_made` and `_decided` may be by former verdicts."""
        self._has_forgotten = False
        self._entered: defaultdict[Source, dict[bytes, int]] = defaultdict(dict)
        """By the block of its attributes, the next hop of the path that is found by that alone."""
        self._whole: dict[int, Path] = {}
        """The path of a number, where the policy does not look at prefixes."""
        self._parts: dict[tuple[int, object], Path] = {}

    def walk(self) -> Iterator[None]:
        """Stepping enters some of the routes each time."""
        while len(self._decided) < len(self._entries):
            yield from self._follow()
            self._decide_some()
            yield
        for number, (saved, part) in enumerate(zip(self._saved_parts, self.table.routes.parts, strict=True)):
            numbers = array("I", saved.numbers)
            for start in range(0, len(saved.keys), _KEYS):
                end = start + _KEYS
                yield from self._follow()
                yield from self._enter_some(part, saved.keys[start:end], numbers[start:end])
                self._reached = number, end
                yield
            self._places.pop(number, None)
            saved.keys.clear()
        self._reached = len(self._saved_parts), 0
        yield from self._end_refreshes()
        if self._has_forgotten or self._taken:
            yield from self.table.without_unused()
        yield from self._give_back()

    def _give_back(self) -> Iterator[None]:
        """Drop what is needed no more, in steps: all at once would hold the loop."""
        paths = self._paths
        columns: list[list[Any]] = [self._entries, self._made, self._decided, paths.blocks, paths.ranks, paths.heard_at]
        for column in columns:
            while column:
                del column[-4 * _PATHS :]
                yield

    def demand(self, keys: Iterable[bytes]) -> None:
        """Enter those of the keys now that the walk has not come to."""
        self._look()
        wanted: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for key in keys:
            part = part_number(key)
            if part < self._reached[0] or key in self._taken:
                continue
            numbers, places = self._places_in(part)
            place = places.get(key)
            if place is None or (part, place) < self._reached:
                continue
            self._taken.add(key)
            if numbers[place] != NO_ENTRY:
                wanted[part].append((numbers[place], key))
        for chosen in wanted.values():
            changes = Changes()
            for number, key in chosen:
                self._enter(self._entries[number], (key,), changes)
            self._commit(changes)

    def look_ahead(self) -> None:
        """Make the first decisions, if they are not made yet."""
        self._look()
        if self._outdated or self._forgetting or self._epoch != self.table.epoch:
            return
        while len(self._decided) < min(len(self._entries), _AHEAD):
            self._decide_some()

    def next_hops(self, state: NeighborState) -> set[NextHop]:
        """Those that the routes of a session have here."""
        return {
            self._saved.next_hops[hop] for source, hop in self._ways if self._states[source] is state and hop != NONE
        }

    @cached_property
    def _ways(self) -> set[tuple[int, int]]:
        """The numbers of sources, and of next hops that they name."""
        return set(zip(self._paths.sources, self._paths.next_hops))

    def _places_in(self, part: int) -> tuple[Sequence[int], dict[bytes, int]]:
        found = self._places.get(part)
        if found is None:
            saved = self._saved_parts[part]
            found = self._places[part] = array("I", saved.numbers), dict(zip(saved.keys, range(len(saved.keys))))
        return found

    def _enter_some(self, part: dict[bytes, Entry], keys: Sequence[bytes], numbers: Sequence[int]) -> Iterator[None]:
        """Enter these keys of a part, the first of them at once."""
        keys, numbers = self._wanted(keys, numbers)
        if part and not part.keys().isdisjoint(keys):
            yield from self._enter_each(keys, numbers)
            return
        entries = list(map(self._decided.__getitem__, numbers))
        self._fill(part, keys, entries)
        if None in entries:
            yield from self._enter_each(*_without_decision(keys, numbers, entries))

    def _wanted(self, keys: Sequence[bytes], numbers: Sequence[int]) -> tuple[Sequence[bytes], Sequence[int]]:
        """Those of the keys that are to be entered, and the numbers of their entries."""
        if NO_ENTRY not in numbers and self._taken.isdisjoint(keys):
            return keys, numbers
        wanted = [number != NO_ENTRY and key not in self._taken for key, number in zip(keys, numbers, strict=True)]
        return list(compress(keys, wanted)), list(compress(numbers, wanted))

    # By columns.

    def _decide_some(self) -> None:
        """Make some decisions more, and their paths: each entry names those that are new with it in order."""
        start = len(self._decided)
        entries = self._entries[start : start + _ENTRIES]
        if not entries:
            return
        last = max(map(max, entries)) + 1
        if last > len(self._made):
            self._make(len(self._made), last)
        made, decision, decided = self._made.__getitem__, self.table.decision_of_known, self._decided.append
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
            if number in self._whole:
                self._made[number] = self._whole[number]
            else:
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
        self.table.now_known(found, next_hop)
        for number, path in zip(numbers, found):
            self._made[number] = path

    def _look(self) -> None:
        """Note of whom routes are judged otherwise now, or not taken any more."""
        changed = {
            source: state
            for source, (state, verdicts) in self._judges.items()
            if self._family not in state.tables or state.adj_rib_in.verdicts != verdicts
        }
        if not changed:
            return
        self._has_forgotten = True
        self._outdated |= changed.keys()
        for source, state in changed.items():
            del self._judges[source]
            if self._family in state.tables:
                self._judges[source] = state, state.adj_rib_in.verdicts
        self._whole = {number: path for number, path in self._whole.items() if path.source not in changed}
        self._parts = {place: path for place, path in self._parts.items() if path.source not in changed}

    def _follow(self) -> Iterator[None]:
        """Since the last step sessions may have ended, next hops come or gone, and routes are judged otherwise. All is
        decided as of now when it ends."""
        while True:
            self._look()
            if self._outdated:
                yield from self._forget()
            elif self._epoch != self.table.epoch:
                yield from self._decide_again()
            else:
                return

    def _forget(self) -> Iterator[None]:
        """What is decided with paths of those goes entry by entry, with those of now."""
        changed = self._forgetting = self._outdated
        self._outdated = set()
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
        self._forgetting = set()

    def _decide_again(self) -> Iterator[None]:
        """By what is known of next hops now; ends early if that is another thing once more."""
        epoch, made, decided = self.table.epoch, self._made, self._decided
        for start in range(0, len(made), _PATHS):
            for path in made[start : start + _PATHS]:
                if path is not None:
                    self.table.alone(path)
            yield
            if self.table.epoch != epoch:
                return
        for start in range(0, len(decided), _ENTRIES):
            decided[start : start + _ENTRIES] = [
                None if one is None else self.table.decision(one.candidates)
                for one in decided[start : start + _ENTRIES]
            ]
            yield
            if self.table.epoch != epoch:
                return
        self._epoch = epoch

    def _fill(self, part: dict[bytes, Entry], keys: Sequence[bytes], entries: Sequence[Entry | None]) -> None:
        """Enter keys of one dict of the table, but for those without a decision."""
        if None in entries:
            keys = list(compress(keys, [entry is not None for entry in entries]))
        changes = Changes()
        self.table.fill(part, keys, [entry for entry in entries if entry is not None], changes)
        self._commit(changes)

    def _commit(self, changes: Changes) -> None:
        """Pass on what was entered in one part."""
        if not self.table.guest and changes.next_hops:
            changes.next_hops = self._tables.kernel.confirm(self.table.vrf, self._family, changes.next_hops)
        self._tables.commit(self.table, changes)

    # Entry by entry.

    def _enter_each(self, keys: Sequence[bytes], numbers: Sequence[int]) -> Iterator[None]:
        by_entry: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, number in zip(keys, numbers):
            by_entry[number].append(key)
        yield from self._follow()
        changes, work = Changes(), 0
        for number, chosen in by_entry.items():
            for start in range(0, len(chosen), SLICE):
                some = [key for key in chosen[start : start + SLICE] if key not in self._taken]
                if not some:
                    continue
                self._taken.update(some)
                self._enter(self._entries[number], some, changes)
                work += 8 + len(some)
                if work > SLICE:
                    self._tables.commit(self.table, changes)
                    changes, work = Changes(), 0
                    yield
                    yield from self._follow()
        self._tables.commit(self.table, changes)

    def _enter(self, candidates: Iterable[int], keys: Sequence[bytes], changes: Changes) -> None:
        groups: _Groups = [((), keys)]
        for number in candidates:
            state = self._states[self._paths.sources[number]]
            if state is None or self._family not in state.tables:
                continue
            whole = self._made_before(number) or self._whole.get(number)
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
                self.table.load(chosen, paths, changes)
                for path in paths:
                    self._tell_evpn(path, chosen)

    def _made_before(self, number: int) -> Path | None:
        """The path of a number, if it was made, and by what holds now."""
        path = self._made[number] if number < len(self._made) else None
        is_outdated = path is not None and (path.source in self._outdated or path.source in self._forgetting)
        return None if is_outdated else path

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
                interned = None if path is None else self.table.interned.get(path.source)
                if path is not None and interned is not None and interned.refreshed is not None:
                    interned.refreshed.discard(path)
            yield


def _without_decision(
    keys: Sequence[bytes], numbers: Sequence[int], entries: Sequence[Entry | None]
) -> tuple[list[bytes], list[int]]:
    """The keys, and the numbers of their entries, of which no decision was made."""
    lack = [entry is None for entry in entries]
    return list(compress(keys, lack)), list(compress(numbers, lack))
