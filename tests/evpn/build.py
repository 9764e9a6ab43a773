"""A RIB and EVPN joined as the daemon joins them, without sockets: what neighbors say goes in, what the FIB would
forward by and what neighbors are told comes out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.evpn.evpn import Evpn
from bgpd.kernel.host import Host as KernelHost
from bgpd.model.attributes import Attributes
from bgpd.model.communities import parse_route_distinguisher, parse_route_target
from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.iana import CeaseSubcode, Family
from bgpd.model.kernel import Address, Link
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.model.workload import ClaimInfo
from bgpd.rib.rib import Rib
from tests.message.decoding import negotiated

EVPN = Family.L2VPN_EVPN
V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
WORKLOAD = Source(name="workload", kind=SourceKind.WORKLOAD)

CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
address = "172.16.1.0"
asn = 65201
import = "all"
families = ["l2vpn-evpn"]
[[neighbor]]
name = "leaf2"
address = "172.16.2.0"
asn = 65202
import = "all"
families = ["l2vpn-evpn"]
[[vrf]]
name = "blue"
table = 1001
vni = 5001
import_rt = ["65201:5001"]
export_rt = ["65201:5001"]
uplinks = ["eth0.101", "eth1.101"]
[[vrf]]
name = "red"
table = 1002
vni = 5002
import_rt = ["65201:5002"]
export_rt = ["65201:5002"]
uplinks = ["eth0.102", "eth1.102"]
"""

LINKS = {
    "eth0": "172.16.1.1/31",
    "eth1": "172.16.2.1/31",
    "eth0.101": "10.1.0.1/31",
    "eth1.101": "10.2.0.1/31",
    "eth0.102": "10.1.0.1/31",
    "eth1.102": "10.2.0.1/31",
}
VIA1, VIA2 = NextHop(parse_address("10.1.0.0"), "eth0.101"), NextHop(parse_address("10.2.0.0"), "eth1.101")
VXLAN = b"\x03\x0c\0\0\0\0\0\x08"


@functools.cache
def configuration(text: str = CONFIG) -> Config:
    return parse_config(text, "x.toml")[0]


def leaf(number: int) -> Source:
    return Source(
        name=f"leaf{number}",
        kind=SourceKind.EBGP,
        asn=65200 + number,
        router_id=bytes((10, 0, 0, number)),
        address=bytes((172, 16, number, 0)),
    )


def rd(text: str) -> bytes:
    return parse_route_distinguisher(text)


def prefix_route(prefix: str, *, host: str = "10.255.9.9:1001") -> bytes:
    """Key of a type 5 route."""
    family, key = parse_prefix(prefix)
    packed = key[1:].ljust(4 if family is V4 else 16, b"\0")
    return prefix_key(rd(host), prefix=packed, prefix_length=key[0])


def host_route(address: str, *, mac: str = "02:00:00:00:00:09", host: str = "10.255.9.9:1001") -> bytes:
    """Key of a type 2 route."""
    return mac_ip_key(rd(host), mac=bytes.fromhex(mac.replace(":", "")), ip=parse_address(address))


def mobility(sequence: int, *, sticky: bool = False) -> bytes:
    return b"\x06\x00" + bytes((int(sticky), 0)) + sequence.to_bytes(4, "big")


class Host:
    """One host. Long work is done at once; `turn` lets the exports out."""

    def __init__(self, text: str = CONFIG, *, is_adopting: bool = False) -> None:
        self.config = configuration(text)
        self.now = 1000.0
        self.sources: dict[str, Source] = {}
        self.fib: dict[tuple[str, Family], dict[bytes, NextHops]] = {}
        self.told: dict[tuple[str, bytes], RouteBatch] = {}
        self.given_up: list[tuple[str, list[bytes], str]] = []
        self.resent: list[str] = []
        self.former: dict[bytes, int] = {}
        self.presence_changes: list[bytes] = []
        self.resolved_anew: list[NextHop] = []
        self.scheduled: list[Callable[[], None]] = []
        self.kernel = KernelHost(lambda event: self.evpn.kernel_changed(event))
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.rib = Rib(self.config, host=self.kernel, now=lambda: self.now, schedule=self.scheduled.append)
        self.evpn = Evpn(
            self.config,
            host=self.kernel,
            rib=self.rib,
            kernel=self,
            walks=self,
            clock=self,
        )
        self.evpn.connect(claims=self, presences=self)
        self.rib.connect(kernel=self, neighbors=self, evpn=self.evpn, workloads=self)
        self.rib.dissemination.synchronised()
        self.evpn.start(is_adopting=is_adopting)
        for index, (name, address) in enumerate(LINKS.items(), 1):
            self.link(name, index=index)
            self.address(name, address)

    # What EVPN has around it: the loop, kernel tables, sessions, workloads

    def run(self, walk: Iterator[None]) -> None:
        for _ in walk:
            pass

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self.timers.append((when, callback))

    def resolution_changed(self, vrf: str, next_hop: NextHop) -> None:
        self.resolved_anew.append(next_hop)

    def take_former(self, vrf: str, family: Family, key: bytes) -> int | None:
        return self.former.pop(key, None)

    def presence_changed(self, vrf: str, family: Family, key: bytes) -> None:
        self.presence_changes.append(key)

    # What the RIB has around it: kernel tables, neighbors, workloads

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        return changes

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        table = self.fib.setdefault((vrf, family), {})
        for key, next_hops in changes.items():
            if next_hops is None:
                table.pop(key, None)
            else:
                table[key] = next_hops

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        return ""

    def forget(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        pass

    def send(self, source: Source, batch: RouteBatch) -> None:
        for key in batch.withdrawn:
            self.told.pop((source.name, key), None)
        for key in batch.announced:
            self.told[source.name, key] = batch

    def send_end_of_rib(self, source: Source, family: Family) -> None:
        pass

    def send_refresh_began(self, source: Source, family: Family) -> None:
        self.resent.append(source.name)

    def send_refresh_ended(self, source: Source, family: Family) -> None:
        pass

    def refresh_wanted(self, source: Source, family: Family) -> None:
        self.rib.received.refresh_requested(source, family)

    def has_room(self, source: Source) -> bool:
        return True

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode) -> None:
        raise AssertionError(f"{name}: {reason}")

    def fail(self, source: Source, error: Exception) -> None:
        raise error

    def suppressed(self, vrf: str, family: Family, keys: list[bytes], by: str) -> None:
        pass

    # What the tests do

    def moved(self, vrf: str, family: Family, keys: list[bytes], reason: str) -> None:
        self.given_up.append((vrf, keys, reason))
        if reason:
            self.rib.withdraw_local(WORKLOAD, family, keys, vrf=vrf)
            self.evpn.workloads_withdrawn(vrf, family, keys)

    def link(self, name: str, *, index: int, up: bool = True) -> None:
        mac = bytes((2, 0, 0, 0)) + index.to_bytes(2, "big")
        self.kernel.link(Link(index=index, name=name, up=up, mac=mac))

    def address(self, name: str, text: str, *, gone: bool = False) -> None:
        address, length = text.split("/")
        index = self.kernel.index_of(name)
        self.kernel.address(Address(index=index, packed=parse_address(address), prefix_length=int(length)), gone=gone)

    def reconfigure(self, text: str) -> None:
        self.config = configuration(text)
        self.evpn.reconfigure(self.config)
        self.turn()

    def up(self, number: int, *families: Family) -> Source:
        source = self.sources[f"leaf{number}"] = leaf(number)
        families = (EVPN, *families)
        self.evpn.neighbor_up(source, families)
        self.rib.received.neighbor_up(source, negotiated(families=families), self.config.neighbor[number - 1])
        self.turn()
        return source

    def down(self, source: Source) -> None:
        self.evpn.neighbor_down(source)
        self.run(self.rib.received.neighbor_down(source))
        self.turn()

    def hear(
        self,
        source: Source,
        *keys: bytes,
        gateway: str = "",
        next_hop: str = "192.0.2.1",
        communities: Sequence[bytes] = (),
        target: str = "65201:5001",
    ) -> None:
        targets = (parse_route_target(target),) if target else ()
        overlay = Overlay(bytes(10), (5001,), parse_address(gateway) if gateway else b"")
        batch = RouteBatch(
            family=EVPN,
            announced=keys,
            attributes=Attributes.of(extended_communities=(*targets, *communities)),
            next_hop=NextHop(parse_address(next_hop)),
            overlay=overlay,
        )
        self.rib.received.routes_received(source, [batch])
        self.turn()

    def unhear(self, source: Source, *keys: bytes) -> None:
        self.rib.received.routes_received(source, [RouteBatch(family=EVPN, withdrawn=keys)])
        self.turn()

    def workload(self, prefix: str, *, vrf: str = "blue", mac: str = "", sticky: bool = False) -> None:
        family, key = parse_prefix(prefix)
        self.rib.announce_local(WORKLOAD, family, [key], Attributes.of(), vrf=vrf)
        info = ClaimInfo(mac=bytes.fromhex(mac.replace(":", "")), sticky=sticky)
        self.evpn.workloads_announced(vrf, family, [key], info)
        self.turn()

    def workload_gone(self, prefix: str, *, vrf: str = "blue") -> None:
        family, key = parse_prefix(prefix)
        self.rib.withdraw_local(WORKLOAD, family, [key], vrf=vrf)
        self.evpn.workloads_withdrawn(vrf, family, [key])
        self.turn()

    def workload_deleted(self, prefix: str, *, vrf: str = "blue") -> None:
        """Nobody claims it any more."""
        self.workload_gone(prefix, vrf=vrf)
        self.evpn.workloads_gone(vrf, [parse_prefix(prefix)[1]])
        self.turn()

    def turn(self) -> None:
        while self.scheduled:
            self.scheduled.pop(0)()

    def forwards(self, prefix: str, *, vrf: str = "blue") -> NextHops | None:
        """What the kernel would forward a prefix of a VRF by; None: no route."""
        family, key = parse_prefix(prefix)
        recursive = self.fib.get((vrf, family), {}).get(key)
        if recursive is None:
            return None
        return tuple(sorted({hop for one in recursive for hop in self.evpn.resolve(one)}))

    def table(self, vrf: str = "blue", family: Family = V4) -> Mapping[bytes, NextHops]:
        return self.fib.get((vrf, family), {})

    def announced_to(self, name: str) -> dict[bytes, RouteBatch]:
        return {key: batch for (neighbor, key), batch in self.told.items() if neighbor == name}
