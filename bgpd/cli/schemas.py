"""JSON Schemas by name: the configuration, what orchestrators send, and the views."""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.cli.client import CommandFailed
from bgpd.config import Config
from bgpd.model import views
from bgpd.model.reports import HostStatus, WorkloadReport
from bgpd.model.service import Service, ServiceView
from bgpd.model.workload import Sync, Workload

SCHEMAS: dict[str, Any] = {
    "config": Config,
    "workload": Workload,
    "service": Service,
    "sync": Sync,
    "status": HostStatus,
    "workload-report": WorkloadReport,
    "neighbors": list[views.NeighborView],
    "routes": list[views.RouteView],
    "fib": list[views.FibRouteView],
    "workloads": list[views.WorkloadView],
    "aggregates": list[views.AggregateView],
    "services": list[ServiceView],
    "evpn": list[views.EvpnRouteView],
    "vrfs": list[views.VrfView],
    "events": list[views.EventView],
    "explain": views.ExplainView,
    "health": views.HealthView,
    "plan": list[views.ConfigChangeView],
    "reload": views.ReloadView,
    "error": views.ErrorView,
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of that name. Raises: CommandFailed: there is none."""
    if name not in SCHEMAS:
        raise CommandFailed(f'there is no schema "{name}"', f"one of: {', '.join(SCHEMAS)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(SCHEMAS[name])}
