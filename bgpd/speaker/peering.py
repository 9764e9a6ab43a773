"""Who a neighbor is and how it is reached, whether it is configured by address, by interface, or came from a range.

Decides the names of dynamic neighbors, and which changes of the configuration need a new session. No I/O.

How a configured neighbor is shown before its session is driven: idle, with the reason. Decides nothing.
"""

from __future__ import annotations

import ipaddress

import msgspec

from bgpd.config.effects import Effect, session_changes
from bgpd.config.schema import ListenConfig, NeighborConfig, RouterConfig, SessionConfig, attribute_limit
from bgpd.kernel.host import Host
from bgpd.model.iana import BGP_PORT
from bgpd.model.prefix import format_address, is_link_local, parse_address
from bgpd.model.views import NeighborView
from bgpd.speaker.transport import Target, ttl_drops


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


class Unreachable(Exception):
    """Why a neighbor cannot be dialed at all; the text is for people."""


NOT_HEARD = "no Router Advertisement heard: is BGP unnumbered configured on the other end of the link?"


def target_of(peering: Peering, host: Host, *, password: bytes) -> Target:
    """Where and how to connect.

    The socket is bound to the neighbor's interface, configured or directly connected, so that no route leads the
    session elsewhere; in a VRF at least to the VRF's device.

    Raises: Unreachable: its address is not known yet, or its interface does not exist, or nothing leads into its VRF.
    """
    if not peering.address:
        raise Unreachable(f"{peering.interface}: {NOT_HEARD}")
    scoped = is_link_local(peering.address)
    scope = host.index_of(peering.interface) if scoped else 0
    if scoped and not scope:
        raise Unreachable(f"there is no interface {peering.interface}")
    vrf = peering.config.vrf
    device = peering.interface or host.vrf_device(vrf)
    if vrf and not device:
        raise Unreachable(f"there is no device of VRF {vrf}: set interface to the one that leads to the neighbor")
    return Target(
        address=peering.address,
        port=peering.port,
        scope=scope,
        interface=device,
        device=peering.interface or host.facing(peering.address, vrf, local=peering.source) or device,
        source=peering.source,
        password=password,
        ttl_security=peering.config.ttl_security,
        ttl_drops=ttl_drops() if peering.config.ttl_security else 0,
    )


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


def best_range(ranges: tuple[ListenConfig, ...], address: bytes) -> ListenConfig | None:
    """The most specific range that an address is in."""
    value = ipaddress.ip_address(address)
    found = [config for config in ranges if value in ipaddress.ip_network(config.prefix)]
    return max(found, key=lambda config: ipaddress.ip_network(config.prefix).prefixlen, default=None)


def needs_new_session(old: SessionConfig, new: SessionConfig) -> bool:
    """Whether a change cannot be made while the session stands."""
    if type(old) is not type(new):
        return True
    section = "listen" if isinstance(new, ListenConfig) else "neighbor"
    return any(effect is Effect.RESET for _, _, effect in session_changes(section, old, new))


REASON = "waiting for the daemon's start: it reads the kernel's routes and its workloads first"


def waiting_view(config: NeighborConfig, router: RouterConfig, *, since: float) -> NeighborView:
    """`since`: the daemon's start (wall clock, seconds)."""
    return NeighborView(
        name=config.name,
        address=config.address,
        interface=config.interface,
        asn=config.asn if isinstance(config.asn, int) else 0,
        local_asn=config.local_asn or router.asn,
        state="idle",
        since=since,
        last_error=REASON,
        max_attribute_bytes=attribute_limit(config),
        last_error_at=since,
    )
