"""Whether the parts are as the model says: asked of the kernel, of the leaves and of the daemon, each by itself."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Iterator

from labs.process import LabError
from tests.chaos import tenant_checks
from tests.chaos.asked import SHOWN, difference, hops_of, kernel_objects, pairs
from tests.chaos.heard import communities_of
from tests.chaos.model import CONTESTED, FRR_LEAVES, RAW_LEAVES, SERVICE, Model
from tests.chaos.network import FOREIGN_NEXTHOP, FOREIGN_PROTOCOL, FOREIGN_TABLE_ROUTE, Lines, Network
from tests.chaos.tenant import VRF
from tests.daemon.fabric import DEFECTS, nexthops_unused

GRACEFUL_SHUTDOWN = 0xFFFF0000
NO_LONGER_CPU_S = 0.5
"""Far beyond what the loop may be held in processor time, which is some milliseconds."""
MORE_DESCRIPTORS = 16
"""Than after the first round: of neighbors that the configuration has again, and of connections that just end."""
USED = ("best", "multipath")
Check = Callable[[Network, Model], Iterator[str]]


def missing(network: Network, model: Model) -> list[str]:
    """What does not hold (yet), in words; empty when all is as the model says."""
    return _first_of(CHECKS, network, model)


def left_over(network: Network, model: Model) -> list[str]:
    """What is there without need, in words: bgpd takes its time to tidy up."""
    return _first_of([_unused_objects], network, model)


def _first_of(checks: list[Check], network: Network, model: Model) -> list[str]:
    found: list[str] = []
    for check in checks:
        try:
            found += check(network, model)
        except LabError as error:
            found.append(f"{check.__name__}: {error}"[:500])
        if found:
            break  # the others are asked when this holds
    return found


def _sessions(network: Network, model: Model) -> Iterator[str]:
    wanted = sorted(f"leaf{number}" for number in model.neighbors)
    found = network.host.established()
    if found != wanted:
        yield f"established with {found} in place of {wanted}"
    for number in RAW_LEAVES:
        if number in model.neighbors and not network.raw[number].is_established:
            yield f"leaf{number} has no session"
    for number in FRR_LEAVES:
        if network.frr[number].established() != [f"10.0.{number}.1"]:
            yield f"leaf{number} has no session"


def _foreign(network: Network, model: Model) -> Iterator[str]:
    namespace = network.host_namespace
    shown = namespace.ip("-N", "-4", "-j", "route", "show", "table", "all", "proto", FOREIGN_PROTOCOL)
    found = {route["dst"] for route in json.loads(shown or "[]")}
    plugged = {route["dst"] for route in json.loads(namespace.ip("-4", "-j", "route", "show", "dev", "pod3") or "[]")}
    yield from difference("pods of another program", model.plugged, plugged)
    yield from difference("routes of another program", {*model.foreign, FOREIGN_TABLE_ROUTE}, found)
    if FOREIGN_NEXTHOP not in kernel_objects(namespace):
        yield "the nexthop object of another program is gone"


def _kernel(network: Network, model: Model) -> Iterator[str]:
    namespace, own = network.host_namespace, model.own()
    objects = kernel_objects(namespace)
    found: dict[str, list[str]] = {}
    for family in ("-4", "-6"):
        shown = namespace.ip("-N", family, "-j", "route", "show", "proto", "217")
        for route in json.loads(shown or "[]"):
            prefix = str(ipaddress.ip_network(route["dst"]))
            found.setdefault(prefix, []).extend(hops_of(route, objects))  # of two routes, those of both
    learned = {prefix: hops for prefix, hops in found.items() if prefix not in model.local()}
    if found.get(f"{SERVICE}/32", []) != model.service_hops():
        yield f"the service is by {found.get(f'{SERVICE}/32')} in the kernel in place of {model.service_hops()}"
    yield from difference("learned routes in the kernel", pairs(model.kernel()), pairs(learned))
    for prefix, interfaces in own.items():
        hops = found.get(prefix, [])
        if interfaces != {"pod3"} and (len(hops) != 1 or hops[0] not in interfaces):
            yield f"{prefix} is by {found.get(prefix)} in the kernel in place of {sorted(interfaces)}"


def _unused_objects(network: Network, model: Model) -> Iterator[str]:
    unused = nexthops_unused(network.host_namespace) - {FOREIGN_NEXTHOP}
    if unused:
        yield f"nexthop objects that no route uses: {sorted(unused)}"


def _heard_by_raw_leaves(network: Network, model: Model) -> Iterator[str]:
    for number in RAW_LEAVES:
        if number in model.neighbors:
            heard = network.raw[number].heard.routes
            yield from difference(f"what leaf{number} heard", model.told(number), set(heard))
            lowered = {prefix for prefix, found in heard.items() if GRACEFUL_SHUTDOWN in communities_of(found)}
            wanted = set(heard) if model.is_drained else set()
            yield from difference(f"what leaf{number} heard with GRACEFUL_SHUTDOWN", wanted, lowered)


def _heard_by_frr(network: Network, model: Model) -> Iterator[str]:
    for number in FRR_LEAVES:
        found: set[str] = set()
        for family in ("ipv4", "ipv6"):
            routes = network.frr[number].vtysh_json(f"show bgp {family} unicast json").get("routes", {})
            found |= {prefix for prefix, paths in routes.items() if any(path["path"] == "65203" for path in paths)}
        yield from difference(f"what leaf{number} heard", model.told(), found)


def _health(network: Network, model: Model) -> Iterator[str]:
    health = network.host.health()
    reasons = [reason for reason in health["reasons"] if not (model.is_drained and "drain" in reason)]
    if reasons:
        yield f"not ready: {reasons}"
    for key in ("fib_pending", "fib_failed"):
        if health[key]:
            yield f"{key} is {health[key]}"


def _rib(network: Network, model: Model) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    own = model.local()
    for view in network.host.get("routes", vrf=""):
        used = [path for path in view["candidates"] if path["role"] in USED]
        if used:
            found[view["prefix"]] = {path["source"] for path in used}
        if any(path["stale_since"] is not None for path in used):
            yield f"{view['prefix']} is stale"
        expected = "blocked" if view["prefix"] in model.foreign else "installed"
        if used and view["prefix"] not in own and view["fib"] != expected:
            yield f"{view['prefix']} is told {view['fib']} in place of {expected}"
    wanted = {prefix: {f"leaf{one}" for one in numbers} for prefix, numbers in model.learned().items()}
    yield from difference("routes in the RIB", {*wanted, *own}, set(found))
    for prefix, neighbors in wanted.items():
        if prefix not in own and found.get(prefix, set()) != neighbors:
            yield f"the RIB has {prefix} of {found.get(prefix)} in place of {neighbors}"


def _claims(network: Network, model: Model) -> Iterator[str]:
    wanted = {
        f"{address} by {id} of {source}"
        for source, claims in (("mqtt", model.mqtt), ("api", model.api))
        for id, claim in claims.items()
        for address in claim.addresses
    }
    found = set()
    for view in network.host.get("workloads"):
        address = view["prefix"].partition("/")[0]
        if view["source"] in ("mqtt", "api"):
            found.add(f"{address} by {view['id']} of {view['source']}")
        if address not in CONTESTED and view["state"] != "announced":
            yield f"{address} by {view['id']} is {view['state']}: {view['reason']}"
    yield from difference("claims", wanted, found)


CHECKS: list[Check] = [
    _sessions,
    _foreign,
    _kernel,
    _heard_by_raw_leaves,
    _heard_by_frr,
    _health,
    _rib,
    _claims,
    *tenant_checks.CHECKS,
]
"""In this order; the first that does not hold is told."""


def found_dead(line: str) -> int:
    """The number of the leaf that BFD found dead by a line of bgpd's log, or that says its BFD found this host dead; 0
    if the line is about something else. During a hand-over only the leaf may have time to say so."""
    if '"bfd.down"' in line or ('"session.closed"' in line and "cease/bfd-down" in line):
        return int(json.loads(line)["neighbor"].removeprefix("leaf"))
    return 0


class Witness:
    """What may never happen, whatever is done: asked once all is calm. Counts processes, since each begins anew."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lines = Lines(network.host.log_path)
        self.bfd_down: set[int] = set()
        """Leaves that BFD found dead in this round, or whose BFD found this host dead: also where this machine was too
        slow for it."""
        self.memory: list[float] = []
        """Resident bytes of the daemon at each look."""
        self.longest_hold_s = 0.0
        self.descriptors: list[int] = []
        """Those that the daemon has open at each look."""
        self._holders: dict[str, list[str]] = {}
        """The source that has each address which is claimed twice."""

    def begin_round(self) -> None:
        self.bfd_down.clear()
        for raw in self._network.raw.values():
            raw.heard.lost.clear()
            raw.heard.unsteady_rounds = max(0, raw.heard.unsteady_rounds - 1)

    def look(self, model: Model, touched: set[str]) -> list[str]:
        """What is wrong for good, in words. `touched`: addresses that may have been withdrawn since the round began, or
        the VRF's name, if any of its routes may have been."""
        told = (*self._log(), *self._complaints(), *self._withdrawn(model, touched))
        return [*told, *self._daemon(), *self._contested(touched)]

    def _log(self) -> Iterator[str]:
        for line in self._lines.new():
            if any(word in line for word in DEFECTS):
                yield f"the log has: {line[:1500]}"
            if found := found_dead(line):
                self.bfd_down.add(found)

    def _complaints(self) -> Iterator[str]:
        for raw in self._network.raw.values():
            yield from raw.heard.complaints[:SHOWN]

    def _withdrawn(self, model: Model, touched: set[str]) -> Iterator[str]:
        own = model.own().keys() if VRF in touched else model.own().keys() | model.told_of_vrf()
        kept = {route for route in own if route.rpartition(" ")[2].partition("/")[0] not in touched}
        for raw in self._network.raw.values():
            if lost := sorted(raw.heard.lost & kept):
                yield f"leaf{raw.number} was told that {lost[:SHOWN]} are gone, and they never were"

    def _daemon(self) -> Iterator[str]:
        host = self._network.host
        self.memory.append(host.metric("bgpd_resident_memory_bytes"))
        held = host.metric("bgpd_loop_stall_cpu_seconds")
        self.longest_hold_s = max(self.longest_hold_s, held)
        self.descriptors.append(len(os.listdir(f"/proc/{self._network.daemon_pid()}/fd")))
        first, last = self.descriptors[0], self.descriptors[-1]
        if last > first + MORE_DESCRIPTORS:
            yield f"the daemon has {last} descriptors, after the first round it had {first}"
        if held > NO_LONGER_CPU_S:
            yield f"the event loop was held for {held:.2f} s of processor time"

    def _contested(self, touched: set[str]) -> Iterator[str]:
        """An address that two claim is announced for one of them, and stays that one's."""
        claims: dict[str, list[str]] = {}
        for view in self._network.host.get("workloads"):
            address = view["prefix"].partition("/")[0]
            if address in CONTESTED:
                claims.setdefault(address, []).extend([view["source"]] if view["announced"] else [])
        for address, holders in claims.items():
            if len(holders) != 1:
                yield f"{address} is announced for {holders or 'nobody'}"
            elif address not in touched and self._holders.get(address, holders) != holders:
                yield f"{address} was that of {self._holders[address]}, and is that of {holders} now"
        self._holders = claims
