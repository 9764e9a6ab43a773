"""Which prefixes bgpd may write: never one that this host has by another hand, never one that the configuration
protects.

A learned route with bgpd's metric would stand beside another program's route to the same prefix and win or lose by
chance of metrics. So the prefix is left alone ("blocked", with the reason) until the other route is gone, unless
`fib.override` names it. When a foreign route appears later, ours is withdrawn: the host's own word on its prefixes is
the last one. More specific prefixes inside a connected network may be written (a workload that moved elsewhere);
`fib.protect` forbids them too. Sans-IO.

What iproute2 calls an rtproto, and whether somebody else claims ours.

The number that marks bgpd's routes must be bgpd's alone: FRR's zebra takes routes of the numbers of its own daemons for
its own (197 is its OpenFabric's) and deletes them when it ends. Only reads files; decides nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Container, Iterable

import msgspec

from bgpd.config.schema import FibConfig
from bgpd.fib.connected import Connected
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.prefix import covers, format_key, parse_prefix


class Block(msgspec.Struct, frozen=True):
    """Why a prefix is not written; `learned_only`: this host's own routes (workloads, aggregates) may be."""

    why: str
    learned_only: bool = False


class Ownership:
    """Foreign routes of one table, protected and overridden prefixes."""

    def __init__(self, config: FibConfig, connected: Connected, *, vrf: str = "") -> None:
        self._vrf = vrf
        self._protocol = config.protocol
        self._table = config.table
        self._connected = connected
        self._foreign: dict[Family, dict[bytes, list[KernelRoute]]] = {family: {} for family in _FAMILIES}
        self._own: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
        self._protected = _by_family(config.protect)
        self._override = _by_family(config.override)

    def route_changed(self, route: KernelRoute, gone: bool) -> bool:
        """Follow a route of the kernel; True if whether its prefix may be written has changed."""
        if route.table != self._table or route.protocol == self._protocol:
            return False
        foreign = self._foreign[route.family]
        routes = foreign.setdefault(route.key, [])
        before = bool(routes)
        if not gone:
            routes.append(route)
        elif route in routes:
            routes.remove(route)
        after = bool(routes)
        if not after:
            del foreign[route.key]
        return before != after and route.key not in self._override[route.family]

    def addresses_changed(self) -> list[tuple[Family, bytes]]:
        """Own addresses and networks changed: the prefixes that are ours to keep now, or no longer are."""
        changed = []
        for family in _FAMILIES:
            now = self._connected.attached_prefixes(family, vrf=self._vrf)
            changed += [(family, key) for key in now ^ self._own[family]]
            self._own[family] = now
        return changed

    def blocked(self, family: Family, keys: Collection[bytes], *, kept: Container[bytes] = ()) -> dict[bytes, Block]:
        """Of `keys` those that must not be written, each with why; `fib.override` lifts all but protection.

        `kept` are written whatever stands against it.
        """
        found: dict[bytes, Block] = {}
        for protected in self._protected[family]:
            why = f"inside {format_key(family, protected)}, which fib.protect keeps from learned routes"
            found.update(dict.fromkeys(_inside(protected, keys), Block(why, learned_only=True)))
        override = self._override[family]
        own, foreign = self._own[family], self._foreign[family]
        if own and not own.isdisjoint(keys):
            found.update(dict.fromkeys(own.intersection(keys) - override, _OWN))
        if foreign and not foreign.keys().isdisjoint(keys):
            for key in (foreign.keys() & keys) - override:
                found[key] = Block(_foreign_reason(foreign[key][0]))
        return {key: block for key, block in found.items() if key not in kept} if kept else found


_OWN = Block("the prefix is this host's own address or connected network")


def _foreign_reason(route: KernelRoute) -> str:
    where = f" on {route.interface}" if route.interface else ""
    return (
        f"another program's route to the prefix is in the kernel (protocol {route.protocol},"
        f" metric {route.metric}{where}); fib.override can name the prefix"
    )


def _inside(protected: bytes, keys: Iterable[bytes]) -> list[bytes]:
    whole = protected[0] >> 3
    start = protected[1 : 1 + whole]
    return [key for key in keys if key[1 : 1 + whole] == start and covers(protected, key)]


def _by_family(prefixes: Iterable[str]) -> dict[Family, set[bytes]]:
    found: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
    for text in prefixes:
        family, key = parse_prefix(text)
        found[family].add(key)
    return found


_FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)


OWN_NAME = "bgpd"
_FILES = ("/etc/iproute2/rt_protos", "/usr/share/iproute2/rt_protos")
_FOLDERS = ("/etc/iproute2/rt_protos.d", "/usr/share/iproute2/rt_protos.d")


def names_of(number: int, *, root: str = "/") -> list[str]:
    """Names that the files of iproute2 and of other programs give a number, each once; unreadable files have none."""
    base = pathlib.Path(root)
    files: Iterable[pathlib.Path] = [
        *(base / path.lstrip("/") for path in _FILES),
        *(path for folder in _FOLDERS for path in sorted((base / folder.lstrip("/")).glob("*.conf"))),
    ]
    found: dict[str, None] = {}
    for path in files:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split("#")[0].split()
            if len(fields) == 2 and fields[0] == str(number):
                found[fields[1]] = None
    return list(found)


def protocol_name(number: int, own: int) -> str:
    """How to show an rtproto: bgpd's own by its name, others by theirs or their number."""
    if number == own:
        return OWN_NAME
    return next(iter(names_of(number)), str(number))
