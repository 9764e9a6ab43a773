"""What frr.conf says of neighbors: their AS, families, timers, BFD and filters; and which of them are at the other end
of a link."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from bgpd.migrate.frr_peers import Peer, Peers, is_off
from bgpd.migrate.frr_text import FrrText, Line, Router, is_address
from bgpd.simulation.frr_filters import CODES, Filters, filters_of
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.peer import Filter, LocalAs
from bgpd.simulation.wire import Codes, Route, codes_of

_OWN_AS = 3
_BFD = Pace(0.3, 3)
"""What FRR does where nothing is said."""


class FrrNeighbor(msgspec.Struct, frozen=True, kw_only=True):
    """`remote_as`: a number, "external" or "internal". `families`: the activated ones, and `with_default` those in
    which it is told a default route. `bfd`: None without. `hold_s`: 0 as the router's others. `is_client`: of route
    reflection; `keeps_next_hops`: it is told those of others (no next-hop-self). `own_as`: how often its paths may have
    the router's AS (allowas-in); `overrides_as`: its own AS is told as the router's (as-override); `local_as`: which AS
    the router is for it, where that is another one (local-as)."""

    remote_as: str
    families: tuple[Codes, ...]
    bfd: Pace | None
    filters: Filters
    hold_s: int = 0
    with_default: tuple[Codes, ...] = ()
    is_client: bool = False
    is_passive: bool = False
    is_shut: bool = False
    keeps_next_hops: bool = False
    own_as: int = 0
    overrides_as: bool = False
    local_as: LocalAs | None = None


class Neighbors(NamedTuple):
    """Of one router, by interface or address; `ranges`: those that may connect from a network. `addresses`: of its
    interfaces, with their lengths. `met`: the names of those that are at a link."""

    named: Mapping[str, FrrNeighbor]
    ranges: Mapping[str, FrrNeighbor]
    addresses: Mapping[str, list[str]]
    met: set[str]

    def at(self, interface: str, others: Iterable[str] | None = None) -> FrrNeighbor | None:
        """What is expected at an interface of a neighbor with the addresses `others` (with lengths), of all sessions
        that it has together; `others` is None where nobody says which. None: there is to be no session."""
        networks = [ipaddress.ip_interface(text).network for text in self.addresses.get(interface, ())]
        theirs = [ipaddress.ip_interface(text).ip for text in others] if others is not None else None

        def is_there(name: str) -> bool:
            address = ipaddress.ip_address(name)
            return address in theirs if theirs is not None else any(address in network for network in networks)

        names = [name for name in self.named if is_address(name) and is_there(name)]
        names += [interface] if interface in self.named else []
        self.met.update(names)
        found = [self.named[name] for name in names]
        for name, one in self.ranges.items() if not found else ():
            network = ipaddress.ip_network(name, strict=False)
            if any(each in network for each in theirs or ()) or (theirs is None and _overlaps(network, networks)):
                found.append(one)
                break
        open_ones = [one for one in found if not one.is_shut]
        return _together(open_ones) if open_ones else next(iter(found), None)


def _overlaps(network: object, others: Iterable[object]) -> bool:
    return any(network.version == one.version and network.overlaps(one) for one in others)  # type: ignore[attr-defined]


def _together(found: list[FrrNeighbor]) -> FrrNeighbor:
    """Sessions with one neighbor as one: each family is that of the first that has it."""
    first, *others = found
    if not others:
        return first
    by_family = {codes: one for one in reversed(found) for codes in one.families}
    return msgspec.structs.replace(
        first,
        families=tuple(codes for codes in CODES.values() if codes in by_family),
        with_default=tuple(codes for codes, one in by_family.items() if codes in one.with_default),
        bfd=next((one.bfd for one in found if one.bfd is not None), None),
        own_as=max(one.own_as for one in found),
        filters=Filters(
            _by_family({codes: one.filters.takes for codes, one in by_family.items()}),
            _by_family({codes: one.filters.tells for codes, one in by_family.items()}),
            tuple(dict.fromkeys(name for one in found for name in one.filters.names)),
            tuple(dict.fromkeys(text for one in found for text in one.filters.unread)),
        ),
    )


def _by_family(filters: Mapping[Codes, Filter | None]) -> Filter | None:
    if not any(filters.values()):
        return None

    def apply(prefix: str, route: Route) -> Route | None:
        one = filters.get(codes_of(prefix))
        return one(prefix, route) if one is not None else route

    return apply


class NeighborReader:
    """Reads the neighbors of one router."""

    def __init__(self, text: FrrText, router: Router, peers: Peers) -> None:
        self._text = text
        self._peers = peers
        self._asn = int(router.asn)
        is_off_for_all = any(line.words == ("no", "bgp", "ebgp-requires-policy") for line in router.lines)
        self._requires_policy = not is_off_for_all and not is_datacenter(text)

    def read(self, peer: Peer) -> FrrNeighbor | None:
        """None: it has no AS, and so no session."""
        line = peer.general.get("remote-as")
        if line is None:
            return None
        remote_as = line.word(3)
        local_as = _local_as(peer.general.get("local-as"))
        is_internal = remote_as in ("internal", str(local_as.asn if local_as is not None else self._asn))
        return FrrNeighbor(
            remote_as=remote_as,
            families=tuple(codes for name, codes in CODES.items() if self._is_activated(peer, name)),
            bfd=self._bfd(peer.general.get("bfd")),
            hold_s=number(peer.general["timers"], 4) if "timers" in peer.general else 0,
            with_default=tuple(_with_default(peer)),
            is_client=_has(peer, "route-reflector-client"),
            is_passive=_has(peer, "passive"),
            is_shut=_has(peer, "shutdown"),
            keeps_next_hops=is_internal and not _has(peer, "next-hop-self"),
            own_as=max(map(_own_as, (peer.general, *peer.families.values()))),
            overrides_as=_has(peer, "as-override"),
            local_as=local_as,
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


def _local_as(line: Line | None) -> LocalAs | None:
    """`neighbor N local-as NUMBER [no-prepend [replace-as]]`."""
    if line is None or is_off(line) or not number(line, 3):
        return None
    return LocalAs(number(line, 3), is_added="no-prepend" not in line.words, is_alone="replace-as" in line.words)


def _own_as(commands: Mapping[str, Line]) -> int:
    line = commands.get("allowas-in")
    return 0 if line is None or is_off(line) else number(line, 3) or (1 if line.word(3) == "origin" else _OWN_AS)


def _with_default(peer: Peer) -> Iterable[Codes]:
    for family, codes in CODES.items():
        commands = {**(peer.general if family == "ipv4-unicast" else {}), **peer.families.get(family, {})}
        line = commands.get("default-originate")
        if line is not None and not is_off(line):
            yield codes


def _has(peer: Peer, command: str) -> bool:
    """In any family."""
    found = (commands.get(command) for commands in (peer.general, *peer.families.values()))
    return any(line is not None and not is_off(line) for line in found)


def is_datacenter(text: FrrText) -> bool:
    """Whether it has the defaults for data centres."""
    return any(line.words == ("frr", "defaults", "datacenter") for line in text.top)


def number(line: Line, at: int) -> int:
    """A word as a number; 0 if it is none."""
    return int(line.word(at)) if line.word(at).isdecimal() else 0
