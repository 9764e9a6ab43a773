"""What frr.conf says of a router that matters to a simulation: AS, timers, graceful restart, and what it announces
itself, also by EVPN of its VRFs. `frr_neighbors` has its neighbors; `unread` says what else would matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.frr_peers import Peers, is_off
from bgpd.migrate.frr_text import FrrText, Line, Router, read_frr_text, read_lines
from bgpd.simulation import evpn
from bgpd.simulation.eos_text import EosReader
from bgpd.simulation.frr_filters import route_map
from bgpd.simulation.frr_matches import network_of
from bgpd.simulation.frr_neighbors import NeighborReader, Neighbors, is_datacenter, number
from bgpd.simulation.frr_unread import unread
from bgpd.simulation.router import Style
from bgpd.simulation.wire import Route

_TRADITIONAL_HOLD_S, _DATACENTER_HOLD_S = 180, 9
_RETRY_S = 10.0
_RESTART_TIME_S = 120
"""What FRR does where nothing is said."""


class FrrRouter(msgspec.Struct, kw_only=True):
    """`own`: prefixes that it announces itself, `tenants`: by EVPN, `aggregates`: while it has a route inside, and
    whether in its place. `unread`: what is not simulated, `unforeseen`: what
    makes that nobody can say beforehand which routes there should be."""

    asn: int
    router_id: str
    style: Style
    own: dict[str, Route]
    tenants: dict[str, Route]
    aggregates: dict[str, bool]
    neighbors: Neighbors
    unread: tuple[str, ...]
    unforeseen: tuple[str, ...]


def read_frr_router(path: Path, given: Mapping[str, list[str]] | None = None) -> FrrRouter:
    """The router of the main table in a frr.conf. `given`: addresses that its interfaces have beside those of the file.

    Raises: ImportFailed: it has none, or cannot be read.
    """
    text = FrrText()
    read_frr_text(read_source(path), str(path), text)
    return router_of(text, Place(str(path)), given)


def read_eos_router(path: Path, given: Mapping[str, list[str]]) -> FrrRouter:
    """Likewise of a configuration of Arista EOS; `given` has all ports that have links.

    Raises: ImportFailed: it has none, or cannot be read.
    """
    reader, text = EosReader(str(path), given), FrrText()
    reader.read(read_source(path))
    read_lines(reader.lines, text)
    found = router_of(text, Place(str(path)), given)
    return msgspec.structs.replace(found, unread=(*reader.unread, *found.unread))


def read_source(path: Path) -> str:
    """The text of a configuration. Raises: ImportFailed: it cannot be read."""
    place = Place(str(path))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportFailed(place, f"cannot be read: {error.strerror}", "name another file") from None
    except UnicodeDecodeError:
        raise ImportFailed(place, "is no text in UTF-8", "a configuration is text") from None


def router_of(text: FrrText, place: Place, given: Mapping[str, list[str]] | None) -> FrrRouter:
    """The router of the main table in what was read. Raises: ImportFailed: it has none."""
    router = next((one for one in text.routers if not one.vrf), None)
    if router is None or not router.asn.isdecimal():
        raise ImportFailed(place, 'has no "router bgp ASN" of the main table', "the simulation needs the AS number")
    peers = Peers(router)
    settings = {name: peers.settings(peer) for name, peer in peers.found.items() if not peer.is_group}
    addresses = {name: _addresses(lines) for name, lines in text.interfaces.items()}
    for name, others in (given or {}).items():
        addresses[name] = list(dict.fromkeys((*addresses.get(name, ()), *others)))
    router_id = _router_id(router)
    own = _Own(text, router, addresses)
    reader = NeighborReader(text, router, peers)
    return FrrRouter(
        asn=int(router.asn),
        router_id=router_id,
        style=_style(router, text, [peer.general for peer in settings.values()]),
        own=own.routes,
        tenants=dict(_tenants(text, int(router.asn), router_id)),
        aggregates=own.aggregates,
        neighbors=Neighbors(
            {name: found for name, peer in settings.items() if (found := reader.read(peer)) is not None},
            {str(network_of(one.word(3), one)): reader.of_range(one) for one in peers.ranges if not is_off(one)},
            addresses,
            set(),
        ),
        unread=tuple(dict.fromkeys((*unread(text, router, settings), *own.unread))),
        unforeseen=tuple(own.unforeseen),
    )


def _router_id(router: Router) -> str:
    """ "" where none is said. Raises: ImportFailed: it is none."""
    for line in router.lines:
        if line.starts("bgp", "router-id"):
            try:
                return str(ipaddress.IPv4Address(line.word(2)))
            except ValueError as error:
                raise ImportFailed(line.place, f"{error}", "a router ID is an IPv4 address") from None
    return ""


def _addresses(lines: list[Line]) -> list[str]:
    found = [line for line in lines if line.words[1:2] == ("address",) and "/" in line.word(2)]
    for line in found:
        network_of(line.word(2), line)
    return [line.word(2) for line in found]


class _Own:
    """What a router announces itself: its networks that it has a route to, what is connected, what is static; and what
    it aggregates."""

    def __init__(self, text: FrrText, router: Router, addresses: Mapping[str, list[str]]) -> None:
        self.routes: dict[str, Route] = {}
        self.aggregates: dict[str, bool] = {}
        self.unread: dict[str, None] = {}
        self.unforeseen: dict[str, None] = {}
        self._text = text
        self._asn = int(router.asn)
        self._connected: dict[str, set[str]] = {}
        """By which interfaces."""
        for name, found in addresses.items():
            for one in found:
                self._connected.setdefault(str(ipaddress.ip_interface(one).network), set()).add(name)
        self._static = [str(network_of(line.word(2), line)) for line in text.top if _is_static(line)]
        is_checked = all(line.words != ("no", "bgp", "network", "import-check") for line in router.lines)
        for family, line in _lines(router):
            if line.starts("network") and "/" in line.word(1):
                prefix = str(network_of(line.word(1), line))
                if is_checked and prefix not in (*self._connected, *self._static):
                    self.unread[f"{line}: it has no such route, and announces none (bgp network import-check)"] = None
                else:
                    self._announce([prefix], line)
            elif line.starts("aggregate-address"):
                self._aggregate(line)
            elif line.starts("redistribute", "connected") or line.starts("redistribute", "static"):
                prefixes = [*self._connected] if line.word(1) == "connected" else self._static
                self._announce([one for one in prefixes if _family(one) == family], line)

    def _aggregate(self, line: Line) -> None:
        """`aggregate-address PREFIX [as-set] [summary-only] ...`."""
        if "/" not in line.word(1):
            self.unread[str(line)] = None
            return
        self.aggregates[str(network_of(line.word(1), line))] = "summary-only" in line.words
        self.unforeseen["aggregate-address"] = None
        if others := [one for one in line.words[2:] if one != "summary-only"]:
            self.unread[f"{line}: it is announced without {' '.join(others)}"] = None

    def _announce(self, prefixes: list[str], line: Line) -> None:
        """As a route map says, where the line names one."""
        name, metric = line.after("route-map"), line.after("metric")
        apply = route_map(self._text, name, self._asn, self.unread, self._connected) if name else None
        for prefix in prefixes:
            route = Route(peer=None, med=int(metric) if metric.isdecimal() else None)
            changed = apply(prefix, route) if apply is not None else route
            if changed is not None:
                self.routes.setdefault(prefix, changed)
                if (changed.as_path, changed.preference, changed.med or 0) != ((), 100, 0):
                    self.unforeseen[f"route-map {name}"] = None


def _is_static(line: Line) -> bool:
    return line.words[:2] in (("ip", "route"), ("ipv6", "route")) and "/" in line.word(2) and "vrf" not in line.words


def _family(prefix: str) -> str:
    return "ipv6-unicast" if ":" in prefix else "ipv4-unicast"


def _lines(router: Router) -> Iterator[tuple[str, Line]]:
    """Of the unicast families, those that stand outside of one are of IPv4."""
    for family, lines in (("ipv4-unicast", router.lines), *router.families.items()):
        if family in ("ipv4-unicast", "ipv6-unicast"):
            yield from ((family, line) for line in lines)


def _tenants(text: FrrText, asn: int, router_id: str) -> Iterator[tuple[str, Route]]:
    """The type 5 routes of VRFs with `vni N` whose router has `advertise ipv4|ipv6 unicast`: of its networks."""
    for place, router in enumerate(one for one in text.routers if one.vrf and not one.vrf.startswith("view ")):
        overlay = router.families.get("l2vpn-evpn", [])
        vni = next((number(line, 1) for line in text.vrfs.get(router.vrf, ()) if line.starts("vni")), 0)
        exported = next((line.word(2) for line in overlay if line.starts("route-target", "export")), f"{asn}:{vni}")
        high, _, low = exported.partition(":")
        if not vni or not (high.isdecimal() and low.isdecimal()):
            continue
        rd = evpn.distinguisher(ipaddress.IPv4Address(router_id or "10.255.255.255").packed, 1 + place)
        route = Route(
            peer=None, extended=evpn.carried(evpn.target(int(high) & 0xFFFF, int(low))), label=vni.to_bytes(3, "big")
        )
        networks = [line for _, line in _lines(router) if line.starts("network") and "/" in line.word(1)]
        for prefix in [str(network_of(line.word(1), line)) for line in networks]:
            version = "ipv6" if ":" in prefix else "ipv4"
            if any(line.starts("advertise", version, "unicast") for line in overlay):
                yield evpn.ip_prefix(rd, prefix), route


def _style(router: Router, text: FrrText, neighbors: list[dict[str, Line]]) -> Style:
    lines = router.lines
    holds = [number(line, 3) for line in lines if line.starts("timers", "bgp")]
    retries = [number(one["timers connect"], 4) for one in neighbors if "timers connect" in one]
    pauses = [number(one["advertisement-interval"], 3) for one in neighbors if "advertisement-interval" in one]
    times = [number(line, 3) for line in lines if line.starts("bgp", "graceful-restart", "restart-time")]
    long_lived = [number(line, 3) for line in lines if line.starts("bgp", "long-lived-graceful-restart", "stale-time")]
    ways = [number(line, 1) for _, line in _lines(router) if line.starts("maximum-paths")]
    default = _DATACENTER_HOLD_S if is_datacenter(text) else _TRADITIONAL_HOLD_S
    return Style(
        hold_s=min(filter(None, holds), default=default),
        retry_s=float(min(filter(None, retries), default=_RETRY_S)),
        mrai_s=float(max(pauses, default=0)),
        helps=not any(line.starts("bgp", "graceful-restart-disable") for line in lines),
        restarts=any(line.words == ("bgp", "graceful-restart") for line in lines),
        restart_time_s=max(times, default=_RESTART_TIME_S),
        by_notification=any(line.starts("bgp", "graceful-restart", "notification") for line in lines),
        long_lived_s=max(long_lived, default=0),
        relaxes=any(line.starts("bgp", "bestpath", "as-path", "multipath-relax") for line in lines),
        compares_all_meds=any(line.words == ("bgp", "always-compare-med") for line in lines),
        most_ways=min(filter(None, ways), default=0),
    )
