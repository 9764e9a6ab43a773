"""What the kernel and the daemon answer, in the words of the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labs.namespace import Namespace

SHOWN = 6


def kernel_objects(namespace: Namespace) -> dict[int, dict[str, Any]]:
    """The nexthop objects by number."""
    return {entry["id"]: entry for entry in json.loads(namespace.ip("-j", "nexthop", "show") or "[]")}


def hops_of(route: dict[str, Any], objects: dict[int, dict[str, Any]]) -> list[str]:
    """The next hops of a route as the model writes them; "nothing" for what leads nowhere."""
    if "nhid" not in route:
        return [str(route.get("dev", "nothing"))]
    group = objects.get(route["nhid"], {})
    members = [objects.get(one["id"], {}) for one in group["group"]] if "group" in group else [group]
    return sorted(_hop(member) for member in members)


def _hop(entry: dict[str, Any]) -> str:
    if "dev" not in entry:
        return "nothing"
    gateway = entry.get("gateway") or entry.get("via", {}).get("host", "")
    return f"{gateway}%{entry['dev']}" if gateway and ":" not in gateway else str(entry["dev"])


def pairs(routes: dict[str, list[str]]) -> set[str]:
    """Prefixes and what goes with each."""
    return {f"{prefix} by {' and '.join(hops)}" for prefix, hops in routes.items()}


def difference(what: str, wanted: set[str], found: set[str]) -> Iterator[str]:
    """In words, if there is one."""
    if wanted != found:
        lacks, more = sorted(wanted - found), sorted(found - wanted)
        yield f"{what}: {len(lacks)} missing {lacks[:SHOWN]}, {len(more)} too many {more[:SHOWN]}"
