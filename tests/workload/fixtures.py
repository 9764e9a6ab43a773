"""What the workload tests share: a table whose outputs are recorded, with a kernel that acknowledges on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, Link, LinkChanged
from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.model.workload import Claim, ClaimInfo, Presence
from bgpd.workload.settle import TableOutputs
from bgpd.workload.standing import Held
from bgpd.workload.table import WorkloadTable

V4 = Family.IPV4_UNICAST


def key(prefix: str) -> bytes:
    return parse_prefix(prefix)[1]


def on(interface: str) -> NextHops:
    return (NextHop(address=b"", interface=interface),)


class Rig:
    """A table, and everything it told in order: ("announce", vrf, [prefixes], info) and so on."""

    def __init__(self, *, sources: Iterable[str] = (), acknowledge: bool = True) -> None:
        self.told: list[tuple[object, ...]] = []
        self.states: list[Held] = []
        self.scheduled = 0
        self.synchronised = 0
        self.resumed: dict[tuple[str, bytes], Presence] = {}
        self.announced: dict[tuple[str, str], ClaimInfo] = {}
        self.kernel: dict[tuple[str, str], NextHops] = {}
        self.acknowledge = acknowledge
        self.now = 1000.0
        outputs = TableOutputs(
            announce=self._announce,
            withdraw=self._withdraw,
            host_routes=self._host_routes,
            service_route=self._service_route,
            resumed=lambda vrf, family, key, info, presence: self.resumed.update({(vrf, key): presence}),
            states_changed=self.states.extend,
            schedule_flush=self._schedule,
            synchronised=self._synchronised,
        )
        self.host = Host(self._host_changed)
        self.table = WorkloadTable(outputs, host=self.host, sources=sources, reserved=self._is_reserved)
        self.reserved: dict[bytes, str] = {}
        self._acknowledgements: list[tuple[str, Family, list[bytes]]] = []

    def _is_reserved(self, vrf: str, family: Family, k: bytes) -> str:
        return self.reserved.get(k, "")

    def _announce(self, vrf: str, family: Family, keys: list[bytes], info: ClaimInfo) -> None:
        prefixes = [format_key(family, k) for k in keys]
        self.told.append(("announce", vrf, prefixes, info))
        self.announced.update({(vrf, prefix): info for prefix in prefixes})

    def _withdraw(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        prefixes = [format_key(family, k) for k in keys]
        self.told.append(("withdraw", vrf, prefixes))
        for prefix in prefixes:
            del self.announced[vrf, prefix]

    def _host_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        for k, route in changes.items():
            prefix = format_key(family, k)
            self.told.append(("route", vrf, prefix, route))
            if route is None:
                self.kernel.pop((vrf, prefix), None)
            else:
                self.kernel[vrf, prefix] = route
        self._acknowledgements.append((vrf, family, [k for k, route in changes.items() if route is not None]))

    def _service_route(self, vrf: str, family: Family, k: bytes, members: NextHops, resilient: bool) -> None:
        prefix = format_key(family, k)
        self.told.append(("service", vrf, prefix, members, resilient))
        self.kernel[vrf, prefix] = members
        self._acknowledgements.append((vrf, family, [k]))

    def _schedule(self) -> None:
        self.scheduled += 1

    def _synchronised(self) -> None:
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

    def link(self, name: str, *, up: bool = True, gone: bool = False, index: int = 0) -> None:
        self.host.link(Link(index=index or sum(name.encode()), name=name, up=up), gone=gone)

    def _host_changed(self, event: KernelEvent) -> None:
        if isinstance(event, LinkChanged):
            self.table.link_changed(event)

    def state(self, source: str, id: str) -> tuple[str, str]:
        (held,) = self.table.held(source, id)
        return str(held.state), held.reason


def claim(
    prefix: str, interface: str = "pod1", *, id: str = "a", source: str = "mqtt", vrf: str = "", managed: bool = True
) -> Claim:
    family, k = parse_prefix(prefix)
    return Claim(source=source, id=id, family=family, key=k, interface=interface, vrf=vrf, manage_route=managed)
