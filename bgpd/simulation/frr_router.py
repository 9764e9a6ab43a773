"""What frr.conf says of a router that matters to a simulation: AS, timers, graceful restart, prefixes, and of each
neighbor its AS, families, BFD and filters; of VRFs what they announce by EVPN. `unread` says what else would matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.frr_peers import Peer, Peers, is_address, is_off
from bgpd.migrate.frr_text import FrrText, Line, Router, read_frr_text
from bgpd.simulation import evpn
from bgpd.simulation.frr_filters import CODES, Filters, filters_of, network_of
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.router import Style
from bgpd.simulation.wire import Codes, Route

_TRADITIONAL_HOLD_S, _DATACENTER_HOLD_S = 180, 9
_RETRY_S = 10.0
_RESTART_TIME_S = 120
_OWN_AS = 3
_BFD = Pace(0.3, 3)
"""What FRR does where nothing is said."""
_UNREAD = (
    ("aggregate-address",),
    ("bgp", "confederation"),
    ("bgp", "dampening"),
    ("bgp", "long-lived-graceful-restart"),
    ("import", "vrf"),
)
_UNREAD_OF_NEIGHBORS = (
    "advertise-map",
    "as-override",
    "local-as",
    "maximum-prefix",
    "remove-private-AS",
    "unsuppress-map",
)


class FrrNeighbor(msgspec.Struct, frozen=True, kw_only=True):
    """`remote_as`: a number, "external" or "internal". `families`: the activated ones. `bfd`: None without.
    `is_client`: of route reflection; `keeps_next_hops`: it is told those of others (no next-hop-self). `own_as`: how
    often its paths may have the router's AS (allowas-in)."""

    remote_as: str
    families: tuple[Codes, ...]
    bfd: Pace | None
    filters: Filters
    is_client: bool = False
    keeps_next_hops: bool = False
    own_as: int = 0


class FrrRouter(msgspec.Struct, kw_only=True):
    """`neighbors` by interface or address, `ranges` those that may connect from a network. `addresses`: of its
    interfaces, with their lengths. `own`: prefixes that it announces itself, `tenants`: by EVPN."""

    asn: int
    router_id: str
    style: Style
    own: tuple[str, ...]
    tenants: dict[str, Route]
    neighbors: dict[str, FrrNeighbor]
    ranges: dict[str, FrrNeighbor]
    addresses: dict[str, list[str]]
    unread: tuple[str, ...]

    def neighbor_at(self, interface: str) -> FrrNeighbor | None:
        """What is expected of a neighbor at this interface; None: there is to be no session."""
        if interface in self.neighbors:
            return self.neighbors[interface]
        for text in self.addresses.get(interface, ()):
            network = ipaddress.ip_interface(text).network
            for name, expected in self.neighbors.items():
                if is_address(name) and ipaddress.ip_address(name) in network:
                    return expected
            for name, expected in self.ranges.items():
                if _overlap(network, ipaddress.ip_network(name, strict=False)):
                    return expected
        return None


def _overlap(one: object, two: object) -> bool:
    return one.version == two.version and one.overlaps(two)  # type: ignore[attr-defined, no-any-return]


def read_frr_router(path: Path) -> FrrRouter:
    """The router of the main table in a frr.conf. Raises: ImportFailed: it has none, or cannot be read."""
    place = Place(str(path))
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportFailed(place, f"cannot be read: {error.strerror}", "bind another file") from None
    except UnicodeDecodeError:
        raise ImportFailed(place, "is no text in UTF-8", "a frr.conf is text") from None
    text = FrrText()
    read_frr_text(source, str(path), text)
    router = next((one for one in text.routers if not one.vrf), None)
    if router is None or not router.asn.isdecimal():
        raise ImportFailed(place, 'has no "router bgp ASN" of the main table', "the simulation needs the AS number")
    peers = Peers(router)
    settings = {name: peers.settings(peer) for name, peer in peers.found.items() if not peer.is_group}
    reader = _Neighbors(text, router, peers)
    neighbors = {name: found for name, peer in settings.items() if (found := reader.read(peer)) is not None}
    addresses = {name: _addresses(lines) for name, lines in text.interfaces.items()}
    router_id = _router_id(router)
    return FrrRouter(
        asn=int(router.asn),
        router_id=router_id,
        style=_style(router, text, [peer.general for peer in settings.values()]),
        own=tuple(dict.fromkeys(_announced(router, addresses))),
        tenants=dict(_tenants(text, int(router.asn), router_id)),
        neighbors=neighbors,
        ranges={str(network_of(one.word(3), one)): reader.of_range(one) for one in peers.ranges if not is_off(one)},
        addresses=addresses,
        unread=tuple(dict.fromkeys(_unread(router, settings))),
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


def _own_as(commands: dict[str, Line]) -> int:
    line = commands.get("allowas-in")
    return 0 if line is None or is_off(line) else _number(line, 3) or (1 if line.word(3) == "origin" else _OWN_AS)


def _unread(router: Router, settings: dict[str, Peer]) -> Iterator[str]:
    """Statements that make a difference, and are not simulated."""
    for line in (one for lines in (router.lines, *router.families.values()) for one in lines):
        is_other = line.starts("redistribute") and line.word(1) != "connected"
        if is_other or any(line.starts(*words) for words in _UNREAD):
            yield str(line)
    for peer in settings.values():
        for commands in (peer.general, *peer.families.values()):
            yield from (str(line) for name, line in commands.items() if name in _UNREAD_OF_NEIGHBORS)


class _Neighbors:
    """Reads the neighbors of one router."""

    def __init__(self, text: FrrText, router: Router, peers: Peers) -> None:
        self._text = text
        self._peers = peers
        self._asn = int(router.asn)
        is_off_for_all = any(line.words == ("no", "bgp", "ebgp-requires-policy") for line in router.lines)
        self._requires_policy = not is_off_for_all and not _is_datacenter(text)

    def read(self, peer: Peer) -> FrrNeighbor | None:
        """None: it has no AS, and so no session."""
        line = peer.general.get("remote-as")
        if line is None or "shutdown" in peer.general:
            return None
        remote_as = line.word(3)
        is_internal = remote_as in ("internal", str(self._asn))
        return FrrNeighbor(
            remote_as=remote_as,
            families=tuple(codes for name, codes in CODES.items() if self._is_activated(peer, name)),
            bfd=self._bfd(peer.general.get("bfd")),
            is_client=_has(peer, "route-reflector-client"),
            keeps_next_hops=is_internal and not _has(peer, "next-hop-self"),
            own_as=max(map(_own_as, (peer.general, *peer.families.values()))),
            filters=filters_of(
                self._text,
                peer.general,
                peer.families,
                asn=self._asn,
                requires=self._requires_policy and not is_internal,
            ),
        )

    def of_range(self, line: Line) -> FrrNeighbor:
        """`bgp listen range PREFIX peer-group NAME`."""
        group = self._peers.found.get(line.after("peer-group"))
        found = self.read(group) if group is not None else None
        return found or FrrNeighbor(
            remote_as="external", families=tuple(CODES.values()), bfd=None, filters=Filters(None, None, (), ())
        )

    def _is_activated(self, peer: Peer, family: str) -> bool:
        line = peer.families.get(family, {}).get("activate")
        return not is_off(line) if line is not None else family in self._peers.default_families

    def _bfd(self, line: Line | None) -> Pace | None:
        """`neighbor N bfd [MULTIPLIER RECEIVE_MS TRANSMIT_MS]` or `... bfd profile NAME`."""
        if line is None or is_off(line):
            return None
        numbers = [int(word) for word in line.words[3:] if word.isdecimal()]
        if len(numbers) == 3:
            return Pace(numbers[2] / 1000, numbers[0])
        profile = {one.words[0]: one.word(1) for one in self._text.bfd_profiles.get(line.after("profile"), ())}
        multiplier, transmit = profile.get("detect-multiplier", ""), profile.get("transmit-interval", "")
        return Pace(
            int(transmit) / 1000 if transmit.isdecimal() else _BFD.interval_s,
            int(multiplier) if multiplier.isdecimal() else _BFD.multiplier,
        )


def _has(peer: Peer, command: str) -> bool:
    """In any family."""
    return any(command in commands for commands in (peer.general, *peer.families.values()))


def _is_datacenter(text: FrrText) -> bool:
    return any(line.words == ("frr", "defaults", "datacenter") for line in text.top)


def _addresses(lines: list[Line]) -> list[str]:
    found = [line for line in lines if line.words[1:2] == ("address",) and "/" in line.word(2)]
    for line in found:
        network_of(line.word(2), line)
    return [line.word(2) for line in found]


def _announced(router: Router, addresses: dict[str, list[str]]) -> Iterator[str]:
    for family, lines in (("ipv4-unicast", router.lines), *router.families.items()):
        if family not in ("ipv4-unicast", "ipv6-unicast"):
            continue
        for line in lines:
            if line.starts("network") and "/" in line.word(1):
                yield str(network_of(line.word(1), line))
            elif line.starts("redistribute", "connected"):
                networks = [ipaddress.ip_interface(one).network for found in addresses.values() for one in found]
                yield from (str(one) for one in networks if f"ipv{one.version}-unicast" == family)
            elif line.starts("neighbor") and line.word(2) == "default-originate":
                yield "0.0.0.0/0" if family == "ipv4-unicast" else "::/0"


def _tenants(text: FrrText, asn: int, router_id: str) -> Iterator[tuple[str, Route]]:
    """The type 5 routes of VRFs with `vni N` whose router has `advertise ipv4|ipv6 unicast`: of its networks."""
    for number, router in enumerate(one for one in text.routers if one.vrf and not one.vrf.startswith("view ")):
        overlay = router.families.get("l2vpn-evpn", [])
        vni = next((_number(line, 1) for line in text.vrfs.get(router.vrf, ()) if line.starts("vni")), 0)
        exported = next((line.word(2) for line in overlay if line.starts("route-target", "export")), f"{asn}:{vni}")
        high, _, low = exported.partition(":")
        if not vni or not (high.isdecimal() and low.isdecimal()):
            continue
        rd = evpn.distinguisher(ipaddress.IPv4Address(router_id or "10.255.255.255").packed, 1 + number)
        route = Route(
            peer=None, extended=evpn.carried(evpn.target(int(high) & 0xFFFF, int(low))), label=vni.to_bytes(3, "big")
        )
        for prefix in _announced(router, {}):
            version = "ipv6" if ":" in prefix else "ipv4"
            if any(line.starts("advertise", version, "unicast") for line in overlay):
                yield evpn.ip_prefix(rd, prefix), route


def _style(router: Router, text: FrrText, neighbors: list[dict[str, Line]]) -> Style:
    lines = router.lines
    holds = [_number(line, 3) for line in lines if line.starts("timers", "bgp")]
    holds += [_number(one["timers"], 4) for one in neighbors if "timers" in one]
    retries = [_number(one["timers connect"], 4) for one in neighbors if "timers connect" in one]
    pauses = [_number(one["advertisement-interval"], 3) for one in neighbors if "advertisement-interval" in one]
    times = [_number(line, 3) for line in lines if line.starts("bgp", "graceful-restart", "restart-time")]
    default = _DATACENTER_HOLD_S if _is_datacenter(text) else _TRADITIONAL_HOLD_S
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
