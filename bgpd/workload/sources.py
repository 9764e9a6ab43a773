"""What a source of address claims is: its properties (`SourceKind`), what it does (`ClaimSource`), which there are.

A source is one file. It has a `ClaimSource`, and a constant `KIND` with its properties; its configuration is a struct
of `bgpd/config/schema_workloads.py` (a field of `WorkloadConfig`); its file stands in `_FILES` here. The order of
claims, conflicts, what a restart keeps, filters, views, metrics and the list of sources in docs/configuration.md depend
on `KIND`, and on no name. Decides nothing about a single claim: `claim_order` and `standing` do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import msgspec

from bgpd.workload.ways_out import USUAL, WaysOut

if TYPE_CHECKING:
    from bgpd.config.schema import WorkloadsConfig
    from bgpd.kernel.foreign_routes import ForeignRoutes
    from bgpd.kernel.host import Host
    from bgpd.model.iana import Family
    from bgpd.model.kernel import AddressChanged, LinkChanged
    from bgpd.model.path import Path
    from bgpd.model.views.sessions import NeighborView
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

    restarting: bool
    """Whether the daemon was restarted while its routes stayed in the kernel."""

    def neighbor_views(self) -> Iterable[NeighborView]:
        """All sessions."""


class GuestRoutes(Protocol):
    """Who has the routes of guests (`rib.Rib`); what has changed is told by `GuestSource.routes_changed`."""

    def guest_paths(self, guest: str, family: Family, key: bytes) -> Sequence[Path]:
        """The paths in use of one key of a [[workload.bgp]], best first; () if it is not announced, or refused."""


class SourceParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source may use. `host` has the links and addresses of this host, `routes` those of other programs."""

    claims: Claims
    table: WorkloadTable
    presences: Presences
    services: Services
    first_state: FirstState
    reports: Reports
    sessions: Sessions
    guests: GuestRoutes
    host: Host
    routes: ForeignRoutes
    config: WorkloadsConfig
    hostname: str
    ways_out: WaysOut = USUAL


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

    def host_changed(self, event: LinkChanged | AddressChanged) -> None:
        """A link or an address of this host changed; `SourceParts.host` has it as it is now."""

    def neighbors_changed(self) -> None:
        """Sessions came, went or changed their state."""

    def readiness_changed(self, reason: str) -> None:
        """Why the daemon is not ready now, "" if it is."""

    def errors(self) -> list[str]:
        """What is wrong with the source, for `bgpd show`."""
        return []


class SourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """One source of claims: the constant `KIND` of its file.

    `what`: where its claims come from, in a few words. `precedence`: who follows when the holder of a contested address
    goes, lowest first. `restart`: whether its claims outlive the process. `rank_at_start`: the place of its claims at
    the start, of which nothing is saved: after the holder that was restored (0), before those that waited (1 or 2).
    `is_own_word`: whether the host itself says so, which may take what its own traffic needs. `is_kernel_route`: its
    claims are nothing but kernel routes of other programs. `is_service`: other hosts may announce its addresses too.
    `is_damped`: an address of it that comes and goes again and again is held back (`damping`).
    `make` answers None if the source is not configured, and is None itself for a source that is not made from the
    configuration.
    """

    name: str
    what: str
    precedence: int
    restart: Restart
    rank_at_start: int = 0
    is_own_word: bool = False
    is_kernel_route: bool = False
    is_service: bool = False
    is_damped: bool = False
    make: Callable[[SourceParts], ClaimSource | None] | None = None


_FILES = (
    "bgpd.workload.static_source",
    "bgpd.workload.kernel_source",
    "bgpd.workload.addresses_source",
    "bgpd.workload.guest_source",
    "bgpd.workload.feed.mqtt_kind",
    "bgpd.workload.feed.api",
    "bgpd.workload.service.services",
)
"""Where the `KIND` of each source is, in the order in which they start. Loaded at the first question: they are made of
claims, which ask for kinds."""


@cache
def kinds() -> Mapping[str, SourceKind]:
    """The sources that there are, by name, in the order in which they start."""
    found: list[SourceKind] = [import_module(file).KIND for file in _FILES]
    return {kind.name: kind for kind in found}


@cache
def feeds() -> tuple[str, ...]:
    """Sources whose workloads and services orchestrators name: a name is unique among them."""
    return tuple(name for name, kind in kinds().items() if kind.restart is Restart.SAVED)
