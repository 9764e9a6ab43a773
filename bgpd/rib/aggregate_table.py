"""Which aggregates this host announces in one table, and which of its own routes they suppress.

A configured aggregate is announced while at least one contributor is inside it: a workload's route of this host, more
specific, and no exception (a workload moved here from another host's block must not draw that block's traffic here).
With `auto = "exact"` the prefix is a pool: announced are the fewest prefixes that cover exactly the contributors in it.
A summary-only or exact aggregate suppresses its contributors, exceptions never; a summary-only one aggregates, too.

Attributes after RFC 4271: AGGREGATOR is this host (section 5.1.7), ORIGIN the worst of the contributors (9.2.2.2),
ATOMIC_AGGREGATE only where a contributor's AS path is left out (5.1.6). Only says what should be: a pure function of
the contributors, kept incrementally. Never announces.

The fewest prefixes of a pool (`ExactCover`) are kept as its contributors come and go. Prefixes are nodes of the binary
tree of addresses, numbered like in a heap: the root is 1, the children of n are 2n and 2n + 1. A node is *full* if it
is a member itself or both of its children are full; the cover is the full nodes that have no full node above them. One
change touches only the nodes between the member and the root of the pool, and the members beneath where the member is
itself a whole prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from bgpd.config.schema_policies import AggregateConfig
from bgpd.model.attributes import Aggregator, Attributes
from bgpd.model.iana import Family, Origin
from bgpd.model.next_hop import BLACKHOLE, NextHop
from bgpd.model.prefix import address_length, covers, format_key, parse_prefix

_Node = int


def node_of(key: bytes) -> _Node:
    """Node of a route key."""
    length = key[0]
    return 1 << length | int.from_bytes(key[1:], "big") >> (8 * (len(key) - 1) - length)


def key_of_node(node: _Node) -> bytes:
    """Route key of a node."""
    length = node.bit_length() - 1
    size = (length + 7) >> 3
    value = (node ^ 1 << length) << (8 * size - length)
    return bytes((length,)) + value.to_bytes(size, "big")


class ExactCover:
    """The cover of the members inside one pool. Keys are route keys of the pool's family; `pool` is one too."""

    def __init__(self, pool: bytes) -> None:
        self._root = node_of(pool)
        self._members: set[_Node] = set()
        self._full: set[_Node] = set()
        self._beneath: dict[_Node, int] = {}

    def __contains__(self, key: bytes) -> bool:
        """Whether the cover has exactly this prefix."""
        node = node_of(key)
        return node in self._full and not self._is_covered(node)

    def prefixes(self) -> Iterator[bytes]:
        """The cover."""
        return map(key_of_node, self._topmost(self._root))

    def add(self, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """Add a member (once) inside the pool. Returns the prefixes that entered the cover, and those that left it."""
        node = node_of(key)
        self._members.add(node)
        self._count(node, 1)
        if node in self._full:
            return [], []
        left = list(self._topmost(node))
        covered = self._is_covered(node)
        top = node
        self._full.add(top)
        while top != self._root and top ^ 1 in self._full and top >> 1 not in self._full:
            left.append(top ^ 1)
            top >>= 1
            self._full.add(top)
        if covered:
            return [], []
        return [key_of_node(top)], [key_of_node(one) for one in left]

    def remove(self, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """Remove a member. Returns the prefixes that entered the cover, and those that left it."""
        node = node_of(key)
        self._members.remove(node)
        self._count(node, -1)
        if self._is_full(node):
            return [], []
        entered = []
        top = node
        self._full.remove(top)
        while top != self._root and top >> 1 in self._full and not self._is_full(top >> 1):
            entered.append(top ^ 1)
            top >>= 1
            self._full.remove(top)
        if self._is_covered(top):
            return [], []
        entered += self._topmost(node)
        return [key_of_node(one) for one in entered if one in self._full], [key_of_node(top)]

    def _is_full(self, node: _Node) -> bool:
        return node in self._members or (2 * node in self._full and 2 * node + 1 in self._full)

    def _is_covered(self, node: _Node) -> bool:
        """Whether a full node is above."""
        while node != self._root:
            node >>= 1
            if node in self._full:
                return True
        return False

    def _topmost(self, node: _Node) -> Iterator[_Node]:
        """The full nodes at or beneath `node` that have none above them there."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if one in self._full:
                yield one
            elif one in self._beneath:
                waiting += (2 * one + 1, 2 * one)

    def _count(self, node: _Node, change: int) -> None:
        """Keep how many members are at or beneath each node."""
        while True:
            count = self._beneath.get(node, 0) + change
            if count:
                self._beneath[node] = count
            else:
                del self._beneath[node]
            if node == self._root:
                return
            node >>= 1


Profile = tuple[Origin, bool]
"""What of a contributor matters for the aggregate's attributes: ORIGIN, and whether it has an AS path."""


class AggregateRoute(msgspec.Struct, frozen=True):
    """How an aggregate is originated. `suppressed_by`: the aggregate announced in its place ("": it is announced)."""

    attributes: Attributes
    next_hop: NextHop | None
    suppressed_by: str = ""


class AggregateChanges:
    """`routes`: aggregates to originate, or to withdraw (None). `suppressed`: the suppressing aggregate of each
    contributor ("": not suppressed)."""

    def __init__(self) -> None:
        self.routes: dict[bytes, AggregateRoute | None] = {}
        self.suppressed: dict[bytes, str] = {}


class _Block:
    """What configured aggregate and pool share: the prefix, its contributors' profiles."""

    def __init__(self, key: bytes, config: AggregateConfig) -> None:
        self.key = key
        self.config = config
        self.profiles: Counter[Profile] = Counter()

    def count(self, old: Profile | None, new: Profile | None) -> None:
        if old is not None:
            self.profiles[old] -= 1
            if not self.profiles[old]:
                del self.profiles[old]
        if new is not None:
            self.profiles[new] += 1

    @property
    def profile(self) -> Profile:
        """The worst ORIGIN, and whether any AS path is left out."""
        return max(origin for origin, _ in self.profiles), any(has_path for _, has_path in self.profiles)


class _Pool(_Block):
    def __init__(self, key: bytes, config: AggregateConfig) -> None:
        super().__init__(key, config)
        self.cover = ExactCover(key)


class AggregateTable:
    """The aggregates of one VRF and family.

    `contributor(key)` says what matters of the workload's route of a key, None if there is none or it is an exception.
    `routes` and `suppressed` are the present state.
    """

    def __init__(
        self,
        configs: Iterable[AggregateConfig],
        *,
        family: Family,
        aggregator: Aggregator,
        contributor: Callable[[bytes], Profile | None],
    ) -> None:
        self.routes: dict[bytes, AggregateRoute] = {}
        self.suppressed: dict[bytes, str] = {}
        self._family = family
        self._aggregator = aggregator
        self._contributor = contributor
        self._contributors: dict[bytes, Profile] = {}
        self._attributes: dict[Profile, Attributes] = {}
        self._blocks: dict[bytes, _Block] = {}
        self._pools: dict[bytes, _Pool] = {}
        for config in configs:
            key = parse_prefix(config.prefix)[1]
            if config.auto:
                self._pools[key] = _Pool(key, config)
            else:
                self._blocks[key] = _Block(key, config)
        self._lengths = sorted({key[0] for key in (*self._blocks, *self._pools)}, reverse=True)

    @property
    def blocks(self) -> list[bytes]:
        """Route keys of the configured aggregates: this host's own blocks."""
        return list(self._blocks)

    def contributors_of(self, key: bytes) -> int:
        """How many contributors a configured aggregate or pool has."""
        block = self._blocks.get(key) or self._pools.get(key)
        return 0 if block is None else block.profiles.total()

    def announced_for(self, key: bytes) -> list[bytes]:
        """The prefixes announced for a configured aggregate or pool."""
        pool = self._pools.get(key)
        made = [key] if pool is None else pool.cover.prefixes()
        return [one for one in made if self.is_announced(one)]

    def is_announced(self, key: bytes) -> bool:
        """Whether an aggregate is originated under `key` and not suppressed by another."""
        route = self.routes.get(key)
        return route is not None and not route.suppressed_by

    def update(self, keys: Iterable[bytes]) -> AggregateChanges:
        """The routes of these keys may have changed; what follows of it."""
        touched: set[bytes] = set()
        judged: set[bytes] = set()
        for key in keys:
            old = self._contributors.get(key)
            new = self._contributor(key)
            if old != new:
                self._move(key, old, new, touched, judged)
        changes = AggregateChanges()
        for key in touched:
            self._settle_route(key, changes)
        for key in judged:
            self._settle_suppression(key, changes)
        return changes

    def _move(
        self, key: bytes, old: Profile | None, new: Profile | None, touched: set[bytes], judged: set[bytes]
    ) -> None:
        """Count one contributor in or out; gathers the aggregates and contributors to look at again."""
        if new is None:
            del self._contributors[key]
        else:
            self._contributors[key] = new
        judged.add(key)
        for outer in self._around(key):
            block = self._blocks.get(outer)
            if block is not None and outer != key:
                block.count(old, new)
                touched.add(outer)
            pool = self._pools.get(outer)
            if pool is not None:
                self._move_in_pool(pool, key, old, new, touched, judged)

    def _move_in_pool(
        self,
        pool: _Pool,
        key: bytes,
        old: Profile | None,
        new: Profile | None,
        touched: set[bytes],
        judged: set[bytes],
    ) -> None:
        before = pool.profile if pool.profiles else None
        pool.count(old, new)
        if old is None:
            entered, left = pool.cover.add(key)
        elif new is None:
            entered, left = pool.cover.remove(key)
        else:
            entered, left = [], []
        touched.update(entered, left, (key,))
        judged.update(one for one in (*entered, *left) if one in self._contributors or one in self.suppressed)
        if pool.profiles and before is not None and pool.profile != before:
            touched.update(pool.cover.prefixes())

    def _around(self, key: bytes) -> Iterator[bytes]:
        """The configured prefixes that contain `key`, itself included, the most specific first."""
        bits = 8 * address_length(self._family)
        value = int.from_bytes(key[1:], "big") << (bits - 8 * (len(key) - 1))
        for length in self._lengths:
            if length <= key[0]:
                size = (length + 7) >> 3
                outer = bytes((length,)) + (value >> (bits - length) << (bits - length)).to_bytes(bits >> 3, "big")
                if outer[: size + 1] in self._blocks or outer[: size + 1] in self._pools:
                    yield outer[: size + 1]

    def _settle_route(self, key: bytes, changes: AggregateChanges) -> None:
        route = self._route(key)
        if route == self.routes.get(key):
            return
        changes.routes[key] = route
        if route is None:
            del self.routes[key]
        else:
            self.routes[key] = route

    def _route(self, key: bytes) -> AggregateRoute | None:
        """What to originate under `key`: as a configured aggregate, else as part of a pool's cover."""
        block = self._blocks.get(key)
        if block is not None and block.profiles:
            return self._made(block, key)
        if key in self._contributors:
            return None
        for outer in self._around(key):
            pool = self._pools.get(outer)
            if pool is not None and key in pool.cover:
                return self._made(pool, key)
        return None

    def _made(self, block: _Block, key: bytes) -> AggregateRoute:
        profile = block.profile
        attributes = self._attributes.get(profile)
        if attributes is None:
            origin, path_left_out = profile
            attributes = self._attributes[profile] = Attributes.of(
                origin=origin, atomic_aggregate=path_left_out, aggregator=self._aggregator
            )
        host = key[0] == 8 * address_length(self._family)
        next_hop = BLACKHOLE[0] if block.config.blackhole and not host else None
        return AggregateRoute(attributes, next_hop, self._suppressor_of_aggregate(key))

    def _settle_suppression(self, key: bytes, changes: AggregateChanges) -> None:
        by = self._suppressor(key) if key in self._contributors else ""
        if by == self.suppressed.get(key, ""):
            return
        changes.suppressed[key] = by
        if by:
            self.suppressed[key] = by
        else:
            del self.suppressed[key]

    def _suppressor(self, key: bytes) -> str:
        """The prefix announced in place of a contributor, "" if the contributor is announced itself.

        Of several the outermost, since it suppresses the others, too.
        """
        found = ""
        for outer in self._around(key):
            pool = self._pools.get(outer)
            if self._is_summary(outer, key) or (pool is not None and key not in pool.cover):
                found = format_key(self._family, outer)
        return found

    def _suppressor_of_aggregate(self, key: bytes) -> str:
        """The same for an aggregate. Pools suppress contributors only: aggregates configured inside are announced."""
        summaries = [outer for outer in self._around(key) if self._is_summary(outer, key)]
        return format_key(self._family, summaries[-1]) if summaries else ""

    def _is_summary(self, outer: bytes, key: bytes) -> bool:
        block = self._blocks.get(outer)
        return block is not None and outer != key and block.config.summary_only


def difference(old: AggregateTable | None, new: AggregateTable) -> AggregateChanges:
    """What changes where `new` takes the place of `old`."""
    changes = AggregateChanges()
    routes = old.routes if old is not None else {}
    suppressed = old.suppressed if old is not None else {}
    changes.routes.update((key, route) for key, route in new.routes.items() if routes.get(key) != route)
    changes.routes.update(dict.fromkeys(routes.keys() - new.routes.keys()))
    changes.suppressed.update((key, by) for key, by in new.suppressed.items() if suppressed.get(key) != by)
    changes.suppressed.update(dict.fromkeys(suppressed.keys() - new.suppressed.keys(), ""))
    return changes


class BlockWatch:
    """Which learned routes are this host's own blocks, or parts of them: somebody else announces our addresses.

    A look at every key would cost the hot path too much, so a batch is first searched, as one string of bytes, for the
    whole bytes of each block; only where they occur are the keys compared. At most `maximum` keys are kept.
    """

    def __init__(self, blocks: Iterable[bytes], *, maximum: int = 10_000) -> None:
        self._blocks = [(key, key[1 : 1 + key[0] // 8]) for key in blocks]
        self._maximum = maximum
        self.found: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def look(self, keys: Sequence[bytes]) -> list[bytes]:
        """Note which of the keys are within a block; those that were not known."""
        joined = b"".join(keys)
        new = []
        for block, whole_bytes in self._blocks:
            if whole_bytes in joined:
                for key in keys:
                    if key not in self.found and covers(block, key) and len(self.found) < self._maximum:
                        self.found[key] = block
                        new.append(key)
        return new
