"""The JSON views of `bgpd show` and `bgpd explain`: documented, stable, one schema per view.

Each is what one API endpoint answers, element for element. Times are seconds since the epoch, durations carry their
unit. Addresses and prefixes are text; a family is its configuration name.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from bgpd.model.identity import Chosen


class FamilyCounts(msgspec.Struct, kw_only=True):
    """Routes exchanged with a neighbor in one family: received, of them rejected by policy, and announced to it.

    `discarded` are prefixes that it announces beyond `max_prefixes` and that were not taken (`max_prefixes_action`).
    """

    received: int = 0
    rejected: int = 0
    announced: int = 0
    discarded: int = 0


class NeighborView(msgspec.Struct, kw_only=True):
    """`bgpd show neighbors`: one session. `state` is the RFC 4271 state name in lower case ("established").

    `martians` counts announced prefixes that were ignored as martians since the daemon's start (RFC 4271 section 6.3).
    `without_next_hop`: families of which nothing is announced, since this host has no address there as a next hop.

    `guest`: the [[workload.bgp]] that the session is of, "" for a neighbor.

    `capabilities` are those that the neighbor sent, `negotiated` those that both have and use; times and families are
    the negotiated ones.

    `flaps`: how many established sessions have ended since the daemon's start. `last_error` is why the last attempt or
    session ended, which stays there in a healthy session; a reason that says less, such as a refused connection, is
    followed by the one before it that came with a NOTIFICATION. `last_notification_sent` and `..._received` are words.

    `bfd` is the state of its BFD ("" if it has none; `bgpd show bfd` has more). `authentication`: "md5", "tcp-ao" or ""
    (none); `tcp_ao` is what the kernel has of an established session's keys.

    `graceful_restart` is what this host does: "both", "helper" or "off" (RFC 4724); `neighbor_graceful_restart` what
    the neighbor of the present session does: "both", "helper" (it restarts with loss) or "off"; "" without a session.
    `stale_families`: those of which routes of an ended session are kept while the neighbor restarts, how many
    (`stale_routes`), since when, and until when at most; `stale_stage` is what is waited for: "away" (its return),
    "back" (its End-of-RIB), or "long-lived" (either, RFC 9494).

    `expectation` is what becomes of `expected_hostname`: "met", "unmet" (another name was told), "not-told", or "" (any
    name will do). The neighbor tells `hostname` in its OPEN, LLDP tells `lldp_hostname` where lldpd runs.

    `refused_until`: it is held off until then, for the reason in `last_error`. `defects`: how often bgpd itself could
    not cope with what the neighbor sent, or with sending to it; `last_defect_messages` are the messages (hex, with
    headers) that were worked off then.
    """

    name: str
    address: str
    interface: str
    vrf: str = ""
    asn: int
    local_asn: int
    state: str
    since: float
    router_id: str = ""
    hostname: str = ""
    dynamic: bool = False
    guest: str = ""
    hold_time_s: int = 0
    keepalive_time_s: int = 0
    families: dict[str, FamilyCounts] = {}
    capabilities: list[str] = []
    negotiated: list[str] = []
    messages_received: int = 0
    messages_sent: int = 0
    established_count: int = 0
    flaps: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    last_notification_sent: str = ""
    last_notification_sent_at: float | None = None
    last_notification_received: str = ""
    last_notification_received_at: float | None = None
    end_of_rib: list[str] = []
    attribute_bytes: int = 0
    max_attribute_bytes: int = 0
    martians: int = 0
    refused_until: float | None = None
    defects: int = 0
    last_defect: str = ""
    last_defect_at: float | None = None
    last_defect_messages: str = ""
    without_next_hop: list[str] = []
    expected_hostname: str = ""
    expectation: str = ""
    lldp_hostname: str = ""
    bfd: str = ""
    authentication: str = ""
    tcp_ao: TcpAoView | None = None
    graceful_restart: str = "off"
    neighbor_graceful_restart: str = ""
    stale_families: list[str] = []
    stale_routes: int = 0
    stale_since: float | None = None
    stale_until: float | None = None
    stale_stage: str = ""


class TcpAoView(msgspec.Struct, kw_only=True):
    """TCP-AO (RFC 5925) of an established session.

    `current` is the send ID of the key that segments are signed with, `next` the receive ID that the neighbor is asked
    to use, `keys` the send IDs of all that the connection understands. Segments are counted by the kernel: verified,
    with a wrong code, with a key that is not known, without a code.
    """

    current: int
    next: int
    keys: list[int] = []
    segments_good: int = 0
    segments_bad: int = 0
    segments_unknown_key: int = 0
    segments_unsigned: int = 0


class BfdView(msgspec.Struct, kw_only=True):
    """`bgpd show bfd`: BFD of one neighbor (RFC 5880). Counters are a few seconds old, states are not.

    `state`: "up", "init", "down", "admin-down", or "unknown" where there is no session (yet); `problem` says why, or
    why packets cannot be sent. `interval_ms` and `multiplier` are those configured, `transmit_interval_ms` and
    `detection_time_ms` what both sides came to, `remote_...` what the neighbor says: how often it sends at most, how
    often it takes packets, and of how many that are missed it concludes. `remote_independent`: its BFD goes on while
    its control plane restarts (C bit). `ups` and `downs` count how often it came Up and went Down from Up since the
    session began with this discriminator; `diagnostic` is why it last left a state, as each side sees it.
    """

    neighbor: str
    address: str = ""
    interface: str = ""
    local_address: str = ""
    state: str = "unknown"
    since: float | None = None
    problem: str = ""
    strict: bool = False
    interval_ms: int = 0
    multiplier: int = 0
    transmit_interval_ms: float = 0.0
    detection_time_ms: float = 0.0
    diagnostic: str = ""
    remote_state: str = ""
    remote_diagnostic: str = ""
    remote_transmit_interval_ms: float = 0.0
    remote_receive_interval_ms: float = 0.0
    remote_multiplier: int = 0
    remote_independent: bool = False
    discriminator: int = 0
    remote_discriminator: int = 0
    source_port: int = 0
    ups: int = 0
    downs: int = 0
    packets_sent: int = 0
    packets_received: int = 0


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
    and where they stand. `heard_at` is when its source said so first (unicast routes that are only repeated keep it).
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


class EvpnPathView(msgspec.Struct, kw_only=True):
    """One candidate of an EVPN route. `role` and `source` as in CandidateView.

    `labels` are the VNIs, `esi` 10 bytes in hexadecimal ("" if zero), `next_hop` "" for this host itself, `gateway_ip`
    "self" where each neighbor is told this host's address on the uplink to it. `resolution` says how packets leave, one
    step after the other; `unresolved` why they cannot. `stale_since`, `stale_until` as in CandidateView.
    """

    source: str
    role: str
    next_hop: str = ""
    gateway_ip: str = ""
    esi: str = ""
    labels: list[int] = []
    as_path: str = ""
    extended_communities: list[str] = []
    resolution: list[str] = []
    unresolved: str = ""
    heard_at: float = 0.0
    stale_since: float | None = None
    stale_until: float | None = None


class EvpnRouteView(msgspec.Struct, kw_only=True):
    """`bgpd show evpn`: one EVPN route with all its candidates, best first.

    `type` is the route type; of types that bgpd does not interpret `opaque` is the key in hexadecimal. `prefix` is that
    of a type 5 route, or the host prefix of a type 2 route. `vrf` names the VRFs that it is imported into.
    """

    type: int
    rd: str = ""
    ethernet_tag: int = 0
    mac: str = ""
    prefix: str = ""
    originator: str = ""
    opaque: str = ""
    vrf: str = ""
    candidates: list[EvpnPathView] = []


class UplinkView(msgspec.Struct, kw_only=True):
    """An uplink of a VRF: the neighbor that it leads to ("" if unknown or down), and the leaf's addresses on it."""

    name: str
    up: bool
    addresses: list[str] = []
    neighbor: str = ""
    gateways: list[str] = []


class EndpointView(msgspec.Struct, kw_only=True):
    """A workload's MAC and address. `standing`: "held", "moved", "conflict" or "frozen" (a duplicate), and why."""

    mac: str
    address: str
    standing: str
    sequence: int = 0
    reason: str = ""


class VrfView(msgspec.Struct, kw_only=True):
    """`bgpd show vrfs`: one VRF. `routes` and `local` count prefixes by family: all of its tables, and this host's own.

    `unresolved` are the next hops of its routes that lead nowhere, each with the reason. `endpoints` counts the
    workloads with a MAC; `alarms` are those of them that are not simply held.
    """

    name: str
    table: int
    rd: str
    vni: int = 0
    import_rt: list[str] = []
    export_rt: list[str] = []
    resolve: str = ""
    uplinks: list[UplinkView] = []
    routes: dict[str, int] = {}
    local: dict[str, int] = {}
    unresolved: list[str] = []
    endpoints: int = 0
    alarms: list[EndpointView] = []


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


class ExplainView(msgspec.Struct, kw_only=True):
    """`bgpd explain ADDRESS`: the path of an address from the wire to the kernel, and a verdict in one sentence.

    `broken` is the first broken link of the chain, "" if packets get there as far as this host can tell. `agrees` is
    whether the kernel forwards as the RIB wants. `overlay` tells, in a VRF, how the route's next hops were
    resolved: one step in each line. `guest` is the route in the table of the guest of this host that announces the
    prefix, with the reason if it is refused; the guest's sessions are among `neighbors`.
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


class EventView(msgspec.Struct, kw_only=True):
    """`bgpd show events`, `bgpd monitor`: something an operator may want to know. `sequence` rises by one each.

    `event` is a fixed name ("session.established"), `fields` its values.
    """

    sequence: int
    at: float
    level: str
    event: str
    fields: dict[str, str | int | float | bool | None] = {}


class PastNeighborView(msgspec.Struct, kw_only=True):
    """A neighbor as it was: whether its session was established, since when it was so, and why the last one ended."""

    name: str
    established: bool
    since: float
    reason: str = ""


class RouteChangeView(msgspec.Struct, kw_only=True):
    """What a source said of a prefix became something else. `before`, `after`: its path in words, "" for none.

    `message` tells the UPDATE that said so from others (MessageView), "" where it was none; then `why` says what was.
    """

    at: float
    prefix: str
    source: str
    before: str = ""
    after: str = ""
    why: str = ""
    message: str = ""


class MessageView(msgspec.Struct, kw_only=True):
    """The UPDATE that the path of a source came in: `data` in hexadecimal with its header (`bgpd decode` reads it), ""
    if that is not in the history or there was none. `digest`: the first 12 digits of its SHA-256."""

    source: str
    at: float = 0.0
    digest: str = ""
    data: str = ""


class PastView(msgspec.Struct, kw_only=True):
    """`bgpd explain ADDRESS --at TIME`: what the RIB had for an address at that time, and a verdict in one sentence.

    `route` is decided anew by the configuration and the next hops of then. `changes` are those of the hour before, of
    all prefixes that cover the address; `messages` the UPDATEs that the candidates came in, `events` what happened to
    their neighbors and these prefixes in that hour. `known_from`: the history begins there.
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


class WithheldView(msgspec.Struct, kw_only=True):
    """A neighbor that could be sent a prefix: whether it was, and if not, why."""

    neighbor: str
    announced: bool
    reason: str = ""


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


class HandoverView(msgspec.Struct, kw_only=True):
    """What a process of bgpd found at its start of the one before it. `at`: when that left it, `version`: which it was.

    `adopted` are the sessions that went on. `refused`: by neighbor, why one did not; `problem`: why none did.
    """

    at: float | None = None
    version: str = ""
    adopted: int = 0
    refused: dict[str, str] = {}
    problem: str = ""


class ConfigurationView(msgspec.Struct, kw_only=True):
    """Where the configuration in force came from. `at`: when it was read.

    `files` are the file of the command line and its fragments, in the order in which they were merged; `variables` what
    those in them stand for, by name ("loopback4", "env:RACK"). `asn` and `router_id`: what "auto" stands for, null
    where it is configured.
    """

    at: float = 0.0
    files: list[str] = []
    variables: dict[str, str] = {}
    asn: Chosen | None = None
    router_id: Chosen | None = None


class HealthView(msgspec.Struct, kw_only=True):
    """`GET /v1/health`: whether the host may be relied on. `reasons` say why `ready` is false, `warnings` what else is
    wrong.

    `form` is "compiled" where the hot path runs as the compiled modules of the wheel, else "plain" (all is Python).
    `fib_pending` and `fib_failed` are routes that RIB and kernel differ by. `loop_stall_s` is the longest time that the
    event loop was held since the start, `loop_stall_p9999_s` what one hold of ten thousand exceeds. With `cpu` in their
    names both are the processor time of the loop's thread: what is missing in them, others had the processor for.
    `last_handover` is what this process was handed over at its start, null if nothing was. `configuration`: where the
    one in force came from. `history_from`: when the history of routes begins, null where it says nothing yet.

    `waiting_for`: all that is waited for after a start before kernel routes of the run before are removed that nobody
    has announced again (the Selection Deferral Timer of RFC 4724), and how long still.
    """

    ready: bool
    reasons: list[str] = []
    waiting_for: list[str] = []
    warnings: list[str] = []
    version: str = ""
    form: str = ""
    pid: int = 0
    hostname: str = ""
    started_at: float = 0.0
    neighbors: int = 0
    neighbors_established: int = 0
    routes: int = 0
    fib_pending: int = 0
    fib_failed: int = 0
    loop_stall_s: float = 0.0
    loop_stall_p9999_s: float = 0.0
    loop_stall_cpu_s: float = 0.0
    loop_stall_cpu_p9999_s: float = 0.0
    last_handover: HandoverView | None = None
    configuration: ConfigurationView | None = None
    history_from: float | None = None


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


class TableOverview(msgspec.Struct, kw_only=True):
    """One VRF ("": the main table): `prefixes` in the RIB by family, and its kernel routes: wanted, there, waiting,
    refused by the kernel, and not written because another program has the prefix.
    """

    vrf: str = ""
    prefixes: dict[str, int] = {}
    desired: int = 0
    installed: int = 0
    pending: int = 0
    failed: int = 0
    blocked: int = 0


class GroupOverview(msgspec.Struct, kw_only=True):
    """One nexthop group of the kernel: its next hops, and how many routes of all tables point at it."""

    id: int
    routes: int
    next_hops: list[NextHopView] = []


class UplinkOverview(msgspec.Struct, kw_only=True):
    """An interface with neighbors, by name. `speed_mbps` is null if the driver does not say it."""

    interface: str
    up: bool
    vrf: str = ""
    speed_mbps: int | None = None
    neighbors: list[str] = []


class OverviewView(msgspec.Struct, kw_only=True):
    """`GET /v1/overview`: this host on one screen. Small however many routes there are: it is asked every second.

    `verdict` is one sentence: what is wrong first, and `detail` the sentence behind it: why, and what is left. `level`:
    "ok", "warning" or "critical". `where` to look: "nowhere", "host" (it is us), "kernel", "fabric" (a neighbor, or the
    way to it), or "order" (somebody ordered it).

    `neighbors` are those without a session first, at most 64 of them
    (`neighbors_total` counts all). `groups` are those with the most routes, at most 32. `workloads` counts claims by
    source and state, `services` by state. `announced` and `withheld` are claims of workloads that a neighbor has, and
    that none has.
    """

    verdict: str
    detail: str = ""
    level: str = "ok"
    where: str = "nowhere"
    health: HealthView
    drain: DrainView
    neighbors: list[NeighborView] = []
    neighbors_total: int = 0
    uplinks: list[UplinkOverview] = []
    tables: list[TableOverview] = []
    groups: list[GroupOverview] = []
    workloads: dict[str, dict[str, int]] = {}
    services: dict[str, int] = {}
    announced: int = 0
    withheld: int = 0


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
