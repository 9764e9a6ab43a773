"""What may have been meant where nothing is found: a prefix inside or around, or a name that is close."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from bgpd.cli.client import Client, CommandFailed

MOST_NAMES = 5_000
"""Names that are looked at."""
MOST_NEAR = 3
_NAME_FIELDS = {"workloads": "id", "services": "name"}


def near(client: Client, kind: str, parameters: Mapping[str, Any]) -> list[str]:
    """Prefixes or names of `bgpd show KIND` that are near to what was asked for; none also where that is not known."""
    with contextlib.suppress(CommandFailed):
        vrf = parameters.get("vrf")
        if name := parameters.get("name"):
            return near_names(client, kind, name)
        if not (prefix := parameters.get("prefix")) or parameters.get("longer_prefixes"):
            return []
        if kind == "routes":
            return list(client.get("/v1/why-not", {"prefix": prefix, "vrf": vrf}).get("near", ()))[:MOST_NEAR]
        if kind in ("workloads", "aggregates"):
            inside = {"prefix": prefix, "longer_prefixes": True, "vrf": vrf, "limit": MOST_NEAR}
            return [view["prefix"] for view in client.get(f"/v1/{kind}", inside)]
    return []


def near_names(client: Client, kind: str, name: str) -> list[str]:
    """Names of workloads or services that are close to one. Raises: CommandFailed."""
    import difflib  # for mistakes only

    field = _NAME_FIELDS[kind]
    names = {view[field]: None for view in client.get(f"/v1/{kind}", {"limit": MOST_NAMES})}
    return [one for one in difflib.get_close_matches(name, names, MOST_NEAR) if one != name]


def did_you_mean(found: list[str]) -> str:
    """The sentence; "" for nothing."""
    return f"did you mean {' or '.join(found)}?" if found else ""
