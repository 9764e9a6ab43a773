"""Targets: what other programs and hosts beside this one say: the kernel, BFD, Router Advertisements, LLDP, DNS."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import msgspec

from bgpd.bfd import control, packet
from bgpd.kernel.counters import _each, _packets_of
from bgpd.kernel.link_messages import read_address, read_link, read_rules
from bgpd.kernel.netlink import MessageKind, messages, read_error
from bgpd.kernel.nexthop_messages import read_object, read_objects
from bgpd.kernel.route_decoder import expand, read_foreign_routes, read_routes, read_runs
from bgpd.model.iana import Family
from bgpd.model.service import DnsRecord
from bgpd.speaker.lldp import parse_lldp
from bgpd.speaker.router_discovery import is_valid_advertisement, is_valid_solicitation
from bgpd.workload.service import dns
from tests.fuzz.target import Target

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
    control.read_wish,
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
    if isinstance(found, control.Wish | control.Report):
        again = read(found.line().partition(" ")[2])
        assert isinstance(again, control.Wish | control.Report)
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


TARGETS = {
    "bfd-packet": Target(run_bfd_packet),
    "bfd-control": Target(run_bfd_control),
    "netlink": Target(run_netlink),
    "router-discovery": Target(run_discovery),
    "lldp": Target(run_lldp),
    "dns": Target(run_dns),
}
