"""Who a neighbor is: configured by address, configured by interface, or a dynamic one of a range.

Decides the names of dynamic neighbors. No I/O; how a neighbor is reached is in reach.py.
"""

from __future__ import annotations

import msgspec

from bgpd.config.schema import ListenConfig, NeighborConfig, SessionConfig
from bgpd.model.iana import BGP_PORT
from bgpd.model.prefix import format_address, parse_address


class Peering(msgspec.Struct, frozen=True, kw_only=True):
    """One neighbor. `address` is packed, b"" while that of an unnumbered one is not known; `interface` "" if not given.

    `arrival`: the interface that a dynamic one came in by.
    """

    name: str
    config: SessionConfig
    address: bytes = b""
    interface: str = ""
    port: int = BGP_PORT
    dials: bool = True
    source: bytes = b""
    dynamic: bool = False
    arrival: str = ""

    @property
    def section(self) -> str:
        """The section of the configuration that it was made from."""
        return "listen" if isinstance(self.config, ListenConfig) else "neighbor"

    @property
    def is_unnumbered(self) -> bool:
        """Whether its address is learned from Router Advertisements."""
        return isinstance(self.config, NeighborConfig) and not self.config.address

    @property
    def is_ipv6(self) -> bool:
        """Whether the session runs over IPv6."""
        return len(self.address) != 4


def of_neighbor(config: NeighborConfig) -> Peering:
    """The peering of a [[neighbor]]."""
    return Peering(
        name=config.name,
        config=config,
        address=parse_address(config.address) if config.address else b"",
        interface=config.interface,
        port=config.port,
        dials=not config.passive,
        source=parse_address(config.source_address) if config.source_address else b"",
    )


def of_listen(config: ListenConfig, address: bytes, interface: str, *, arrival: str = "") -> Peering:
    """The peering of one dynamic neighbor; its name is "PREFIX-ADDRESS", the same whenever it comes back."""
    name = f"{config.prefix}-{format_address(address)}" + (f"%{interface}" if interface else "")
    return Peering(
        name=name,
        config=config,
        address=address,
        interface=interface,
        dials=False,
        dynamic=True,
        arrival=arrival,
    )
