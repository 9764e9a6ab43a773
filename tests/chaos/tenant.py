"""The tenant "blue": a VRF of the host with an uplink to each raw leaf, and what must be true of it once all is calm.

host eth2.101 10.1.3.1/31, 2001:db8:103::2/127 - leaf3 swp1.101 10.1.3.0, 2001:db8:103::3; eth3.101 - leaf4 likewise
host vm1 - the VMs, one of which has the address of a pod of the main table
Behind leaf3 is 10.85.0.1, which answers a counted ping.
"""

from __future__ import annotations

import socket
import struct

from tests.chaos.evpn_wire import EvpnRoute, Tenancy, evpn_key

VRF, TABLE, VNI = "blue", 1001, 5001
TARGET = "65201:5001"
"""The route target, on both sides."""
OTHER_TARGET = "65201:5999"
"""One that no route has."""
ENDS = (3, 4)
"""The leaves that speak EVPN."""
VM_INTERFACE = "vm1"
VM = "10.64.0.1"
"""The VRF's workload of the configuration, whose ping is counted; a pod in the main table has this address, too."""
SERVED = ("10.85.0.0/24", "10.85.0.1")
"""The network that only leaf3 has, and an address in it."""
ALWAYS = {3: {SERVED[0], "10.86.0.0/24", "2001:db8:86::/48"}, 4: {"10.86.0.0/24", "2001:db8:86::/48"}}
CHURN = [f"10.80.{number}.0/24" for number in range(30)] + [f"2001:db8:80:{number:x}::/64" for number in range(1, 11)]
"""What either leaf may announce as type 5."""
ENDPOINTS = [f"10.81.0.{number}" for number in range(1, 41)]
"""Addresses of machines that move: they are nowhere, here, or on another host, behind one of the leaves."""


def uplink(number: int) -> str:
    """The host's interface in the VRF to a leaf."""
    return f"eth{number - 1}.101"


def uplink_addresses(number: int) -> tuple[str, str]:
    """The host's addresses on it; that is what prefixes of the VRF are announced with as gateway."""
    return f"10.1.{number}.1/31", f"2001:db8:10{number}::2/127"


def leaf_addresses(number: int) -> tuple[str, str]:
    """The leaf's."""
    return f"10.1.{number}.0/31", f"2001:db8:10{number}::3/127"


def uplink_mac(number: int) -> str:
    """The MAC of the host's interface to a leaf."""
    return f"02:00:00:01:00:0{number}"


def endpoint_mac(address: str) -> str:
    return f"02:00:00:81:00:{int(address.rpartition('.')[2]):02x}"


def _tenancy(router_id: str, addresses: tuple[str, str]) -> Tenancy:
    """Of a speaker: route distinguishers are of type 1 (RFC 7432 section 7.9), and have the table's number."""
    ipv4, ipv6 = (address.partition("/")[0] for address in addresses)
    asn, number = map(int, TARGET.split(":"))
    rd = struct.pack("!H4sH", 1, socket.inet_aton(router_id), TABLE)
    return Tenancy(rd, VNI, struct.pack("!BBHI", 0, 2, asn, number), (ipv4, ipv6))


def tenancy_of_leaf(number: int) -> Tenancy:
    """What a leaf announces its routes with."""
    return _tenancy(f"10.255.2.{number}", leaf_addresses(number))


def tenancy_of_host(number: int) -> Tenancy:
    """What the host announces its routes with to a leaf."""
    return _tenancy("10.255.1.1", uplink_addresses(number))


class Tenant:
    """All that lasts of the VRF, but for the claims that the model has."""

    def __init__(self) -> None:
        self.announced: dict[int, set[str]] = {number: set(prefixes) for number, prefixes in ALWAYS.items()}
        """The prefixes of type 5 routes by leaf."""
        self.elsewhere: dict[str, tuple[int, int]] = {}
        """Of each endpoint that another host has: the leaf by which it is known, and its sequence."""
        self.sequences = dict.fromkeys(ENDPOINTS, 0)
        """The last that another host announced each with."""
        self.is_configured = True
        self.imports_more = False
        """Whether a second route target is imported."""

    def route(self, address: str) -> EvpnRoute:
        """The type 2 route of an endpoint that another host has."""
        return EvpnRoute(f"{address}/32", endpoint_mac(address), self.elsewhere[address][1])

    def routes(self, number: int) -> list[EvpnRoute]:
        """What a leaf announces."""
        hosts = [self.route(address) for address, (leaf, _) in sorted(self.elsewhere.items()) if leaf == number]
        return [*(EvpnRoute(prefix) for prefix in sorted(self.announced[number])), *hosts]

    def learned(self, neighbors: list[int]) -> dict[str, list[int]]:
        """Each prefix of the VRF that the host has of these leaves, and of which."""
        found: dict[str, list[int]] = {}
        for number in ENDS:
            for route in self.routes(number) if number in neighbors else ():
                found.setdefault(route.prefix, []).append(number)
        return found

    def kernel(self, neighbors: list[int]) -> dict[str, list[str]]:
        """The next hops of each learned route in the VRF's kernel table, as the model writes them."""
        return {
            prefix: sorted(_hop(number, ipv6=":" in prefix) for number in numbers)
            for prefix, numbers in self.learned(neighbors).items()
        }


def uplink_routes() -> set[str]:
    """The keys of the type 2 routes by which leaves know the host's addresses on its uplinks."""
    found = set()
    for number in ENDS:
        for address in uplink_addresses(number):
            bits = 128 if ":" in address else 32
            found.add(evpn_key(f"{address.partition('/')[0]}/{bits}", uplink_mac(number)))
    return found


def connected() -> dict[str, str]:
    """The networks of the uplinks, which the VRF's table has as well, and the interface of each."""
    return {
        "10.1.3.0/31": uplink(3),
        "10.1.4.0/31": uplink(4),
        "2001:db8:103::2/127": uplink(3),
        "2001:db8:104::2/127": uplink(4),
    }


def _hop(number: int, *, ipv6: bool) -> str:
    return uplink(number) if ipv6 else f"10.1.{number}.0%{uplink(number)}"
