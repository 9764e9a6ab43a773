"""Which kernel routes are workloads, followed live."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from bgpd.config.schema import Config, FibConfig, RouterConfig, VrfConfig, WorkloadsConfig
from bgpd.config.schema_workloads import KernelWorkloadConfig, WorkloadConfig
from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelRoute, Link, RouteChanged
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.model.workload import PLAIN
from bgpd.workload.kernel_source import SLICE, KernelSource
from tests.workload.fixtures import Rig, claim, on

POD = "10.64.1.9/32"
PLACES = [(254, 0), (254, 10), (254, 30), (1001, 0)]
"""Kernel tables and metrics: bgpd's own has 20."""


def config(*, globs: tuple[str, ...] = ("pod*", "cali*"), vrfs: bool = True) -> Config:
    return Config(
        router=RouterConfig(asn=65203, router_id="10.255.1.1"),
        fib=FibConfig(protocol=197, metric=20),
        workload=WorkloadConfig(kernel=KernelWorkloadConfig(interfaces=globs)),
        vrf=(VrfConfig(name="blue", table=1001),) if vrfs else (),
    )


def route(
    prefix: str = POD,
    interface: str = "pod1",
    *,
    table: int = 254,
    protocol: int = 3,
    metric: int = 0,
    gateway: bytes = b"",
    tos: int = 0,
    source: bytes = b"",
    multipath: bool = False,
    details: bytes = b"",
) -> KernelRoute:
    family, key = parse_prefix(prefix)
    return KernelRoute(
        family=family,
        key=key,
        table=table,
        protocol=protocol,
        metric=metric,
        interface=interface,
        gateway=gateway,
        tos=tos,
        source=source,
        multipath=multipath,
        details=details,
    )


def link(name: str = "pod1", *, up: bool = True, index: int = 5) -> Link:
    return Link(index=index, name=name, up=up)


class KernelRig(Rig):
    """`routes` is what the monitor knows: its changes arrive as events."""

    def __init__(self) -> None:
        super().__init__(sources=("kernel",))
        self.drains = 0
        self.routes = ForeignRoutes(lambda event: self.source.event(event))
        self.source = KernelSource(self.parts(config()), schedule=self._schedule_drain)
        self.host.link(link())
        self.host.link(link("eth0", index=2))

    def _host_changed(self, event: KernelEvent) -> None:
        self.source.event(event)

    def _schedule_drain(self, drain: Callable[[], None]) -> None:
        self.drains += 1

    def settle(self) -> None:
        while self.drains:
            self.drains = 0
            self.source.drain()
        super().settle()

    def add(self, added: KernelRoute) -> None:
        self.source.event(RouteChanged(added))
        self.settle()

    def delete(self, deleted: KernelRoute) -> None:
        self.source.event(RouteChanged(deleted, gone=True))
        self.settle()


def test_route_on_a_matching_interface_is_announced_and_withdrawn_when_it_goes() -> None:
    rig = KernelRig()
    rig.add(route())
    assert rig.told == [("announce", "", [POD], PLAIN)]
    rig.delete(route())
    assert rig.told[1:] == [("withdraw", "", [POD])]
    assert list(rig.claims.views()) == []


def test_route_of_a_vrf_table_is_announced_in_that_vrf() -> None:
    rig = KernelRig()
    rig.add(route(table=1001))
    rig.add(route())
    assert set(rig.announced) == {("blue", POD), ("", POD)}


def test_table_of_another_vrf_is_announced_in_that_one() -> None:
    """A VRF is renamed, two change their tables with each other, one goes: by one reload each."""

    def tables(**vrfs: int) -> WorkloadsConfig:
        return msgspec.structs.replace(
            config(), vrf=tuple(VrfConfig(name=name, table=table) for name, table in vrfs.items())
        ).workloads

    rig = KernelRig()
    rig.source.reconfigure(tables(blue=1001, red=1002))
    rig.add(route(table=1001))
    rig.add(route("10.64.1.8/32", table=1002))
    rig.add(route())
    for vrfs, expected in (
        ({"green": 1001, "red": 1002}, {("green", POD), ("red", "10.64.1.8/32")}),
        ({"green": 1002, "red": 1001}, {("red", POD), ("green", "10.64.1.8/32")}),
        ({"red": 1001}, {("red", POD)}),
        ({"red": 1009, "blue": 1001}, {("blue", POD)}),
    ):
        rig.source.reconfigure(tables(**vrfs))
        rig.settle()
        assert set(rig.announced) == {*expected, ("", POD)}
    rig.delete(route(table=1001))
    assert set(rig.announced) == {("", POD)}


@pytest.mark.parametrize(
    "ignored",
    [
        route(interface="eth0"),
        route(interface=""),
        route(protocol=197),
        route(table=99),
        route("0.0.0.0/0"),
        route("::/0"),
        route("fe80::/64"),
        route("169.254.1.1/32"),
        route("224.0.0.0/4"),
        route("ff00::/8"),
        route("127.0.0.5/32"),
        route("::1/128"),
        route(interface="eth0", gateway=b"\x0a\x00\x00\x01"),
    ],
    ids=lambda r: f"{r.interface or 'none'}-{r.key.hex()}-{r.table}-{r.protocol}",
)
def test_other_routes_are_no_workloads(ignored: KernelRoute) -> None:
    rig = KernelRig()
    rig.add(ignored)
    assert rig.told == []
    rig.delete(ignored)
    assert rig.told == []


def test_ipv6_and_networks_behind_a_workload_are_announced() -> None:
    rig = KernelRig()
    rig.add(route("2001:db8::9/128", metric=1024))
    rig.add(route("10.65.0.0/24", gateway=b"\x0a\x40\x01\x09"))
    assert set(rig.announced) == {("", "2001:db8::9/128"), ("", "10.65.0.0/24")}


def test_interface_down_withdraws_and_up_announces_what_is_still_there() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.add(route("2001:db8::9/128", metric=1024))
    rig.host.link(link(up=False))
    rig.settle()
    assert rig.announced == {}
    assert rig.state("kernel", POD) == ("pending", "interface pod1 is down")
    rig.delete(route())
    rig.host.link(link())
    rig.settle()
    assert set(rig.announced) == {("", "2001:db8::9/128")}


def test_interface_gone_withdraws_and_its_routes_go_when_the_monitor_says_so() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.host.link(link(), gone=True)
    rig.settle()
    assert rig.announced == {}
    assert rig.state("kernel", POD) == ("pending", "interface pod1 does not exist")
    rig.delete(route())
    assert list(rig.claims.views()) == []


def test_interface_renamed_and_renamed_back_is_announced_again() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.host.link(link("other"))
    rig.settle()
    assert rig.announced == {}
    rig.host.link(link())
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_interface_gone_with_thousands_of_routes_withdraws_them_at_once() -> None:
    rig = KernelRig()
    for i in range(1200):
        rig.source.event(RouteChanged(route(f"10.64.{i >> 8}.{i & 255}/32")))
    rig.settle()
    assert len(rig.announced) == 1200
    rig.host.link(link(), gone=True)
    rig.settle()
    assert rig.announced == {}


@pytest.mark.parametrize(
    "other",
    [
        route(interface="pod2"),
        route(tos=16),
        route(source=b"\x0a\0\0\1"),
        route(protocol=4),
        route("2001:db8::9/128", "pod2"),
    ],
    ids=["interface", "tos", "source", "protocol", "ipv6"],
)
def test_of_two_routes_of_one_prefix_and_metric_one_goes_and_nothing_is_told(other: KernelRoute) -> None:
    rig = KernelRig()
    rig.host.link(link("pod2", index=6))
    first = msgspec.structs.replace(other, interface="pod1", tos=0, source=b"", protocol=3)
    for gone, left in ((first, other), (other, first)):
        rig.add(gone)
        rig.add(left)
        rig.told.clear()
        rig.delete(gone)
        assert rig.told == []
        assert len(rig.announced) == 1
        rig.delete(left)
        assert rig.announced == {}


def test_make_before_break_between_two_interfaces_is_not_told() -> None:
    rig = KernelRig()
    rig.host.link(link("pod2", index=6))
    rig.add(route())
    rig.add(route(interface="pod2"))
    rig.told.clear()
    rig.host.link(link(up=False))
    rig.settle()
    rig.host.link(link(), gone=True)
    rig.settle()
    rig.delete(route())
    assert rig.told == []
    assert rig.state("kernel", POD) == ("announced", "")


def test_route_of_several_next_hops_is_a_workload_if_all_lead_to_matching_interfaces() -> None:
    rig = KernelRig()
    rig.host.link(link("pod2", index=6))
    rig.add(route(multipath=True))
    rig.add(route(interface="pod2", multipath=True))
    assert rig.announced == {("", POD): PLAIN}
    rig.add(route(interface="eth0", multipath=True))
    assert rig.announced == {}
    rig.delete(route(interface="eth0", multipath=True))
    rig.host.link(link(up=False))
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_repeated_event_counts_once() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.add(route())
    rig.delete(route())
    assert rig.announced == {}


def test_burst_is_taken_in_slices_and_in_order() -> None:
    rig = KernelRig()
    for i in range(1200):
        rig.source.event(RouteChanged(route(f"10.64.{i >> 8}.{i & 255}/32")))
    rig.source.event(RouteChanged(route("10.64.0.0/32"), gone=True))
    rig.source.replayed()
    assert len(list(rig.claims.views())) <= SLICE
    rig.settle()
    assert (len(rig.announced), rig.synchronised) == (1199, 1)


def test_what_is_gathered_waits_for_the_end_of_the_burst_and_what_follows_waits_behind_it() -> None:
    rig = KernelRig()
    rig.source.gather(RouteChanged(route()))
    rig.source.event(RouteChanged(route(), gone=True))
    rig.source.gather(RouteChanged(route("10.64.1.6/32")))
    assert rig.scheduled == 0
    rig.source.drain()
    rig.settle()
    assert set(rig.announced) == {("", "10.64.1.6/32")}


@pytest.mark.parametrize("seed", range(12))
def test_a_burst_that_is_gathered_comes_to_the_same_as_its_events_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    names = ["pod1", "pod2", "cali1", "eth0"]
    taken, gathered = rigs = (KernelRig(), KernelRig())
    for rig in rigs:
        for name in names:
            rig.link(name)
    prefixes = (POD, "10.64.1.8/31")
    known = [route(prefix, name, table=at, metric=by) for prefix in prefixes for name in names for at, by in PLACES]
    for _ in range(10):
        for _ in range(chance.choice((1, 4, 12, SLICE + 50))):
            if chance.random() < 0.15:
                name, is_up, is_gone = chance.choice(names), chance.random() < 0.6, chance.random() < 0.2
                for rig in rigs:
                    rig.link(name, up=is_up, gone=is_gone)
            else:
                event = RouteChanged(chance.choice(known), gone=chance.random() < 0.4)
                taken.source.event(event)
                gathered.source.gather(event)
        gathered.table.settle_after(gathered.source.drain, lambda: gathered.now)
        for rig in rigs:
            rig.settle()
        assert (taken.announced, taken.kernel) == (gathered.announced, gathered.kernel)
        views = [
            [(one.prefix, one.vrf, one.interface, one.state, one.reason) for one in rig.claims.views()] for rig in rigs
        ]
        assert views[0] == views[1]


def test_what_a_source_says_is_settled_at_once_and_needs_no_further_turn() -> None:
    rig = KernelRig()
    rig.source.gather(RouteChanged(route()))
    assert rig.table.settle_after(rig.source.drain, lambda: rig.now)
    assert set(rig.announced) == {("", POD)}
    assert rig.scheduled == rig.drains == 0
    assert not rig.table.settle_after(rig.source.drain, lambda: rig.now)
    rig.delete(route())
    assert not rig.announced


def test_first_state_that_a_burst_completes_is_acted_on_though_nothing_of_it_is_claimed() -> None:
    rig = KernelRig()
    for number in range(SLICE + 1):
        rig.source.event(RouteChanged(route(f"10.{number // 256}.{number % 256}.0/24", "eth0")))
    rig.source.replayed()
    assert rig.synchronised == 0
    assert not rig.table.settle_after(rig.source.drain, lambda: rig.now)
    Rig.settle(rig)
    assert rig.synchronised == 1


def test_other_globs_are_judged_at_once() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.source.reconfigure(config(globs=("cali*",)).workloads)
    rig.settle()
    assert rig.announced == {}
    rig.source.reconfigure(config(globs=("p*",)).workloads)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_routes_of_a_removed_vrf_are_no_workloads_any_more() -> None:
    rig = KernelRig()
    rig.add(route(table=1001))
    assert rig.announced == {("blue", POD): PLAIN}
    rig.source.reconfigure(config(globs=("p*",), vrfs=False).workloads)
    rig.settle()
    assert rig.announced == {}


def test_route_moved_to_another_interface_stays_announced() -> None:
    rig = KernelRig()
    rig.host.link(link("pod2", index=6))
    rig.add(route())
    rig.told.clear()
    rig.add(route(interface="pod2"))
    rig.delete(route())
    assert rig.told == []
    assert rig.state("kernel", POD) == ("announced", "")
    rig.host.link(link(), gone=True)
    rig.settle()
    assert rig.announced


def test_lowest_metric_is_the_route_that_counts() -> None:
    rig = KernelRig()
    rig.add(route(metric=100))
    rig.add(route(interface="eth0", metric=50))
    assert rig.announced == {}
    rig.delete(route(interface="eth0", metric=50))
    assert rig.announced == {("", POD): PLAIN}


IPV6_POD = "2001:db8::9/128"
BLACKHOLE, UNREACHABLE = b"\x06", b"\x07"
UPLINK = b"\x0a\x00\x00\x01"


@pytest.mark.parametrize(
    "other",
    [
        route(interface="", details=BLACKHOLE),
        route(interface="eth0", gateway=UPLINK),
        route(IPV6_POD, "lo", details=UNREACHABLE),
        route(IPV6_POD, "pod1", details=UNREACHABLE),
        route(IPV6_POD, "eth0", gateway=bytes(16)),
    ],
    ids=["blackhole", "by a gateway", "unreachable", "unreachable by a workload's interface", "IPv6 by a gateway"],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_route_that_the_kernel_prefers_and_leads_elsewhere_is_no_workload(other: KernelRoute, is_first: bool) -> None:
    rig = KernelRig()
    place = format_key(other.family, other.key)
    mine = route(place, metric=100)
    for one in (other, mine) if is_first else (mine, other):
        rig.routes.changed((one,))
        rig.settle()
    assert rig.announced == {}
    rig.routes.changed((other,), gone=True)
    rig.settle()
    assert rig.announced == {("", place): PLAIN}
    rig.routes.changed((msgspec.structs.replace(other, metric=200),))
    rig.settle()
    assert rig.announced == {("", place): PLAIN}
    rig.routes.changed((mine,), gone=True)
    rig.settle()
    assert rig.announced == {}


def test_blackhole_of_one_metric_counts_as_the_kernel_has_them_in_order() -> None:
    rig = KernelRig()
    drop = route(interface="", details=BLACKHOLE)
    rig.routes.changed((route(),))
    rig.routes.changed((drop,), appends=True)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}
    rig.routes.changed((drop,), gone=True)
    rig.routes.changed((drop,))
    rig.settle()
    assert rig.announced == {}


def test_next_hop_by_a_gateway_elsewhere_is_one_of_several() -> None:
    rig = KernelRig()
    rig.routes.changed((route(multipath=True), route(interface="eth0", gateway=UPLINK, multipath=True)))
    rig.settle()
    assert rig.announced == {}


@pytest.mark.parametrize("other", [route(interface="", details=BLACKHOLE), route(interface="eth0", gateway=UPLINK)])
@pytest.mark.parametrize("is_first", [True, False])
def test_workload_that_rests_on_a_network_is_none_while_its_own_prefix_leads_elsewhere(
    other: KernelRoute, is_first: bool
) -> None:
    rig = KernelRig()
    rig.routes.changed((route("10.64.1.0/24", "eth1"),))
    resting = msgspec.structs.replace(claim(POD, "", managed=False), needs_route=True)
    if is_first:
        rig.routes.changed((other,))
    rig.claims.claim("mqtt", "a", (resting,))
    if not is_first:
        rig.settle()
        assert rig.announced == {("", POD): PLAIN}
        rig.routes.changed((other,))
    rig.settle()
    assert rig.announced == {}
    assert rig.state("mqtt", "a") == ("pending", "no route on an interface of this host leads to it")
    rig.routes.changed((other,), gone=True)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_managed_claim_leaves_another_programs_route_alone() -> None:
    rig = KernelRig()
    rig.add(route())
    rig.claims.claim("mqtt", "a", (claim(POD),))
    rig.settle()
    assert rig.kernel == {}
    assert rig.state("mqtt", "a") == ("announced", "")
    rig.delete(route())
    assert rig.kernel == {("", POD): on("pod1")}
    assert rig.announced == {("", POD): PLAIN}


def test_route_whose_family_differs_only_is_another() -> None:
    rig = KernelRig()
    rig.add(route("10.64.1.9/32"))
    rig.add(route("a40:109::/32"))
    assert len(rig.announced) == 2
    assert {view.prefix for view in rig.claims.views()} == {"10.64.1.9/32", "a40:109::/32"}
    assert Family.IPV6_UNICAST in {held.claim.family for held in rig.states}


def test_ipv6_routes_with_gateways_are_siblings_and_one_without_is_another_route() -> None:
    """fib6_add_rt2node: of equal metric, those with a gateway are next hops of one route; another stands beside."""
    gateway = bytes.fromhex("fe800000000000000000000000000001")
    prefix = "2001:db8:64::/64"
    rig = KernelRig()
    rig.host.link(link("cali1", index=6))
    rig.source.event(RouteChanged(route(prefix, "pod1", metric=1024, gateway=gateway), False))
    rig.source.event(RouteChanged(route(prefix, "eth0", metric=1024), False))
    rig.settle()
    assert set(rig.announced) == {("", prefix)}, "the first that leads somewhere; the route of eth0 is not its sibling"
    rig.source.event(RouteChanged(route(prefix, "cali1", metric=1024, gateway=gateway), False))
    rig.settle()
    assert set(rig.announced) == {("", prefix)}
    rig.source.event(RouteChanged(route(prefix, "pod1", metric=1024, gateway=gateway), True))
    rig.source.event(RouteChanged(route(prefix, "cali1", metric=1024, gateway=gateway), True))
    rig.settle()
    assert rig.announced == {}


def test_route_without_an_interface_is_no_workload() -> None:
    rig = KernelRig()
    rig.source.event(RouteChanged(route(interface=""), False))
    rig.settle()
    assert rig.announced == {}
    assert rig.claims.claimed("kernel") == []
