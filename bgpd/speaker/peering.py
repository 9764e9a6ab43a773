"""Who a neighbor is: configured by address, configured by interface, or a dynamic one of a range.

Decides the names of dynamic neighbors, and asks the table of effects (config/effects.py) which changes of the
configuration need a new session. No I/O; how a neighbor is reached is in reach.py.
"""

from __future__ import annotations

import msgspec

from bgpd.config.effects import Effect, session_changes
from bgpd.config.schema import ListenConfig, NeighborConfig, SessionConfig
from bgpd.model.iana import BGP_PORT
from bgpd.model.prefix import format_address, parse_address


class Peering(msgspec.Struct, frozen=True, kw_only=True):
    """One neighbor. `address` is packed, b"" while an unnumbered one was not heard of; `interface` "" if not given.

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


def needs_new_session(old: SessionConfig, new: SessionConfig) -> bool:
    """Whether a change cannot be made while the session stands."""
    if type(old) is not type(new):
        return True
    section = "listen" if isinstance(new, ListenConfig) else "neighbor"
    return any(effect is Effect.RESET for _, _, effect in session_changes(section, old, new))
