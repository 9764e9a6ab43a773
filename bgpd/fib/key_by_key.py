"""Changes of a table whose next hops differ from one key to the next, sorted by what becomes of each key.

Compiled where a compiler is (docs/decisions/0021). Targets are numbers, and plain objects here: compiled code would
keep an int bare, and each entry of a table would get one of its own, 30 MB for a million routes. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from bgpd.model.containers import PART_OF
from bgpd.model.next_hop import NextHops


class Way:
    """What becomes of the keys that are to have the same next hops: which are new, which had another target, and which.

    `same`: all targets that do as well as `target`.
    """

    def __init__(self, target: object, same: AbstractSet[object]) -> None:
        self.target = target
        self.same = same
        self.added: list[bytes] = []
        self.changed: list[bytes] = []
        self.before: list[object] = []


class Sorted:
    """Keys that are as desired without a message, and those to be deleted, with the targets that they had."""

    def __init__(self) -> None:
        self.settled: list[bytes] = []
        self.deletes: list[bytes] = []
        self.gone: list[object] = []


def sort_key_by_key(
    parts: tuple[dict[bytes, object], ...],
    keys: Sequence[bytes],
    values: Sequence[NextHops | None],
    ways: dict[int, Way],
) -> Sorted:
    """Enter what is desired of each key into the `parts` of a table of targets. `ways`: by the identity of the next
    hops; their lists get the keys that need a message. No key is there twice."""
    part_of = PART_OF
    found = [parts[part_of[key[-2] if len(key) > 1 else 0]] for key in keys]
    # One look-up after the other, nothing between: the waits for memory overlap.
    had = [part.get(key) for part, key in zip(found, keys)]
    result = Sorted()
    settled, deletes, gone = result.settled, result.deletes, result.gone
    desired: NextHops | None = None
    way: Way | None = None
    for key, value, part, before in zip(keys, values, found, had):
        if value is None:
            if before is not None:
                deletes.append(key)
                gone.append(before)
                del part[key]
            continue
        if way is None or value is not desired:
            desired, way = value, ways[id(value)]
        target = way.target
        if before is None:
            part[key] = target
            way.added.append(key)
        elif before is target or before in way.same:
            settled.append(key)
        else:
            part[key] = target
            way.changed.append(key)
            way.before.append(before)
    return result
