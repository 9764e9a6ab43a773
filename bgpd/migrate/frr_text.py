"""frr.conf (FRR 7 to 10) as statements in their contexts: routers, interfaces, VRFs, lists, route maps, BFD profiles.

Decides which context a line belongs to, by its words and not by its indentation, as FRR does; says nothing of what the
lines mean.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from bgpd.migrate.draft import ImportFailed, Place

MOST_LINES = 500_000
_SECRETS = ("password", "key-string", "authentication-key", "message-digest-key")


class Line(NamedTuple):
    """One statement: its words, and where it stands."""

    words: tuple[str, ...]
    place: Place

    def __str__(self) -> str:
        """Its text, for a comment; what follows "password" is not shown."""
        for index, word in enumerate(self.words):
            if word in _SECRETS:
                return " ".join((*self.words[: index + 1], "..."))
        return " ".join(self.words)

    def word(self, index: int) -> str:
        """One of its words; "" if it has fewer."""
        return self.words[index] if index < len(self.words) else ""

    def starts(self, *words: str) -> bool:
        """Whether it begins with these words."""
        return self.words[: len(words)] == words

    def after(self, word: str) -> str:
        """The word that follows another; "" if there is none."""
        index = self.words.index(word) if word in self.words else len(self.words)
        return self.words[index + 1] if index + 1 < len(self.words) else ""


class Router(msgspec.Struct):
    """One "router bgp": its lines, and those of each address family ("ipv4 unicast" as "ipv4-unicast")."""

    asn: str
    vrf: str
    place: Place
    lines: list[Line]
    families: dict[str, list[Line]]


class MapEntry(msgspec.Struct):
    """One "route-map NAME permit|deny NUMBER"."""

    permits: bool
    number: int
    place: Place
    lines: list[Line]


class FrrText(msgspec.Struct):
    """All of one or several frr.conf."""

    routers: list[Router] = []
    interfaces: dict[str, list[Line]] = {}
    vrfs: dict[str, list[Line]] = {}
    route_maps: dict[str, list[MapEntry]] = {}
    prefix_lists: dict[str, list[Line]] = {}
    lists: dict[tuple[str, str], list[Line]] = {}
    bfd_profiles: dict[str, list[Line]] = {}
    top: list[Line] = []
    unknown: list[Line] = []


def _words(text: str) -> list[str]:
    return text.split()


_IN_ROUTER = frozenset(
    _words("""
    bgp neighbor network aggregate-address redistribute timers no maximum-paths distance table-map vnc advertise
    advertise-all-vni advertise-default-gw advertise-svi-ip rd route-target rt import export label nexthop-group
    segment-routing update-delay coalesce-time write-quanta read-quanta dampening default-originate sid mpls
    autort dup-addr-detection use-es-l3nhg disable-ead-evi-rx disable-ead-evi-tx ead-es-frag ead-es-route-target
    flooding vni write-multiplier
    """)
)
_IN_MAP = frozenset(("match", "set", "call", "continue", "on-match", "description", "no"))
_IN_INTERFACE = frozenset(
    _words("""
    ip ipv6 description bandwidth shutdown link-detect no multicast mpls evpn link-params bfd vrrp ospf isis pim
    igmp link-speed
    """)
)
_LISTS = {
    "bgp community-list": "community-list",
    "bgp large-community-list": "large-community-list",
    "bgp extcommunity-list": "extcommunity-list",
    "bgp as-path": "as-path",
    "ip community-list": "community-list",
    "ip as-path": "as-path",
}
_OF_TOP_IP = frozenset(
    _words("""
    prefix-list route access-list protocol router-id forwarding import-table nht community-list as-path mroute
    multicast ssmpingd msdp pim igmp extcommunity-list large-community-list
    """)
)


class _Reader:
    def __init__(self, found: FrrText) -> None:
        self._found = found
        self._context: str = ""
        self._lines: list[Line] = []
        self._router: Router | None = None

    def take(self, line: Line) -> None:
        """File one line under the context that it belongs to, or begins."""
        words = line.words
        if words[0] in ("exit", "end", "exit-vrf", "quit", "exit-address-family", "exit-bfd"):
            self._leave(words[0])
        elif not self._begins(line) and not self._belongs(line):
            self._context, self._router = "", None
            (self._found.top if self._is_known(line) else self._found.unknown).append(line)

    def _leave(self, word: str) -> None:
        if self._context == "family" and self._router is not None and word in ("exit", "exit-address-family", "quit"):
            self._context, self._lines = "router", self._router.lines
        elif self._context == "profile" and word == "exit":
            self._context = "bfd"
        elif word != "exit-address-family":
            self._context, self._router = "", None

    def _begins(self, line: Line) -> bool:
        """Whether the line begins a context, or is of a list that has lines of its own."""
        words = line.words
        match words:
            case ("router", "bgp", *rest):
                self._begin_router(line, rest)
            case ("address-family", *rest) if self._router is not None:
                family = _family_name(rest)
                self._enter("family", self._router.families.setdefault(family, []))
            case ("interface", name, *_):
                self._enter("interface", self._found.interfaces.setdefault(name, []))
            case ("vrf", name):
                self._enter("vrf", self._found.vrfs.setdefault(name, []))
            case ("route-map", name, "permit" | "deny", number, *_) if number.isdecimal() and len(number) < 10:
                entry = MapEntry(words[2] == "permit", int(number), line.place, [])
                self._found.route_maps.setdefault(name, []).append(entry)
                self._enter("route-map", entry.lines)
            case ("bfd",) if self._context != "interface":
                self._enter("bfd", [])
            case ("profile", name) if self._context in ("bfd", "profile"):
                self._enter("profile", self._found.bfd_profiles.setdefault(name, []))
            case ("peer", *_) if self._context in ("bfd", "profile"):
                self._enter("profile", [])
            case ("ip" | "ipv6", "prefix-list", name, *_):
                self._found.prefix_lists.setdefault(f"{words[0]} {name}", []).append(line)
            case ("access-list", name, *_) | ("ip" | "ipv6", "access-list", name, *_):
                version = "ipv6" if words[0] == "ipv6" else "ip"
                self._found.lists.setdefault((f"{version} access-list", name), []).append(line)
            case _:
                return self._is_of_list(line)
        return True

    def _begin_router(self, line: Line, rest: list[str]) -> None:
        vrf = line.after("vrf") or (f"view {line.after('view')}" if "view" in rest else "")
        asn = rest[0] if rest and rest[0] not in ("vrf", "view") else ""
        for router in self._found.routers:
            if (router.asn, router.vrf) == (asn, vrf):
                self._router = router
                break
        else:
            self._router = Router(asn, vrf, line.place, [], {})
            self._found.routers.append(self._router)
        self._enter("router", self._router.lines)

    def _is_of_list(self, line: Line) -> bool:
        kind = _LISTS.get(" ".join(line.words[:2]))
        if kind is None:
            return False
        rest = [word for word in line.words[2:] if word not in ("access-list", "standard", "expanded")]
        if not rest:
            return False
        self._found.lists.setdefault((kind, rest[0]), []).append(line)
        return True

    def _enter(self, context: str, lines: list[Line]) -> None:
        self._context, self._lines = context, lines
        if context not in ("router", "family"):
            self._router = None

    def _belongs(self, line: Line) -> bool:
        """Whether the line is of the context that is open."""
        first = line.words[0]
        second = line.words[1] if len(line.words) > 1 else ""
        is_in = {
            "router": first in _IN_ROUTER,
            "family": first in _IN_ROUTER,
            "route-map": first in _IN_MAP,
            "interface": first in _IN_INTERFACE and not (first in ("ip", "ipv6") and second in _OF_TOP_IP),
            "vrf": first in ("ip", "ipv6", "vni", "netns", "no") and second != "prefix-list",
            "bfd": True,
            "profile": True,
        }.get(self._context, False)
        if is_in and self._context in ("bfd", "profile") and self._is_known(line):
            return False
        if is_in:
            self._lines.append(line)
        return is_in

    def _is_known(self, line: Line) -> bool:
        return line.words[0] in _TOP


_TOP = frozenset(
    _words("""
    frr hostname domainname log service ip ipv6 router router-id line password enable debug no banner agentx zebra vrf
    nexthop pbr-map key mpls segment-routing bgp fpm allow-external-route-update route-map rpki watchfrr
    """)
)


def _family_name(words: list[str]) -> str:
    """ "ipv4 unicast" as "ipv4-unicast"; what is not said is unicast."""
    if not words:
        return "ipv4-unicast"
    second = words[1] if len(words) > 1 and words[1] != "vrf" else ("evpn" if words[0] == "l2vpn" else "unicast")
    return f"{words[0]}-{second}"


def read_lines(lines: Iterable[Line], found: FrrText) -> None:
    """Add statements to what was found before."""
    reader = _Reader(found)
    for line in lines:
        reader.take(line)


_WORD = re.compile(r"\S+")


def read_frr_text(text: str, file: str, found: FrrText) -> None:
    """Add what a text holds to what was found before."""
    reader = _Reader(found)
    for number, raw in enumerate(text.split("\n"), 1):
        if number > MOST_LINES:
            raise ImportFailed(Place(file, number), f"has more than {MOST_LINES} lines")
        words = tuple(_WORD.findall(raw))
        if words and words != ("no",) and not words[0].startswith(("!", "#")):
            reader.take(Line(words, Place(file, number)))


def is_address(text: str) -> bool:
    """Whether it is an IP address, with or without a scope."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
