"""Configurations of Arista EOS as the statements of FRR that mean the same, as far as they are of BGP or of what it
announces. What is of BGP and has no such statement is told (`unread`); all else makes no difference here.

EOS differs by its defaults: policies are not required, other AS numbers are as good for several ways, and one way is
used unless maximum-paths says more. Contexts are known by indentation, as EOS writes them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from bgpd.migrate.draft import Place
from bgpd.migrate.frr_text import Line
from bgpd.simulation.frr_matches import network_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PREFIX = re.compile(r"(?P<kind>[A-Za-z]+)(?P<number>[\d/]+)")
_NAMES = {"et": "eth", "eth": "eth", "ethernet": "eth", "lo": "Loopback", "loopback": "Loopback", "vl": "Vlan"}
_FAMILIES = {
    "evpn": ("l2vpn", "evpn"),
    "ipv4": ("ipv4", "unicast"),
    "ipv6": ("ipv6", "unicast"),
}
_FILTERS = ("route-map", "prefix-list")
_SAME = _words("""
    description update-source ebgp-multihop send-community password next-hop-self
    route-reflector-client allowas-in shutdown passive activate default-originate enforce-first-as
    """)
"""Commands of neighbors that FRR has, too."""
_NO_MATTER = _words("""
    rib-in ttl next-hop-unchanged next-hop encapsulation idle-restart-timer auto-local-addr
    additional-paths missing-policy link-bandwidth route-to-peer graceful-restart-helper dont-capability-negotiate
    """)
"""Those that make no difference for who reaches what."""
_ROUTER_NO_MATTER = _words("distance update rd vlan vlan-aware-bundle ucmp monitoring logging route")


def port_name(name: str) -> str:
    """An interface as containerlab names it: Ethernet3/1 is eth3_1."""
    found = _PREFIX.fullmatch(name)
    if found is None:
        return name
    kind = _NAMES.get(found["kind"].lower(), found["kind"])
    return f"{kind}{found['number'].replace('/', '_')}"


def port_names(text: str) -> Iterator[str]:
    """Those of a list such as Ethernet1-3,5."""
    kind = text.rstrip("0123456789-,/")
    for part in text[len(kind) :].split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last) + 1) if first.isdecimal() and last.isdecimal() else (part,)
        yield from (port_name(f"{kind}{number}") for number in numbers)


class EosReader:
    """Reads one configuration. `lines`: statements of FRR, each where it came from. `unread`: what is not simulated.
    `ports`: names of interfaces, as the topology has them."""

    def __init__(self, file: str, ports: Iterable[str] = ()) -> None:
        self._names = {port_name(one): one for one in ports}
        self.lines: list[Line] = []
        self.unread: dict[str, None] = {}
        self._file = file
        self._place = Place(file)
        self._asn = ""
        self._vrfs: dict[str, str] = {}
        """Of interfaces that are in one."""
        self._connected: dict[str, list[str]] = {}
        """Networks of each VRF."""
        self._access: dict[str, str] = {}
        """The VLAN of each port that is in one."""
        self._addresses: dict[str, list[str]] = {}
        self._has_ways = False

    def read(self, text: str) -> None:
        """All of it. Raises: ImportFailed: an address has an error."""
        found = re.search(r"^router bgp (\S+)", text, re.MULTILINE)
        self._asn = _number(found[1]) if found is not None else ""
        above: list[tuple[int, tuple[str, ...]]] = []
        for number, raw in enumerate(text.split("\n"), 1):
            words = tuple(raw.split())
            if not words or words[0].startswith("!"):
                continue
            indent = len(raw) - len(raw.lstrip())
            while above and above[-1][0] >= indent:
                above.pop()
            self._place = Place(self._file, number)
            self._take(tuple(header for _, header in above), words)
            above.append((indent, words))
        self._place = Place(self._file)
        self._end()

    def _say(self, *words: str) -> None:
        self.lines.append(Line(words, self._place))

    def _tell(self, words: tuple[str, ...]) -> None:
        self.unread[str(Line(words, self._place))] = None

    def _take(self, above: tuple[tuple[str, ...], ...], words: tuple[str, ...]) -> None:
        match above, words:
            case (), ("router", "bgp", _):
                self._say("router", "bgp", self._asn)
                self._say("no", "bgp", "ebgp-requires-policy")
                self._say("bgp", "bestpath", "as-path", "multipath-relax")
            case (), ("router", *_) if words[1] not in ("general", "l2-vpn", "multicast", "traffic-engineering"):
                self._tell((*words, "(another protocol)"))
            case (), ("ip" | "ipv6", "prefix-list", _, _, *_):
                self._say(*_lengths(words))
            case (), ("ip" | "ipv6", "route", *_) if "vrf" not in words:
                self._say(*words)
            case (), ("ip", "community-list" | "as-path", *_):
                self._say(*("expanded" if one == "regexp" else one for one in words if one != "any"))
            case (), ("route-map", name, action, number, *_):
                self._say("route-map", name, action, number)
            case (), ("route-map", name, *rest):
                self._say("route-map", name, *(rest or ["permit"]), "10")
            case (("ip" | "ipv6" as version, "prefix-list", name), *_), ("seq", *_):
                self._say(*_lengths((version, "prefix-list", name, *words)))
            case (("route-map", *_), *_), _ if words[0] in ("match", "set", "continue", "description"):
                self._say(*(self._asn if one == "auto" else one for one in words))
            case (("route-map", *header), *_), _:
                self._tell(("route-map", *header, *words))
            case (("interface", name, *_), *_), _:
                self._of_interface(self._port(name), words)
            case (("router", "bgp", *_), *inner), _:
                self._of_bgp(tuple(inner), words)

    def _port(self, name: str) -> str:
        return self._names.get(port_name(name), port_name(name))

    def _of_interface(self, name: str, words: tuple[str, ...]) -> None:
        match words:
            case ("vrf", vrf):
                self._vrfs[name] = vrf
            case ("ip" | "ipv6", "address", *rest):
                for one in (one for one in rest if "/" in one):
                    network_of(one, Line(words, self._place))
                    self._addresses.setdefault(name, []).append(one)
            case ("switchport", "access", "vlan", number):
                self._access[name] = number
            case ("vxlan", "vrf", vrf, "vni", vni):
                for line in (("vrf", vrf), ("vni", vni), ("exit-vrf",)):
                    self._say(*line)

    # BGP

    def _of_bgp(self, above: tuple[tuple[str, ...], ...], words: tuple[str, ...]) -> None:
        match above:
            case ():
                self._of_router(words)
            case (("address-family", name, *_), *_) if name in _FAMILIES:
                self._inside(_FAMILIES[name], words)
            case (("vrf", vrf), *_):
                self._of_vrf(vrf, words)
            case (("vlan" | "vlan-aware-bundle", *_), *_):
                pass  # leaves have no workloads of their own
            case _:
                self._tell(words)

    def _inside(self, family: tuple[str, ...], words: tuple[str, ...]) -> None:
        if words[0] == "neighbor" or words[:2] == ("no", "neighbor"):
            translated = self._neighbor(words)
        elif words[0] in ("network", "redistribute", "aggregate-address", "bgp"):
            translated = [words]
        elif words[0] == "route" or family[0] == "l2vpn":
            translated = []
        else:
            self._tell(words)
            return
        self._in_family(family, translated)

    def _in_family(self, family: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
        self._say("router", "bgp", self._asn)
        self._say("address-family", *family)
        for line in lines:
            self._say(*line)
        self._say("exit-address-family")

    def _of_router(self, words: tuple[str, ...]) -> None:
        self._say("router", "bgp", self._asn)
        match words:
            case ("router-id", number) | ("bgp", "router-id", number):
                self._say("bgp", "router-id", number)
            case ("maximum-paths", number, *_):
                self._has_ways = True
                self._say("maximum-paths", number)
            case ("graceful-restart",):
                self._say("bgp", "graceful-restart")
            case ("graceful-restart", "restart-time", seconds):
                self._say("bgp", "graceful-restart")
                self._say("bgp", "graceful-restart", "restart-time", seconds)
            case ("no", "graceful-restart-helper"):
                self._say("bgp", "graceful-restart-disable")
            case ("neighbor", "interface", names, "peer-group" | "peer", *rest):
                self._by_interfaces(names, [one for one in rest if one != "group"])
            case ("bgp", "listen", "range", prefix, "peer-group", group, *rest):
                self._say("neighbor", group, "remote-as", _remote_as(rest))
                self._say("bgp", "listen", "range", prefix, "peer-group", group)
            case ("neighbor", *_) | ("no", "neighbor", *_):
                for line in self._neighbor(words):
                    self._for_both(line)
            case ("network" | "aggregate-address", prefix, *_) if ":" in prefix:
                self._in_family(_FAMILIES["ipv6"], [words])
            case ("redistribute", *_):
                self._say(*words)
                self._in_family(_FAMILIES["ipv6"], [words])
            case ("network" | "aggregate-address" | "timers" | "bgp", *_) | ("no", "bgp", *_):
                self._say(*words)
            case ("address-family" | "vrf" | "no" | "default", *_):
                pass
            case _ if words[0] not in _ROUTER_NO_MATTER:
                self._tell(words)

    def _for_both(self, line: tuple[str, ...]) -> None:
        """Filters of no address family are of IPv4 and IPv6."""
        self._say(*line)
        if line[2:3] and line[2] in _FILTERS:
            self._in_family(_FAMILIES["ipv6"], [line])

    def _by_interfaces(self, names: str, rest: list[str]) -> None:
        """`neighbor interface Et1-4 peer-group GROUP [remote-as NUMBER | peer-filter NAME]`."""
        for name in map(self._port, port_names(names)):
            self._say("neighbor", name, "interface", "peer-group", rest[0])
            if len(rest) > 1:
                self._say("neighbor", name, "interface", "remote-as", _remote_as(rest[1:]))

    def _neighbor(self, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        off, words = (words[:1], words[1:]) if words[0] == "no" else ((), words)
        name, command, rest = words[1], words[2] if len(words) > 2 else "", words[3:]
        before = (*off, "neighbor", name)
        match (command, *rest):
            case ("peer", "group", *group) | ("peer-group", *group):
                return [(*before, "peer-group", *group)]
            case ("bfd", "interval", interval, "min-rx" | "min_rx", least, "multiplier", number):
                return [(*before, "bfd", number, least, interval)]
            case ("bfd", *_):
                return [(*before, "bfd")]
            case ("timers", keepalive, hold):
                return [(*before, "timers", keepalive, hold)]
            case ("out-delay", seconds):
                return [(*before, "advertisement-interval", seconds)]
            case ("as-path", "remote-as", "replace", "out"):
                return [(*before, "as-override")]
            case (("route-map" | "prefix-list"), _, "in" | "out"):
                return [(*before, command, *rest)]
            case ("remote-as" | "local-as", number, *more):
                return [(*before, command, _number(number), *more)]
            case _ if command in _SAME:
                return [(*before, command, *rest)]
            case _ if command not in _NO_MATTER and name != "default":
                self._tell((*off, *words))
        return []

    def _of_vrf(self, vrf: str, words: tuple[str, ...]) -> None:
        self._say("router", "bgp", self._asn, "vrf", vrf)
        match words:
            case ("route-target", "export", *_):
                self._say("address-family", "l2vpn", "evpn")
                self._say("route-target", "export", words[-1])
                for version in ("ipv4", "ipv6"):
                    self._say("advertise", version, "unicast")
                self._say("exit-address-family")
            case ("network" | "neighbor", *_):
                self._say(*words)
            case ("redistribute", "connected", *_):
                self._connected.setdefault(vrf, [])
            case ("redistribute" | "aggregate-address", *_):
                self._tell((*words, f"(of VRF {vrf})"))

    def _end(self) -> None:
        """What depends on all of it: addresses of interfaces, and which networks VRFs announce."""
        for name, number in self._access.items():
            self._addresses.setdefault(name, []).extend(self._addresses.get(f"Vlan{number}", ()))
        for name, addresses in self._addresses.items():
            vrf = self._vrfs.get(name, "")
            if vrf in self._connected:
                self._connected[vrf] += [str(ipaddress.ip_interface(one).network) for one in addresses]
            elif not vrf:
                self._say("interface", name)
                for one in addresses:
                    self._say("ipv6" if ":" in one else "ip", "address", one)
        for vrf, networks in self._connected.items():
            self._say("router", "bgp", self._asn, "vrf", vrf)
            for network in dict.fromkeys(networks):
                self._say("network", network)
        if self._asn and not self._has_ways:
            self._say("router", "bgp", self._asn)
            self._say("maximum-paths", "1")


def _number(asn: str) -> str:
    """An AS number; "65000.7" as one number (RFC 5396)."""
    high, _, low = asn.partition(".")
    return str(int(high) << 16 | int(low)) if high.isdecimal() and low.isdecimal() else asn


def _remote_as(words: list[str]) -> str:
    """A number; one that a peer filter chooses is another than the own one."""
    return _number(words[1]) if words[:1] == ["remote-as"] and len(words) > 1 else "external"


def _lengths(words: tuple[str, ...]) -> tuple[str, ...]:
    """`eq N` as FRR says it."""
    if "eq" not in words[:-1]:
        return words
    at = words.index("eq")
    return (*words[:at], "ge", words[at + 1], "le", words[at + 1], *words[at + 2 :])
