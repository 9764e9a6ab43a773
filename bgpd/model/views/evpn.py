"""JSON views of EVPN: its routes, and the VRFs that they serve."""

from __future__ import annotations

import msgspec


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
    workloads with a MAC; `alarms` are those of them that are not simply held. `problem`: why the kernel does not have
    it, or not as it should be; "" if it has.
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
    problem: str = ""
