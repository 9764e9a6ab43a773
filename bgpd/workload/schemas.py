"""JSON Schemas of what orchestrators send and receive, made from the very types that check it (`bgpd schema NAME`)."""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.model.reports import HostStatus, WorkloadReport
from bgpd.model.service import Service
from bgpd.model.workload import Sync, Workload

TYPES: dict[str, type[msgspec.Struct]] = {
    "workload": Workload,
    "service": Service,
    "sync": Sync,
    "status": HostStatus,
    "state": WorkloadReport,
}
"""By the name given to `bgpd schema`."""


def schema(name: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one payload.

    Raises: KeyError: no such name; `TYPES` has them.
    """
    (reference,), components = msgspec.json.schema_components([TYPES[name]], ref_template="#/$defs/{name}")
    root = reference["$ref"].rpartition("/")[2]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **components.pop(root),
        **({"$defs": components} if components else {}),
    }
