"""Which routes workloads and services of this host want of the kernel, and which of them give way. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bgpd.fib.targets import Service, service_hop
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import VrfFamily


class WorkloadRoutes:
    """Kernel routes of this host's workloads, by table. A workload's own route wins over a learned one, unless it is
    that of a service that yields: one that this host has withdrawn.
    """

    def __init__(self) -> None:
        self._tables: dict[VrfFamily, dict[bytes, NextHops]] = {}
        self._services: dict[VrfFamily, dict[bytes, Service]] = {}
        self._yielding: dict[VrfFamily, set[bytes]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def get(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """The route of a workload to a prefix."""
        own = self._tables.get((vrf, family))
        return own.get(key) if own else None

    def set(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """Workloads want these routes now; None: none any more."""
        own = self._tables.setdefault((vrf, family), {})
        services = self._services.get((vrf, family))
        if services:
            for key in services.keys() & changes.keys():
                del services[key]
                self._yielding[vrf, family].discard(key)
        for key, hops in changes.items():
            if hops is None:
                own.pop(key, None)
            else:
                own[key] = hops

    def set_service(self, vrf: str, family: Family, key: bytes, service: Service, *, yields: bool) -> None:
        """A service wants the route of its address; if it `yields`, only while there is no learned one."""
        self._tables.setdefault((vrf, family), {})[key] = (service_hop(key),)
        self._services.setdefault((vrf, family), {})[key] = service
        yielding = self._yielding.setdefault((vrf, family), set())
        (yielding.add if yields else yielding.discard)(key)

    def yielding(self, vrf: str, family: Family, keys: Iterable[bytes]) -> dict[bytes, Service]:
        """Those of the keys whose learned route takes the place of a service's."""
        yielding = self._yielding.get((vrf, family))
        if not yielding:
            return {}
        services = self._services[vrf, family]
        return {key: services[key] for key in keys if key in yielding}

    def services(self, vrf: str, family: Family) -> list[tuple[bytes, Service, bool]]:
        """The services of one table, and whether they yield."""
        yielding = self._yielding.get((vrf, family), ())
        return [(key, one, key in yielding) for key, one in self._services.get((vrf, family), {}).items()]

    def plain(self, vrf: str, family: Family) -> dict[bytes, NextHops]:
        """All of one table, without those of services."""
        own, services = self._tables.get((vrf, family), {}), self._services.get((vrf, family), {})
        return {key: hops for key, hops in own.items() if key not in services}

    def overlay(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """The RIB's changes without those of prefixes that workloads have."""
        own = self._tables.get((vrf, family))
        if not own or own.keys().isdisjoint(changes.keys()):
            return changes
        return {key: hops for key, hops in changes.items() if key not in own}

    def among(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that are routes of workloads."""
        own = self._tables.get((vrf, family))
        return list(filter(own.__contains__, keys)) if own else []
