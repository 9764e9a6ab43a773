"""Workloads that the configuration file names ([[workload.static]]): bgpd keeps their kernel routes.

Decides which claims a configuration makes; the table decides their state.
"""

from __future__ import annotations

from bgpd.config.schema import WorkloadsConfig
from bgpd.config.schema_workloads import StaticWorkloadConfig
from bgpd.model.prefix import parse_prefix
from bgpd.model.workload import Claim
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts

STATIC = "static"


class StaticSource(ClaimSource):
    """Keeps the static claims as configured."""

    name = STATIC

    def __init__(self, parts: SourceParts) -> None:
        self._claims = parts.claims
        self._first_state = parts.first_state
        self._configs = parts.config.workload.static

    async def restore(self) -> None:
        """Claim what the configuration says at the start."""
        self._apply()

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Claim what it says now; what it no longer says is given up.

        Raises: ValueError: a prefix is none; nothing was changed. `bgpd check` finds these first.
        """
        self._configs = config.workload.static
        self._apply()

    def _apply(self) -> None:
        claims: dict[str, list[Claim]] = {}
        for claim in map(static_claim, self._configs):
            claims.setdefault(claim.id, []).append(claim)  # without an ID several may have one: a prefix of two VRFs
        for id in self._claims.claimed(STATIC):
            if id not in claims:
                self._claims.claim(STATIC, id)
        for id, of_id in claims.items():
            self._claims.claim(STATIC, id, of_id)
        self._first_state.heard(STATIC)


def static_claim(config: StaticWorkloadConfig) -> Claim:
    """The claim of one [[workload.static]].

    Raises: ValueError: its prefix is none, or has host bits.
    """
    family, key = parse_prefix(config.prefix)
    return Claim(
        source=STATIC,
        id=config.id or config.prefix,
        family=family,
        key=key,
        interface=config.interface,
        vrf=config.vrf,
        manage_route=True,
        exception=config.exception,
    )


KIND = SourceKind(
    name=STATIC,
    what="`[[workload.static]]`",
    precedence=0,
    restart=Restart.REPLAYED,
    rank_at_start=1,
    is_own_word=True,
    make=StaticSource,
)
