"""JSON views of routes: as neighbors sent them, as they were decided, and as the kernel has them."""

from __future__ import annotations

import msgspec


class ExchangedRouteView(msgspec.Struct, kw_only=True):
    """`bgpd show advertised`, `bgpd show received`: a route as a neighbor was sent it, or as it announced it.

    The attributes are those in the message: of received routes before import policy, of advertised ones after export
    policy, with what each session adds or leaves out. `rejected` says why a received route is not used ("" if it may
    be), `heard_at` when it came. `prefix` of an EVPN route is its type, RD and what they are about. `next_hop` of IPv6
    may be a pair, the link-local address second (RFC 2545).
    """

    neighbor: str
    neighbor_address: str
    family: str
    prefix: str
    vrf: str = ""
    next_hop: str = ""
    origin: str = ""
    as_path: str = ""
    med: int | None = None
    local_pref: int | None = None
    communities: list[str] = []
    extended_communities: list[str] = []
    large_communities: list[str] = []
    other_attributes: list[str] = []
    labels: list[int] = []
    gateway_ip: str = ""
    rejected: str = ""
    heard_at: float | None = None


class NextHopView(msgspec.Struct, kw_only=True):
    """A next hop as the kernel has it: `live` is whether it forwards; `why` says why not.

    In `bgpd explain` also: `bfd`, the state of BFD with the neighbor that is or named it, and `neighbor`, what the
    kernel's neighbor table (ARP, NDP) has for it ("reachable 52:54:00:12:34:56"); "" if there is none.
    """

    address: str
    interface: str
    weight: int = 1
    live: bool = True
    why: str = ""
    bfd: str = ""
    neighbor: str = ""


class CandidateView(msgspec.Struct, kw_only=True):
    """One candidate path of a route, as the decision process saw it.

    `role` is "best", "multipath", "lost" or "rejected"; `reason` says by which numbered step it lost, or which rule or
    check rejected it ("" for the best). `rule`, in `bgpd explain`: which rules of the import policy decided about it,
    and where they stand. `only_to_customer` is the AS number of OTC (RFC 9234). `heard_at` is when its source said so
    first (unicast routes that are only repeated keep it).
    `stale_since`, `stale_until`: the session ended then, and the path is kept until that time at most, since its
    neighbor restarts (RFC 4724); of a VRF's route that an EVPN route became, the session of that.
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
    only_to_customer: int | None = None
    neighbor_asn: int = 0
    rule: str = ""
    heard_at: float = 0.0
    stale_since: float | None = None
    stale_until: float | None = None


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

    "blocked": not written, and `error` says why: another program has a route of the prefix, the prefix is protected or
    guarded, no next hop can be resolved, or there is no room for one more nexthop group.
    `resilient`: flows keep their next hop when others come and go (services). `note`: what is other than was asked for.
    `source`: the preferred source, from which this host's own packets are sent; "" if it names none.
    """

    family: str
    prefix: str
    table: int
    state: str
    group: int = 0
    next_hops: list[NextHopView] = []
    error: str = ""
    resilient: bool = False
    note: str = ""
    source: str = ""


class WorkloadView(msgspec.Struct, kw_only=True):
    """`bgpd show workloads`: one claimed prefix, its state, why, and since when.

    `announced` is whether a neighbor has it now, `neighbors` are those that have; where a claim is "announced" and no
    neighbor has it, `reason` says why. In conflict the claim that came first stays announced. A "damped" one comes and
    goes, and is held back until it stays. `also_announced_by` are neighbors that announce the prefix themselves: an
    alarm. `guests` are the sessions with guests of this host that announce it (source "bgp").
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
    neighbors: list[str] = []
    also_announced_by: list[str] = []
    kind: str = ""
    mac: str = ""
    sticky: bool = False
    exception: bool = False
    guests: list[str] = []


class AggregateView(msgspec.Struct, kw_only=True):
    """`bgpd show aggregates`: a configured aggregate, or with `auto` the pool that covers are made in.

    `announced` are the prefixes announced for it (none while another aggregate stands for it), `contributors` the
    number of this host's routes inside it. `neighbors` have one of them; where none has, `reason` says why. `alarms`
    names each prefix of it that a neighbor announces, and the neighbor.
    """

    prefix: str
    family: str
    vrf: str = ""
    auto: str = ""
    summary_only: bool = False
    contributors: int = 0
    announced: list[str] = []
    neighbors: list[str] = []
    reason: str = ""
    alarms: list[str] = []


class KernelRouteView(msgspec.Struct, kw_only=True):
    """The kernel's own answer for an address: what would forward a packet to it now (RTM_GETROUTE).

    `source`: the preferred source that the route names, "" for none.
    """

    prefix: str
    table: int
    protocol: str
    metric: int
    ours: bool
    group: int = 0
    next_hops: list[NextHopView] = []
    error: str = ""
    source: str = ""
