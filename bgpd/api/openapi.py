"""The HTTP API described by OpenAPI 3.1 (`GET /openapi.json`), made of the views and of one table of the requests.

A test holds the table equal to what the server routes, and has schemathesis try each request by its description.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bgpd import __version__
from bgpd.config.schema import Config
from bgpd.model.reports import ThawReport, WorkloadReport
from bgpd.model.service import Service, ServiceView
from bgpd.model.views.evpn import EvpnRouteView, VrfView
from bgpd.model.views.explained import (
    ExplainView,
    PastOverviewView,
    PastRoutesView,
    PastTableView,
    PastView,
    WhatIfView,
    WhyNotView,
)
from bgpd.model.views.host import EventView, HealthView, OverviewView
from bgpd.model.views.orders import DrainRequest, DrainView, ReloadView, UpgradeRequest, UpgradeView
from bgpd.model.views.queries import AtQuery, ErrorView, PageQuery, PageView, PastQuery, PastTableQuery, ViewQuery
from bgpd.model.views.routes import AggregateView, ExchangedRouteView, FibRouteView, RouteView, WorkloadView
from bgpd.model.views.sessions import BfdView, NeighborView
from bgpd.model.workload import Workload
from bgpd.workload.feed.api import ErrorReport

_REFERENCE = "#/components/schemas/{name}"
_JSON, _STREAM, _LINES = "application/json", "text/event-stream", "application/x-ndjson"
_OBJECT = dict[str, Any]
_ERRORS = {
    400: "something in the request is wrong",
    403: "the request is not allowed",
    404: "there is no such thing",
    408: "the request did not come in time",
    413: "the body is too long",
    503: "bgpd is starting, or busy with other answers",
}


class Parameter(msgspec.Struct, frozen=True):
    """One of a request. `place`: "query" or "path"."""

    name: str
    help: str
    type: Any = str
    place: str = "query"
    required: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answers: `answers` are types that it may have (none: `content` says what it is), with `status`
    or one of `codes`; `errors` are further statuses of errors, `error` their types."""

    method: str
    path: str
    summary: str
    answers: tuple[Any, ...] = ()
    content: str = _JSON
    status: int = 200
    codes: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    error: tuple[Any, ...] = (ErrorView,)
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    needs_body: bool = True


def _in_path(name: str, help: str) -> Parameter:
    return Parameter(name, help, place="path", required=True)


def _of(kind: type[msgspec.Struct]) -> tuple[Parameter, ...]:
    """The fields of a query struct."""
    return tuple(Parameter(one.name, "", one.type, required=one.required) for one in msgspec.structs.fields(kind))


_VRF = Parameter("vrf", 'the VRF; "": the main table')
_NAME = _in_path("name", "of a neighbor, or a table")
_PAGES = (Parameter("page", "number of the page, from 0", int), Parameter("page_size", "routes of a page; 0: all", int))
_TABLES = ("table/{name}", "table/{name}/filtered")
_ID = _in_path("id", "of the workload, or name of the service")
LISTINGS: Mapping[str, Any] = {
    "neighbors": NeighborView,
    "bfd": BfdView,
    "routes": RouteView,
    "advertised": ExchangedRouteView,
    "received": ExchangedRouteView,
    "fib": FibRouteView,
    "workloads": WorkloadView,
    "services": ServiceView,
    "aggregates": AggregateView,
    "evpn": EvpnRouteView,
    "vrfs": VrfView,
}
"""Views by the name of their listing."""
_PAYLOADS = {"workloads": (Workload, WorkloadReport), "services": (Service, ServiceView)}


def _get(path: str, summary: str, *answers: Any, **fields: Any) -> Operation:
    return Operation(method="get", path=path, summary=summary, answers=answers, **fields)


_READ = (
    _get("/v1/events", "what happened, oldest first", list[EventView], parameters=_of(ViewQuery)),
    _get("/v1/overview", "the host on one screen", OverviewView),
    _get("/v1/config", "the configuration in force", Config),
    _get("/v1/interfaces", "the VRF of each interface", dict[str, str]),
    _get("/v1/drain", "how far the host is out of service", DrainView),
    _get("/v1/upgrade", "what runs, and what became of the last upgrade", UpgradeView),
    _get("/v1/health", "whether it may be relied on", HealthView, codes=(503,)),
    _get(
        "/v1/pages/{kind}",
        "one page of a table",
        PageView,
        parameters=(_in_path("kind", "of the table"), *_of(PageQuery)),
    ),
    _get(
        "/v1/explain/{address}",
        "the path of an address; with `at` as it was then",
        ExplainView,
        PastView,
        parameters=(_in_path("address", "an IP address"), _VRF, Parameter("at", "seconds since the epoch", float)),
    ),
    _get("/v1/past/routes", "routes of an earlier time", PastRoutesView, parameters=_of(PastQuery)),
    _get("/v1/past/overview", "the host at an earlier time", PastOverviewView, parameters=_of(AtQuery)),
    _get(
        "/v1/past/{kind}",
        "EVPN routes, workloads or services of an earlier time",
        PastTableView,
        parameters=(_in_path("kind", "of the table"), *_of(PastTableQuery)),
    ),
    _get(
        "/v1/why-not",
        "what keeps a prefix from being used or announced",
        WhyNotView,
        parameters=(
            Parameter("prefix", "a prefix or an address", required=True),
            Parameter("neighbor", "only as to this neighbor"),
            _VRF,
        ),
    ),
    _get(
        "/v1/what-if",
        "what would become of the routes",
        WhatIfView,
        errors=(409,),
        parameters=(
            Parameter("down", "a neighbor or an interface"),
            Parameter("drain", '"services" or "all"'),
            Parameter("force", "also the last host of a service", bool),
        ),
    ),
    _get("/v1/live", "server-sent events of the page", content=_STREAM),
    _get("/metrics", "metrics for Prometheus", content="text/plain"),
    _get("/openapi.json", "this description", _OBJECT),
)
_BIRDWATCHER = "status", "protocols", "protocols/bgp", "protocols/short"
_BIRDWATCHER_ROUTES = "protocol/{name}", "filtered/{name}", "noexport/{name}", "export/{name}", *_TABLES
_ORDERS = (
    _get(
        "/v1/monitor",
        "events as they happen",
        content=_LINES,
        parameters=(Parameter("since", "begin after this event", int),),
    ),
    _get("/v1/mrt", "a table of MRT", content="application/octet-stream", parameters=(_VRF,)),
    Operation(
        method="post",
        path="/v1/what-if",
        summary="what another configuration would do",
        answers=(WhatIfView,),
        errors=(409, 415, 422),
        body=Config,
    ),
    Operation(
        method="post",
        path="/v1/reload",
        summary="read the configuration again",
        answers=(ReloadView,),
        codes=(422,),
        parameters=(Parameter("confirm_s", "on trial for so many seconds", int),),
    ),
    Operation(method="post", path="/v1/confirm", summary="keep what is on trial", status=204, errors=(409,)),
    Operation(
        method="put",
        path="/v1/drain",
        summary="take the host out of service",
        answers=(DrainView,),
        errors=(409, 415),
        body=DrainRequest,
        needs_body=False,
    ),
    Operation(method="delete", path="/v1/drain", summary="bring it back", answers=(DrainView,)),
    Operation(
        method="post",
        path="/v1/upgrade",
        summary="become the installed version",
        answers=(UpgradeView,),
        codes=(202,),
        errors=(409, 415),
        body=UpgradeRequest,
        needs_body=False,
    ),
    Operation(
        method="delete",
        path="/v1/frozen/{address}",
        summary="thaw a MAC",
        answers=(ThawReport,),
        parameters=(_in_path("address", "a MAC address"),),
    ),
)


def _read() -> Iterable[Operation]:
    for name, view in LISTINGS.items():
        many: Any = list[view]  # type: ignore[valid-type]  # a value
        yield _get(f"/v1/{name}", name, many, parameters=_of(ViewQuery))
    yield from _READ
    for path in _BIRDWATCHER:
        yield _get(f"/birdwatcher/{path}", "for alice-lg", _OBJECT)
    for kind in _BIRDWATCHER_ROUTES:
        yield _get(f"/birdwatcher/routes/{kind}", "for alice-lg", _OBJECT, parameters=(_NAME, *_PAGES))
    for name, (_, report) in _PAYLOADS.items():
        yield _get(
            f"/v1/{name}/{{id}}",
            f"what became of one of {name}",
            report,
            errors=(405,),
            error=(ErrorView, ErrorReport),
            parameters=(_ID,),
        )


def _orders() -> Iterable[Operation]:
    yield from _ORDERS
    for name, (payload, report) in _PAYLOADS.items():
        path = f"/v1/{name}/{{id}}"
        yield Operation(
            method="put",
            path=path,
            summary=f"put one of {name}",
            answers=(report, WorkloadReport),
            codes=(202,),
            errors=(405, 409, 415, 422, 507),
            error=(ErrorView, ErrorReport, report),
            parameters=(_ID, Parameter("timeout_s", "how long to wait until it is announced", int)),
            body=payload,
        )
        yield Operation(
            method="delete",
            path=path,
            summary="give it up",
            answers=(report, WorkloadReport),
            codes=(202,),
            errors=(405, 409),
            error=(ErrorView, ErrorReport),
            parameters=(_ID,),
        )


def operations(*, over_tcp: bool) -> list[Operation]:
    """All requests, or those over TCP: they only read."""
    return [*_read(), *(() if over_tcp else _orders())]


def document(*, over_tcp: bool) -> dict[str, Any]:
    """The description, as JSON has it."""
    found = operations(over_tcp=over_tcp)
    types = [one for operation in found for one in (*operation.answers, *operation.error, operation.body) if one]
    types += [parameter.type for operation in found for parameter in operation.parameters]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    of_type = dict(zip(map(repr, types), schemas))
    paths: dict[str, Any] = {}
    for operation in found:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, of_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bgpd", "version": __version__, "description": "docs/json-views.md has the views in words."},
        "paths": paths,
        "components": {"schemas": components},
    }


@functools.cache
def encoded_document(*, over_tcp: bool) -> bytes:
    """The same in JSON. It takes some milliseconds, once."""
    return msgspec.json.encode(document(over_tcp=over_tcp)) + b"\n"


def _described(operation: Operation, of_type: Mapping[str, Any]) -> dict[str, Any]:
    errors = {code: [*operation.error] for code in (*_ERRORS, *operation.errors)}
    answers: dict[str, Any] = {}
    for code, kinds in errors.items():
        answers[str(code)] = {
            "description": _ERRORS.get(code, "refused, with the reason"),
            "content": {_JSON: {"schema": _any_of(kinds, of_type)}},
        }
    for code in (operation.status, *operation.codes):
        found: dict[str, Any] = {"description": operation.summary}
        if operation.answers:
            kinds = [*operation.answers, *errors.get(code, ())]
            found["content"] = {_JSON: {"schema": _any_of(kinds, of_type)}}
        elif operation.status != 204:
            found["content"] = {operation.content: {}}
        answers[str(code)] = found
    described: dict[str, Any] = {"summary": operation.summary, "responses": answers}
    if operation.parameters:
        described["parameters"] = [
            {
                "name": one.name,
                "in": one.place,
                "required": one.required,
                "description": one.help,
                "schema": of_type[repr(one.type)],
            }
            for one in operation.parameters
        ]
    if operation.body is not None:
        schema = of_type[repr(operation.body)]
        described["requestBody"] = {"required": operation.needs_body, "content": {_JSON: {"schema": schema}}}
    return described


def _any_of(kinds: Sequence[Any], of_type: Mapping[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [of_type[repr(kind)] for kind in kinds]
    return found[0] if len(found) == 1 else {"anyOf": found}
