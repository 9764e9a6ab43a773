"""Addresses of hosts themselves that they announce ([workload.addresses]): added to an interface and taken from it,
whether bgpd runs or not.

Host H has 10.63.H.NUMBER/32 or fd63::H:NUMBER/128, and 10.63.255.1/32, which other hosts have, too.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from bgpd.config.schema_workloads import AddressesWorkloadConfig
from bgpd.simulation.tenants import number_of

if TYPE_CHECKING:
    from bgpd.simulation.host import SimulatedHost

DUMMY, DUMMY_NAME = 50, "dummy0"
EVERYWHERE = "10.63.255.1/32"
CONFIGS = (
    AddressesWorkloadConfig(interfaces=("dummy*",)),
    AddressesWorkloadConfig(interfaces=("dummy*",), prefixes=("10.63.255.0/24", "fd63::/16")),
    AddressesWorkloadConfig(interfaces=("dummy*",), ipv4=False),
    None,
)
"""What a configuration may say of them, by number."""


def address_of(host: int, number: int, *, is_v6: bool = False) -> str:
    """A host's."""
    return f"fd63::{host + 1:x}:{number + 1:x}/128" if is_v6 else f"10.63.{host}.{number + 1}/32"


def add(host: SimulatedHost) -> None:
    """The interface, and the first address."""
    host.kernel.set_link(DUMMY, DUMMY_NAME, up=True)
    put(host, address_of(number_of(host.name), 0))


def put(host: SimulatedHost, address: str) -> None:
    """The host has an address, too."""
    network = ipaddress.ip_network(address)
    host.kernel.add_address(DUMMY, network.network_address.packed, network.prefixlen)


def take(host: SimulatedHost, address: str) -> None:
    """It has it no more."""
    host.kernel.remove_address(DUMMY, ipaddress.ip_network(address).network_address.packed)


def take_all(host: SimulatedHost) -> None:
    """It has none of them."""
    for one in [one for one in host.kernel.addresses if one.index == DUMMY]:
        host.kernel.remove_address(DUMMY, one.packed)
