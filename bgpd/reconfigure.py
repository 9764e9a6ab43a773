"""Hands each part of the data path its part of another configuration, in the order that loses no route."""

from __future__ import annotations

from bgpd.config.schema import Config
from bgpd.dependencies import HostNeeds
from bgpd.model.prefix import parse_prefix
from bgpd.rib.policy import PolicyError
from bgpd.routing import Routing


async def reconfigure(routing: Routing, config: Config) -> None:
    """Take over a configuration; a part whose own part of it is as before is not called.

    A VRF's kernel table is there before anything is said of the VRF, and goes last. Between the two the loop does
    not turn: a session that is established has the policies that the RIB has.

    Raises: PolicyError: nothing was changed.
    """
    former = routing.config
    is_vrf_due = config.vrf != former.vrf or bool(routing.tables.vrfs.problems)
    if is_vrf_due:
        await routing.tables.vrfs.add(config.vrf)
    try:
        walk = routing.rib.reconfigure(config.rib) if config.rib != former.rib else None
    except PolicyError:
        if is_vrf_due:
            await routing.tables.vrfs.add(former.vrf)
            await routing.tables.vrfs.remove(former.vrf)
        raise
    routing.config = config
    routing.host.loopbacks = [parse_prefix(prefix) for prefix in config.router.loopbacks]
    if _names_source_by(config) != _names_source_by(former):
        routing.tables.set_preferred_source(config.fib.preferred_source)
    if config.guard != former.guard:
        routing.host_needs = HostNeeds(config.guard)
    if config.evpn != former.evpn:
        routing.evpn.reconfigure(config.evpn)
        routing.say_tenants()
    routing.speaker.reconfigure(config.speaker)  # always: password files may have other contents
    if walk is not None:
        routing.walks.run(walk)
    _reconfigure_workloads(routing, config, former)
    if config.speaker != former.speaker:
        routing.workloads.neighbors_changed()
    if config.guard != former.guard:
        routing.tables.needs_changed()
    if is_vrf_due:
        await routing.tables.vrfs.remove(config.vrf)


def rehearse(routing: Routing, config: Config) -> None:
    """What `reconfigure` does, but for sessions and kernel tables: in a copy of the process (rehearsal.py).

    Raises: PolicyError.
    """
    former, routing.config = routing.config, config
    walk = routing.rib.reconfigure(config.rib)
    routing.host.loopbacks = [parse_prefix(prefix) for prefix in config.router.loopbacks]
    if config.evpn != former.evpn:
        routing.evpn.reconfigure(config.evpn)
    routing.walks.run(walk)
    _reconfigure_workloads(routing, config, former)


def _reconfigure_workloads(routing: Routing, config: Config, former: Config) -> None:
    if config.workloads != former.workloads:
        routing.workloads.reconfigure(config.workloads)
        for event in routing.monitor.routes.events():
            if event.route.table != config.fib.table:
                routing.workloads.kernel.event(event)
    if config.router.asn != former.router.asn:
        for vrf, family, key in list(routing.rib.drained.services()):
            routing.workloads.table.carry_out_again((vrf, family), [key])  # their link bandwidth names the AS


def _names_source_by(config: Config) -> tuple[object, object]:
    """What the preferred source of routes follows from."""
    return config.fib.preferred_source, config.router.loopbacks
