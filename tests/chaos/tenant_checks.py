"""Whether the VRF is as the model says: asked of the kernel's table and rules, and of the daemon."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from typing import Any

from labs.namespace import Namespace
from tests.chaos.asked import difference, hops_of, kernel_objects, pairs
from tests.chaos.evpn_wire import evpn_key
from tests.chaos.model import Model
from tests.chaos.network import Network
from tests.chaos.tenant import ENDS, TABLE, VM_INTERFACE, VRF, connected, uplink


def rules(network: Network, model: Model) -> Iterator[str]:
    """Packets of the VRF's interfaces, in and out, are looked up in its table."""
    interfaces = [VM_INTERFACE, *map(uplink, ENDS)]
    wanted = {f"{way} {name}" for name in interfaces for way in ("iif", "oif")}
    for family in ("-4", "-6"):
        shown = json.loads(network.host_namespace.ip("-N", family, "-j", "rule", "show") or "[]")
        ours = [rule for rule in shown if rule.get("table") == str(TABLE)]
        found = {f"{way} {rule[way]}" for rule in ours for way in ("iif", "oif") if way in rule}
        yield from difference(f"rules of the VRF, {family}", wanted, found)


def kernel_of_vrf(network: Network, model: Model) -> Iterator[str]:
    """Its table: what leaves announce, the workloads, the uplinks' networks, and an end for all else."""
    namespace = network.host_namespace
    objects, own = kernel_objects(namespace), model.own(VRF)
    found: dict[str, list[str]] = {}
    ends = 0
    for route in _routes(namespace):
        if route["dst"] == "default":
            ends += route.get("type") in ("unreachable", "7")
        else:
            found.setdefault(str(ipaddress.ip_network(route["dst"])), []).extend(hops_of(route, objects))
    if ends != 2:
        yield f"{ends} of 2 default routes of the VRF that lead nowhere"
    wanted = {prefix: sorted(interfaces) for prefix, interfaces in own.items()}
    wanted |= {prefix: [interface] for prefix, interface in connected().items()}
    yield from difference("routes of the VRF", pairs(wanted | _learned(model)), pairs(found))


def _routes(namespace: Namespace) -> list[dict[str, Any]]:
    found = []
    for family in ("-4", "-6"):
        words = ("route", "show", "table", str(TABLE), "proto", "217")
        found += json.loads(namespace.run("ip", "-N", family, "-j", *words, check=False) or "[]")
    return found


def _learned(model: Model) -> dict[str, list[str]]:
    own = model.own(VRF)
    return {prefix: hops for prefix, hops in model.tenant.kernel(model.neighbors).items() if prefix not in own}


def rib_of_vrf(network: Network, model: Model) -> Iterator[str]:
    """Each prefix of exactly those leaves that announce it; nothing is stale, and all is in the kernel."""
    own = model.own(VRF)
    found: dict[str, set[str]] = {}
    for view in network.host.get("routes", vrf=VRF):
        used = [path for path in view["candidates"] if path["role"] in ("best", "multipath")]
        if used and view["prefix"] not in own:
            found[view["prefix"]] = {path["source"].partition(" ")[0] for path in used}
            if view["fib"] != "installed" or any(path["stale_since"] is not None for path in used):
                yield f"{view['prefix']} of the VRF is {view['fib']}, or stale"
    learned = model.tenant.learned(model.neighbors)
    wanted = {prefix: [f"leaf{one}" for one in numbers] for prefix, numbers in learned.items() if prefix not in own}
    yield from difference(
        "routes of the VRF in the RIB", pairs(wanted), pairs({one: sorted(found[one]) for one in found})
    )


def evpn_routes(network: Network, model: Model) -> Iterator[str]:
    """The EVPN table has of each leaf what it announces; the VRF has no endpoint that is disputed."""
    for number in ENDS:
        if number not in model.neighbors:
            continue
        views = network.host.get("evpn", neighbor=f"leaf{number}")
        found = {evpn_key(view["prefix"], view["mac"]) for view in views if view["type"] in (2, 5)}
        wanted = {route.key for route in model.tenant.routes(number)}
        yield from difference(f"EVPN routes of leaf{number}", wanted, found)
    for view in network.host.get("vrfs"):
        if view["alarms"] or view["unresolved"]:
            yield f"the VRF {view['name']} has alarms {view['alarms']}, unresolved {view['unresolved']}"


CHECKS = [rules, kernel_of_vrf, rib_of_vrf, evpn_routes]
