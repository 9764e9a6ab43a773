"""Values for the completion of a command line, asked of the running daemon: few, soon, and without a word if there is
none.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bgpd.cli.client import DEFAULT_SOCKET, Client, CommandFailed, Parameters, of_json
from bgpd.cli.tables import SHOWN, STATES

MOST = 200
"""Values of one kind; of more than these a person types a part."""
PATIENCE_S = 1.0
_SAFE = re.compile(r"(?!-)[A-Za-z0-9_.:/@%+,-]+")
"""Words that no shell takes for anything else, nor bgpd for an option; names come from the network, too."""
FAMILIES = ("ipv4-unicast", "ipv6-unicast", "l2vpn-evpn", "route-target")
LEVELS = ("info", "warning", "error", "critical")

Values = Iterator[tuple[str, str]]


def values(prog: str, dest: str, *, typed: str, socket: str | None, filters: Mapping[str, str]) -> Values:
    """Values of the argument `dest` of a command ("bgpd show routes") that may begin with `typed`, with descriptions.

    `filters` are the other arguments: of a VRF that is given only its routes.
    """
    command, _, rest = prog.removeprefix("bgpd ").partition(" ")
    asked = _Asked(Client(socket or os.environ.get("BGPD_SOCKET") or DEFAULT_SOCKET), typed, filters.get("vrf", ""))
    if dest == "state" and rest in STATES:
        yield from ((word, "") for word in STATES[rest])
    for kind in _kinds(command, rest, dest):
        found = getattr(asked, kind)
        with contextlib.suppress(CommandFailed, ValueError, KeyError, TypeError, AttributeError):
            yield from ((word, about) for word, about in found() if _SAFE.fullmatch(word))


_BY_DEST: Mapping[str, tuple[str, ...]] = {
    "neighbor": ("neighbors",),
    "vrf": ("vrfs",),
    "interface": ("interfaces",),
    "down": ("neighbors", "interfaces"),
    "prefix": ("prefixes",),
    "mac": ("macs",),
    "rd": ("route_distinguishers",),
    "event": ("events",),
    "source": ("sources",),
    "family": ("families",),
    "level": ("levels",),
}


def _kinds(command: str, rest: str, dest: str) -> tuple[str, ...]:
    """Which values may stand for an argument: names of methods of `_Asked`."""
    match command, rest, dest:
        case "show", _, "subject":
            return tuple(kind for name in SHOWN[rest].subject for kind in _kinds(command, rest, name))
        case ("show", "workloads", "name") | ("workload", _, "id"):
            return ("workloads",)
        case ("show", "services", "name") | ("service", _, "id"):
            return ("services",)
        case "show", "workloads" | "aggregates" | "fib", "prefix":
            return ("own_prefixes",) if rest == "workloads" else (rest,)
        case "explain", _, "address":
            return ("addresses",)
        case "schema", _, "name":
            return ("schemas",)
    return _BY_DEST.get(dest, ())


class _Asked:
    """Each method asks for one kind of values. Raises: CommandFailed, and what comes of an answer of another form."""

    def __init__(self, client: Client, typed: str, vrf: str) -> None:
        self._client = client
        self._typed = typed
        self._vrf = vrf or None

    def _get(self, target: str, parameters: Parameters | None = None) -> Any:
        return of_json(b"".join(self._client.stream("GET", target, parameters, timeout_s=PATIENCE_S)))

    def _page(self, name: str, **parameters: str | int | None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._get(f"/v1/pages/{name}", {"limit": MOST, "vrf": self._vrf, **parameters})[
            "rows"
        ]
        return rows

    def neighbors(self) -> Values:
        for view in self._get("/v1/neighbors"):
            yield view["name"], f"{view['address'] or view['interface']} AS{view['asn']} {view['state']}"

    def vrfs(self) -> Values:
        yield from ((view["name"], f"table {view['table']}") for view in self._get("/v1/config")["vrf"])

    def interfaces(self) -> Values:
        for name, vrf in self._get("/v1/interfaces").items():
            yield name, f"VRF {vrf}" if vrf else ""

    def workloads(self) -> Values:
        for view in self._page("workloads", search=self._typed or None):
            yield view["id"], f"{view['prefix']} {view['state']}"

    def services(self) -> Values:
        for view in self._page("services", search=self._typed or None):
            yield view["name"], " ".join(view["addresses"])

    def own_prefixes(self) -> Values:
        for view in self._page("workloads", search=self._typed or None):
            yield view["prefix"], f"{view['id']} {view['state']}"

    def aggregates(self) -> Values:
        for view in self._get("/v1/aggregates", {"vrf": self._vrf, "limit": MOST}):
            yield view["prefix"], view["auto"]

    def prefixes(self) -> Values:
        search = about(self._typed)
        for view in self._page("routes", search=search or None):
            yield view["prefix"], view["fib"]

    def fib(self) -> Values:
        inside = about(self._typed) or None
        asked = {"vrf": self._vrf, "limit": MOST, "prefix": inside, "longer_prefixes": True if inside else None}
        for view in self._get("/v1/fib", asked):
            yield view["prefix"], view["state"]

    def addresses(self) -> Values:
        """Of this host's workloads and services, by name and by address, and of neighbors."""
        for view in self._page("workloads", search=self._typed or None):
            yield view["id"], view["prefix"]
            yield _address(view["prefix"]), view["id"]
        for view in self._page("services", search=self._typed or None):
            yield view["name"], " ".join(view["addresses"])
            yield from ((_address(one), view["name"]) for one in view["addresses"])
        for view in self._get("/v1/neighbors"):
            yield view["address"], view["name"]

    def macs(self) -> Values:
        for view in self._page("evpn", type=2):
            yield view["mac"], view["prefix"]

    def route_distinguishers(self) -> Values:
        yield from ((view["rd"], view["vrf"]) for view in self._page("evpn"))

    def events(self) -> Values:
        yield from ((name, "") for name in sorted({view["event"] for view in self._get("/v1/events")}))

    def sources(self) -> Values:
        yield from ((name, "") for name in sorted({view["source"] for view in self._page("workloads")}))

    def families(self) -> Values:
        yield from ((name, "") for name in FAMILIES)

    def levels(self) -> Values:
        yield from ((name, "") for name in LEVELS)

    def schemas(self) -> Values:
        from bgpd.cli.schemas import SCHEMAS

        yield from ((name, "") for name in SCHEMAS)


def _address(prefix: str) -> str:
    """The address of a host prefix; "" of a network."""
    address, _, length = prefix.partition("/")
    return address if length in ("", "128" if ":" in address else "32") else ""


def about(typed: str) -> str:
    """The prefix that all has which begins with `typed`, by its whole parts: of "10.64.1" that is 10.64.0.0/16, of
    "2001:db8:" 2001:db8::/32; "" if nothing can be said."""
    if ":" in typed:
        groups = typed.partition("::")[0].split(":")
        groups = groups if "::" in typed else groups[:-1]
        if not groups or len(groups) > 7 or not all(re.fullmatch(r"[0-9A-Fa-f]{1,4}", group) for group in groups):
            return ""
        return f"{':'.join(groups)}::/{16 * len(groups)}"
    octets = typed.split(".")[:-1]
    if not octets or len(octets) > 3 or not all(octet.isdecimal() and int(octet) <= 255 for octet in octets):
        return ""
    return f"{'.'.join([*octets, *['0'] * (4 - len(octets))])}/{8 * len(octets)}"
