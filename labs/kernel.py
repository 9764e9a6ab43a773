"""What the kernel of a namespace would do with a packet: routes with their live next hops."""

from __future__ import annotations

import json
from typing import Any

from labs.namespace import Namespace


def live_next_hops(namespace: Namespace, *, ipv6: bool, table: str = "main") -> dict[str, list[str]]:
    """Prefix (as `ip route` writes it) to the interfaces its live next hops use, of one table.

    Raises: LabError: there is no such table yet.
    """
    family = "-6" if ipv6 else "-4"
    routes: list[dict[str, Any]] = json.loads(namespace.ip(family, "-j", "route", "show", "table", table) or "[]")
    objects = {hop["id"]: hop for hop in json.loads(namespace.ip("-j", "nexthop", "show") or "[]")}
    return {route["dst"]: _interfaces(route, objects) for route in routes}


def _interfaces(route: dict[str, Any], objects: dict[int, dict[str, Any]]) -> list[str]:
    if "nhid" in route:
        hop = objects.get(route["nhid"], {})
        hops = [objects.get(member["id"], {}) for member in hop["group"]] if "group" in hop else [hop]
    else:
        hops = route.get("nexthops", [route])
    return [hop["dev"] for hop in hops if "dev" in hop and not {"dead", "linkdown"} & set(hop.get("flags", ()))]
