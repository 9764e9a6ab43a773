"""The JSON views of `bgpd show` and `bgpd explain`: documented, stable, one schema per view.

Each is what one API endpoint answers, element for element. Times are seconds since the epoch, durations carry their
unit. Addresses and prefixes are text; a family is its configuration name.
"""

from __future__ import annotations

import msgspec


class FamilyCounts(msgspec.Struct, kw_only=True):
    """Routes exchanged with a neighbor in one family: received, of them rejected by policy, and announced to it."""

    received: int = 0
    rejected: int = 0
    announced: int = 0


class NeighborView(msgspec.Struct, kw_only=True):
    """`bgpd show neighbors`: one session. `state` is the RFC 4271 state name in lower case ("established")."""

    name: str
    address: str
    interface: str
    asn: int
    local_asn: int
    state: str
    since: float
    router_id: str = ""
    hostname: str = ""
    dynamic: bool = False
    hold_time_s: int = 0
    keepalive_time_s: int = 0
    families: dict[str, FamilyCounts] = {}
    capabilities: list[str] = []
    messages_received: int = 0
    messages_sent: int = 0
    established_count: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    end_of_rib: list[str] = []


class NextHopView(msgspec.Struct, kw_only=True):
    """A next hop as the kernel has it: `live` is whether it forwards; `why` says why not."""

    address: str
    interface: str
    weight: int = 1
    live: bool = True
    why: str = ""


class CandidateView(msgspec.Struct, kw_only=True):
    """One candidate path of a route, as the decision process saw it.

    `role` is "best", "multipath", "lost" or "rejected"; `reason` says by which numbered step it lost, or which rule or
    check rejected it ("" for the best). `heard_at` is when its source said so.
    """

    source: str
    kind: str
    role: str
    reason: str = ""
    next_hop: str = ""
    as_path: str = ""
    origin: str = "igp"
    med: int | None = None
    local_pref: int | None = None
    communities: list[str] = []
    extended_communities: list[str] = []
    large_communities: list[str] = []
    neighbor_asn: int = 0
    heard_at: float = 0.0


class RouteView(msgspec.Struct, kw_only=True):
    """`bgpd show routes`: one prefix of the Loc-RIB with all its candidates, best first.

    `fib` is the state of its kernel route: see FibRouteView, or "local" for this host's own prefixes.
    """

    family: str
    prefix: str
    vrf: str = ""
    fib: str = ""
    candidates: list[CandidateView] = []


class FibRouteView(msgspec.Struct, kw_only=True):
    """`bgpd show fib`: one kernel route of bgpd's. `state`: "installed", "pending", "failed", "blocked".

    "blocked": not written because the prefix is protected or its next hop cannot be resolved. `error` says why.
    """

    family: str
    prefix: str
    table: int
    state: str
    group: int = 0
    next_hops: list[NextHopView] = []
    error: str = ""


class WorkloadView(msgspec.Struct, kw_only=True):
    """`bgpd show workloads`: one claimed prefix, its state, why, and since when.

    `announced` is whether neighbors may hear it now: in conflict the claim that came first stays announced.
    """

    id: str
    source: str
    prefix: str
    interface: str = ""
    vrf: str = ""
    state: str
    reason: str = ""
    since: float
    announced: bool = False
    kind: str = ""
    mac: str = ""
    sticky: bool = False
    exception: bool = False


class KernelRouteView(msgspec.Struct, kw_only=True):
    """The kernel's own answer for an address: what would forward a packet to it now (RTM_GETROUTE)."""

    prefix: str
    table: int
    protocol: str
    metric: int
    ours: bool
    group: int = 0
    next_hops: list[NextHopView] = []
    error: str = ""


class ExplainView(msgspec.Struct, kw_only=True):
    """`bgpd explain ADDRESS`: the path of an address from the wire to the kernel, and a verdict in one sentence.

    `agrees` is whether the kernel forwards as the RIB wants.
    """

    address: str
    vrf: str = ""
    verdict: str
    agrees: bool
    kernel: KernelRouteView | None = None
    fib: FibRouteView | None = None
    route: RouteView | None = None
    workload: WorkloadView | None = None
    neighbors: list[NeighborView] = []
