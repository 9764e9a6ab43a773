"""`bgpd explain ADDRESS --at TIME`, and what became of a prefix: answered from the files of the history alone.

Needs no daemon, and is run in a process of its own: a busy history takes seconds to read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from bgpd.history.messages import Message
from bgpd.history.prefixes import Change
from bgpd.history.records import AnyRecord
from bgpd.history.replay import Replay, replay
from bgpd.history.segments import DIRECTORY, Segment, known_from, records_of, segments_of
from bgpd.journal.journal import NAME as JOURNAL
from bgpd.journal.store import JournalUnusable, Sought, read_copy
from bgpd.model.as_path import as_path_text
from bgpd.model.iana import Family
from bgpd.model.path import Path as Way
from bgpd.model.prefix import covering_keys, format_address, format_key
from bgpd.model.views.explained import MessageView, PastNeighborView, PastView, RouteChangeView
from bgpd.model.views.host import EventView
from bgpd.model.views.routes import RouteView
from bgpd.rib.policy import PolicyError
from bgpd.rib.views import longest_match, route_view

CHANGES_S = 3600.0
"""How long before the moment changes are told of."""
MOST_CHANGES = 50
MOST_BYTES = 16 << 20
"""What is read for the sake of changes: some ten seconds of a processor. For a moment itself it may be more."""
MOST_EVENTS = 20
_EVENTS_READ = 2_000


class NotKnown(Exception):
    """The history does not say it: why, and what it does say."""


def past(state: Path, address: bytes, vrf: str, *, at: float, events: bool = False) -> PastView:
    """What the tables of a VRF had for an address at a time of day, from the files in the state directory.

    `events`: those of the journal there are added. Raises: NotKnown.
    """
    family = Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST
    keys = list(covering_keys(family, address))
    try:
        segments = segments_of(state / DIRECTORY)
        found = _replayed(segments, vrf, family, keys, at)
    except OSError as error:
        raise NotKnown(f"the history of routes cannot be read: {state / DIRECTORY}: {error.strerror}") from None
    except (msgspec.MsgspecError, PolicyError) as error:
        raise NotKnown(f"the history of routes is of a bgpd with another configuration: {error}") from None
    since = known_from(segments)
    if found.problem:
        raise NotKnown(_why_not_known(found.problem, since, at))
    table = found.prefixes.table
    key = longest_match(table, family, address) or longest_match(table, family, address, usable=False)
    route = None if key is None else route_view(table, family, key, vrf=vrf)
    names = {one.source for one in route.candidates} if route is not None else set()
    view = PastView(
        address=format_address(address),
        vrf=vrf,
        at=at,
        verdict=_verdict(found, route),
        known_from=since or found.at,
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
    if events:
        with contextlib.suppress(JournalUnusable):
            view.events = about(view, read_copy(state / JOURNAL, sought(at)))
    return view


def _replayed(segments: Sequence[Segment], vrf: str, family: Family, keys: Sequence[bytes], at: float) -> Replay:
    """What is known of a moment. From a base that tells the changes before it too, if there is one and not too much is
    to be read, else from the last one that is whole by then."""
    starts = [number for number, one in enumerate(segments) if one.begins_base and 0 < one.began_at <= at]
    near = [number for number in starts if _size(segments[number:], at) <= MOST_BYTES]
    early = [number for number in near if segments[number].began_at <= at - CHANGES_S]
    found = Replay(vrf, family, keys)
    for number in dict.fromkeys([*early[-1:], *near[:1], *reversed(starts)]):
        found = Replay(vrf, family, keys)
        replay(_records(segments[number:], at), found, at)
        if not found.problem:
            break
    return found


def _size(segments: Sequence[Segment], at: float) -> int:
    """What has to be read of these for a moment."""
    return sum(one.bytes for one in segments if one.began_at <= at)


def _records(segments: Sequence[Segment], at: float) -> Iterator[list[AnyRecord] | str]:
    """Those up to a moment, and the first ones after it. Of a segment of which no time can be read it is not known
    whether it is a later one."""
    for one in segments:
        if one.began_at <= at:
            yield from records_of(one)
    later = next((one for one in segments if one.began_at > at and not one.problem), None)
    if later is not None:
        yield from (block for block in records_of(later) if not isinstance(block, str))


def _why_not_known(problem: str, since: float | None, at: float) -> str:
    if since is None:
        return f"the history of routes does not say it: {problem}"
    if at < since:
        return f"the history of routes begins at {_time(since)}"
    return f"the history of routes does not say what was at {_time(at)}: {problem}"


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _verdict(found: Replay, route: RouteView | None) -> str:
    if found.ended_at:
        return f"bgpd did not run: it had ended at {_time(found.ended_at)}; kernel routes stayed as they were then"
    if found.anew_at:
        between = f"{_time(found.at)} and {_time(found.anew_at)}"
        return f"{_verdict_of(route)}; whether bgpd still ran is not known: it ended without a word between {between}"
    return _verdict_of(route)


def _verdict_of(route: RouteView | None) -> str:
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
        before=_way(change.before),
        after=_way(change.after),
        why=change.what,
        message=change.message.digest if change.message is not None else "",
    )


def _way(path: Way | None) -> str:
    """A path in a few words."""
    if path is None:
        return ""
    via = f"via {path.next_hop}" if path.next_hop is not None else "own"
    attributes = path.attributes
    parts = [via, f"AS path {as_path_text(attributes.packed_as_path)}" if attributes.packed_as_path else ""]
    parts += [f"MED {attributes.med}" if attributes.med is not None else ""]
    parts += [f"local preference {attributes.local_pref}" if attributes.local_pref is not None else ""]
    parts += [f"rejected: {path.rejected}" if path.rejected else ""]
    return ", ".join(filter(None, parts))


def _message(source: str, message: Message | None) -> MessageView:
    """The UPDATE that a path came in; one from before the history has no bytes."""
    if message is None:
        return MessageView(source=source)
    return MessageView(source=source, at=message.at, digest=message.digest, data=message.data.hex())


def sought(at: float) -> Sought:
    """The events of the journal that `about` chooses from."""
    return Sought(since=at - CHANGES_S, until=at, limit=_EVENTS_READ)


def about(view: PastView, events: Iterable[EventView]) -> list[EventView]:
    """The last of these events that are about the neighbors that said something, or about a prefix of the address."""
    address = ipaddress.ip_address(view.address).packed
    family = Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST
    prefixes = {format_key(family, one) for one in covering_keys(family, address)}
    names = {one.source for one in (*(view.route.candidates if view.route is not None else ()), *view.changes)}
    found = [one for one in events if one.fields.get("neighbor") in names or str(one.fields.get("prefix")) in prefixes]
    return found[-MOST_EVENTS:]
