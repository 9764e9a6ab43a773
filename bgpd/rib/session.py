"""One neighbor's session as the RIB knows it: its import side, its export sides, and what it has told so far.

Decides when a neighbor has sent too many prefixes. Never sees bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bgpd.config import Config, SessionConfig
from bgpd.model.iana import Family
from bgpd.model.path import Source
from bgpd.model.prefix import covers, parse_prefix
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.loc_rib import LocRib

log = structlog.get_logger()

_WARN_AT = 0.8
"""Share of max_prefixes from which on the log warns."""


class Session:
    """State of one Source incarnation. `exports` has an Adj-RIB-Out per family, `tables` its table."""

    def __init__(
        self, source: Source, *, families: tuple[Family, ...], config: SessionConfig, adj_rib_in: AdjRibIn
    ) -> None:
        self.source = source
        self.families = families
        self.config = config
        self.adj_rib_in = adj_rib_in
        self.exports: dict[Family, AdjRibOut] = {}
        self.tables: dict[Family, LocRib] = {}
        self.end_of_rib: set[Family] = set()
        self._warned: set[Family] = set()
        self._exceeded: set[Family] = set()

    def check_limit(self, family: Family, count: int, exceeded: Callable[[Source, Family, int], None]) -> None:
        """Compare the number of routes received with `max_prefixes`; tells once per session."""
        most = self.config.max_prefixes
        if not most or count <= most * _WARN_AT:
            return
        if count > most:
            if family not in self._exceeded:
                self._exceeded.add(family)
                log.error("prefix_limit.exceeded", neighbor=self.source.name, family=family, count=count, limit=most)
                exceeded(self.source, family, count)
        elif family not in self._warned:
            self._warned.add(family)
            log.warning("prefix_limit.near", neighbor=self.source.name, family=family, count=count, limit=most)


def session_config(config: Config, source: Source) -> SessionConfig | None:
    """The section that a session belongs to: its [[neighbor]] by name, else the [[listen]] that its address fits."""
    for neighbor in config.neighbor:
        if neighbor.name == source.name:
            return neighbor
    key = bytes((8 * len(source.address),)) + source.address
    for listen in config.listen:
        family, prefix = parse_prefix(listen.prefix)
        length = 4 if family is Family.IPV4_UNICAST else 16
        if length == len(source.address) and covers(prefix, key):
            return listen
    return None
