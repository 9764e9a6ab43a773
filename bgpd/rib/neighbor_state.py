"""One neighbor's session as the RIB knows it: its import side, its export sides, and what it has sent so far.

Decides when a neighbor has sent too much (prefixes, bytes of attributes, next hops), what of it is discarded, and which
sessions another configuration changes. Never sees bytes or routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import SessionConfig, attribute_limit
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import section_of
from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.discarded import Discarded
from bgpd.rib.guest_policy import import_policy
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import build_policy
from bgpd.runtime.events import log

_WARN_AT = 0.8
"""Share of max_attribute_bytes from which on the log warns."""
MOST_NEXT_HOPS = 1024
"""Different next hops of one neighbor: each is an object in the kernel, and so is each set of them that routes have."""

MOST_WITHDRAWN = 4_096
"""Withdrawn routes of this host of which it is remembered when a neighbor was told."""


class NeighborState:
    """State of one Source incarnation. `exports` has an Adj-RIB-Out per family, `tables` its table.

    `watches_limit`: what is beyond `max_prefixes` is discarded, or was once; else nothing is looked at route by route.
    """

    def __init__(self, source: Source, negotiated: Negotiated, *, config: SessionConfig, adj_rib_in: AdjRibIn) -> None:
        self.source = source
        self.negotiated = negotiated
        self.families = negotiated.families
        self.discarded = Discarded()
        self.watches_limit = False
        self.use(config)
        self.adj_rib_in = adj_rib_in
        self.exports: dict[Family, AdjRibOut] = {}
        self.tables: dict[Family, LocRib] = {}
        self.sweeps: dict[Family, set[Path]] = {}
        """Families whose stale routes are being removed: what was said again (AdjRibIn.refreshed)."""
        self.withdrawn_at: dict[tuple[str, Family, bytes], float] = {}
        """When the neighbor was told that a route of this host is gone, by VRF, family and key: the last of them."""
        self._discarding: set[Family] = set()
        self._warned: set[Family] = set()
        self._exceeded: set[Family] = set()
        self._warned_of_memory = False
        self._out_of_resources = False

    def told(self, place: tuple[str, Family], keys: Iterable[bytes], withdrawn_at: float | None) -> None:
        """The neighbor was sent routes of this host, or at this time that they are withdrawn."""
        for key in keys:
            self.withdrawn_at.pop((*place, key), None)
            if withdrawn_at is not None:
                self.withdrawn_at[*place, key] = withdrawn_at
        surplus = len(self.withdrawn_at) - MOST_WITHDRAWN
        if surplus > 0:  # all at once: each look for the first one passes those that were deleted before it
            for one in list(islice(self.withdrawn_at, surplus)):
                del self.withdrawn_at[one]

    def is_swept(self, family: Family) -> bool:
        """Whether a refresh of the family has ended, and what was not said again is being removed."""
        refreshed = self.adj_rib_in.refreshed(family)
        return refreshed is not None and self.sweeps.get(family) is refreshed

    def use(self, config: SessionConfig) -> None:
        """These are the settings from now on."""
        self.config = config
        self._most_bytes = attribute_limit(config)
        self.discards = config.max_prefixes > 0 and config.max_prefixes_action == "discard"
        self.watches_limit = self.watches_limit or self.discards
        share = (config.max_prefixes_warn_percent or 100) / 100
        self._near = config.max_prefixes * share

    @property
    def bytes_kept(self) -> int:
        """Bytes of memory that the attributes of its routes take, with labels that routes have of their own."""
        kept = self.adj_rib_in.bytes_kept
        for table in self.tables.values():
            if table.labels:
                kept += table.labels.bytes_kept(self.source)
        return kept

    def has_room(self, table: LocRib, routes: int) -> bool:
        """Whether nothing was discarded, and so many more routes are within `max_prefixes`."""
        most = self.config.max_prefixes
        return not self.discarded and (not most or table.received.get(self.source, 0) + routes <= most)

    def within_limit(self, table: LocRib, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Those of the announced `keys` that are taken, where what is beyond `max_prefixes` is discarded."""
        taken = self.discarded.within(self.config.max_prefixes, table, self.source, keys)
        family = table.family
        if len(taken) < len(keys) and family not in self._discarding and self.discarded.count(family):
            self._discarding.add(family)
            limit = self.config.max_prefixes
            log.error("prefix_limit.discarding", neighbor=self.source.name, family=family, limit=limit)
        return taken

    def why_ask_again(self, family: Family, now: float) -> str:
        """Why the neighbor should send its routes of a family again, "" if it should not: there is room for what was
        discarded. `now` is of a clock that only goes forward.
        """
        count, most = self.tables[family].received.get(self.source, 0), self.config.max_prefixes
        if (self.discards and count >= most) or not self.discarded.may_ask(family, now):
            return ""
        return f"{self.discarded.count(family)} prefixes were discarded, and there is room"

    def asked_again(self, family: Family, now: float) -> None:
        """It was asked; what is beyond the limit is discarded, and logged, anew."""
        self.discarded.asked(family, now)
        self._discarding.discard(family)

    def why_too_many(self, family: Family, count: int) -> str:
        """Compare the routes received with `max_prefixes`: what must be said of too many, once per session, or ""."""
        most = self.config.max_prefixes
        if not most or count <= self._near:
            return ""
        if count > most:
            if self.discards:
                return ""
            if family not in self._exceeded:
                self._exceeded.add(family)
                log.error("prefix_limit.exceeded", neighbor=self.source.name, family=family, count=count, limit=most)
                return f"sent {count} {family} prefixes, more than max_prefixes"
        elif family not in self._warned:
            self._warned.add(family)
            log.warning("prefix_limit.near", neighbor=self.source.name, family=family, count=count, limit=most)
        return ""

    def why_out_of_resources(self, stale: int = 0) -> str:
        """Compare what the neighbor's attributes take, and `stale` ones of its former sessions, with
        `max_attribute_bytes`, and count its next hops.

        Returns what must be said of too much, once per session, or "".
        """
        if self._out_of_resources:
            return ""
        kept, most = self.bytes_kept + stale, self._most_bytes
        reason = ""
        if most and kept > most:
            reason = f"its attributes take {kept} bytes, more than max_attribute_bytes ({most})"
        elif self.adj_rib_in.has_next_hops(MOST_NEXT_HOPS):
            reason = f"its routes have more than {MOST_NEXT_HOPS} different next hops"
        if reason:
            self._out_of_resources = True
            log.error("resources.exceeded", neighbor=self.source.name, reason=reason)
        elif most and kept > most * _WARN_AT and not self._warned_of_memory:
            self._warned_of_memory = True
            log.warning("attribute_limit.near", neighbor=self.source.name, bytes=kept, limit=most)
        return reason


def change_policies(
    sessions: Iterable[NeighborState], former: RibConfig, config: RibConfig
) -> dict[LocRib, dict[Source, AdjRibIn]]:
    """Give the sessions their settings of another configuration; the import sides whose routes must be revised.

    One whose neighbor is in another VRF from now on is about to end, and ends in the VRF that it is in.

    Raises: PolicyError: a session's policy cannot be used.
    """
    changed: dict[LocRib, dict[Source, AdjRibIn]] = {}
    for session in sessions:
        settings = section_of(config, session.source)
        if settings is None or settings.vrf != session.config.vrf:
            continue
        where = f"neighbor {session.source.name}"
        if _import_differs(session, settings, former, config):
            policy = import_policy(settings, config, where=f"{where}.import")
            session.adj_rib_in.policy_changed(policy, allow_own_as=settings.allow_own_as)
            for table in session.tables.values():
                changed.setdefault(table, {})[session.source] = session.adj_rib_in
        if _policy_differs(session.config.export, settings.export, former, config):
            policy = build_policy(settings.export, config.policy, where=f"{where}.export", exporting=True)
            for export in session.exports.values():
                export.policy_changed(policy)
        session.use(settings)
    return changed


def _policy_differs(old: str, new: str, former: RibConfig, config: RibConfig) -> bool:
    return old != new or former.policy.get(old) != config.policy.get(new)


def _import_differs(session: NeighborState, settings: SessionConfig, former: RibConfig, config: RibConfig) -> bool:
    if session.config.allow_own_as != settings.allow_own_as:
        return True
    if isinstance(settings, GuestConfig) and isinstance(session.config, GuestConfig):
        aggregates = former.aggregate != config.aggregate
        if aggregates or session.config.prefixes != settings.prefixes:
            return True
    return _policy_differs(session.config.import_, settings.import_, former, config)
