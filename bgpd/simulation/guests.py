"""Guests of hosts: BGP speakers behind an interface of a host, and what they announce to it.

Of host H guest G has 10.127.H.(2+G) and fd67::H:(2+G), on one bridge with all guests of the host. Each announces the
first address of the host's block 10.67.H.0/24 and one of its own; the first guest of each host also one address that
first guests of all hosts have.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bgpd.config.schema_sessions import GracefulRestartConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.simulation.network import Link, Port
from bgpd.simulation.router import Router, Style
from bgpd.simulation.wire import Route, codes_of

if TYPE_CHECKING:
    from bgpd.simulation.fabric import Fabric
    from bgpd.simulation.host import SimulatedHost

EVERYWHERE = "10.67.255.1/32"
"""What the first guest of each host announces."""
BRIDGE, BRIDGE_NAME = 40, "br-guests"
NAME = "guest"
"""Of all guests of a host, in its configuration."""
_ASN = 64800
_DELAY_S = 0.0001
_V4, _V6 = "10.67.0.0/16 le 32", "fd67:1::/64 le 128"
_FIRST_ONLY = ("10.67.0.0/16 le 30", "10.67.255.1/32", *(f"10.67.{host}.1/32" for host in range(8)))
"""Of IPv4 the addresses that a host's guests have in common, and none of IPv6."""
MARK = 64800 << 16 | 7
ROUTE = Route(peer=None, communities=(MARK,))
"""What they say of each."""
PERMITTED = ((_V4, _V6), _FIRST_ONLY)
"""What guests may announce, by number."""


def name_of(host: int, guest: int) -> str:
    """A guest's, by the numbers of its host and its own."""
    return f"guest{host}-{guest}"


def address_of(host: int, number: int, *, is_v6: bool = False) -> str:
    """An address that guests of a host announce."""
    return f"fd67:1::{host + 1:x}:{number + 1:x}/128" if is_v6 else f"10.67.{host}.{number + 1}/32"


class Guest:
    """One: a router that speaks to its host only. `expected_as`: the name of the guest, or of the range of guests, that
    it is in the host's configuration."""

    def __init__(self, router: Router, host: SimulatedHost, port: Port, *, expected_as: str = NAME) -> None:
        self.router = router
        self.host = host
        self.port = port
        self.expected_as = expected_as

    @property
    def config(self) -> GuestConfig | None:
        """What the host's configuration says of it; None: nothing now."""
        return next((one for one in self.host.config.workload.bgp if one.name == self.expected_as), None)

    @property
    def is_connected(self) -> bool:
        """Whether a session between it and its host has to be there."""
        assert self.port.link is not None
        is_expected = self.config is not None
        runs = is_expected and self.router.is_running and self.router.stack.is_there and self.host.daemon is not None
        return runs and self.host.stack.is_there and self.port.link.is_whole

    @property
    def says(self) -> set[str]:
        """What its host takes of it."""
        return self.has if self.is_connected else set()

    @property
    def has(self) -> set[str]:
        """Of what it says, what its host would take."""
        config = self.config
        return {prefix for prefix in self.router.own if config is not None and is_permitted(config, prefix)}

    def hop(self, prefix: str) -> tuple[bytes, int]:
        """What a host sends to it by: packed gateway, index of the interface."""
        is_v6 = codes_of(prefix) != (1, 1)
        assert self.port.other is not None
        return (self.port.address6 or self.port.address) if is_v6 else self.port.address, self.port.other.index

    def restart(self, seconds: float, *, is_graceful: bool) -> None:
        """It ends, and is there again so much later."""
        is_graceful = is_graceful and self.router.style.restarts
        self.router.stop(is_graceful=is_graceful)
        self.router.loop.call_later(seconds, self.start, is_graceful)

    def start(self, is_graceful: bool = False) -> None:
        """It begins, if its host is on."""
        if self.host.stack.is_there and not self.router.is_running:
            self.router.stack.is_there = True
            self.router.start(is_graceful=is_graceful)


def is_permitted(config: GuestConfig, prefix: str) -> bool:
    """Whether a guest may announce it."""
    return any(_is_in(prefix, one) for one in config.prefixes)


@functools.lru_cache(1 << 12)
def _is_in(prefix: str, entry: str) -> bool:
    """`PREFIX [ge N] [le N]`."""
    words = entry.split()
    network, whole = ipaddress.ip_network(prefix), ipaddress.ip_network(words[0])
    numbers = dict(zip(words[1::2], words[2::2]))
    least = int(numbers.get("ge", whole.prefixlen))
    most = int(numbers.get("le", whole.max_prefixlen if "ge" in numbers else whole.prefixlen))
    is_inside = network.version == whole.version and network.subnet_of(whole)  # type: ignore[arg-type]
    return is_inside and least <= network.prefixlen <= most


def configs(host: int, guests: int, *, communities: str = "none") -> tuple[GuestConfig, ...]:
    """Their part of a host's configuration: one guest by its address, several by their network."""
    if not guests:
        return ()
    return (
        GuestConfig(
            name=NAME,
            prefix=f"10.127.{host}.2" if guests == 1 else f"10.127.{host}.0/24",
            asn=_ASN + host,
            prefixes=PERMITTED[0],
            max_prefixes=100,
            anycast=True,
            communities=communities,
            graceful_restart=GracefulRestartConfig(mode="helper", stale_time_s=20),
        ),
    )


def add(fabric: Fabric, host: SimulatedHost, number: int, styles: Iterable[Style]) -> None:
    """The guests of a host, and the interface to them."""
    kernel = host.kernel
    kernel.set_link(BRIDGE, BRIDGE_NAME, up=True)
    here, here6 = bytes((10, 127, number, 1)), _v6(number, 1)
    kernel.add_address(BRIDGE, here, 24)
    kernel.add_address(BRIDGE, here6, 112)
    for guest, style in enumerate(styles):
        name = name_of(number, guest)
        identifier = bytes((10, 255, 10 + number, guest + 1))
        router = Router(
            name, fabric.loop, asn=_ASN + number, router_id=identifier, style=style, chance=fabric.loop.chance
        )
        router.noted = fabric.note
        port = Port(router.stack, 1, "eth0", bytes((10, 127, number, 2 + guest)), address6=_v6(number, 2 + guest))
        below = Port(host.stack, BRIDGE, BRIDGE_NAME, here, address6=here6)
        for one in (port, below):
            one.stack.ports.append(one)
        Link(port, below, chance=fabric.loop.chance, delay_s=_DELAY_S)
        router.add_peer(port, name=host.name, asn=host.config.router.asn, dials=True)
        own = [address_of(number, 0), address_of(number, 1 + guest, is_v6=guest % 2 == 1)]
        router.own = dict.fromkeys([*own, EVERYWHERE] if guest == 0 else own, ROUTE)
        host.guests[name] = Guest(router, host, port)


def _v6(host: int, last: int) -> bytes:
    return bytes((0xFD, 0x67, *bytes(11), host, 0, last))


def of(fabric: Fabric) -> dict[str, Guest]:
    """All of them, by name."""
    return {name: guest for host in fabric.hosts.values() for name, guest in host.guests.items()}


def heal(fabric: Fabric) -> None:
    """Have all run, and be heard."""
    for guest in of(fabric).values():
        guest.port.is_deaf = False
        guest.start()
