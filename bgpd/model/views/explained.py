"""JSON views of answers: why a route is as it is (`bgpd explain`, `bgpd why-not`), how it was (`bgpd explain --at`),
and how it would be (`bgpd what-if`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.model.views.host import EventView, OverviewView
from bgpd.model.views.orders import ConfigChangeView
from bgpd.model.views.routes import ExchangedRouteView, FibRouteView, KernelRouteView, RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView


class ExplainView(msgspec.Struct, kw_only=True):
    """`bgpd explain ADDRESS`: the path of an address from the wire to the kernel, and a verdict in one sentence.

    `broken` is the first broken link of the chain, "" if packets get there as far as this host can tell. `agrees` is
    whether the kernel forwards as the RIB wants. `overlay` tells, in a VRF, how the route's next hops were
    resolved: one step in each line. `guest` is the route in the table of the guest of this host that announces the
    prefix, with the reason if it is refused; the guest's sessions are among `neighbors`. `announced` is what neighbors
    were sent of the prefix, where it is this host's own, with the attributes in the message; `withheld` are the
    established ones that have not got it.
    """

    address: str
    vrf: str = ""
    verdict: str
    agrees: bool
    broken: str = ""
    kernel: KernelRouteView | None = None
    fib: FibRouteView | None = None
    route: RouteView | None = None
    workload: WorkloadView | None = None
    guest: RouteView | None = None
    overlay: list[str] = []
    neighbors: list[NeighborView] = []
    announced: list[ExchangedRouteView] = []
    withheld: list[WithheldView] = []


class PastNeighborView(msgspec.Struct, kw_only=True):
    """A neighbor as it was: whether its session was established, since when it was so, and why the last one ended."""

    name: str
    established: bool
    since: float
    reason: str = ""


class RouteChangeView(msgspec.Struct, kw_only=True):
    """What a source said of a prefix became something else. `before`, `after`: its path in words, "" for none. `best`:
    whose path is the best one since then ("none"), "" if that did not change; with `source` "" only that did.

    `message` tells the UPDATE that said so from others (MessageView), "" where it was none; then `why` says what was.
    """

    at: float
    prefix: str
    source: str
    before: str = ""
    after: str = ""
    best: str = ""
    why: str = ""
    message: str = ""


class MessageView(msgspec.Struct, kw_only=True):
    """The UPDATE that the path of a source came in: `data` in hexadecimal with its header (`bgpd decode` reads it), ""
    if that is not in the history or there was none. `options`: those that `bgpd decode` needs for this session's
    messages. `digest`: the first 12 digits of its SHA-256."""

    source: str
    at: float = 0.0
    digest: str = ""
    data: str = ""
    options: list[str] = []


class PastView(msgspec.Struct, kw_only=True):
    """`bgpd explain ADDRESS --at TIME`: what the RIB had for an address at that time, and a verdict in one sentence.

    `route` is decided anew by the configuration and the next hops of then. `changes` are those of the hour before, of
    all prefixes that cover the address; `messages` the UPDATEs that the candidates came in, `events` what happened to
    their neighbors and these prefixes in that hour. `claims` are those of workloads and services of this host, the
    longest prefix last. `announced` is what neighbors had been sent of this host's own
    prefixes among them, with the attributes in the message; `withheld` the established ones that had not. `known_from`:
    the history begins there.
    """

    address: str
    vrf: str = ""
    at: float
    verdict: str
    known_from: float
    route: RouteView | None = None
    neighbors: list[PastNeighborView] = []
    changes: list[RouteChangeView] = []
    messages: list[MessageView] = []
    events: list[EventView] = []
    claims: list[WorkloadView] = []
    announced: list[ExchangedRouteView] = []
    withheld: list[WithheldView] = []


class PastRoutesView(msgspec.Struct, kw_only=True):
    """`bgpd show routes PREFIX --at TIME`: the routes of that time, in the order of their prefixes.

    They are decided anew, as in a PastView; `fib` is "local" for this host's own, else not known. `total` counts all,
    of which these are the first. `remark` says what is not sure, "" if nothing is. The history begins at `known_from`.
    """

    prefix: str
    at: float
    known_from: float
    remark: str = ""
    total: int = 0
    routes: list[RouteView] = []


class PastTableView(msgspec.Struct, kw_only=True):
    """`bgpd show evpn --at TIME`, of workloads and services, too: the rows of that time, which are views of the listing
    of that name.

    Of EVPN routes it is not known how they were resolved; of workloads, who announced the same. `total`, `remark` and
    `known_from` as in a PastRoutesView.
    """

    at: float
    known_from: float
    remark: str = ""
    total: int = 0
    rows: list[Any] = []


class PastOverviewView(msgspec.Struct, kw_only=True):
    """`GET /v1/past/overview`: the host as it was `at` a time, as far as that is kept: it was seen last at `looked_at`,
    some seconds before unless nothing had changed. `remark` as in a PastRoutesView."""

    at: float
    looked_at: float
    remark: str = ""
    overview: OverviewView


class WithheldView(msgspec.Struct, kw_only=True):
    """A neighbor that could be sent a prefix: whether it was, and if not, why, and since when it has not got it (null:
    not known)."""

    neighbor: str
    announced: bool
    reason: str = ""
    since: float | None = None


class WhyNotView(msgspec.Struct, kw_only=True):
    """`bgpd why-not PREFIX`: why a prefix is not used, not in the kernel, or not announced.

    `verdict` is the first thing that is missing, in one sentence, and `well` whether nothing is. `route` has all paths
    with their reasons, `workloads` all claims, `fib` the kernel's side. `withheld` is each neighbor that could be sent
    it. `near` are routes that may have been meant: those that cover it, and those inside it.
    """

    prefix: str
    vrf: str = ""
    verdict: str
    well: bool
    route: RouteView | None = None
    fib: FibRouteView | None = None
    workloads: list[WorkloadView] = []
    withheld: list[WithheldView] = []
    near: list[str] = []


class ForeseenView(msgspec.Struct, kw_only=True):
    """What would become of the routes of one table: how many stay as they are, have fewer next hops, go wholly another
    way, are lost, or are new. `unused` ones are not forwarded now either. `default_route` is what becomes of that (""
    if there is none), `examples` are some prefixes that are lost, moved or new.
    """

    vrf: str = ""
    family: str
    unchanged: int = 0
    fewer: int = 0
    moved: int = 0
    lost: int = 0
    new: int = 0
    unused: int = 0
    default_route: str = ""
    examples: dict[str, list[str]] = {}


class UplinkLeftView(msgspec.Struct, kw_only=True):
    """An interface with a neighbor that would be left; its speed, null if the driver does not say it."""

    interface: str
    speed_mbps: int | None = None


class ToldView(msgspec.Struct, kw_only=True):
    """What a neighbor would be sent: routes that it is told, or told again with other attributes, and such as are
    withdrawn from it; some prefixes of each.
    """

    neighbor: str
    announced: int = 0
    withdrawn: int = 0
    examples: dict[str, list[str]] = {}


class WhatIfView(msgspec.Struct, kw_only=True):
    """`bgpd what-if`: what would become of the routes if a neighbor or an interface were `down`, after a drain that
    withdraws services or all (`drain`: "services", "all"), or with another configuration (`reload`: its changes).

    `told` are the neighbors that would be sent something; `last` the services that no other host is seen to announce,
    for which a drain is refused. `not_foreseen` says what the answer leaves out.
    """

    verdict: str
    down: str = ""
    drain: str = ""
    reload: list[ConfigChangeView] | None = None
    neighbors_down: list[str] = []
    neighbors_left: list[str] = []
    uplinks_left: list[UplinkLeftView] = []
    tables: list[ForeseenView] = []
    told: list[ToldView] = []
    last: list[str] = []
    not_foreseen: list[str] = []
