"""What is to be written of one family's routes: a target for each set of next hops, and the kernel work of a slice.

Values only: routes.py makes plans, batches.py has them written, targets.py says which target next hops mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from collections.abc import Set as AbstractSet

import msgspec

from bgpd.model.next_hop import NextHops

SERVICE = "@service"
"""The interface of the recursive next hop of a service, which resolves to its backends."""


class Target(msgspec.Struct, frozen=True):
    """What routes are to point at: its id, all targets that do as well, and why there is none ("" if there is)."""

    id: int = 0
    same: AbstractSet[int] = frozenset()
    why: str = ""


TargetOf = Callable[[NextHops, Collection[int | None]], Target]
"""From next hops, and what routes of an earlier run that are to go by them point at now, to the target."""


class TargetChange(msgspec.Struct, frozen=True):
    """Routes that get another target: written behind those of `before`, which are deleted once that is done.

    The kernel could replace a route in one step, but would replace whatever route of the prefix and metric is there by
    then: also one that another program put into the place of ours a moment ago.
    """

    target: int
    keys: list[bytes]
    before: list[int]


class Plan(msgspec.Struct, kw_only=True):
    """Kernel work of one slice of changes. `settled` are keys that are as desired without a message.

    `adds` are routes where the kernel has none. `refused`: why -> keys that are desired and are not written.
    `newly_blocked`: those of them that must not be written, for a reason that is new; `displaced`: that were installed.
    """

    adds: list[tuple[int, list[bytes]]] = []
    changes: list[TargetChange] = []
    deletes: list[bytes] = []
    settled: list[bytes] = []
    refused: dict[str, list[bytes]] = {}
    newly_blocked: list[bytes] = []
    displaced: list[bytes] = []

    def written(self) -> Iterator[bytes]:
        """Keys that need a message."""
        for _target, keys in self.adds:
            yield from keys
        for change in self.changes:
            yield from change.keys
        yield from self.deletes
