"""Reloads that change what hosts take of their neighbors, and what they announce: policies, their rules, aggregates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bgpd.simulation import aggregates, policies
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.tenants import number_of


async def _import(fabric: Fabric, event: Event) -> None:
    host = fabric.hosts[event.host]
    if event.leaf in host.neighbors:
        await host.change_neighbor(event.leaf, import_=policies.IMPORTED[int(event.value)])


async def _export(fabric: Fabric, event: Event) -> None:
    host = fabric.hosts[event.host]
    if event.leaf in host.neighbors:
        await host.change_neighbor(event.leaf, export=policies.EXPORTED[int(event.value)])


async def _rules(fabric: Fabric, event: Event) -> None:
    """A policy has other rules; neighbors that have it stay with it."""
    host = fabric.hosts[event.host]
    await host.reload(policies.with_rules(host.config, list(policies.IMPORTS)[int(event.value)]))


async def _aggregates(fabric: Fabric, event: Event) -> None:
    """Of the main table, or of a tenant that the host has."""
    host, vrf = fabric.hosts[event.host], event.tenant
    is_v6 = any("ipv6-unicast" in one.families for one in host.all_neighbors.values())
    if vrf and vrf not in {one.name for one in host.config.vrf}:
        return
    is_v6 = fabric.tenants_have_v6 if vrf else is_v6
    await host.reload(aggregates.with_kind(host.config, number_of(event.host), int(event.value), is_v6=is_v6, vrf=vrf))


RELOADS: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.RELOAD_IMPORT_POLICY: _import,
    Kind.RELOAD_EXPORT_POLICY: _export,
    Kind.RELOAD_RULES: _rules,
    Kind.RELOAD_AGGREGATES: _aggregates,
}
