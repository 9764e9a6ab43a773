"""VRFs in the real kernel, by VRF devices and by policy rules: two tenants with equal addresses, kept apart."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress

import msgspec
import pytest

from bgpd.config.schema import FibConfig, VrfConfig
from bgpd.fib import views as fib_views
from bgpd.fib import vrf_tables, vrfs
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.table import Fib
from bgpd.fib.vrf_devices import VrfRefused
from bgpd.fib.vrf_tables import ConfiguredVrfs
from bgpd.fib.vrfs import KernelVrfs, VrfSpec
from bgpd.kernel.monitor import KernelMonitor
from bgpd.kernel.netlink import KernelError, MessageKind, messages
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import RoutingRule
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.runtime.rates import Share
from labs.namespace import CLONE_NEWNET, NETNS_DIR, Namespace
from tests.fib.harness import ScriptedOwner
from tests.own_network import ip
from tests.waiting import until, wait_for_links

BLUE, RED = VrfSpec("blue", 1001, ("b1", "b2")), VrfSpec("red", 1002, ("r1",))
LEAF1, LEAF2 = NextHop(parse_address("10.1.0.0")), NextHop(parse_address("10.1.1.0"))
LEAF1_V6 = NextHop(parse_address("2001:db8:1::1"))
GATEWAY = NextHop(parse_address("10.9.9.9"), "@blue/4:")
UPLINKS = {GATEWAY: (NextHop(LEAF1.address, "b1"), NextHop(LEAF2.address, "b2"))}
_libc = ctypes.CDLL(None, use_errno=True)


def table(number: int, family: str = "-4") -> list[str]:
    """Forwarding routes of a table, without those that are the host's own."""
    found = subprocess.run(["ip", family, "route", "show", "table", str(number)], capture_output=True, text=True).stdout
    lines = [" ".join(line.split()) for line in found.splitlines()]
    return sorted(line for line in lines if line.split()[0] not in ("local", "broadcast", "anycast", "multicast"))


def bgpd_rules() -> list[str]:
    rules = ip("-4 -N rule show").splitlines() + ip("-6 -N rule show").splitlines()
    return sorted(line.split(":", 1)[1].strip() for line in rules if "proto 217" in line)


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.vm, id="device"), pytest.param(False, id="rules")])
def use_devices(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Net:
    """host with uplinks b1, b2 (blue) and r1 (red) and one pod in each; all addresses of blue and red are the same.

    Behind the leaf of blue is 10.99.0.1, behind that of red 10.99.0.2; the pods' leaves know the way back.
    """

    def __init__(self, stack: ExitStack) -> None:
        names = ("host", "leafb", "leafr", "podb", "podr")
        self.host, self.leafb, self.leafr, self.podb, self.podr = (
            stack.enter_context(Namespace(name, prefix="F")) for name in names
        )
        host: list[str] = []
        self._wire(host, "b1", self.leafb, "e0", 0)
        self._wire(host, "b2", self.leafb, "e1", 1)
        self._wire(host, "r1", self.leafr, "e0", 0)
        for name, pod in (("cb", self.podb), ("cr", self.podr)):
            host += [
                f"link add {name} type veth peer name eth0 netns {pod.name}",
                *(f"link set {name} up", f"addr add 10.64.0.1/24 dev {name}"),
                f"addr add 2001:db8:64::1/64 dev {name} nodad",
            ]
        self.host.batch(*host)
        for number, pod in enumerate((self.podb, self.podr), 1):
            pod.batch(
                *("link set eth0 up", "addr add 10.64.0.5/24 dev eth0", "addr add 2001:db8:64::5/64 dev eth0 nodad"),
                *("route add default via 10.64.0.1", "route add default via 2001:db8:64::1"),
            )
            (self.leafb, self.leafr)[number - 1].batch(
                *(f"link set e{index} up" for index in range(3 - number)),
                *(f"addr add 10.1.{index}.0/31 dev e{index}" for index in range(3 - number)),
                *(f"addr add 2001:db8:{index + 1}::1/64 dev e{index} nodad" for index in range(3 - number)),
                *(f"addr add 10.99.0.{number}/32 dev lo", f"addr add 2001:db8:99::{number}/128 dev lo nodad"),
                *("route add 10.64.0.0/24 via 10.1.0.1", "route add 2001:db8:64::/64 via 2001:db8:1::2"),
            )

    @staticmethod
    def _wire(host: list[str], uplink: str, leaf: Namespace, port: str, index: int) -> None:
        """Adds to the host's commands what makes one uplink; the leaf's end is set up by its own batch."""
        host += [
            f"link add {uplink} type veth peer name {port} netns {leaf.name}",
            *(f"link set {uplink} up", f"addr add 10.1.{index}.1/31 dev {uplink}"),
            f"addr add 2001:db8:{index + 1}::2/64 dev {uplink} nodad",
        ]


@pytest.fixture
def net() -> Iterator[Net]:
    """The topology; the test runs inside host."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with ExitStack() as stack:
        made = Net(stack)
        inside = os.open(NETNS_DIR / made.host.name, os.O_RDONLY)
        try:
            assert _libc.setns(inside, CLONE_NEWNET) == 0
            wait_for_links()
            yield made
        finally:
            assert _libc.setns(home, CLONE_NEWNET) == 0
            os.close(inside)
            os.close(home)


class Host:
    """The main table's Fib, the VRFs, and a Fib for each."""

    def __init__(self, *, use_devices: bool) -> None:
        self.monitor = KernelMonitor()
        self.dataplane = Dataplane(self.monitor)
        self.vrfs = KernelVrfs(self.dataplane, use_devices=use_devices)
        self.owner = ScriptedOwner()
        self.owner.expansions.update(UPLINKS)
        self.expansions = self.owner.expansions
        self.fibs = {name: self._fib(name, number) for name, number in (("", 254), ("blue", 1001), ("red", 1002))}

    @property
    def refused(self) -> dict[bytes, str]:
        return {key: why for _family, key, why in self.owner.refusals}

    def _fib(self, vrf: str, number: int) -> Fib:
        return Fib(FibConfig(table=number), dataplane=self.dataplane, owner=self.owner, vrf=vrf)

    def want(self, vrf: str, prefix: str, wish: NextHops | None) -> None:
        family, key = parse_prefix(prefix)
        self.owner.wish(vrf, family, {key: wish})
        self.fibs[vrf].writer.update(family, {key: wish})

    async def add(self, spec: VrfSpec, *, fib: str = "") -> None:
        """As the daemon does."""
        await self.vrfs.check(spec, self.fibs[fib or spec.name])
        await self.vrfs.add(spec, self.fibs[fib or spec.name])

    async def idle(self) -> None:
        for fib in self.fibs.values():
            await fib.writer.idle()
        await self.vrfs.settled()
        await until(lambda: self.dataplane.idle)


@asynccontextmanager
async def running(*specs: VrfSpec, use_devices: bool) -> AsyncIterator[Host]:
    host = Host(use_devices=use_devices)
    await host.monitor.start()
    for fib in host.fibs.values():
        await fib.start()
    host.vrfs.start()
    try:
        for spec in specs:
            await host.add(spec)
        for spec in specs:
            host.vrfs.set_interfaces(spec.name, [f"c{spec.name[0]}"])
        await host.idle()
        yield host
    finally:
        await host.vrfs.stop()
        for fib in host.fibs.values():
            await fib.stop()
        await host.monitor.stop()


def reaches(pod: Namespace, address: str) -> bool:
    return "1 received" in pod.run("ping", "-c1", "-W1", address, check=False)


pytestmark = pytest.mark.netns


async def test_tenants_with_equal_addresses_reach_their_own_leaf_only(net: Net, use_devices: bool) -> None:
    async with running(BLUE, RED, use_devices=use_devices) as it:
        assert {it.vrfs.mode(name) for name in ("blue", "red")} == {"device" if use_devices else "rules"}
        for vrf in ("blue", "red"):
            it.want(vrf, "10.99.0.0/24", (LEAF1,))
            it.want(vrf, "2001:db8:99::/64", (LEAF1_V6,))
        await it.idle()
        await until(lambda: reaches(net.podb, "10.99.0.1"))
        await until(lambda: reaches(net.podr, "10.99.0.2"))
        assert reaches(net.podb, "2001:db8:99::1")
        assert reaches(net.podr, "2001:db8:99::2")
        assert not reaches(net.podb, "10.99.0.2")
        assert not reaches(net.podr, "10.99.0.1")
        it.owner.refusals.clear()  # of the moment in which an interface that joined a VRF was down
        it.want("", "10.98.0.0/24", (LEAF1,))
        await it.fibs[""].writer.idle()
        assert "unreachable" in it.refused[parse_prefix("10.98.0.0/24")[1]]
        found = await fib_views.lookup(it.fibs["blue"], parse_address("10.99.0.1"))
        assert found is not None
        assert (found.prefix, found.table, found.ours) == ("10.99.0.0/24", 1001, True)
        assert [hop.interface for hop in found.next_hops] == ["b1"]


async def test_what_has_no_route_in_the_vrf_is_unreachable_and_never_leaves_by_the_main_table(
    net: Net, use_devices: bool
) -> None:
    net.host.batch("link add up0 type veth peer name far0", "link set up0 up", "link set far0 up")
    net.host.addresses("up0", "192.0.2.1/24")
    net.host.batch("route add default via 192.0.2.2")
    async with running(BLUE, use_devices=use_devices):
        out = net.podb.run("ping", "-c1", "-W1", "203.0.113.9", check=False)
        assert "Unreachable" in out
        for family in ("-4", "-6"):
            assert any(line.startswith("unreachable default") for line in table(1001, family))
            assert "metric 4278198272" in " ".join(table(1001, family))


async def test_recursive_next_hop_spreads_over_both_leaves_and_loses_one_in_one_message(
    net: Net, use_devices: bool
) -> None:
    async with running(BLUE, use_devices=use_devices) as it:
        keys = [bytes((32, 10, 99, number >> 8, number & 255)) for number in range(2000)]
        it.owner.wish("blue", Family.IPV4_UNICAST, dict.fromkeys(keys, (GATEWAY,)))
        it.fibs["blue"].writer.update(Family.IPV4_UNICAST, dict.fromkeys(keys, (GATEWAY,)))
        await it.idle()
        assert len([line for line in table(1001) if line.startswith("10.99.")]) == 2000
        sent = it.dataplane.messages
        it.fibs["blue"].next_hops_lost([NextHop(LEAF1.address, "b1")], lambda _hops: None)
        it.expansions[GATEWAY] = UPLINKS[GATEWAY][1:]
        it.fibs["blue"].resolution_changed(GATEWAY)
        await it.idle()
        assert it.dataplane.messages == sent + 1
        found = await fib_views.lookup(it.fibs["blue"], parse_address("10.99.0.1"))
        assert found is not None
        assert [hop.interface for hop in found.next_hops] == ["b2"]
        it.expansions[GATEWAY] = UPLINKS[GATEWAY]
        it.fibs["blue"].resolution_changed(GATEWAY)
        await it.idle()
        assert it.dataplane.messages == sent + 3  # the gateway, and the group
        found = await fib_views.lookup(it.fibs["blue"], parse_address("10.99.0.1"))
        assert found is not None
        assert sorted(hop.interface for hop in found.next_hops) == ["b1", "b2"]
        assert len([line for line in table(1001) if line.startswith("10.99.")]) == 2000


async def test_restart_takes_over_rules_devices_and_routes(net: Net, use_devices: bool) -> None:
    async with running(BLUE, RED, use_devices=use_devices) as before:
        before.want("blue", "10.99.0.0/24", (GATEWAY,))
        await before.idle()
        await until(lambda: reaches(net.podb, "10.99.0.1"))
    state = [table(1001), table(1001, "-6"), table(1002), bgpd_rules(), ip("-br link show")]
    assert reaches(net.podb, "10.99.0.1")
    async with running(BLUE, RED, use_devices=use_devices) as it:
        it.want("blue", "10.99.0.0/24", (GATEWAY,))
        await it.idle()
        assert sum(fib.counters.messages for fib in it.fibs.values()) == 0
        for fib in it.fibs.values():
            fib.sweep()
        it.vrfs.sweep()
        await it.idle()
        assert [table(1001), table(1001, "-6"), table(1002), bgpd_rules(), ip("-br link show")] == state
        assert reaches(net.podb, "10.99.0.1")


async def test_removed_vrf_leaves_nothing_and_the_other_untouched(net: Net, use_devices: bool) -> None:
    links = ip("-br link show")
    async with running(BLUE, RED, use_devices=use_devices) as it:
        it.want("blue", "10.99.0.0/24", (GATEWAY,))
        it.want("red", "10.99.0.0/24", (LEAF1,))
        await it.idle()
        await until(lambda: reaches(net.podr, "10.99.0.2"))
        red = table(1002)
        await it.vrfs.remove("blue")
        assert table(1001) == table(1001, "-6") == []
        assert not any("1001" in rule for rule in bgpd_rules())
        assert table(1002) == red
        assert reaches(net.podr, "10.99.0.2")
        assert "10.1.0.0/31 dev b1" in ip("route show")
        assert "2001:db8:1::2/64" in ip("-6 addr show b1")
        await it.vrfs.remove("red")
        assert bgpd_rules() == []
        assert ip("-br link show").count("\n") == links.count("\n")


async def test_unreachable_default_of_another_program_is_left_until_it_goes(net: Net, use_devices: bool) -> None:
    async with running(BLUE, use_devices=use_devices) as it:
        before = table(1001)
        last = "unreachable default table 1001 metric 4278198272"
        ip(f"route del {last}")
        ip(f"route add {last} proto static")
        await asyncio.sleep(0.1)
        await it.idle()
        assert "proto static" in ip("route show table 1001 type unreachable")
        ip(f"route del {last} proto static")
        await until(lambda: table(1001) == before)
        assert it.vrfs.problem("blue") == ""


async def test_what_another_program_removes_comes_again(net: Net, use_devices: bool) -> None:
    async with running(BLUE, use_devices=use_devices) as it:
        state = [table(1001), table(1001, "-6"), bgpd_rules()]
        ip("route del unreachable default table 1001 metric 4278198272")
        if not use_devices:
            ip("rule del iif b1 table 1001")
            ip("route del 10.1.0.0/31 table 1001")
        await until(lambda: [table(1001), table(1001, "-6"), bgpd_rules()] == state)
        await it.idle()
        assert it.vrfs.problem("blue") == ""


async def test_connected_networks_of_a_vrf_are_followed(net: Net, use_devices: bool) -> None:
    async with running(BLUE, use_devices=use_devices) as it:
        ip("addr add 10.7.0.1/24 dev b1")
        await until(lambda: any(line.startswith("10.7.0.0/24 dev b1") for line in table(1001)))
        await until(lambda: it.fibs["blue"].targets.ask(NextHop(parse_address("10.7.0.9"))) == "")
        assert "unreachable" in it.fibs[""].targets.ask(NextHop(parse_address("10.7.0.9")))
        ip("addr del 10.7.0.1/24 dev b1")
        await until(lambda: not any(line.startswith("10.7.0.0/24") for line in table(1001)))


async def test_interface_that_leaves_a_vrf_is_in_the_main_table_again(net: Net, use_devices: bool) -> None:
    async with running(BLUE, use_devices=use_devices) as it:
        it.want("blue", "10.70.0.1/32", (NextHop(b"", "cb"),))
        await it.idle()
        assert any(line.startswith("10.70.0.1 dev cb") for line in table(1001))
        it.vrfs.set_interfaces("blue", [])
        await it.vrfs.change(VrfSpec("blue", 1001, ("b1",)))
        await it.idle()
        assert it.fibs["blue"].targets.ask(LEAF2) != ""
        assert it.fibs[""].targets.ask(LEAF2) == ""
        assert "in the main table, not in VRF blue" in it.refused[parse_prefix("10.70.0.1/32")[1]]
        assert not any("b2" in rule or "cb" in rule for rule in bgpd_rules())
        assert not any("b2" in line or "dev cb" in line for line in table(1001))


@pytest.mark.parametrize("first", ["blue", "red"])
async def test_uplink_that_goes_to_another_vrf_is_that_ones_whichever_is_changed_first(
    net: Net, use_devices: bool, first: str
) -> None:
    async with running(BLUE, RED, use_devices=use_devices) as it:
        changed = [VrfSpec("blue", 1001, ("b1",)), VrfSpec("red", 1002, ("r1", "b2"))]
        for spec in changed if first == "blue" else reversed(changed):
            await it.vrfs.change(spec)
        await it.idle()
        assert it.dataplane.host.vrf_of("b2") == "red"
        await until(lambda: it.fibs["red"].targets.ask(LEAF2) == "")
        assert it.fibs["blue"].targets.ask(LEAF2) != ""
        await it.vrfs.remove("blue")
        await it.idle()
        assert it.fibs["red"].targets.ask(LEAF2) == ""


async def test_interface_that_appears_later_joins_its_vrf(net: Net, use_devices: bool) -> None:
    spec = VrfSpec("blue", 1001, ("b1", "late"))
    async with running(spec, use_devices=use_devices) as it:
        ip("link add late type veth peer name far")
        ip("link set far up")
        ip("link set late up")
        ip("addr add 10.8.0.1/24 dev late")
        await until(lambda: any(line.startswith("10.8.0.0/24 dev late") for line in table(1001)))
        await until(lambda: it.fibs["blue"].targets.ask(NextHop(parse_address("10.8.0.9"))) == "")


async def test_table_of_another_program_is_refused(net: Net, use_devices: bool) -> None:
    ip("route add 10.50.0.0/16 via 10.1.0.0 table 1001 proto static")
    before = [ip("rule show"), ip("-br link show"), table(1001)]
    async with running(use_devices=use_devices) as it:
        with pytest.raises(VrfRefused, match=r"VRF blue: table 1001 has 1 routes of another program \(protocol 4"):
            await it.add(BLUE, fib="blue")
        with pytest.raises(VrfRefused, match=r"the kernel's own \(main\)"):
            await it.add(VrfSpec("green", 254, ()), fib="red")
        with pytest.raises(VrfRefused, match="is no VRF device"):
            await it.add(VrfSpec("r1", 1002, ()), fib="red")
        assert [ip("rule show"), ip("-br link show"), table(1001)] == before
        assert it.fibs[""].targets.ask(LEAF1) == ""


@pytest.mark.vm
async def test_vrf_device_of_another_program_is_used_and_left(net: Net) -> None:
    ip("link add blue type vrf table 1001")
    async with running(BLUE, use_devices=True) as it:
        with pytest.raises(VrfRefused, match="has table 1001, not 1009"):
            await it.add(VrfSpec("blue", 1009, ()), fib="red")
        with pytest.raises(VrfRefused, match="belongs to the VRF device blue"):
            await it.add(VrfSpec("green", 1001, ()), fib="red")
        assert "master blue" in ip("link show b1")
        await it.vrfs.remove("blue")
        assert "master" not in ip("link show b1")
        assert "blue" in ip("-br link show")


@pytest.mark.vm
@pytest.mark.usefixtures("net")
async def test_vrf_that_was_renamed_while_bgpd_did_not_run_takes_the_table_over() -> None:
    async with running(BLUE, use_devices=True):
        assert "master blue" in ip("link show b1")
    async with running(use_devices=True) as it:
        await it.add(VrfSpec("green", 1001, ("b1",)), fib="blue")
        await it.idle()
        assert "master green" in ip("link show b1")
        assert "master" not in ip("link show b2")
        assert "blue" not in ip("-br link show")
        assert it.vrfs.problem("green") == ""


@pytest.mark.vm
async def test_interface_that_enters_and_leaves_a_vrf_device_keeps_its_ipv6_addresses(net: Net) -> None:
    """Whatever `keep_addr_on_down` says, and static link-local addresses too, which that does not keep."""
    ip("address add 2001:db8:77::1/64 dev b1 nodad")
    ip("address add fe80::77/64 dev b1")
    ip("address add 2001:db8:78::1/128 dev b1 preferred_lft 0")
    ip("address add 2001:db8:79::1/64 dev b1 valid_lft 600 preferred_lft 600")

    def addresses() -> dict[str, int]:
        (link,) = json.loads(ip("-j -6 address show dev b1"))
        return {f"{one['local']}/{one['prefixlen']}": one["preferred_life_time"] for one in link["addr_info"]}

    net.host.set_sysctls({f"net.ipv6.conf.{name}.keep_addr_on_down": "0" for name in ("all", "b1")})
    before = addresses()
    lasting = {address: life for address, life in before.items() if not address.startswith("2001:db8:79:")}
    assert len(lasting) == len(before) - 1 == 5
    async with running(BLUE, use_devices=True) as it:
        assert "master blue" in ip("link show dev b1")
        await until(lambda: lasting.items() <= addresses().items())
        await it.vrfs.remove("blue")
        assert "master" not in ip("link show dev b1")
        await until(lambda: lasting.items() <= addresses().items())


class Count:
    """The VRFs of a host in rules mode, and how often the kernel was asked to have them."""

    def __init__(self) -> None:
        self.dumps = 0
        self.told = 0
        self.host = Host(use_devices=False)

    async def run(self, number: int) -> None:
        """Add so many VRFs with an uplink each; then another program adds a rule."""
        it = self.host
        dump = it.dataplane.reader.rules

        async def counted() -> set[RoutingRule]:
            self.dumps += 1
            return await dump()

        it.dataplane.reader.rules = counted  # type: ignore[method-assign]
        await it.monitor.start()
        await it.fibs[""].start()
        it.vrfs.start()
        it.monitor.rules_changed.append(self._tell)
        fibs = [it._fib(f"v{one}", 2001 + one) for one in range(number)]
        try:
            for one, fib in enumerate(fibs):
                await fib.start()
                await it.vrfs.add(VrfSpec(f"v{one}", 2001 + one, (f"u{one}",)), fib)
            await it.vrfs.settled()
            assert len([rule for rule in await dump() if rule.table >= 2001]) == 4 * number
            assert self.told == 0, "own changes are no news"
            before = self.dumps, it.dataplane.bulk.batches  # type: ignore[attr-defined]
            assert before == (1, number)
            ip("rule add from 192.0.2.1 table 99")
            await until(lambda: self.told == 1)
            await it.vrfs.settled()
            assert (self.dumps, it.dataplane.bulk.batches) == (2, number)  # type: ignore[attr-defined]
        finally:
            await it.vrfs.stop()
            for fib in (*fibs, it.fibs[""]):
                await fib.stop()
            await it.monitor.stop()

    def _tell(self) -> None:
        self.told += 1


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize("number", [3, 30])
async def test_rules_are_read_once_however_many_vrfs_and_each_vrf_is_one_batch(number: int) -> None:
    await Count().run(number)


@pytest.mark.usefixtures("net")
async def test_rule_that_another_program_deletes_is_made_again_though_rules_are_not_read_each_time() -> None:
    async with running(BLUE, RED, use_devices=False) as it:
        before = bgpd_rules()
        assert any("iif b1" in rule for rule in before)
        ip("rule del iif b1 table 1001")
        await until(lambda: bgpd_rules() == before)
        await it.vrfs.remove("blue")
        assert not any("1001" in rule for rule in bgpd_rules())


@pytest.mark.usefixtures("net")
async def test_rules_that_cannot_be_read_once_cost_nothing_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy rules of a host with another program that changes them all the time, say."""
    monkeypatch.setattr(vrfs, "_RETRY_S", 0.05)
    monkeypatch.setattr(vrfs, "_REMOVAL_PAUSE_S", 0.0)
    async with running(use_devices=False) as it:
        read, refused = it.dataplane.reader.rules, [0]

        async def rules() -> set[RoutingRule]:
            if refused[0]:
                refused[0] -= 1
                raise OSError(errno.EBUSY, "the policy rules changed during each of 16 dumps")
            return await read()

        def unknown(times: int) -> None:
            refused[0], it.vrfs._rules = times, None

        monkeypatch.setattr(it.dataplane.reader, "rules", rules)
        unknown(1)
        await it.vrfs.add(BLUE, it.fibs["blue"])
        assert "changed during" in it.vrfs.problem("blue")
        await until(lambda: {"b1", "b2"} <= {rule.split()[3] for rule in bgpd_rules() if "iif" in rule})
        await until(lambda: not it.vrfs.problem("blue"))
        unknown(1)
        await it.vrfs.change(VrfSpec("blue", 1001, ("b1",)))
        await until(lambda: not it.vrfs.problem("blue"))
        unknown(2)
        await it.vrfs.remove("blue")
        assert bgpd_rules() == []
        await it.vrfs.add(BLUE, it.fibs["blue"])
        unknown(3)
        await it.vrfs.remove("blue")
        assert it.dataplane.host.vrf_of("b1") == "", "the main table has its uplinks again, whatever the kernel says"


@pytest.mark.usefixtures("net")
async def test_a_rule_that_the_kernel_does_not_delete_is_deleted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vrfs, "_REMOVAL_PAUSE_S", 0.0)
    async with running(use_devices=False) as it:
        change, refusals = it.dataplane.change, [1]

        async def refusing(batch: bytes) -> Outcome:
            found = [(kind, batch[start - 16 : end]) for kind, _, _, start, end in messages(batch)]
            deletions = [request for kind, request in found if kind == MessageKind.DEL_RULE]
            if not deletions or not refusals[0]:
                return await change(batch)
            refusals[0] -= 1
            others = b"".join(request for _kind, request in found if request != deletions[0])
            return Outcome([KernelError(errno.ENOMEM, "", deletions[0]), *(await change(others)).errors])

        monkeypatch.setattr(it.dataplane, "change", refusing)
        await it.vrfs.add(BLUE, it.fibs["blue"])
        assert await it.vrfs.remove("blue"), "by the second try"
        assert bgpd_rules() == []
        await it.vrfs.add(BLUE, it.fibs["blue"])
        refusals[0] = 99
        assert not await it.vrfs.remove("blue"), "it is looked for what is left"
        refusals[0] = 0
        await it.vrfs.remove_left(1001, "", it.fibs["blue"])
        assert bgpd_rules() == []


@pytest.mark.usefixtures("net")
async def test_a_second_route_of_a_prefix_does_not_stay_in_a_table_that_is_left() -> None:
    """As an answer that was lost makes one: IPv6 takes a route by another interface beside the first."""
    async with running(use_devices=False) as it:
        form = it.fibs[""].form
        for order, interface in (("add", "b1"), ("append", "r1")):
            of = f"proto {form.protocol} metric {form.metric} table 1003"
            ip(f"-6 route {order} 2001:db8:99::/64 dev {interface} {of}")
        tries = 0
        while await it.vrfs.left({254}):
            left = Fib(FibConfig(table=1003), dataplane=it.dataplane, owner=it.owner, vrf="")
            await left.start()
            left.sweep()
            tries += 1
            with suppress(OSError):  # it is told that routes stay
                await it.vrfs.remove_left(1003, "", left)
                assert table(1003, "-6") == []
            await left.stop()
            assert tries < 4


class VrfsOwner(ScriptedOwner):
    """The owner of VRFs that have no routes."""

    def __init__(self) -> None:
        super().__init__()
        self.filled: list[str] = []

    def fill(self, vrf: str) -> None:
        self.filled.append(vrf)

    def write_waiting(self, vrf: str) -> None: ...


def configured_vrfs(it: Host, owner: VrfsOwner, fibs: dict[str, Fib]) -> ConfiguredVrfs:
    found = ConfiguredVrfs(
        FibConfig(table=254),
        dataplane=it.dataplane,
        owner=owner,
        fibs=fibs,
        needs=lambda vrf: Dependencies(),
        interfaces=lambda vrf: (),
        probe_tables=frozenset,
    )
    found._vrfs._devices.are_possible &= it.vrfs._devices.are_possible
    return found


@pytest.mark.usefixtures("net")
async def test_vrfs_change_their_tables_with_each_other_and_one_is_renamed(use_devices: bool) -> None:
    """By one reload each: nobody is refused since the other one has the table still, or takes it along when it goes."""
    async with running(use_devices=use_devices) as it:
        fibs = {"": it.fibs[""]}
        configured = configured_vrfs(it, VrfsOwner(), fibs)

        async def reload(*vrfs: VrfConfig) -> None:
            await configured.add(vrfs)
            await configured.remove(vrfs)
            await until(lambda: it.dataplane.idle)
            assert configured.problems == {}
            assert configured.warnings() == []
            assert {name: fib.form.table for name, fib in fibs.items() if name} == {one.name: one.table for one in vrfs}
            for vrf in vrfs:
                assert any(line.startswith("unreachable default") for line in table(vrf.table))
                for uplink in vrf.uplinks:
                    assert it.dataplane.host.vrf_of(uplink) == vrf.name
                    assert use_devices or any(f"iif {uplink} lookup {vrf.table}" in rule for rule in bgpd_rules())
                    assert not use_devices or f"master {vrf.name}" in ip(f"link show {uplink}")

        await configured.start(())
        blue, red = (
            VrfConfig(name="blue", table=1001, uplinks=("b1",)),
            VrfConfig(name="red", table=1002, uplinks=("r1",)),
        )
        await reload(blue, red)
        await reload(msgspec.structs.replace(blue, table=1002), msgspec.structs.replace(red, table=1001))
        await reload(msgspec.structs.replace(blue, table=1002, name="green"), msgspec.structs.replace(red, table=1001))
        await reload(VrfConfig(name="red", table=1002, uplinks=("b1",)), VrfConfig(name="new", table=1009))
        await configured.stop_trying()
        for name in ("red", "new"):
            await fibs[name].stop()
        await configured.stop()


@pytest.mark.usefixtures("net")
async def test_vrf_of_which_the_kernel_would_not_tell_at_the_start_comes_without_a_reload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vrf_tables, "RETRY_S", 0.05)
    async with running(use_devices=False) as it:
        owner, fibs = VrfsOwner(), dict(it.fibs)
        read, refused = it.dataplane.reader.rules, [3]

        async def rules() -> set[RoutingRule]:
            if refused[0]:
                refused[0] -= 1
                raise OSError(errno.EBUSY, "the policy rules changed during each of 16 dumps")
            return await read()

        monkeypatch.setattr(it.dataplane.reader, "rules", rules)
        configured = configured_vrfs(it, owner, fibs)
        blue = VrfConfig(name="blue", table=1001, vni=5001)
        await configured.start([blue])
        assert "changed during" in configured.problems["blue"]
        assert owner.filled == []
        await until(lambda: owner.filled == ["blue"])
        assert configured.problems == {}
        refused[0], configured._vrfs._rules = 1, None
        red = VrfConfig(name="red", table=1002, vni=5002)
        await configured.add([blue, red])
        assert list(configured.problems) == ["red"]
        await configured.remove([blue])
        assert configured.problems == {}, "it is not wanted any more, nor tried again"
        await configured.stop_trying()
        await fibs["blue"].stop()
        await configured.stop()
        assert owner.filled == ["blue"]


@pytest.mark.usefixtures("net")
async def test_table_that_could_not_be_read_once_does_not_keep_the_dataplane_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is queued is written when the last table has stopped."""
    monkeypatch.setattr(vrf_tables, "RETRY_S", 0.05)
    async with running(use_devices=False) as it:
        owner, fibs = VrfsOwner(), dict(it.fibs)
        read, refused = it.dataplane.reader.routes, [3]

        async def routes(
            family: Family,
            form: RouteForm,
            begin: Callable[[], Callable[[RouteRun], None]],
            *,
            share: Share | None = None,
        ) -> None:
            if refused[0] and form.table == 1003:
                refused[0] -= 1
                raise OSError(errno.EBUSY, "the table changed during each of 20 dumps")
            await read(family, form, begin, share=share)

        monkeypatch.setattr(it.dataplane.reader, "routes", routes)
        configured = configured_vrfs(it, owner, fibs)
        await configured.start([VrfConfig(name="green", table=1003)])
        assert "changed during" in configured.problems["green"]
        await until(lambda: owner.filled == ["green"])
        await configured.stop_trying()
        await fibs["green"].stop()
        await configured.stop()
    assert (await it.dataplane.change(b"")).lost == "bgpd ends"


@pytest.mark.usefixtures("net")
async def test_groups_do_not_stay_for_a_table_that_could_not_be_read_and_is_not_configured_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(use_devices=False) as it:
        owner, fibs = VrfsOwner(), dict(it.fibs)
        dumped = it.dataplane.reader.routes

        async def unreadable(*_: object, **__: object) -> None:
            raise OSError(errno.EBUSY, "the table changed during each of 20 dumps")

        configured = configured_vrfs(it, owner, fibs)
        await configured.start([])
        configured.sweep()
        await configured.left_removed()
        green = VrfConfig(name="green", table=1003)
        monkeypatch.setattr(it.dataplane.reader, "routes", unreadable)
        await configured.add([green])
        assert it.dataplane.upkeep.unread == {1003}
        monkeypatch.setattr(it.dataplane.reader, "routes", dumped)
        await configured.add([])
        await configured.remove([])
        await until(lambda: not it.dataplane.upkeep.unread)
        await configured.stop_trying()
        await configured.stop()


class Unreadable:
    """The kernel's policy rules, which cannot be read while they change all the time."""

    def __init__(self, it: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.are_changing = False
        self._read = it.dataplane.reader.rules
        monkeypatch.setattr(it.dataplane.reader, "rules", self._rules)

    async def _rules(self) -> set[RoutingRule]:
        if self.are_changing:
            raise OSError(errno.EBUSY, "the policy rules changed during each of 16 dumps")
        return await self._read()


@pytest.mark.usefixtures("net")
async def test_vrf_that_the_kernel_keeps_at_a_reload_goes_without_another_one(
    monkeypatch: pytest.MonkeyPatch, use_devices: bool
) -> None:
    """One that the kernel keeps for longer than a reload waits."""
    monkeypatch.setattr(vrfs, "_REMOVAL_PAUSE_S", 0.0)
    monkeypatch.setattr(vrf_tables, "LEFT_RETRY_S", 0.05)
    async with running(use_devices=use_devices) as it:
        rules = Unreadable(it, monkeypatch)
        fibs = {"": it.fibs[""]}
        configured = configured_vrfs(it, VrfsOwner(), fibs)
        await configured.start([VrfConfig(name="blue", table=1001, uplinks=("b1",))])
        configured.sweep()
        await configured.left_removed()
        assert any(line.startswith("unreachable default") for line in table(1001))
        rules.are_changing, configured._vrfs._rules = True, None
        await configured.remove(())
        await until(lambda: any("may still be in the kernel" in one for one in configured.warnings()))
        rules.are_changing = False
        await until(lambda: not configured.warnings())
        assert table(1001) == []
        assert bgpd_rules() == []
        assert "blue" not in ip("link show")
        await configured.stop_trying()
        await configured.stop()


@pytest.mark.usefixtures("net")
async def test_vrf_of_an_earlier_run_that_the_kernel_keeps_at_the_sweep_goes_later(
    monkeypatch: pytest.MonkeyPatch, use_devices: bool
) -> None:
    """It left the configuration while bgpd did not run."""
    monkeypatch.setattr(vrf_tables, "LEFT_RETRY_S", 0.05)
    async with running(BLUE, use_devices=use_devices):
        pass
    async with running(use_devices=use_devices) as it:
        rules = Unreadable(it, monkeypatch)
        configured = configured_vrfs(it, VrfsOwner(), {"": it.fibs[""]})
        await configured.start(())
        rules.are_changing = True
        configured.sweep()
        with pytest.raises(OSError, match="changed during"):
            await configured.left_removed()
        rules.are_changing = False
        await until(lambda: not configured.warnings())
        await configured.left_removed()
        assert table(1001) == []
        assert bgpd_rules() == []
        assert "blue" not in ip("link show")
        await configured.stop_trying()
        await configured.stop()


@pytest.mark.usefixtures("net")
async def test_vrf_that_is_configured_again_while_it_is_to_be_removed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vrfs, "_REMOVAL_PAUSE_S", 0.0)
    monkeypatch.setattr(vrf_tables, "LEFT_RETRY_S", 0.05)
    async with running(use_devices=False) as it:
        rules, fibs = Unreadable(it, monkeypatch), {"": it.fibs[""]}
        configured = configured_vrfs(it, VrfsOwner(), fibs)
        blue = VrfConfig(name="blue", table=1001, uplinks=("b1",))
        await configured.start([blue])
        configured.sweep()
        await configured.left_removed()
        rules.are_changing, configured._vrfs._rules = True, None
        await configured.remove(())
        await until(lambda: any("may still be in the kernel" in one for one in configured.warnings()))
        rules.are_changing = False
        await configured.add([blue])
        await until(lambda: not configured.warnings())
        assert any("iif b1 lookup 1001" in rule for rule in bgpd_rules())
        assert any(line.startswith("unreachable default") for line in table(1001))
        await configured.stop_trying()
        await fibs["blue"].stop()
        await configured.stop()
