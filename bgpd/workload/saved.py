"""What of a feed outlives a restart, and one change of it: the JSON of the state directory.

Decides nothing: `feed` says what is in force, `state_file` writes it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from bgpd.model.service import Service
from bgpd.model.workload import Workload


class Saved(msgspec.Struct, kw_only=True):
    """All that is in force (the state file). `journal` is the number of the journal with what changed since.

    `workload_ranks` and `service_ranks`: by name, the rank of its claim of each contested address (`claim_order`).
    """

    version: int = 1
    journal: int = 0
    generation: int | None = None
    workloads: dict[str, Workload] = {}
    services: dict[str, Service] = {}
    workload_ranks: dict[str, dict[str, int]] = {}
    service_ranks: dict[str, dict[str, int]] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is in force now under some names, None for a deleted one; or the generation that is applied now.

    Ranks: likewise; None where no address of it is contested any more.
    """

    generation: int | None = None
    workloads: dict[str, Workload | None] = {}
    services: dict[str, Service | None] = {}
    workload_ranks: dict[str, dict[str, int] | None] = {}
    service_ranks: dict[str, dict[str, int] | None] = {}

    def apply(self, saved: Saved) -> None:
        """Change `saved` so."""
        if self.generation is not None:
            saved.generation = self.generation
        _apply(saved.workloads, self.workloads)
        _apply(saved.services, self.services)
        _apply(saved.workload_ranks, self.workload_ranks)
        _apply(saved.service_ranks, self.service_ranks)


_T = TypeVar("_T")


def _apply(present: dict[str, _T], changed: dict[str, _T | None]) -> None:
    for name, value in changed.items():
        if value is None:
            present.pop(name, None)
        else:
            present[name] = value
