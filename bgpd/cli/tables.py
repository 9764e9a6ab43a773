"""What `bgpd show` offers: each view's filters, and its columns as text made of the JSON of the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from bgpd.cli import render as text
from bgpd.cli.render import View

Rows = Iterable[tuple[str, ...]]

EVPN_COLUMNS = ("", "Type", "RD", "Route", "VRF", "Next hop", "Gateway", "VNI", "From", "AS path", "Communities", "")
VRF_COLUMNS = ("VRF", "Table", "RD", "VNI", "Import", "Export", "Routes", "Own", "Uplink", "State", "")
_MARKS = {"best": ">", "multipath": "=", "rejected": "x"}


def evpn_rows(view: View, now: float) -> Rows:
    """One row for each candidate; the last column says how it resolves, or why not, and whether it is stale."""
    route = " ".join(filter(None, (view.get("mac"), view.get("prefix"), view.get("originator"), view.get("opaque"))))
    if view.get("ethernet_tag"):
        route += f" tag {view['ethernet_tag']}"
    head = (str(view["type"]), view.get("rd", ""), route, view.get("vrf", ""))
    for candidate in view.get("candidates", ()):
        unresolved = f"unresolved: {candidate['unresolved']}" if candidate.get("unresolved") else ""
        resolved = (unresolved,) if unresolved else candidate.get("resolution", ())
        yield (
            _MARKS.get(candidate["role"], ""),
            *head,
            candidate.get("next_hop", ""),
            candidate.get("gateway_ip", ""),
            text.words(candidate.get("labels", ())),
            candidate["source"],
            candidate.get("as_path", ""),
            text.words(candidate.get("extended_communities", ())),
            "; ".join(filter(None, (*resolved, text.stale(candidate, now)))),
        )
        head = ("", "", "", "")


def vrf_rows(view: View, now: float) -> Rows:
    """One row for each uplink, then what is wrong: next hops that lead nowhere, workloads that are not simply held."""
    head: tuple[str, ...] = (
        view["name"],
        str(view["table"]),
        view["rd"],
        str(view.get("vni") or ""),
        text.words(view.get("import_rt", ())),
        text.words(view.get("export_rt", ())),
        str(sum(view.get("routes", {}).values())),
        str(sum(view.get("local", {}).values())),
    )
    rows = [_uplink(uplink) for uplink in view.get("uplinks", ())]
    rows += [("", "problem", view["problem"])] if view.get("problem") else []
    rows += [("", "unresolved", why) for why in view.get("unresolved", ())]
    rows += [("", one["standing"], f"{one['mac']} {one['address']}: {one['reason']}") for one in view.get("alarms", ())]
    for row in rows or [("", "", "")]:
        yield (*head, *row)
        head = ("",) * len(head)


def _uplink(uplink: View) -> tuple[str, str, str]:
    beyond = f"to {uplink['neighbor']}" if uplink.get("neighbor") else "leads to no neighbor that is up"
    gateways = f" at {text.words(uplink['gateways'])}" if uplink.get("gateways") else ""
    return uplink["name"], "up" if uplink["up"] else "down", f"{beyond}{gateways}"


_OF_ROUTES = ("installed", "pending", "failed", "blocked")
STATES: dict[str, tuple[str, ...]] = {
    "neighbors": ("idle", "connect", "active", "opensent", "openconfirm", "established"),
    "bfd": ("up", "init", "down", "admin-down", "unknown"),
    "routes": (*_OF_ROUTES, "local"),
    "fib": _OF_ROUTES,
    "workloads": ("pending", "announced", "suppressed", "damped", "conflict", "moved", "failed"),
}
"""What --state of a kind may be."""


class Shown(NamedTuple):
    """One kind of `bgpd show KIND`: help text, filters (ViewQuery fields), those of them that need no option but only
    their value behind KIND, columns, the rows of one view, and the field whose elements make rows of CSV.
    """

    help: str
    filters: tuple[str, ...]
    subject: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Callable[[View, float], Rows]
    rows_of: str = ""


def _neighbor(view: View, now: float) -> Rows:
    families = view.get("families", {})
    detail = text.last_error(view, now) if view["state"] != "established" else view.get("hostname", "")
    if view.get("guest"):
        detail = f"guest of this host {detail}".rstrip()
    if view.get("expectation") == "unmet":
        other = view.get("hostname") or view.get("lldp_hostname") or "another"
        detail = f"{detail} (is {other}, expected {view['expected_hostname']})".lstrip()
    if view.get("martians"):
        detail = f"{detail} ({view['martians']} martians ignored)".lstrip()
    if (discarded := sum(counts.get("discarded", 0) for counts in families.values())) > 0:
        detail = f"{detail} ({discarded} beyond max_prefixes discarded)".lstrip()
    if view.get("stale_routes"):
        detail = f"{detail} ({text.stale(view, now)}: {view['stale_routes']} routes)".lstrip()
    yield (
        view["name"],
        text.place(view),
        str(view["asn"] or ""),
        view["state"],
        text.age(view["since"], now),
        text.total(families, "received"),
        text.total(families, "announced"),
        detail,
    )


def _bfd(view: View, now: float) -> Rows:
    remote = view.get("remote_state", "")
    detail = view.get("problem") or view.get("diagnostic", "")
    if not detail and view["state"] != "up" and remote:
        detail = f"the neighbor is {remote}"
    yield (
        view["neighbor"],
        text.place(view),
        view["state"] + (" (strict)" if view.get("strict") else ""),
        "" if view.get("since") is None else text.age(view["since"], now),
        f"{view['transmit_interval_ms']:g}",
        f"{view['detection_time_ms']:g}",
        str(view["downs"]),
        str(view["packets_sent"]),
        str(view["packets_received"]),
        detail,
    )


def _route(view: View, now: float) -> Rows:
    prefix = view["prefix"]
    for candidate in view.get("candidates", ()):
        yield (
            _MARKS.get(candidate["role"], ""),
            prefix,
            view.get("vrf", ""),
            candidate.get("next_hop", ""),
            candidate["source"],
            candidate.get("as_path", ""),
            "" if candidate.get("local_pref") is None else str(candidate["local_pref"]),
            "" if candidate.get("med") is None else str(candidate["med"]),
            _standing(view, candidate, now),
        )
        prefix = ""


def _standing(view: View, candidate: View, now: float) -> str:
    """The state of the kernel route for the best one, why the others lost, and whether it is stale."""
    state = view.get("fib", "") if candidate["role"] == "best" else candidate.get("reason", "")
    return "; ".join(filter(None, (state, text.stale(candidate, now))))


def _exchanged(view: View, now: float) -> Rows:
    communities = (
        *view.get("communities", ()),
        *view.get("extended_communities", ()),
        *view.get("large_communities", ()),
    )
    yield (
        view["prefix"],
        view.get("vrf", ""),
        view["neighbor"],
        view.get("next_hop", ""),
        view.get("gateway_ip", ""),
        text.words(view.get("labels", ())),
        view.get("as_path", ""),
        view.get("origin", ""),
        "" if view.get("local_pref") is None else str(view["local_pref"]),
        "" if view.get("med") is None else str(view["med"]),
        text.words(communities),
        "; ".join(view.get("other_attributes", ())),
        view.get("rejected", ""),
    )


def _fib(view: View, now: float) -> Rows:
    hops = "; ".join(map(text.next_hop, view.get("next_hops", ())))
    group = str(view.get("group") or "")
    yield view["prefix"], str(view["table"]), view["state"], group, hops, view.get("error", "")


def _workload(view: View, now: float) -> Rows:
    yield (
        view["prefix"],
        view["id"],
        view["source"],
        view.get("interface", ""),
        view.get("vrf", ""),
        view["state"],
        text.age(view["since"], now),
        "; ".join(_workload_remarks(view)),
    )


def _workload_remarks(view: View) -> Iterator[str]:
    if view.get("reason"):
        yield view["reason"]
    elif view.get("neighbors"):
        yield f"to {text.words(view['neighbors'])}"
    if view.get("also_announced_by"):
        yield f"announced by {text.words(view['also_announced_by'])}, too"


def _aggregate(view: View, now: float) -> Rows:
    kind = view.get("auto") or ("summary-only" if view.get("summary_only") else "")
    yield (
        view["prefix"],
        view.get("vrf", ""),
        kind,
        str(view.get("contributors", 0)),
        text.words(view.get("announced", ())),
        view.get("reason", "") or (f"to {text.words(view['neighbors'])}" if view.get("neighbors") else ""),
        "; ".join(view.get("alarms", ())),
    )


def _service(view: View, now: float) -> Rows:
    yield (
        view["name"],
        text.words(view.get("addresses", ())),
        view.get("vrf", ""),
        view.get("mode", ""),
        "announced" if view.get("announced") else "not announced",
        f"{view.get('healthy', 0)} of {len(view.get('backends', ()))}, needs {view.get('min_healthy', 1)}",
        "",
        view.get("reason", ""),
    )
    yield from map(_probe, view.get("probes", ()))
    for backend in view.get("backends", ()):
        yield (
            "",
            text.words(backend.get("addresses", ())),
            "",
            "",
            backend["state"],
            _weight(backend),
            backend.get("interface", ""),
            backend.get("reason", ""),
        )


def _probe(probe: View) -> tuple[str, ...]:
    return ("", probe["address"], "", "", probe["state"], f"{probe['type']} probe", "", probe.get("reason", ""))


def _weight(backend: View) -> str:
    """The weight of a backend, and what it has of it in a slow start."""
    weight, has = backend.get("weight", 1), backend.get("weight_now", 0)
    return f"weight {weight}" if has in (0, weight) else f"weight {has:g} of {weight}"


def _event(view: View, now: float) -> Rows:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view["at"]))
    yield at, view["level"], view["event"], text.fields(view.get("fields", {}))


_NEIGHBOR_COLUMNS = ("Neighbor", "Address", "AS", "State", "For", "Received", "Announced", "Detail")
_BFD_COLUMNS = ("Neighbor", "Address", "State", "For", "Sends ms", "Detects ms", "Downs", "Sent", "Received", "Detail")
_ROUTE_COLUMNS = ("", "Prefix", "VRF", "Next hop", "From", "AS path", "Pref", "MED", "Kernel / why not")
_EXCHANGED_COLUMNS = (
    *("Prefix", "VRF", "Neighbor", "Next hop", "Gateway", "VNI", "AS path", "Origin", "Pref", "MED"),
    *("Communities", "Other attributes", "Rejected"),
)
_EXCHANGED_FILTERS = ("neighbor", "prefix", "longer_prefixes", "family", "vrf")
_FIB_COLUMNS = ("Prefix", "Table", "State", "Group", "Next hops", "Error")
_WORKLOAD_COLUMNS = ("Prefix", "ID", "Source", "Interface", "VRF", "State", "For", "Reason")
_AGGREGATE_COLUMNS = ("Prefix", "VRF", "Kind", "Contributors", "Announced", "To", "Alarms")
_SERVICE_COLUMNS = ("Service", "Address", "VRF", "Mode", "State", "Healthy", "Interface", "Reason")

SHOWN: dict[str, Shown] = {
    "neighbors": Shown(
        "BGP sessions", ("neighbor", "state", "family", "vrf"), ("neighbor",), _NEIGHBOR_COLUMNS, _neighbor
    ),
    "routes": Shown(
        "prefixes of the RIB with all candidates: > best, = multipath, x rejected",
        ("prefix", "longer_prefixes", "family", "neighbor", "vrf", "state"),
        ("prefix", "neighbor"),
        _ROUTE_COLUMNS,
        _route,
        "candidates",
    ),
    "bfd": Shown("BFD of the neighbors", ("neighbor", "state"), ("neighbor",), _BFD_COLUMNS, _bfd),
    "advertised": Shown(
        "routes that neighbors were sent, with the attributes as sent",
        _EXCHANGED_FILTERS,
        ("prefix", "neighbor"),
        _EXCHANGED_COLUMNS,
        _exchanged,
    ),
    "received": Shown(
        "routes that neighbors announced, with the attributes as received",
        (*_EXCHANGED_FILTERS, "rejected"),
        ("prefix", "neighbor"),
        _EXCHANGED_COLUMNS,
        _exchanged,
    ),
    "fib": Shown(
        "kernel routes of bgpd",
        ("prefix", "longer_prefixes", "family", "vrf", "state"),
        ("prefix",),
        _FIB_COLUMNS,
        _fib,
    ),
    "workloads": Shown(
        "this host's own prefixes",
        ("prefix", "longer_prefixes", "family", "vrf", "state", "source", "name"),
        ("prefix", "name"),
        _WORKLOAD_COLUMNS,
        _workload,
    ),
    "aggregates": Shown(
        "configured aggregates: announced prefixes, contributors, neighbors that announce them, too",
        ("prefix", "longer_prefixes", "family", "vrf"),
        ("prefix",),
        _AGGREGATE_COLUMNS,
        _aggregate,
    ),
    "services": Shown(
        "service addresses and their local backends", ("vrf", "name"), ("name",), _SERVICE_COLUMNS, _service
    ),
    "evpn": Shown(
        "EVPN routes with all candidates: > best, = multipath, x rejected",
        ("type", "rd", "mac", "prefix", "longer_prefixes", "vrf", "neighbor", "unresolved"),
        ("prefix", "mac", "neighbor"),
        EVPN_COLUMNS,
        evpn_rows,
        "candidates",
    ),
    "vrfs": Shown("VRFs with their uplinks, and what is wrong", ("vrf",), ("vrf",), VRF_COLUMNS, vrf_rows),
    "events": Shown(
        "what happened, also before the last start; the newest 1,000 unless --limit says more",
        ("neighbor", "prefix", "longer_prefixes", "vrf", "level", "event", "since", "until"),
        ("neighbor", "prefix"),
        ("Time", "Level", "Event", ""),
        _event,
    ),
}
"""Only what the daemon serves stands here."""
