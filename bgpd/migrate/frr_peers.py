"""Neighbors and peer groups of FRR: their commands, general and by address family, with what groups say."""

from __future__ import annotations

import msgspec

from bgpd.migrate.draft import Place
from bgpd.migrate.frr_text import Line, Router, is_address

_ARGUMENT = {"route-map", "prefix-list", "filter-list", "distribute-list"}
"""Commands that there are two of, for "in" and for "out"."""


_DEFAULT_FAMILIES = {("ipv4-unicast",), ("ipv6-unicast",), ("l2vpn-evpn",)}
"""What may stand behind "bgp default" that says which families neighbors have without "activate"."""


class Peer(msgspec.Struct):
    """A neighbor or peer group: its commands by name, those of families by family, and where it began."""

    name: str
    place: Place
    general: dict[str, Line] = {}
    families: dict[str, dict[str, Line]] = {}
    is_group: bool = False


class Peers:
    """The neighbors and groups of one router."""

    def __init__(self, router: Router) -> None:
        self.found: dict[str, Peer] = {}
        self.ranges: list[Line] = []
        defaults = {"ipv4-unicast": True}
        for line in router.lines:
            self._take(line, "")
            words = line.words[1:] if is_off(line) else line.words
            if words[:2] == ("bgp", "default") and words[2:] in _DEFAULT_FAMILIES:
                defaults[words[2]] = not is_off(line)
        self.default_families = [family for family, is_default in defaults.items() if is_default]
        for family, lines in router.families.items():
            for line in lines:
                self._take(line, family)

    def _take(self, line: Line, family: str) -> None:
        words = line.words[1:] if line.words[0] == "no" else line.words
        if words[:3] == ("bgp", "listen", "range"):
            self.ranges.append(line)
        if words[0] != "neighbor" or len(words) < 3:
            return
        peer = self.found.setdefault(words[1], Peer(words[1], line.place))
        if words[2:] == ("peer-group",) and line.words[0] != "no":
            peer.is_group = True
            return
        if words[2] == "interface":
            self._take_interface(peer, line)
            return
        into = peer.families.setdefault(family, {}) if family else peer.general
        into[_command(words)] = line

    def _take_interface(self, peer: Peer, line: Line) -> None:
        peer.general["interface"] = line
        if is_address(peer.name):
            return
        for word in ("remote-as", "peer-group"):
            if value := line.after(word):
                peer.general[word] = Line(("neighbor", peer.name, word, value), line.place)

    def settings(self, peer: Peer) -> Peer:
        """A neighbor with what its group says where it says nothing itself."""
        line = peer.general.get("peer-group") or next(
            (one["peer-group"] for one in peer.families.values() if "peer-group" in one), None
        )
        group = self.found.get(line.word(3)) if line is not None and len(line.words) > 3 else None
        if group is None:
            return peer
        families = {
            name: {**group.families.get(name, {}), **peer.families.get(name, {})}
            for name in dict.fromkeys((*group.families, *peer.families))
        }
        return Peer(peer.name, peer.place, {**group.general, **peer.general}, families)


def _command(words: tuple[str, ...]) -> str:
    if words[2] in _ARGUMENT and len(words) > 3:
        return f"{words[2]} {words[-1]}"
    if words[2] == "timers" and words[3:4] == ("connect",):
        return "timers connect"
    return words[2]


def is_off(line: Line) -> bool:
    """Whether a statement takes something away."""
    return line.words[0] == "no"
