"""What a listing or a page of a table is asked with, and the answers that are no view of anything."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class PageView(msgspec.Struct, kw_only=True):
    """`GET /v1/pages/NAME`: one page of a long table, in its order.

    `rows` are views of the listing of that name. `after` is what to ask for the next page with, "" after the last. A
    page that is not the last may be short, and may have some rows more than were asked for. `total` counts the table's
    prefixes or names, null where that is not known (something is searched).
    """

    rows: list[Any] = []
    after: str = ""
    total: int | None = None


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of `GET /v1/pages/NAME`. `vrf` None is all VRFs, "" the main table.

    `search` of routes is a prefix (all inside it), an address (all that cover it) or a neighbor's name; of EVPN routes
    a MAC, an address, a prefix, a route distinguisher or a neighbor; of workloads and services a part of what is shown.
    `state` is that of a kernel route, a workload, or a service ("announced", "withheld"); `type` an EVPN route type.
    `after` is that of the page before.
    """

    search: str = ""
    vrf: str | None = None
    family: str = ""
    state: str = ""
    type: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


class PastQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of `GET /v1/past/routes`: `at` in seconds since the epoch.

    `prefix` is a prefix, with `longer_prefixes` also all inside it, or an address: all that cover it. `vrf` None is all
    VRFs, "" the main table. Of another `family` than that of the prefix there is none.
    """

    prefix: str
    at: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    longer_prefixes: bool = False
    vrf: str | None = None
    family: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 500


class AtQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of `GET /v1/past/overview`: `at` in seconds since the epoch."""

    at: Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class PastTableQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of `GET /v1/past/evpn`, `/v1/past/workloads` and `/v1/past/services`: `at` in seconds since the epoch.

    `search` and what narrows else: as in a PageQuery and a ViewQuery.
    """

    at: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    search: str = ""
    vrf: str | None = None
    family: str = ""
    state: str = ""
    type: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    prefix: str = ""
    longer_prefixes: bool = False
    name: str = ""
    source: str = ""
    neighbor: str = ""
    mac: str = ""
    rd: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 500


class ErrorView(msgspec.Struct, kw_only=True):
    """What the API answers instead, with a status of 400 or more: what was wrong, and what to do."""

    error: str
    hint: str = ""


class ViewQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing is narrowed to; each field is a query parameter of `GET /v1/NAME` and an option of `bgpd show`.

    `prefix` is a prefix, or an address as host prefix; with `longer_prefixes` also all inside it. `vrf` None is all
    VRFs, "" the main table. `name` is a workload's ID or a service's name. `limit` 0 is all. Of events: `since` and
    `until` are seconds since the epoch (0: no bound), `level` is the least one, `event` a name or how it begins
    ("session").
    """

    neighbor: str = ""
    prefix: str = ""
    longer_prefixes: bool = False
    name: str = ""
    family: str = ""
    vrf: str | None = None
    state: str = ""
    source: str = ""
    type: int = 0
    mac: str = ""
    rd: str = ""
    unresolved: bool = False
    rejected: bool = False
    since: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    until: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    level: str = ""
    event: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
