"""EVPN routes that come few in an UPDATE enter their table by one loop, and so do the routes of VRFs made of them.

What small_batches.py is for unicast routes: each has a path of its own, and passes over many keys would cost more than
the work. What is not usual is left to AdjRibIn and Decisions, path by path, or to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bgpd.model.containers import PART_OF
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path, Via
from bgpd.model.route_batch import RouteBatch
from bgpd.rib.adj_rib_in import HEARD_AT_COARSENESS_S, AdjRibIn
from bgpd.rib.interned_paths import PARTS
from bgpd.rib.keyed_routes import with_path
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.small_batches import FEW

_EVPN: Final = Family.L2VPN_EVPN


def enter_few_evpn(
    table: LocRib, routes: AdjRibIn, batches: Sequence[RouteBatch], at: int, heard: list[tuple[Path, bytes]]
) -> int:
    """Take the batches from `at` on into the EVPN table, as long as each only announces, at most FEW routes whose
    labels are those of the path; the place of the first that does not. Appends to `heard` what has another path now,
    and the path. What changed is pending in the table.
    """
    source, interned = routes.source, routes.interned(_EVPN)
    if routes.policy.by_prefix:
        return at
    into, parts, paths, epoch = table.pending, table.routes.parts, interned.parts, table.epoch
    gathers, name, now = table.gathers_keys, source.name, routes.now()
    oldest = now - HEARD_AT_COARSENESS_S
    signs = routes.signs[_EVPN]
    own_labels = table.labels.entries_of(source)
    fresh: Via | None = None
    came = 0
    try:
        while at < len(batches):
            batch = batches[at]
            keys, attributes, next_hop, overlay = batch.announced, batch.attributes, batch.next_hop, batch.overlay
            if batch.family is not _EVPN or batch.labels is not None or batch.withdrawn or not 0 < len(keys) <= FEW:
                break
            if attributes is None or next_hop is None or overlay is None:
                break
            block = attributes.block
            entered = (block, next_hop, overlay, None)
            path = paths[hash(entered) % PARTS].get(entered)
            if path is None or not oldest < path.heard_at <= now:
                for sign in signs:
                    if block.find(sign) >= 0:
                        path = routes.path(_EVPN, attributes, next_hop, overlay)
                        break
                else:
                    if fresh is None or fresh.next_hop is not next_hop or fresh.overlay is not overlay:
                        fresh = Via(source, next_hop, now, "", overlay, None, epoch, True)
                    path = Path(fresh, attributes, attributes, entered)
            if path.rejected:
                break
            path = table.alone(path)
            at += 1
            for key in keys:
                if own_labels is not None:
                    own_labels.pop(key, None)
                part = parts[PART_OF[key[-2]]]
                old = part.get(key)
                former = None if old is None else old.path_of(name)
                if former is path:
                    continue
                after = path if former is old else table.decision(with_path(path, old))
                came += 1
                had = path.keys
                path.keys = had + 1
                if not had:
                    interned.has_come(path)
                if old is None:
                    part[key] = path
                    path.routes += 1
                    if gathers:
                        into.keys.append(key)
                else:
                    table.settle(part, key, old, after, into)
                    if former is not None:
                        table.count_path(former, -1)
                heard.append((path, key))
    finally:
        if came:
            table.received[source] = table.received.get(source, 0) + came
    return at


def import_few(table: LocRib, routes: Sequence[tuple[bytes, Path]]) -> None:
    """Give keys of a VRF's table their paths, each in place of what the path's source had there. What changed is
    pending in the table.
    """
    parts, into, gathers, epoch = table.routes.parts, table.pending, table.gathers_keys, table.epoch
    next_hops, received = into.next_hops, table.received
    asked: NextHop | None = None
    hops: NextHops | None = None
    is_usable = False
    for key, path in routes:
        via = path.via
        next_hop = via.next_hop
        if not path.keys and not via.rejected and next_hop is not None:
            if next_hop is not asked:
                asked = next_hop
                hops, is_usable = table.forwarded_by(next_hop)
            via.next_hops, via.is_usable, via.epoch = hops, is_usable, epoch
        else:
            table.alone(path)
        source = via.source
        part = parts[PART_OF[key[-2] if len(key) > 1 else 0]]
        old = part.get(key)
        former = None if old is None else old.path_of(source.name)
        if former is path:
            continue
        after = path if former is old else table.decision(with_path(path, old))
        if via.rejected:
            table.count_path(path, 1)
        else:
            path.keys += 1
            received[source] = received.get(source, 0) + 1
        if old is None:
            part[key] = path
            path.routes += 1
            if via.next_hops is not None:
                next_hops[key] = via.next_hops
            if gathers:
                into.keys.append(key)
        else:
            table.settle(part, key, old, after, into)
            if former is not None:
                table.count_path(former, -1)
