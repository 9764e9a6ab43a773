"""The saved state of a feed, and one change of it: the JSON of the state directory.

A file is read entry by entry: a wrong entry, written by another version or a person, is dropped alone. `feed` decides
what is in force, `state_file` writes it.
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


class _Loose(msgspec.Struct, kw_only=True):
    """`Saved` with entries that may be anything."""

    version: int = 1
    journal: int = 0
    generation: int | None = None
    epoch: str = ""
    host: str = ""
    broker: str = ""
    workloads: dict[str, Any] = {}
    services: dict[str, Any] = {}
    workload_ranks: dict[str, dict[str, int]] = {}
    service_ranks: dict[str, dict[str, int]] = {}
    workload_presences: dict[str, Any] = {}


_T = TypeVar("_T")
_Check = Callable[[_T, str], list[Problem]]


def read_saved(body: bytes) -> tuple[Saved, dict[str, str]]:
    """What a state file holds, and what is wrong with each entry that cannot be read.

    Raises: UNREADABLE: it is no state file as a whole.
    """
    wrong: dict[str, str] = {}
    try:
        saved = msgspec.json.decode(body, type=Saved)
    except msgspec.ValidationError:
        loose = msgspec.json.decode(body, type=_Loose)
        fields = msgspec.structs.asdict(loose)
        fields["workloads"] = _converted("workload", loose.workloads, Workload, wrong)
        fields["services"] = _converted("service", loose.services, Service, wrong)
        presences = _converted("presence of workload", loose.workload_presences, dict[str, Presence], wrong)
        fields["workload_presences"] = presences
        saved = Saved(**fields)
    return saved, wrong


def check_saved(saved: Saved) -> dict[str, str]:
    """Leave out the entries that no entrance would take; what is wrong with each."""
    wrong: dict[str, str] = {}
    _leave_out("workload", saved.workloads, check_workload, wrong)
    _leave_out("service", saved.services, check_service, wrong)
    return wrong


def _converted(kind: str, given: Mapping[str, Any], to: type[_T], wrong: dict[str, str]) -> dict[str, _T]:
    found: dict[str, _T] = {}
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
