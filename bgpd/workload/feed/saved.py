"""The saved state of a feed, and one change of it: the JSON of the state directory.

A file is read entry by entry, and so is its journal: a wrong entry, written by another version or a person, is dropped
alone. `feed` decides what is in force, `state_file` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from bgpd.model.reports import Problem
from bgpd.model.service import Service
from bgpd.model.workload import Presence, Workload
from bgpd.workload.feed.payload import check_service, check_workload


class Saved(msgspec.Struct, kw_only=True):
    """All that is in force (the state file). `journal` is the number of the journal with what changed since.

    `workload_ranks` and `service_ranks`: by name, the rank of its claim of each contested address (`claim_order`).
    `workload_presences`: by id, what EVPN knows of its addresses, if anything. `host` and `broker`: to whom it was
    said, and by which broker ("" in files of earlier versions, and where that does not matter). Version 1 has none of
    these: its workloads count as announced and never moved.
    """

    version: int = 2
    journal: int = 0
    generation: int | None = None
    epoch: str = ""
    host: str = ""
    broker: str = ""
    workloads: dict[str, Workload] = {}
    services: dict[str, Service] = {}
    workload_ranks: dict[str, dict[str, int]] = {}
    service_ranks: dict[str, dict[str, int]] = {}
    workload_presences: dict[str, dict[str, Presence]] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is in force now under some names, None for a deleted one; the generation that is applied now, with its
    epoch; or the host and the broker that all belongs to.

    Ranks: likewise; None where no address of it is contested any more. Presences: likewise; a workload that is changed
    or deleted has none until they are noted anew, since then it is the orchestrator who says where it is.
    """

    generation: int | None = None
    epoch: str = ""
    host: str = ""
    broker: str = ""
    workloads: dict[str, Workload | None] = {}
    services: dict[str, Service | None] = {}
    workload_ranks: dict[str, dict[str, int] | None] = {}
    service_ranks: dict[str, dict[str, int] | None] = {}
    workload_presences: dict[str, dict[str, Presence] | None] = {}

    def apply(self, saved: Saved) -> None:
        """Change `saved` so."""
        if self.generation is not None:
            saved.generation, saved.epoch = self.generation, self.epoch
        if self.host or self.broker:
            saved.host, saved.broker = self.host, self.broker
        _apply(saved.workloads, self.workloads)
        _apply(saved.services, self.services)
        _apply(saved.workload_ranks, self.workload_ranks)
        _apply(saved.service_ranks, self.service_ranks)
        for id in self.workloads:
            saved.workload_presences.pop(id, None)
        _apply(saved.workload_presences, self.workload_presences)


class _Loose(Saved, kw_only=True):
    """`Saved` with entries that may be anything."""

    workloads: dict[str, Any] = {}
    services: dict[str, Any] = {}
    workload_presences: dict[str, Any] = {}


class _LooseChange(Change, frozen=True, kw_only=True):
    """`Change` with entries that may be anything."""

    workloads: dict[str, Any] = {}
    services: dict[str, Any] = {}
    workload_presences: dict[str, Any] = {}


_T = TypeVar("_T")
_Check = Callable[[_T, str], list[Problem]]


def read_saved(body: bytes, decode: Callable[..., Any] = msgspec.json.decode) -> tuple[Saved, dict[str, str]]:
    """What a state file holds, and what is wrong with each entry that cannot be read; `decode` is that of its form.

    Raises: UNREADABLE: it is no state file as a whole.
    """
    wrong: dict[str, str] = {}
    try:
        saved = decode(body, type=Saved)
    except msgspec.ValidationError:
        loose = decode(body, type=_Loose)
        saved = Saved(**_good_entries(loose, wrong))
    return saved, wrong


def replay_change(line: bytes, saved: Saved, wrong: dict[str, str]) -> None:
    """Change `saved` as a line of the journal says. Of what cannot be read nothing is in force: `wrong` says why, as
    long as no later line says it again.

    Raises: UNREADABLE: it is no change as a whole.
    """
    now_wrong: dict[str, str] = {}
    try:
        change = msgspec.json.decode(line, type=Change)
    except msgspec.ValidationError:
        loose = msgspec.json.decode(line, type=_LooseChange)
        good = _good_entries(loose, now_wrong)
        for field in _ENTRIES:
            good[field] = dict.fromkeys(getattr(loose, field)) | good[field]
        change = Change(**good)
    change.apply(saved)
    for field, (kind, _) in _ENTRIES.items():
        for name in getattr(change, field):
            wrong.pop(f"{kind} {name}", None)
    wrong |= now_wrong


def check_saved(saved: Saved) -> dict[str, str]:
    """Leave out the entries that no entrance would take; what is wrong with each."""
    wrong: dict[str, str] = {}
    _leave_out("workload", saved.workloads, check_workload, wrong)
    _leave_out("service", saved.services, check_service, wrong)
    return wrong


_ENTRIES: Mapping[str, tuple[str, Any]] = {
    "workloads": ("workload", Workload),
    "services": ("service", Service),
    "workload_presences": ("presence of workload", dict[str, Presence]),
}
"""What stands for itself: by field, how it is called, and its form."""


def _good_entries(loose: _Loose | _LooseChange, wrong: dict[str, str]) -> dict[str, Any]:
    """All fields, without the entries that cannot be read; only a change may say that there is none."""
    fields = msgspec.structs.asdict(loose)
    for field, (kind, form) in _ENTRIES.items():
        form = form | None if isinstance(loose, _LooseChange) else form
        fields[field] = _converted(kind, fields[field], form, wrong)
    return fields


def _converted(kind: str, given: Mapping[str, Any], to: Any, wrong: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = msgspec.convert(value, to)
        except msgspec.ValidationError as error:
            wrong[f"{kind} {name}"] = str(error)
    return found


def _leave_out(kind: str, entries: dict[str, _T], check: _Check[_T], wrong: dict[str, str]) -> None:
    for name, problems in [(name, check(value, name)) for name, value in entries.items()]:
        if problems:
            del entries[name]
            wrong[f"{kind} {name}"] = "; ".join(map(str, problems))


def _apply(present: dict[str, _T], changed: dict[str, _T | None]) -> None:
    for name, value in changed.items():
        if value is None:
            present.pop(name, None)
        else:
            present[name] = value
