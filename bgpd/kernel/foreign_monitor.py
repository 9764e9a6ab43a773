"""Follows other programs' routes: by notifications, and by reading again where the kernel may have dropped some.

Linux drops routes silently when an interface loses its last IPv4 address, goes down, loses IPv6 (disable_ipv6, an MTU
below 1280), moves to a VRF or namespace, when a preferred source address goes (older kernels), and when a nexthop
object goes (docs/kernel.md has the table). Each of these comes with a notification of a link, an address or a nexthop
object: then the routes of that interface are read again, soon, many at once. All are read again at intervals.

Decides only what to read and when; foreign_routes.py keeps what is known, foreign_reader.py finds what is gone.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from itertools import islice

from bgpd.kernel.foreign_reader import ForeignReader, Reading, Scope
from bgpd.kernel.foreign_routes import ForeignRoutes, Place, Routes
from bgpd.kernel.netlink import DATAGRAM_PAUSE_S
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import Address, RouteChanged
from bgpd.model.prefix import family_of
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log
from bgpd.runtime.rates import Share

_LOOK_DELAY_S = 0.1
"""Delay: the work after a link failure gets the CPU first."""
_SHARE = 5
"""Reading takes at most a fifth of a processor's time, however many events there are."""
_UNREAD_PAUSE_S = 1.0
_STEP = 1000
"""Prefixes taken over in one step at the start, so that the loop is not blocked; nothing is notified meanwhile."""
_SCOPES = 16
"""So many interfaces are read one by one; for more, the routes of all protocols that others use."""
_COMMON_PROTOCOLS = frozenset({2, 3, 4})
"""kernel, boot, static: looked at whether they were seen or not."""
_Doubt = tuple[Family, str]
"""The routes of a family by an interface."""


class ForeignMonitor:
    """`routes` is what is known. `names` answers the names of all interfaces by index.

    `looked` is called when all routes were read after the last `look_at_all`. Those of protocols that others use are
    read every `interval_s`.
    """

    def __init__(
        self,
        publish: Callable[[RouteChanged], None],
        *,
        own_protocol: int,
        interval_s: float,
        names: Callable[[], Mapping[int, str]],
        name_of: Callable[[int], str],
        looked: Callable[[], None],
    ) -> None:
        self.routes = ForeignRoutes(publish, name_of=name_of, doubted=self.doubt)
        self._own_protocol = own_protocol
        self._interval_s = interval_s
        self._names = names
        self._looked = looked
        self._doubts: dict[_Doubt, None] = {}
        self._sources_gone: set[bytes] = set()
        self._look_at_known = False
        self._look_at_all = False
        self._look_at_ipv6 = False
        self._reading: asyncio.Task[None] | None = None
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._share = Share(_SHARE)
        self._unread_pause_s = 0.0

    async def start(self, protocols: Collection[int] = ()) -> None:
        """Read all; call after the kernel's groups were joined, and follow them once it has returned. `protocols`: only
        the routes of these, which others are known to use (the kernel looks through a million routes for each);
        `look_at_all` is to be called later.

        Raises: OSError: the kernel refused.
        """
        self._loop = asyncio.get_running_loop()
        self._reader = ForeignReader(self._own_protocol)
        findings = await self._find(functools.partial(_of_protocols, protocols) if protocols else _all_routes, 0.0)
        found = iter(findings.changes.items())
        while step := dict(islice(found, _STEP)):
            self.routes.settle(step)
            await asyncio.sleep(0)
        self.routes.settle({}, findings.nexthops)
        self._started = True
        self._timer = self._loop.call_later(self._interval_s, self._at_interval)
        if not findings.is_whole:
            self._look_at_ipv6 = True  # what the first dump of a large table lacked is found now
            self._look()

    async def stop(self) -> None:
        """Stop reading."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._reader.close()

    def protocols(self) -> set[int]:
        """Those of the routes that are known."""
        return {one.protocol for routes in self.routes.routes.values() for one in routes}

    # What may have taken routes along.

    def link_changed(self, interface: str) -> None:
        """A link came, changed, or is gone by this name."""
        for family in UNICAST:
            self.doubt(family, interface)

    def address_gone(self, address: Address) -> None:
        """An address left an interface."""
        family = family_of(address.packed)
        self._sources_gone.add(address.packed)
        self.doubt(family, address.interface)

    def doubt(self, family: Family, interface: str) -> None:
        """Compare the routes by an interface with the kernel, soon."""
        if interface and self._started:
            self._doubts[family, interface] = None
            self._look()

    def look_at_all(self) -> None:
        """Compare all routes with the kernel, soon."""
        self._look_at_all = True
        self._look()

    def _at_interval(self) -> None:
        self._timer = self._loop.call_later(self._interval_s, self._at_interval)
        self._look_at_known = True
        self._look()

    # Reading.

    def _look(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = start_in_background(self._look_again(), "reading other programs' routes")

    async def _look_again(self) -> None:
        while self._look_at_all or self._look_at_ipv6 or self._look_at_known or self._doubts:
            pause_s = max(_LOOK_DELAY_S, self._unread_pause_s, self._share.pause_s(self._loop.time()))
            await asyncio.sleep(pause_s)
            self._unread_pause_s = 0.0
            at_all = self._look_at_all
            plan = self._plan()
            try:
                await self._read(plan, DATAGRAM_PAUSE_S)
            except OSError as error:
                log.warning("kernel.routes_not_read", error=str(error))
                self._look_at_all = True
                self._unread_pause_s = _UNREAD_PAUSE_S
                continue
            self._share.rest(self._loop.time())
            if at_all and not self._look_at_all:
                self._looked()

    def _plan(self) -> ScopesOf:
        """Returns what to read now, given the known routes; clears what that answers."""
        at_ipv6, self._look_at_ipv6 = self._look_at_ipv6, False
        if at_ipv6 and not self._look_at_all:
            return _ipv6_routes
        doubts, self._doubts = self._doubts, {}
        sources, self._sources_gone = self._sources_gone, set()
        at_all, self._look_at_all = self._look_at_all, False
        at_known, self._look_at_known = self._look_at_known, False
        if at_all:
            return _all_routes
        if at_known:
            return _known_protocols
        index_of = {name: index for index, name in self._names().items()}
        return functools.partial(_doubtful, doubts=doubts, sources=sources, index_of=index_of)

    async def _read(self, plan: ScopesOf, pause_s: float) -> None:
        findings = await self._find(plan, pause_s)
        self.routes.settle(findings.changes, findings.nexthops)

    async def _find(self, plan: ScopesOf, pause_s: float) -> Reading:
        """Differences between the kernel and our copy."""
        names = dict(self._names())
        known = self.routes.begin_reading()

        def read() -> Reading:
            return self._reader.read(plan(known), known, names, pause_s=pause_s)

        return await self._loop.run_in_executor(None, self._share.spend, read)


ScopesOf = Callable[[Mapping[Place, Routes]], list[Scope]]
"""What to read, given the known routes. Called in the worker thread, since there may be many."""


def _all_routes(_known: Mapping[Place, Routes]) -> list[Scope]:
    return [Scope(family) for family in UNICAST]


def _ipv6_routes(_known: Mapping[Place, Routes]) -> list[Scope]:
    """A dump of IPv6 routes in several parts may lack some, one of IPv4 routes does not (decision 10)."""
    return [Scope(Family.IPV6_UNICAST)]


def _known_protocols(known: Mapping[Place, Routes]) -> list[Scope]:
    """The routes of protocols that others use: the kernel passes over bgpd's own, of which there may be a million."""
    used = {(one.family, one.protocol) for routes in known.values() for one in routes}
    used.update((family, protocol) for family in UNICAST for protocol in _COMMON_PROTOCOLS)
    return [Scope(family, protocol=protocol) for family, protocol in sorted(used)]


def _of_protocols(protocols: Collection[int], _known: Mapping[Place, Routes]) -> list[Scope]:
    return [Scope(family, protocol=protocol) for family in UNICAST for protocol in sorted(protocols)]


def _doubtful(
    known: Mapping[Place, Routes], *, doubts: Collection[_Doubt], sources: set[bytes], index_of: Mapping[str, int]
) -> list[Scope]:
    """The routes by these interfaces, and those whose preferred source address is gone."""
    wanted = dict.fromkeys(doubts)
    if sources:
        used = ((one.family, one.interface) for routes in known.values() for one in routes if one.source in sources)
        wanted.update(dict.fromkeys(used))
    if len(wanted) > _SCOPES:
        return _known_protocols(known)
    scopes = [Scope(family, index_of.get(name, 0), name) for family, name in wanted if name]
    return sorted(scopes, key=lambda scope: not scope.index)  # a renamed interface has its new routes first
