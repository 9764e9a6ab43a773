"""Which prefixes bgpd may write: never one that this host has by another program, never one that leads the host's own
traffic elsewhere, never one that the configuration protects. One question, and why not.

A learned route with bgpd's metric would stand beside another program's route to the same prefix and win or lose by
chance of metrics. So the prefix is left alone ("blocked", with the reason) until the other route is gone. When a
foreign route appears later, ours is withdrawn: the host's own word on its prefixes is the last one. What the host's own
traffic depends on is guarded likewise (guard.py). `fib.override` lifts all this for the prefixes that it names, but for
a foreign route of bgpd's own metric: two of one metric are no order. `fib.protect` forbids further prefixes, whatever
else is said. Sans-IO.

What iproute2 calls an rtproto, and whether somebody else claims ours.

The number that marks bgpd's routes must be bgpd's alone: FRR's zebra takes routes of the numbers of its own daemons for
its own (197 is its OpenFabric's) and deletes them when it ends. Only reads files; decides nothing.
"""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet

from bgpd.config.schema import FibConfig
from bgpd.fib.connected import Connected
from bgpd.fib.guard import Block, Change, Dependencies, Guard, RulesMaker
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.prefix import format_address, format_key, parse_prefix

_ForeignRoutes = dict[Family, dict[bytes, list[KernelRoute]]]


class Ownership:
    """Foreign routes of one table, guarded, protected and overridden prefixes.

    `is_stale`: what is guarded may differ from what `changes` last told.
    """

    def __init__(self, config: FibConfig, connected: Connected, *, vrf: str = "") -> None:
        self.is_stale = True
        self._vrf = vrf
        self._protocol = config.protocol
        self._table = config.table
        self._metric = config.metric
        self._serving_tables = {config.table} if vrf else {config.table, _MAIN}
        self._connected = connected
        self._dependencies = Dependencies()
        self._foreign: _ForeignRoutes = {family: {} for family in _FAMILIES}
        self._serving: _ForeignRoutes = self._foreign
        if len(self._serving_tables) > 1:
            self._serving = {family: {} for family in _FAMILIES}
        self._gateways: Counter[bytes] = Counter()
        self._own: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
        self._override = _by_family(config.override)
        protected = {
            family: {
                key: Block(
                    f"inside {format_key(family, key)}, which fib.protect keeps from learned routes",
                    learned_only=True,
                    final=True,
                )
                for key in keys
            }
            for family, keys in _by_family(config.protect).items()
        }
        self._guards = {family: Guard(family, protected[family]) for family in _FAMILIES}
        self._rules = RulesMaker(connected, vrf=vrf)
        self._changes: list[Change] = []

    def depend_on(self, dependencies: Dependencies) -> None:
        """The host needs this of the table from now on."""
        if dependencies != self._dependencies:
            self._dependencies = dependencies
            self.is_stale = True

    def use_gateways(self, gateways: AbstractSet[bytes]) -> None:
        """These (packed) are the next hops in use."""
        for family, guard in self._guards.items():
            size = 4 if family is Family.IPV4_UNICAST else 16
            keys = guard.use_gateways({packed for packed in gateways if len(packed) == size})
            if keys:
                self._changes.append(Change(family, keys))

    def route_changed(self, route: KernelRoute, gone: bool) -> bool:
        """Follow a route of the kernel; True if whether its prefix may be written has changed."""
        if route.table not in self._serving_tables or route.protocol == self._protocol:
            return False
        if self._serving is not self._foreign:
            self._follow(self._serving, route, gone)
        if route.gateway:
            self._gateways[route.gateway] += -1 if gone else 1
            if self._gateways[route.gateway] == (0 if gone else 1):
                self.is_stale = True
            if self._gateways[route.gateway] <= 0:
                del self._gateways[route.gateway]
        if route.key in self._rules.watched.get(route.family, ()):
            self.is_stale = True
        if route.table != self._table:
            return False
        before = self._stands_against(route.family, route.key)
        self._follow(self._foreign, route, gone)
        return before != self._stands_against(route.family, route.key)

    def _follow(self, routes: _ForeignRoutes, route: KernelRoute, gone: bool) -> None:
        known = routes[route.family].setdefault(route.key, [])
        if not gone:
            known.append(route)
        elif route in known:
            known.remove(route)
        if not known:
            del routes[route.family][route.key]

    def _stands_against(self, family: Family, key: bytes) -> KernelRoute | None:
        """The foreign route because of which a prefix must not be written."""
        routes = self._foreign[family].get(key, ())
        if key in self._override[family]:
            return next((route for route in routes if route.metric == self._metric and not route.tos), None)
        return routes[0] if routes else None

    def addresses_changed(self) -> list[tuple[Family, bytes]]:
        """Own addresses and networks changed: the prefixes that are ours to keep now, or no longer are."""
        self.is_stale = True
        changed = []
        for family in _FAMILIES:
            now = self._connected.attached_prefixes(family, vrf=self._vrf)
            changed += [(family, key) for key in now ^ self._own[family]]
            self._own[family] = now
        return changed

    def changes(self) -> list[Change]:
        """What may be guarded now or no longer, since the last call."""
        if self.is_stale:
            self._refresh()
        changes, self._changes = self._changes, []
        return changes

    def reserved(self, family: Family, key: bytes) -> str:
        """What the host itself needs that a workload of this prefix would take; "" if nothing."""
        if self.is_stale:
            self._refresh()
        return self._guards[family].rules.reserved.get(key, "")

    def blocked(self, family: Family, keys: Collection[bytes], *, kept: Container[bytes] = ()) -> Mapping[bytes, Block]:
        """Of `keys` those that must not be written, each with why; `fib.override` lifts all but protection.

        `kept` are written whatever stands against it.
        """
        if self.is_stale:
            self._refresh()
        found: dict[bytes, Block] = {}
        own, foreign = self._own[family], self._foreign[family]
        if own and not own.isdisjoint(keys):
            found.update(dict.fromkeys(own.intersection(keys), _OWN))
        if foreign and not foreign.keys().isdisjoint(keys):
            for key in foreign.keys() & keys:
                route = self._stands_against(family, key)
                if route is not None and key in self._override[family]:
                    advice = "two routes of one metric are no order: change its metric, or fib.metric"
                    found[key] = Block(f"{describe(route)}; {advice}", final=True)
                elif route is not None:
                    found[key] = Block(f"{describe(route)}; fib.override can name the prefix")
        for key, block in self._guards[family].blocked(keys).items():
            if block.final or key not in found:
                found[key] = block
        if not found:
            return found
        override = self._override[family]
        return {key: block for key, block in found.items() if key not in kept and (block.final or key not in override)}

    def _refresh(self) -> None:
        """Make the rules anew."""
        self.is_stale = False
        rules = self._rules.make(self._dependencies, foreign=self._serving, gateways=self._gateways.keys())
        self._changes += [self._guards[family].use(made) for family, made in rules.items()]


_OWN = Block("the prefix is this host's own address or connected network")


def describe(route: KernelRoute) -> str:
    """Another program's route that stands in the way, for people."""
    via = f" via {format_address(route.gateway)}" if route.gateway else ""
    where = f" on {route.interface}" if route.interface else ""
    return (
        f"another program's route to the prefix is in the kernel (protocol {route.protocol}{via}{where},"
        f" metric {route.metric})"
    )


def _by_family(prefixes: Iterable[str]) -> dict[Family, set[bytes]]:
    found: dict[Family, set[bytes]] = {family: set() for family in _FAMILIES}
    for text in prefixes:
        family, key = parse_prefix(text)
        found[family].add(key)
    return found


_MAIN = 254
_FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)


OWN_NAME = "bgpd"
_FILES = ("/etc/iproute2/rt_protos", "/usr/share/iproute2/rt_protos")
_FRR_NUMBERS = range(186, 199)
_ZEBRA_SOCKETS = ("run/frr/zserv.api", "run/frr/*/zserv.api", "run/quagga/zserv.api")
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


def claimants_of(number: int, *, root: str = "/") -> list[str]:
    """Names of other programs that use a number here: one of FRR's numbers is in use while its zebra runs."""
    others = [name for name in names_of(number, root=root) if name != OWN_NAME]
    base = pathlib.Path(root)
    is_unused = number in _FRR_NUMBERS and not any(True for path in _ZEBRA_SOCKETS for _found in base.glob(path))
    return [] if is_unused else others


def protocol_name(number: int, own: int) -> str:
    """How to show an rtproto: bgpd's own by its name, others by theirs or their number."""
    if number == own:
        return OWN_NAME
    return next(iter(names_of(number)), str(number))
