"""Short constructors for the tests of the RIB, and a recorder of what it sends out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bgpd.config.schema import Config, NeighborConfig, PolicyConfig, RouterConfig
from bgpd.model.attributes import AsPathSegment, Attributes
from bgpd.model.iana import Family, SegmentType
from bgpd.model.path import NextHop, NextHops, Path, RouteBatch, Source, SourceKind
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.rib.rib import Rib

V4 = Family.IPV4_UNICAST
LOCAL_ASN = 65203
LOCAL = Source(name="workload", kind=SourceKind.WORKLOAD)


def key(prefix: str) -> bytes:
    return parse_prefix(prefix)[1]


def hop(address: str, interface: str = "") -> NextHop:
    return NextHop(parse_address(address), interface)


def attributes(*asns: int, **fields: object) -> Attributes:
    as_path = (AsPathSegment(SegmentType.AS_SEQUENCE, asns),) if asns else ()
    return Attributes.of(as_path=as_path, **fields)  # type: ignore[arg-type]


def leaf(number: int, *, kind: SourceKind = SourceKind.EBGP, asn: int = 65201, name: str = "") -> Source:
    return Source(
        name=name or f"leaf{number}",
        kind=kind,
        asn=asn,
        router_id=bytes((10, 0, 0, number)),
        address=bytes((10, 0, number, 2)),
    )


def session(name: str, **fields: object) -> NeighborConfig:
    values: dict[str, object] = {"asn": 65201, "import_": "all", "address": "10.0.1.2", **fields}
    return NeighborConfig(name=name, **values)  # type: ignore[arg-type]


def configuration(*neighbors: NeighborConfig, policy: dict[str, PolicyConfig] | None = None) -> Config:
    router = RouterConfig(asn=LOCAL_ASN, router_id="10.255.1.1")
    return Config(router=router, neighbor=neighbors, policy=policy or {})


def drain(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


class Recorder:
    """A Rib whose outputs are kept: the FIB's view, and what each session was told."""

    def __init__(self, config: Config) -> None:
        self.now = 1000.0
        self.after_send: Callable[[], None] = lambda: None
        self.resolved: dict[NextHop, str] = {}
        self.fib: dict[bytes, NextHops] = {}
        self.fib_calls: list[dict[bytes, NextHops | None]] = []
        self.sent: list[tuple[Source, RouteBatch]] = []
        self.told: dict[Source, dict[bytes, Attributes]] = {}
        self.end_of_rib: list[tuple[Source, Family]] = []
        self.awaited: set[bytes] = set()
        self.out_of_resources: list[tuple[Source, str]] = []
        self.exceeded: list[tuple[Source, Family, int]] = []
        self.suppressed: list[tuple[list[bytes], str]] = []
        self.refresh_sent: list[tuple[Source, Family]] = []
        self.scheduled: list[Callable[[], None]] = []
        self.full: set[Source] = set()
        self.followed: dict[Source, dict[bytes, Path]] = {}
        self.resolved_in: dict[tuple[str, NextHop], str] = {}
        self.vrf_fib: dict[bytes, NextHops] = {}
        self.rib = Rib(
            config,
            fib_changed=self._fib_changed,
            send=self._send,
            send_end_of_rib=lambda source, family: self.end_of_rib.append((source, family)),
            resolve=lambda next_hop: self.resolved.get(next_hop, ""),
            now=lambda: self.now,
            schedule=self.scheduled.append,
            prefix_limit_exceeded=lambda *args: self.exceeded.append(args),
            resources_exceeded=lambda source, reason: self.out_of_resources.append((source, reason)),
            resolve_in=lambda vrf, next_hop: self.resolved_in.get((vrf, next_hop), ""),
            evpn_received=self._evpn_received,
            suppressed=lambda _vrf, _family, keys, by: self.suppressed.append((keys, by)),
            refresh_sent=lambda source, family: self.refresh_sent.append((source, family)),
            has_room=lambda source: source not in self.full,
        )

    def _fib_changed(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> None:
        if vrf:
            for one, next_hops in changes.items():
                self.vrf_fib.pop(one, None)
                if next_hops is not None:
                    self.vrf_fib[one] = next_hops
            return
        self.fib_calls.append(changes)
        for one, next_hops in changes.items():
            if next_hops is None:
                self.fib.pop(one, None)
                self.awaited.discard(one)
            else:
                self.fib[one] = next_hops
                self.awaited.add(one)

    def _evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None:
        routes = self.followed.setdefault(source, {})
        for one in keys:
            if path is None:
                routes.pop(one, None)
            else:
                routes[one] = path

    def acknowledge(self, *keys: bytes) -> None:
        """The kernel has these."""
        self.awaited.difference_update(keys)
        self.rib.fib_acknowledged("", V4, keys)

    def _send(self, source: Source, batch: RouteBatch) -> None:
        self.sent.append((source, batch))
        told = self.told.setdefault(source, {})
        for one in batch.withdrawn:
            told.pop(one)
        for one in batch.announced:
            assert batch.attributes is not None
            decision = self.rib.decision("", V4, one)
            assert decision is not None
            assert decision.is_local or one not in self.awaited, "told a neighbor before the kernel has it"
            told[one] = batch.attributes
        self.after_send()

    def up(self, source: Source, config: NeighborConfig, *, families: tuple[Family, ...] = (V4,)) -> Source:
        self.rib.neighbor_up(
            source,
            families=families,
            config=config,
            local_asn=LOCAL_ASN,
            is_ibgp=source.kind is SourceKind.IBGP,
        )
        return source

    def announce(self, source: Source, given: Attributes, next_hop: NextHop | None, *prefixes: str) -> None:
        keys = [key(prefix) for prefix in prefixes]
        batch = RouteBatch(family=V4, announced=keys, attributes=given, next_hop=next_hop)
        self.rib.routes_received(source, batch)
        self.rib.tell_gathered()

    def withdraw(self, source: Source, *prefixes: str) -> None:
        batch = RouteBatch(family=V4, withdrawn=[key(prefix) for prefix in prefixes])
        self.rib.routes_received(source, batch)
        self.rib.tell_gathered()

    def turn(self) -> None:
        """Run what was scheduled, and what that schedules."""
        while self.scheduled:
            self.scheduled.pop(0)()
