"""Feed: workloads by MQTT (Mosquitto) and by the local API; until the leaf has heard them."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import statistics
import struct
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.loop_stall import stall_figures
from benchmarks.measurement import Figures, Job, Options, count_text
from benchmarks.orchestrator import Publisher, put
from benchmarks.topology import Topology
from labs.daemons import Bgpd, Mosquitto

MQTT, API = "MQTT", "API"
HOST = "bench"
TOPICS = f"bgpd/v1/hosts/{HOST}"
BROKER = "listener 1883 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n"
"""As conf/mosquitto/bgpd.conf, without users."""
FEED = f"""
[workload.mqtt]
broker = "mqtt://127.0.0.1:1883"
host = "{HOST}"
[workload.api]
"""
CHECKS = "feed single workloads by MQTT beside 1,000 health checks"
SERVICES, BACKENDS, PORT = 20, 50, 8000
PROBE, FIRST, SINGLES, SERVICE = 0x0A3F0001, 0x0A400100, 0x0A410000, 0x0A420000
"""Addresses: of the probe, of bursts, of single workloads, of services."""


def jobs(options: Options) -> Iterator[Job]:
    """A burst and single workloads, each by both ways, and a thousand health checks; bgpd only."""
    if options.contestants and "bgpd" not in options.contestants:
        return
    for count in options.sizes_or((10_000,), (2_000,)):
        for how in (MQTT, API):
            yield Job(case=burst_case(how, count), contestant="bgpd", run=partial(run_burst, how, count))
    rounds = 40 if options.quick else 200
    for how in (MQTT, API):
        yield Job(case=single_case(how), contestant="bgpd", run=partial(run_single, how, rounds))
    yield Job(case=CHECKS, contestant="bgpd", run=partial(run_single, MQTT, rounds, checks=True))


def burst_case(how: str, count: int = 10_000) -> str:
    """Name of the variant."""
    return f"feed {count_text(count)} workloads by {how}"


def single_case(how: str) -> str:
    """Name of the variant."""
    return f"feed single workloads by {how}"


def run_burst(how: str, count: int) -> Figures:
    """All at once; `seconds` is from the last publication (or request) until the leaf has heard all."""
    with _feed() as feed:
        before = feed.daemon.usage()
        first, last = feed.tell(how, [_workload(FIRST + number) for number in range(count)])
        heard = int(feed.leaf.ask("wait_count", count=count)["ns"])
        after = feed.daemon.usage()
        return {
            "seconds": max(0.0, (heard - last) / 1e9),
            "from_first_s": (heard - first) / 1e9,
            "cpu_s": after.cpu_s - before.cpu_s,
            "peak_mb": after.peak_mb,
            **stall_figures(feed.daemon.daemon),
        }


def run_single(how: str, rounds: int, *, checks: bool = False) -> Figures:
    """One after the other, 20 ms apart at irregular moments: milliseconds until the leaf has heard it."""
    with _feed() as feed:
        if checks:
            feed.start_checks()
        before, began = feed.daemon.usage(), time.monotonic()
        delays = []
        for number in range(rounds):
            first, _ = feed.tell(how, [_workload(SINGLES + number)])
            delays.append((feed.wait_heard(SINGLES + number, first) - first) / 1e6)
            time.sleep(0.02 + first % 7_000_000 / 1e9)
        after, ended = feed.daemon.usage(), time.monotonic()
        delays.sort()
        return {
            "milliseconds": statistics.median(delays),
            "p99_ms": delays[min(rounds - 1, rounds * 99 // 100)],
            "cpu_percent": (after.cpu_s - before.cpu_s) / (ended - began) * 100,
            **stall_figures(feed.daemon.daemon),
        }


class _Feed:
    """The ways to the daemon, and the leaf that hears what becomes of it."""

    def __init__(self, topology: Topology, daemon: peers.Running) -> None:
        assert isinstance(daemon.daemon, Bgpd)
        self.topology = topology
        self.leaf = topology.leaves[0]
        self.daemon = daemon
        self._socket = daemon.daemon.socket_path
        with topology.host.entered():
            self.publisher = Publisher()

    def tell(self, how: str, workloads: list[tuple[str, bytes]]) -> tuple[int, int]:
        """Publishes or puts: when the first and the last one was sent, in ns."""
        if how == MQTT:
            return self.publisher.publish([(f"{TOPICS}/{name}", body) for name, body in workloads])
        return put(self._socket, [(f"/v1/{name}", body) for name, body in workloads])

    def wait_heard(self, address: int, after_ns: int) -> int:
        """Waits until the leaf heard an address; when, in ns."""
        prefix = (b"\x20" + struct.pack(">I", address)).hex()
        return int(self.leaf.ask("wait_change", prefix=prefix, after_ns=after_ns)["ns"])

    def start_checks(self) -> None:
        """Services whose backends are checked by TCP every 2 s, on a pod that answers; until all are found healthy."""
        pod = self.topology.pod
        pod.batch("link set lo up", "route add 169.254.1.1 dev eth0", "route add local 10.64.0.0/16 dev lo")
        pod.popen(sys.executable, "-c", _ACCEPTING, log_path=self.daemon.daemon.directory / "pod.log")
        backends = [{"id": f"w{n}", "addresses": [_text(FIRST + n)]} for n in range(BACKENDS)]
        self.tell(MQTT, [_workload(FIRST + number) for number in range(BACKENDS)])
        check = {"type": "tcp", "port": PORT}
        for number in range(SERVICES):
            service = {"addresses": [_text(SERVICE + number)], "backends": backends, "check": check}
            service["min_healthy"] = BACKENDS
            self.tell(MQTT, [(f"services/s{number}", json.dumps(service).encode())])
        for number in range(SERVICES):
            self.wait_heard(SERVICE + number, 0)
        time.sleep(1.0)


@contextlib.contextmanager
def _feed() -> Iterator[_Feed]:
    """One leaf, a broker beside the daemon; begins when a workload went all the way."""
    with Topology(leaves=1) as topology, Mosquitto(topology.host, BROKER):
        running = peers.start_bgpd(topology, FEED)
        try:
            topology.leaves[0].ask("established")
            feed = _Feed(topology, running)
            feed.tell(MQTT, [_workload(PROBE)])
            feed.wait_heard(PROBE, 0)
            time.sleep(1.0)
            feed.leaf.ask("forget")
            yield feed
            feed.publisher.close()
        finally:
            running.kill()


def _workload(address: int) -> tuple[str, bytes]:
    """Name below the host, and payload."""
    payload = {"kind": "pod", "addresses": [_text(address)], "interface": "pod0"}
    return f"workloads/w{address:x}", json.dumps(payload).encode()


def _text(address: int) -> str:
    return str(ipaddress.IPv4Address(address))


_ACCEPTING = f"""
import socket
listener = socket.create_server(("", {PORT}), backlog=1024)
while True:
    listener.accept()[0].close()
"""
