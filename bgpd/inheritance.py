"""What one process of bgpd leaves to the next, and what the next one finds: the sections of the snapshot by part.

Each part of the daemon saves and takes up its own; here is only which parts there are. What cannot be gone on with
costs what a restart costs (RFC 4724), of one neighbor or of all, and the reason is shown. Imports little: KEEPALIVEs
are sent from before the daemon is imported, which takes a second on a busy host.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from bgpd import __version__
from bgpd.handover import snapshot
from bgpd.handover.store import inherited
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.views.host import HandoverView
from bgpd.speaker import left_sessions
from bgpd.speaker.left_sessions import LeftSessions
from bgpd.speaker.saved import SavedSpeaker

if TYPE_CHECKING:
    from bgpd.evpn.mac_mobility import SavedMoves
    from bgpd.evpn.uplinks import SavedGateway
    from bgpd.fib.saved import KnownTable, SavedKernelTable
    from bgpd.model.iana import Family
    from bgpd.rib.saved import SavedRib
    from bgpd.speaker.speaker import Speaker

SNAPSHOT = "snapshot"
"""The name of its descriptor."""
_SECTIONS = ("daemon", "speaker", "rib", "kernel", "feeds", "moves", "gateways", "drain", "configuration")
_BASE = "base"
"""The section of what the RIB has written beforehand (rib/prepared.py); b"": nothing."""
_OTHER_FORM = "the snapshot has another form than this version of bgpd reads"


class SavedDaemon(msgspec.Struct, frozen=True, kw_only=True):
    """The process itself. `at`: when it left (wall clock, seconds), `unread_since`: from when on it read nothing of
    neighbors (monotonic). `converged`: all had told their first state. `protocols`: of other programs' routes in the
    kernel."""

    version: str
    pid: int
    at: float
    converged: bool
    protocols: list[int]
    unread_since: float


class Left(msgspec.Struct, kw_only=True):
    """What a process leaves. `kernel`: the routes of kernel tables, by VRF. `feeds`: what orchestrators have said, by
    source. `moves`: how often endpoints of VRFs have moved of late. `gateways`: the gateway IPs that neighbors were
    sent. `drain`: whether this host is in service, and why. `configuration`: what config/left.py has packed. `base`
    goes with `rib`, as it is."""

    daemon: SavedDaemon
    speaker: SavedSpeaker
    rib: SavedRib
    base: bytes | memoryview
    kernel: dict[str, SavedKernelTable]
    feeds: dict[str, bytes]
    moves: list[SavedMoves]
    gateways: list[SavedGateway]
    drain: bytes
    configuration: bytes
    descriptors: dict[str, int]

    @property
    def sections(self) -> dict[str, bytes | memoryview]:
        """All but the descriptors."""
        return {**{name: msgspec.msgpack.encode(getattr(self, name)) for name in _SECTIONS}, _BASE: self.base}

    def write(self) -> dict[str, int]:
        """All descriptors by name, that of the snapshot among them.

        Raises: OSError: there is no memory for it.
        """
        return {SNAPSHOT: snapshot.write(self.sections), **self.descriptors}


class Inheritance:
    """What a process found at its start. `daemon` is None where nothing was left, or nothing that could be used.

    `problem`: why nothing could be. `refused`: why the session with a neighbor could not, by name.
    """

    def __init__(self) -> None:
        self.daemon: SavedDaemon | None = None
        self.sessions = LeftSessions([], {})
        self.feeds: dict[str, bytes] = {}
        self.drain = self.configuration = b""
        self._rib = self._base = self._kernel = self._moves = self._gateways = b""
        self.problem = ""
        self.refused: dict[str, str] = {}
        self.adopted = 0
        self._unread_s = 0.0

    async def adopt(self, speaker: Speaker) -> None:
        """Have the sessions gone on with."""
        wanted = len(self.sessions)
        self.refused = await speaker.adopt(self.sessions)
        self.adopted = wanted - len(self.refused.keys() - self.sessions.refused.keys())

    def heard(self, now: float) -> float:
        """Neighbors are read again, from `now` on; for so many seconds they were not."""
        self._unread_s = self.since_unread(now)
        return self._unread_s

    def since_unread(self, now: float) -> float:
        """Seconds from when on neighbors were not read until `now`."""
        return 0.0 if self.daemon is None else round(now - self.daemon.unread_since, 3)

    def routes(self) -> SavedRib | None:
        """What neighbors announced and were sent; None if nothing was left, or it cannot be read."""
        from bgpd.rib.saved import SavedRib

        packed, base = self._rib, self._base
        self._rib = self._base = b""
        if self.daemon is None:
            return None
        try:
            found = msgspec.msgpack.decode(packed, type=SavedRib)
            if base:
                found.base = msgspec.msgpack.decode(base, type=SavedRib)
            return found
        except UNREADABLE as error:
            self.fail(f"{_OTHER_FORM}: {error}")
        return None

    def tables(self, routes: SavedRib) -> dict[str, KnownTable]:
        """The kernel's routes by VRF, as far as the other process knew them; `routes` are those of `routes`."""
        from bgpd.fib.saved import KnownTable, SavedKernelTable
        from bgpd.rib.saved import columns

        packed, self._kernel = self._kernel, b""
        by_family: defaultdict[str, dict[Family, list[list[bytes]]]] = defaultdict(dict)
        for (vrf, family), keys in columns(routes).items():
            by_family[vrf][family] = keys
        try:
            saved = msgspec.msgpack.decode(packed, type=dict[str, SavedKernelTable])
        except UNREADABLE:  # of another form: the kernel is read, as at any start
            return {}
        return {vrf: KnownTable(table, by_family[vrf]) for vrf, table in saved.items()}

    def moves(self) -> list[SavedMoves]:
        """How often endpoints of VRFs have moved of late."""
        from bgpd.evpn.mac_mobility import SavedMoves

        try:
            return msgspec.msgpack.decode(self._moves, type=list[SavedMoves])
        except UNREADABLE:  # of another form: what is a duplicate is found out anew
            return []

    def gateways(self) -> list[SavedGateway] | None:
        """The gateway IPs that neighbors were sent; None if that is not known."""
        from bgpd.evpn.uplinks import SavedGateway

        try:
            return msgspec.msgpack.decode(self._gateways, type=list[SavedGateway])
        except UNREADABLE:  # of another form, or of a version that does not say it
            return None

    def keep(self, sections: Mapping[str, bytes]) -> None:
        """What is short is read; sections of the RIB, of kernel tables and of EVPN are not before they are asked for.

        Raises: KeyError, msgspec.MsgspecError: of another form.
        """
        self._rib, self._base, self._kernel = sections["rib"], sections[_BASE], sections["kernel"]
        self._moves, self._gateways = sections.get("moves", b""), sections.get("gateways", b"")
        self.daemon = msgspec.msgpack.decode(sections["daemon"], type=SavedDaemon)
        self.feeds = msgspec.msgpack.decode(sections["feeds"], type=dict[str, bytes])
        if "drain" in sections:
            self.drain = msgspec.msgpack.decode(sections["drain"], type=bytes)
        if "configuration" in sections:
            self.configuration = msgspec.msgpack.decode(sections["configuration"], type=bytes)

    def fail(self, problem: str) -> None:
        """Nothing can be gone on with."""
        self.problem, self.daemon = problem, None
        self.sessions.close()

    @property
    def converged(self) -> bool:
        """Whether the first state of all was known before."""
        return self.daemon is not None and self.daemon.converged

    def view(self) -> HandoverView | None:
        """For people; None if nothing was left."""
        if self.daemon is None and not self.problem:
            return None
        return HandoverView(
            at=self.daemon.at if self.daemon is not None else None,
            version=self.daemon.version if self.daemon is not None else "",
            adopted=self.adopted,
            refused=self.refused,
            problem=self.problem,
            unread_s=self._unread_s,
        )


def read(descriptors: Mapping[str, int]) -> Inheritance:
    """What was left with these descriptors, which are this process's from now on; those of no use are closed."""
    found = Inheritance()
    left = dict(descriptors)
    memory = left.pop(SNAPSHOT, None)
    if memory is None:
        if left:
            found.problem = "no snapshot came with the sessions"
    else:
        try:
            _read(memory, left, found)
        except snapshot.SnapshotRefused as error:
            found.problem = str(error)
        except (KeyError, *UNREADABLE) as error:
            found.problem = f"{_OTHER_FORM}: {error}"
        os.close(memory)
    if found.problem:
        found.daemon, found.feeds, found.drain, found.configuration = None, {}, b"", b""
        for number in left.values():
            with contextlib.suppress(OSError):
                os.close(number)
    return found


def find() -> Inheritance:
    """What was left to this process; KEEPALIVEs are sent from now on. A second call finds nothing."""
    found = read(inherited())
    found.sessions.keep_alive()
    return found


def _read(memory: int, descriptors: Mapping[str, int], found: Inheritance) -> None:
    sections = snapshot.read(memory)
    found.keep(sections)
    found.sessions = left_sessions.read(sections["speaker"], descriptors)


def saved_daemon(*, converged: bool, protocols: list[int], unread_since: float) -> SavedDaemon:
    """This process, as it leaves now."""
    return SavedDaemon(
        version=__version__,
        pid=os.getpid(),
        at=time.time(),
        converged=converged,
        protocols=protocols,
        unread_since=unread_since,
    )
