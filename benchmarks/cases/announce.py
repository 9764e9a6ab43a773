"""Announce: kernel routes of this host's workloads appear and go; until the leaf has heard it."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.measurement import Bench, Figures, Job, Options, bench, count_text
from benchmarks.routes import format_prefix

FIRST = 0x0A400100
BY_COMMAND = "`ip route`"
BY_NETLINK = "bare netlink"


def jobs(options: Options) -> Iterator[Job]:
    """All at once, then single routes by the `ip` command and by bare netlink."""
    for count in options.sizes_or((10_000,), (2_000,)):
        for contestant in options.wanted():
            case = f"announce {count_text(count)} kernel routes"
            yield Job(case=case, contestant=contestant, run=partial(run_bulk, contestant, count))
    rounds = 40 if options.quick else 200
    for how in (BY_COMMAND, BY_NETLINK):
        for contestant in options.wanted():
            case = f"announce single routes, {how}"
            yield Job(case=case, contestant=contestant, run=partial(run_single, contestant, how, rounds))


def run_bulk(contestant: str, count: int) -> Figures:
    """`count` routes in one `ip -batch`; from its start until the leaf has heard all."""
    with bench(contestant) as ready:
        path = ready.daemon.daemon.directory / "routes.batch"
        path.write_text("\n".join(kernel_routes(count)) + "\n")
        ready.topology.leaves[0].ask("forget")
        before = ready.daemon.usage()
        first = time.monotonic_ns()
        ready.topology.host.ip("-batch", str(path))
        written = time.monotonic_ns()
        answer = ready.topology.leaves[0].ask("wait_count", count=count)
        after = ready.daemon.usage()
        seconds = (answer["ns"] - first) / 1e9
        return {
            "seconds": seconds,
            "routes_per_s": count / seconds,
            "ip_seconds": (written - first) / 1e9,
            "cpu_s": after.cpu_s - before.cpu_s,
            "peak_mb": after.peak_mb,
        }


def run_single(contestant: str, how: str, rounds: int) -> Figures:
    """Adds and deletes one route after the other, 20 ms apart at irregular moments."""
    with bench(contestant) as ready:
        changer = _Changer(ready, how)
        adds, deletes = [], []
        for number in range(rounds):
            adds.append(_heard_after(ready, changer, _prefix(number), add=True))
            deletes.append(_heard_after(ready, changer, _prefix(number), add=False))
        changer.close()
        return {
            "milliseconds": statistics.median(adds),
            "add_p99_ms": _percentile(adds, 99),
            "delete_p50_ms": statistics.median(deletes),
            "delete_p99_ms": _percentile(deletes, 99),
        }


def kernel_routes(count: int) -> list[str]:
    """`ip -batch` lines that add the host routes of `count` workloads."""
    return [f"route add {format_prefix(_prefix(number))} dev pod0" for number in range(count)]


class _Changer:
    """Adds and deletes `prefix dev pod0`, by starting `ip` or through a netlink socket of the host's namespace."""

    def __init__(self, ready: Bench, how: str) -> None:
        self._name = ready.topology.host.name
        self._command = how == BY_COMMAND
        with ready.topology.host.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._index = socket.if_nametoindex("pod0")

    def change(self, prefix: bytes, *, add: bool) -> int:
        """Makes the change; when it was begun, in ns."""
        if self._command:
            first = time.monotonic_ns()
            verb = "add" if add else "del"
            subprocess.run(["ip", "-n", self._name, "route", verb, format_prefix(prefix), "dev", "pod0"], check=True)
            return first
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 3 if add else 0, 253, 1, 0)
        body += struct.pack("=HH4sHHI", 8, 1, prefix[1:], 8, 4, self._index)
        kind, flags = (24, 0x405) if add else (25, 0x5)
        first = time.monotonic_ns()
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        error = struct.unpack_from("=i", self._socket.recv(4096), 16)[0]
        if error:
            raise OSError(-error, os.strerror(-error))
        return first

    def close(self) -> None:
        self._socket.close()


def _heard_after(ready: Bench, changer: _Changer, prefix: bytes, *, add: bool) -> float:
    """Milliseconds from the change until the leaf heard it."""
    first = changer.change(prefix, add=add)
    answer = ready.topology.leaves[0].ask("wait_change", prefix=prefix.hex(), after_ns=first, withdrawn=not add)
    time.sleep(0.02 + first % 7_000_000 / 1e9)
    return float(answer["ns"] - first) / 1e6


def _prefix(number: int) -> bytes:
    return b"\x20" + struct.pack(">I", FIRST + number)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
