"""Which section of the configuration a neighbor belongs to: one answer for the sessions and for the RIB."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import ListenConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.iana import BGP_PORT
from bgpd.model.prefix import format_address, parse_address
from bgpd.model.source import Source


def range_of(
    ranges: Iterable[ListenConfig], address: bytes, vrf: str, *, port: int | None = None, local: bytes = b""
) -> ListenConfig | None:
    """The [[listen]] or [[workload.bgp]] that an address (packed) in a VRF is inside of: the most specific one.

    `port` (None: not known) and `local` (packed, b"": not known) are where it connects to.
    """
    value = ipaddress.ip_address(address)
    found = [
        one
        for one in ranges
        if one.vrf == vrf and comes_to(one, port, local) and value in ipaddress.ip_network(one.prefix)
    ]
    return max(found, key=lambda one: ipaddress.ip_network(one.prefix).prefixlen, default=None)


def comes_to(config: SessionConfig, port: int | None, local: bytes) -> bool:
    """Whether who connects to this port and local address may be a neighbor of this section."""
    if not isinstance(config, GuestConfig):
        return port in (None, BGP_PORT)
    source = config.source_address
    return port in (None, config.port) and (not source or not local or parse_address(source) == local)


def dynamic_name(config: ListenConfig, address: bytes, interface: str = "") -> str:
    """The name of a neighbor of a range, the same whenever it comes back; of a guest that is alone that of its
    section."""
    scoped = format_address(address) + (f"%{interface}" if interface else "")
    if isinstance(config, GuestConfig):
        return config.name if config.is_single else f"{config.name}-{scoped}"
    return f"{config.prefix}-{scoped}"


def guest_of(ranges: Iterable[ListenConfig], name: str) -> GuestConfig | None:
    """The [[workload.bgp]] of a session's name."""
    guests = [one for one in ranges if isinstance(one, GuestConfig)]
    alone = next((one for one in guests if one.is_single and one.name == name), None)
    return alone or next((one for one in guests if not one.is_single and is_named(name, one)), None)


def is_named(name: str, guest: GuestConfig) -> bool:
    """Whether it may be the name of a session of a range: others may begin like it, but go on with no address of it."""
    start, _, scoped = name.partition(f"{guest.name}-")
    try:
        return not start and ipaddress.ip_address(scoped.partition("%")[0]) in ipaddress.ip_network(guest.prefix)
    except ValueError:
        return False


def listen_of(ranges: Iterable[ListenConfig], address: bytes) -> ListenConfig | None:
    """The [[listen]] that an address (packed) is inside of: the most specific one, whatever guests have."""
    return range_of((one for one in ranges if not isinstance(one, GuestConfig)), address, "")


def section_of(config: RibConfig, source: Source) -> SessionConfig | None:
    """The section of a session: the [[neighbor]] of its name, the [[workload.bgp]], or the [[listen]] that its address
    is inside of."""
    named = next((neighbor for neighbor in config.neighbor if neighbor.name == source.name), None)
    return named or guest_of(config.listen, source.name) or listen_of(config.listen, source.address)
