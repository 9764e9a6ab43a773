"""How one neighbor is reached from this host: by which address and interface, over which socket, with which keys.

Decides whether a connection may be used for the neighbor. Knows no session (session.py) and no other neighbor.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import msgspec

from bgpd.config.schema_sessions import ListenConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.words import missing_interface
from bgpd.kernel.host import Host
from bgpd.model.prefix import address_length, covers, format_address, host_key, is_link_local
from bgpd.speaker.authentication import (
    Authentication,
    BadAuthentication,
    TcpAo,
    is_wanted,
    problem_text,
    read_authentication,
    roll,
)
from bgpd.speaker.listening import Listening
from bgpd.speaker.peering import Peering
from bgpd.speaker.socket_options import arrival_index, bind_to_device, require_ttl_255, ttl_drops, ttl_mismatch
from bgpd.speaker.transport import NewSocket, Target, Wire, dial, explain_dial_error, no_answer_text


class Unreachable(Exception):
    """Why a neighbor cannot be dialed at all; the text is for people."""


NOT_HEARD = "no Router Advertisement heard: is BGP unnumbered configured on the other end of the link?"


def target_of(peering: Peering, host: Host, *, authentication: Authentication | None = None) -> Target:
    """Where and how to connect.

    The socket is bound to the neighbor's interface, configured or directly connected, so that no route leads the
    session elsewhere; in a VRF at least to the VRF's device.

    Raises: Unreachable: its address is not known yet, or its interface does not exist, or nothing leads into its VRF.
    """
    if peering.interface and (wrong := missing_interface(peering.interface, host.names())):
        raise Unreachable("; ".join(wrong))
    if not peering.address:
        raise Unreachable(_why_unknown(peering.interface, host))
    scope = host.index_of(peering.interface) if is_link_local(peering.address) else 0
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
        authentication=authentication,
        ttl_security=peering.config.ttl_security,
        ttl_drops=ttl_drops() if peering.config.ttl_security else 0,
    )


def _why_unknown(interface: str, host: Host) -> str:
    """Why the address of an unnumbered neighbor is not known."""
    if not host.is_up(interface):
        return f"interface {interface} is down"
    if not any(is_link_local(address.packed) for address in host.addresses(interface)):
        return f"interface {interface} has no IPv6 link-local address: is net.ipv6.conf.{interface}.disable_ipv6 set?"
    return f"{interface}: {NOT_HEARD}"


class Reach:
    """The way to one neighbor. `peering` says who it is; an unnumbered one's address is learned."""

    def __init__(
        self, peering: Peering, host: Host, listening: Listening, *, new_socket: NewSocket = socket.socket
    ) -> None:
        self.peering = peering
        self._new_socket = new_socket
        self._host = host
        self._listening = listening
        self._authentication: Authentication | None = None
        self._target: Target | None = None

    # Keys (TCP MD5, TCP-AO)

    @property
    def lacks_keys(self) -> bool:
        """Whether its keys could not be read."""
        return is_wanted(self.peering.config) and self._authentication is None

    def read_keys(self) -> str:
        """Read its keys, and want incoming connections signed with them; what is wrong with them, "" if nothing."""
        self._authentication = None
        try:
            self._authentication = wanted = read_authentication(self.peering.config)
            if wanted is not None:
                self._sign_incoming(wanted)
        except BadAuthentication as error:
            return f"{error}; the neighbor stays down until it can be used"
        return ""

    def forget_keys(self) -> None:
        """The neighbor was removed: delete the keys of its address."""
        if self._authentication is not None:
            self._sign_incoming(None)

    def roll(self, wire: Wire, *, is_new: bool = False) -> str:
        """Give an established connection the TCP-AO keys that were read last; what is wrong, "" if nothing.

        One that `is_new` has them, and asks for the first.
        """
        wanted = self._authentication
        if not isinstance(wanted, TcpAo) or (wire.authentication == wanted and not is_new):
            return ""
        address, length = self._scope(wire)
        try:
            wire.authentication = roll(wire.socket, address, length, wanted, former=wire.authentication)
        except OSError as error:
            return problem_text(error, wanted)
        return ""

    def _sign_incoming(self, wanted: Authentication | None) -> None:
        """The keys of a range are set for all of it (Listening.sign_ranges)."""
        peering = self.peering
        if peering.address and not peering.dynamic:
            try:
                self._listening.sign(peering.config, peering.address, wanted)
            except OSError as error:
                if wanted is not None:
                    raise BadAuthentication(problem_text(error, wanted)) from error

    def _scope(self, wire: Wire) -> tuple[bytes, int]:
        """Whom the keys of its connection are for: it alone, or all of its range."""
        config = self.peering.config
        if isinstance(config, ListenConfig):
            network = ipaddress.ip_network(config.prefix)
            return network.network_address.packed, network.prefixlen
        address = wire.peer.address
        return address, 8 * len(address)

    # Connections

    async def connect(self) -> Wire:
        """Dial the neighbor.

        Raises: Unreachable: with the reason.
        """
        self._target = None
        problem = self.read_keys()
        if problem:
            raise Unreachable(problem)
        self._target = target = target_of(self.peering, self._host, authentication=self._authentication)
        try:
            return await dial(target, new_socket=self._new_socket)
        except OSError as error:
            raise Unreachable(explain_dial_error(error, target)) from error

    def no_answer(self) -> str:
        """Why the last dial may have had no answer."""
        return no_answer_text(self._target) if self._target is not None else "no answer"

    def why_unusable(self, wire: Wire) -> str:
        """Why a connection that the neighbor made may not be used, "" if it may.

        It is bound to the interface of a directly connected neighbor: no route leads it elsewhere. One of a VRF is
        bound to the VRF's device; without CAP_NET_RAW it stays so.
        """
        peering = self.peering
        wire.authentication = self._authentication
        if problem := self._why_no_guest(wire):
            return problem
        try:
            if peering.config.ttl_security:
                if problem := ttl_mismatch(wire.socket):
                    return problem
                require_ttl_255(wire.socket)
            local, peer = wire.local.address, wire.peer
            device = peering.interface or self._facing(peer.address, local=local)
            if device and not peer.scope:
                with contextlib.suppress(PermissionError):
                    bind_to_device(wire.socket, device)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _networks(self, interface: str, size: int) -> list[bytes]:
        """What is attached to an interface, of addresses of this size."""
        return [key for family, key in self._host.networks(interface) if address_length(family) == size]

    def _why_no_guest(self, wire: Wire) -> str:
        """Why who connects is no guest of this host, "" if it is, or need be none."""
        config, address = self.peering.config, wire.peer.address
        if not isinstance(config, GuestConfig):
            return ""
        arrival = self._host.name_of(arrival_index(wire.socket))
        if config.interface and arrival not in ("", config.interface):
            return f"it came by {arrival}, and interface is {config.interface}"
        if self._host.is_own(address, vrf=config.vrf) or wire.peer.scope or self._host.attaching(address, config.vrf):
            return ""
        key = host_key(address)
        if config.vrf and any(covers(network, key) for network in self._networks(config.interface, len(address))):
            return ""  # where VRFs are kept by rules, its claims put the interface into the VRF
        return f"{format_address(address)} is neither on this host nor in a network of its interfaces: it is no guest"

    # Interfaces

    def interface_of(self, wire: Wire) -> str:
        """The interface that a connection runs over, "" if it is routed."""
        peer, peering = wire.peer, self.peering
        scoped = self._host.name_of(peer.scope) if peer.scope else ""
        found = scoped or peering.interface or self._facing(peer.address)
        if not found and peering.guest and not self._host.is_own(peer.address, vrf=peering.config.vrf):
            return self._host.attaching(peer.address, peering.config.vrf)
        return found

    def expected_interface(self) -> str:
        """The interface that the next attempt will run over, "" if it is routed or not known."""
        peering = self.peering
        if peering.interface or not peering.address:
            return peering.interface
        return self._facing(peering.address)

    def _facing(self, address: bytes, *, local: bytes = b"") -> str:
        """The interface whose network an address is in. "" for a guest at an address of this host: its packets stay
        here, whatever network that is in, and a socket bound to the interface would not hear them."""
        vrf = self.peering.config.vrf
        is_here = self.peering.guest and self._host.has_address(address, vrf=vrf)
        return "" if is_here else self._host.facing(address, vrf, local=local)

    def learn(self, address: bytes) -> None:
        """The link-local address of an unnumbered neighbor was received."""
        self.peering = msgspec.structs.replace(self.peering, address=address)
