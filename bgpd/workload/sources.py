"""The sources of address claims: the properties of each in one table, and the interface that a source implements.

To add a source, write one module with a `ClaimSource`, one configuration struct (a field of `WorkloadConfig` in
`bgpd/config/schema.py`), and one entry of `SOURCES` here. Claims, their order and conflicts depend on the properties in
`SOURCES`, not on names; besides this package, `bgpd/config/` names the sources. Decides nothing about a single claim:
`claim_order` and `standing` do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from bgpd.config.schema import WorkloadsConfig
    from bgpd.model.views import NeighborView
    from bgpd.model.workload import Claim
    from bgpd.workload.claims import Claims
    from bgpd.workload.feed.reports import Reports
    from bgpd.workload.first_state import FirstState
    from bgpd.workload.presences import Presences
    from bgpd.workload.service.services import Services
    from bgpd.workload.standing import ClaimStatus
    from bgpd.workload.table import WorkloadTable


class Restart(enum.Enum):
    """How the claims of a source come back after a restart of the daemon."""

    REPLAYED = enum.auto()
    """The source sends all of them again at the start: configuration, kernel."""
    SAVED = enum.auto()
    """They are in the state directory, with the order in which they came."""
    DERIVED = enum.auto()
    """They are derived from another source's workloads."""


class Sessions(Protocol):
    """Whose state a source may publish (`speaker.Speaker`)."""

    def neighbor_views(self) -> Iterable[NeighborView]:
        """All sessions."""


class SourceParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source may use."""

    claims: Claims
    table: WorkloadTable
    presences: Presences
    services: Services
    first_state: FirstState
    reports: Reports
    sessions: Sessions
    config: WorkloadsConfig
    hostname: str


class ClaimSource:
    """A source of claims. The methods do nothing unless overridden."""

    name: str
    initial_wait_s: float | None = None
    """How long to wait for its first state; None: no time of its own."""

    def save(self) -> bytes | None:
        """What the next process cannot know otherwise; None: nothing."""
        return None

    def remember(self, left: bytes | None = None) -> None:
        """Report the order of claims in an earlier run. Called before any source claims anything. `left`: by `save` of
        the process before this one.
        """

    async def restore(self) -> None:
        """Claim what is known at the start."""

    def order_known(self) -> None:
        """All sources have sent their first state: addresses contested before the restart may not be any more."""

    async def run(self) -> None:
        """Follow what the source says, until cancelled."""

    async def stop(self) -> None:
        """The daemon will end; claims, routes and announcements stay."""

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Apply a new configuration; what is the same in both is not touched."""

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """These claims, of any source, changed their state, or were given up."""

    def presence_changed(self, claims: Sequence[Claim]) -> None:
        """EVPN's state of the address of these claims, of any source, changed."""

    def neighbors_changed(self) -> None:
        """Sessions came, went or changed their state."""

    def readiness_changed(self, reason: str) -> None:
        """Why the daemon is not ready now, "" if it is."""

    def errors(self) -> list[str]:
        """What is wrong with the source, for `bgpd show`."""
        return []


class SourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """One source of claims.

    `precedence`: who follows when the holder of a contested address goes, lowest first. `rank_at_start`: the place of
    its claims at the start, of which nothing is saved: after the holder that was restored (0), before those that
    waited. `is_own_word`: whether the host itself says so, which may take what its own traffic needs.
    `is_kernel_route`: its claims are nothing but kernel routes of other programs. `make` answers None if the source is
    not configured, and is None itself for a source that is not made from the configuration.
    """

    name: str
    precedence: int
    restart: Restart
    rank_at_start: int = 0
    is_own_word: bool = False
    is_kernel_route: bool = False
    make: Callable[[SourceParts], ClaimSource | None] | None = None


def _static(parts: SourceParts) -> ClaimSource:
    from bgpd.workload.static_source import StaticSource

    return StaticSource(parts)


def _kernel(parts: SourceParts) -> ClaimSource:
    from bgpd.workload.kernel_source import KernelSource

    return KernelSource(parts)


def _api(parts: SourceParts) -> ClaimSource | None:
    from bgpd.workload.feed.api import ApiSource

    config = parts.config.workload.api
    return ApiSource(parts, config) if config is not None else None


def _mqtt(parts: SourceParts) -> ClaimSource | None:
    config = parts.config.workload.mqtt
    if config is None:
        return None
    from bgpd.workload.feed.mqtt import MqttSource  # loads ssl and the MQTT library, 6 MB

    return MqttSource(parts, config)


STATIC, KERNEL, API, MQTT, SERVICE = "static", "kernel", "api", "mqtt", "service"

SOURCES: Mapping[str, SourceKind] = {
    kind.name: kind
    for kind in (
        SourceKind(
            name=STATIC, precedence=0, restart=Restart.REPLAYED, rank_at_start=1, is_own_word=True, make=_static
        ),
        SourceKind(
            name=KERNEL,
            precedence=2,
            restart=Restart.REPLAYED,
            rank_at_start=2,
            is_own_word=True,
            is_kernel_route=True,
            make=_kernel,
        ),
        SourceKind(name=MQTT, precedence=1, restart=Restart.SAVED, make=_mqtt),
        SourceKind(name=API, precedence=1, restart=Restart.SAVED, make=_api),
        SourceKind(name=SERVICE, precedence=1, restart=Restart.DERIVED),
    )
}
"""By name, in the order in which they start."""

FEEDS = tuple(name for name, kind in SOURCES.items() if kind.restart is Restart.SAVED)
"""Sources whose workloads and services orchestrators name: a name is unique among them."""
