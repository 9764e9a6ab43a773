"""How the command line writes single values: ages, next hops, counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def age(since: float | None, now: float) -> str:
    """How long ago, in its two largest units: "3h12m"; "" for never."""
    if not since:
        return ""
    left = max(0, int(now - since))
    parts: list[str] = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def next_hop(view: Mapping[str, Any]) -> str:
    """A NextHopView: "10.0.1.2 dev eth0", "fe80::1 dev eth1 weight 2 (dead: link is down)"."""
    parts = [view["address"]] if view.get("address") else []
    if view.get("interface"):
        parts.append(f"dev {view['interface']}")
    if view.get("weight", 1) != 1:
        parts.append(f"weight {view['weight']}")
    if not view.get("live", True):
        parts.append(f"(dead: {view.get('why') or 'unknown'})")
    return " ".join(parts)


def fields(values: Mapping[str, Any]) -> str:
    """Fields of an event: "neighbor=leaf1 hold_time_s=9"."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def place(view: Mapping[str, Any]) -> str:
    """Where a neighbor is: its address, with the interface that scopes it."""
    address, interface = view.get("address", ""), view.get("interface", "")
    return f"{address}%{interface}" if address and interface else address or interface


def total(families: Mapping[str, Mapping[str, int]], field: str) -> str:
    """The sum of one count over all families."""
    return str(sum(counts.get(field, 0) for counts in families.values()))


def words(values: Iterable[object]) -> str:
    """Values with commas between."""
    return ", ".join(map(str, values))


def printable(line: str) -> str:
    """The line without control characters: names and reasons come from neighbors, and must not steer a terminal."""
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
