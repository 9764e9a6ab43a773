"""Originates the aggregates of all tables, follows their contributors, and warns when others announce our blocks.

Every change is applied in one go: the export of the same turn sends announcements before withdrawals, so that a
covering route is there before its parts go. A changed configuration is worked out beside the present one, in slices,
and then takes its place with the difference only. Never decides what an aggregate is (aggregate_table.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from bgpd.config.schema import RibConfig
from bgpd.config.schema_policies import AggregateConfig
from bgpd.model.attributes import Aggregator, Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import covering_keys, format_key, key_address, parse_address, parse_prefix
from bgpd.model.source import Source, SourceKind
from bgpd.model.views.routes import AggregateView
from bgpd.rib.aggregate_table import AggregateChanges, AggregateRoute, AggregateTable, BlockWatch, Profile, difference
from bgpd.rib.intruders import Intruders
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.ports import Workloads
from bgpd.runtime.events import log
from bgpd.runtime.shared_state import changes_shared_state

AGGREGATE_SOURCE = Source(name="aggregate", kind=SourceKind.AGGREGATE)
_SLICE = 512
"""Contributors of one step of a new configuration: a few milliseconds."""

_Where = tuple[str, Family]


class AggregationPorts(Protocol):
    """What of the RIB aggregation uses."""

    def table(self, vrf: str, family: Family) -> LocRib:
        """One table; made if there is none."""

    def announce_local(
        self,
        source: Source,
        family: Family,
        keys: Sequence[bytes],
        attributes: Attributes,
        *,
        vrf: str = "",
        next_hop: NextHop | None = None,
    ) -> None:
        """Originate routes, as `Rib.announce_local`."""

    def withdraw_local(self, source: Source, family: Family, keys: Sequence[bytes], *, vrf: str = "") -> None:
        """Originate these no longer."""

    def export_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """These may have to be advertised differently, though they are the same."""


class Aggregation:
    """The aggregates of all tables of one RIB. `workloads` are notified which of them an aggregate suppresses."""

    workloads: Workloads

    def __init__(self, config: RibConfig, rib: AggregationPorts, intruders: Intruders) -> None:
        self._config = config
        self._intruders = intruders
        self._rib = rib
        self._tables: dict[_Where, AggregateTable] = {}
        self._coming: dict[_Where, AggregateTable] = {}
        self._watches: dict[_Where, BlockWatch] = {}
        for where in _wheres(config):
            self._tables[where] = self._make(where)
            self._watch(where)

    def _make(self, where: _Where) -> AggregateTable:
        vrf, family = where
        router = self._config.router
        table = self._rib.table(vrf, family)
        return AggregateTable(
            [one for one in self._config.aggregate if _where(one) == where],
            family=family,
            aggregator=Aggregator(asn=router.asn, router_id=parse_address(router.router_id)),
            contributor=lambda key: _profile(table, key),
        )

    def _watch(self, where: _Where) -> None:
        watch = self._watches[where] = BlockWatch(self._tables[where].blocks)
        self._rib.table(*where).own_blocks = bool(watch)

    def contributors_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """This host's own routes of these keys were added, changed or removed."""
        where = (vrf, family)
        coming = self._coming.get(where)
        if coming is not None:
            coming.update(keys)
        present = self._tables.get(where)
        if present is not None:
            self._apply(where, present.update(keys))

    def _apply(self, where: _Where, changes: AggregateChanges) -> None:
        vrf, family = where
        by_route: dict[AggregateRoute, list[bytes]] = {}
        gone = []
        for key, route in changes.routes.items():
            if route is None:
                gone.append(key)
            else:
                by_route.setdefault(route, []).append(key)
        flipped = self._suppress_aggregates(where, changes.routes)
        for route, keys in by_route.items():
            self._rib.announce_local(AGGREGATE_SOURCE, family, keys, route.attributes, vrf=vrf, next_hop=route.next_hop)
        if flipped:
            self._rib.export_changed(vrf, family, flipped)
        self._suppress(where, changes.suppressed)
        if gone:
            self._rib.withdraw_local(AGGREGATE_SOURCE, family, gone, vrf=vrf)

    def _suppress_aggregates(self, where: _Where, routes: Mapping[bytes, AggregateRoute | None]) -> list[bytes]:
        """Record which aggregates are suppressed by another; returns those for which that is new."""
        table = self._rib.table(*where)
        hidden = {key for key, route in routes.items() if route is not None and route.suppressed_by}
        flipped = [key for key in routes if (key in hidden) is not (key in table.suppressed_aggregates)]
        table.suppressed_aggregates.symmetric_difference_update(flipped)
        return flipped

    def _suppress(self, where: _Where, suppressed: dict[bytes, str]) -> None:
        if not suppressed:
            return
        vrf, family = where
        table = self._rib.table(vrf, family)
        by_aggregate: dict[str, list[bytes]] = {}
        for key, by in suppressed.items():
            by_aggregate.setdefault(by, []).append(key)
            if by:
                table.suppressed.add(key)
            else:
                table.suppressed.discard(key)
        self._rib.export_changed(vrf, family, list(suppressed))
        for by, keys in by_aggregate.items():
            self.workloads.suppressed(vrf, family, keys, by)

    def reconfigure(self, config: RibConfig) -> Iterator[None]:
        """Use other aggregates; what they are is worked out in slices and then applied at once."""
        if config.aggregate == self._config.aggregate and config.router == self._config.router:
            self._config = config
            return iter(())
        self._config = config
        self._coming = {where: self._make(where) for where in {*_wheres(config), *self._tables}}
        return self._take_over(self._coming)

    def _take_over(self, coming: dict[_Where, AggregateTable]) -> Iterator[None]:
        for (vrf, family), table in coming.items():
            local = list(self._rib.table(vrf, family).local)
            for start in range(0, len(local), _SLICE):
                table.update(local[start : start + _SLICE])
                yield
        if coming is not self._coming:
            return
        self._coming = {}
        former, self._tables = self._tables, coming
        self._watches = {}
        for where in coming:
            self._watch(where)
        for where, table in coming.items():
            self._apply(where, difference(former.get(where), table))
        for where in coming:
            yield from self._look_again(where)

    def _look_again(self, where: _Where) -> Iterator[None]:
        if self._watches[where]:
            for keys in self._rib.table(*where).routes.slices(_SLICE):
                self.learned(*where, keys)
                yield

    @changes_shared_state
    def learned(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """Neighbors announced these; an alarm is logged for what is within our own blocks."""
        watch = self._watches.get((vrf, family))
        if not watch:
            return
        for key in watch.look(keys):
            for name in self._announced_by(vrf, family, key):
                log.warning(
                    "aggregate.foreign_announcement",
                    vrf=vrf,
                    prefix=format_key(family, key),
                    aggregate=format_key(family, watch.found[key]),
                    neighbor=name,
                )

    def _announced_by(self, vrf: str, family: Family, key: bytes) -> tuple[str, ...]:
        return self._intruders.of(self._rib.table(vrf, family).routes.get(key))

    def announced_over(self, vrf: str, family: Family, key: bytes) -> bytes | None:
        """The most specific aggregate that is announced and contains a prefix; None if there is none."""
        table = self._tables.get((vrf, family))
        address = key_address(family, key)
        outer = (one for one in covering_keys(family, address) if one[0] < key[0])
        return None if table is None else next((one for one in outer if table.is_announced(one)), None)

    def views(self) -> list[AggregateView]:
        """All configured aggregates: what is announced for them, and which neighbors announce parts of them."""
        views = []
        for config in self._config.aggregate:
            vrf, family = where = _where(config)
            table = self._tables.get(where)
            if table is None:
                continue
            key = parse_prefix(config.prefix)[1]
            announced = [format_key(family, one) for one in sorted(table.announced_for(key))]
            views.append(
                AggregateView(
                    prefix=config.prefix,
                    vrf=vrf,
                    family=family,
                    auto=config.auto,
                    summary_only=config.summary_only or bool(config.auto),
                    contributors=table.contributors_of(key),
                    announced=announced,
                    alarms=self._alarms(where, key),
                )
            )
        return views

    def _alarms(self, where: _Where, block: bytes) -> list[str]:
        """ "PREFIX from NEIGHBOR" for what others announce of a block; forgets what they no longer do."""
        vrf, family = where
        watch = self._watches[where]
        alarms = []
        for key in [key for key, within in watch.found.items() if within == block]:
            names = self._announced_by(vrf, family, key)
            if names:
                alarms.append(f"{format_key(family, key)} from {', '.join(names)}")
            else:
                del watch.found[key]
        return alarms


def _where(config: AggregateConfig) -> _Where:
    return config.vrf, parse_prefix(config.prefix)[0]


def _wheres(config: RibConfig) -> set[_Where]:
    return {_where(one) for one in config.aggregate}


def _profile(table: LocRib, key: bytes) -> Profile | None:
    """What the workload's route of a key brings to an aggregate; exceptions and other routes bring nothing."""
    decision = table.routes.get(key)
    best = decision.best if decision is not None else None
    if best is None or best.source.kind is not SourceKind.WORKLOAD or key in table.exceptions:
        return None
    return best.attributes.origin, bool(best.attributes.packed_as_path)
