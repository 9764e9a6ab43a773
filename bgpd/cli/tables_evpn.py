"""The rows of `bgpd show evpn` and `bgpd show vrfs`, made of the JSON of the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bgpd.cli import text

View = Mapping[str, Any]
Rows = Iterable[tuple[str, ...]]

EVPN_COLUMNS = ("", "Type", "RD", "Route", "VRF", "Next hop", "Gateway", "VNI", "From", "AS path", "Communities", "")
VRF_COLUMNS = ("VRF", "Table", "RD", "VNI", "Import", "Export", "Routes", "Own", "Uplink", "State", "")
_MARKS = {"best": ">", "multipath": "=", "rejected": "x"}


def evpn_rows(view: View, now: float) -> Rows:
    """One row for each candidate; the last column says how it resolves, or why not."""
    route = " ".join(filter(None, (view.get("mac"), view.get("prefix"), view.get("originator"), view.get("opaque"))))
    if view.get("ethernet_tag"):
        route += f" tag {view['ethernet_tag']}"
    head = (str(view["type"]), view.get("rd", ""), route, view.get("vrf", ""))
    for candidate in view.get("candidates", ()):
        resolved = "; ".join(candidate.get("resolution", ()))
        yield (
            _MARKS.get(candidate["role"], ""),
            *head,
            candidate.get("next_hop", ""),
            candidate.get("gateway_ip", ""),
            text.words(candidate.get("labels", ())),
            candidate["source"],
            candidate.get("as_path", ""),
            text.words(candidate.get("extended_communities", ())),
            f"unresolved: {candidate['unresolved']}" if candidate.get("unresolved") else resolved,
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
    rows += [("", "unresolved", why) for why in view.get("unresolved", ())]
    rows += [("", one["standing"], f"{one['mac']} {one['address']}: {one['reason']}") for one in view.get("alarms", ())]
    for row in rows or [("", "", "")]:
        yield (*head, *row)
        head = ("",) * len(head)


def _uplink(uplink: View) -> tuple[str, str, str]:
    beyond = f"to {uplink['neighbor']}" if uplink.get("neighbor") else "leads to no neighbor that is up"
    gateways = f" at {text.words(uplink['gateways'])}" if uplink.get("gateways") else ""
    return uplink["name"], "up" if uplink["up"] else "down", f"{beyond}{gateways}"
