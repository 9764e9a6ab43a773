"""`bgpd explain ADDRESS --at TIME`: answered from the files of the history alone.

Needs no daemon, and is run in a process of its own: reading holds a processor for a part of a second.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bgpd.history.course import Course
from bgpd.history.messages import Message
from bgpd.history.own import OwnTables
from bgpd.history.prefixes import Change
from bgpd.history.reading import (
    NotKnown,
    Progress,
    best_text,
    read_into,
    refuse_unknown,
    unsaid,
    way_text,
    whether_it_ran,
    why_not_known,
)
from bgpd.history.records import Mark
from bgpd.history.replay import Replay
from bgpd.history.segments import Segment, known_from
from bgpd.history.wanted import Either, OfKind, These
from bgpd.journal.journal import NAME as JOURNAL
from bgpd.journal.store import JournalUnusable, Sought, read_copy
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.prefix import covering_keys, family_of, format_address, format_key
from bgpd.model.views.explained import MessageView, PastNeighborView, PastView, RouteChangeView, WithheldView
from bgpd.model.views.host import EventView
from bgpd.model.views.routes import ExchangedRouteView, RouteView, WorkloadView
from bgpd.rib.exchanged import exchanged_view, next_hop_text
from bgpd.rib.views import longest_match, route_view

CHANGES_S = 3600.0
"""How long before the moment changes are told of."""
MOST_CHANGES = 50
MOST_EVENTS = 20
_EVENTS_READ = 2_000


def past(
    state: Path, address: bytes, vrf: str, *, at: float, events: bool = False, progress: Progress = unsaid
) -> PastView:
    """What the tables of a VRF had for an address at a time of day, from the files in the state directory.

    `events`: those of the journal there are added. Raises: NotKnown.
    """
    family = family_of(address)
    keys = list(covering_keys(family, address))
    segments, found, own = _read(state, (vrf, family), keys, at=at, progress=progress)
    since = known_from(segments)
    if found.problem:
        raise NotKnown(why_not_known(found.problem, since, at))
    table = found.prefixes.table
    key = longest_match(table, family, address) or longest_match(table, family, address, usable=False)
    route = None if key is None else route_view(table, family, key, vrf=vrf)
    names = {one.source for one in route.candidates} if route is not None else set()
    view = PastView(
        address=format_address(address),
        vrf=vrf,
        at=at,
        verdict="",
        known_from=max([since or found.at, *(gap for gap, _ in found.gaps)]),
        route=route,
        neighbors=[
            PastNeighborView(name=name, established=one.established, since=one.since, reason=one.reason)
            for name, one in sorted(found.standings.items())
        ],
        changes=[_change(one, family) for one in found.prefixes.changes if at - CHANGES_S <= one.at][-MOST_CHANGES:],
        messages=[
            _message(name, found.prefixes.messages.get((name, key))) for name in sorted(names) if key is not None
        ],
    )
    if not own.problem:
        view.claims = list(own.workloads({(vrf, str(family), one) for one in keys}))
    if route is None and not view.claims:
        refuse_unknown(state, vrf)
    view.verdict = _verdict(found, route, view.claims)
    for one in keys:
        view.announced += _announced(found, one)
    if key is not None and any(path.source.is_local for path in table.routes[key].candidates):
        view.withheld = list(_withheld(found, key))
    if events:
        with contextlib.suppress(JournalUnusable):
            view.events = about(view, read_copy(state / JOURNAL, sought(at)))
    return view


def _read(
    state: Path, place: tuple[str, Family], keys: Sequence[bytes], *, at: float, progress: Progress
) -> tuple[list[Segment], Replay, OwnTables]:
    """What is known of these keys of a VRF, and of this host's own. Raises: NotKnown: nothing can be read."""
    wanted = These(keys)

    def begin() -> list[Course]:
        return [Replay(*place, wanted), OwnTables()]

    segments, (found, own) = read_into(
        begin, state, Either(wanted, OfKind(Mark.OWN)), since=at - CHANGES_S, until=at, progress=progress
    )
    assert isinstance(found, Replay)
    assert isinstance(own, OwnTables)
    return segments, found, own


def _announced(found: Replay, key: bytes) -> Iterator[ExchangedRouteView]:
    """What neighbors had been sent of a prefix of this host."""
    for name, sent in found.audience.of(key):
        if sent.told is not None:
            told = sent.told
            yield exchanged_view(
                format_key(Family(told.family), key),
                Attributes.read(told.block, 0, False),
                neighbor=name,
                family=Family(told.spoken),
                vrf=found.prefixes.vrf,
                next_hop=next_hop_text(told.next_hop),
                overlay=told.overlay,
            )


def _withheld(found: Replay, key: bytes) -> Iterator[WithheldView]:
    """The neighbors that were there and had not been sent a prefix of this host."""
    sent = dict(found.audience.of(key))
    for name, standing in sorted(found.standings.items()):
        one = sent.get(name)
        if standing.established and (one is None or one.told is None):
            was_there = one is not None and one.at > standing.since
            reason = "it was withdrawn then" if was_there else "it had not been sent it since its session was there"
            yield WithheldView(
                neighbor=name,
                announced=False,
                reason=reason,
                since=one.at if one is not None and was_there else standing.since,
            )


def _verdict(found: Replay, route: RouteView | None, claims: Sequence[WorkloadView]) -> str:
    remark = whether_it_ran(found)
    if found.ended_at:
        return remark
    return f"{_verdict_of(route, claims)}; {remark}" if remark else _verdict_of(route, claims)


def _verdict_of(route: RouteView | None, claims: Sequence[WorkloadView]) -> str:
    if route is None and claims:
        claim = claims[-1]
        reason = f": {claim.reason}" if claim.reason else ""
        return f"no route: {claim.prefix} was claimed for {claim.id} ({claim.source}), which was {claim.state}{reason}"
    if route is None:
        return "no route: no neighbor had announced a way to it, and nothing on this host had it"
    used = [one for one in route.candidates if one.role in ("best", "multipath")]
    if not used:
        first = route.candidates[0]
        return f"no usable route: {route.prefix} was heard of {first.source}, but {first.reason or 'it was not usable'}"
    sources = ", ".join(one.source for one in used)
    if route.fib == "local":
        return f"{route.prefix} was this host's own, as said by {sources}"
    hops = ", ".join(dict.fromkeys(one.next_hop for one in used))
    return f"{route.prefix} went to {hops}, as said by {sources}"


def _change(change: Change, family: Family) -> RouteChangeView:
    return RouteChangeView(
        at=change.at,
        prefix=format_key(family, change.key),
        source=change.source,
        before=way_text(change.before),
        after=way_text(change.after),
        best="" if change.best[0] is change.best[1] else best_text(change.best[1]),
        why=change.what,
        message=change.message.digest if change.message is not None else "",
    )


def _message(source: str, message: Message | None) -> MessageView:
    """The UPDATE that a path came in; one from before the history has no bytes."""
    if message is None:
        return MessageView(source=source)
    options = list(_decode_options(message.negotiated))
    return MessageView(source=source, at=message.at, digest=message.digest, data=message.data.hex(), options=options)


def _decode_options(negotiated: Negotiated) -> Iterator[str]:
    """What `bgpd decode` is to know of a session."""
    if negotiated.is_ibgp:
        yield "--session=ibgp"
    if not negotiated.four_octet_as:
        yield "--two-octet-as"
    if negotiated.add_path:
        yield "--add-path"
    if negotiated.extended_next_hop:
        yield "--extended-next-hop"


def sought(at: float) -> Sought:
    """The events of the journal that `about` chooses from."""
    return Sought(since=at - CHANGES_S, until=at, limit=_EVENTS_READ)


def about(view: PastView, events: Iterable[EventView]) -> list[EventView]:
    """The last of these events that are about the neighbors that said something, or about a prefix of the address."""
    address = ipaddress.ip_address(view.address).packed
    family = family_of(address)
    prefixes = {format_key(family, one) for one in covering_keys(family, address)}
    names = {one.source for one in (*(view.route.candidates if view.route is not None else ()), *view.changes)}

    def is_about(fields: Mapping[str, object]) -> bool:
        is_of_vrf = fields.get("vrf", "") == view.vrf
        return fields.get("neighbor") in names or (is_of_vrf and str(fields.get("prefix")) in prefixes)

    return [one for one in events if is_about(one.fields)][-MOST_EVENTS:]
