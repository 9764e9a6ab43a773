"""What must be true of host, kernel and leaves once all is calm again, by what has been done to them.

Knows nothing of bgpd: it is told each change in the words of an operator, and answers with prefixes and next hops.
"""

from __future__ import annotations

import msgspec

from tests.chaos.evpn_wire import evpn_key
from tests.chaos.tenant import ENDS, VM, VM_INTERFACE, VRF, Tenant, uplink_routes

FRR_LEAVES, RAW_LEAVES = (1, 2), (3, 4)
LEAVES = FRR_LEAVES + RAW_LEAVES
UNNUMBERED = 4
"""The leaf whose session is by link-local addresses."""
PINGED = (*FRR_LEAVES, 3)
"""Leaves that forward the counted pings."""
ASN = {1: 65201, 2: 65202, 3: 65213, 4: 65214}

SERVED = {1: ("10.31.0.0/24", "10.31.0.1"), 2: ("10.32.0.0/24", "10.32.0.1")}
"""The network and the address that only this leaf has."""
SHARED, SHARED_IPV6 = ("10.30.0.0/24", "10.30.0.1"), ("2001:db8:30::/48", "2001:db8:30::1")
"""Those that both FRR leaves have."""
ALWAYS = {number: {SERVED[number][0], SHARED[0], SHARED_IPV6[0]} for number in FRR_LEAVES}
CHURN = [f"10.40.{number}.0/24" for number in range(60)] + [f"2001:db8:41:{number:x}::/64" for number in range(1, 21)]
"""What any leaf may announce."""
FILTERED = frozenset(f"10.40.{number}.0/24" for number in range(0, 60, 3))
"""What the policy rejects that leaf1 may have."""
FOREIGN = [f"10.40.{number}.0/24" for number in range(0, 60, 5)]
"""Where another program may put a route."""
PODS = ("10.64.0.1", "2001:db8:64::1")
"""The workload of the configuration, whose pings are counted."""
SERVICE = "10.64.100.1"
BACKENDS = {"10.64.0.1": "pod1", "10.64.0.3": "pod2"}
"""Workloads of the configuration that may serve it, and their interfaces."""
EXTRA = "10.64.4.1"
"""A workload that the configuration may have."""
PLUGGED = [f"10.64.5.{number}" for number in range(1, 41)]
"""Pods that another program may have put on the interface pod3, by routes of its own."""
CONTESTED = tuple(f"10.64.3.{number}" for number in range(1, 5))


class Claim(msgspec.Struct, frozen=True):
    """Addresses on an interface of the host; with a MAC they are an endpoint of its VRF."""

    addresses: tuple[str, ...]
    interface: str
    vrf: str = ""
    mac: str = ""


class Model:
    """All that lasts. What is broken meanwhile, and mended before the next look, is not here."""

    def __init__(self) -> None:
        self.announced: dict[int, set[str]] = {number: set(ALWAYS.get(number, ())) for number in LEAVES}
        self.mqtt: dict[str, Claim] = {}
        self.api: dict[str, Claim] = {}
        self.plugged: set[str] = set()
        self.foreign: set[str] = set()
        self.served_by: set[str] = set()
        """The backends of the service; there is none without."""
        self.has_policy = False
        self.has_extra = False
        self.is_drained = False
        self.without: set[int] = set()
        """Leaves that are not in the configuration."""
        self.hold_time_s = 9
        """Of leaf3."""
        self.tenant = Tenant()

    @property
    def neighbors(self) -> list[int]:
        """The leaves of the configuration."""
        return [number for number in LEAVES if number not in self.without]

    def learned(self) -> dict[str, list[int]]:
        """Each prefix that the host has of leaves, and of which; all of them are equally good."""
        found: dict[str, list[int]] = {}
        for number in self.neighbors:
            for prefix in self.announced[number]:
                if not (self.has_policy and number == 1 and prefix in FILTERED):
                    found.setdefault(prefix, []).append(number)
        return found

    def kernel(self) -> dict[str, list[str]]:
        """The next hops of each learned route in the kernel: "GATEWAY%INTERFACE", of IPv6, where leaves offer two
        addresses, only the interface."""
        return {
            prefix: sorted(_hop(number, ipv6=":" in prefix) for number in numbers)
            for prefix, numbers in self.learned().items()
            if prefix not in self.foreign
        }

    def own(self, vrf: str = "") -> dict[str, set[str]]:
        """The addresses that this host has in a VRF, as prefixes, and the interfaces that each may be on."""
        found: dict[str, set[str]] = {}
        for claim in self._claims(vrf):
            for address in claim.addresses:
                found.setdefault(f"{address}/{128 if ':' in address else 32}", set()).add(claim.interface)
        return found

    def _claims(self, vrf: str) -> list[Claim]:
        found = [claim for claim in (*self.mqtt.values(), *self.api.values()) if claim.vrf == vrf]
        if vrf:
            return [Claim((VM,), VM_INTERFACE, vrf), *found]
        extra = [Claim((EXTRA,), "pod2")] if self.has_extra else []
        return [Claim(PODS, "pod1"), Claim(("10.64.0.3",), "pod2"), *extra, Claim(tuple(self.plugged), "pod3"), *found]

    def local(self) -> set[str]:
        """The prefixes of addresses and services of this host."""
        return {*self.own(), *([f"{SERVICE}/32"] if self.served_by else [])}

    def told(self, number: int = 0) -> set[str]:
        """Those that a leaf is to have: of a drained host no services; where it speaks EVPN, also the VRF's."""
        unicast = self.local() - ({f"{SERVICE}/32"} if self.is_drained else set())
        return unicast | self.told_of_vrf() if number in ENDS else unicast

    def told_of_vrf(self) -> set[str]:
        """The keys of EVPN routes: prefixes as type 5, endpoints as type 2, too."""
        endpoints = {
            evpn_key(f"{address}/32", claim.mac)
            for claim in self._claims(VRF)
            for address in claim.addresses
            if claim.mac
        }
        return {evpn_key(prefix) for prefix in self.own(VRF)} | endpoints | uplink_routes()

    def service_hops(self) -> list[str]:
        return sorted(f"{address}%{BACKENDS[address]}" for address in self.served_by)


def _hop(number: int, *, ipv6: bool) -> str:
    return f"eth{number - 1}" if ipv6 or number == UNNUMBERED else f"10.0.{number}.2%eth{number - 1}"
