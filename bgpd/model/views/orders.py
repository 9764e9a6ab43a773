"""JSON views of what an operator orders: drain, reload, upgrade. Each order's request, and how far it has come."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class DrainCounterView(msgspec.Struct, kw_only=True):
    """What the kernel counts of traffic that has to go. `kind`: "interface" or "nexthop-group"; `direction` of an
    interface: "received" or "sent".

    `packets_per_s` is null until it was read twice. `quiet` is whether it counts as gone; `of` what it is counted for.
    """

    kind: str
    name: str
    direction: str = ""
    of: list[str] = []
    packets_per_s: float | None = None
    quiet: bool = False


class DrainView(msgspec.Struct, kw_only=True):
    """`bgpd drain status`: whether this host is out of service. `state`: "off", "draining" or "drained".

    `stage` is what neighbors are sent: "off" (all, as ever), "graceful-shutdown", "services-withdrawn" or
    "all-withdrawn". `until` is when it ends by itself (null: never). `waiting_for` says why it is not drained yet,
    `still_flows` what traffic there was when the counters were read last, `not_counted` the services of which the
    kernel counts nothing. `kept` are services that stay announced, since no other host is seen to announce them.
    `shutdown`: it was ordered because the host goes down. `not_saved`: why a restart would lose it.
    """

    state: str = "off"
    stage: str = "off"
    since: float | None = None
    until: float | None = None
    drained_at: float | None = None
    all: bool = False
    force: bool = False
    shutdown: bool = False
    waiting_for: list[str] = []
    still_flows: list[str] = []
    counters: list[DrainCounterView] = []
    not_counted: list[str] = []
    kept: list[str] = []
    not_saved: str = ""


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `PUT /v1/drain`: `for_s` seconds from now on (null: until `DELETE /v1/drain`).

    `all`: workloads are withdrawn too. `force`: also services that no other host is seen to announce. `shutdown`: the
    host goes down; nothing happens unless `drain.on_shutdown` is set, and the next start of the host ends it.
    """

    for_s: Annotated[int, msgspec.Meta(ge=1, le=315_360_000)] | None = None
    all: bool = False
    force: bool = False
    shutdown: bool = False


class ConfigChangeView(msgspec.Struct, kw_only=True):
    """One difference between two configurations: its key path, and what it costs.

    `effect` is "no-op" (no session notices), "refresh" (policy is applied anew to the routes as received, and what is
    announced is sent again where it differs; the neighbor is asked for nothing), "reset" (the sessions of `neighbors`
    end and start anew) or "restart" (it takes effect at the next start of the daemon). `change` is "added", "removed"
    or "changed"; `old` and `new` are the values.
    """

    path: str
    change: str
    effect: str
    neighbors: list[str] = []
    old: Any = None
    new: Any = None


class ReloadView(msgspec.Struct, kw_only=True):
    """`bgpd reload`, `bgpd plan`: what changed. With `problems` nothing did, and the former configuration holds on.

    `confirm_until`: it is on trial, and goes back then unless it is confirmed before.
    """

    file: str
    changes: list[ConfigChangeView] = []
    problems: list[str] = []
    warnings: list[str] = []
    confirm_until: float | None = None


class UpgradeView(msgspec.Struct, kw_only=True):
    """`GET /v1/upgrade`: which bgpd runs since when (`born`), and which one is installed, as far as it was looked at.

    `running`: it has started. `failed`: why the last upgrade did not happen.
    """

    version: str
    installed: str = ""
    pid: int = 0
    born: float = 0.0
    running: bool = True
    failed: str = ""


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/upgrade`. `only_check`: whether the installed version can start, and no more."""

    only_check: bool = False
