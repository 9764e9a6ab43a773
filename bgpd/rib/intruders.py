"""Alarms for neighbors that announce this host's own addresses: those of its workloads, and parts of its blocks.

Two hosts with one address, or a neighbor that attracts this host's traffic, raise an alarm: an event when it begins and
ends, and a warning while it lasts. This host's own announcements coming back raise none, nor do service addresses of
another host. Where another host announces a workload's address by EVPN, MAC mobility decides (evpn/).
"""

from __future__ import annotations

from collections.abc import Collection

from bgpd.config.schema import RibConfig
from bgpd.model.iana import UNICAST, Family
from bgpd.model.path import Path
from bgpd.model.prefix import format_key, parse_address
from bgpd.model.source import SourceKind
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Decision, Entry
from bgpd.runtime.events import log

_LOGGED = 16
"""Addresses of one change that the log names one by one."""
_SHOWN = 8
"""Addresses that `bgpd status` names."""


class Intruders:
    """Which neighbors announce a prefix of this host's. `config` may be set to another one."""

    def __init__(self, config: RibConfig) -> None:
        self.config = config

    def of(self, decision: Entry | None, *, by_evpn: bool = True) -> tuple[str, ...]:
        """The names of those who have a route beside this host's own, rejected or not."""
        others = [path for path in (decision.candidates if decision is not None else ()) if not path.source.is_local]
        if not by_evpn:
            others = [path for path in others if path.source.kind is not SourceKind.EVPN]
        return tuple(path.source.name for path in others if not self._is_echo(path))

    def _is_echo(self, path: Path) -> bool:
        router = self.config.router
        aggregator = path.received.aggregator
        if aggregator is not None:
            return aggregator.router_id == parse_address(router.router_id)
        own = {router.asn, *(one.local_asn for one in (*self.config.neighbor, *self.config.listen))}
        return any(path.received.count_as(asn) for asn in own if asn)


class ContestedAddresses:
    """The workloads' prefixes that neighbors announce too, and which neighbors: `found`, by VRF, family and key."""

    def __init__(self, intruders: Intruders) -> None:
        self.found: dict[tuple[str, Family, bytes], tuple[str, ...]] = {}
        self._intruders = intruders

    def look(self, table: LocRib, keys: Collection[bytes]) -> None:
        """This host's own routes of these keys, or those beside them, have changed. EVPN routes are no addresses."""
        if table.family not in UNICAST:
            return
        begun: list[tuple[bytes, tuple[str, ...]]] = []
        ended: list[bytes] = []
        for key in dict.fromkeys(keys):
            place = (table.vrf, table.family, key)
            decision = table.routes.part(key).get(key)
            names: tuple[str, ...] = ()
            if isinstance(decision, Decision) and self._is_watched(table, key, decision):
                names = self._intruders.of(decision, by_evpn=False)
            if names:
                if set(names) - set(self.found.get(place, ())):
                    begun.append((key, names))
                self.found[place] = names
            elif self.found.pop(place, None):
                ended.append(key)
        if begun or ended:
            self._log(table, begun, ended)

    def _is_watched(self, table: LocRib, key: bytes, decision: Entry) -> bool:
        best = decision.best
        return best is not None and best.source.kind is SourceKind.WORKLOAD and key not in table.services

    def _log(self, table: LocRib, begun: list[tuple[bytes, tuple[str, ...]]], ended: list[bytes]) -> None:
        for key, names in begun[:_LOGGED]:
            prefix = format_key(table.family, key)
            log.warning("workload.foreign_announcement", vrf=table.vrf, prefix=prefix, neighbors=list(names))
        for key in ended[:_LOGGED]:
            log.info("workload.foreign_announcement_ended", vrf=table.vrf, prefix=format_key(table.family, key))
        if len(begun) > _LOGGED:
            log.warning("workload.foreign_announcements", vrf=table.vrf, more=len(begun) - _LOGGED)

    def neighbors(self, vrf: str, family: Family, key: bytes) -> list[str]:
        """The neighbors that announce a workload's prefix, too."""
        return list(self.found.get((vrf, family, key), ()))

    def warnings(self) -> list[str]:
        """What `bgpd status` warns of."""
        shown = [
            f"{format_key(family, key)}{f' in VRF {vrf}' if vrf else ''} is a workload's here, and announced by "
            f"{', '.join(names)}, too"
            for (vrf, family, key), names in list(self.found.items())[:_SHOWN]
        ]
        more = len(self.found) - len(shown)
        return [*shown, f"{more} more addresses of workloads are announced by neighbors, too"] if more > 0 else shown
