"""`bgpd what-if`: what would become of the routes, and of what neighbors are told, asked before it is done.

The change is made, by the code that makes it otherwise, in a copy of this process (docs/decisions/0038). Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from bgpd.advertised import route_text
from bgpd.config.schema import Config
from bgpd.config.sections import section_of
from bgpd.drain_traffic import place_text
from bgpd.kernel.host import Host
from bgpd.kernel.speeds import Speeds
from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.prefix import VrfKey, format_key
from bgpd.model.views.explained import ForeseenView, ToldView, UplinkLeftView, WhatIfView
from bgpd.model.views.orders import ConfigChangeView
from bgpd.model.views.sessions import NeighborView
from bgpd.rehearsal import Rehearsal
from bgpd.rib.policy import PolicyError
from bgpd.rib.what_if import MOST_EXAMPLES, Fate, Foreseen
from bgpd.rib.what_if_changed import Told
from bgpd.routing import Routing
from bgpd.runtime.copy_of_process import in_a_copy
from bgpd.runtime.turns import Walks, at_rest

_NOT_FOLLOWED = {
    "fib": "how routes are written to the kernel",
    "guard": "what the host needs of the kernel's tables",
}
"""Sections whose changes are not made in the copy: what they are about."""


class NothingSuch(ValueError):
    """There is neither a neighbor nor an interface of that name."""


class _Answer(msgspec.Struct):
    """What the copy answers. `problem`: the change cannot be made (a PolicyError's parts)."""

    tables: list[ForeseenView] = []
    told: list[ToldView] = []
    problem: tuple[str, str, str] | None = None


async def what_if_down(
    name: str, routing: Routing, *, walks: Walks, neighbors: Sequence[NeighborView], speeds: Speeds
) -> WhatIfView:
    """A neighbor, or an interface with all that is on it, is down. Raises: NothingSuch, CopyFailed."""
    gone, interfaces = gone_with(name, routing.host, neighbors)
    names = [one.name for one in gone]

    def change(copy: Rehearsal) -> None:
        copy.sessions_lost(names)
        if interfaces:
            copy.interfaces_down(interfaces)

    answer = await _foreseen(routing, walks, change)
    left = [one for one in neighbors if one.name not in names and one.state == "established" and not one.guest]
    uplinks = sorted({one.interface for one in left if one.interface})
    await speeds.read(uplinks)
    view = WhatIfView(
        down=name,
        verdict="",
        neighbors_down=names,
        neighbors_left=sorted(one.name for one in left),
        tables=answer.tables,
        told=[one for one in answer.told if one.neighbor not in names],
        uplinks_left=[UplinkLeftView(interface=one, speed_mbps=speeds.known(one)) for one in uplinks],
    )
    view.verdict = _verdict(view)
    return view


def gone_with(name: str, host: Host, neighbors: Iterable[NeighborView]) -> tuple[list[NeighborView], frozenset[str]]:
    """The neighbors that go with a neighbor or an interface, and the interfaces. Raises: NothingSuch."""
    views = list(neighbors)
    gone = [one for one in views if name in (one.name, one.address)]
    if gone:
        return gone, frozenset()
    if host.named(name) is None:
        raise NothingSuch(f'there is no neighbor and no interface "{name}"')
    interfaces = _down_with(name, host)
    return [one for one in views if one.interface in interfaces], interfaces


def _down_with(interface: str, host: Host) -> frozenset[str]:
    """An interface, and those that speak by it (VLANs and the like)."""
    found: set[str] = set()
    more = {interface}
    while more:
        found |= more
        more = {link.name for link in host.links.values() if host.name_of(link.parent) in more} - found
    return frozenset(found)


async def what_if_drained(
    routing: Routing, stage: DrainStage, *, walks: Walks, last: Collection[VrfKey], force: bool
) -> WhatIfView:
    """A drain that has come to `stage`; `last`: services that no other host is seen to announce. Raises: CopyFailed."""
    kept = frozenset() if force or stage is DrainStage.ALL else frozenset(last)
    told = (await _foreseen(routing, walks, lambda copy: copy.drain(stage, kept))).told
    names = sorted(map(place_text, last))
    is_refused = bool(names) and not force
    verdict = f"refused, since no other host is seen to announce {', '.join(names[:MOST_EXAMPLES])}; otherwise: "
    return WhatIfView(
        verdict=f"{verdict if is_refused else ''}{_told_text(told) or _NOBODY}",
        drain="all" if stage is DrainStage.ALL else "services",
        neighbors_left=sorted(routing.sources),
        told=told,
        last=names,
        not_foreseen=["a leaf whose best path leads here shows no other before it has heard GRACEFUL_SHUTDOWN"]
        if is_refused
        else [],
    )


async def what_if_reloaded(
    routing: Routing,
    config: Config,
    *,
    walks: Walks,
    changes: list[ConfigChangeView],
    neighbors: Sequence[NeighborView],
) -> WhatIfView:
    """With another configuration, as it would be in force. Raises: CopyFailed; PolicyError: it cannot be used."""
    established = (*routing.sources.values(), *routing.guests.values())
    gone = [source.name for source in established if section_of(config.rib, source) is None]

    def change(copy: Rehearsal) -> None:
        copy.sessions_lost(gone)
        copy.reconfigure(config)

    answer = await _foreseen(routing, walks, change)
    tables, told = answer.tables, [one for one in answer.told if one.neighbor not in gone]
    left = {one.name for one in neighbors if one.state == "established" and not one.guest}
    return WhatIfView(
        verdict=f"{fates_text(tables)}; {_told_text(told) or _NOBODY}",
        reload=changes,
        neighbors_down=sorted(gone),
        neighbors_left=sorted(left.difference(gone)),
        tables=tables,
        told=told,
        not_foreseen=list(_not_foreseen(changes, {one.name for one in neighbors}, config)),
    )


async def _foreseen(routing: Routing, walks: Walks, change: Callable[[Rehearsal], None]) -> _Answer:
    async def answer() -> bytes:
        try:
            outcome = await Rehearsal(routing, walks).outcome_of(change)
        except PolicyError as error:
            return msgspec.json.encode(_Answer(problem=(error.where, error.what, error.right)))
        tables = [_foreseen_view(vrf, family, found) for (vrf, family), found in sorted(outcome.tables.items())]
        told = [_told_view(name, one) for name, one in sorted(outcome.told.items())]
        return msgspec.json.encode(_Answer(tables, told))

    await at_rest(walks, patience_s=_REST_S)
    found = msgspec.json.decode(await in_a_copy(answer), type=_Answer)
    if found.problem is not None:
        raise PolicyError(*found.problem)
    return found


_REST_S = 2.0
"""How long it is waited for a moment in which nothing is going on: what is planned in the daemon's loop is not in the
copy's."""
_NOBODY = "no neighbor is sent anything"


def _foreseen_view(vrf: str, family: Family, found: Foreseen) -> ForeseenView:
    """What becomes of one table, as it is shown."""
    shown = (Fate.LOST, Fate.MOVED, Fate.NEW)
    return ForeseenView(
        vrf=vrf,
        family=family,
        **{str(fate): found.counts[fate] for fate in Fate},
        default_route=str(found.default or ""),
        examples={
            str(fate): [format_key(family, key) for key in keys]
            for fate, keys in found.examples.items()
            if fate in shown
        },
    )


def _told_view(name: str, told: Told) -> ToldView:
    view = ToldView(neighbor=name, announced=told.count(True), withdrawn=told.count(False))
    for (family, key), is_announced in told.said.items():
        if family is not Family.ROUTE_TARGET:
            examples = view.examples.setdefault("announced" if is_announced else "withdrawn", [])
            if len(examples) < MOST_EXAMPLES:
                examples.append(route_text(family, key))
    return view


def _verdict(view: WhatIfView) -> str:
    """Of what is down."""
    told = _told_text(view.told)
    if not view.neighbors_left:
        return "no neighbor would be left: this host would be cut off"
    text = "; ".join(filter(None, (fates_text(view.tables), told)))
    left = ", ".join(view.neighbors_left)
    losing = [one for one in view.tables if one.lost]
    is_covered = losing and all(one.default_route in ("unchanged", "fewer", "moved") for one in losing)
    covered = " (the default route takes them)" if is_covered else ""
    speeds = [one.speed_mbps for one in view.uplinks_left]
    known = [one for one in speeds if one is not None]
    capacity = f" over {sum(known) / 1000:g} Gbit/s" if known and len(known) == len(speeds) else ""
    return f"{text}{covered}; left: {left}{capacity}"


def fates_text(tables: Iterable[ForeseenView]) -> str:
    """What becomes of the routes of all tables, in a few words."""
    views = list(tables)
    total = {name: sum(getattr(one, name) for one in views) for name in ("lost", "moved", "fewer", "new")}
    return "; ".join(_parts(total)) or "no route changes"


def _parts(total: dict[str, int]) -> Iterator[str]:
    words = {
        "lost": "lost",
        "moved": "moved to another way",
        "fewer": "left with fewer next hops",
        "new": "new",
    }
    for name, said in words.items():
        if total[name]:
            yield f"{total[name]} route{'s' if total[name] > 1 else ''} {said}"


def _told_text(told: Sequence[ToldView]) -> str:
    parts = [
        f"{one.neighbor} is sent {one.announced} and withdrawn {one.withdrawn}"
        for one in told
        if one.announced or one.withdrawn
    ]
    return ", ".join(parts)


def _not_foreseen(changes: Sequence[ConfigChangeView], known: Collection[str], config: Config) -> Iterator[str]:
    """What the answer leaves out, one sentence for each."""
    sections = {change.path.partition(".")[0].partition("[")[0] for change in changes}
    for section in sorted(sections.intersection(_NOT_FOLLOWED)):
        yield f"changes of {section}: {_NOT_FOLLOWED[section]}"
    if any(change.path.startswith("workload.mqtt") for change in changes):
        yield "workload.mqtt: what another broker would say is not known"
    for name in sorted({one.name for one in config.neighbor} - set(known)):
        yield f"neighbor {name} is new: what it would announce is not known"
    for name in sorted({name for change in changes if change.effect == "reset" for name in change.neighbors}):
        if name in known:
            yield f"the session with {name} is reset: until it is back its routes are stale, or gone"
