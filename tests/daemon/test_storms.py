"""Reloads without end while a full feed arrives, neighbors flap, VRFs come and go, clients ask and the broker dies.

Nothing of that may cost more than what it is: in the end the kernel, the RIB and the neighbors have what the last
configuration and the last words of the neighbors say, and no log line tells of a defect.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType

import pytest

from labs.daemons import Frr
from labs.namespace import Namespace, link
from labs.process import LabError
from tests.daemon import fabric as fabric_module
from tests.daemon.conftest import LEARNED
from tests.daemon.fabric import (
    Fabric,
    Host,
    config,
    heard_from_host,
    kernel_hops,
    kernel_routes,
    leaf,
    nexthops_unused,
    started,
    table,
)
from tests.daemon.feed import API, MQTT, Orchestrator
from tests.daemon.wire_peer import WirePeer, attribute, receive, update

pytestmark = pytest.mark.netns

SECONDS = float(os.environ.get("STORM_S", "15"))
"""Longer, and with other seeds, by hand."""
SEED = int(os.environ.get("STORM_SEED", "7"))
FEED = [f"10.{128 + number // 256}.{number % 256}.0/24" for number in range(20_000)]
VM_FEED = [f"10.{96 + number // 256}.{number % 256}.0/24" for number in range(2_000)]
LOT = 200
POD, TENANT_POD = "10.64.1.5/32", "10.64.7.5/32"

BLUE = table("[[vrf]]", name="blue", table=1001, vni=5001)
RED = table("[[vrf]]", name="red", table=1002, vni=5002, uplinks=["pod1"])
VM = table(
    "[[neighbor]]",
    name="vm",
    address="10.50.0.2",
    asn=65301,
    import_="all",
    vrf="red",
    interface="pod1",
    connect_retry_s=1,
)
BASE = (
    leaf(1, families=["ipv4-unicast"]),
    leaf(2),
    MQTT,
    API,
    table("[[workload.static]]", prefix=POD, interface="pod2"),
)
TENANTS = (BLUE, RED, VM, table("[[workload.static]]", prefix=TENANT_POD, interface="pod3", vrf="blue"))
EXTRAS = (
    table("[[aggregate]]", prefix="10.64.0.0/16"),
    table("[[aggregate]]", prefix="10.65.0.0/24", summary_only=True, blackhole=True),
    table("[[listen]]", prefix="10.77.0.0/16", asn="external", import_="none"),
    table("[[workload.static]]", prefix="10.64.1.6/32", interface="pod2"),
    '[policy.some]\nrules = [{ match = { prefix = ["10.128.0.0/9 le 24"] } }]\n',
)


class Flapping:
    """A peer that sends its whole feed in each session, until a session is broken off; a context manager."""

    def __init__(self, namespace: Namespace, address: str, asn: int, feed: list[str]) -> None:
        self._peer = WirePeer(namespace, address, asn=asn)
        self._messages = [
            update(
                tuple(feed[start : start + LOT]),
                asn=asn,
                next_hop=address,
                extra=attribute(0xC0, 8, struct.pack("!HH", 65201, start // LOT % 50)),
            )
            for start in range(0, len(feed), LOT)
        ]
        self._ended = threading.Event()
        self._connection: socket.socket | None = None
        self.sessions = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Flapping:
        self._peer.timeout(0.5)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.drop()
        self._thread.join(20)
        self._peer.__exit__()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, LabError):
                self._connection = connection = self._peer.establish()
                connection.settimeout(60)
                self.sessions += 1
                threading.Thread(target=self._swallow, args=(connection,), daemon=True).start()
                for message in self._messages:
                    connection.sendall(message)
                while self._connection is connection and not self._ended.wait(0.05):
                    pass

    def _swallow(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, LabError):
            while True:
                receive(connection)
        if self._connection is connection:
            self._connection = None

    def drop(self, *, reset: bool = False) -> None:
        """Break the session off, wherever in the feed it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
                else:
                    connection.shutdown(socket.SHUT_RDWR)


class Storm:
    """Does something at random at each call of `once`; `calm` leaves all as it should be in the end."""

    def __init__(self, fabric: Fabric, host: Host, feed: Orchestrator, leaf1: Flapping, vm: Flapping) -> None:
        self.fabric, self.host, self.feed, self.leaf1, self.vm = fabric, host, feed, leaf1, vm
        self.chance = random.Random(SEED)
        self.done: dict[str, int] = {}
        self.generation = 0
        self.half_read: list[socket.socket] = []
        self.steps: list[Callable[[], None]] = [
            self.reload,
            self.reload,
            self.reload_storm,
            self.flap_leaf1,
            self.flap_vm,
            self.flap_link,
            self.restart_broker,
            self.claim_by_mqtt,
            self.claim_by_api,
            self.claim_by_api,
            self.ask,
            self.ask_and_go,
        ]

    def once(self) -> None:
        step = self.chance.choice(self.steps)
        self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
        step()

    def calm(self) -> None:
        for sock in self.half_read:
            sock.close()
        self.host.write_config(config(*BASE, *TENANTS))
        self.host.reload()
        for name in ("pod1", "pod2", "pod3"):
            self.fabric.host.ip("link", "set", name, "up")
        for id in range(6):
            self.order("DELETE", f"workloads/api{id}")
        self.feed.forget(self.host)

    def reload(self) -> None:
        extras = [one for one in EXTRAS if self.chance.random() < 0.5]
        tenants: list[str] = []
        if self.chance.random() < 0.6:
            tenants += [RED, VM]
        if self.chance.random() < 0.6:
            tenants += [BLUE, TENANTS[-1]]
        policy = {"import_": "some"} if EXTRAS[-1] in extras and self.chance.random() < 0.5 else {}
        first = leaf(1, families=["ipv4-unicast"], max_prefixes=self.chance.choice((30_000, 60_000)), **policy)
        self.host.write_config(config(first, *BASE[1:], *tenants, *extras))
        self.host.reload()

    def reload_storm(self) -> None:
        for _ in range(10):
            self.reload()
            time.sleep(self.chance.random() / 20)

    def flap_leaf1(self) -> None:
        self.leaf1.drop(reset=self.chance.random() < 0.5)

    def flap_vm(self) -> None:
        self.vm.drop(reset=self.chance.random() < 0.5)

    def flap_link(self) -> None:
        name = self.chance.choice(("pod1", "pod2", "pod3"))
        self.fabric.host.ip("link", "set", name, "down")
        time.sleep(self.chance.random() / 5)
        self.fabric.host.ip("link", "set", name, "up")
        if name == "pod1":
            self.fabric.host.run("ip", "addr", "add", "10.50.0.1/24", "dev", "pod1", check=False)

    def restart_broker(self) -> None:
        self.feed.broker.kill()
        time.sleep(self.chance.random() / 2)
        self.feed.broker.start()

    def claim_by_mqtt(self) -> None:
        with contextlib.suppress(LabError):
            number = self.chance.randrange(8)
            where = self.somewhere()
            addresses = (f"10.65.0.{number}",) if self.chance.random() < 0.7 else ()
            self.feed.workload(f"m{number}", *addresses, **where)
            self.generation += 1
            self.feed.publish("sync", {"generation": self.generation, "count": self.chance.randrange(8)})

    def claim_by_api(self) -> None:
        number = self.chance.randrange(6)
        if self.chance.random() < 0.3:
            self.order("DELETE", f"workloads/api{number}")
            return
        said = {"addresses": [f"10.66.0.{number}", f"10.65.0.{number}"], **self.somewhere()}
        self.order("PUT", f"workloads/api{number}?timeout_s=0", said)

    def somewhere(self) -> dict[str, str]:
        """A VRF and an interface in it."""
        vrf, interface = self.chance.choice((("", "pod2"), ("", "pod2"), ("blue", "pod3"), ("red", "pod1")))
        return {"vrf": vrf, "interface": interface}

    def order(self, method: str, target: str, body: object = None) -> int:
        connection = http.client.HTTPConnection("bgpd", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(20)
        connection.sock.connect(str(self.host.socket_path))
        connection.request(method, f"/v1/{target}", json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        said = response.read()
        connection.close()
        assert response.status < 500 or response.status == 503, (response.status, said)
        return response.status

    def ask(self) -> None:
        targets = ("routes?prefix=10.128.0.0/12&longer_prefixes=true", "fib", "workloads", "neighbors", "vrfs", "evpn")
        for target in self.chance.sample(targets, 2):
            status, said = self.host.request(f"/v1/{target}")
            assert status == 200, said
            json.loads(said)
        status, said = self.host.request("/v1/explain/10.128.7.1")
        assert status == 200, said

    def ask_and_go(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.host.socket_path))
        sock.sendall(b"GET /v1/routes HTTP/1.1\r\nHost: bgpd\r\n\r\n")
        if self.chance.random() < 0.5:
            sock.recv(1000)
        self.half_read.append(sock)
        if len(self.half_read) > 3 or self.chance.random() < 0.5:
            self.half_read.pop(0).close()


def wait_routes(host: Host, number: str, wanted: set[str]) -> None:
    """Wait until a kernel table has just these routes of bgpd's."""
    try:
        host.wait(lambda: kernel_routes(host.namespace, table=number).keys() == wanted, f"table {number}", timeout_s=60)
    except LabError as error:
        found = kernel_routes(host.namespace, table=number).keys()
        lacks, more = sorted(wanted - found), sorted(found - wanted)
        shown = f"{len(lacks)} are missing {lacks[:5]}, {len(more)} too many {more[:5]}"
        vrf = {"1001": "blue", "1002": "red"}.get(number, "")
        states = Counter(view["state"] for view in host.get("fib", vrf=vrf))
        at = next(iter([*lacks, *more])).partition("/")[0]
        explained = host.get(f"explain/{at}", vrf=vrf)
        raise LabError(f"{error}\n{shown}\n{states}\n{explained}\n{host.health()}") from None


@pytest.fixture
def peers(fabric: Fabric) -> Iterator[tuple[Flapping, Flapping]]:
    link(fabric.host, "pod3", fabric.pods, "pod3")
    fabric.host.batch("link set pod1 up", "link set pod2 up", "addr add 10.50.0.1/24 dev pod1")
    fabric.pods.batch("link set pod1 up", "link set pod2 up", "addr add 10.50.0.2/24 dev pod1")
    with (
        Flapping(fabric.leaf1, "10.0.1.2", 65201, FEED) as leaf1,
        Flapping(fabric.pods, "10.50.0.2", 65301, VM_FEED) as vm,
    ):
        yield leaf1, vm


def test_all_is_as_configured_in_the_end(
    fabric: Fabric,
    leaf2: Frr,
    feed: Orchestrator,
    peers: tuple[Flapping, Flapping],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The MQTT library's own words on a broker that was killed are the only errors in the log."""
    allowed = tuple(word for word in fabric_module.DEFECTS if word != "library.message")
    monkeypatch.setattr(fabric_module, "DEFECTS", allowed)
    with started(fabric, *BASE, *TENANTS) as host:
        host.wait_established("leaf1", "leaf2", "vm")
        storm = Storm(fabric, host, feed, *peers)
        start = time.monotonic()
        while time.monotonic() - start < SECONDS:
            storm.once()
            time.sleep(storm.chance.random() / 10)
        storm.calm()
        host.wait_established("leaf1", "leaf2", "vm")
        wait_routes(host, "main", {*FEED, LEARNED, POD.removesuffix("/32")})
        wait_routes(host, "1002", {*VM_FEED, "10.50.0.0/24", "default"})
        wait_routes(host, "1001", {TENANT_POD.removesuffix("/32"), "default"})
        assert kernel_hops(fabric.host, LEARNED) == ["10.0.2.2%eth1"]
        host.wait(lambda: heard_from_host(leaf2, POD), "the other leaf to have the pod")
        host.wait_ready()
        host.wait(lambda: host.health()["fib_pending"] == host.health()["fib_failed"] == 0, "nothing to wait")
        assert host.neighbor("leaf2")["established_count"] == 1, "the neighbor that did nothing lost no session"
        errors = [record for record in host.log() if record["level"] == "error"]
        assert [record for record in errors if record["event"] != "library.message"] == []
        host.write_config(config(*BASE))
        host.cli("reload")
        wait_routes(host, "1001", set())
        wait_routes(host, "1002", set())
        host.wait(lambda: not nexthops_unused(fabric.host), "unused next hops to go", timeout_s=90)
