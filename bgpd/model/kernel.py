"""What the kernel monitor reports to the other parts: links, addresses and other programs' routes, as plain values.

Netlink messages stay inside `kernel/`; the other parts see only these values.
"""

from __future__ import annotations

import enum

import msgspec

from bgpd.model.iana import Family
from bgpd.model.prefix import host_key, network_key


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface. `up` is administratively up and with carrier. `mac` is 6 bytes (b"" if it has none).

    `mtu` is in it so that its change is one of the link: below 1280 the kernel removes the IPv6 routes by it. `vrf` is
    the name of the VRF device that it is enslaved to, or "". `parent` is the index of the interface that it is
    a sub-interface of (VLAN, macvlan, ipvlan), 0 if of none in this network namespace.
    """

    index: int
    name: str
    up: bool
    mac: bytes = b""
    mtu: int = 1500
    vrf: str = ""
    kind: str = ""
    parent: int = 0


class AddressScope(enum.IntEnum):
    """Where an address is valid: linux/rtnetlink.h, RT_SCOPE_*."""

    UNIVERSE = 0
    LINK = 253
    HOST = 254


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An interface address: packed (4 or 16 bytes), prefix length, and whether it may be used (not tentative).

    `index` is the interface's, `interface` its name at present. `peer` is the other end of a point-to-point address,
    b"" of others: then the network is the other end's. `deprecated`: not to be chosen anew (RFC 4862 section
    5.5.4). `secondary`: IPv4, another address of the same network came first; IPv6, temporary (RFC 8981). `scope`:
    where it is valid, an `AddressScope` or a number between two of them.
    """

    index: int
    interface: str = ""
    packed: bytes
    prefix_length: int
    peer: bytes = b""
    usable: bool = True
    deprecated: bool = False
    secondary: bool = False
    scope: int = AddressScope.UNIVERSE

    @property
    def network(self) -> bytes:
        """Route key of the network that the interface reaches by this address."""
        other = self.peer or self.packed
        return host_key(other) if self.prefix_length == 8 * len(other) else network_key(other, self.prefix_length)


class KernelRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One way of a unicast route in the kernel. `interface` is "" where it drops, or its nexthop object is unknown.

    A route with several next hops is several of these, each `multipath`; several routes may have one prefix, TOS and
    metric, too. `gateway` is packed, b"" if directly attached. `protocol` is the rtproto number. `nexthop` is the id of
    the nexthop object that leads there, 0 for none. `source` is the preferred source address, packed. `details` tells
    routes apart that differ in anything else.
    """

    family: Family
    key: bytes
    table: int
    protocol: int
    metric: int = 0
    interface: str = ""
    gateway: bytes = b""
    tos: int = 0
    nexthop: int = 0
    multipath: bool = False
    source: bytes = b""
    details: bytes = b""

    @property
    def drops(self) -> bool:
        """Whether it is a blackhole, unreachable, prohibit or throw route (IPv6 has these by the interface lo)."""
        return self.details[:1] in _DROPPING

    @property
    def is_for_some(self) -> bool:
        """Whether it carries packets of one type of service only, or packets from some sources only (IPv6 `from`)."""
        return bool(self.tos) or self.details[1:2] == _BY_SOURCE


_BY_SOURCE = b"\x02"
"""RTA_SRC: where a route has it, it is the first attribute of its `details`."""
_DROPPING = frozenset((b"\x06", b"\x07", b"\x08", b"\x09"))
"""RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW: the rtm_type that `details` of such a route begin with."""


class LinkChanged(msgspec.Struct, frozen=True):
    """A link appeared, changed, or is gone (`gone`). `before`: what it was, if it had the same name; else None."""

    link: Link
    gone: bool = False
    before: Link | None = None

    @property
    def is_another(self) -> bool:
        """Whether the link was created, deleted, or changed kind or VRF."""
        before = self.before
        return self.gone or before is None or (before.vrf, before.kind) != (self.link.vrf, self.link.kind)


class AddressChanged(msgspec.Struct, frozen=True):
    """An address appeared, changed, or is gone."""

    address: Address
    gone: bool = False


class RouteChanged(msgspec.Struct, frozen=True):
    """A route that bgpd does not own appeared, changed, or is gone."""

    route: KernelRoute
    gone: bool = False


class KernelResynchronised(msgspec.Struct, frozen=True):
    """Events were lost (ENOBUFS): whoever follows the kernel reads its present state again."""


KernelEvent = LinkChanged | AddressChanged | RouteChanged | KernelResynchronised


def interface_index(event: KernelEvent) -> int:
    """The interface that an event is about, by index; 0: it may be any."""
    match event:
        case LinkChanged(link):
            return link.index
        case AddressChanged(address):
            return address.index
    return 0


class RoutingRule(msgspec.Struct, frozen=True, kw_only=True):
    """A policy rule: what enters by `iif`, leaves by `oif`, goes to `to` (a key), comes from `source` (a key), or
    belongs to a VRF device (`l3mdev`) is looked up in `table` (0: the device's). `protocol` is the rtproto of who made
    it.
    """

    family: Family
    priority: int
    protocol: int
    table: int = 0
    iif: str = ""
    oif: str = ""
    to: bytes = b""
    source: bytes = b""
    l3mdev: bool = False
