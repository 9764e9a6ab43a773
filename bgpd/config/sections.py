"""Which section of the configuration a neighbor belongs to: one answer for the sessions and for the RIB."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from bgpd.config.schema import ListenConfig, RibConfig, SessionConfig
from bgpd.model.path import Source


def range_of(ranges: Iterable[ListenConfig], address: bytes, vrf: str) -> ListenConfig | None:
    """The [[listen]] that an address (packed) in a VRF is inside of: the most specific one."""
    value = ipaddress.ip_address(address)
    found = [one for one in ranges if one.vrf == vrf and value in ipaddress.ip_network(one.prefix)]
    return max(found, key=lambda one: ipaddress.ip_network(one.prefix).prefixlen, default=None)


def section_of(config: RibConfig, source: Source) -> SessionConfig | None:
    """The section of a session: the [[neighbor]] of its name, else the [[listen]] that its address is inside of."""
    named = next((neighbor for neighbor in config.neighbor if neighbor.name == source.name), None)
    return named or range_of(config.listen, source.address, "")
