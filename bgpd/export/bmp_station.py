"""A BMP station (RFC 7854): it is told each session, what neighbors announce before policy, what they are sent (RFC
8671), and the Loc-RIB (RFC 9069).

A station costs the daemon a bounded amount of memory, whatever it does: UPDATEs that wait for it are counted in bytes,
and a station that is too slow, or takes nothing, is cut off and later told everything anew; so is one that a defect of
ours keeps something from. Of the Loc-RIB, and of what would be sent before policy, only the keys wait that have
changed; what is told is their present state. All bulk work is done in steps of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

from bgpd.config.schema import BmpConfig
from bgpd.export.as_updates import STEP, end_of_rib, received_routes
from bgpd.export.bmp_tables import (
    FAMILIES,
    Local,
    loc_rib_began,
    loc_rib_ended,
    loc_rib_peer,
    offered_peer,
    offered_routes,
    received_peer,
    sent_peer,
    sent_routes,
    session_peer,
    used_routes,
)
from bgpd.export.sessions import TappedSessions
from bgpd.message.bmp import (
    BmpPeer,
    Statistic,
    initiation,
    peer_down,
    peer_up,
    route_monitoring,
    statistics,
    termination,
)
from bgpd.message.exabgp_codec import Notification, encode_message
from bgpd.model.iana import Family, MessageType
from bgpd.model.source import Source
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.runtime.events import log
from bgpd.runtime.turns import in_turn
from bgpd.speaker.tap import TappedSession

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Of messages for one station; a burst that is longer is told anew, when it is over."""
STALL_TIMEOUT_S = 30.0
"""How long a station may take nothing."""
PROBE_S = 10
"""Between two probes of a connection on which nothing is said; three without an answer end it."""
GONE_S = 120.0
"""How long what was sent may be without an acknowledgement: the station, or the way to it, is gone."""
CONNECT_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
_CHUNK_BYTES = 64 * 1024
_BEHIND_PAUSE_S = 0.05


class TooSlow(Exception):
    """The station is cut off."""


class BmpStation:
    """One [[bmp]] section. `vrfs` answers with the names of the VRFs that there are ("": the main table), `local` with
    who this host is now."""

    def __init__(
        self,
        config: BmpConfig,
        *,
        name: str,
        description: str,
        sessions: TappedSessions,
        rib: Rib,
        local: Callable[[], Local],
        vrfs: Callable[[], Collection[str]],
    ) -> None:
        self.config = config
        self.connected_since = 0.0
        self.cut_off = 0
        self.last_error = ""
        self._name, self._description = name, description
        self._sessions = sessions
        self._rib = rib
        self._local_now = local
        self._local = local()
        self._vrfs_now = vrfs
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_over = False
        self._defect: Exception | None = None
        self._lost: OSError | None = None
        self._wake = asyncio.Event()
        self._changed: dict[LocRib, dict[bytes, None]] = {}
        self._walks: deque[Iterator[bool]] = deque()
        self._told: dict[Source, TappedSession] = {}
        self._vrfs: set[str] = set()

    async def run(self) -> None:
        """Connect, speak, and begin anew, until cancelled."""
        pause_s = FIRST_PAUSE_S
        where = f"{self.config.address} port {self.config.port}"
        while True:
            began = time.monotonic()
            try:
                await self._speak()
            except (OSError, TimeoutError, TooSlow) as error:
                reason = _reason(error)
                if reason != self.last_error or self.connected_since:
                    log.warning("bmp.disconnected", station=where, reason=reason)
                self.last_error = reason
            except Exception as defect:
                log.exception("bmp.failed", station=where)
                self.last_error = f"a defect of bgpd: {defect!r}"
                pause_s = LAST_PAUSE_S
            finally:
                self.connected_since = 0.0
            if time.monotonic() - began > LAST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)

    async def _speak(self) -> None:
        """Raises: OSError, TimeoutError, TooSlow: it is over."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(self.config.address, self.config.port)
        _notice_its_end(writer.get_extra_info("socket"))
        self.connected_since, self.last_error = time.time(), ""
        log.info("bmp.connected", station=f"{self.config.address} port {self.config.port}")
        watch = asyncio.create_task(self._watch(reader))
        try:
            self._begin()
            await self._pass_on(writer)
        except asyncio.CancelledError:
            writer.write(termination())
            raise
        finally:
            self._end()
            watch.cancel()
            if writer.transport.get_write_buffer_size() > _CHUNK_BYTES:
                writer.transport.abort()
            else:
                writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """A station has nothing to say but that it goes."""
        try:
            while await reader.read(4096):
                pass
        except OSError as error:
            self._lost = error
        self._is_over = True
        self._wake.set()

    def _begin(self) -> None:
        self._is_over, self._defect, self._lost, self._local = False, None, None, self._local_now()
        self._put(initiation(name=self._name, description=self._description))
        self._sessions.add(self)
        for session in list(self._sessions.established.values()):
            self.session_up(session)
        if self.config.loc_rib or self.config.adj_rib_out_before_policy:
            self._rib.watch_decisions(self, self._decided)
        self.reconfigured()

    def _end(self) -> None:
        self._sessions.remove(self)
        self._rib.unwatch_decisions(self)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._changed.clear()
        self._walks.clear()
        self._told.clear()
        self._vrfs.clear()

    async def _pass_on(self, writer: asyncio.StreamWriter) -> None:
        report_at = time.monotonic() + self.config.statistics_interval_s
        while not self._is_over:
            if self._waiting_bytes > MAX_WAITING_BYTES:
                self.cut_off += 1
                raise TooSlow(f"it is too slow: over {MAX_WAITING_BYTES:,} bytes waited for it")
            if self._waiting:
                await self._write(writer)
            elif self._walks:
                await self._step()
            elif self._changed:
                table = next(iter(self._changed))
                self._walks.append(self._walk_changed(table, self._changed.pop(table)))
            else:
                left = report_at - time.monotonic()
                if left <= 0:
                    report_at += self.config.statistics_interval_s
                    self._report()
                    continue
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._wake.wait()
        if self._defect is not None:
            raise self._defect
        raise self._lost or ConnectionError("the station closed the connection")

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        chunk: list[bytes] = []
        size = 0
        while self._waiting and size < _CHUNK_BYTES:
            chunk.append(self._waiting.popleft())
            size += len(chunk[-1])
        self._waiting_bytes -= size
        writer.write(b"".join(chunk))
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await writer.drain()
        except TimeoutError:
            self.cut_off += 1
            raise TooSlow(f"it has taken nothing for {STALL_TIMEOUT_S:.0f} s") from None

    async def _step(self) -> None:
        """A step of the first of the walks; one that has to wait is put last."""
        walk = self._walks.popleft()
        has_moved = await in_turn(lambda: next(walk, None))
        if has_moved:
            self._walks.appendleft(walk)
        elif has_moved is not None:
            self._walks.append(walk)
            await asyncio.sleep(_BEHIND_PAUSE_S)

    def _put(self, message: bytes) -> None:
        """Have it sent; a station that has too much to take is about to be cut off, and told all anew."""
        if self._waiting_bytes > MAX_WAITING_BYTES:
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._wake.set()

    def failed(self, defect: Exception) -> None:
        """It was not told something: the connection ends, and all is told anew by the next one."""
        self._defect = defect
        self._is_over = True
        self._wake.set()

    # Sessions (SessionTap)

    def session_up(self, session: TappedSession) -> None:
        config = self.config
        if not (config.adj_rib_in or config.adj_rib_out or config.adj_rib_out_before_policy):
            return
        self._told[session.source] = session
        self._put(
            peer_up(
                session_peer(session.source, session.vrf),
                time.time(),
                local_address=session.local_address,
                ports=session.ports,
                opens=(session.sent_open, session.received_open),
            )
        )
        if config.adj_rib_in:
            self._walks.append(self._walk_received(session))
        if config.adj_rib_out:
            self._walks.append(self._walk_sent(session))
        if config.adj_rib_out_before_policy:
            self._walks.append(self._walk_offered(session))

    def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
        session = self._told.get(source)
        if session is not None and self.config.adj_rib_in:
            self._pass_messages(received_peer(session), [encode_message(MessageType.UPDATE, body) for body in bodies])

    def updates_sent(self, source: Source, messages: Sequence[bytes]) -> None:
        session = self._told.get(source)
        if session is not None and self.config.adj_rib_out:
            self._pass_messages(sent_peer(session), messages)

    def _pass_messages(self, peer: BmpPeer, messages: Iterable[bytes]) -> None:
        now = time.time()
        for message in messages:
            self._put(route_monitoring(peer, now, message))

    def session_down(self, source: Source, notification: Notification | None, *, sent: bool) -> None:
        session = self._told.pop(source, None)
        if session is not None:
            told = None if notification is None else (notification.code, notification.subcode, notification.data)
            self._put(peer_down(session_peer(source, session.vrf), time.time(), told, sent=sent))

    def _is_told(self, session: TappedSession) -> bool:
        return self._told.get(session.source) is session

    def _walk_received(self, session: TappedSession) -> Iterator[bool]:
        """What the session has announced until now. False: routes that were told of are not in the RIB yet."""
        peer = session_peer(session.source, session.vrf)
        state = self._rib.received.state(session.source)
        tables = list(state.tables.items()) if state is not None else []
        for family, table in tables:
            if family not in FAMILIES:
                continue
            for keys in table.routes.slices(STEP):
                while session.is_behind() and self._is_told(session):
                    yield False
                if not self._is_told(session):
                    return
                self._pass_messages(peer, received_routes(table, family, session.source, keys))
                yield True
            if not self._is_told(session):
                return
            self._put(route_monitoring(peer, time.time(), end_of_rib(family)))

    def _exports(self, session: TappedSession) -> list[tuple[Family, AdjRibOut]]:
        state = self._rib.received.state(session.source)
        return [] if state is None else [one for one in state.exports.items() if one[0] in FAMILIES]

    def _walk_sent(self, session: TappedSession) -> Iterator[bool]:
        """What the neighbor was sent until now. What it is sent later comes by `updates_sent`, End-of-RIB, too."""
        for family, export in self._exports(session):
            left = iter(list(export.advertised))
            while keys := list(islice(left, STEP)):
                if not self._is_told(session):
                    return
                for message in sent_routes(export, session, keys, for_neighbor=self._rib.received.evpn.for_neighbor):
                    self._put(message)
                yield True
            if self._is_told(session) and export.end_of_rib_sent:
                self._put(route_monitoring(sent_peer(session), time.time(), end_of_rib(family)))

    def _walk_offered(self, session: TappedSession) -> Iterator[bool]:
        """What export policy has to judge for the neighbor until now."""
        for family, export in self._exports(session):
            table = self._rib.table(session.vrf, family)
            for keys in table.routes.slices(STEP):
                if not self._is_told(session):
                    return
                for message in offered_routes(export, session, table, keys, is_first=True):
                    self._put(message)
                yield True
            if self._is_told(session):
                self._put(route_monitoring(offered_peer(session), time.time(), end_of_rib(family)))

    # What is decided

    def reconfigured(self) -> None:
        """The Loc-RIBs of VRFs that are new are told, and those end of which there are no more.

        All begin anew where this host is another now: a station knows each by its AS number and router ID.
        """
        if not self.connected_since:
            return
        now, local = self._vrfs_now(), self._local_now()
        for vrf in sorted(self._vrfs if local != self._local else self._vrfs.difference(now)):
            self._vrfs.remove(vrf)
            self._put(loc_rib_ended(vrf, self._local))
        self._local = local
        if not self.config.loc_rib:
            return
        for (vrf, family), table in list(self._rib.tables.items()):
            if family in FAMILIES and vrf in now and vrf not in self._vrfs:
                self._walks.append(self._walk_loc_rib(table))
        for vrf in sorted({vrf for vrf, _ in self._rib.tables if vrf in now}):
            self._loc_rib_up(vrf)

    def _loc_rib_up(self, vrf: str) -> None:
        if vrf not in self._vrfs:
            self._vrfs.add(vrf)
            self._put(loc_rib_began(vrf, self._local))

    def _walk_loc_rib(self, table: LocRib) -> Iterator[bool]:
        for keys in table.routes.slices(STEP):
            self._put_used(table, keys)
            yield True
        if table.vrf in self._vrfs:
            self._put(route_monitoring(loc_rib_peer(table.vrf, self._local), time.time(), end_of_rib(table.family)))

    def _decided(self, table: LocRib, keys: Sequence[bytes]) -> None:
        try:
            if keys and table.family in FAMILIES:
                if self.config.loc_rib and table.vrf in self._vrfs_now():
                    self._loc_rib_up(table.vrf)
                self._changed.setdefault(table, {}).update(dict.fromkeys(keys))
                self._wake.set()
        except Exception as defect:  # not the RIB's, which is in the midst of a change
            self.failed(defect)

    def _walk_changed(self, table: LocRib, changed: Iterable[bytes]) -> Iterator[bool]:
        """What has changed until now; what changes meanwhile is told behind it."""
        left = iter(changed)
        while keys := list(islice(left, STEP)):
            if self.config.loc_rib:
                self._put_used(table, keys)
                yield True
            for session in list(self._told.values()) if self.config.adj_rib_out_before_policy else ():
                if session.vrf == table.vrf and self._is_told(session):
                    self._put_offered(session, table, keys)
                    yield True  # there may be many neighbors

    def _put_used(self, table: LocRib, keys: Iterable[bytes]) -> None:
        if table.vrf in self._vrfs:
            for message in used_routes(loc_rib_peer(table.vrf, self._local), table, keys):
                self._put(message)

    def _put_offered(self, session: TappedSession, table: LocRib, keys: Sequence[bytes]) -> None:
        for family, export in self._exports(session):
            if family is table.family:
                for message in offered_routes(export, session, table, keys, is_first=False):
                    self._put(message)

    # Statistics

    def _report(self) -> None:
        now = time.time()
        for session in self._told.values():
            counts = self._rib.received.counts(session.source).values()
            numbers = {
                Statistic.REJECTED: sum(one.rejected for one in counts),
                Statistic.ADJ_RIB_IN: sum(one.received for one in counts),
                Statistic.SENT: sum(one.announced for one in counts),
            }
            self._put(statistics(session_peer(session.source, session.vrf), now, numbers))
        for vrf in sorted(self._vrfs):
            routes = sum(len(table.routes) for (of, _), table in self._rib.tables.items() if of == vrf)
            self._put(statistics(loc_rib_peer(vrf, self._local), now, {Statistic.LOC_RIB: routes}))


def _notice_its_end(station: socket.socket) -> None:
    """A station that is switched off says nothing, and is told nothing for as long as nothing changes."""
    station.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    station.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S)
    station.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
    station.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    station.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(GONE_S * 1000))


def _reason(error: Exception) -> str:
    """Without the number of the error, and the address that is said beside it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or "no answer"
