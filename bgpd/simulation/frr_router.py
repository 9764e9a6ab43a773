"""What frr.conf says of a router that matters to a simulation: AS, timers, graceful restart, neighbors, prefixes.

Route maps and lists are not simulated: the router takes and tells all. `unread` says which there are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.frr_peers import Peers, is_address, is_off
from bgpd.migrate.frr_text import FrrText, Line, Router, read_frr_text
from bgpd.simulation.router import Style

_TRADITIONAL_HOLD_S, _DATACENTER_HOLD_S = 180, 9
_RETRY_S = 10.0
_RESTART_TIME_S = 120
_FILTERS = ("route-map in", "route-map out", "prefix-list in", "prefix-list out", "filter-list in", "filter-list out")


class FrrRouter(msgspec.Struct, kw_only=True):
    """`remote_as`: what is expected of the neighbor at an interface or an address: a number, "external" or "internal".
    `addresses`: of its interfaces, with their lengths. `own`: prefixes that it announces itself."""

    asn: int
    router_id: str
    style: Style
    own: tuple[str, ...]
    remote_as: dict[str, str]
    ranges: tuple[str, ...]
    addresses: dict[str, list[str]]
    unread: tuple[str, ...]

    def neighbor_at(self, interface: str) -> str | None:
        """What AS is expected of a neighbor at this interface; None: there is to be no session."""
        if interface in self.remote_as:
            return self.remote_as[interface]
        for text in self.addresses.get(interface, ()):
            network = ipaddress.ip_interface(text).network
            for name, expected in self.remote_as.items():
                if is_address(name) and ipaddress.ip_address(name) in network:
                    return expected
            if any(_overlap(network, ipaddress.ip_network(one, strict=False)) for one in self.ranges):
                return "external"
        return None


def _overlap(one: object, two: object) -> bool:
    return one.version == two.version and one.overlaps(two)  # type: ignore[attr-defined, no-any-return]


def read_frr_router(path: Path) -> FrrRouter:
    """The router of the main table in a frr.conf. Raises: ImportFailed: it has none, or cannot be read."""
    place = Place(str(path))
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportFailed(place, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ImportFailed(place, "is no text in UTF-8") from None
    text = FrrText()
    read_frr_text(source, str(path), text)
    router = next((one for one in text.routers if not one.vrf), None)
    if router is None or not router.asn.isdecimal():
        raise ImportFailed(place, 'has no "router bgp ASN" of the main table', "the simulation needs the AS number")
    peers = Peers(router)
    settings = {name: peers.settings(peer) for name, peer in peers.found.items() if not peer.is_group}
    addresses = {name: _addresses(lines) for name, lines in text.interfaces.items()}
    filters = {f"{name}: {one}" for name, peer in settings.items() for one in _filters(peer.general, peer.families)}
    return FrrRouter(
        asn=int(router.asn),
        router_id=next((one.word(2) for one in router.lines if one.starts("bgp", "router-id")), ""),
        style=_style(router, text, [peer.general for peer in settings.values()]),
        own=tuple(dict.fromkeys(_announced(router, addresses))),
        remote_as={name: line.word(3) for name, peer in settings.items() if (line := peer.general.get("remote-as"))},
        ranges=tuple(line.word(3) for line in peers.ranges if not is_off(line)),
        addresses=addresses,
        unread=tuple(sorted(filters)),
    )


def _filters(general: dict[str, Line], families: dict[str, dict[str, Line]]) -> Iterator[str]:
    for commands in (general, *families.values()):
        yield from (str(line) for name, line in commands.items() if name in _FILTERS)


def _addresses(lines: list[Line]) -> list[str]:
    return [line.word(2) for line in lines if line.words[1:2] == ("address",) and "/" in line.word(2)]


def _announced(router: Router, addresses: dict[str, list[str]]) -> Iterator[str]:
    for family, lines in (("ipv4-unicast", router.lines), *router.families.items()):
        if family not in ("ipv4-unicast", "ipv6-unicast"):
            continue
        for line in lines:
            if line.starts("network") and "/" in line.word(1):
                yield str(ipaddress.ip_network(line.word(1), strict=False))
            elif line.starts("redistribute", "connected"):
                networks = [ipaddress.ip_interface(one).network for found in addresses.values() for one in found]
                yield from (str(one) for one in networks if f"ipv{one.version}-unicast" == family)
            elif line.starts("neighbor") and line.word(2) == "default-originate":
                yield "0.0.0.0/0" if family == "ipv4-unicast" else "::/0"


def _style(router: Router, text: FrrText, neighbors: list[dict[str, Line]]) -> Style:
    lines = router.lines
    is_datacenter = any(line.words == ("frr", "defaults", "datacenter") for line in text.top)
    holds = [_number(line, 3) for line in lines if line.starts("timers", "bgp")]
    holds += [_number(one["timers"], 4) for one in neighbors if "timers" in one]
    retries = [_number(one["timers connect"], 4) for one in neighbors if "timers connect" in one]
    pauses = [_number(one["advertisement-interval"], 3) for one in neighbors if "advertisement-interval" in one]
    times = [_number(line, 3) for line in lines if line.starts("bgp", "graceful-restart", "restart-time")]
    default = _DATACENTER_HOLD_S if is_datacenter else _TRADITIONAL_HOLD_S
    return Style(
        hold_s=min(filter(None, holds), default=default),
        retry_s=float(min(filter(None, retries), default=_RETRY_S)),
        mrai_s=float(max(pauses, default=0)),
        helps=not any(line.starts("bgp", "graceful-restart-disable") for line in lines),
        restarts=any(line.words == ("bgp", "graceful-restart") for line in lines),
        restart_time_s=max(times, default=_RESTART_TIME_S),
        by_notification=any(line.starts("bgp", "graceful-restart", "notification") for line in lines),
    )


def _number(line: Line, at: int) -> int:
    return int(line.word(at)) if line.word(at).isdecimal() else 0
