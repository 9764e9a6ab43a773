"""A host that is taken out of service (`bgpd drain`), and leaves in maintenance: what is sent, and where packets go."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from labs.daemons import Frr
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from labs.traffic import FlowResult, Pair, count
from tests.daemon.fabric import Fabric, Host, announce, config, frr_paths, leaf, started, table
from tests.daemon.feed import API
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, receive, update

pytestmark = pytest.mark.netns

POD, SERVICE = "10.64.1.1", "10.64.100.1"
LOWERED = COMMUNITY_GRACEFUL_SHUTDOWN.to_bytes(4)
FAST = table("[drain]", settle_s=1)


class Heard:
    """What a raw neighbor was sent: of each prefix the last communities (None: withdrawn), and all that happened."""

    def __init__(self, connection: socket.socket) -> None:
        self.routes: dict[str, bytes | None] = {}
        self.log: list[tuple[str, str]] = []
        self._connection = connection
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(LabError, OSError):
            while True:
                with contextlib.suppress(TimeoutError):
                    kind, body = receive(self._connection)
                    if kind == UPDATE:
                        self._update(body)

    def _update(self, body: bytes) -> None:
        (size,) = struct.unpack_from("!H", body)
        withdrawn, rest = body[2 : 2 + size], body[2 + size :]
        (size,) = struct.unpack_from("!H", rest)
        attributes, nlri = rest[2 : 2 + size], rest[2 + size :]
        for prefix in _prefixes(withdrawn):
            self.routes[prefix] = None
            self.log.append(("withdrawn", prefix))
        for prefix in _prefixes(nlri):
            self.routes[prefix] = _communities(attributes)
            self.log.append(("lowered" if LOWERED in (self.routes[prefix] or b"") else "announced", prefix))

    def of(self, address: str) -> list[str]:
        """What happened to one address."""
        return [what for what, prefix in self.log if prefix == f"{address}/32"]


def _prefixes(data: bytes) -> Iterator[str]:
    while data:
        size = (data[0] + 7) // 8
        yield f"{socket.inet_ntoa(data[1 : 1 + size].ljust(4, bytes(1)))}/{data[0]}"
        data = data[1 + size :]


def _communities(data: bytes) -> bytes:
    while data:
        flags, kind, size = data[0], data[1], data[2]
        start = 3
        if flags & 0x10:
            size, start = int.from_bytes(data[2:4]), 4
        if kind == 8:
            return data[start : start + size]
        data = data[start + size :]
    return b""


def order(host: Host, method: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    """PUT or DELETE /v1/drain: status and answer."""
    connection = http.client.HTTPConnection("bgpd", timeout=10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection.sock:
        connection.sock.connect(str(host.socket_path))
        connection.request(method, "/v1/drain", body=json.dumps(fields) if method == "PUT" else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def offer(host: Host, directory: Path) -> None:
    """A pod, and a service that it serves."""
    host.cli("workload", "add", "pod1", "--address", POD, "--interface", "pod1")
    file = directory / "service.json"
    file.write_text(json.dumps({"addresses": [SERVICE], "backends": [{"id": "pod1", "addresses": [POD]}]}))
    host.cli("service", "add", "web", str(file))


def wait_state(host: Host, state: str, stage: str) -> None:
    host.wait(lambda: (host.get("drain")["state"], host.get("drain")["stage"]) == (state, stage), f"{state}, {stage}")


def other_host(connection: socket.socket, *, lowered: bool = False) -> None:
    """Another host announces the service, by this leaf."""
    extra = attribute(0xC0, 8, LOWERED) if lowered else b""
    connection.sendall(update((f"{SERVICE}/32",), asn=65201, extra=extra))


@pytest.fixture
def wire(fabric: Fabric) -> Iterator[WirePeer]:
    with WirePeer(fabric.leaf1) as peer:
        yield peer


def test_a_drain_lowers_then_withdraws_services_outlives_a_restart_and_off_is_as_before(
    fabric: Fabric, wire: WirePeer, tmp_path: Path
) -> None:
    with started(fabric, leaf(1, import_="default-only"), API, FAST) as host:
        connection = wire.establish()
        heard = Heard(connection)
        offer(host, tmp_path)
        host.wait(lambda: heard.of(SERVICE), "the service")
        status, answer = order(host, "PUT")
        assert status == 409, "this host is the last"
        assert SERVICE in answer["error"]
        assert "--force" in answer["hint"]
        host.wait(lambda: heard.of(POD)[-1] == "announced", "all as before")
        other_host(connection)
        heard.log.clear()
        host.wait(lambda: host.get("routes", prefix=f"{SERVICE}/32")[0]["candidates"][1:], "another host's route")
        host.cli("drain", "on", "--for", "1h")
        wait_state(host, "drained", "services-withdrawn")
        assert (heard.of(POD), heard.of(SERVICE)) == (["lowered"], ["lowered", "withdrawn"])
        view = host.get("drain")
        assert 3000 < view["until"] - view["since"] <= 3601
        health = host.health()
        assert not health["ready"]
        assert "this host is drained since" in health["reasons"][0]
        assert "UTC until" in health["reasons"][0]
        assert "this host is drained" in host.explain(SERVICE)["verdict"]
        assert host.metric("bgpd_drain", state="drained") == 1
        assert "this host is drained" in host.get("services")[0]["reason"]
        host.cli("workload", "add", "late", "--address", "10.64.1.2", "--interface", "pod2")
        host.wait(lambda: heard.of("10.64.1.2"), "the late pod")
        assert heard.of("10.64.1.2") == ["lowered"]
        host.write_config(config(leaf(1, import_="default-only", export="all", connect_retry_s=2), API, FAST))
        host.cli("reload")
        host.cli("workload", "add", "later", "--address", "10.64.1.3", "--interface", "pod2")
        host.wait(lambda: heard.of("10.64.1.3"), "a pod after the reload")
        assert (heard.of(POD), heard.of(SERVICE)[-1], heard.of("10.64.1.3")) == (["lowered"], "withdrawn", ["lowered"])
        assert len(host.established()) == 1
        host.terminate(signal.SIGKILL)
        host.start()
        again = Heard(wire.establish())
        host.wait(lambda: again.of(POD) and again.of("10.64.1.2"), "the pods after the restart")
        assert host.get("drain")["state"] == "drained"
        host.wait(lambda: host.get("services"), "the service after the restart")
        host.cli("drain", "off")
        host.wait(lambda: again.of(SERVICE), "the service to be back")
        assert again.of(SERVICE) == ["announced"], "it was not announced before"
        assert again.of(POD) == ["lowered", "announced"]
        host.wait_ready()
        assert [record["stage"] for record in host.log("drain.stage")][2:] == [
            "graceful-shutdown", "services-withdrawn", "services-withdrawn", "off",
        ]  # fmt: skip


def test_all_withdraws_workloads_after_services_and_a_drain_ends_by_itself(
    fabric: Fabric, wire: WirePeer, tmp_path: Path
) -> None:
    with started(fabric, leaf(1, import_="none"), API, FAST) as host:
        heard = Heard(wire.establish())
        offer(host, tmp_path)
        host.wait(lambda: heard.of(SERVICE), "the service")
        host.cli("drain", "on", "--all", "--force", "--for", "20", "--wait", "--timeout", "15")
        gone = [prefix for what, prefix in heard.log if what == "withdrawn"]
        assert gone == [f"{SERVICE}/32", f"{POD}/32"]
        assert host.get("drain")["stage"] == "all-withdrawn"
        assert [(one["name"], one["quiet"]) for one in host.get("drain")["counters"]] == [("eth0", True)]
        host.wait(lambda: heard.of(POD)[-1] == "announced", "the end of the drain", timeout_s=40)
        assert host.get("drain")["state"] == "off"


def test_a_service_whose_other_host_leaves_too_stays_announced(fabric: Fabric, wire: WirePeer, tmp_path: Path) -> None:
    with started(fabric, leaf(1), API, table("[drain]", settle_s=2)) as host:
        connection = wire.establish()
        heard = Heard(connection)
        offer(host, tmp_path)
        host.wait(lambda: heard.of(SERVICE), "the service")
        other_host(connection)
        host.wait(lambda: order(host, "PUT")[0] == 200, "the other host to be seen")
        other_host(connection, lowered=True)
        host.wait(lambda: host.get("drain")["kept"] == [f"{SERVICE}/32"], "the service to be kept")
        assert heard.of(SERVICE)[-1] == "lowered"
        assert host.get("drain")["state"] == "draining"
        other_host(connection)
        wait_state(host, "drained", "services-withdrawn")
        assert heard.of(SERVICE)[-1] == "withdrawn"


def test_a_shutdown_drains_only_where_that_is_wanted(fabric: Fabric, wire: WirePeer, tmp_path: Path) -> None:
    with started(fabric, leaf(1), API, FAST) as host:
        heard = Heard(wire.establish())
        offer(host, tmp_path)
        host.wait(lambda: heard.of(SERVICE), "the service")
        host.cli("drain", "on", "--shutdown", "--wait")
        assert host.get("drain")["state"] == "off"
        host.write_config(config(leaf(1), API, table("[drain]", settle_s=0, on_shutdown=True)))
        host.cli("reload")
        host.cli("drain", "on", "--shutdown", "--wait")
        assert (host.get("drain")["stage"], host.get("drain")["shutdown"]) == ("all-withdrawn", True)
        assert heard.of(POD)[-1] == "withdrawn"


class Packets:
    """A ping of 100 packets/s, begun once the way there and back is in all kernels."""

    def __init__(self, source: Namespace, address: str, to: str) -> None:
        self._pair = Pair(source, to)
        once = ("ping", "-n", "-c", "1", "-W", "1", "-I", address, to)
        wait_until(lambda: " 0% packet loss" in source.run(*once, check=False), 20, "the first answer")
        log_path = source.make_directory("ping") / "log"
        self._ping = source.popen("ping", "-n", "-D", "-i", "0.01", "-I", address, to, log_path=log_path)

    def stop(self) -> FlowResult:
        self._ping.stop(signal.SIGINT)
        return count(self._pair, self._ping.log_path.read_text(errors="replace"), 0.01)


def counted(namespace: Namespace, interface: str, direction: str = "rx") -> int:
    found: int = json.loads(namespace.ip("-s", "-j", "link", "show", interface))[0]["stats64"][direction]["packets"]
    return found


def busy(namespace: Namespace, interface: str, direction: str = "rx") -> bool:
    """Whether more than half of the ping's packets pass an interface, of those that come while one looks."""
    before = counted(namespace, interface, direction)
    namespace.run("sleep", "0.3")
    return counted(namespace, interface, direction) - before > 15


def maintenance(frr: Frr, on: bool) -> None:
    asn = str(frr.vtysh_json("show bgp vrf default json")["localAS"])
    frr.vtysh("configure terminal", f"router bgp {asn}", f"{'' if on else 'no '}bgp graceful-shutdown")


@pytest.mark.parametrize("kind", ["ebgp", "ibgp"])
def test_a_leaf_in_maintenance_has_no_packet_any_more_and_none_is_lost(fabric: Fabric, kind: str) -> None:
    anycast = "10.9.0.1"
    for one, number in ((fabric.leaf1, 1), (fabric.leaf2, 2)):
        one.ip("addr", "add", f"{anycast}/32", "dev", "lo")
        one.ip("route", "replace", "10.50.0.1/32", "via", f"10.0.{number}.1")
    fabric.host.ip("addr", "add", "10.50.0.1/32", "dev", "lo")
    lines = ("bgp graceful-restart-disable",) if kind == "ebgp" else ()
    asn = {"ebgp": (65201, 65202), "ibgp": (65203, 65203)}[kind]
    daemons = [_leaf_of(fabric, number, asn[number - 1], *lines) for number in (1, 2)]
    try:
        with started(fabric, leaf(1, asn=asn[0]), leaf(2, asn=asn[1])) as host:
            both = ("10.0.1.2%eth0", "10.0.2.2%eth1")
            before = both if kind == "ebgp" else both[:1]  # of IBGP the lower router ID is best
            host.wait_established("leaf1", "leaf2")
            host.wait_hops("10.9.0.1/32", *before)
            flow = Packets(fabric.host, "10.50.0.1", anycast)
            host.wait(lambda: busy(fabric.leaf1, "swp1") != busy(fabric.leaf2, "swp1"), "the flow on one leaf")
            first = 1 if busy(fabric.leaf1, "swp1") else 2
            one, other = (fabric.leaf1, fabric.leaf2) if first == 1 else (fabric.leaf2, fabric.leaf1)
            maintenance(daemons[first - 1], True)
            host.wait(lambda: busy(other, "swp1") and not busy(one, "swp1"), "the flow on the other leaf")
            why = host.get("routes", prefix="10.9.0.1/32")[0]["candidates"]
            assert [one["local_pref"] for one in why][-1] == 0
            maintenance(daemons[first - 1], False)
            host.wait_hops("10.9.0.1/32", *before)
            assert flow.stop().lost == 0
    finally:
        for daemon in daemons:
            daemon.stop()
        for one in (fabric.leaf1, fabric.leaf2):
            one.ip("addr", "del", f"{anycast}/32", "dev", "lo")
            one.ip("route", "del", "10.50.0.1/32")
        fabric.host.ip("addr", "del", "10.50.0.1/32", "dev", "lo")


def _leaf_of(fabric: Fabric, number: int, asn: int, *lines: str) -> Frr:
    """FRR as a leaf of any AS that announces 10.9.0.1/32."""
    block = [
        f"router bgp {asn}",
        f"bgp router-id 10.255.0.{number}",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        f"neighbor 10.0.{number}.1 remote-as 65203",
        f"neighbor 10.0.{number}.1 timers connect 1",
        *lines,
        "address-family ipv4 unicast",
        "network 10.9.0.1/32",
        "exit-address-family",
        "exit",
    ]
    return Frr((fabric.leaf1, fabric.leaf2)[number - 1], "\n".join(block) + "\n")


def test_packets_for_a_service_leave_a_drained_host_without_loss_and_come_back(fabric: Fabric, tmp_path: Path) -> None:
    """leaf1 has the client and prefers this host; leaf2, which is linked to it, stands for another host."""
    client = "10.50.0.2"
    link(fabric.leaf1, "isl", fabric.leaf2, "isl")
    fabric.leaf1.addresses("isl", "10.0.12.1/24")
    fabric.leaf2.addresses("isl", "10.0.12.2/24")
    fabric.leaf1.ip("addr", "add", f"{client}/32", "dev", "lo")
    fabric.leaf2.ip("addr", "add", f"{SERVICE}/32", "dev", "lo")
    fabric.pods.batch(
        f"addr add {POD}/32 dev lo", f"addr add {SERVICE}/32 dev lo",
        "route add 10.0.1.1/32 dev pod1", f"route add {client}/32 via 10.0.1.1",
    )  # fmt: skip
    peers = ("neighbor 10.0.12.{} remote-as 6520{}", "neighbor 10.0.12.{} timers connect 1")
    with (
        fabric.frr(1, *(line.format(2, 2) for line in peers), networks=(f"{client}/32",)) as leaf1,
        fabric.frr(2, *(line.format(1, 1) for line in peers)) as leaf2,
        started(fabric, leaf(1), API, FAST) as host,
    ):
        leaf2.vtysh("configure terminal", "route-map far permit 10", "set as-path prepend 65202 65202")
        announce(leaf2, f"{SERVICE}/32 route-map far")
        host.wait_established("leaf1")
        offer(host, tmp_path)
        host.wait(lambda: len(frr_paths(leaf1, f"{SERVICE}/32")) == 2, "both at the leaf")
        flow = Packets(fabric.leaf1, client, SERVICE)
        host.wait(lambda: busy(fabric.host, "pod1", "tx"), "packets at the pod")
        announce(leaf2, f"{SERVICE}/32", withdraw=True)
        host.wait(lambda: order(host, "PUT")[0] == 409, "the refusal of the last one")
        announce(leaf2, f"{SERVICE}/32 route-map far")
        host.wait(lambda: len(frr_paths(leaf1, f"{SERVICE}/32")) == 2, "both at the leaf again")
        others = host.get("routes", prefix=f"{SERVICE}/32")[0]["candidates"][1:]
        assert not [one for one in others if "65202" in one["as_path"]], "leaf1's best is this host's own"
        assert order(host, "PUT")[0] == 200, "with GRACEFUL_SHUTDOWN leaf1 shows what else there is"
        host.wait(lambda: busy(fabric.leaf2, "isl") and not busy(fabric.host, "pod1", "tx"), "packets elsewhere")
        wait_state(host, "drained", "services-withdrawn")
        assert [path["aspath"]["string"] for path in frr_paths(leaf1, f"{SERVICE}/32")] == ["65202 65202 65202"]
        [pod] = frr_paths(leaf1, f"{POD}/32")
        assert "graceful-shutdown" in json.dumps(pod["community"]).lower()
        host.cli("drain", "off")
        host.wait(lambda: busy(fabric.host, "pod1", "tx") and not busy(fabric.leaf2, "isl"), "packets back")
        assert flow.stop().lost == 0
        assert "community" not in frr_paths(leaf1, f"{POD}/32")[0]
