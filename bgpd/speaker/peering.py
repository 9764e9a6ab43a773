"""Who a neighbor is: configured by address, configured by interface, a guest, or a dynamic one of a range.

Decides the names of dynamic neighbors. No I/O; how a neighbor is reached is in reach.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bgpd.config.effects import GUESTS, resets_session
from bgpd.config.schema import RouterConfig, SpeakerConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import dynamic_name, guest_of, listen_of
from bgpd.model.iana import BGP_PORT
from bgpd.model.prefix import is_link_local, parse_address
from bgpd.model.unreadable import UNREADABLE
from bgpd.speaker.saved import SavedSession


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
        if isinstance(self.config, GuestConfig):
            return GUESTS
        return "listen" if isinstance(self.config, ListenConfig) else "neighbor"

    @property
    def guest(self) -> str:
        """The [[workload.bgp]] that it is of; "" for a neighbor."""
        return self.config.name if isinstance(self.config, GuestConfig) else ""

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


def of_guest(config: GuestConfig) -> Peering:
    """The peering of a [[workload.bgp]] of one address: it is waited for."""
    return Peering(
        name=config.name,
        config=config,
        address=parse_address(config.prefix),
        interface=config.interface,
        dials=False,
    )


def of_listen(config: ListenConfig, address: bytes, interface: str, *, arrival: str = "") -> Peering:
    """The peering of one dynamic neighbor."""
    return Peering(
        name=dynamic_name(config, address, interface),
        config=config,
        address=address,
        interface=interface,
        dials=False,
        dynamic=True,
        arrival=arrival,
    )


def has_own_section(neighbors: Iterable[NeighborConfig], address: bytes, interface: str) -> bool:
    """Whether who comes from this address (packed; a link-local one by `interface`) is a [[neighbor]] by its address or
    its interface, and so none of a range."""
    here = [one for one in neighbors if not one.vrf and one.interface in ("", interface)]
    return any(
        parse_address(one.address) == address if one.address else one.interface == interface and is_link_local(address)
        for one in here
    )


class Changed(Exception):
    """Why a session that another process has left is not the one that the configuration wants."""


def of_saved(saved: SavedSession, config: SpeakerConfig) -> Peering:
    """The peering of a session that another process has left.

    Raises: Changed: the configuration has no such neighbor, or one whose session has to begin anew.
    """
    try:
        before, router = saved.settings, msgspec.msgpack.decode(saved.router, type=RouterConfig)
    except UNREADABLE as error:
        raise Changed(f"another version of bgpd has left it: {error}") from error
    section: SessionConfig | None
    if isinstance(before, GuestConfig):
        section = guest = guest_of(config.listen, saved.name)
        if guest is not None and guest.is_single:
            peering = of_guest(guest)
        elif guest is not None:
            peering = of_listen(guest, saved.address, saved.interface, arrival=saved.arrival)
    elif isinstance(before, ListenConfig):
        has_own = has_own_section(config.neighbor, saved.address, saved.interface)
        section = found = None if has_own else listen_of(config.listen, saved.address)
        if found is not None:
            peering = of_listen(found, saved.address, saved.interface, arrival=saved.arrival)
    else:
        section = named = next((one for one in config.neighbor if one.name == saved.name), None)
        if named is not None:
            peering = of_neighbor(named)
            if peering.is_unnumbered:
                peering = msgspec.structs.replace(peering, address=saved.address)
    if section is None or peering.name != saved.name:
        raise Changed("removed from configuration")
    if resets_session("router", router, config.router) or resets_session(saved.section, before, section):
        raise Changed("configuration changed")
    return peering
