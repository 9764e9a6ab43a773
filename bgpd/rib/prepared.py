"""The RIB for another process, written while neighbors are still heard: in a copy of this process, which takes as long
as it takes. What has changed since is written when the process leaves.

A table of a million routes keeps neighbors waiting for seconds otherwise. Sessions that come or go meanwhile, or send
their routes again, make it worthless: then all is written at the end, as a small table is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

import msgspec

from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.received import ReceivedRoutes
from bgpd.rib.saved import SavedRib, columns, save
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.tables import Tables
from bgpd.runtime.copy_of_process import in_a_copy
from bgpd.runtime.turns import in_turn

_Session = tuple[Source, tuple[Family, ...]]


class PreparedRib:
    """`packed` is the base (MessagePack of a SavedRib without neighbors), b"" as long as there is none. Call `end` when
    it is of no use any more."""

    def __init__(self, tables: Tables, received: ReceivedRoutes) -> None:
        self.packed: bytes | memoryview = b""
        self._tables = tables
        self._received = received
        self._sessions: list[_Session] | None = None
        self._columns: dict[tuple[str, Family], list[list[bytes]]] = {}
        self._changed: dict[LocRib, dict[bytes, None]] = {}
        self._listed: dict[int, tuple[dict[bytes, Entry], list[bytes]]] = {}

    async def write(self, *, patience_s: float) -> None:
        """Write the base as of the end of some turns of the loop. Raises: CopyFailed: there is none."""
        listing = self.list_keys()
        while await in_turn(partial(next, listing, True)) is None:
            pass
        if self.begin():
            self.packed = await in_a_copy(self.base, patience_s=patience_s, niceness=0)

    def list_keys(self) -> Iterator[None]:
        """Stepping lists the keys of the main table, a part of it in each step: `begin` holds the loop for 20 ms and
        more where it has a million to list. It lists what changed since."""
        self._tables.watch(self, self._list_again)
        for table in self._main():
            for part in table.routes.parts:
                self._listed[id(part)] = part, list(part)
                yield

    def _list_again(self, table: LocRib, keys: Sequence[bytes]) -> None:
        for part, _ in table.routes.split(keys):
            self._listed.pop(id(part), None)

    def _keys_of(self, part: dict[bytes, Entry]) -> list[bytes]:
        listed = self._listed.get(id(part))
        return listed[1] if listed is not None and listed[0] is part else list(part)

    def _main(self) -> list[LocRib]:
        return [table for (vrf, _), table in self._tables.all.items() if not vrf]

    def begin(self) -> bool:
        """From now on what changes is noted; whether there may be a base of now."""
        self._sessions = self._sessions_now()
        if self._sessions is None:
            return False
        self._tables.watch(self, self._note)
        for table in self._main():
            if table.pending:
                self._list_again(table, [*table.pending.keys, *table.pending.local])
        self._columns = {
            (table.vrf, table.family): [self._keys_of(part) for part in table.routes.parts] for table in self._main()
        }
        self._listed.clear()
        return True

    def base(self) -> bytes:
        """The base, as of now."""
        found = save(self._tables.all.values(), self._received.states_to_save(), self._received.stale)
        return msgspec.msgpack.encode(msgspec.structs.replace(found, neighbors=[]))

    def end(self) -> None:
        """Note nothing any more."""
        self._tables.unwatch(self)

    def _note(self, table: LocRib, keys: Sequence[bytes]) -> None:
        self._changed.setdefault(table, {}).update(dict.fromkeys(keys))

    def rest(self) -> tuple[SavedRib, bytes | memoryview]:
        """What neighbors announced and were sent, and the base that it goes with; b"": it says all."""
        states, stale = self._received.states_to_save(), self._received.stale
        guests = self._tables.guests.values()
        if self.packed and self._sessions_now() == self._sessions:
            for table in self._tables.all.values():  # what sessions took in this very turn of the loop is not told yet
                if table.pending:
                    self._note(table, [*table.pending.keys, *table.pending.local])
            return save(chain(self._changed, guests), states, stale, of=self._changed), self.packed
        self.packed = b""
        return save(chain(self._tables.all.values(), guests), states, stale), b""

    def columns(self, rest: SavedRib) -> Mapping[tuple[str, Family], list[list[bytes]]]:
        """The keys of each part of the tables, as whoever reads base and rest has them; those of the main table, for of
        it what the kernel has is handed over."""
        return self._columns if self.packed else columns(rest)

    def _sessions_now(self) -> list[_Session] | None:
        """Whose routes there are; None while there are such as are told apart by more than what they say: announced
        before or after a refresh began, or kept for long."""
        found: list[_Session] = []
        for state in self._received.states_to_save():
            families = tuple(state.tables)
            if state.adj_rib_in.long_lived or state.sweeps:
                return None
            if any(state.adj_rib_in.refreshed(family) is not None for family in families):
                return None
            found.append((state.source, families))
        return found
