"""Which prefixes bgpd may write, and why not the others: those of another program's routes, those that would divert the
host's own traffic, and those that the configuration protects.

A learned route beside another program's route to the same prefix would win or lose only by its metric. So bgpd does not
write the prefix ("blocked", with the reason) until the other route is gone. When a foreign route appears later, ours is
withdrawn: other programs' routes take precedence. Prefixes that the host's own traffic depends on are blocked likewise
(guard.py). `fib.override` permits the prefixes that it names, except where a foreign route has bgpd's own metric: two
routes of one metric have no order. `fib.protect` forbids further prefixes and takes precedence over all else. Sans-IO.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import itemgetter

from bgpd.config.schema import FibConfig
from bgpd.fib.guard import (
    NEXT_HOP,
    PIECE,
    Block,
    Dependencies,
    GuardChange,
    Rules,
    RulesMaker,
    address_block,
    covering,
    truncated,
)
from bgpd.kernel.host import Host
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.prefix import address_length, covers, format_address, format_key, host_key, parse_prefix

_SEARCHED = 8
"""So many networks are searched for one by one in the joined keys of a batch; more, by the first bytes of each key."""
_head = itemgetter(slice(1, 3))
_ForeignRoutes = dict[Family, dict[bytes, list[KernelRoute]]]


class Guard:
    """The rules of one family of one table, applied to batches.

    `protected`: networks that take no learned prefix whatever the rules are. `gateways` are next hops in use.
    """

    def __init__(self, family: Family, protected: Mapping[bytes, Block]) -> None:
        self.rules = Rules()
        self.gateways: AbstractSet[bytes] = frozenset()
        self._family = family
        self._protected = protected
        self._lengths: tuple[int, ...] = ()
        self._starts: tuple[bytes, ...] = ()
        self._heads: frozenset[bytes] = frozenset()
        self._sorted: list[bytes] = []
        self.use(self.rules)

    def use(self, rules: Rules) -> GuardChange:
        """Go by these rules from now on; what differs."""
        change = rules.change(self._family, self.rules)
        self.rules = rules
        networks = rules.closed.keys() | rules.open | self._protected.keys()
        self._lengths = tuple(sorted({key[0] for key in networks}, reverse=True))
        self._starts = tuple({key[1 : 1 + (key[0] >> 3)] for key in networks})
        whole = all(len(start) > 1 for start in self._starts)
        self._heads = frozenset(start[:2] for start in self._starts) if whole else frozenset()
        self._sort()
        return change

    def use_gateways(self, gateways: AbstractSet[bytes]) -> AbstractSet[bytes]:
        """Set the next hops in use; returns the prefixes that cover added or removed ones."""
        changed = gateways ^ self.gateways
        self.gateways = gateways
        self._sort()
        return {key for packed in changed for key in covering(packed)}

    def blocked(self, keys: Collection[bytes]) -> dict[bytes, Block]:
        """The keys that no learned route may use, and why."""
        found: dict[bytes, Block] = {}
        exact, below = self.rules.exact, self.rules.below
        if exact and not exact.keys().isdisjoint(keys):
            found.update((key, exact[key]) for key in exact.keys() & keys)
        if below and min(keys)[0] < below:
            found.update(dict.fromkeys((key for key in keys if 0 < key[0] < below), PIECE))
        for key in self._suspects(keys):
            block = self._inside(key)
            if block is not None:
                found[key] = block
        return found

    def _suspects(self, keys: Collection[bytes]) -> Iterable[bytes]:
        """All keys that are inside connected networks, and perhaps others."""
        if len(self._starts) <= _SEARCHED:
            joined = b"".join(keys)
            if not any(start in joined for start in self._starts):
                return ()
        if not self._heads:
            return keys if self._starts else ()
        if self._heads.isdisjoint(map(_head, keys)):
            return ()
        return [key for key in keys if key[1:3] in self._heads]

    def _inside(self, key: bytes) -> Block | None:
        rules = self.rules
        found: Block | None = None
        for length in self._lengths:
            network = truncated(key, length) if length <= key[0] else b""
            if network in self._protected:
                return self._protected[network]
            if network in rules.closed:
                found = found or rules.closed[network]
            elif network in rules.open:
                found = found or self._taken(key)
        return found

    def _taken(self, key: bytes) -> Block | None:
        """The guarded address that a prefix inside an open network takes."""
        size = address_length(self._family)
        low = key[1:].ljust(size, b"\0")
        at = bisect_left(self._sorted, low)
        if at == len(self._sorted) or not covers(key, host_key(self._sorted[at])):
            return None
        packed = self._sorted[at]
        return address_block(packed, self.rules.addresses.get(packed, NEXT_HOP))

    def _sort(self) -> None:
        self._sorted = sorted({*self.rules.addresses, *self.gateways})


class Ownership:
    """Foreign routes of one table, guarded, protected and overridden prefixes.

    `is_stale`: what is guarded may differ from what `changes` last told.
    """

    def __init__(self, config: FibConfig, host: Host, *, vrf: str = "") -> None:
        self.is_stale = True
        self._vrf = vrf
        self._protocol = config.protocol
        self._table = config.table
        self._metric = config.metric
        self._serving_tables = {config.table} if vrf else {config.table, _MAIN}
        self._host = host
        self._dependencies = Dependencies()
        self._foreign: _ForeignRoutes = {family: {} for family in UNICAST}
        self._serving: _ForeignRoutes = self._foreign
        if len(self._serving_tables) > 1:
            self._serving = {family: {} for family in UNICAST}
        self._gateways: Counter[bytes] = Counter()
        self._own: dict[Family, set[bytes]] = {family: set() for family in UNICAST}
        self._own_changes: list[tuple[Family, bytes]] = []
        self._is_own_stale = False
        self._override = _by_family(config.override)
        protected = {
            family: {
                key: Block(
                    f"inside {format_key(family, key)}, which fib.protect keeps from learned routes",
                    learned_only=True,
                    final=True,
                )
                for key in keys
            }
            for family, keys in _by_family(config.protect).items()
        }
        self._guards = {family: Guard(family, protected[family]) for family in UNICAST}
        self._rules = RulesMaker(host, vrf=vrf)
        self._changes: list[GuardChange] = []

    @property
    def tables(self) -> AbstractSet[int]:
        """The kernel tables whose routes of other programs count."""
        return self._serving_tables

    def depend_on(self, dependencies: Dependencies) -> None:
        """The host needs this of the table from now on."""
        if dependencies != self._dependencies:
            self._dependencies = dependencies
            self.is_stale = True

    def use_gateways(self, gateways: AbstractSet[bytes]) -> None:
        """These (packed) are the next hops in use."""
        for family, guard in self._guards.items():
            size = 4 if family is Family.IPV4_UNICAST else 16
            keys = guard.use_gateways({packed for packed in gateways if len(packed) == size})
            if keys:
                self._changes.append(GuardChange(family, keys))

    def route_changed(self, route: KernelRoute, gone: bool) -> bool:
        """Follow a route of the kernel; True if whether its prefix may be written has changed."""
        if route.table not in self._serving_tables or route.protocol == self._protocol:
            return False
        if self._serving is not self._foreign:
            self._follow(self._serving, route, gone)
        if route.gateway:
            self._gateways[route.gateway] += -1 if gone else 1
            if self._gateways[route.gateway] == (0 if gone else 1):
                self.is_stale = True
            if self._gateways[route.gateway] <= 0:
                del self._gateways[route.gateway]
        if route.key in self._rules.watched.get(route.family, ()):
            self.is_stale = True
        if route.table != self._table:
            return False
        before = self._stands_against(route.family, route.key)
        self._follow(self._foreign, route, gone)
        return before != self._stands_against(route.family, route.key)

    def _follow(self, routes: _ForeignRoutes, route: KernelRoute, gone: bool) -> None:
        known = routes[route.family].setdefault(route.key, [])
        if not gone:
            known.append(route)
        elif route in known:
            known.remove(route)
        if not known:
            del routes[route.family][route.key]

    def _stands_against(self, family: Family, key: bytes) -> KernelRoute | None:
        """The foreign route because of which a prefix must not be written. One for a type of service, or for some
        sources, does not count: the kernel uses it for such packets only, and for these whatever metrics are."""
        is_overridden = key in self._override[family]
        routes = self._foreign[family].get(key, ())
        against = (one for one in routes if not one.is_for_some)
        return next((one for one in against if not is_overridden or one.metric == self._metric), None)

    def addresses_changed(self) -> None:
        """Own addresses or networks changed. They are read at the next question: once for all changes of a turn."""
        self.is_stale = self._is_own_stale = True

    def own_changes(self) -> list[tuple[Family, bytes]]:
        """The prefixes that have become ours to keep since the last call, or no longer are."""
        if self._is_own_stale:
            self._read_own()
        changes, self._own_changes = self._own_changes, []
        return changes

    def _read_own(self) -> None:
        self._is_own_stale = False
        for family in UNICAST:
            now = _attached_prefixes(self._host, family, self._vrf)
            self._own_changes += [(family, key) for key in now ^ self._own[family]]
            self._own[family] = now

    def changes(self) -> list[GuardChange]:
        """Prefixes whose guard may have changed since the last call."""
        if self.is_stale:
            self._refresh()
        changes, self._changes = self._changes, []
        return changes

    def reserved(self, family: Family, key: bytes) -> str:
        """Which of the host's own dependencies a workload with this prefix would divert; "" if none."""
        if self.is_stale:
            self._refresh()
        return self._guards[family].rules.reserved.get(key, "")

    def blocked(self, family: Family, keys: Collection[bytes], *, kept: Container[bytes] = ()) -> Mapping[bytes, Block]:
        """Of `keys` those that must not be written, each with why; `fib.override` lifts all but protection.

        `kept` are written whatever stands against it.
        """
        if self.is_stale:
            self._refresh()
        if self._is_own_stale:
            self._read_own()
        found: dict[bytes, Block] = {}
        own, foreign = self._own[family], self._foreign[family]
        if own and not own.isdisjoint(keys):
            found.update(dict.fromkeys(own.intersection(keys), _OWN))
        if foreign and not foreign.keys().isdisjoint(keys):
            for key in foreign.keys() & keys:
                route = self._stands_against(family, key)
                if route is not None and key in self._override[family]:
                    advice = "two routes of one metric are no order: change its metric, or fib.metric"
                    found[key] = Block(f"{describe(route)}; {advice}", final=True)
                elif route is not None:
                    found[key] = Block(f"{describe(route)}; fib.override can name the prefix")
        for key, block in self._guards[family].blocked(keys).items():
            if block.final or key not in found:
                found[key] = block
        if not found:
            return found
        override = self._override[family]
        return {key: block for key, block in found.items() if key not in kept and (block.final or key not in override)}

    def _refresh(self) -> None:
        """Rebuild the rules."""
        self.is_stale = False
        rules = self._rules.make(self._dependencies, foreign=self._serving, gateways=self._gateways.keys())
        self._changes += [self._guards[family].use(made) for family, made in rules.items()]


def _attached_prefixes(host: Host, family: Family, vrf: str) -> set[bytes]:
    """Keys of this host's own addresses and their networks in one family and VRF."""
    size = address_length(family)
    found = set()
    for address in host.all_addresses(vrf):
        if len(address.packed) == size:
            found.add(bytes((size * 8,)) + address.packed)
            found.add(address.network)
    return found


_OWN = Block("the prefix is this host's own address or connected network")


def describe(route: KernelRoute) -> str:
    """Another program's route that blocks ours, as text."""
    via = f" via {format_address(route.gateway)}" if route.gateway else ""
    where = f" on {route.interface}" if route.interface else ""
    return (
        f"another program's route to the prefix is in the kernel (protocol {route.protocol}{via}{where},"
        f" metric {route.metric})"
    )


def _by_family(prefixes: Iterable[str]) -> dict[Family, set[bytes]]:
    found: dict[Family, set[bytes]] = {family: set() for family in UNICAST}
    for text in prefixes:
        family, key = parse_prefix(text)
        found[family].add(key)
    return found


_MAIN = 254
