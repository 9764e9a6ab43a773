"""The routes of a kernel table as one process leaves them to the next: what the kernel has, as far as it knows.

Reading a million routes takes the kernel and a process seconds, and the one that leaves knows them. The next goes by
that at once, and compares it with the kernel when it runs (reconcile.py): what another program did meanwhile is found
and repaired then. A table where something is under way is not left; the next process reads it, as at any start.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import compress, repeat
from typing import NamedTuple

import msgspec

from bgpd.fib.batches import TableWriter
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family

Columns = Sequence[Sequence[bytes]]
"""Keys of each part of a table (model/containers.py), which both processes know: they are those of the RIB's routes."""
_NONE = -(1 << 31)
"""In place of a target: the kernel has no route of ours."""


class SavedRoutes(msgspec.Struct, array_like=True, gc=False):
    """The routes of one family. `targets`: for each part those of its column, packed as array("i"); _NONE: the kernel
    has none. `others`: keys that are in no column, and their targets."""

    targets: list[bytes]
    others: dict[bytes, int]


class SavedKernelTable(msgspec.Struct, array_like=True, gc=False):
    """One table. `sources`: the preferred source of routes by each group that has one."""

    table: int
    protocol: int
    metric: int
    sources: dict[int, bytes]
    families: dict[str, SavedRoutes]


class KnownTable(NamedTuple):
    """What another process has left of a table, with the columns that it is about."""

    saved: SavedKernelTable
    columns: Mapping[Family, Columns]

    def is_of(self, form: RouteForm) -> bool:
        """Whether the routes are still written into that table, and as they were."""
        return (self.saved.table, self.saved.protocol, self.saved.metric) == (form.table, form.protocol, form.metric)

    def installed(self, family: Family, objects: Collection[int]) -> tuple[ShardedDict[int], Counter[int]]:
        """The routes, and how many each target has. Those by groups that are not among the `objects` of now went with
        them."""
        installed: ShardedDict[int] = ShardedDict()
        counts: Counter[int] = Counter()
        saved = self.saved.families.get(str(family))
        if saved is None:
            return installed, counts
        columns = self.columns.get(family) or repeat((), len(installed.parts))
        for part, keys, packed in zip(installed.parts, columns, saved.targets, strict=True):
            targets = array("i", packed)
            there = {target: target for target in set(targets) if _is_there(target, objects)}  # each number once
            found = list(map(there.get, targets))
            entering = [target is not None for target in found] if None in found else repeat(True)
            part.update(zip(compress(keys, entering), [target for target in found if target is not None]))
            counts.update(part.values())
        for key, target in saved.others.items():
            if _is_there(target, objects):
                installed[key] = target
                counts[target] += 1
        return installed, counts


def _is_there(target: int, objects: Collection[int]) -> bool:
    return target != _NONE and (target <= 0 or target in objects)


def save(writer: TableWriter, objects: NexthopObjects, columns: Mapping[Family, Columns]) -> SavedKernelTable | None:
    """The routes of a table; None while something is under way, of which only the kernel knows how it ends."""
    if not writer.is_certain or objects.dead or objects.unacknowledged():
        return None
    form, families = writer.form, {}
    for family, routes in writer.families.items():
        saved = _routes(routes.installed, columns.get(family))
        if saved is None:
            return None
        families[str(family)] = saved
    return SavedKernelTable(form.table, form.protocol, form.metric, dict(objects.sources), families)


def _routes(installed: ShardedDict[int], columns: Columns | None) -> SavedRoutes | None:
    """None: there are targets of unknown routes among them."""
    packed: list[bytes] = []
    others: dict[bytes, int] = {}
    for part, keys in zip(installed.parts, columns or repeat((), len(installed.parts)), strict=True):
        targets = list(map(part.get, keys, repeat(_NONE)))
        if len(targets) - targets.count(_NONE) < len(part):
            others.update({key: part[key] for key in part.keys() - set(keys)})
        try:
            packed.append(array("i", targets).tobytes())
        except OverflowError:
            return None
    return SavedRoutes(packed, others)
