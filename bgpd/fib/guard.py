"""What the host's own traffic depends on, and which learned prefixes would lead that traffic elsewhere.

A prefix takes an address only if it is no shorter than the route that serves the address without bgpd: the connected
network, or another program's route. So of each kind another relation counts:

* an address inside a connected network (a neighbor, a next hop, a gateway): prefixes inside the network that cover it,
  the network's own prefix included. Of uplinks, and of the interface with another program's default route, all
  addresses count;
* an address that another program's route serves (the broker, a resolver, a neighbor further away): prefixes that cover
  the address and are no shorter than that route. What only learned routes serve is not guarded: they are all there is;
* the management network, which is what the interface with another program's default route is in: prefixes that cover
  it too, since who manages the host is beyond it (in a family that has another program's default route);
* another program's default route: prefixes so short that a few of them take all of it.

Makes the rules when the host changes; ownership.py goes by them. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase

import msgspec

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.prefix import address_length, covers, family_of, format_address, format_key, host_key, is_link_local

PIECES_BELOW = {Family.IPV4_UNICAST: 8, Family.IPV6_UNICAST: 16}
"""A learned prefix that is shorter takes a default route piece by piece (0.0.0.0/1 and 128.0.0.0/1, say)."""
NEXT_HOP = "a next hop in use"
_OVERRIDE = "fib.override can name the prefix"


class Block(msgspec.Struct, frozen=True):
    """Why a prefix is not written; `learned_only`: this host's own routes (workloads, aggregates) may be. `final`:
    naming the prefix in `fib.override` does not help.
    """

    why: str
    learned_only: bool = False
    final: bool = False


class Dependencies(msgspec.Struct, frozen=True, kw_only=True):
    """What the host needs of one table. `addresses`: packed address -> what it is. Of these, networks of `leaves` are
    uplink networks. `uplinks`: further uplink interfaces. `workloads`: globs of workload interfaces, never uplinks.
    """

    addresses: Mapping[bytes, str] = {}
    leaves: AbstractSet[bytes] = frozenset()
    brokers: AbstractSet[bytes] = frozenset()
    uplinks: AbstractSet[str] = frozenset()
    workloads: tuple[str, ...] = ()


class GuardChange(msgspec.Struct, frozen=True):
    """Prefixes whose guard may have changed: `keys`, all inside one of `networks`, and all shorter than `below`."""

    family: Family
    keys: AbstractSet[bytes] = frozenset()
    networks: AbstractSet[bytes] = frozenset()
    below: int = 0

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        """Keys inside one of `networks` or shorter than `below`: few of many, which are told by their beginnings."""
        below, networks = self.below, self.networks
        whole = min([network[0] for network in networks], default=0) // 8 + 1
        heads = {network[1:whole] for network in networks}
        near = [key for key in keys if key[1:whole] in heads or 0 < key[0] < below]
        return [key for key in near if 0 < key[0] < below or any(covers(network, key) for network in networks)]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is guarded of one family.

    `exact`: single prefixes. `closed`: connected networks that take no learned prefix. `open`: others, of which only
    `addresses` are guarded. `below`: prefixes shorter than that (0: none). `reserved`: prefixes that no orchestrator
    may claim for a workload, and what they would take.
    """

    exact: Mapping[bytes, Block] = {}
    closed: Mapping[bytes, Block] = {}
    open: AbstractSet[bytes] = frozenset()
    addresses: Mapping[bytes, str] = {}
    below: int = 0
    reserved: Mapping[bytes, str] = {}

    def change(self, family: Family, former: Rules) -> GuardChange:
        """The difference to the former rules."""
        keys = {key for key, _block in self.exact.items() ^ former.exact.items()}
        keys |= {key for key, _what in self.reserved.items() ^ former.reserved.items()}
        for packed in self.addresses.keys() ^ former.addresses.keys():
            keys.update(covering(packed))
        networks = {key for key, _block in self.closed.items() ^ former.closed.items()}
        below = max(self.below, former.below) if self.below != former.below else 0
        return GuardChange(family, keys, networks, below)


class RulesMaker:
    """Makes the rules of one table of what the host has. Remembers in which network a neighbor was, for the time in
    which an uplink has lost its address: then the neighbor is out of reach, and nothing leads to it elsewhere.
    """

    def __init__(self, host: Host, *, vrf: str) -> None:
        self._host = host
        self._vrf = vrf
        self._network_of: dict[bytes, bytes] = {}
        self.watched: dict[Family, frozenset[bytes]] = {}

    def make(
        self,
        dependencies: Dependencies,
        *,
        foreign: Mapping[Family, Mapping[bytes, Sequence[KernelRoute]]],
        gateways: Collection[bytes],
    ) -> dict[Family, Rules]:
        """The rules by family. `foreign`: other programs' routes; `gateways`: those of these routes.

        `watched` has from now on the foreign routes that the rules depend on.
        """
        networks = {
            (name, family, key)
            for name, family, key in _networks(self._host, self._vrf)
            if key[0] < 8 * address_length(family) and key[1:2] != _LOOPBACK
        }
        management = {
            route.interface
            for routes in foreign.values()
            for route in routes.get(_DEFAULT, ())
            if route.interface and not route.drops
        }
        uplinks = self._uplinks(dependencies, networks)
        addresses = dict.fromkeys(gateways, "the gateway of another program's route")
        addresses.update(dependencies.addresses)
        for own in [packed for packed in addresses if self._host.is_own(packed, vrf=self._vrf)]:
            del addresses[own]  # a guest's, say: no route takes what the local table delivers
        self._network_of = {packed: key for packed, key in self._network_of.items() if packed in addresses}
        return {
            family: self._of_family(
                family,
                {(name, key) for name, of, key in networks if of is family},
                uplinks=uplinks,
                management=management - uplinks,
                addresses={packed: what for packed, what in addresses.items() if family_of(packed) is family},
                distant=dependencies.leaves | dependencies.brokers,
                foreign=foreign[family],
            )
            for family in PIECES_BELOW
        }

    def _uplinks(self, dependencies: Dependencies, networks: Collection[tuple[str, Family, bytes]]) -> set[str]:
        lengths = {(family, key[0]) for _name, family, key in networks}
        leaves = [(family_of(one), host_key(one)) for one in dependencies.leaves if not is_link_local(one)]
        lead = {(of, truncated(leaf, length)) for of, leaf in leaves for family, length in lengths if of is family}
        found = {name for name, family, key in networks if (family, key) in lead} | dependencies.uplinks
        return {name for name in found if not any(fnmatchcase(name, glob) for glob in dependencies.workloads)}

    def _of_family(
        self,
        family: Family,
        networks: Collection[tuple[str, bytes]],
        *,
        uplinks: AbstractSet[str],
        management: AbstractSet[str],
        addresses: Mapping[bytes, str],
        distant: AbstractSet[bytes],
        foreign: Mapping[bytes, Sequence[KernelRoute]],
    ) -> Rules:
        exact: dict[bytes, Block] = {}
        closed: dict[bytes, Block] = {}
        for name, key in sorted(networks):
            text = format_key(family, key)
            if name in management:
                what = f"{text}, the management network ({name} has the default route of another program); {_OVERRIDE}"
                closed[key] = Block(f"inside {what}", learned_only=True)
                if _leads(foreign.get(_DEFAULT, ())):
                    cover = Block(f"covers {what}", learned_only=True)
                    exact.update((one, cover) for one in _prefixes_of(key, 1, key[0]))
            elif name in uplinks:
                closed.setdefault(key, Block(f"inside {text}, the network of uplink {name}; {_OVERRIDE}", True))
        keys = {key for _name, key in networks}
        others = keys - closed.keys()
        on_link: dict[bytes, str] = {}
        reserved: dict[bytes, str] = {}
        watched: set[bytes] = {_DEFAULT}
        lengths = sorted({key[0] for key in keys}, reverse=True)
        for packed, what in addresses.items():
            host = host_key(packed)
            within = next((key for length in lengths if (key := truncated(host, length)) in keys), None)
            if within is not None:
                self._network_of[packed] = within
                on_link[packed] = what
                if self._network_of[packed] in closed:
                    reserved.update(_taking(packed, what, self._network_of[packed][0]))
                continue
            watched.update(covering(packed))
            least = self._served_by(packed, foreign)
            if packed in distant:
                reserved.update(_taking(packed, what, least or 0))
            if least is not None:
                block = address_block(packed, what)
                exact.update((key, block) for key in _prefixes_of(host, max(least, 1), host[0] + 1))
        self.watched[family] = frozenset(watched)
        below = PIECES_BELOW[family] if _leads(foreign.get(_DEFAULT, ())) else 0
        on_open = {packed: what for packed, what in on_link.items() if self._network_of[packed] in others}
        return Rules(exact=exact, closed=closed, open=others, addresses=on_open, below=below, reserved=reserved)

    def _served_by(self, packed: bytes, foreign: Mapping[bytes, Sequence[KernelRoute]]) -> int | None:
        """Length of the route that serves an address without bgpd; None if there is none."""
        served = max((key[0] for key in (*covering(packed), _DEFAULT) if _leads(foreign.get(key, ()))), default=None)
        former = self._network_of.get(packed)
        if former is None:
            return served
        return former[0] if served is None else max(served, former[0])


def _networks(host: Host, vrf: str) -> set[tuple[str, Family, bytes]]:
    """(interface, family, key) of the networks that addresses and the kernel attached to a VRF's interfaces."""
    found = {(one.interface, family_of(one.packed), one.network) for one in host.all_addresses(vrf)}
    for link in host.interfaces(vrf):
        found.update((link.name, *place) for place in host.networks(link.name))
    return found


def _leads(routes: Iterable[KernelRoute]) -> bool:
    """Whether a prefix is served by routes: one that drops (an unreachable default, as VRFs have) serves nothing."""
    return any((route.interface or route.gateway or route.nexthop) and not route.drops for route in routes)


def covering(packed: bytes) -> Iterator[bytes]:
    """Keys of all prefixes that cover an address, but for the default route."""
    return _prefixes_of(host_key(packed), 1, 8 * len(packed) + 1)


def _taking(packed: bytes, what: str, least: int) -> Iterator[tuple[bytes, str]]:
    """The prefixes of at least that length that take an address, each with what it is."""
    host, text = host_key(packed), f"{format_address(packed)}, {what}"
    return ((key, text) for key in _prefixes_of(host, max(least, 1), host[0] + 1))


def truncated(key: bytes, length: int) -> bytes:
    """The key of the prefix of that length that covers a key which is no shorter."""
    whole, rest = divmod(length, 8)
    if not rest:
        return bytes((length,)) + key[1 : 1 + whole]
    return bytes((length,)) + key[1 : 1 + whole] + bytes((key[1 + whole] & ~(0xFF >> rest) & 0xFF,))


def address_block(packed: bytes, what: str) -> Block:
    """Of a prefix that would take an address."""
    return Block(f"would lead {format_address(packed)} ({what}) elsewhere; {_OVERRIDE}", learned_only=True)


def _prefixes_of(key: bytes, first: int, end: int) -> Iterator[bytes]:
    return (truncated(key, length) for length in range(first, end))


_DEFAULT = b"\0"
_LOOPBACK = b"\x7f"
"""127.0.0.0/8, which the kernel's local table serves before any other table."""
PIECE = Block(f"so short a prefix takes another program's default route piece by piece; {_OVERRIDE}", learned_only=True)
