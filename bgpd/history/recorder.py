"""Keeps what enters the RIB, as it came: what is read of sessions within some milliseconds is one value, and what came
in half a second is written in a thread.

No work is done for a route in the event loop. Nothing waits for the disk: what cannot be written is dropped, and the
history begins anew with the next base (base.py). What became of a prefix is worked out later, by whoever asks
(replay.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import ListenConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.history.gathered import Gathered, Import, Later, Run
from bgpd.history.records import (
    Allowed,
    AnyRecord,
    BaseBegan,
    BaseEnded,
    Configured,
    Discarded,
    Ended,
    ImportSource,
    ImportsRemoved,
    ImportsWithdrawn,
    Local,
    LongLived,
    Lost,
    OwnAddress,
    Reachable,
    RefreshBegan,
    RefreshEnded,
    Removed,
    Seen,
    Session,
    SessionClosed,
    Started,
    Tenants,
    Told,
)
from bgpd.history.segments import HistoryUnusable, SegmentWriter
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path as Way
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.model.utf8 import as_msgpack
from bgpd.rib.next_hops import AllowedNextHops, LocalNextHops
from bgpd.rib.recording import Recorder
from bgpd.rib.stale import Kept
from bgpd.runtime.events import log

TOGETHER_S = 0.005
"""UPDATEs of a session that are read within this time are one record, and have the time of the first."""
WRITE_S = 0.5
"""How long records are gathered before they are written."""
AT_ONCE = 1 << 20
"""Bytes that are not gathered any longer."""
MOST_WAITING = 16 << 20
"""Bytes that wait for the disk: with more it counts as hanging, and all that waits is dropped."""
PATIENCE_S = 1.0
"""How long the end of the process waits for the disk."""
RETRY_S = 10.0


class History(Recorder):
    """The history of routes of one process, or without a directory none. `config` is the one of its start.

    `error` is why the last write failed, `failed_at` since when that is so; `known_from` since when all is known, None:
    not at all; `wants_base`: the tables have to be said as they are (base.py). `bytes` is what the files take, `lost`
    how often something was. `before_close()` says what is still to be said.
    """

    def __init__(
        self, directory: Path | None, *, max_bytes: int, config: RibConfig, now: Callable[[], float] = time.time
    ) -> None:
        self.error = ""
        self.failed_at: float | None = None
        self.wants_base = False
        self.bytes = self.lost = 0
        self.known_from: float | None = None
        self.is_on = directory is not None and max_bytes > 0
        self._max_bytes = max_bytes
        self.now = now
        self._config = config
        self.before_close: Callable[[], None] = lambda: None
        self._standing: dict[type, Tenants | Seen] = {}
        self._numbers: dict[Source, int] = {}
        self._sessions: dict[int, Session] = {}
        self._next = 1
        self._writing: asyncio.Future[None] | None = None
        self._is_in_base = self._ends_base = False
        self._gathered = Gathered()
        self._runs: dict[Source, Run] = {}
        self._runs_end = 0.0
        self._imports: WeakKeyDictionary[Source, ImportSource] = WeakKeyDictionary()
        self._removed_imports: WeakKeyDictionary[Source, set[tuple[str, Family]]] = WeakKeyDictionary()
        self._file = SegmentWriter(directory, max_bytes=max_bytes) if self.is_on and directory is not None else None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._wake = asyncio.Event()
        self._much = asyncio.Event()

    # What happens

    def started(self, addresses: Iterable[tuple[str, str, bytes]], *, is_adopting: bool) -> None:
        """The process begins: with empty tables, or with those that another process had."""
        self.add(Started(self.now(), _config(self._config), is_adopting))
        if not is_adopting:
            self.base_began((), addresses)
            self.base_ended()
        else:
            self.wants_base = True

    def add(self, record: AnyRecord | Later, size: int = 64) -> None:
        """Keep a record."""
        if self._file is None:
            return
        if self._runs:
            self._end_runs()
        self._gathered.waiting.append(record)
        if len(self._gathered.waiting) == 1:
            self._wake.set()
        self._gathered.size += size
        if self._gathered.size > AT_ONCE:
            self._much.set()
            if self._gathered.size > MOST_WAITING:
                self._drop("the disk does not keep up")

    def _end_runs(self) -> None:
        """What comes now must not stand before what came meanwhile."""
        self._gathered.size += sum([len(run.end().data) for run in self._runs.values()])
        self._runs = {}

    def _drop(self, reason: str) -> None:
        """What waits is not kept."""
        self.lost += 1
        self._gathered = Gathered()
        self._gathered.waiting.append(Lost(self.now(), reason))
        self._is_in_base = self._ends_base = False
        self.wants_base = True

    def heard(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        """UPDATEs of a session without their headers, whose routes (`batches`) the RIB is given next."""
        run = self._runs.get(source)
        now = self.now()
        if run is not None and run.at <= now < self._runs_end:
            run.hear(bodies, batches)
            return
        number = self._numbers.get(source)
        if number is None or self._file is None:
            return
        others, self._runs = self._runs, {}
        if not self._runs_end - TOGETHER_S <= now < self._runs_end:
            self._runs, others = others, {}
            self._runs_end = now + TOGETHER_S
        run = Run(now, number, [], [])
        run.hear(bodies, batches)
        self.add(run)
        if self._gathered.waiting[-1] is run:
            self._runs = {**others, source: run}

    def session_up(
        self,
        source: Source,
        negotiated: Negotiated,
        config: SessionConfig,
        allowed: AllowedNextHops | LocalNextHops | None,
        *,
        is_adopted: bool = False,
        is_over: bool = False,
    ) -> None:
        if source.guest or self._file is None:
            return
        number = self._numbers[source] = self._next
        self._next += 1
        now = self.now()
        session = Session(
            now,
            number,
            source.name,
            str(source.kind),
            source.asn,
            source.router_id,
            source.address,
            source.interface,
            isinstance(config, ListenConfig),
            as_msgpack(config),
            negotiated,
            allowed if isinstance(allowed, AllowedNextHops) else None,
            now,
            is_over,
            is_adopted,
        )
        self.add(session)
        self._sessions[number] = msgspec.structs.replace(session, is_known=False)

    def session_closed(self, source: Source, reason: str, kept: dict[Family, Kept]) -> None:
        """A session has ended; some of its routes may be kept for a while."""
        number = self._numbers.get(source)
        session = None if number is None else self._sessions.get(number)
        if number is None or session is None:
            return
        ends_at = {str(family): one.ends_at for family, one in kept.items()}
        self.add(SessionClosed(self.now(), number, source.name, reason, ends_at))
        if kept:
            self._sessions[number] = msgspec.structs.replace(session, is_over=True)
        else:
            del self._sessions[number]

    def removed(self, source: Source, family: Family) -> None:
        number = self._numbers.get(source)
        if number is not None:
            self.add(Removed(self.now(), number, str(family)))

    def long_lived(self, source: Source, family: Family) -> None:
        number = self._numbers.get(source)
        if number is not None:
            self.add(LongLived(self.now(), number, str(family)))
            session = self._sessions.get(number)
            if session is not None:
                families = tuple(sorted({*session.long_lived, str(family)}))
                self._sessions[number] = msgspec.structs.replace(session, long_lived=families)

    def forgotten(self, source: Source) -> None:
        number = self._numbers.pop(source, None)
        if number is not None:
            self._sessions.pop(number, None)

    def allowed_changed(self, source: Source, allowed: AllowedNextHops | LocalNextHops) -> None:
        number = self._numbers.get(source)
        if number is not None and isinstance(allowed, AllowedNextHops):
            self.add(Allowed(self.now(), number, allowed))
            if number in self._sessions:
                self._sessions[number] = msgspec.structs.replace(self._sessions[number], allowed=allowed)

    def refresh_began(self, source: Source, family: Family) -> None:
        number = self._numbers.get(source)
        if number is not None:
            self.add(RefreshBegan(self.now(), number, str(family)))

    def refresh_ended(self, source: Source, family: Family) -> None:
        number = self._numbers.get(source)
        if number is not None:
            self.add(RefreshEnded(self.now(), number, str(family)))

    def discarded(self, source: Source, family: Family, keys: Sequence[bytes]) -> None:
        number = self._numbers.get(source)
        if number is not None:
            self.add(Discarded(self.now(), number, str(family), list(keys)), 8 * len(keys))

    def local(
        self,
        source: Source,
        place: tuple[str, Family],
        keys: Sequence[bytes],
        attributes: Attributes | None,
        next_hop: NextHop | None = None,
        overlay: Overlay | None = None,
    ) -> None:
        if self._file is None or place[1] is Family.ROUTE_TARGET:
            return
        block, rank, simple = (
            (attributes.block, attributes.rank, attributes.is_simple) if attributes else (b"", 0, True)
        )
        where, is_gone = (source.name, str(source.kind), place[0], str(place[1])), attributes is None
        record = Local(self.now(), *where, list(keys), block, rank, simple, next_hop, is_gone, overlay)
        self.add(record, 64 + 8 * len(keys))

    def stands(self, record: Tenants | Seen, size: int = 64) -> None:
        """Keep a record in place of the former one of its kind; each base says it again."""
        self._standing[type(record)] = record
        self.add(record, size)

    def imported(self, vrf: str, family: Family, keys: Sequence[bytes], path: Way) -> None:
        if self._file is not None:
            number = self._number_of_import(path.source, (vrf, family))
            self.add(Import(self.now(), number, vrf, family, path=path, keys=keys), 128 + 8 * len(keys))

    def imported_few(self, vrf: str, family: Family, routes: Sequence[tuple[bytes, Way]]) -> None:
        if self._file is not None and routes:
            number = self._number_of_import(routes[0][1].source, (vrf, family))
            self.add(Import(self.now(), number, vrf, family, routes), 128 * len(routes))

    def _number_of_import(self, source: Source, place: tuple[str, Family]) -> int:
        """Of a source that has routes in this VRF and family from now on."""
        known = self._imports.get(source)
        if known is None:
            known = self._imports[source] = ImportSource(
                self.now(),
                self._next,
                source.name,
                source.asn,
                source.router_id,
                source.address,
                source.interface,
                source.origin,
            )
            self._next += 1
            self.add(known)
        if self._removed_imports:
            self._removed_imports.get(source, set()).discard(place)
        return known.number

    def imports_withdrawn(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None:
        known = self._imports.get(source)
        if known is not None:
            self.add(ImportsWithdrawn(self.now(), vrf, str(family), known.number, list(keys)), 64 + 8 * len(keys))

    def imports_removed(self, vrf: str, family: Family, source: Source) -> None:
        known = self._imports.get(source)
        if known is not None:
            self._removed_imports.setdefault(source, set()).add((vrf, family))
            self.add(ImportsRemoved(self.now(), vrf, str(family), known.number))

    def told(
        self,
        source: Source,
        place: tuple[str, Family],
        keys: Sequence[bytes],
        attributes: Attributes | None,
        next_hop: bytes = b"",
        *,
        spoken: Family,
        overlay: Overlay | None = None,
    ) -> None:
        number = self._numbers.get(source)
        if number is not None:
            block = b"" if attributes is None else attributes.block
            is_gone = attributes is None
            record = Told(
                self.now(), number, place[0], str(place[1]), str(spoken), list(keys), block, next_hop, overlay, is_gone
            )
            self.add(record, 64 + 8 * len(keys))

    def next_hop(self, vrf: str, next_hop: NextHop, why: str) -> None:
        self.add(Reachable(self.now(), vrf, next_hop, why))

    def own_address(self, vrf: str, interface: str, address: bytes, *, is_gone: bool) -> None:
        """An address of this host came or went."""
        self.add(OwnAddress(self.now(), vrf, interface, address, is_gone))

    def configured(self, config: RibConfig) -> None:
        self._config = config
        self.add(Configured(self.now(), _config(config)))

    # Bases

    def base_began(
        self, next_hops: Iterable[tuple[str, NextHop, str]], addresses: Iterable[tuple[str, str, bytes]]
    ) -> None:
        """All that the tables have is said from here on."""
        self.wants_base, self._is_in_base = False, True
        now = self.now()
        self.add(BaseBegan(now, _config(self._config), list(next_hops), list(addresses)))
        self._say_sources(now, are_known=False)

    def _say_sources(self, now: float, *, are_known: bool) -> None:
        """Who says what follows; `are_known`: with what they have said before."""
        sessions = [msgspec.structs.replace(one, is_known=are_known) for one in self._sessions.values()]
        for record in (*self._standing.values(), *sessions, *self._imports.values()):
            self.add(msgspec.structs.replace(record, at=now))

    def base_ended(self) -> None:
        """All was said; of a base of which a part was lost there is no end."""
        if self._is_in_base:
            self._ends_base = True
            self.add(BaseEnded(self.now()))
            self._is_in_base = False

    def number_of(self, source: Source) -> int | None:
        """Of a session that is recorded."""
        return self._numbers.get(source)

    def number_of_import(self, source: Source, place: tuple[str, Family]) -> int | None:
        """Of a source of routes from EVPN that are recorded, unless those in this VRF and family are about to go."""
        known = self._imports.get(source)
        return None if known is None or place in self._removed_imports.get(source, ()) else known.number

    # The disk

    async def run(self) -> None:
        """Write what was gathered, until cancelled."""
        if self._file is None:
            return
        while True:
            if not self.error:
                await self._wake.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_S):
                    await self._much.wait()
            await self.flush()
            if self._file is None:
                return
            self.look_whether_full()
            if self.error:
                await asyncio.sleep(RETRY_S)

    def look_whether_full(self) -> None:
        """Ask for the next base in good time before the last one is deleted, and not while a table is loaded or much
        changes, if that can be helped: it says all routes again."""
        if self._file is not None and not (self._is_in_base or self._ends_base or self.is_writing):
            self.wants_base = self._file.is_time_for_base() or self.wants_base

    @property
    def is_high_time(self) -> bool:
        """Whether the next base must not wait any more, or go slowly."""
        return self._file is not None and self._file.is_high_time_for_base

    @property
    def is_writing(self) -> bool:
        """Whether the disk is being waited for."""
        return self._writing is not None

    async def flush(self) -> None:
        """Write what was gathered; returns when it is written, or cannot be. One after the other: what waits for a
        disk that hangs is bounded."""
        while self._writing is not None and not self._writing.done():
            with contextlib.suppress(Exception):
                await asyncio.shield(self._writing)
        if self._file is not None:
            writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, self._file, self._taken())
            self._writing = writing
            writing.add_done_callback(self._written)
            with contextlib.suppress(Exception):  # `_written` is told
                await asyncio.shield(writing)

    def _written(self, writing: asyncio.Future[None]) -> None:
        if self._writing is writing:
            self._writing = None
        if not writing.cancelled() and (error := writing.exception()) is not None:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """A defect: nothing more is kept by this process."""
        log.error("history.defect", error=repr(error), exc_info=error)
        self.error, self.is_on, self._file = f"a defect: {error!r}", False, None
        self._gathered, self._runs = Gathered(), {}

    def _taken(self) -> Gathered:
        """What was gathered, in the loop's thread: what comes next is gathered anew."""
        self._end_runs()
        gathered, self._gathered = self._gathered, Gathered()
        self._ends_base = False
        self._wake.clear()
        self._much.clear()
        return gathered

    def _write(self, file: SegmentWriter, gathered: Gathered) -> None:
        """In the writer's thread."""
        records = gathered.records()
        if not records and not self.error:
            return
        try:
            if self.error:
                records = [Lost(records[0].at if records else self.now(), self.error), *records]
            file.append(records)
        except HistoryUnusable as error:
            self.lost += 1
            self._is_in_base = False
            is_new, self.error = not self.error, str(error)
            if is_new:
                self.failed_at = records[0].at if records else self.now()
                log.warning("history.not_written", reason=self.error)
            return
        self.bytes, self.known_from = file.bytes, file.known_from
        if self.error:
            self.error, self.failed_at = "", None
            self.wants_base = True
            log.info("history.recovered")

    def close(self, *, is_handed_over: bool = False) -> None:
        """The process ends: write the rest; blocks for the disk, but not longer than it may hang."""
        if self._file is not None:
            try:
                self.before_close()
                self.add(Ended(self.now(), is_handed_over))
                self._writer.submit(self._write, self._file, self._taken()).result(PATIENCE_S)
            except TimeoutError:
                log.warning("history.not_written", reason="the disk does not keep up")
            except Exception as error:
                self.give_up(error)

    def goes_on(self) -> None:
        """The process has said its last word and could not become the next one: it is the next one itself."""
        if self._file is None:
            return
        now = self.now()
        self.add(Started(now, _config(self._config), is_adopting=True))
        self._say_sources(now, are_known=True)
        self.wants_base = True

    def warnings(self) -> list[str]:
        """What an operator should know of it."""
        if self.error:
            return [f"the history of routes is not kept: {self.error}"]
        if self._file is not None and self._file.bases and self.known_from is None:
            return ["the history of routes is too small for the routes that there are: raise journal.history_max_bytes"]
        return []


def _config(config: RibConfig) -> bytes:
    """Without guests, whose sessions are not recorded: their sections have other keys than those of `listen`."""
    listen = tuple(one for one in config.listen if not isinstance(one, GuestConfig))
    return as_msgpack(msgspec.structs.replace(config, listen=listen))
