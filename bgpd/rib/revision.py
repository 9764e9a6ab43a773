"""A changed import policy, applied to the routes that are already there: the received attributes were kept with each
path.

Walks a table in slices and replaces only paths whose verdict differs; no session resets and nothing is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bgpd.model.iana import Family
from bgpd.model.path import Path, Source
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.decisions import Decision
from bgpd.rib.loc_rib import SLICE, Changes, Compute, LocRib

Replaced = Callable[[Path, Sequence[bytes]], None]


def revise(
    table: LocRib, family: Family, changed: Mapping[Source, AdjRibIn], replaced: Replaced = lambda *_: None
) -> Iterator[Changes]:
    """Give all routes of the `changed` sources what their present import policy makes of them, one slice per step.

    `replaced` is told each path that took the place of another, with its keys.
    """
    for keys in table.routes.slices(SLICE // 4 or 1):
        changes = Changes()
        for decision, chosen in _affected(table, keys, changed).items():
            for candidates, group in _split(decision.candidates, chosen, family, changed, replaced):
                table.apply(group, _always(table.decision(candidates)), changes)
        yield changes


def _affected(table: LocRib, keys: Sequence[bytes], changed: Mapping[Source, AdjRibIn]) -> dict[Decision, list[bytes]]:
    by_decision: dict[Decision, list[bytes]] = {}
    for key in keys:
        decision = table.routes.get(key)
        if decision is not None:
            by_decision.setdefault(decision, []).append(key)
    return {
        decision: chosen
        for decision, chosen in by_decision.items()
        if any(path.source in changed for path in decision.candidates)
    }


def _split(
    candidates: tuple[Path, ...],
    keys: Sequence[bytes],
    family: Family,
    changed: Mapping[Source, AdjRibIn],
    replaced: Replaced,
) -> list[tuple[tuple[Path, ...], Sequence[bytes]]]:
    """The candidates after the change; several groups where a policy looks at prefixes."""
    groups: list[tuple[tuple[Path, ...], Sequence[bytes]]] = [((), keys)]
    for path in candidates:
        adj_rib_in = changed.get(path.source)
        if adj_rib_in is None:
            groups = [((*former, path), chosen) for former, chosen in groups]
        else:
            groups = [
                ((*former, revised), part)
                for former, chosen in groups
                for revised, part in adj_rib_in.revised(path, family, chosen)
            ]
            for former, chosen in groups:
                if former[-1] is not path:
                    replaced(former[-1], chosen)
    return groups


def _always(decision: Decision | None) -> Compute:
    return lambda _: decision
