"""Reads the files of the history for some keys: from the last base that is early enough, and as little as possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from bgpd.history.course import Course
from bgpd.history.messages import Decoders
from bgpd.history.records import AnyRecord, BaseBegan, Claimed, Tenants
from bgpd.history.replay import Replay, replay
from bgpd.history.segments import DIRECTORY, Segment, known_from, records_of, segments_of
from bgpd.history.wanted import These, Wanted
from bgpd.model.as_path import as_path_text
from bgpd.model.iana import Family
from bgpd.model.path import Path as Way
from bgpd.model.unreadable import UNREADABLE
from bgpd.rib.policy import PolicyError

Progress = Callable[[float], None]
"""Is told which part is read, of 1."""


_Reader = TypeVar("_Reader", bound=Course)


class NotKnown(Exception):
    """The history does not say it: why, and what it does say."""


def vrfs_of(state: Path, wanted: Wanted, *, also_empty: bool = False) -> list[str]:
    """The VRFs of which the history says something, the main table first; of those with nothing but routes, the ones
    that may have a wanted key. `also_empty`: such as had nothing, too. Raises: NotKnown: it cannot be read."""
    found: dict[str, None] = {"": None}
    try:
        for segment in segments_of(state / DIRECTORY):
            for records in records_of(segment, wanted):
                for record in records if not isinstance(records, str) else ():
                    found |= dict.fromkeys(_vrfs_in(record, also_empty=also_empty), None)
    except OSError as error:
        raise NotKnown(f"the history of routes cannot be read: {state / DIRECTORY}: {error.strerror}") from None
    return list(found)


def vrfs_asked(state: Path, given: Sequence[str], wanted: Wanted, *, also_former: bool) -> list[str]:
    """The VRFs to look at: of none all that may have a wanted key, with `also_former` those that are not configured any
    more beside the given ones. Raises: NotKnown: the history cannot be read."""
    if not given:
        return vrfs_of(state, wanted)
    return list(dict.fromkeys([*given, *(all_vrfs_of(state) if also_former else ())]))


def all_vrfs_of(state: Path) -> list[str]:
    """The VRFs that the history names, the main table first: also such as are not configured any more, and such as had
    nothing. Raises: NotKnown: it cannot be read."""
    return vrfs_of(state, These(()), also_empty=True)


def refuse_unknown(state: Path, vrf: str | None) -> None:
    """Raises: NotKnown: there was no VRF of this name at any time that the history has."""
    if vrf and vrf not in (known := all_vrfs_of(state)):
        names = ", ".join(known[1:]) or "none"
        raise NotKnown(f'there is no VRF "{vrf}", and was none as far as the history of routes goes; it has: {names}')


def _vrfs_in(record: AnyRecord, *, also_empty: bool) -> Iterator[str]:
    if isinstance(record, BaseBegan):
        yield from (vrf for vrf, *_ in (*record.next_hops, *record.addresses))
    elif isinstance(record, Tenants):
        yield from (name for name, *_ in record.vrfs if also_empty)
    elif isinstance(record, Claimed):
        yield from (one.vrf for one in record.claims if also_empty)
    elif isinstance(vrf := getattr(record, "vrf", None), str):
        yield vrf


def unsaid(part: float) -> None:
    """Nobody wants to know."""


def read(
    state: Path,
    vrfs: Sequence[str],
    family: Family,
    wanted: Wanted,
    *,
    since: float,
    until: float,
    progress: Progress = unsaid,
) -> tuple[list[Segment], list[Replay]]:
    """What is known of the wanted keys of these VRFs at a time of day, and what became of them since another one, as
    far as that is there. Raises: NotKnown: nothing can be read."""
    begin = of_tables(vrfs, family, wanted)
    return read_into(begin, state, wanted, since=since, until=until, progress=progress)


def of_tables(vrfs: Sequence[str], family: Family, wanted: Wanted) -> Callable[[], list[Replay]]:
    """What makes the replays of the tables of these VRFs."""

    def begin() -> list[Replay]:
        decoders = Decoders(wanted)
        return [Replay(vrf, family, wanted, decoders) for vrf in vrfs]

    return begin


def read_into(
    begin: Callable[[], list[_Reader]],
    state: Path,
    wanted: Wanted,
    *,
    since: float,
    until: float,
    progress: Progress = unsaid,
) -> tuple[list[Segment], list[_Reader]]:
    """The same for any who take records: `begin` makes them, as if nothing were known. Raises: NotKnown."""
    try:
        segments = segments_of(state / DIRECTORY)
        return segments, replayed(segments, begin, wanted, since=since, until=until, progress=progress)
    except OSError as error:
        raise NotKnown(f"the history of routes cannot be read: {state / DIRECTORY}: {error.strerror}") from None
    except (PolicyError, *UNREADABLE) as error:
        raise NotKnown(f"the history of routes is of a bgpd with another configuration: {error}") from None


def replayed(
    segments: Sequence[Segment],
    begin: Callable[[], list[_Reader]],
    wanted: Wanted,
    *,
    since: float,
    until: float,
    progress: Progress = unsaid,
) -> list[_Reader]:
    """From a base that tells the changes since then too, if there is one, else from the last one that is whole. Where
    none is, what the first says, which has seen most."""
    last = _last(segments, until)
    starts = [number for number, one in enumerate(segments[: last + 1]) if one.begins_base and one.began_at]
    early = [number for number in starts if segments[number].began_at <= since]
    first: list[_Reader] = []
    for number in dict.fromkeys([*early[-1:], *starts[:1], *reversed(starts)]):
        found = begin()
        replay(_records(segments[number:], wanted, until, progress), found)
        _look_ahead(segments, found, until)
        if not any(one.problem for one in found):
            for one, former in zip(found, first):
                one.gaps.insert(0, (known_from(segments[number:]) or one.at, former.problem))
            return found
        first = first or found
    return first or begin()


def _records(
    segments: Sequence[Segment], wanted: Wanted, at: float, progress: Progress
) -> Iterator[list[AnyRecord] | str]:
    """Those up to a moment. Of a segment of which no time can be read it is not known whether it is a later one."""
    last = _last(segments, at)
    chosen = [(place, one) for place, one in enumerate(segments) if place <= last or one.began_at <= at]
    size, done = sum(one.bytes for _, one in chosen) or 1, 0
    for place, one in chosen:
        progress(done / size)
        yield from records_of(one, wanted, at if place == last else math.inf)
        done += one.bytes


def _last(segments: Sequence[Segment], at: float) -> int:
    """The last segment that has something of this time or before; -1 for none. Where the clock was set back, later
    times stand before it: the order in which all was written counts."""
    return max((place for place, one in enumerate(segments) if 0 < one.earliest <= at), default=-1)


def _look_ahead(segments: Sequence[Segment], found: Sequence[Course], at: float) -> None:
    """Whether the next process had begun anew after a moment."""
    last = _last(segments, at)
    later = next((one for one in segments[last + 1 :] if not one.problem), None)
    if later is not None and segments[last].last_at <= at:
        block = next(records_of(later), "")
        if not isinstance(block, str):
            for one in found:
                one.look_ahead(block[0])


def why_not_known(problem: str, since: float | None, at: float) -> str:
    """Why a moment is not known; the history begins `since`, if it is there at all."""
    if since is None:
        return f"the history of routes does not say it: {problem}"
    if at < since:
        return f"the history of routes begins at {time_text(since)}"
    return f"the history of routes does not say what was at {time_text(at)}: {problem}"


def whether_it_ran(found: Course) -> str:
    """What is said where bgpd did not run at the moment, or may not have; "" where it did."""
    if found.ended_at:
        return f"bgpd did not run: it had ended at {time_text(found.ended_at)}; kernel routes stayed as they were then"
    if found.anew_at:
        between = f"{time_text(found.at)} and {time_text(found.anew_at)}"
        return f"whether bgpd still ran is not known: it ended without a word between {between}"
    return ""


def time_text(at: float) -> str:
    """A time of day with its date, and with its distance from UTC: who reads it may live by another."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


def way_text(path: Way | None) -> str:
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


def best_text(path: Way | None) -> str:
    """Whose path is the best one."""
    return "none" if path is None else path.source.name
