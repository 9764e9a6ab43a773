"""What the workload tests share: a table whose outputs are recorded, with a kernel that acknowledges on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from bgpd.config.schema import Config
from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, Link, LinkChanged
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import format_key, parse_address, parse_prefix
from bgpd.model.service import HealthCheck, ProbedAddress
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import Claim, ClaimInfo, Presence
from bgpd.workload.feed.reports import Reports
from bgpd.workload.first_state import FirstState
from bgpd.workload.presences import Presences
from bgpd.workload.service.probes import Way
from bgpd.workload.service.services import CheckId, Services
from bgpd.workload.sources import SourceParts
from bgpd.workload.standing import ClaimStatus
from bgpd.workload.table import WorkloadTable

V4 = Family.IPV4_UNICAST


def key(prefix: str) -> bytes:
    return parse_prefix(prefix)[1]


def on(interface: str) -> NextHops:
    return (NextHop(address=b"", interface=interface),)


class Rig:
    """A table with all that it asks of others, recorded in order: ("announce", vrf, [prefixes], info) and so on."""

    def __init__(self, *, sources: Iterable[str] = (), acknowledge: bool = True) -> None:
        self.told: list[tuple[object, ...]] = []
        self.states: list[ClaimStatus] = []
        self.scheduled = 0
        self.synchronised = 0
        self.resumed: dict[tuple[str, bytes], Presence] = {}
        self.presences: dict[tuple[str, bytes], Presence] = {}
        self.announced: dict[tuple[str, str], ClaimInfo] = {}
        self.kernel: dict[tuple[str, str], NextHops] = {}
        self.yielding: set[str] = set()
        self.probe_routes: dict[tuple[str, str], NextHops] = {}
        self.probe_answers: dict[tuple[str, str], Callable[[str], None]] = {}
        self.probe_rewrites = 0
        self.acknowledge = acknowledge
        self.restarting = False
        self.sessions: list[NeighborView] = []
        self.paths: dict[tuple[str, Family, bytes], Sequence[Path]] = {}
        self.now = 1000.0
        self.reserves: dict[bytes, str] = {}
        self._acknowledgements: list[tuple[str, Family, list[bytes]]] = []
        self.host = Host(self._host_changed)
        self.routes = ForeignRoutes(lambda event: None)
        self.table = WorkloadTable(self, self, host=self.host, schedule=self._schedule)
        self.table.listeners.append(self)
        self.claims = self.table.claims
        self.known = Presences(self.claims, self)
        self.reports = Reports(self.claims)
        self.checks = Checks()
        self.services = Services(self.claims, self.checks, kernel=self)
        self.first_state = FirstState(
            self.table, self.services, order_known=lambda: None, reached=self.workloads_synchronised
        )
        self.waits = bool(tuple(sources))
        for source in sources:
            self.first_state.wait_for(source)

    def parts(self, config: Config) -> SourceParts:
        """What a source of this rig is made of."""
        return SourceParts(
            claims=self.claims,
            table=self.table,
            presences=self.known,
            services=self.services,
            first_state=self.first_state,
            reports=self.reports,
            sessions=self,
            guests=self,
            host=self.host,
            routes=self.routes,
            config=config.workloads,
            hostname="node1",
        )

    def neighbor_views(self) -> tuple[NeighborView, ...]:
        return tuple(self.sessions)

    def guest_paths(self, guest: str, family: Family, key: bytes) -> Sequence[Path]:
        return self.paths.get((guest, family, key), ())

    def reserved(self, vrf: str, family: Family, key: bytes) -> str:
        return self.reserves.get(key, "")

    def announce_workloads(self, vrf: str, family: Family, keys: list[bytes], info: ClaimInfo) -> None:
        prefixes = [format_key(family, k) for k in keys]
        self.told.append(("announce", vrf, prefixes, info))
        self.announced.update({(vrf, prefix): info for prefix in prefixes})

    def withdraw_workloads(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        prefixes = [format_key(family, k) for k in keys]
        self.told.append(("withdraw", vrf, prefixes))
        for prefix in prefixes:
            del self.announced[vrf, prefix]

    def set_workload_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        for k, route in changes.items():
            prefix = format_key(family, k)
            self.told.append(("route", vrf, prefix, route))
            if route is None:
                self.kernel.pop((vrf, prefix), None)
            else:
                self.kernel[vrf, prefix] = route
        self._acknowledgements.append((vrf, family, [k for k, route in changes.items() if route is not None]))

    def set_service_route(
        self, vrf: str, family: Family, key: bytes, members: NextHops, *, resilient: bool, yields: bool = False
    ) -> None:
        prefix = format_key(family, key)
        self.told.append(("service", vrf, prefix, members, resilient))
        self.yielding = {*self.yielding, prefix} if yields else self.yielding - {prefix}
        self.kernel[vrf, prefix] = members
        self._acknowledgements.append((vrf, family, [key]))

    def set_probe_route(self, asked: ProbedAddress, members: NextHops | None, answered: Callable[[str], None]) -> None:
        place = asked.vrf, format_key(asked.family, asked.key)
        self.told.append(("probe route", *place, members))
        if members is None:
            self.probe_routes.pop(place, None)
            self.probe_answers.pop(place, None)
        else:
            self.probe_routes[place], self.probe_answers[place] = members, answered

    def write_probe_route_again(self, asked: ProbedAddress) -> None:
        self.probe_rewrites += 1

    def probe_way(self, asked: ProbedAddress) -> tuple[str, str, bool]:
        return asked.vrf, "169.254.62.1", self.host.has_address(asked.key[1:], vrf=asked.vrf)

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        self.states += changed

    def presence(self, vrf: str, family: Family, key: bytes) -> Presence | None:
        return self.presences.get((vrf, key))

    def workload_resumed(self, vrf: str, family: Family, key: bytes, info: ClaimInfo, known: Presence) -> None:
        self.resumed[vrf, key] = known

    def _schedule(self) -> None:
        self.scheduled += 1

    def workloads_gone(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        """Only EVPN has use for it."""

    def workloads_synchronised(self) -> None:
        self.synchronised += 1

    def settle(self) -> None:
        """Flush, acknowledge, flush, until nothing is left."""
        while self.scheduled or (self.acknowledge and self._acknowledgements):
            if self.acknowledge:
                waiting, self._acknowledgements = self._acknowledgements, []
                for vrf, family, keys in waiting:
                    self.table.route_acknowledged(vrf, family, keys)
            if self.scheduled:
                self.scheduled = 0
                self.table.flush(self.now)
                if self.waits:
                    self.first_state.look()
                elif self.table.settled:
                    self.claims.replayed()

    def link(self, name: str, *, up: bool = True, gone: bool = False, index: int = 0) -> None:
        self.host.link(Link(index=index or sum(name.encode()), name=name, up=up), gone=gone)

    def address(self, interface: str, text: str, *, gone: bool = False) -> None:
        address, _, length = text.partition("/")
        packed = parse_address(address)
        index = self.host.index_of(interface)
        self.host.address(
            Address(index=index, interface=interface, packed=packed, prefix_length=int(length)), gone=gone
        )

    def _host_changed(self, event: KernelEvent) -> None:
        if isinstance(event, LinkChanged):
            self.table.link_changed(event)
        elif isinstance(event, AddressChanged):
            self.table.address_changed(event)

    def state(self, source: str, id: str) -> tuple[str, str]:
        (status,) = self.claims.statuses(source, id)
        return str(status.state), status.reason


class Checks:
    """Health checks that were asked for: their devices and ways, by id."""

    def __init__(self) -> None:
        self.running: dict[CheckId, str] = {}
        self.ways: dict[CheckId, Way] = {}

    def start(self, id: CheckId, check: HealthCheck, address: str, way: Way) -> None:
        self.running[id] = way.device
        self.ways[id] = way

    def stop(self, id: CheckId) -> None:
        del self.running[id]


def claim(
    prefix: str, interface: str = "pod1", *, id: str = "a", source: str = "mqtt", vrf: str = "", managed: bool = True
) -> Claim:
    family, k = parse_prefix(prefix)
    return Claim(source=source, id=id, family=family, key=k, interface=interface, vrf=vrf, manage_route=managed)
