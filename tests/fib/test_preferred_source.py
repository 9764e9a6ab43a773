"""[fib] preferred_source against the real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bgpd.config.schema import FibConfig
from bgpd.fib import views as fib_views
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.group_sources import MIXED, by_known_sources
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.fib.table import Fib
from bgpd.kernel.monitor import KernelMonitor
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import UNKNOWN
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.harness import ScriptedOwner
from tests.own_network import ip, own_network
from tests.waiting import until, wait_for_links

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
LEAF1, LEAF2 = NextHop(parse_address("fe80::1"), "eth0"), NextHop(parse_address("fe80::2"), "eth1")
BOTH = (LEAF1, LEAF2)
ROUTES = {"10.64.0.0/16": BOTH, "10.65.0.1/32": (LEAF1,), "2001:db8:7::/48": BOTH, "2001:db8:8::/48": (LEAF1,)}


def ours() -> dict[str, str]:
    """Prefix -> preferred source ("" if none) of bgpd's routes; of several routes of a prefix all of theirs."""
    found: dict[str, str] = {}
    for family in ("-4", "-6"):
        for line in ip(f"{family} route show proto 217").splitlines():
            words = line.split()
            if line[0].isspace():
                continue
            source = words[words.index("src") + 1] if "src" in words else ""
            found[words[0]] = f"{found[words[0]]}, {source}" if words[0] in found else source
    return found


def named(ipv4: str, ipv6: str) -> dict[str, str]:
    return {prefix.removesuffix("/32"): ipv6 if ":" in prefix else ipv4 for prefix in ROUTES}


@pytest.fixture
def host() -> Iterator[None]:
    """A namespace with two uplinks without addresses, and a loopback."""
    with own_network():
        for index in (0, 1):
            ip(f"link add eth{index} type veth peer name leaf{index}")
            ip(f"link set leaf{index} up")
            ip(f"link set eth{index} up")
        ip("addr add 10.255.1.1/32 dev lo")
        ip("addr add fd00::1/128 dev lo")
        wait_for_links()
        yield


class Host:
    """A Fib, its owner and its monitor."""

    def __init__(self, **config: object) -> None:
        self.owner = ScriptedOwner()
        self.monitor = KernelMonitor()
        self.dataplane = Dataplane(self.monitor)
        self.fib = Fib(FibConfig(**config), dataplane=self.dataplane, owner=self.owner)

    def want(self, changes: dict[str, NextHops | None]) -> None:
        for prefix, wish in changes.items():
            family, key = parse_prefix(prefix)
            self.owner.wish("", family, {key: wish})
            self.fib.writer.update_learned(family, {key: wish})

    async def routes_are(self, expected: dict[str, str]) -> None:
        await until(lambda: self.fib.writer.is_idle and ours() == expected)

    def differing(self) -> list[bytes]:
        return [
            key
            for family, table in self.fib.families.items()
            for key in self.fib.differing(family, list(table.installed))
        ]


@asynccontextmanager
async def running(**config: object) -> AsyncIterator[Host]:
    host = Host(**config)
    await host.monitor.start()
    await host.fib.start()
    try:
        yield host
    finally:
        await host.fib.stop()
        await host.monitor.stop()


@pytest.mark.netns
async def test_learned_routes_of_both_families_name_the_loopback(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        it.want({"10.67.0.1/32": (NextHop(b"", "eth1"),)})
        await it.fib.writer.idle()
        assert ours() == {**named("10.255.1.1", "fd00::1"), "10.67.0.1": ""}, "a workload's own route has none"
        assert "src 10.255.1.1" in ip("route get 10.64.0.9")
        assert "src fd00::1" in ip("-6 route get 2001:db8:7::9")
        assert it.fib.source.warnings() == []
        assert it.differing() == []
        family, key = parse_prefix("10.64.0.0/16")
        view = fib_views.route(it.fib, family, key)
        assert view is not None
        assert view.source == "10.255.1.1"
        before = it.fib.counters.messages
        it.fib.upkeep.reconcile()
        await asyncio.sleep(0.3)
        assert it.fib.counters.messages == before, "what is right is not written again"


@pytest.mark.netns
async def test_the_prefixes_of_loopbacks_choose_among_the_addresses_of_lo(host: None) -> None:
    ip("addr add 10.100.0.53/32 dev lo")
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.100.0.53", "fd00::1"))
        it.monitor.host.loopbacks = [parse_prefix("10.255.0.0/16")]
        it.fib.source.configure("loopback")
        await it.routes_are(named("10.255.1.1", "fd00::1"))


@pytest.mark.netns
async def test_routes_that_went_with_the_address_are_written_without_and_again_with_it(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        ip("addr del 10.255.1.1/32 dev lo")
        await it.routes_are(named("", "fd00::1"))
        assert "IPv4 routes name no source: this host has no IPv4 loopback" in it.fib.source.warnings()[0]
        ip("addr del fd00::1/128 dev lo")
        await it.routes_are(named("", ""))
        assert it.differing() == []
        ip("addr add 10.255.1.1/32 dev lo")
        ip("addr add fd00::1/128 dev lo")
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        assert it.fib.source.warnings() == []
        assert it.fib.counters.failed == 0
        assert it.owner.refusals == []


@pytest.mark.netns
async def test_an_address_that_comes_and_goes_between_two_turns_leaves_all_routes(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        for _ in range(5):
            for address in ("10.255.1.1/32", "fd00::1/128"):
                ip(f"addr del {address} dev lo")
                ip(f"addr add {address} dev lo")
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        for _ in range(4):
            ip("addr del 10.255.1.1/32 dev lo")
            await asyncio.sleep(0)
            ip("addr add 10.255.1.1/32 dev lo")
            await asyncio.sleep(0)
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        assert it.differing() == []


@pytest.mark.netns
async def test_a_next_hop_that_is_lost_is_one_message_for_both_families(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(dict.fromkeys(ROUTES, BOTH))
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        before = it.fib.counters.messages
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        await it.fib.writer.idle()
        assert it.dataplane.objects.deletes == 1
        assert it.fib.counters.messages == before, "no route is written"
        assert ours() == named("10.255.1.1", "fd00::1")
        assert "dev eth1" in ip("route get 10.64.0.9")


@pytest.mark.netns
async def test_an_explicit_address_that_is_missing_costs_no_route(host: None) -> None:
    async with running(preferred_source=["10.9.9.9", "fd00::1"]) as it:
        it.want(ROUTES)
        await it.routes_are(named("", "fd00::1"))
        assert it.fib.source.warnings() == [
            "fib.preferred_source: IPv4 routes name no source: 10.9.9.9 is no address of this host in the main table"
        ]
        assert it.owner.refusals == []
        ip("addr add 10.9.9.9/24 dev eth0")
        await it.routes_are(named("10.9.9.9", "fd00::1"))
        it.fib.source.configure("")
        await it.routes_are(named("", ""))
        it.fib.source.configure("loopback")
        await it.routes_are(named("10.255.1.1", "fd00::1"))


@pytest.mark.netns
async def test_what_the_kernel_refuses_for_its_source_is_written_without(
    host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address went, and the word on it is not here yet."""
    async with running(preferred_source="10.9.9.9") as it:
        refused = it.fib.source._refused
        monkeypatch.setattr(it.fib.source, "_problem", lambda family, address: refused.get(family, ("", ""))[1])
        it.fib.source.follow()
        it.want(ROUTES)
        await it.routes_are(named("", ""))
        assert "Invalid prefsrc address" in it.fib.source.warnings()[0]


@pytest.mark.netns
async def test_the_next_start_adopts_sources_and_moves_what_names_another(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        groups = set(it.dataplane.objects.groups)
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.fib.writer.idle()
        it.fib.sweep()
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        assert it.fib.counters.messages == 0, "nothing is written that is there"
        assert set(it.dataplane.objects.groups) == groups
    async with running() as it:
        it.want(ROUTES)
        await it.routes_are(named("", ""))
        it.fib.sweep()
        await it.routes_are(named("", ""))
        assert it.differing() == []


@pytest.mark.netns
async def test_a_source_that_another_hand_changed_is_set_right(host: None) -> None:
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.255.1.1", "fd00::1"))
        ip("addr add 10.255.1.2/32 dev lo")
        ip("addr add fd00::2/128 dev lo nodad")
        for prefix, other in (("10.64.0.0/16", "10.255.1.2"), ("2001:db8:7::/48", "fd00::2")):
            family, key = parse_prefix(prefix)
            group = it.fib.families[family].installed[key]
            ip(f"route replace {prefix} nhid {group} src {other} metric 17 proto 217")
        await it.routes_are(named("10.255.1.1", "fd00::1"))


def test_a_run_with_other_sources_than_those_of_its_groups_is_unknown() -> None:
    run = RouteRun(V4, 254, 217, 1, (b"\1", b"\2", b"\3"), (7, 8, -3), (17, 17, 17))
    assert by_known_sources(run, {}) is run
    assert by_known_sources(run, {9: b"abcd"}) is run
    assert by_known_sources(run, {7: MIXED}) is run
    assert by_known_sources(run, {7: b"abcd"}).targets == [UNKNOWN, 8, -3]
    sourced = RouteRun(V4, 254, 217, 1, (b"\1", b"\2"), (7, 8), (17, 17), sources=(b"abcd", b"abcd"))
    assert by_known_sources(sourced, {7: b"abcd", 8: b"abcd"}) is sourced
    assert by_known_sources(sourced, {7: b"abcd"}).targets == [7, UNKNOWN]


def test_a_group_whose_routes_name_several_sources_is_nobodys() -> None:
    objects = NexthopObjects(217)
    single = objects.nexthop_of(LEAF1, 2)
    assert single is not None
    members = ((single, 1),)
    group = objects.group_of(members)
    assert group is not None
    objects.sources_observed({group: {b"abcd", b""}})
    assert objects.same_as(members) == set()
    assert objects.group_of(members, source=b"abcd") not in (None, group)
    other = objects.group_of(members)
    assert other not in (None, group)
    assert objects.groups_from(b"abcd") == [objects.group_of(members, source=b"abcd")]


@pytest.mark.netns
async def test_the_loopback_is_from_the_prefixes_that_are_named(host: None) -> None:
    """A service's address on lo is lower than the host's own."""
    ip("addr add 10.1.1.1/32 dev lo")
    async with running(preferred_source="loopback") as it:
        it.want(ROUTES)
        await it.routes_are(named("10.1.1.1", "fd00::1"))
        it.monitor.host.loopbacks = (parse_prefix("10.255.0.0/16"),)
        it.fib.source.configure("loopback")
        await it.routes_are(named("10.255.1.1", "fd00::1"))
