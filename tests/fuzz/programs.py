"""Targets: what other programs and hosts beside this one say: the kernel, BFD, Router Advertisements, LLDP, DNS."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator

import msgspec
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from bgpd.bfd import control, packet
from bgpd.kernel import route_decoder
from bgpd.kernel.counters import _each, _packets_of
from bgpd.kernel.link_messages import encode_add_rule, read_address, read_link, read_rules
from bgpd.kernel.netlink import MessageKind, attribute, message, messages, read_error
from bgpd.kernel.nexthop_messages import encode_group, encode_nexthop, read_object, read_objects
from bgpd.kernel.route_decoder import expand, read_foreign_routes, read_routes, read_runs
from bgpd.model.iana import Family
from bgpd.model.kernel import RoutingRule
from bgpd.model.service import DnsRecord
from bgpd.speaker import lldp
from bgpd.speaker.lldp import parse_lldp
from bgpd.speaker.router_discovery import (
    encode_advertisement,
    encode_solicitation,
    is_valid_advertisement,
    is_valid_solicitation,
)
from bgpd.workload.service import dns
from tests.fuzz.target import Target
from tests.kernel.test_link_messages import encoded

QUERY = dns.encode_query("www.example.org", DnsRecord.A, 7)
LINK_LOCAL = bytes.fromhex("fe80000000000000") + bytes(8)


def run_bfd_packet(data: bytes) -> None:
    """A packet is discarded, or encoded to the same fields."""
    try:
        found = packet.decode(data)
    except packet.Discarded:
        return
    again = packet.decode(found.encode())
    assert all(getattr(again, name) == getattr(found, name) for name in packet.Packet.__slots__)


READERS: tuple[Callable[[str], object], ...] = (
    control.read_desired,
    control.read_report,
    control.read_key,
    control.read_counts,
    control.wrong_hello,
)


def run_bfd_control(data: bytes) -> None:
    """A line of the BFD process, or of the daemon; the first byte says which. What is taken is said alike again."""
    if not data or len(data) > control.MAX_LINE:
        return
    read, line = READERS[data[0] % len(READERS)], data[1:].decode(errors="replace")
    try:
        found = read(line)
    except control.BadLine as error:
        str(error).encode()
        return
    if isinstance(found, control.Desired | control.Report):
        again = read(found.line().partition(" ")[2])
        assert isinstance(again, control.Desired | control.Report)
        assert again.line() == found.line()
    if isinstance(found, control.Report):
        msgspec.json.encode([getattr(found, name) for name in control.NUMBERS])


def _named(index: int) -> str:
    return f"if{index}" if index else ""


def _notified(data: bytes) -> None:
    """As the monitor reads what the kernel tells (monitor.py)."""
    for kind, flags, _sequence, start, end in messages(data):
        match kind:
            case MessageKind.NEW_ROUTE | MessageKind.DEL_ROUTE:
                expand(read_routes(data, start, end, _named), lambda _: (("eth0", b""), ("eth1", b"")))
            case MessageKind.NEW_LINK | MessageKind.DEL_LINK:
                read_link(data, start, end, _named)
            case MessageKind.NEW_ADDRESS | MessageKind.DEL_ADDRESS:
                read_address(data, start, end)
            case MessageKind.NEW_NEXTHOP | MessageKind.DEL_NEXTHOP:
                read_object(data, start, end)
            case MessageKind.ERROR:
                read_error(data, start, end, flags)


NETLINK: tuple[Callable[[bytes], object], ...] = (
    _notified,
    lambda data: [len(run.keys) for run in read_runs(data)],
    lambda data: list(read_foreign_routes(data, 217, _named)),
    lambda data: [*read_rules(Family.IPV4_UNICAST, data), *read_rules(Family.IPV6_UNICAST, data)],
    lambda data: list(read_objects(data)),
    lambda data: [_packets_of(entry) for entry in _each(data)],
)


def run_netlink(data: bytes) -> None:
    """A datagram of the kernel, by the reader that the first byte chooses. The kernel is trusted: a field that is
    shorter than it writes it may be a struct.error. But the reader ends, and takes no more than there is."""
    if data:
        with contextlib.suppress(struct.error):
            NETLINK[data[0] % len(NETLINK)](data[1:])


def run_discovery(data: bytes) -> None:
    """A Router Advertisement or Solicitation; the first byte is its hop limit."""
    if data:
        is_valid_advertisement(data[1:], source=LINK_LOCAL, hop_limit=data[0])
        is_valid_solicitation(data[1:], hop_limit=data[0])


def run_lldp(data: bytes) -> None:
    """What lldpcli prints."""
    try:
        found = parse_lldp(data.decode(errors="replace"))
    except ValueError:
        return
    assert all(found.values())


def run_dns(data: bytes) -> None:
    """The answer to a health check's question."""
    for answer in (data, QUERY[:2] + data):
        try:
            dns.read_answer(answer, QUERY, DnsRecord.A).encode()
        except (dns.NotForUs, dns.Truncated):
            continue


# What is right


def netlink_seeds() -> Iterator[bytes]:
    """As the kernel writes it, by pyroute2's classes; for each reader."""
    address = [("IFA_ADDRESS", "10.0.0.1"), ("IFA_LOCAL", "10.0.0.2"), ("IFA_FLAGS", 0x48)]
    kind = [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_SLAVE_KIND", "vrf")]
    link = [("IFLA_IFNAME", "eth0"), ("IFLA_ADDRESS", "02:00:00:00:00:01"), ("IFLA_MTU", 1500), ("IFLA_LINK", 2)]
    yield b"\0" + encoded(ifinfmsg, {"index": 3, "flags": 0x10001}, [*link, ("IFLA_LINKINFO", {"attrs": kind})])
    yield b"\0" + _of_kind(MessageKind.NEW_ADDRESS, encoded(ifaddrmsg, {"family": 2, "prefixlen": 24}, address))
    objects = encode_nexthop(7, 217, bytes((10, 0, 0, 1)), 3) + encode_group(9, 217, ((7, 1), (8, 3)))
    for reader in (b"\0", b"\4"):
        yield reader + objects
    rules = (
        RoutingRule(family=Family.IPV4_UNICAST, priority=1000, protocol=217, l3mdev=True),
        RoutingRule(family=Family.IPV4_UNICAST, priority=7, protocol=217, table=1001, iif="eth0", to=b"\x18\x0a\1\2"),
    )
    yield b"\3" + b"".join(map(encode_add_rule, rules))
    hops = b"".join(struct.pack("=HBBI", 16, 0, number, 3) + bytes((8, 0, 5, 0, 10, 0, 0, number)) for number in (1, 2))
    found = attribute(1, b"\x0a\1\2\0"), attribute(15, struct.pack("=I", 254)), attribute(6, struct.pack("=I", 20))
    ways = (
        attribute(5, b"\x0a\0\0\1") + attribute(4, struct.pack("=I", 3)),
        attribute(30, struct.pack("=I", 9)),
        attribute(9, hops),
        attribute(18, struct.pack("=H", 10) + b"\xfe\x80" + bytes(14)),
    )
    for way in ways:
        for protocol in (4, 217):
            head = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, protocol, 0, 1, 0)
            one = message(MessageKind.NEW_ROUTE, 0, head + b"".join(found) + way)
            for reader in (b"\0", b"\1", b"\2"):
                yield reader + one * 3
    refused = struct.pack("=i", -17) + message(MessageKind.NEW_ROUTE, 0, b"")
    yield b"\0" + message(MessageKind.ERROR, 0x200, refused + attribute(1, b"because\0"))
    yield b"\5" + attribute(1, attribute(2, bytes(8))) + attribute(1, attribute(2, b"\7\0\0\0"))


def _of_kind(kind: int, data: bytes) -> bytes:
    return data[:4] + struct.pack("=H", kind) + data[6:]


def discovery_seeds() -> Iterator[bytes]:
    """As bgpd sends it."""
    for mac in (b"", b"\2\0\0\0\0\1"):
        yield b"\xff" + encode_advertisement(mac)
        yield b"\xff" + encode_solicitation(mac)


def lldp_seeds() -> Iterator[bytes]:
    """In each of the forms that versions of lldpd print."""
    chassis: tuple[object, ...] = (
        {"leaf1": {"id": {"type": "mac", "value": "02:00:00:00:00:01"}}},
        [{"id": [{"value": "x"}], "name": [{"value": "leaf1"}, "leaf2"]}],
        {"id": {"value": "x"}},
        [7],
    )
    for one in chassis:
        yield msgspec.json.encode({"lldp": {"interface": {"eth0": {"chassis": one}}}})
        yield msgspec.json.encode({"lldp": [{"interface": [{"name": "eth0", "chassis": one}, 7, {"eth1": [one]}]}]})


def dns_seeds() -> Iterator[bytes]:
    """Answers with one record, and with an alias and a record."""
    question, alias = QUERY[12:], b"\xc0\x0c\0\5\0\1\0\0\0\7\0\2\xc0\x10"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\7\0\4\x0a\1\2\3"
    for flags in (b"\x81\x80", b"\x81\x83", b"\x83\x80"):
        yield flags + b"\0\1\0\1\0\0\0\0" + question + record
        yield flags + b"\0\1\0\2\0\0\0\0" + question + alias + record


def control_seeds() -> Iterator[bytes]:
    """A line for each reader."""
    key = bytes((10, 0, 1, 1)), bytes((10, 0, 1, 2)), "eth0"
    desired = control.Desired(local=key[0], peer=key[1], interface=key[2], interval_us=300_000, multiplier=3)
    for number in range(len(READERS)):
        for line in (desired.line(), control.Report(key, since=7.5, problem="why", state=3).line()):
            yield bytes((number,)) + line.partition(" ")[2].encode()


TARGETS = {
    "bfd-packet": Target(run_bfd_packet, (packet,)),
    "bfd-control": Target(run_bfd_control, (control,), control_seeds),
    "netlink": Target(
        run_netlink,
        (read_link, read_address, read_rules, read_objects, read_object, read_error, route_decoder, _packets_of, _each),
        netlink_seeds,
    ),
    "router-discovery": Target(run_discovery, (is_valid_advertisement, is_valid_solicitation), discovery_seeds),
    "lldp": Target(run_lldp, (parse_lldp, lldp._interfaces, lldp._names, lldp._items), lldp_seeds),
    "dns": Target(run_dns, (dns,), dns_seeds),
}
