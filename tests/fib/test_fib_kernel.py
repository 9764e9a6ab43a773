"""The Fib against the real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bgpd.config.schema import FibConfig
from bgpd.fib import views as fib_views
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.table import Fib
from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelRoute, LinkChanged, RouteChanged
from bgpd.model.next_hop import BLACKHOLE, NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.harness import ScriptedOwner
from tests.own_network import ip, own_network
from tests.waiting import until, wait_for_links

pytestmark = pytest.mark.netns

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
LEAF1, LEAF2 = NextHop(parse_address("10.0.0.0")), NextHop(parse_address("10.0.1.0"))
LEAF1_V6, LEAF2_V6 = NextHop(parse_address("fe80::1"), "eth0"), NextHop(parse_address("fe80::2"), "eth1")
BOTH, BOTH_V6 = (LEAF1, LEAF2), (LEAF1_V6, LEAF2_V6)
METRIC = FibConfig().metric


def ours(family: str = "-4") -> list[str]:
    return sorted(line.strip() for line in ip(f"{family} route show proto 217").splitlines())


def way_to(address: str) -> str:
    """What the kernel says; "" if there is no route."""
    with suppress(subprocess.CalledProcessError):
        return ip(f"route get {address}")
    return ""


def disable_ipv6(interface: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text(value)


@pytest.fixture
def host() -> Iterator[None]:
    """A namespace with two uplinks."""
    with own_network():
        for index in (0, 1):
            ip(f"link add eth{index} type veth peer name leaf{index}")
            ip(f"link set leaf{index} up")
            ip(f"link set eth{index} up")
            ip(f"addr add 10.0.{index}.1/31 dev eth{index}")
        wait_for_links()
        yield


class Host:
    """A Fib, its owner and its monitor."""

    def __init__(self, **config: object) -> None:
        self.owner = ScriptedOwner()
        self.wishes = self.owner.tables[""]
        self.events: list[KernelEvent] = []
        self.monitor = KernelMonitor()
        self.dataplane = Dataplane(self.monitor)
        self.fib = Fib(FibConfig(**config), dataplane=self.dataplane, owner=self.owner)

    @property
    def acknowledged(self) -> set[bytes]:
        return {key for _family, key in self.owner.acks}

    @property
    def refused(self) -> dict[bytes, str]:
        return {key: why for _family, key, why in self.owner.refusals}

    @property
    def told(self) -> list[tuple[NextHop, str]]:
        return self.owner.told

    def want(self, changes: dict[str, NextHops | None]) -> None:
        for prefix, wish in changes.items():
            family, key = parse_prefix(prefix)
            self.owner.wish("", family, {key: wish})
            self.fib.writer.update(family, {key: wish})


@asynccontextmanager
async def running(**config: object) -> AsyncIterator[Host]:
    host = Host(**config)
    await host.monitor.start()
    host.monitor.subscribe(host.events.append)
    await host.fib.start()
    try:
        yield host
    finally:
        await host.fib.stop()
        await host.monitor.stop()


async def test_routes_of_both_families_go_by_groups(host: None) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH, "10.65.0.1/32": BOTH_V6, "2001:db8:7::/48": BOTH_V6, "::/0": (LEAF1_V6,)})
        it.want({"10.66.0.0/16": BLACKHOLE, "10.67.0.1/32": (NextHop(b"", "eth1"),)})
        await it.fib.writer.idle()
        assert len(ours()) == 4
        assert len(ours("-6")) == 2
        assert "group" in ip("nexthop show")
        assert f"blackhole 10.66.0.0/16 metric {METRIC}" in ours()
        assert f"10.67.0.1 dev eth1 scope link metric {METRIC}" in ours()
        assert not it.fib.counters.failed
        it.want({"10.64.0.0/16": None, "2001:db8:7::/48": None, "10.66.0.0/16": None, "10.67.0.1/32": None})
        await it.fib.writer.idle()
        assert len(ours()) == len(ours("-6")) == 1


async def test_lost_leaf_moves_ten_thousand_routes_with_one_message(host: None) -> None:
    async with running() as it:
        keys = [b"\x20\x0a\x40" + number.to_bytes(2, "big") for number in range(10000)]
        it.fib.writer.update(V4, dict.fromkeys(keys, BOTH))
        await it.fib.writer.idle()
        assert len(ours()) == 10000
        sent = it.dataplane.messages
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        it.fib.writer.update(V4, dict.fromkeys(keys, (LEAF2,)))
        await it.fib.writer.idle()
        await until(lambda: it.dataplane.idle)
        assert it.dataplane.messages == sent + 1
        assert "via 10.0.1.0 dev eth1" in ip("route get 10.64.3.7")
        assert len(ours()) == 10000


async def test_restart_adopts_and_deletes_only_what_nobody_wants(host: None) -> None:
    async with running() as before:
        before.want({"10.64.0.0/16": BOTH, "10.65.0.0/16": (LEAF1,), "2001:db8:7::/48": BOTH_V6})
        await before.fib.writer.idle()
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH, "2001:db8:7::/48": BOTH_V6})
        await it.fib.writer.idle()
        assert it.fib.counters.messages == 0
        assert len(it.acknowledged) == 2
        it.fib.sweep()
        await it.fib.writer.idle()
        assert len(ours()) == len(ours("-6")) == 1
        assert it.fib.counters.messages == 1


async def test_route_deleted_or_changed_by_another_program_is_repaired(host: None) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH, "10.65.0.0/16": BOTH})
        await it.fib.writer.idle()
        before = ours()
        ip("route del 10.64.0.0/16 proto 217")
        await until(lambda: ours() == before)
        ip(f"route replace 10.65.0.0/16 via 10.0.0.0 proto 217 metric {METRIC}")
        await until(lambda: ours() == before)


async def test_flushed_nexthops_are_made_again(host: None) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH, "2001:db8:7::/48": BOTH_V6})
        await it.fib.writer.idle()
        ip("nexthop flush")
        await until(lambda: len(ours()) == len(ours("-6")) == 1)


@pytest.mark.parametrize("protocol", ["", "proto 217"])
async def test_nexthop_objects_that_another_program_replaces_are_set_right(host: None, protocol: str) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": (LEAF1,), "10.65.0.0/16": (LEAF2,)})
        await it.fib.writer.idle()
        gateway = next(one for one in it.dataplane.objects.nexthops.values() if one.hop == LEAF1)
        ip(f"nexthop replace id {gateway.id} via 10.0.1.0 dev eth1 {protocol}")
        await until(lambda: "via 10.0.0.0 dev eth0" in ip("route get 10.64.3.7"))
        objects = it.dataplane.objects
        by_hops = {objects.next_hops(identifier): group for identifier, group in objects.groups.items()}
        group, other = by_hops[LEAF1,], by_hops[LEAF2,]
        ip(f"nexthop replace id {group.id} group {other.members[0][0]} {protocol}")
        await until(lambda: "via 10.0.0.0 dev eth0" in ip("route get 10.64.3.7"))


async def test_routes_follow_a_next_hop_to_another_interface(host: None) -> None:
    ip("addr add 10.9.0.1/24 dev eth0")
    ip("addr add 10.9.0.2/24 dev eth1")
    async with running() as it:
        it.want({"10.64.0.0/16": (NextHop(parse_address("10.9.0.9")),)})
        await it.fib.writer.idle()
        assert "via 10.9.0.9 dev eth0" in ip("route get 10.64.3.7")
        ip("addr del 10.9.0.1/24 dev eth0")
        await until(lambda: "via 10.9.0.9 dev eth1" in ip("route get 10.64.3.7"))
        ip("addr add 10.9.0.8/30 dev eth0")
        await until(lambda: "via 10.9.0.9 dev eth0" in ip("route get 10.64.3.7"))
        ip("link set eth0 down")
        await until(lambda: "via 10.9.0.9 dev eth1" in way_to("10.64.3.7"))


async def test_ipv6_route_that_drops_makes_no_next_hop_reachable(host: None) -> None:
    for letter, kind in zip("bcd", ("blackhole", "unreachable", "prohibit")):
        ip(f"-6 route add {kind} 2001:db8:{letter}::/48")
    async with running() as it:
        for letter in "bcd":
            assert "unreachable" in it.fib.targets.ask(NextHop(parse_address(f"2001:db8:{letter}::1")))


async def test_a_broadcast_address_as_a_next_hop_costs_no_route_that_has_another(host: None) -> None:
    ip("addr add 10.9.0.2/24 dev eth1")
    async with running() as it:
        broadcast = NextHop(parse_address("10.9.0.255"))
        assert it.fib.targets.ask(broadcast) == ""
        it.want({"10.64.0.0/16": (LEAF1, broadcast)})
        await until(lambda: "via 10.0.0.0 dev eth0" in way_to("10.64.3.7"))
        assert "invalid gateway" in it.fib.targets.ask(broadcast)
        ip("addr del 10.9.0.2/24 dev eth1")
        ip("addr add 10.9.0.2/16 dev eth1")
        await until(lambda: it.fib.targets.ask(broadcast) == "")


async def test_foreign_routes_are_never_touched(host: None) -> None:
    ip("route add default via 10.0.0.0 metric 100")
    ip(f"route add 10.70.0.0/16 via 10.0.0.0 metric {METRIC} proto static")
    async with running() as it:
        before = ip("route show")
        it.want({"0.0.0.0/0": (LEAF2,), "10.70.0.0/16": (LEAF2,), "10.0.0.0/31": (LEAF2,)})
        await it.fib.writer.idle()
        assert ip("route show") == before
        assert it.fib.counters.blocked == 3
        ip("route del default")
        await until(lambda: len(ours()) == 1)
        ip("route add default via 10.0.0.0 metric 100")
        await until(lambda: not ours())
        await it.fib.withdraw_all()
    assert len(ip("route show").splitlines()) == len(before.splitlines())


async def test_link_down_and_up_restores_all_routes(host: None) -> None:
    async with running() as it:
        assert it.fib.targets.ask(LEAF1) == ""
        it.want({"10.64.0.0/16": BOTH, "10.65.0.0/16": (LEAF1,), "2001:db8:7::/48": BOTH_V6})
        it.want({"10.67.0.1/32": (NextHop(b"", "eth0"),)})
        await it.fib.writer.idle()
        before = [line for family in ("-4", "-6") for line in ours(family)]
        ip("link set eth0 down")
        await until(lambda: it.told)
        assert it.told[0] == (LEAF1, "next hop 10.0.0.0 is unreachable: interface eth0 is down")
        assert "via 10.0.1.0" in ip("route get 10.64.0.1")
        ip("link set eth0 up")
        await until(lambda: len([*ours(), *ours("-6")]) == len(before) and (LEAF1, "") in it.told)
        await until(lambda: ip("nexthop show").count("via 10.0.0.0") == 1)
        assert not it.fib.counters.failed


async def test_carrier_loss_is_a_link_that_is_down(host: None) -> None:
    async with running() as it:
        it.fib.targets.ask(LEAF1)
        it.want({"10.64.0.0/16": BOTH})
        await it.fib.writer.idle()
        ip("link set leaf0 down")
        await until(lambda: it.told)
        assert "via 10.0.1.0" in ip("route get 10.64.0.1")
        ip("link set leaf0 up")
        await until(lambda: it.told[-1] == (LEAF1, ""))
        await until(lambda: "via 10.0.0.0" in ip("nexthop show"))


async def test_removed_interface_loses_its_next_hop_for_good(host: None) -> None:
    async with running() as it:
        it.fib.targets.ask(LEAF1)
        it.want({"10.64.0.0/16": BOTH})
        await it.fib.writer.idle()
        ip("link del eth0")
        gone = "next hop 10.0.0.0 is unreachable: no connected prefix contains it"
        await until(lambda: (LEAF1, gone) in it.told)


async def test_refused_route_is_shown_with_the_kernel_s_words_and_tried_again(host: None) -> None:
    pod = "2001:db8:9::5/128"
    disable_ipv6("eth0", "1")
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH, pod: (NextHop(b"", "eth0"),)})
        await it.fib.writer.idle()
        states = {view.prefix: (view.state, view.error) for view in filter(None, fib_views.routes(it.fib))}
        words = "Permission denied: IPv6 is disabled on nexthop device"
        assert states["10.64.0.0/16"] == ("installed", "")
        assert states[pod] == ("failed", words)
        assert it.refused == {parse_prefix(pod)[1]: words}
        assert parse_prefix(pod)[1] not in it.acknowledged
        disable_ipv6("eth0", "0")
        await until(lambda: len(ours("-6")) == 1)
        await until(lambda: parse_prefix(pod)[1] in it.acknowledged)
        assert not it.fib.counters.failed


async def test_unreachable_next_hop_is_refused_with_the_reason(host: None) -> None:
    async with running() as it:
        it.want({"10.65.0.1/32": (NextHop(parse_address("2001:db8::5"), "eth0"),)})
        await it.fib.writer.idle()
        states = {view.prefix: (view.state, view.error) for view in filter(None, fib_views.routes(it.fib))}
        assert states["10.65.0.1/32"][0] == "blocked"
        assert "unreachable" in states["10.65.0.1/32"][1]
        assert it.refused == {parse_prefix("10.65.0.1/32")[1]: states["10.65.0.1/32"][1]}


async def test_peer_to_peer_address_makes_its_peer_a_neighbour(host: None) -> None:
    ip("addr add 10.9.0.1 peer 10.9.0.2/32 dev eth0")
    async with running() as it:
        assert it.fib.targets.ask(NextHop(parse_address("10.9.0.2"))) == ""
        assert it.fib.targets.ask(NextHop(parse_address("10.9.0.3"))) != ""
        assert "own address" in it.fib.targets.ask(NextHop(parse_address("10.9.0.1")))


async def test_lookup_names_the_group_s_live_members(host: None) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH})
        await it.fib.writer.idle()
        found = await fib_views.lookup(it.fib, parse_address("10.64.1.1"))
        assert found is not None
        assert (found.prefix, found.ours, found.metric, found.table) == ("10.64.0.0/16", True, METRIC, 254)
        assert [(hop.address, hop.interface, hop.live) for hop in found.next_hops] == [
            ("10.0.0.0", "eth0", True),
            ("10.0.1.0", "eth1", True),
        ]
        assert await fib_views.lookup(it.fib, parse_address("10.99.1.1")) is None
        connected = await fib_views.lookup(it.fib, parse_address("10.0.0.0"))
        assert connected is not None
        assert (connected.prefix, connected.protocol, connected.ours) == ("10.0.0.0/31", "kernel", False)


async def test_monitor_tells_links_and_routes_of_others_but_not_own_writes(host: None) -> None:
    async with running() as it:
        it.want({"10.64.0.0/16": BOTH})
        await it.fib.writer.idle()
        ip("link add pod1 type veth peer name inside")
        ip("link set pod1 up")
        ip("link set inside up")
        ip("route add 10.80.0.5/32 dev pod1")
        pod = b"\x20\x0a\x50\x00\x05"

        def routes(*, gone: bool) -> list[KernelRoute]:
            return [event.route for event in it.events if isinstance(event, RouteChanged) and event.gone is gone]

        await until(lambda: (pod, "pod1") in [(route.key, route.interface) for route in routes(gone=False)])
        assert all(route.protocol != 217 for route in routes(gone=False))
        assert any(isinstance(event, LinkChanged) and event.link.name == "pod1" for event in it.events)
        ip("link set pod1 down")
        await until(lambda: pod in [route.key for route in routes(gone=True)])


async def test_overflowing_events_end_in_the_present_state(host: None, tmp_path: Path) -> None:
    batch_file = tmp_path / "routes"
    async with running() as it:
        await it.fib.writer.idle()
        it.monitor._socket.setsockopt(1, 33, 4096)
        it.monitor._loop.remove_reader(it.monitor._socket.fileno())
        batch = "".join(f"route add 10.90.{index >> 8}.{index & 255}/32 dev eth0\n" for index in range(600))
        batch_file.write_text(batch)
        ip(f"-batch {batch_file}")
        it.monitor._loop.add_reader(it.monitor._socket.fileno(), it.monitor._readable)
        await until(lambda: sum(key[2][:3] == b"\x20\x0a\x5a" for key in it.monitor.routes.routes) == 600)
        assert it.monitor.resynchronised == 1


async def test_table_of_its_own_for_a_second_fib_on_one_dataplane(host: None) -> None:
    async with running() as it:
        wishes = {parse_prefix("10.64.0.0/16")[1]: BOTH}
        owner = ScriptedOwner()
        owner.wish("", V4, wishes)
        blue = Fib(FibConfig(table=1001), dataplane=it.dataplane, owner=owner)
        await blue.start()
        it.want({"10.64.0.0/16": BOTH})
        blue.writer.update(V4, wishes)
        await blue.writer.idle()
        await it.fib.writer.idle()
        assert len(ours()) == 1
        assert "10.64.0.0/16" in ip("route show table 1001")
        assert ip("nexthop show").count("group") == 1
        await blue.stop()
        it.want({"10.65.0.0/16": BOTH})
        await it.fib.writer.idle()
        assert len(ours()) == 2


def buckets() -> dict[str, str]:
    """Bucket -> gateway object, of the one resilient group that there is."""
    lines = [line.split() for line in ip("nexthop bucket show").splitlines()]
    return {fields[3]: fields[fields.index("nhid") + 1] for fields in lines}


async def test_service_keeps_the_flows_of_backends_that_stay(host: None) -> None:
    address = b"\x20\x0a\x32\x00\x01"
    pods = [
        NextHop(parse_address(f"10.64.1.{number}"), f"eth{number % 2}", weight)
        for number, weight in ((1, 2), (2, 1), (3, 1))
    ]
    async with running() as it:
        for pod in pods:
            it.want({f"10.64.1.{pod.address[3]}/32": (NextHop(b"", pod.interface),)})
        it.wishes[V4, address] = it.fib.update_service(V4, address, tuple(pods), resilient=True)
        await it.fib.writer.idle()
        before = buckets()
        assert len(before) == 512
        assert sorted(list(before.values()).count(single) for single in set(before.values())) == [128, 128, 256]
        sent = it.dataplane.messages
        it.fib.update_service(V4, address, tuple(pods[:2]), resilient=True)
        await it.fib.writer.idle()
        await until(lambda: it.dataplane.idle)
        assert it.dataplane.messages == sent + 1
        after = buckets()
        assert len(set(after.values())) == 2
        assert all(after[bucket] == single for bucket, single in before.items() if single in after.values())
        view = next(view for view in filter(None, fib_views.routes(it.fib, V4)) if view.prefix == "10.50.0.1/32")
        assert view.resilient
        assert [(hop.address, hop.weight) for hop in view.next_hops] == [("10.64.1.1", 2), ("10.64.1.2", 1)]
        it.want({"10.50.0.1/32": None})
        await it.fib.writer.idle()
        assert "10.50.0.1" not in " ".join(ours())


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
async def test_foreign_route_that_drops_is_named_by_a_look_up(host: None, kind: str) -> None:
    async with running() as it:
        dropping = {parse_prefix("10.77.0.0/24")[1], parse_prefix("2001:db8:77::/48")[1]}
        ip(f"route add {kind} 10.77.0.0/24 metric 50")
        ip(f"-6 route add {kind} 2001:db8:77::/48 metric 50")
        await until(lambda: dropping <= {place[2] for place in it.monitor.routes.routes})
        for address, prefix in (("10.77.0.9", "10.77.0.0/24"), ("2001:db8:77::9", "2001:db8:77::/48")):
            view = await fib_views.lookup(it.fib, parse_address(address))
            assert view is not None
            assert (view.prefix, view.ours, view.metric) == (prefix, False, 50)
            assert f"{kind} route" in view.error
        assert await fib_views.lookup(it.fib, parse_address("10.78.0.9")) is None
