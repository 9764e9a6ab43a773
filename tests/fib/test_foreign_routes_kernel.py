"""Other programs' routes against the real kernel: whoever comes a moment earlier or later, theirs stay."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from bgpd.config.schema import FibConfig
from bgpd.fib import views as fib_views
from bgpd.kernel.netlink import MessageKind, messages, open_socket
from bgpd.model.kernel import LinkChanged
from bgpd.model.next_hop import BLACKHOLE, NextHop, NextHops
from bgpd.model.prefix import parse_prefix
from tests.fib.test_fib_kernel import LEAF1, LEAF1_V6, LEAF2, LEAF2_V6, Host, running
from tests.fib.test_fib_kernel import host as host
from tests.logs import capture_logs
from tests.own_network import ip
from tests.waiting import until

pytestmark = pytest.mark.netns

ROUTE_GROUPS = {"-4": 7, "-6": 11}
METRIC = FibConfig().metric
OURS, OTHER = str(FibConfig().protocol), "77"
FAMILIES = {"-4": ("10.{}.{}.0/24", LEAF1, LEAF2), "-6": ("2001:db8:{}:f{:03}::/64", LEAF1_V6, LEAF2_V6)}
families = pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
tables = pytest.mark.parametrize("table", [254, 1001], ids=["main", "vrf"])


def prefixes(family: str, count: int) -> list[str]:
    form = FAMILIES[family][0]
    return [form.format(64 + number // 200, number % 200) for number in range(count)]


def batch(family: str, lines: list[str]) -> None:
    """Many commands by one process; what is there already, or not there any more, is passed over."""
    subprocess.run(["ip", family, "-force", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True)


def routes(family: str, table: int) -> dict[str, list[dict[str, object]]]:
    """The routes of a table by prefix, in the kernel's order."""
    found: dict[str, list[dict[str, object]]] = {}
    for route in json.loads(ip(f"-N {family} -j route show table {table}") or "[]"):
        found.setdefault(route["dst"], []).append(route)
    return found


def protocols(family: str, table: int) -> dict[str, list[object]]:
    return {prefix: [route["protocol"] for route in found] for prefix, found in routes(family, table).items()}


def states(it: Host) -> dict[str, str]:
    return {view.prefix: view.state for view in filter(None, fib_views.routes(it.fib))}


@families
@tables
async def test_four_hundred_raced_prefixes_stay_with_the_other_program(host: None, family: str, table: int) -> None:
    """A foreign route of our metric comes for each prefix, in the very moment in which ours is written."""
    chosen = prefixes(family, 400)
    _form, leaf1, leaf2 = FAMILIES[family]
    async with running(table=table) as it:
        command = "route add {} dev eth1 proto {} metric {} table {}"
        adds = [command.format(prefix, OTHER, METRIC, table) for prefix in chosen]
        other = threading.Thread(target=batch, args=(family, adds))
        other.start()
        for number in range(0, 400, 20):
            it.want(dict.fromkeys(chosen[number : number + 20], (leaf1,)))
            await asyncio.sleep(0)
            it.want(dict.fromkeys(chosen[number : number + 20], (leaf1, leaf2)))
            await asyncio.sleep(0.001)
        await asyncio.to_thread(other.join)
        await until(lambda: len(set(states(it).values())) <= 2 and "pending" not in states(it).values())
        held = {prefix for prefix, found in protocols(family, table).items() if OTHER in found}
        await until(lambda: {prefix for prefix, state in states(it).items() if state == "blocked"} == held)
        kernel = protocols(family, table)
        for prefix in chosen:
            assert kernel[prefix] == [OTHER if prefix in held else OURS]
        batch(family, [f"route del {prefix} proto {OTHER} metric {METRIC} table {table}" for prefix in chosen])
        await until(lambda: set(states(it).values()) == {"installed"})
        assert all(protocols(family, table)[prefix] == [OURS] for prefix in chosen)


@families
@tables
async def test_churn_with_foreign_routes_of_any_metric_destroys_none(host: None, family: str, table: int) -> None:
    """Another program replaces and deletes its own while our next hops change; at the end it adds one each."""
    chosen = prefixes(family, 60)
    _form, leaf1, leaf2 = FAMILIES[family]
    metrics = (METRIC, 100, METRIC, 5)
    lines = []
    for turn in range(6):
        for number, prefix in enumerate(chosen):
            metric = metrics[(turn + number) % 4]
            rest = f"{prefix} dev eth1 proto {OTHER} metric {metric} table {table}"
            lines += [f"route replace {rest}", f"route del {rest}"]
    for number, prefix in enumerate(chosen):
        if number % 2:
            lines.append(f"route replace {prefix} dev eth1 proto {OTHER} metric {metrics[number % 4]} table {table}")
    kept = {prefix for number, prefix in enumerate(chosen) if number % 2}
    async with running(table=table) as it:
        it.want(dict.fromkeys(chosen, (leaf1, leaf2)))
        other = threading.Thread(target=batch, args=(family, lines))
        other.start()
        turn = 0
        while other.is_alive() or turn < 20:
            turn += 1
            wish: tuple[NextHop, ...] | None = ((leaf1,), (leaf2,), (leaf1, leaf2), None)[turn % 4]
            it.want(dict.fromkeys(chosen, wish))
            await asyncio.sleep(0.002)
        it.want(dict.fromkeys(chosen, (leaf1,)))
        wanted = {prefix: [OTHER] if prefix in kept else [OURS] for prefix in chosen}
        await until(lambda: {prefix: protocols(family, table).get(prefix) for prefix in chosen} == wanted)
        expected = {prefix: "blocked" if prefix in kept else "installed" for prefix in chosen}
        await until(lambda: states(it) == expected)


@families
@pytest.mark.parametrize("kind", ["throw", "unreachable", "blackhole"])
async def test_whatever_stands_in_the_way_is_named_and_left(host: None, family: str, kind: str) -> None:
    (prefix,) = prefixes(family, 1)
    ip(f"{family} route add {kind} {prefix} proto {OTHER} metric {METRIC}")
    async with running(override=(prefix,)) as it:
        it.want({prefix: (FAMILIES[family][1],)})
        await until(lambda: states(it) == {prefix: "blocked"})
        await until(lambda: f"protocol {OTHER}" in next(filter(None, fib_views.routes(it.fib))).error)
        assert protocols(family, 254)[prefix] == [OTHER]
        ip(f"{family} route del {kind} {prefix} proto {OTHER} metric {METRIC}")
        await until(lambda: states(it) == {prefix: "installed"})


@families
@tables
async def test_change_leaves_no_moment_without_a_route(host: None, family: str, table: int) -> None:
    (prefix,) = prefixes(family, 1)
    _form, leaf1, leaf2 = FAMILIES[family]
    direct = (NextHop(b"", "eth1"),)
    async with running(table=table) as it:
        it.want({prefix: (leaf1,)})
        await it.fib.writer.idle()
        with open_socket(groups=(ROUTE_GROUPS[family],)) as watched:
            wishes: tuple[NextHops, ...] = ((leaf2,), (leaf1, leaf2), direct, (leaf1,), BLACKHOLE, direct, BLACKHOLE)
            for wish in wishes:
                it.want({prefix: wish})
                await it.fib.writer.idle()
                assert len(routes(family, table)[prefix]) == 1
            kinds: list[MessageKind] = []
            while len(kinds) < 2 * len(wishes):
                for kind, _flags, _sequence, start, _end in messages(data := watched.recv(1 << 16)):
                    if data[start + 5] == int(OURS):  # not a route of the kernel's, of an address of its own
                        kinds.append(MessageKind(kind))
        assert kinds == [MessageKind.NEW_ROUTE, MessageKind.DEL_ROUTE] * len(wishes)


@families
def test_until_the_old_route_goes_it_alone_is_used(host: None, family: str) -> None:
    """Also in IPv6, which takes several gateways of one prefix and metric for one route with several next hops."""
    own, gateway, prefix, address = {
        "-4": ("10.7.0.1/24", "10.7.0.2", "10.64.0.0/24", "10.64.0.7"),
        "-6": ("2001:db8:7::1/64 nodad", "2001:db8:7::2", "2001:db8:64::/64", "2001:db8:64::7"),
    }[family]
    Path(f"/proc/sys/net/ipv{family[1]}/fib_multipath_hash_policy").write_text("1")
    ip(f"addr add {own} dev eth0")
    ip(f"nexthop add id 1 via {gateway} dev eth0")
    ip("nexthop add id 2 group 1")
    ways = {"eth0": "nhid 2", "eth1": "dev eth1"}

    def used() -> set[str]:
        flows = [f"{family} -j route get {address} ipproto udp sport {port} dport 7" for port in range(1, 17)]
        return {json.loads(ip(flow))[0]["dev"] for flow in flows}

    for old, new in (("eth0", "eth1"), ("eth1", "eth0")):
        ip(f"{family} route add {prefix} {ways[old]} metric {METRIC} proto {OURS}")
        ip(f"{family} route append {prefix} {ways[new]} metric {METRIC} proto {OURS}")
        assert used() == {old}
        ip(f"{family} route del {prefix} {ways[old]} metric {METRIC} proto {OURS}")
        assert used() == {new}
        ip(f"{family} route del {prefix} metric {METRIC} proto {OURS}")


@families
@tables
async def test_direct_route_that_stands_is_no_obstacle_to_itself(host: None, family: str, table: int) -> None:
    (prefix,) = prefixes(family, 1)
    async with running(table=table) as it:
        it.want({prefix: (NextHop(b"", "eth1"),)})
        await it.fib.writer.idle()
        before = routes(family, table)[prefix]
        for address in ("10.7.0.1/24", "2001:db8:7::1/64"):
            ip(f"addr add {address} dev eth1")
            ip(f"addr del {address} dev eth1")
        ip("link set eth1 mtu 1400")
        await until(lambda: any(isinstance(one, LinkChanged) and one.link.mtu == 1400 for one in it.events))
        await it.fib.writer.idle()
        assert it.refused == {}
        assert routes(family, table)[prefix] == before
        assert states(it) == {prefix: "installed"}


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("-4", "{} tos 0x10 via 10.0.0.0"),
        ("-6", "{} from 2001:db8:5::/64 dev eth1"),
        ("-6", "blackhole {}"),
        ("-6", "{} dev eth1"),
    ],
    ids=["type of service", "sources", "blackhole", "interface"],
)
async def test_route_by_bgpds_protocol_that_a_deletion_cannot_name_costs_no_other(
    host: None, family: str, form: str
) -> None:
    """A deletion of the one that another program has made beside bgpd's would take bgpd's."""
    (prefix,) = prefixes(family, 1)
    of, key = parse_prefix(prefix)
    looks: list[None] = []
    async with running() as it:
        it.want({prefix: (FAMILIES[family][1],)})
        await until(lambda: states(it) == {prefix: "installed"})
        read = it.dataplane.reader.routes

        async def looked(*arguments: Any, **options: Any) -> None:
            await read(*arguments, **options)
            looks.append(None)

        it.dataplane.reader.routes = looked  # type: ignore[method-assign]
        with capture_logs() as logs:
            await asyncio.to_thread(ip, f"{family} route append {form.format(prefix)} proto {OURS} metric {METRIC}")
            for number in range(2):
                it.fib.writer.examiner.add(of, [key])
                await until(lambda wanted=number: len(looks) > wanted and it.dataplane.idle)
        assert [log for log in logs if log["event"] == "fib.duplicate_routes_deleted"] == []
        assert [route for route in routes(family, 254)[prefix] if "nhid" in route]


@pytest.mark.parametrize(
    ("family", "form"),
    [("-4", "{} tos 0x10 via 10.0.0.0"), ("-6", "{} from 2001:db8:5::/64 dev eth1")],
    ids=["type of service", "sources"],
)
async def test_route_of_another_program_for_some_packets_is_beside_bgpds(host: None, family: str, form: str) -> None:
    before, after = prefixes(family, 2)
    leaf = FAMILIES[family][1]
    async with running() as it:
        it.want({before: (leaf,)})
        await until(lambda: states(it) == {before: "installed"})
        for prefix in (before, after):
            await asyncio.to_thread(ip, f"{family} route add {form.format(prefix)} proto {OTHER} metric {METRIC}")
        told = set[str]()
        await until(lambda: told.update(route.key.hex() for route in it.monitor.routes.of_table(254)) or len(told) > 1)
        it.want({after: (leaf,)})
        await until(lambda: states(it) == {before: "installed", after: "installed"})
        assert all(sorted(map(str, protocols(family, 254)[prefix])) == [OURS, OTHER] for prefix in (before, after))
