"""The kernel's own limit: a bare netlink writer of the same routes, and nothing else (no BGP, no table, no checks).

All messages are made before the clock starts; what is timed is the kernel working through them, in batches of 8,192,
each route pointing at a nexthop group. Run inside the host's namespace: python -m benchmarks.raw_limit '{"routes":
{...}, "gateways": ["10.0.0.2"], "interfaces": ["leaf0"]}' prints one JSON line: {"first_ns": ..., "last_ns": ...,
"errors": ...}.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import socket
import struct
import sys
import time
from typing import Any

import msgspec

from benchmarks.internet_table import Routes, routes_of
from benchmarks.kernel_table import (
    NHA_GATEWAY,
    NHA_GROUP,
    NHA_ID,
    NLM_F_REQUEST,
    RTA_DST,
    RTA_NH_ID,
    RTM_DELROUTE,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    SO_RCVBUFFORCE,
)
from benchmarks.routes import pack_address

PROTOCOL = 198
METRIC = 20
GROUP_ID = 1000
BATCH = 8192
NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE = 4, 0x400, 0x100
NHA_OIF, RTA_PRIORITY = 5, 6
SO_SNDBUFFORCE = 32


class Options(msgspec.Struct, kw_only=True):
    """What to write. With `withdraw` the routes are deleted again, in descending order, and that is timed."""

    routes: dict[str, Any]
    gateways: list[str]
    interfaces: list[str]
    withdraw: bool = False


class RawWriter:
    """A netlink socket that writes prepared batches."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)
        self._socket.bind((0, 0))
        self.errors = 0

    def write(self, data: bytes) -> None:
        """Sends one batch; the kernel has worked through it when this returns."""
        self._socket.send(data)
        while True:
            try:
                answer = self._socket.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            start = 0
            while start + 20 <= len(answer):
                length, _, _, _, _, error = struct.unpack_from("=IHHIIi", answer, start)
                self.errors += error != 0
                start += (length + 3) & ~3

    def nexthop_group(self, options: Options) -> None:
        """One nexthop for each gateway, and a group of them."""
        for number, (gateway, interface) in enumerate(zip(options.gateways, options.interfaces), 1):
            address = pack_address(gateway)
            body = struct.pack("=BBBBI", socket.AF_INET if len(address) == 4 else socket.AF_INET6, 0, PROTOCOL, 0, 0)
            body += (
                _number(NHA_ID, number)
                + _number(NHA_OIF, socket.if_nametoindex(interface))
                + _value(NHA_GATEWAY, address)
            )
            self.write(_message(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, body))
        members = b"".join(struct.pack("=IBBH", number, 0, 0, 0) for number in range(1, len(options.gateways) + 1))
        body = struct.pack("=BBBBI", 0, 0, PROTOCOL, 0, 0) + _number(NHA_ID, GROUP_ID) + _value(NHA_GROUP, members)
        self.write(_message(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, body))


def batches(routes: Routes, *, delete: bool = False) -> list[bytes]:
    """The whole table as netlink batches, routes of one prefix length together; deletions in descending order."""
    prefixes = list(routes.prefixes())
    if delete:
        prefixes.sort(reverse=True)
    size = 16 if routes.family == "ipv6-unicast" else 4
    made: list[bytes] = []
    for length, run in itertools.groupby(sorted(prefixes, key=lambda prefix: prefix[0]), key=lambda prefix: prefix[0]):
        head, tail = _template(size, length, delete=delete)
        addresses = [prefix[1:].ljust(size, b"\0") for prefix in run]
        parts = (addresses[start : start + BATCH] for start in range(0, len(addresses), BATCH))
        made.extend(head + (tail + head).join(part) + tail for part in parts)
    return made


def _template(size: int, length: int, *, delete: bool) -> tuple[bytes, bytes]:
    af = socket.AF_INET if size == 4 else socket.AF_INET6
    tail = _number(RTA_PRIORITY, METRIC) + (b"" if delete else _number(RTA_NH_ID, GROUP_ID))
    body = struct.pack("=BBBBBBBBI", af, length, 0, 0, 254, PROTOCOL, 0, 0 if delete else 1, 0)
    body += struct.pack("=HH", 4 + size, RTA_DST)
    kind, flags = (RTM_DELROUTE, 0) if delete else (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
    return _header(kind, flags, len(body) + size + len(tail)) + body, tail


def _header(kind: int, flags: int, length: int) -> bytes:
    return struct.pack("=IHHII", 16 + length, kind, NLM_F_REQUEST | flags, 1, 0)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _header(kind, flags, len(body)) + body


def _value(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return _value(kind, struct.pack("=I", value))


def main() -> None:
    """Writes what argv describes and prints the times."""
    options = msgspec.json.decode(sys.argv[1], type=Options)
    writer = RawWriter()
    writer.nexthop_group(options)
    routes = routes_of(options.routes)
    prepared = batches(routes)
    if options.withdraw:
        for batch in prepared:
            writer.write(batch)
        prepared = batches(routes, delete=True)
    before = os.times()
    first = time.monotonic_ns()
    for batch in prepared:
        writer.write(batch)
    last = time.monotonic_ns()
    after = os.times()
    answer = {
        "first_ns": first,
        "last_ns": last,
        "errors": writer.errors,
        "cpu_s": after.user + after.system - before.user - before.system,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
