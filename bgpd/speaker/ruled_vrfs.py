"""Guests of VRFs that the kernel keeps by rules, since it has no VRF devices: no socket can listen in such a VRF.

They connect to the main table's sockets, and are known by the interface that they come in by, which has to be named.
What is sent to them goes by the main table, where that interface's network is. A key would count for the same address
of all VRFs, so there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bgpd.config.schema_sessions import ListenConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import range_of
from bgpd.kernel.host import Host
from bgpd.speaker.authentication import is_wanted
from bgpd.speaker.listening import Door
from bgpd.speaker.socket_options import arrival_index
from bgpd.speaker.transport import Wire


def vrf_of(ranges: Iterable[ListenConfig], wire: Wire, port: int, host: Host) -> str:
    """The VRF of a guest that has connected to the main table; "" if it is of no such VRF."""
    for guest in list(_guests(ranges, host)):
        is_it = (
            guest.port == port and not _why_not(guest) and guest.interface == host.name_of(arrival_index(wire.socket))
        )
        if is_it and range_of([guest], wire.peer.address, guest.vrf, port=port, local=wire.local.address):
            return guest.vrf
    return ""


def doors(ranges: Iterable[ListenConfig], host: Host) -> set[Door]:
    """Where these guests connect to."""
    return {("", guest.port) for guest in _guests(ranges, host) if not _why_not(guest)}


def problems(ranges: Iterable[ListenConfig], host: Host) -> list[str]:
    """The guests that cannot connect, and why."""
    return [
        f"guest {guest.name} cannot connect: the kernel has no device of VRF {guest.vrf}, and {why}"
        for guest in _guests(ranges, host)
        if (why := _why_not(guest))
    ]


def _guests(ranges: Iterable[ListenConfig], host: Host) -> Iterator[GuestConfig]:
    for one in ranges:
        if isinstance(one, GuestConfig) and one.vrf and not host.vrf_device(one.vrf):
            yield one


def _why_not(guest: GuestConfig) -> str:
    if not guest.interface:
        return "no interface says by which one it comes in"
    return "keys count in VRFs with a device only" if is_wanted(guest) else ""
