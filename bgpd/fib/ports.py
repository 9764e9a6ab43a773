"""What kernel tables use of the RIB, EVPN and workloads, and whom they notify.

Each of these parts implements its protocol itself; the tables call it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import VrfFamily


class LearnedTable(Protocol):
    """One table of the RIB."""

    @property
    def routes(self) -> Collection[bytes]:
        """Its keys."""


class LearnedRoutes(Protocol):
    """The RIB: what neighbors' routes want of the kernel."""

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should forward a key by; None: no learned route."""

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        """`desired` of each of these, which may be many."""

    def fallback(self, vrf: str, lost: AbstractSet[NextHop]) -> Callable[[NextHops], NextHops | None]:
        """A function that gives the next hops to use in place of a set that would become empty."""

    def table(self, vrf: str, family: Family) -> LearnedTable:
        """The routes of one table."""

    def asked_next_hops(self, vrf: str) -> Collection[NextHop]:
        """The next hops of a VRF of which it knows whether they can be reached."""

    def commit_gathered(self) -> None:
        """Call `update_learned` now for what has changed in this turn of the loop."""

    def fib_refused(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """These are desired, and the kernel does not forward them."""


class RecursiveNextHops(Protocol):
    """EVPN: resolves recursive next hops."""

    def resolve(self, next_hop: NextHop) -> NextHops:
        """Which next hops it leads to now, () if none."""


class WorkloadAddresses(Protocol):
    """The workloads: what their own routes and addresses have to do with the kernel."""

    def route_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these to workloads of this host."""

    def route_refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These routes to workloads are not in the kernel; they are tried again."""

    def look_again(self, table: VrfFamily, keys: Iterable[bytes]) -> None:
        """The answer of `reserved` may have changed for these."""


class KernelListener(Protocol):
    """Notifies several parts, in the right order, of the kernel's answers."""

    def kernel_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as desired."""

    def reachability_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """A next hop that `resolve` was asked about can be reached now (""), or no longer, and why."""

    def kernel_is_behind(self, busy: AbstractSet[str]) -> None:
        """Neighbors are far ahead of the kernel: read no more from those that lead. Called again while it is so.
        `busy`: who has caused many changes lately, or nearly as many as who has."""

    def kernel_caught_up(self) -> None:
        """The kernel has caught up with the neighbors, or takes too long: read on."""
