"""`bgpd what-if --reload FILE`, `--drain`: what would become of the routes, and of what neighbors are told.

The change is made, by the code that makes it otherwise, in a copy of this process (docs/decisions/0038). Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from bgpd.advertised import route_text
from bgpd.config.schema import Config
from bgpd.config.sections import section_of
from bgpd.drain_traffic import place_text
from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.views.explained import ForeseenView, ToldView, WhatIfView
from bgpd.model.views.orders import ConfigChangeView
from bgpd.model.views.sessions import NeighborView
from bgpd.rib.drained import Place
from bgpd.rib.policy import PolicyError
from bgpd.rib.rib import Rib
from bgpd.rib.what_if import MOST_EXAMPLES
from bgpd.rib.what_if_changed import Told, outcome_of
from bgpd.routing import Routing
from bgpd.runtime.copy_of_process import in_a_copy
from bgpd.what_if import fates_text, foreseen_view

_FOLLOWED = ("neighbor", "listen", "policy", "aggregate", "router", "log", "api", "state", "drain", "bfd", "metrics")
"""Sections whose changes are foreseen as far as routes are concerned, or change none."""


class _Answer(msgspec.Struct):
    """What the copy answers. `problem`: the change cannot be made (a PolicyError's parts)."""

    tables: list[ForeseenView] = []
    told: list[ToldView] = []
    problem: tuple[str, str, str] | None = None


async def what_if_drained(routing: Routing, stage: DrainStage, *, last: Collection[Place], force: bool) -> WhatIfView:
    """A drain that has come to `stage`; `last`: services that no other host is seen to announce. Raises: CopyFailed."""
    kept = frozenset() if force or stage is DrainStage.ALL else frozenset(last)

    def change(rib: Rib) -> Iterator[None]:
        rib.dissemination.drain(stage, kept)
        yield

    told = (await _foreseen(routing, change)).told
    names = sorted(map(place_text, last))
    is_refused = bool(names) and not force
    verdict = f"refused, since no other host is seen to announce {', '.join(names[:MOST_EXAMPLES])}; otherwise: "
    return WhatIfView(
        verdict=f"{verdict if is_refused else ''}{_told_text(told)}",
        drain="all" if stage is DrainStage.ALL else "services",
        neighbors_left=sorted(routing.sources),
        told=told,
        last=names,
        not_foreseen=["a leaf whose best path leads here shows no other before it has heard GRACEFUL_SHUTDOWN"]
        if is_refused
        else [],
    )


async def what_if_reloaded(
    routing: Routing, config: Config, *, changes: list[ConfigChangeView], neighbors: Sequence[NeighborView]
) -> WhatIfView:
    """With another configuration, as it would be in force. Raises: CopyFailed; PolicyError: it cannot be used."""
    gone = [
        source
        for source in (*routing.sources.values(), *routing.guests.values())
        if section_of(config.rib, source) is None
    ]

    def change(rib: Rib) -> Iterator[None]:
        for source in gone:
            yield from rib.received.neighbor_down(source)
        yield from rib.reconfigure(config.rib)

    answer = await _foreseen(routing, change)
    names = {source.name for source in gone}
    tables, told = answer.tables, [one for one in answer.told if one.neighbor not in names]
    established = [one.name for one in neighbors if one.state == "established" and not one.guest]
    return WhatIfView(
        verdict=f"{fates_text(tables)}; {_told_text(told)}",
        reload=changes,
        neighbors_down=sorted(names),
        neighbors_left=sorted(set(established) - names),
        tables=tables,
        told=told,
        not_foreseen=list(_not_foreseen(changes, {one.name for one in neighbors}, config)),
    )


async def _foreseen(routing: Routing, change: Callable[[Rib], Iterator[None]]) -> _Answer:
    def answer() -> bytes:
        try:
            outcome = outcome_of(change, routing.rib)
        except PolicyError as error:
            return msgspec.json.encode(_Answer(problem=(error.where, error.what, error.right)))
        tables = [foreseen_view(vrf, family, found) for (vrf, family), found in sorted(outcome.tables.items())]
        told = [_told_view(name, one) for name, one in sorted(outcome.told.items())]
        return msgspec.json.encode(_Answer(tables, told))

    found = msgspec.json.decode(await in_a_copy(answer), type=_Answer)
    if found.problem is not None:
        raise PolicyError(*found.problem)
    return found


def _told_view(name: str, told: Told) -> ToldView:
    view = ToldView(neighbor=name, announced=told.count(True), withdrawn=told.count(False))
    for (family, key), is_announced in told.said.items():
        if family is not Family.ROUTE_TARGET:
            examples = view.examples.setdefault("announced" if is_announced else "withdrawn", [])
            if len(examples) < MOST_EXAMPLES:
                examples.append(route_text(family, key))
    return view


def _told_text(told: Sequence[ToldView]) -> str:
    parts = [
        f"{one.neighbor} is sent {one.announced} and withdrawn {one.withdrawn}"
        for one in told
        if one.announced or one.withdrawn
    ]
    return ", ".join(parts) or "no neighbor is sent anything"


def _not_foreseen(changes: Sequence[ConfigChangeView], known: Collection[str], config: Config) -> Iterator[str]:
    """What the answer leaves out, one sentence for each."""
    sections = {change.path.partition(".")[0].partition("[")[0] for change in changes}
    for section in sorted(sections - set(_FOLLOWED)):
        yield f"changes of {section}: routes of this host itself, and such as EVPN makes, are taken as they are"
    for name in sorted({one.name for one in config.neighbor} - set(known)):
        yield f"neighbor {name} is new: what it would announce is not known"
    for name in sorted({name for change in changes if change.effect == "reset" for name in change.neighbors}):
        if name in known:
            yield f"the session with {name} is reset: until it is back its routes are stale, or gone"
