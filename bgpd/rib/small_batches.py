"""Routes that come few in an UPDATE, as those of an Internet table do, enter their table by one loop without layers.

What keyed_routes.py does in passes over many keys costs more than the work itself where few keys share a path. Here the
usual case is worked through in one place: unicast routes of a neighbor whose policy accepts them as they are, with a
path that nothing is to be said against. What is not usual is left to AdjRibIn and Decisions, path by path, or to the
caller. Compiled where a compiler is (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from bgpd.model.containers import PART_OF, part_number
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path, Via
from bgpd.model.route_batch import RouteBatch
from bgpd.rib.adj_rib_in import ALL_BLOCKS, HEARD_AT_COARSENESS_S, AdjRibIn
from bgpd.rib.interned_paths import PARTS
from bgpd.rib.keyed_routes import with_path
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Entry

FEW: Final = 24
"""Keys of a batch up to which the loop costs less than passes over them."""
MANY: Final = 1000
"""The same where keys are all over the table: passes are quick where they are in few of its dicts."""


def enter_few(table: LocRib, routes: AdjRibIn, batches: Sequence[RouteBatch], at: int) -> int:
    """Take the batches from `at` on into a table, as long as each has few routes of its unicast family, announced or
    withdrawn (`_are_few`); the place of the first that has not. What changed is pending in the table.

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
    signs = usual_signs = routes.signs[family]
    gateway: NextHop | None = None
    asked: NextHop | None = None
    fresh: Via | None = None
    came = 0
    try:
        while at < len(batches):
            batch = batches[at]
            keys, attributes, next_hop = batch.announced, batch.attributes, batch.next_hop
            if batch.family is not family or batch.overlay is not None:
                break
            if not keys or batch.withdrawn or attributes is None or next_hop is None or not _are_few(keys):
                if keys or not batch.withdrawn or not _are_few(batch.withdrawn):
                    break
                for key in batch.withdrawn:
                    _withdraw_one(table, key, name)
                at += 1
                continue
            if next_hop is not gateway:
                gateway = next_hop
                signs = usual_signs if not routes.why_refused(family, next_hop) else ALL_BLOCKS
            block = attributes.block
            path = known = paths[hash(block) % PARTS].get(block)
            if known is None:
                for sign in signs:
                    if block.find(sign) >= 0:  # `in` takes three times as long for bytes in bytes
                        path = table.alone(routes.path(family, attributes, next_hop))
                        break
                else:
                    if fresh is None or next_hop is not asked:
                        asked = next_hop
                        fresh = interned.via(source, next_hop, now, *table.forwarded_by(next_hop), epoch)
                    path = Path(fresh, attributes, attributes, block)
            elif known.via.next_hop is not next_hop or known.via.epoch != epoch:
                known = routes.known(family, attributes, next_hop)
                path = table.alone(routes.path(family, attributes, next_hop))
            elif not oldest < known.via.heard_at <= now:
                path = None
            at += 1
            before: Entry | None = None
            after: Entry | None = None
            former: Path | None = None
            is_decided = False
            for key in keys:
                part = parts[PART_OF[key[-2] if len(key) > 1 else 0]]
                old = part.get(key)
                if old is not before:
                    before, is_decided = old, False
                    former = None if old is None else old.path_of(name)
                if former is not None and (former is path or former is known):
                    continue
                if path is None:
                    path = routes.heard_again(cast(Path, known), now)
                came += 1
                had = path.keys
                path.keys = had + 1
                if not had:
                    interned.has_come(path)
                via = path.via
                if via.rejected:
                    table.rejected[source] = table.rejected.get(source, 0) + 1
                if old is None:
                    part[key] = path
                    path.routes += 1
                    if via.next_hops is not None:
                        next_hops[key] = via.next_hops
                    if gathers:
                        into.keys.append(key)
                    continue
                if not is_decided:
                    after, is_decided = _beside(table, old, former, path, is_new=not had), True
                table.settle(part, key, old, after, into)
                if former is not None:
                    table.count_path(former, -1)
    finally:
        if came:
            table.received[source] = table.received.get(source, 0) + came
    return at


def _are_few(keys: Sequence[bytes]) -> bool:
    """Whether the loop costs less than passes over these keys. Neighboring prefixes, as peers send them where many
    share attributes, begin and end in the same dict of the table."""
    count = len(keys)
    if count <= FEW:
        return True
    first, last = keys[0], keys[count - 1]
    return count <= MANY and part_number(first) != part_number(last)


def _beside(table: LocRib, old: Entry, former: Path | None, path: Path, *, is_new: bool) -> Entry | None:
    """What a key gets that had `old`, when a path, counted already, comes in place of its source's `former` one.
    `is_new`: no other key has it."""
    if former is old:
        return path
    try:
        if former is None:
            candidates = with_path(path, old)
            return table.decision_of_new(candidates) if is_new else table.decision(candidates)
        candidates = old.candidates
        if len(candidates) == 2:
            first, second = candidates
            both = (path, second) if first is former else (first, path)
            return table.decision_of_new(both) if is_new else table.decision(both)
        return table.decision(tuple([path if one is former else one for one in candidates]))
    except Exception:
        table.count_path(path, -1)
        raise


def _withdraw_one(table: LocRib, key: bytes, name: str) -> None:
    """Take the path of the source of this name from a key."""
    part = table.routes.part(key)
    old = part.get(key)
    former = None if old is None else old.path_of(name)
    if old is not None and former is not None:
        new = None if former is old else table.decision_without(old.candidates, former)
        table.settle(part, key, old, new, table.pending)
        table.count_path(former, -1)
