"""The steady change of an Internet table, as one leaf sends it: batches of UPDATEs of one prefix each, deterministic.

Of 100 updates 60 are path changes, 20 belong to prefixes that are withdrawn and announced again 100 ms later, and 20
repeat what was announced before. (Krenc et al., "Keep your Communities Clean", CoNEXT 2020, found that a quarter of all
updates change nothing, and another quarter only communities: gsmaragd.github.io/publications/CoNEXT2020/.) Few prefixes
change often, as it is on the Internet. One of eight path changes is to a path of another length, by which other leaves
become better or worse.

How the lag is seen from outside: the last UPDATE of a batch is that of a sentinel, which changes its next hop; when the
kernel has it, the batch has been worked through. What sentinels change is in addition to the mix.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks import wire
from benchmarks.internet_attributes import EVEN, SEED
from benchmarks.internet_table import InternetTable
from benchmarks.kernel_watch import visible
from benchmarks.routes import pack_address

SENTINELS, CHANGING = 500, 30_000
"""Prefixes at most."""
_PATH_CHANGE, _REPEATED = 2 / 3, 8 / 9
"""Bounds of a random number; above the second one a prefix is withdrawn. Of ten updates nine are drawn so (six path
changes, two repeated ones, one withdrawal), and one announces what was withdrawn."""
_BATCHES_AWAY = 10
_PATHS = (0, 0, 0, 2, 2, 2, 2, 3)
"""Variants of a set that a path change chooses from: 0 and 2 have paths of one length, 3 of another one."""


_Numbered = tuple[bytes, int]
"""A prefix and the number of its set."""


class InternetChurn(msgspec.Struct, frozen=True, kw_only=True):
    """`batches` batches of `size` updates and a sentinel on `table`, which the leaf with variant 0 has announced."""

    table: InternetTable
    batches: int
    size: int

    def sentinels(self) -> list[bytes]:
        """Prefixes of which this leaf has the shorter path, and which change in no other way; one for each batch."""
        return [prefix for prefix, _ in self._chosen()[0]]

    def messages(self, *, asn: int, next_hops: Sequence[str]) -> Iterator[bytes]:
        """The UPDATEs of each batch. Sentinels get the second of the next hops in the first round, then the first."""
        sentinels, pool = self._chosen()
        leaf = _Leaf(self.table, asn=asn, next_hop=next_hops[0], pool=pool)
        for number in range(self.batches):
            turn, place = divmod(number, len(sentinels))
            prefix, its_set = sentinels[place]
            sentinel = leaf.announced(prefix, its_set, 0, pack_address(next_hops[(turn + 1) % 2]))
            yield b"".join(leaf.batch(number, self.size)) + sentinel

    def restored(self, *, asn: int, next_hop: str) -> Iterator[bytes]:
        """UPDATEs after which the leaf has announced the table as it was."""
        sentinels, pool = self._chosen()
        leaf = _Leaf(self.table, asn=asn, next_hop=next_hop, pool=pool)
        for prefix, its_set in (*sentinels, *pool):
            yield leaf.announced(prefix, its_set, 0)

    def _chosen(self) -> tuple[list[_Numbered], list[_Numbered]]:
        """Sentinels, and the prefixes that change."""
        table, generator = self.table, random.Random(SEED + 3)
        numbers = [number for number, size in enumerate(table.sizes()) for _ in range(size)]
        preferred, prefixes = table.preferred_by(), table.prefixes()
        order = generator.sample(range(table.count), min(table.count, 4 * SENTINELS + CHANGING))
        alone = set(visible(prefixes, order))
        usable = [n for n in order if preferred[numbers[n]] == EVEN and prefixes[n] in alone]
        sentinels = usable[: min(SENTINELS, table.count // 20)]
        taken = set(sentinels)
        pool = [n for n in order if n not in taken]
        return [(prefixes[n], numbers[n]) for n in sentinels], [(prefixes[n], numbers[n]) for n in pool]


class _Leaf:
    """The leaf's view while it changes: which path of which prefix it has announced last."""

    def __init__(self, table: InternetTable, *, asn: int, next_hop: str, pool: Sequence[_Numbered]) -> None:
        self._family = table.family
        self._blocks = {variant: table.blocks(asn=asn, variant=variant) for variant in set(_PATHS)}
        self._next_hop = pack_address(next_hop)
        self._pool = pool
        self._paths: dict[bytes, int] = {}
        self._away: deque[tuple[int, _Numbered]] = deque()
        self._gone: set[bytes] = set()
        self._generator = random.Random(SEED + 4)

    def announced(self, prefix: bytes, its_set: int, path: int, next_hop: bytes = b"") -> bytes:
        """The UPDATE that announces a prefix by one of its paths."""
        block = self._blocks[path][its_set]
        return b"".join(wire.announce(self._family, block, next_hop or self._next_hop, [prefix]))

    def batch(self, number: int, size: int) -> Iterator[bytes]:
        """`size` UPDATEs. First what was withdrawn some batches ago comes back."""
        done = 0
        while done < size and self._away and self._away[0][0] <= number:
            prefix, its_set = self._away.popleft()[1]
            self._gone.discard(prefix)
            yield self.announced(prefix, its_set, self._paths.get(prefix, 0))
            done += 1
        while done < size:
            prefix, its_set = self._pool[int(len(self._pool) * self._generator.random() ** 3)]
            if prefix not in self._gone:
                yield self._changed(number, prefix, its_set)
                done += 1

    def _changed(self, number: int, prefix: bytes, its_set: int) -> bytes:
        path, chance = self._paths.get(prefix, 0), self._generator.random()
        if chance < _PATH_CHANGE:
            others = [other for other in _PATHS if other != path]
            path = self._paths[prefix] = self._generator.choice(others)
        elif chance >= _REPEATED:
            self._gone.add(prefix)
            self._away.append((number + _BATCHES_AWAY, (prefix, its_set)))
            return b"".join(wire.withdraw(self._family, [prefix]))
        return self.announced(prefix, its_set, path)
