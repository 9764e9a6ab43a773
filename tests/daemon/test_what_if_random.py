"""What `bgpd what-if` foresees is what then comes, in random cases: neighbors, uplinks and pods that go down, drains,
other configurations; with workloads, transit, and a VRF that EVPN fills.

Each kind once in a run; BGPD_WHAT_IF_CASES=1000 tries as many, BGPD_WHAT_IF_SEED repeats what has failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bgpd.model.communities import parse_route_distinguisher, parse_route_target
from labs.namespace import link
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, config, leaf, started, table
from tests.daemon.wire_peer import END_OF_RIB, UPDATE, WirePeer, attribute, message, update, withdrawal

pytestmark = pytest.mark.netns

CASES = int(os.environ.get("BGPD_WHAT_IF_CASES", "5"))
SEED = int(os.environ.get("BGPD_WHAT_IF_SEED", "0")) or random.randrange(1, 2**32)
BLUE = "65000:5001"
AFI_SAFI = (25, 70)
FAMILIES = ((1, 1), AFI_SAFI)
LEARNED = [f"10.{number}.0.0/16" for number in range(1, 9)] + ["0.0.0.0/0"]
TENANTS = [f"10.{number}.0.0/16" for number in range(80, 86)]
PODS = ("pod1", "pod2", "vm1")
TENANT_UPLINKS = ["eth0.101", "eth1.101"]
WORKLOADS = [
    *((f"10.64.1.{number}/32", "pod1", "") for number in range(1, 4)),
    *((f"10.64.2.{number}/32", "pod2", "") for number in range(1, 4)),
    *((f"10.70.1.{number}/32", "vm1", "blue") for number in range(1, 4)),
]
VRF = table(
    "[[vrf]]",
    name="blue",
    table=1001,
    vni=5001,
    import_rt=[BLUE],
    export_rt=[BLUE],
    uplinks=TENANT_UPLINKS,
)
POLICY = """[policy.some]
rules = [
  { match = { prefix = ["10.1.0.0/16", "10.2.0.0/16", "10.64.1.0/24 le 32"] }, action = "reject" },
  { action = "accept" },
]
"""


def evpn(prefixes: set[str], number: int, *, gone: bool = False) -> bytes:
    """An UPDATE of a leaf with type 5 routes of VRF blue, or one that withdraws them."""
    routes = b""
    for text in sorted(prefixes):
        address, _, length = text.partition("/")
        gateway = bytes(4) if gone else socket.inet_aton(f"10.1.{number}.9")
        value = parse_route_distinguisher("10.255.9.9:1001") + bytes(14) + bytes((int(length),))
        value += socket.inet_aton(address) + gateway + b"\x00\x13\x89"
        routes += bytes((5, len(value))) + value
    if gone:
        block = attribute(0x80, 15, struct.pack("!HB", *AFI_SAFI) + routes)
    else:
        reach = struct.pack("!HBB", *AFI_SAFI, 4) + socket.inet_aton(f"10.0.{number}.2") + b"\0" + routes
        block = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65200 + number))
        block += attribute(0xC0, 16, parse_route_target(BLUE)) + attribute(0x80, 14, reach)
    return message(UPDATE, struct.pack("!HH", 0, len(block)) + block)


class Leaf:
    """A leaf that is played: what it announces it says again after each new session."""

    def __init__(self, peer: WirePeer, number: int) -> None:
        self.name = f"leaf{number}"
        self.learned: set[str] = set()
        self.tenants: set[str] = set()
        self._peer = peer
        self._number = number
        self._connection: socket.socket | None = None

    def up(self) -> None:
        connection = self._connection = self._established()
        connection.settimeout(None)
        threading.Thread(target=_read_all, args=(connection,), daemon=True).start()
        learned, tenants, self.learned, self.tenants = self.learned, self.tenants, set(), set()
        self.say(learned, tenants)
        end = message(UPDATE, b"\0\0\0\6" + attribute(0x80, 15, struct.pack("!HB", *AFI_SAFI)))
        connection.sendall(END_OF_RIB + end)

    def _established(self) -> socket.socket:
        """A session; connections that the daemon made and gave up meanwhile are taken first."""
        while True:
            with contextlib.suppress(LabError, ConnectionError):
                return self._peer.establish(families=FAMILIES, router_id=(10, 255, 0, self._number))

    def down(self) -> None:
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def say(self, learned: set[str], tenants: set[str]) -> None:
        """Announce these from now on, and nothing else."""
        asn, hop = 65200 + self._number, f"10.0.{self._number}.2"
        said = b""
        if self.learned - learned:
            said += withdrawal(*sorted(self.learned - learned))
        if learned - self.learned:
            said += update(tuple(sorted(learned - self.learned)), asn=asn, next_hop=hop)
        if self.tenants - tenants:
            said += evpn(self.tenants - tenants, self._number, gone=True)
        if tenants - self.tenants:
            said += evpn(tenants - self.tenants, self._number)
        self.learned, self.tenants = learned, tenants
        assert self._connection is not None
        self._connection.sendall(said)


def _read_all(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


class State:
    """What the host forwards, and what its neighbors were sent."""

    def __init__(self, host: Host) -> None:
        self.routes: dict[tuple[str, str, str], frozenset[str] | str] = {}
        for view in host.get("routes"):
            used = [one for one in view["candidates"] if one["role"] in ("best", "multipath")]
            hops: frozenset[str] | str = frozenset(one["next_hop"] for one in used)
            self.routes[view["vrf"], view["family"], view["prefix"]] = "here" if view["fib"] == "local" else hops
        self.sent: dict[str, dict[tuple[str, str], Any]] = {}
        for view in host.get("advertised"):
            place = view["family"], view["prefix"]
            self.sent.setdefault(view["neighbor"], {})[place] = {k: v for k, v in view.items() if k != "heard_at"}


Outcome = tuple[dict[tuple[str, str], dict[str, int]], dict[str, tuple[int, int]]]


def came(before: State, after: State, neighbors: list[str]) -> Outcome:
    """What has become of routes by VRF and family, and how many routes each of these was sent and withdrawn."""
    fates: dict[tuple[str, str], Counter[str]] = {}
    for place in before.routes.keys() | after.routes.keys():
        had, has = before.routes.get(place), after.routes.get(place)
        fate = fate_of(had or None, has or None)
        if fate:
            fates.setdefault(place[:2], Counter())[fate] += 1
    told = {}
    for name in neighbors:
        was, now = before.sent.get(name, {}), after.sent.get(name, {})
        sent = sum(was.get(place) != now[place] for place in now)
        told[name] = (sent, len(was.keys() - now.keys()))
    return {place: dict(counts) for place, counts in fates.items()}, _without_nothing(told)


def fate_of(had: frozenset[str] | str | None, has: frozenset[str] | str | None) -> str:
    if had == has:
        return "unchanged" if had else ""
    if not had or not has:
        return "lost" if had else "new"
    return "fewer" if not isinstance(had, str) and not isinstance(has, str) and has < had else "moved"


def foreseen(view: dict[str, Any]) -> Outcome:
    words = ("unchanged", "fewer", "moved", "lost", "new")
    tables = {(one["vrf"], one["family"]): {word: one[word] for word in words if one[word]} for one in view["tables"]}
    told = {one["neighbor"]: (one["announced"], one["withdrawn"]) for one in view["told"]}
    return {place: counts for place, counts in tables.items() if counts}, _without_nothing(told)


def is_told(came: dict[str, tuple[int, int]], expected: dict[str, tuple[int, int]], before: State) -> bool:
    """Whether neighbors were sent what was foreseen. Where the gateway of a VRF changes, all EVPN routes are sent
    again, also those that are the same."""
    for name in came.keys() | expected.keys():
        sent, withdrawn = came.get(name, (0, 0))
        most = sent + sum(family == "l2vpn-evpn" for family, _ in before.sent.get(name, {}))
        foreseen_sent, foreseen_withdrawn = expected.get(name, (0, 0))
        if foreseen_withdrawn != withdrawn or not sent <= foreseen_sent <= most:
            return False
    return True


def _without_nothing(told: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: counts for name, counts in told.items() if any(counts)}


class Lab:
    """The host under test, with what is random of it."""

    def __init__(self, host: Host, fabric: Fabric, leaves: list[Leaf], chance: random.Random, directory: Path) -> None:
        self.host, self.fabric, self.leaves, self.chance = host, fabric, leaves, chance
        self._file = directory / "other.toml"
        self.tables = base(WORKLOADS)

    def some(self, of: list[Any]) -> list[Any]:
        return [one for one in of if self.chance.random() < 0.6]

    def shuffle(self) -> None:
        """Other routes, and other workloads."""
        for one in self.leaves:
            one.say(set(self.some(LEARNED)), set(self.some(TENANTS)))
        self.tables = base(
            self.some(WORKLOADS),
            exports=[self.chance.choice(("local", "all")) for _ in self.leaves],
            imports=[self.chance.choice(("all", "some")) for _ in self.leaves],
        )
        self.host.reload_with(*self.tables)
        self.settled()

    def settled(self) -> None:
        """All that leaves say is in the kernel, and what is to be sent was sent."""
        self.host.wait_established(*(one.name for one in self.leaves))
        for one in self.leaves:
            wanted = Counter({"ipv4-unicast": len(one.learned), "l2vpn-evpn": len(one.tenants)})
            self.host.wait(lambda one=one, wanted=wanted: self._heard(one) == wanted, f"what {one.name} says")
        self.host.wait(self._is_quiet, "the host to be at rest")

    def _heard(self, leaf: Leaf) -> Counter[str]:
        views = self.host.get("received", neighbor=leaf.name)
        assert {one["prefix"] for one in views if one["family"] == "ipv4-unicast"} <= set(LEARNED)
        heard = {(one["family"], one["prefix"]) for one in views}
        if {prefix for family, prefix in heard if family == "ipv4-unicast"} != leaf.learned:
            return Counter()
        return Counter(family for family, _ in heard)

    def _is_quiet(self) -> bool:
        view = self.host.get("overview")
        waiting = [one for one in self.host.get("workloads") if one["state"] == "pending"]
        return not any(one["pending"] for one in view["tables"]) and not waiting

    def is_foreseen(self, view: dict[str, Any], do: Callable[[], None], what: str) -> None:
        """Does it, and compares."""
        expected = foreseen(view)
        before = State(self.host)
        left = view["neighbors_left"]
        do()
        found: list[Outcome] = []

        def is_so() -> bool:
            found[:] = [came(before, State(self.host), left)]
            return found[0][0] == expected[0] and is_told(found[0][1], expected[1], before)

        try:
            self.host.wait(is_so, what)
        except Exception as error:
            raise AssertionError(f"{what}: foreseen {expected}, came {found} (seed {SEED})\n{view}") from error

    # Cases

    def neighbor_down(self) -> None:
        one = self.chance.choice(self.leaves)
        view = self.host.get("what-if", down=one.name)
        self.is_foreseen(view, one.down, f"without {one.name}")
        one.up()

    def uplink_down(self) -> None:
        number = self.chance.randrange(len(self.leaves))
        name = f"eth{number}"
        view = self.host.get("what-if", down=name)
        assert view["neighbors_down"] == [self.leaves[number].name]
        self.is_foreseen(view, lambda: self._link(name, "down"), f"without {name}")
        self._link(name, "up")
        self.leaves[number].up()

    def pod_or_uplink_of_a_tenant_down(self) -> None:
        name = self.chance.choice((*PODS, *TENANT_UPLINKS))
        view = self.host.get("what-if", down=name)
        assert view["neighbors_down"] == []
        self.is_foreseen(view, lambda: self._link(name, "down"), f"without {name}")
        self._link(name, "up")

    def _link(self, name: str, state: str) -> None:
        self.fabric.host.ip("link", "set", name, state)

    def drained(self) -> None:
        words = self.chance.choice((("--all", "--force"), ("--force",)))
        view = json.loads(self.host.cli("what-if", "--json", "--drain", *words))
        before = foreseen(view)[1]
        state = State(self.host)
        self.host.cli("drain", "on", *words)
        names = [one.name for one in self.leaves]
        self.host.wait(lambda: self.host.get("drain")["state"] == "drained", "the drain")
        self.host.wait(lambda: came(state, State(self.host), names)[1] == before, f"{before} of the drain {words}")
        self.host.cli("drain", "off")
        self.host.wait(lambda: came(state, State(self.host), names)[1] == {}, "all to be announced again")

    def reloaded(self) -> None:
        has_vrf = self.chance.random() < 0.7
        workloads = [one for one in self.some(WORKLOADS) if has_vrf or not one[2]]
        numbers = [1, 2] if self.chance.random() < 0.8 else [self.chance.choice((1, 2))]
        tables = base(
            workloads,
            exports=[self.chance.choice(("local", "all", "none")) for _ in range(2)],
            imports=[self.chance.choice(("all", "some", "none")) for _ in range(2)],
            has_vrf=has_vrf,
            numbers=numbers,
        )
        self._file.write_text(config(*tables))
        view = json.loads(self.host.cli("what-if", "--json", "--reload", str(self._file), check=False))
        self.is_foreseen(view, lambda: self.host.reload_with(*tables), f"with {config(*tables)}")
        self.host.reload_with(*self.tables)
        for number, one in enumerate(self.leaves, 1):
            if number not in numbers:
                one.up()


def base(
    workloads: list[tuple[str, str, str]],
    *,
    exports: list[str] | None = None,
    imports: list[str] | None = None,
    has_vrf: bool = True,
    numbers: list[int] | None = None,
) -> tuple[str, ...]:
    """The tables of a configuration."""
    families = ["ipv4-unicast", "l2vpn-evpn"]
    return (
        *(
            leaf(
                number,
                families=families,
                export=(exports or ["all", "all"])[number - 1],
                import_=(imports or ["all", "all"])[number - 1],
            )
            for number in numbers or (1, 2)
        ),
        *([VRF] if has_vrf else []),
        *(
            table("[[workload.static]]", prefix=prefix, interface=interface, vrf=vrf)
            for prefix, interface, vrf in workloads
        ),
        table("[drain]", settle_s=0),
        POLICY,
    )


@pytest.fixture
def links(fabric: Fabric) -> None:
    """The uplinks of VRF blue, and a pod in it."""
    link(fabric.host, "vm1", fabric.pods, "vm1")
    for number, there in ((1, fabric.leaf1), (2, fabric.leaf2)):
        link(fabric.host, TENANT_UPLINKS[number - 1], there, "swp101")
        fabric.host.addresses(TENANT_UPLINKS[number - 1], f"10.1.{number}.1/24")


def test_what_is_foreseen_comes_in_random_cases(fabric: Fabric, links: None, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(fabric, *base(WORKLOADS), wait=False) as host,
    ):
        leaves = [Leaf(peer1, 1), Leaf(peer2, 2)]
        for one in leaves:
            one.up()
        lab = Lab(host, fabric, leaves, chance, tmp_path)
        kinds = [lab.neighbor_down, lab.uplink_down, lab.pod_or_uplink_of_a_tenant_down, lab.drained, lab.reloaded]
        chance.shuffle(kinds)
        for number in range(CASES):
            lab.shuffle()
            kinds[number % len(kinds)]()
        assert host.log("api.failed") == []
