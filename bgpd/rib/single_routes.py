"""Routes that come one in an UPDATE, or have attributes of their own, enter their table by one loop without layers.

What loc_rib.py does in passes over many keys costs more than the work itself where each key has a path of its own. Here
the usual case is worked through in one place: a unicast route of a neighbor whose policy accepts all, with a path that
nothing is to be said against. What is not usual is left to AdjRibIn and Decisions, path by path, or to the caller.

Not compiled: its time is in the fields of paths and batches (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bgpd.model.containers import PART_OF
from bgpd.model.path import NextHop, NextHops, Path, RouteBatch
from bgpd.rib.adj_rib_in import HEARD_AT_COARSENESS_S, AdjRibIn
from bgpd.rib.decision import Entry
from bgpd.rib.interned_paths import PARTS
from bgpd.rib.loc_rib import LocRib, with_path

_ANY: Final = (b"",)
"""Stands in every block: no path is usual."""


def enter_singles(table: LocRib, routes: AdjRibIn, batches: Sequence[RouteBatch], at: int) -> int:
    """Take the batches from `at` on into a table, as long as each is one unicast route of its family, announced or
    withdrawn; the place of the first that is not. What changed is pending in the table.

    What is raised for a path, but for SharedStateBroken, leaves the routes before it entered.
    """
    family, source, interned = table.family, routes.source, routes.interned(table.family)
    if routes.policy.by_prefix or table.own_blocks or not table.checks_next_hops:
        return at
    into, parts, paths, gathers, epoch = (
        table.pending,
        table.routes.parts,
        interned.parts,
        table.gathers_keys,
        table.epoch,
    )
    next_hops, name, now = into.next_hops, source.name, routes.now()
    oldest = now - HEARD_AT_COARSENESS_S
    signs = usual_signs = routes.signs if routes.policy.accepts_all else _ANY
    gateway: NextHop | None = None
    hops: NextHops | None = None
    is_usable = False
    came = 0
    try:
        while at < len(batches):
            batch = batches[at]
            keys, attributes, next_hop = batch.announced, batch.attributes, batch.next_hop
            if batch.family is not family or batch.overlay is not None:
                break
            if len(keys) != 1 or batch.withdrawn or attributes is None or next_hop is None:
                if keys or len(batch.withdrawn) != 1:
                    break
                _withdraw_one(table, batch.withdrawn[0], name)
                at += 1
                continue
            if next_hop is not gateway:
                gateway = next_hop
                hops, is_usable = table.forwarded_by(next_hop)
                signs = usual_signs if not routes.why_refused(family, next_hop) else _ANY
            block = attributes.block
            path = paths[hash(block) % PARTS].get(block)
            if path is None:
                for sign in signs:
                    if sign in block:
                        path = table.alone(routes.path(family, attributes, next_hop))
                        break
                else:
                    path = Path(
                        source, attributes, next_hop, attributes, now, "", None, block, 0, 0, hops, epoch, is_usable
                    )
            elif path.next_hop is not next_hop or not oldest < path.heard_at <= now or path.epoch != epoch:
                path = table.alone(routes.path(family, attributes, next_hop))
            key = keys[0]
            part = parts[PART_OF[key[-2] if len(key) > 1 else 0]]
            at += 1
            old = part.get(key)
            former = None if old is None else old.path_of(name)
            if former is path:
                continue
            came += 1
            had = path.keys
            path.keys = had + 1
            if not had:
                interned.has_come(path)
            if path.rejected:
                table.rejected[source] = table.rejected.get(source, 0) + 1
            if old is not None:
                _put_beside(table, part, key, old, former, path)
                continue
            part[key] = path
            path.routes += 1
            if path.next_hops is not None:
                next_hops[key] = path.next_hops
            if gathers:
                into.keys.append(key)
    finally:
        if came:
            table.received[source] = table.received.get(source, 0) + came
    return at


def _put_beside(
    table: LocRib, part: dict[bytes, Entry], key: bytes, old: Entry, former: Path | None, path: Path
) -> None:
    """Give a key that has routes a path, counted already, in place of the `former` one of the same source's name."""
    new: Entry | None = path
    if former is not old:
        try:
            new = table.decision(with_path(path, old))
        except Exception:
            table.count_path(path, -1)
            raise
    table.settle(part, key, old, new, table.pending)
    if former is not None:
        table.count_path(former, -1)


def _withdraw_one(table: LocRib, key: bytes, name: str) -> None:
    """Take the path of the source of this name from a key."""
    part = table.routes.part(key)
    old = part.get(key)
    former = None if old is None else old.path_of(name)
    if old is not None and former is not None:
        new = None if former is old else table.decision_without(old.candidates, former)
        table.settle(part, key, old, new, table.pending)
        table.count_path(former, -1)
