"""The kernel drops routes silently, has several of one prefix, and dumps less than all: the leaf hears the truth.

The leaf is raw bytes that keep a record of all that was announced and withdrawn, so that a route that went for a moment
is seen as well as one that went for good.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, kernel_hops, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, message, receive

pytestmark = pytest.mark.netns

FAMILIES = ((1, 1), (2, 1))
STATIC = "10.64.1.5/32"
STATIC_V6 = "2001:db8:64::5/128"
PODS = "\n".join(table("[[workload.static]]", prefix=prefix, interface="pod1") for prefix in (STATIC, STATIC_V6))
KERNEL = table("[workload.kernel]", interfaces=["pod*", "cali*", "br*"])


class Leaf:
    """What a leaf heard: `routes` now, `withdrawn` ever since it was cleared."""

    def __init__(self, peer: WirePeer) -> None:
        self.connection = peer.establish(families=FAMILIES)
        self.routes: set[str] = set()
        self.withdrawn: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                kind, body = receive(self.connection)
            except (LabError, OSError):
                return
            if kind == UPDATE:
                self._take(body)

    def _take(self, body: bytes) -> None:
        (withdrawn,) = struct.unpack_from("!H", body)
        (size,) = struct.unpack_from("!H", body, 2 + withdrawn)
        self._withdraw(_prefixes(body[2 : 2 + withdrawn], 4))
        attributes = body[4 + withdrawn : 4 + withdrawn + size]
        self.routes.update(_prefixes(body[4 + withdrawn + size :], 4))
        while attributes:
            wide = bool(attributes[0] & 0x10)
            length = int.from_bytes(attributes[2 : 4 if wide else 3], "big")
            value = attributes[4 if wide else 3 :][:length]
            if attributes[1] == 14:
                self.routes.update(_prefixes(value[5 + value[3] :], 16))
            elif attributes[1] == 15:
                self._withdraw(_prefixes(value[3:], 16))
            attributes = attributes[(4 if wide else 3) + length :]

    def _withdraw(self, prefixes: list[str]) -> None:
        self.withdrawn += prefixes
        self.routes.difference_update(prefixes)


def _prefixes(data: bytes, size: int) -> list[str]:
    found = []
    while data:
        width = (data[0] + 7) // 8
        address = ipaddress.ip_address(data[1 : 1 + width].ljust(size, b"\0"))
        found.append(f"{address}/{data[0]}")
        data = data[1 + width :]
    return found


class Rig:
    """A started daemon and its leaf."""

    def __init__(self, fabric: Fabric, host: Host, heard: Leaf) -> None:
        self.host, self.leaf = host, heard
        self._fabric = fabric

    def ip(self, *commands: str) -> None:
        for command in commands:
            if command.startswith("-6"):
                self._fabric.host.ip(*command.split())
        self._fabric.host.batch(*(command for command in commands if not command.startswith("-6")))

    def heard(self, *prefixes: str) -> None:
        self.host.wait(lambda: set(prefixes) <= self.leaf.routes, f"the leaf to hear {prefixes}")

    def forgot(self, *prefixes: str) -> None:
        self.host.wait(lambda: not set(prefixes) & self.leaf.routes, f"the leaf to forget {prefixes}")

    def told_so_far(self, number: list[int] = [0]) -> None:  # noqa: B006
        """All that the kernel said by now has been told to the leaf: a later route has."""
        number[0] += 1
        marker = f"10.99.{number[0] >> 8}.{number[0] & 255}/32"
        self.ip(f"route add {marker} dev pod2")
        self.heard(marker)
        self.ip(f"route del {marker} dev pod2")
        self.forgot(marker)


@pytest.fixture(scope="module")
def running(fabric: Fabric) -> Iterator[tuple[Host, Leaf]]:
    fabric.host.set_sysctls({"net.ipv6.conf.default.accept_dad": "0"})
    tables = (leaf(1, families=["ipv4-unicast", "ipv6-unicast"]), PODS, KERNEL)
    with WirePeer(fabric.leaf1) as peer, started(fabric, *tables) as host:
        heard = Leaf(peer)
        host.wait_established("leaf1")
        yield host, heard


@pytest.fixture
def rig(fabric: Fabric, running: tuple[Host, Leaf]) -> Rig:
    made = Rig(fabric, *running)
    made.heard(STATIC)
    made.leaf.withdrawn.clear()
    return made


def test_routes_that_go_with_an_address_are_withdrawn_and_a_workload_of_ours_is_repaired(
    fabric: Fabric, rig: Rig
) -> None:
    rig.ip("route add 10.65.0.9/32 dev pod1")
    rig.heard("10.65.0.9/32")
    rig.ip("addr add 10.65.0.1/32 dev pod1", "addr del 10.65.0.1/32 dev pod1")
    rig.forgot("10.65.0.9/32")
    rig.host.wait(lambda: kernel_hops(fabric.host, STATIC) == ["pod1"], "the static workload's route", timeout_s=5)
    rig.heard(STATIC)


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ("net.ipv6.conf.pod1.disable_ipv6=1", "net.ipv6.conf.pod1.disable_ipv6=0"),
        ("net.ipv6.conf.pod1.mtu=1200", "net.ipv6.conf.pod1.mtu=1500"),
    ],
    ids=["disable_ipv6", "mtu"],
)
def test_ipv6_workload_is_withdrawn_while_its_interface_has_no_ipv6(
    fabric: Fabric, rig: Rig, off: str, on: str
) -> None:
    rig.heard(STATIC_V6)
    set_ipv6(fabric, off)
    rig.forgot(STATIC_V6)
    set_ipv6(fabric, on)
    rig.heard(STATIC_V6)
    assert kernel_hops(fabric.host, STATIC_V6) == ["pod1"]
    assert STATIC not in rig.leaf.withdrawn


def set_ipv6(fabric: Fabric, setting: str) -> None:
    name, _, value = setting.partition("=")
    if name.endswith(".mtu"):
        fabric.host.ip("link", "set", "pod1", "mtu", value)
    else:
        fabric.host.set_sysctls({name: value})


@pytest.mark.parametrize(
    ("first", "second", "delete"),
    [
        ("route add {v4} dev pod1", "route append {v4} dev pod2", "route del {v4} dev pod1"),
        ("route add {v4} dev pod2", "route add {v4} tos 0x10 dev pod2", "route del {v4} tos 0x10"),
        ("route add {v6} dev pod1", "route append {v6} dev pod2", "route del {v6} dev pod1"),
        (
            "route add {v6} via fe80::9 dev pod1",
            "route append {v6} via fe80::9 dev pod2",
            "route del {v6} via fe80::9 dev pod1",
        ),
    ],
    ids=["append", "tos", "ipv6", "ipv6 siblings"],
)
def test_one_of_two_routes_of_a_prefix_and_metric_goes_and_nothing_is_withdrawn(
    rig: Rig, first: str, second: str, delete: str
) -> None:
    names = {"v4": "10.65.0.9/32", "v6": "2001:db8:65::9/128"}
    prefix = names["v6" if "v6" in first else "v4"]
    rig.ip(first.format(**names))
    rig.heard(prefix)
    rig.ip(second.format(**names), delete.format(**names))
    rig.told_so_far()
    assert prefix not in rig.leaf.withdrawn
    assert prefix in rig.leaf.routes
    rig.ip(f"{'-6 ' if ':' in prefix else ''}route flush {prefix}")
    rig.forgot(prefix)


def test_make_before_break_between_bridges_withdraws_nothing(rig: Rig) -> None:
    rig.ip("link add br0 type bridge", "link add br1 type bridge")
    for number in (0, 1):
        rig.ip(f"link add leg{number} type veth peer name legp{number}", f"link set leg{number} master br{number} up")
        rig.ip(f"link set legp{number} up", f"link set br{number} up")
    rig.ip("route add 10.65.0.9/32 dev br0")
    rig.heard("10.65.0.9/32")
    rig.ip("route append 10.65.0.9/32 dev br1", "link del br0")
    rig.told_so_far()
    rig.host.wait(lambda: view(rig.host, "10.65.0.9/32")["interface"] == "br1", "the other bridge")
    assert "10.65.0.9/32" not in rig.leaf.withdrawn
    rig.ip("link del br1", "link del leg0", "link del leg1")
    rig.forgot("10.65.0.9/32")


def view(host: Host, prefix: str) -> dict[str, Any]:
    return next((found for found in host.get("workloads") if found["prefix"] == prefix), {"interface": ""})


def test_routes_by_nexthop_objects_and_of_several_next_hops_are_announced(rig: Rig) -> None:
    rig.ip("nexthop add id 5 dev pod1", "nexthop add id 6 dev pod2", "nexthop add id 7 group 5/6")
    rig.ip("-6 nexthop add id 8 dev pod1")
    rig.ip("route add 10.65.0.1/32 nhid 5", "route add 10.65.0.2/32 nhid 7", "route add 2001:db8:65::1/128 nhid 8")
    rig.ip("route add 10.65.0.3/32 nexthop dev pod1 nexthop dev pod2")
    rig.heard("10.65.0.1/32", "10.65.0.2/32", "10.65.0.3/32", "2001:db8:65::1/128")
    rig.ip("nexthop del id 5", "nexthop del id 8")
    rig.forgot("10.65.0.1/32", "2001:db8:65::1/128")
    rig.told_so_far()
    assert "10.65.0.2/32" not in rig.leaf.withdrawn
    rig.ip("nexthop del id 6", "route del 10.65.0.3/32")
    rig.forgot("10.65.0.2/32", "10.65.0.3/32")


def test_pod_that_flaps_while_the_leaf_changes_many_ipv6_routes_costs_no_other_workload(
    fabric: Fabric, rig: Rig
) -> None:
    prefixes = [f"2001:db8:66::{n:x}/128" for n in range(1, 350)]
    foreign = [f"2001:db8:67::{n:x}/128" for n in range(1, 350)]
    rig.ip(
        *(f"link add cali{n} type veth peer name calip{n}" for n in range(4)),
        *(f"link set {name}{n} up" for n in range(4) for name in ("cali", "calip")),
        "link add flap type veth peer name flapp",
        *(f"route add {prefix} dev cali{n % 4}" for n, prefix in enumerate(prefixes)),
        *(f"route add {prefix} dev lo proto static" for prefix in foreign),
    )
    rig.heard(*prefixes)
    rig.leaf.withdrawn.clear()
    announce(rig.leaf.connection, [_nlri(prefix) for prefix in foreign])
    stop = threading.Event()
    churn = threading.Thread(target=change_routes, args=(rig.leaf.connection, stop))
    churn.start()
    try:
        for number in range(240):
            rig.ip("link set flap up", "link set flapp up", "addr add 10.65.7.1/32 dev flap", "link set flap down")
            rig.ip("addr del 10.65.7.1/32 dev flap")
            if not number % 20:
                rig.told_so_far()
    finally:
        stop.set()
        churn.join()
    rig.told_so_far()
    withdrawn = {prefix for prefix in rig.leaf.withdrawn if prefix.startswith("2001:")}
    assert not withdrawn
    there = fabric.host.ip("-6", "route", "show")
    assert not [prefix for prefix in (*prefixes, *foreign) if f"{prefix.removesuffix('/128')} dev" not in there]
    ours = kernel_routes(fabric.host, ipv6=True)
    assert not [prefix for prefix in foreign if prefix.removesuffix("/128") in ours]
    assert len(ours) < 800
    rig.ip(*(f"link del {name}" for name in ("flap", "cali0", "cali1", "cali2", "cali3")))
    rig.forgot(*prefixes)


def _nlri(prefix: str) -> bytes:
    address, _, length = prefix.partition("/")
    return bytes((int(length),)) + socket.inet_pton(socket.AF_INET6, address)[: int(length) // 8]


def change_routes(connection: socket.socket, stop: threading.Event) -> None:
    """Announce and withdraw 699 IPv6 prefixes over and over."""
    nlri = [_nlri(f"2001:db8:1:{n + 1:x}::/64") for n in range(699)]
    while not stop.is_set():
        announce(connection, nlri)
        if not stop.wait(0.001):
            for first in range(0, len(nlri), 200):
                unreach = struct.pack("!HB", 2, 1) + b"".join(nlri[first : first + 200])
                _send(connection, struct.pack("!BBH", 0x90, 15, len(unreach)) + unreach)


def announce(connection: socket.socket, nlri: list[bytes]) -> None:
    start = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    next_hop = socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")
    for first in range(0, len(nlri), 200):
        reach = struct.pack("!HBB", 2, 1, 16) + next_hop + b"\0" + b"".join(nlri[first : first + 200])
        _send(connection, start + struct.pack("!BBH", 0x90, 14, len(reach)) + reach)


def _send(connection: socket.socket, attributes: bytes) -> None:
    connection.sendall(message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes))
