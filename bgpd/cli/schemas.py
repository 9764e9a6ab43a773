"""`bgpd schema NAME`: JSON Schemas of the configuration, of what orchestrators send, and of what commands print."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from bgpd.cli import reports
from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.config.schema import Config
from bgpd.message.report import MessageReport
from bgpd.model.reports import HostStatus, ThawReport, WorkloadReport
from bgpd.model.service import Service, ServiceView
from bgpd.model.views.evpn import EvpnRouteView, VrfView
from bgpd.model.views.explained import ExplainView, PastRoutesView, PastView, WhatIfView, WhyNotView
from bgpd.model.views.host import EventView, HealthView, OverviewView
from bgpd.model.views.orders import ConfigChangeView, DrainRequest, DrainView, ReloadView, UpgradeRequest, UpgradeView
from bgpd.model.views.queries import ErrorView
from bgpd.model.views.routes import AggregateView, ExchangedRouteView, FibRouteView, RouteView, WorkloadView
from bgpd.model.views.sessions import BfdView, NeighborView
from bgpd.model.workload import Sync, Workload

SCHEMAS: dict[str, Any] = {
    "config": Config,
    "workload": Workload,
    "service": Service,
    "sync": Sync,
    "status": HostStatus,
    "workload-report": WorkloadReport,
    "neighbors": list[NeighborView],
    "bfd": list[BfdView],
    "routes": list[RouteView],
    "advertised": list[ExchangedRouteView],
    "received": list[ExchangedRouteView],
    "fib": list[FibRouteView],
    "workloads": list[WorkloadView],
    "aggregates": list[AggregateView],
    "services": list[ServiceView],
    "evpn": list[EvpnRouteView],
    "vrfs": list[VrfView],
    "events": list[EventView],
    "explain": ExplainView,
    "explain-at": PastView,
    "routes-at": PastRoutesView,
    "why-not": WhyNotView,
    "what-if": WhatIfView,
    "overview": OverviewView,
    "health": HealthView,
    "drain": DrainView,
    "drain-request": DrainRequest,
    "plan": list[ConfigChangeView],
    "reload": ReloadView,
    "upgrade": UpgradeView,
    "upgrade-request": UpgradeRequest,
    "error": ErrorView,
    "top": OverviewView,
    "monitor": EventView,
    "workload-add": WorkloadReport,
    "service-add": ServiceView,
    "evpn-clear": ThawReport,
    "decode": MessageReport,
    "version": reports.VersionReport,
    "check": reports.CheckReport,
    "init": reports.MadeReport,
    "import": reports.MadeReport,
    "flush": reports.FlushReport,
    "confirm": reports.ConfirmReport,
    "bundle": reports.FileReport,
    "mrt-dump": reports.FileReport,
    "mrt-show": reports.MrtReport,
    "replay": reports.ReplayReport,
    "simulate": reports.SimulationReport,
}


def schema(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd schema NAME`."""
    print(json.dumps(json_schema(arguments.name), indent=2))
    return 0


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of that name. Raises: CommandFailed: there is none."""
    if name not in SCHEMAS:
        import difflib  # for mistakes only

        near = difflib.get_close_matches(name, SCHEMAS, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(SCHEMAS)}"
        raise CommandFailed(f'there is no schema "{name}"', hint)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(SCHEMAS[name])}
