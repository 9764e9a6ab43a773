"""Workloads that the configuration file names ([[workload.static]]): bgpd keeps their kernel routes.

Decides which claims a configuration makes; the table decides what becomes of them.
"""

from __future__ import annotations

from bgpd.config.schema import StaticWorkloadConfig
from bgpd.model.prefix import parse_prefix
from bgpd.model.workload import Claim
from bgpd.workload.table import WorkloadTable

SOURCE = "static"


class StaticSource:
    """Holds the table's static claims equal to the configuration."""

    def __init__(self, table: WorkloadTable) -> None:
        self._table = table

    def apply(self, configs: tuple[StaticWorkloadConfig, ...]) -> None:
        """Claim what `configs` say, at start and at each reload; what they no longer say is given up.

        Raises: ValueError: a prefix is none; nothing was changed. `bgpd check` finds these first.
        """
        claims = {claim.id: claim for claim in map(static_claim, configs)}
        for id in self._table.claimed(SOURCE):
            if id not in claims:
                self._table.claim(SOURCE, id)
        for id, claim in claims.items():
            self._table.claim(SOURCE, id, (claim,))
        self._table.source_synchronised(SOURCE)


def static_claim(config: StaticWorkloadConfig) -> Claim:
    """The claim of one [[workload.static]].

    Raises: ValueError: its prefix is none, or has host bits.
    """
    family, key = parse_prefix(config.prefix)
    return Claim(
        source=SOURCE,
        id=config.id or config.prefix,
        family=family,
        key=key,
        interface=config.interface,
        vrf=config.vrf,
        manage_route=True,
        exception=config.exception,
    )
