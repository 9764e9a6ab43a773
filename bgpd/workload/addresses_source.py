"""Addresses that the host itself has ([workload.addresses]): on lo, dummy interfaces, kube-ipvs0 (docs/addresses.md).

Decides which of the host's addresses are announced, each as a host prefix: of an interface that is named or fits a
glob, of an uplink only if it is named. The kernel delivers what arrives for them by its local table, which comes before
all others: there is no route to keep. Level-triggered: an event only says which addresses to look at again, in `Host`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache

from bgpd.config.schema import WorkloadsConfig
from bgpd.config.schema_workloads import AddressesWorkloadConfig
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, AddressScope, LinkChanged
from bgpd.model.policy_syntax import PrefixRange, parse_address_range
from bgpd.model.prefix import covers, family_of, format_key, host_key, is_link_local, parse_address
from bgpd.model.workload import Claim, is_workload
from bgpd.runtime.turns import soon
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts

ADDRESSES = "addresses"
SLICE = 500
"""Addresses looked at in one step, so that the loop is never blocked for 20 ms."""
_OFF = AddressesWorkloadConfig()
_GLOB = frozenset("*?[")


class AddressesSource(ClaimSource):
    """Claims the host's own addresses; with no interface configured, none."""

    name = ADDRESSES

    def __init__(self, parts: SourceParts, *, schedule: Callable[[Callable[[], None]], None] = soon) -> None:
        self._claims = parts.claims
        self._first_state = parts.first_state
        self._host = parts.host
        self._schedule = schedule
        self._scheduled = False
        self._has_started = False
        self._dirty: dict[bytes, None] = {}
        self._claimed: dict[bytes, set[str]] = {}
        self._facing: frozenset[str] | None = None
        self._match = lru_cache(maxsize=65536)(self._matches)
        self._use(parts.config)

    def _use(self, config: WorkloadsConfig) -> None:
        self._config = config.workload.addresses or _OFF
        self._permitted = tuple(map(parse_address_range, self._config.prefixes))
        self._vrfs = frozenset(config.vrfs.values())
        self._uplinks = config.uplinks
        leaves = ((vrf, parse_address(address)) for vrf, address in config.leaves)
        self._leaves = tuple((vrf, leaf) for vrf, leaf in leaves if not is_link_local(leaf))  # they name an interface
        self._facing = None
        self._match.cache_clear()

    def _uplinks_changed(self) -> None:
        self._facing = None
        self._match.cache_clear()
        self._mark_all()

    async def restore(self) -> None:
        """Claim what the host has at the start."""
        self._mark_all()
        self._has_started = True
        while self._dirty:
            self._take()
            await asyncio.sleep(0)
        self._first_state.heard(ADDRESSES)

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Look at all addresses again; what the new configuration does not name is given up."""
        self._use(config)
        self._mark_all()

    def host_changed(self, event: LinkChanged | AddressChanged) -> None:
        if not self._config.interfaces:
            return
        if isinstance(event, AddressChanged):
            self._mark(event.address.packed)
            if self._leads_to_leaf(event.address):
                self._uplinks_changed()
        elif event.is_another:
            addresses = self._host.addresses(event.link.name)
            if any(map(self._leads_to_leaf, addresses)):
                self._uplinks_changed()
            for address in addresses:
                self._mark(address.packed)

    # Which addresses are to be looked at.

    def _mark_all(self) -> None:
        if self._config.interfaces:
            for link in self._host.links.values():
                if self._match(link.name):
                    for address in self._host.addresses(link.name):
                        self._mark(address.packed)
        for packed in self._claimed:
            self._mark(packed)

    def _mark(self, packed: bytes) -> None:
        self._dirty[packed] = None
        if not self._scheduled and self._has_started:
            self._scheduled = True
            self._schedule(self.drain)

    def drain(self) -> None:
        """Look at what is marked, at most `SLICE` addresses; asks to be called again if more are."""
        self._scheduled = False
        self._take()
        if self._dirty:
            self._scheduled = True
            self._schedule(self.drain)

    def _take(self) -> None:
        for packed in list(self._dirty)[:SLICE]:
            del self._dirty[packed]
            self._look_at(packed)

    # What becomes of one.

    def _look_at(self, packed: bytes) -> None:
        """Claim an address in each VRF in which an interface has it, and nowhere else."""
        wanted: dict[str, str] = {}
        for address in self._host.with_address(packed):
            if self._is_wanted(address):
                wanted.setdefault(self._host.vrf_of(address.interface), address.interface)
        family = family_of(packed)
        key = host_key(packed)
        for vrf in self._claimed.get(packed, set()) | wanted.keys():
            prefix = format_key(family, key)
            id = f"{vrf}/{prefix}" if vrf else prefix
            interface = wanted.get(vrf)
            claims = () if interface is None else (_claim(id, family, key, interface=interface, vrf=vrf),)
            self._claims.claim(ADDRESSES, id, claims)
        if wanted:
            self._claimed[packed] = set(wanted)
        else:
            self._claimed.pop(packed, None)

    def _is_wanted(self, address: Address) -> bool:
        family = family_of(address.packed)
        is_ipv6 = family is Family.IPV6_UNICAST
        if not address.usable or address.scope >= AddressScope.LINK:
            return False
        if not (self._config.ipv6 if is_ipv6 else self._config.ipv4) or (is_ipv6 and address.secondary):
            return False
        if not self._match(address.interface) or self._host.vrf_of(address.interface) not in self._vrfs:
            return False
        key = host_key(address.packed)
        return is_workload(family, key) and self._is_permitted(family, key)

    def _is_permitted(self, family: Family, key: bytes) -> bool:
        return not self._permitted or any(_holds(one, family, key) for one in self._permitted)

    def _matches(self, interface: str) -> bool:
        if interface in self._config.interfaces:
            return True
        globs = (glob for glob in self._config.interfaces if not _GLOB.isdisjoint(glob))
        return any(fnmatchcase(interface, glob) for glob in globs) and not self._is_uplink(interface)

    # Which interfaces are uplinks.

    def _is_uplink(self, interface: str) -> bool:
        """Whether it is one that neighbors or VRFs name, or its network has the address of a neighbor in it."""
        if self._facing is None:
            self._facing = frozenset(self._host.facing(leaf, vrf) for vrf, leaf in self._leaves)
        return interface in self._facing or any(fnmatchcase(interface, uplink) for uplink in self._uplinks)

    def _leads_to_leaf(self, address: Address) -> bool:
        """Whether a leaf is in the network of an address, so that interfaces become uplinks by it, or no longer are."""
        network = address.network
        return any(len(leaf) == len(address.packed) and covers(network, host_key(leaf)) for _vrf, leaf in self._leaves)


def _holds(permitted: PrefixRange, family: Family, key: bytes) -> bool:
    return permitted.family is family and covers(permitted.key, key)


def _claim(id: str, family: Family, key: bytes, *, interface: str, vrf: str) -> Claim:
    return Claim(source=ADDRESSES, id=id, family=family, key=key, interface=interface, vrf=vrf, is_own=True)


KIND = SourceKind(
    name=ADDRESSES,
    what="addresses that the host itself has, by `[workload.addresses]`",
    precedence=0,
    restart=Restart.REPLAYED,
    rank_at_start=1,
    is_own_word=True,
    is_damped=True,
    make=AddressesSource,
)
