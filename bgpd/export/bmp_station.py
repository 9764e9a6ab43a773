"""A BMP station (RFC 7854): it is told each session, what neighbors announce before policy, and the Loc-RIB (RFC 9069).

A station costs the daemon a bounded amount of memory, whatever it does: UPDATEs that wait for it are counted in bytes,
and a station that is too slow, or takes nothing, is cut off and later told everything anew. Of the Loc-RIB only the
keys wait that have changed; what is sent is their present state. All bulk work is done in steps of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import structlog

from bgpd.config.schema import BmpConfig
from bgpd.export.as_updates import STEP, end_of_rib, received_routes, used_route
from bgpd.export.sessions import TappedSessions
from bgpd.message.bmp import (
    BmpPeer,
    PeerType,
    Statistic,
    distinguisher_of,
    initiation,
    peer_down,
    peer_up,
    route_monitoring,
    statistics,
    termination,
)
from bgpd.message.exabgp_codec import Notification, encode_message, encode_open
from bgpd.message.open import Open
from bgpd.model.iana import Family, MessageType
from bgpd.model.path import Source
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.runtime.turns import in_turn
from bgpd.speaker.tap import TappedSession

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Of messages for one station; a burst that is longer is told anew, when it is over."""
STALL_TIMEOUT_S = 30.0
"""How long a station may take nothing."""
CONNECT_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
_CHUNK_BYTES = 64 * 1024
_BEHIND_PAUSE_S = 0.05
_FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN)

log = structlog.get_logger()


class TooSlow(Exception):
    """The station is cut off."""


class BmpStation:
    """One [[bmp]] section. `local` answers with this host's AS number and router ID."""

    def __init__(
        self,
        config: BmpConfig,
        *,
        name: str,
        description: str,
        sessions: TappedSessions,
        rib: Rib,
        local: Callable[[], tuple[int, bytes]],
    ) -> None:
        self.config = config
        self.connected_since = 0.0
        self.cut_off = 0
        self.last_error = ""
        self._name, self._description = name, description
        self._sessions = sessions
        self._rib = rib
        self._local = local
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_over = False
        self._wake = asyncio.Event()
        self._changed: dict[LocRib, dict[bytes, None]] = {}
        self._walks: deque[Iterator[bool]] = deque()
        self._told: dict[Source, str] = {}
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
                reason = str(error) or "no answer"
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
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        self._is_over = True
        self._wake.set()

    def _begin(self) -> None:
        self._is_over = False
        self._put(initiation(name=self._name, description=self._description))
        self._sessions.add(self)
        for session in list(self._sessions.established.values()):
            self.session_up(session)
        if self.config.loc_rib:
            self._rib.watch_decisions(self, self._decided)
            for (vrf, family), table in list(self._rib.tables.items()):
                if family in _FAMILIES:
                    self._loc_rib_up(vrf)
                    self._walks.append(self._walk_loc_rib(table))

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
                self._walks.append(self._walk_used(table, self._changed.pop(table)))
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
        raise ConnectionError("the station closed the connection")

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

    # Sessions (SessionTap)

    def session_up(self, session: TappedSession) -> None:
        if not self.config.adj_rib_in:
            return
        self._told[session.source] = session.vrf
        self._put(
            peer_up(
                _peer(session),
                time.time(),
                local_address=session.local_address,
                ports=session.ports,
                opens=(session.sent_open, session.received_open),
            )
        )
        self._walks.append(self._walk_received(session))

    def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
        session = self._sessions.established.get(source)
        if source not in self._told or session is None:
            return
        peer, now = _peer(session, two_octet_as=not session.four_octet_as), time.time()
        for body in bodies:
            self._put(route_monitoring(peer, now, encode_message(MessageType.UPDATE, body)))

    def session_down(self, source: Source, notification: Notification | None, *, sent: bool) -> None:
        if source in self._told:
            told = None if notification is None else (notification.code, notification.subcode, notification.data)
            vrf = self._told.pop(source)
            self._put(peer_down(_peer_of(source, distinguisher_of(vrf)), time.time(), told, sent=sent))

    def _walk_received(self, session: TappedSession) -> Iterator[bool]:
        """What the session has announced until now. False: routes that were told of are not in the RIB yet."""
        peer = _peer(session)
        state = next((one for one in self._rib.received.states() if one.source is session.source), None)
        tables = list(state.tables.items()) if state is not None else []
        for family, table in tables:
            if family not in _FAMILIES:
                continue
            for keys in table.routes.slices(STEP):
                while session.is_behind() and session.source in self._told:
                    yield False
                if session.source not in self._told:
                    return
                for message in received_routes(table, family, session.source, keys):
                    self._put(route_monitoring(peer, time.time(), message))
                yield True
            if session.source not in self._told:
                return
            self._put(route_monitoring(peer, time.time(), end_of_rib(family)))

    # The Loc-RIB

    def _loc_rib_up(self, vrf: str) -> None:
        if vrf in self._vrfs:
            return
        self._vrfs.add(vrf)
        asn, router_id = self._local()
        mine = encode_open(
            Open(
                asn=asn,
                hold_time_s=0,
                router_id=router_id,
                four_octet_as=True,
                multiprotocol=tuple((family.afi, family.safi) for family in _FAMILIES),
            )
        )
        name = vrf or "global"
        self._put(
            peer_up(
                self._loc_rib(vrf), time.time(), local_address=bytes(16), ports=(0, 0), opens=(mine, mine), table=name
            )
        )

    def _loc_rib(self, vrf: str) -> BmpPeer:
        asn, router_id = self._local()
        return BmpPeer(PeerType.LOC_RIB, b"", asn, router_id, distinguisher_of(vrf))

    def _walk_loc_rib(self, table: LocRib) -> Iterator[bool]:
        for keys in table.routes.slices(STEP):
            self._put_used(table, keys)
            yield True
        self._put(route_monitoring(self._loc_rib(table.vrf), time.time(), end_of_rib(table.family)))

    def _decided(self, table: LocRib, keys: Sequence[bytes]) -> None:
        if keys and table.family in _FAMILIES:
            self._loc_rib_up(table.vrf)
            self._changed.setdefault(table, {}).update(dict.fromkeys(keys))
            self._wake.set()

    def _walk_used(self, table: LocRib, changed: Iterable[bytes]) -> Iterator[bool]:
        """What has changed until now; what changes meanwhile is told behind it."""
        left = iter(changed)
        while keys := list(islice(left, STEP)):
            self._put_used(table, keys)
            yield True

    def _put_used(self, table: LocRib, keys: Iterable[bytes]) -> None:
        peer = self._loc_rib(table.vrf)
        for key in keys:
            message = used_route(table, table.family, key)
            if message:
                self._put(route_monitoring(peer, time.time(), message))

    # Statistics

    def _report(self) -> None:
        now = time.time()
        for session in self._sessions.established.values():
            if session.source in self._told:
                counts = self._rib.received.counts(session.source).values()
                numbers = {
                    Statistic.REJECTED: sum(one.rejected for one in counts),
                    Statistic.ADJ_RIB_IN: sum(one.received for one in counts),
                }
                self._put(statistics(_peer(session), now, numbers))
        if self.config.loc_rib:
            for vrf in sorted(self._vrfs):
                routes = sum(len(table.routes) for (of, _), table in self._rib.tables.items() if of == vrf)
                self._put(statistics(self._loc_rib(vrf), now, {Statistic.LOC_RIB: routes}))


def _peer(session: TappedSession, *, two_octet_as: bool = False) -> BmpPeer:
    return _peer_of(session.source, distinguisher_of(session.vrf))._replace(two_octet_as=two_octet_as)


def _peer_of(source: Source, distinguisher: int) -> BmpPeer:
    kind = PeerType.LOCAL_INSTANCE if distinguisher else PeerType.GLOBAL
    return BmpPeer(kind, source.address, source.asn, source.router_id, distinguisher)
