"""Short constructors for the tests of the RIB, and a recorder of what it sends out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_policies import PolicyConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.kernel.host import Host
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes
from bgpd.model.iana import CeaseSubcode, Family, Role, SegmentType
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib.rib import Rib
from tests.message.decoding import negotiated

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
    """A Rib whose outputs are kept: the kernel's view, and what each session was sent. It is all that is around it."""

    def __init__(self, config: Config) -> None:
        self.now = 1000.0
        self.after_send: Callable[[], None] = lambda: None
        self.resolved: dict[NextHop, str] = {}
        self.fib: dict[bytes, NextHops] = {}
        self.fib_calls: list[dict[bytes, NextHops | None]] = []
        self.causes: list[str] = []
        self.sent: list[tuple[Source, RouteBatch]] = []
        self.told: dict[Source, dict[bytes, Attributes]] = {}
        self.end_of_rib: list[tuple[Source, Family]] = []
        self.awaited: set[bytes] = set()
        self.resets: list[tuple[str, str]] = []
        self.suppressions: list[tuple[list[bytes], str]] = []
        self.refresh_began: list[tuple[Source, Family]] = []
        self.refresh_sent: list[tuple[Source, Family]] = []
        self.scheduled: list[Callable[[], None]] = []
        self.full: set[Source] = set()
        self.followed: dict[Source, dict[bytes, Path]] = {}
        self.resolved_in: dict[tuple[str, NextHop], str] = {}
        self.knows_refresh = True
        self.asked: list[tuple[Source, Family]] = []
        self.prefixes: dict[bytes, tuple[str, Family, bytes]] = {}
        self.vrf_fib: dict[bytes, NextHops] = {}
        self.rib = Rib(config, host=Host(lambda event: None), now=lambda: self.now, schedule=self.scheduled.append)
        self.rib.connect(kernel=self, neighbors=self, evpn=self, workloads=self)

    # The kernel's tables

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        return changes

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        self.causes.append(cause)
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

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        return self.resolved_in.get((vrf, next_hop), "") if vrf else self.resolved.get(next_hop, "")

    def forget(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        pass

    # Neighbors

    def send_end_of_rib(self, source: Source, family: Family) -> None:
        self.end_of_rib.append((source, family))

    def send_refresh_began(self, source: Source, family: Family) -> None:
        self.refresh_began.append((source, family))

    def send_refresh_ended(self, source: Source, family: Family) -> None:
        self.refresh_sent.append((source, family))

    def ask_again(self, source: Source, family: Family) -> bool:
        if self.knows_refresh:
            self.asked.append((source, family))
        return self.knows_refresh

    def refresh_wanted(self, source: Source, family: Family) -> None:
        self.rib.received.refresh_requested(source, family)

    def has_room(self, source: Source) -> bool:
        return source not in self.full

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode) -> None:
        self.resets.append((name, reason))

    def fail(self, source: Source, error: Exception) -> None:
        raise error

    # EVPN and workloads

    def evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None:
        routes = self.followed.setdefault(source, {})
        for one in keys:
            if path is None:
                routes.pop(one, None)
            else:
                routes[one] = path

    def few_received(self, source: Source, heard: Sequence[tuple[Path, bytes]]) -> None:
        for path, key in heard:
            self.evpn_received(source, [key], path)

    def forget_next_hops(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        pass

    def memberships_received(self, source: Source, batch: RouteBatch) -> bool:
        return False

    def prefix_of(self, key: bytes) -> tuple[str, Family, bytes] | None:
        return self.prefixes.get(key)

    def for_neighbor(self, source: Source, batch: RouteBatch) -> list[RouteBatch]:
        return [batch]

    def local_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        pass

    def routes_changed(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        pass

    def suppressed(self, vrf: str, family: Family, keys: list[bytes], by: str) -> None:
        self.suppressions.append((keys, by))

    def acknowledge(self, *keys: bytes) -> None:
        """The kernel has these."""
        self.awaited.difference_update(keys)
        self.rib.fib_acknowledged("", V4, keys)

    def as_sent(self, source: Source, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        return None if batch.attributes is None else (batch.attributes, bytes((10, 0, 0, 9)))

    def send(self, source: Source, batch: RouteBatch) -> None:
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

    def up(
        self,
        source: Source,
        config: NeighborConfig,
        *,
        families: tuple[Family, ...] = (V4,),
        role: Role | None = None,
    ) -> Source:
        is_ibgp = source.kind is SourceKind.IBGP
        self.rib.received.neighbor_up(source, negotiated(ibgp=is_ibgp, families=families, role=role), config)
        return source

    def announce(self, source: Source, given: Attributes, next_hop: NextHop | None, *prefixes: str) -> None:
        keys = [key(prefix) for prefix in prefixes]
        batch = RouteBatch(family=V4, announced=keys, attributes=given, next_hop=next_hop)
        self.rib.received.routes_received(source, [batch])
        self.rib.commit_gathered()

    def withdraw(self, source: Source, *prefixes: str) -> None:
        batch = RouteBatch(family=V4, withdrawn=[key(prefix) for prefix in prefixes])
        self.rib.received.routes_received(source, [batch])
        self.rib.commit_gathered()

    def turn(self) -> None:
        """Run what was scheduled, and what that schedules."""
        while self.scheduled:
            self.scheduled.pop(0)()
