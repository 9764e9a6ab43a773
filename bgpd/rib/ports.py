"""What the RIB uses of kernel tables, sessions, EVPN and workloads.

Each of these parts implements its protocol itself; the RIB calls it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from bgpd.model.attributes import Attributes
from bgpd.model.iana import CeaseSubcode, Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source


class KernelRoutes(Protocol):
    """The kernel's tables, by VRF ("" is the main one)."""

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        """These keys have other next hops now (None: no kernel route of ours). `cause`: the neighbor whose routes
        changed, "" if that were several or none."""

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """Of these keys, which are of one part of the table, most may be so in the kernel, as another process has left
        it; `update_learned` is to be told of those that are answered."""

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        """Why a next hop is unreachable, or "". Asked once for each; later news come by `Rib.next_hop_changed`."""

    def forget(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        """No route has these next hops any more: news of them are needed no longer."""


class Neighbors(Protocol):
    """The established sessions. What is asked for a session that has ended has no effect."""

    def send(self, source: Source, batch: RouteBatch) -> None:
        """Send these routes in UPDATE messages."""

    def as_sent(self, source: Source, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        """The attributes and the next hop field that these routes are sent with; None if they cannot be sent."""

    def send_end_of_rib(self, source: Source, family: Family) -> None:
        """All of a family has been sent (RFC 4724)."""

    def send_refresh_began(self, source: Source, family: Family) -> None:
        """All of a family is sent again from here on (RFC 7313)."""

    def send_refresh_ended(self, source: Source, family: Family) -> None:
        """All that a route refresh asked for was sent (RFC 7313)."""

    def ask_again(self, source: Source, family: Family) -> bool:
        """Ask the neighbor to send its routes of a family again (RFC 2918); whether it can be asked."""

    def refresh_wanted(self, source: Source, family: Family) -> None:
        """The neighbor must be sent a family again, because of what it sent."""

    def has_room(self, source: Source) -> bool:
        """Whether the connection takes more now; `ReceivedRoutes.room_came` follows when it does again."""

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode) -> None:
        """End the session of the neighbor of this name, which sent too much. Never called while it is being heard."""

    def fail(self, source: Source, error: Exception) -> None:
        """End the session for which this was raised. Never called while it is being served."""


class EvpnRoutes(Protocol):
    """What follows EVPN routes, and the routes of VRFs that EVPN routes are made of."""

    def evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None:
        """A neighbor's EVPN routes have this path now (None: withdrawn, rejected, stale, or lost with the session)."""

    def few_received(self, source: Source, heard: Sequence[tuple[Path, bytes]]) -> None:
        """A neighbor's EVPN routes have these paths now, in this order; hardly two share one."""

    def memberships_received(self, source: Source, batch: RouteBatch) -> bool:
        """A neighbor's route targets (RFC 4684); whether it must be sent its EVPN routes again."""

    def for_neighbor(self, source: Source, batch: RouteBatch) -> Sequence[RouteBatch]:
        """What is sent to a neighbor in place of a batch of EVPN routes."""

    def prefix_of(self, key: bytes) -> tuple[str, Family, bytes] | None:
        """VRF, family and key of the prefix that one of this host's EVPN routes is about; None: of no prefix."""

    def local_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """This host's own routes were added, changed or removed, or their suppression by an aggregate changed."""

    def routes_changed(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """Routes of a VRF have other next hops; called before the kernel's tables are."""

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        """Why a next hop that EVPN resolves leads nowhere, or ""."""

    def forget_next_hops(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        """No route has these any more, of which some EVPN resolves."""

    def received_keys(self, neighbors: Collection[str]) -> Callable[[Source, Family, bytes], tuple[str, bytes] | None]:
        """For one query: which EVPN route (neighbor and key) became a VRF's route of this source; None: none of these
        neighbors'."""


class Workloads(Protocol):
    """The table of workloads."""

    def suppressed(self, vrf: str, family: Family, keys: list[bytes], by: str) -> None:
        """The aggregate `by` suppresses these workloads towards the neighbors ("": none does any more)."""


class Guests(Protocol):
    """Who makes claims of what guests of this host announce."""

    def routes_changed(self, guest: str, family: Family, keys: Sequence[bytes]) -> None:
        """A guest's routes of these keys are others now, or gone: `Rib.guest_paths` has them."""
