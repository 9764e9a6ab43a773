"""Which next hops a neighbor may name, which of them are reachable, and by which of them a multipath set is forwarded.

Reachability is asked of the kernel tables once per next hop and remembered until they say otherwise. The `epoch` counts
those changes: a decision made in an earlier epoch is checked again before it is used. Equal sets of next hops are one
tuple, so that users compare them by identity. Nothing here looks at a route.

Weights follow the link bandwidth that paths carry (RFC 10005). They are used only if every path of a set carries a
bandwidth and these differ; otherwise all weights are equal. They are the smallest whole numbers in the ratio of the
bandwidths, so that there are few distinct sets and flows spread evenly over the kernel's buckets. A bandwidth of 0 has
the least possible weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from bgpd.config.schema_sessions import SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.kernel.host import Host
from bgpd.model.communities import lowest_link_bandwidth
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import covers, host_key, is_link_local
from bgpd.model.source import Source, SourceKind

LARGEST = 256
"""What every kernel's nexthop groups take."""
TOLERANCE = 0.01
"""How far a weight may be from the exact ratio, where the ratio allows it."""
_LOOPBACK = b"\x7f"
"""127.0.0.0/8: all of it is the host's own."""
_PRUNE_AT = 4096
"""Next hops, and sets of them, from which on those that nothing uses are looked for."""
_ORDERS_KEPT = 1024
"""Sequences of next hops of which the set is known."""


def weighted(multipath: tuple[Path, ...]) -> set[NextHop]:
    """The next hops of a multipath set, with their weights; of several paths by one the highest bandwidth counts."""
    found: dict[NextHop, float] = {}
    for path in multipath:
        bandwidth = lowest_link_bandwidth(path.attributes.packed_extended_communities)
        if bandwidth is None:
            return unweighted(multipath)
        if path.next_hop is not None:
            found[path.next_hop] = max(bandwidth, found.get(path.next_hop, 0.0))
    weights = ratio(tuple(found.values()))
    return {NextHop(hop.address, hop.interface, weight) for hop, weight in zip(found, weights)}


def unweighted(multipath: tuple[Path, ...]) -> set[NextHop]:
    """The next hops of a multipath set, all equal."""
    return {path.next_hop for path in multipath if path.next_hop is not None}


@lru_cache(maxsize=1024)
def ratio(bandwidths: tuple[float, ...]) -> tuple[int, ...]:
    """The smallest whole numbers, 1 to LARGEST, within TOLERANCE of the ratio of these; the nearest if none are."""
    highest = max(bandwidths, default=0.0)
    if not highest:
        return (1,) * len(bandwidths)
    weights: tuple[int, ...] = ()
    for scale in range(1, LARGEST + 1):
        exact = [bandwidth / highest * scale for bandwidth in bandwidths]
        weights = tuple(max(1, round(value)) for value in exact)
        if all(abs(weight - value) <= TOLERANCE * value for weight, value in zip(weights, exact)):
            break
    return weights


class AllowedNextHops(msgspec.Struct, frozen=True, kw_only=True):
    """Which next hops an external neighbor one IP hop away may name (RFC 4271 sections 5.1.3 and 6.3): itself, and
    others only in the network that it shares with this host. `peer` is its address, `interface` the one to it,
    `networks` (family, key) are those of the interface. Next hops of the other family than the session's (RFC 2545,
    RFC 8950) may be in all networks of the interface.
    """

    peer: bytes
    interface: str
    networks: frozenset[tuple[Family, bytes]]

    @property
    def is_one_hop(self) -> bool:
        """Whether the neighbor is in a network of the interface."""
        return is_link_local(self.peer) or self._shared(self.peer)

    def why_not(self, next_hop: NextHop) -> str:
        """Why the neighbor may not name it, or ""."""
        packed, here = next_hop.address, next_hop.interface in ("", self.interface)
        if here and (packed == self.peer or is_link_local(packed) or self._shared(packed)):
            return ""
        where = f"in its network on {self.interface}"
        return f"next hop {next_hop} is neither the neighbor nor {where} (RFC 4271 section 5.1.3)"

    def _shared(self, packed: bytes) -> bool:
        family = Family.IPV4_UNICAST if len(packed) == 4 else Family.IPV6_UNICAST
        found = [key for of, key in self.networks if of is family and covers(key, host_key(packed))]
        if len(packed) != len(self.peer) or is_link_local(self.peer):
            return bool(found)
        return any(covers(key, host_key(self.peer)) for key in found)


class LocalNextHops(msgspec.Struct, frozen=True, kw_only=True):
    """Which next hops a guest of this host may name (next_hop = "local"): addresses of this host (`own`), and what is
    beside the guest in a network of its interface."""

    own: frozenset[bytes]
    beside: AllowedNextHops | None

    def why_not(self, next_hop: NextHop) -> str:
        """Why the guest may not name it, or ""."""
        packed = next_hop.address
        if packed in self.own or (len(packed) == 4 and packed[:1] == _LOOPBACK):
            return ""
        if self.beside is not None and not self.beside.why_not(next_hop):
            return ""
        return f'next hop {next_hop} is neither this host nor beside the guest, and next_hop is "local"'


def allowed_next_hops(
    source: Source, host: Host, config: SessionConfig | None = None
) -> AllowedNextHops | LocalNextHops | None:
    """The next hops that a neighbor may name; None (any) inside the AS and further than one hop away."""
    if isinstance(config, GuestConfig):
        return _local_next_hops(source, host, config.vrf) if config.next_hop == "local" else None
    if source.kind is not SourceKind.EBGP or not source.interface:
        return None
    networks = host.networks(source.interface)
    for one in host.addresses(source.interface):
        networks.add((Family.IPV4_UNICAST if len(one.packed) == 4 else Family.IPV6_UNICAST, one.network))
    allowed = AllowedNextHops(peer=source.address, interface=source.interface, networks=frozenset(networks))
    return allowed if allowed.is_one_hop else None


def _local_next_hops(source: Source, host: Host, vrf: str) -> LocalNextHops:
    own = frozenset(address.packed for address in host.all_addresses(vrf))
    is_scoped = is_link_local(source.address)
    is_own = host.bears(source.interface, source.address) if is_scoped else host.is_own(source.address, vrf=vrf)
    if not source.interface or is_own:
        return LocalNextHops(own=own, beside=None)
    networks = host.networks(source.interface)
    for one in host.addresses(source.interface):
        networks.add((Family.IPV4_UNICAST if len(one.packed) == 4 else Family.IPV6_UNICAST, one.network))
    beside = AllowedNextHops(peer=source.address, interface=source.interface, networks=frozenset(networks))
    return LocalNextHops(own=own, beside=beside)


def _of(next_hop: NextHop) -> str:
    return f"next hop {next_hop}: "


class NextHopTable:
    """Reachability and interning of the next hops of one VRF.

    `resolve` says why a next hop is unreachable, or "". `crowded` is called when so many are known that `prune` is
    worth its walk, but never walks by itself.
    """

    def __init__(self, *, resolve: Callable[[NextHop], str], crowded: Callable[[], None] = lambda: None) -> None:
        self.epoch = 0
        self._resolve = resolve
        self._crowded = crowded
        self._why: dict[NextHop, str] = {}
        self._sets: dict[NextHops, NextHops] = {}
        self._in_order: dict[tuple[NextHop | None, ...], NextHops] = {}
        self._prune_at = _PRUNE_AT

    @property
    def asked(self) -> list[NextHop]:
        """Those of which it is known whether they can be reached."""
        return list(self._why)

    @property
    def known(self) -> list[tuple[NextHop, str]]:
        """The same, and why each cannot be, as `resolve` said it."""
        return [(next_hop, why.removeprefix(_of(next_hop))) for next_hop, why in self._why.items()]

    def why_unreachable(self, next_hop: NextHop) -> str:
        """Why `next_hop` cannot be forwarded to, or ""."""
        why = self._why.get(next_hop)
        if why is None:
            why = self._why[next_hop] = self._told(next_hop, self._resolve(next_hop))
            self._look_whether_crowded()
        return why

    def _told(self, next_hop: NextHop, why: str) -> str:
        return f"{_of(next_hop)}{why}" if why else ""

    def changed(self, next_hop: NextHop, why: str) -> bool:
        """Take the news about `next_hop`; whether any decision may differ now."""
        known = self._why.get(next_hop)
        if known is None:
            return False
        self._why[next_hop] = why = self._told(next_hop, why)
        differs = bool(known) != bool(why)
        self.epoch += differs
        return differs

    def next_hops(self, multipath: tuple[Path, ...]) -> NextHops | None:
        """What a multipath set is forwarded by: ascending, no duplicates, weighted, interned. None: no route."""
        if len(multipath) == 1:
            alone = multipath[0].next_hop
            return None if alone is None else self.by_one(alone)
        if not multipath[0].attributes.packed_extended_communities:
            return self.by_all(multipath)
        found = weighted(multipath)
        return self._interned(tuple(sorted(found))) if found else None

    def by_one(self, next_hop: NextHop) -> NextHops:
        """What a path alone is forwarded by."""
        return self._interned((next_hop,))

    def by_all(self, multipath: tuple[Path, ...]) -> NextHops | None:
        """What a multipath set is forwarded by, without weights."""
        if len(multipath) == 2:
            next_hops: tuple[NextHop | None, ...] = (multipath[0].next_hop, multipath[1].next_hop)
        else:
            next_hops = tuple([path.next_hop for path in multipath])
        known = self._in_order.get(next_hops)
        if known is not None:
            return known
        found = {next_hop for next_hop in next_hops if next_hop is not None}
        if not found:
            return None
        interned = self._interned(tuple(sorted(found)))
        if len(self._in_order) >= _ORDERS_KEPT:
            self._in_order.clear()
        self._in_order[next_hops] = interned
        return interned

    def _interned(self, next_hops: NextHops) -> NextHops:
        known = self._sets.get(next_hops)
        if known is None:
            known = self._sets[next_hops] = next_hops
            self._look_whether_crowded()
        return known

    def _look_whether_crowded(self) -> None:
        if len(self._why) + len(self._sets) >= self._prune_at:
            self._crowded()

    def prune(self, live_next_hops: Iterable[NextHop], live_sets: Iterable[NextHops]) -> list[NextHop]:
        """Forget what is not among the live ones; answers the next hops that are forgotten."""
        used = set(live_next_hops)
        forgotten = [next_hop for next_hop in self._why if next_hop not in used]
        self._why = {next_hop: why for next_hop, why in self._why.items() if next_hop in used}
        self._sets = {hops: hops for hops in live_sets}
        self._in_order.clear()
        self._prune_at = max(_PRUNE_AT, 2 * (len(self._why) + len(self._sets)))
        return forgotten
