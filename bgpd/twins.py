"""Who else has this host's router ID or AS number: told by name, since both must be this host's alone.

A twin is seen by its OPEN, or by its routes: those that come back as this host's own, though it has none such, and EVPN
routes with its route distinguishers. A route that was withdrawn here may come back for a while: what is found counts
once it is found twice. Only reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from bgpd.advertised import route_text
from bgpd.config.schema import Config
from bgpd.config.words import vrf_distinguisher
from bgpd.model.as_path import as_path_text
from bgpd.model.iana import UNICAST, Family
from bgpd.model.path import Path
from bgpd.model.prefix import format_address, parse_address
from bgpd.model.source import SourceKind
from bgpd.model.views.host import ConfigurationView
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Entry
from bgpd.routing import Routing
from bgpd.runtime.events import log
from bgpd.runtime.turns import Walks

ROUND_S = 20.0
"""Seconds between two looks; a twin is told of after two that found the same."""
_SLICE = 2048
_SHOWN = 4
"""Twins that are named; each of a twin's routes may be one."""


class Twins:
    """`config()` is the configuration in force; `chosen()` says whether its AS number is to be this host's alone
    (asn = "auto"): else hosts may share one."""

    def __init__(
        self, routing: Routing, *, config: Callable[[], Config], chosen: Callable[[], ConfigurationView | None]
    ) -> None:
        self._routing = routing
        self._config = config
        self._chosen = chosen
        self._seen: set[str] = set()
        self._lasting: list[str] = []
        self._has_failed = False

    def warnings(self) -> list[str]:
        """What `bgpd status` warns of."""
        found = [*self._neighbors(), *self._lasting]
        more = ["there are more signs of a host with the same numbers"] if len(found) > _SHOWN else []
        return [*found[:_SHOWN], *more]

    async def run(self, walks: Walks) -> None:
        """Look now and then, until cancelled; not while much else is under way."""
        while True:
            await asyncio.sleep(ROUND_S)
            if not walks and self._routing.converged:
                walks.run(self._guarded())

    def _guarded(self) -> Iterator[None]:
        """A look that raises says nothing, and is only logged: no session ends for it."""
        try:
            yield from self.look()
        except Exception as error:
            if not self._has_failed:
                log.error("identity.look_failed", exc_info=error)
            self._has_failed = True

    def look(self) -> Iterator[None]:
        """Look through what neighbors announce, in steps."""
        found: list[str] = []
        for one in self._signs():
            if one:
                found.append(one)
            if len(found) > _SHOWN:
                break
            if not one:
                yield
        lasting = [one for one in found if one in self._seen]
        for one in lasting:
            if one not in self._lasting:
                log.warning("identity.twin", reason=one)
        if self._lasting and not lasting:
            log.info("identity.twin_ended")
        self._seen, self._lasting = set(found), lasting

    def _neighbors(self) -> Iterator[str]:
        """Neighbors that say in their OPEN that they have this host's router ID."""
        router_id = parse_address(self._config().router.router_id)
        same = [source.name for source in self._routing.sources.values() if source.router_id == router_id]
        if not same:
            return
        hostnames = {view.name: view.hostname for view in self._routing.speaker.neighbor_views()}
        for name in same:
            called = f' (host name "{hostnames[name]}")' if hostnames.get(name) else ""
            yield f"neighbor {name}{called} has this host's router ID, {format_address(router_id)}: one needs another"

    def _signs(self) -> Iterator[str]:
        """Signs of twins in routes; "" after each step of the search."""
        suspects: set[Path] = set()
        for state in self._routing.rib.received.states():
            for family in state.families:
                for part in state.adj_rib_in.interned(family).parts:
                    suspects.update(
                        path for path in list(part.values()) if path.rejected and self._is_of_this_host(path)
                    )
                    yield ""
        for (vrf, family), table in list(self._routing.rib.tables.items()):
            if family in (*UNICAST, Family.L2VPN_EVPN):
                yield from self._strangers(vrf, family, table, suspects)
        evpn = self._routing.rib.tables.get(("", Family.L2VPN_EVPN))
        if evpn is not None and self._config().vrf:
            yield from self._of_distinguishers(evpn)

    def _is_of_this_host(self, path: Path) -> bool:
        """Whether a path that was rejected as a loop says that it comes from this host."""
        router, received = self._config().router, path.received
        if received.originator_id == parse_address(router.router_id):
            return True
        chosen = self._chosen()
        if chosen is None or chosen.asn is None or path.source.kind is not SourceKind.EBGP:
            return False
        return received.packed_as_path[-4:] == router.asn.to_bytes(4, "big") and received.count_as(router.asn) > 0

    def _strangers(self, vrf: str, family: Family, table: LocRib, suspects: set[Path]) -> Iterator[str]:
        """Routes of suspect paths that this host has not. Where it has all of them, the table is not looked through."""
        left = {path: path.keys for path in suspects if table.received.get(path.source)}
        own = list(table.local) if left else []
        for start in range(0, len(own), _SLICE):
            for key in own[start : start + _SLICE]:
                for path in _candidates(table.routes.get(key)):
                    if path in left:
                        left[path] -= 1
            yield ""
        left = {path: count for path, count in left.items() if count > 0}
        if not left:
            return
        for keys in table.routes.slices(_SLICE):
            for key in keys:
                candidates = _candidates(table.routes.get(key))
                if any(path in left for path in candidates) and not any(path.source.is_local for path in candidates):
                    path = next(path for path in candidates if path in left)
                    is_reflected = path.received.originator_id is not None
                    yield self._text(vrf, family, key, path, of_router_id=is_reflected)
            yield ""

    def _of_distinguishers(self, table: LocRib) -> Iterator[str]:
        """EVPN routes with a route distinguisher of this host that it has not."""
        config = self._config()
        own = {vrf_distinguisher(config.router, vrf) for vrf in config.vrf if vrf.rd == "auto"}
        for keys in table.routes.slices(_SLICE):
            for key in keys:
                if key[1:9] in own and key not in table.local:
                    candidates = _candidates(table.routes.get(key))
                    if candidates and not any(path.source.is_local for path in candidates):
                        yield self._text("", Family.L2VPN_EVPN, key, candidates[0], of_router_id=True)
            yield ""

    def _text(self, vrf: str, family: Family, key: bytes, path: Path, *, of_router_id: bool) -> str:
        place = f" in VRF {vrf}" if vrf else ""
        router, received = self._config().router, path.received
        number = f"router ID, {router.router_id}" if of_router_id else f"AS {router.asn}"
        hop = f", next hop {path.next_hop}" if path.next_hop is not None else ""
        way = f"AS path {as_path_text(received.packed_as_path) or 'empty'}{hop}"
        what = f"{route_text(family, key)}{place}, heard from {path.source.name} ({way})"
        return f"another host has this host's {number}: it announces {what}"


def _candidates(entry: Entry | None) -> tuple[Path, ...]:
    return entry.candidates if entry is not None else ()
