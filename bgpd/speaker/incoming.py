"""Assigns an incoming connection to a neighbor: a configured one, an unnumbered one, or a dynamic one of a range.

Decides which neighbor gets a connection, and closes those of strangers. How many there may be is decided by
admission.py (connections) and places.py (neighbors).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from bgpd.config.schema_sessions import ListenConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import comes_to, range_of
from bgpd.model.prefix import format_address
from bgpd.runtime.events import log
from bgpd.speaker import ruled_vrfs
from bgpd.speaker.neighbor import REJECTED, Neighbor
from bgpd.speaker.neighbors import Neighbors
from bgpd.speaker.peering import Peering, of_listen
from bgpd.speaker.places import ConnectRates, divided, gives_way, why_full
from bgpd.speaker.socket_options import arrival_index
from bgpd.speaker.surroundings import Surroundings
from bgpd.speaker.transport import Wire

_MAX_REMEMBERED_STRANGERS = 256


class Incoming:
    """Takes accepted connections (ConnectionTaker). `ranges` are the sections [[listen]] and [[workload.bgp]]."""

    def __init__(self, neighbors: Neighbors, around: Surroundings, ranges: tuple[ListenConfig, ...]) -> None:
        self.ranges = ranges
        self._neighbors = neighbors
        self._around = around
        self._connect_rates = ConnectRates()
        self._strangers: set[bytes] = set()

    def take(self, vrf: str, port: int, wire: Wire) -> None:
        """Give a connection to its neighbor in that VRF, or close it; what that raises costs the connection only."""
        try:
            if not self._offer(vrf, port, wire):
                wire.abort()
        except OSError:
            wire.abort()
        except Exception as error:
            log.error("connection.defect", error=repr(error), exc_info=error)
            wire.abort()

    def _offer(self, vrf: str, port: int, wire: Wire) -> bool:
        peer, host, local = wire.peer, self._around.host, wire.local.address
        vrf = vrf or ruled_vrfs.vrf_of(self.ranges, wire, port, host)
        interface = host.name_of(peer.scope) if peer.scope else ""
        candidates = [one for one in self._neighbors if comes_to(one.peering.config, port, local)]
        neighbor = None if self._neighbors.stopped else _known(candidates, peer.address, interface, vrf)
        if neighbor is None and not self._neighbors.stopped:
            listen = range_of(self.ranges, peer.address, vrf, port=port, local=local)
            if listen is None or (isinstance(listen, GuestConfig) and listen.is_single):
                self._note_stranger(peer.address)
            else:
                arrival = host.name_of(arrival_index(wire.socket)) or host.facing(peer.address, vrf)
                neighbor = self._of_range(listen, of_listen(listen, peer.address, interface, arrival=arrival))
        if neighbor is None:
            return False
        is_taken = neighbor.accept(wire)
        if not is_taken:
            self._neighbors.connection_ended(neighbor)
        return is_taken

    def _of_range(self, listen: ListenConfig, peering: Peering) -> Neighbor | None:
        """A new neighbor of a range, if there is a place; the oldest silent connection is closed for it."""
        arrival, (placed, half_open) = peering.arrival, divided(self._neighbors.dynamic())
        now = asyncio.get_running_loop().time()
        why = why_full(listen, arrival, placed)
        if not self._around.listening.may_accept(listen):
            why = "the password file of the range cannot be read"
        if not why and not self._connect_rates.take(arrival, now):
            why = f"dynamic neighbors connect too often by {arrival or 'an unknown interface'}"
        if why:
            lines = self._around.lines_for(peering)
            address = format_address(peering.address)
            lines.write(log.warning, "listen.refused", now=now, prefix=listen.prefix, address=address, reason=why)
            return None
        older = gives_way(listen, arrival, half_open)
        if older is not None:
            self._neighbors.end(older, REJECTED, "not established in time: the place was needed for a newer connection")
        neighbor = self._neighbors.add(peering)
        neighbor.start()
        return neighbor

    def _note_stranger(self, address: bytes) -> None:
        if address not in self._strangers and len(self._strangers) < _MAX_REMEMBERED_STRANGERS:
            self._strangers.add(address)
            log.warning("connection.refused", address=format_address(address), reason="no neighbor has this address")


def _known(neighbors: Iterable[Neighbor], address: bytes, interface: str, vrf: str) -> Neighbor | None:
    """The neighbor that an address belongs to: configured, known, or unnumbered on that interface."""
    unnumbered = None
    for neighbor in neighbors:
        peering = neighbor.peering
        if peering.config.vrf != vrf:
            continue
        if peering.address == address and (not interface or peering.interface == interface):
            return neighbor
        if interface and peering.is_unnumbered and peering.interface == interface:
            unnumbered = neighbor
    if unnumbered is not None:
        unnumbered.address_learned(address)
    return unnumbered
