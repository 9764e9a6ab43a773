"""Checks [[vrf]]: each table, route distinguisher and uplink belongs to one VRF only, and every VRF or neighbor that is
named exists.

Pure: never looks at the kernel. The FIB finds out whether other programs write a VRF's table.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from bgpd.config.patterns import may_be_named
from bgpd.config.schema import Config, VrfConfig
from bgpd.config.schema_workloads import PROBE_TABLES
from bgpd.config.shape import Finding, did_you_mean
from bgpd.config.toml_lines import KeyPath
from bgpd.config.words import bad_address, bad_interface, one_of, vrf_distinguisher, vrf_target
from bgpd.model.communities import format_route_distinguisher
from bgpd.model.iana import Family

RESOLVE_MODES = ("gateway-ip", "next-hop", "peer")
KERNEL_TABLES = {253: "default", 254: "main", 255: "local"}
"""linux/rtnetlink.h, RT_TABLE_*."""


def check_vrfs(config: Config) -> Iterator[Finding]:
    """Errors of all [[vrf]], and of what refers to them."""
    names: dict[str, int] = {}
    tables: dict[int, int] = {}
    distinguishers: dict[bytes, int] = {}
    uplinks: dict[str, int] = {}
    for index, vrf in enumerate(config.vrf):
        path: KeyPath = ("vrf", index)
        yield from _check_name(vrf, path)
        if vrf.name and names.setdefault(vrf.name, index) != index:
            yield Finding((*path, "name"), f'"{vrf.name}" is already vrf[{names[vrf.name]}]', "names are unique")
        yield from _check_table(config, vrf, path)
        if tables.setdefault(vrf.table, index) != index:
            what = f"is {vrf.table}, which is the table of vrf[{tables[vrf.table]}]"
            yield Finding((*path, "table"), what, "each VRF has a table of its own")
        yield from _check_distinguisher(config, index, path, distinguishers)
        yield from _check_targets(config, vrf, path)
        yield from _check_uplinks(config, index, uplinks)
        if wrong := one_of(vrf.resolve, RESOLVE_MODES):
            yield Finding((*path, "resolve"), *wrong)
        if wrong := one_of(vrf.originate, ("local", "all")):
            yield Finding((*path, "originate"), *wrong)
    yield from _check_references(config)


def warn_about_vrfs(config: Config) -> Iterator[Finding]:
    """VRFs that can learn nothing."""
    evpn = any(Family.L2VPN_EVPN in session.families for session in (*config.neighbor, *config.listen))
    for index, vrf in enumerate(config.vrf):
        spoken = any(session.vrf == vrf.name for session in (*config.neighbor, *config.ranges))
        if not evpn and not spoken:
            what = f'no neighbor speaks l2vpn-evpn, and none is in VRF "{vrf.name}"'
            yield Finding(("vrf", index), what, "the VRF learns and announces nothing")
        elif evpn and not vrf.uplinks:
            yield Finding(("vrf", index, "uplinks"), "names no interface", "what EVPN announces cannot be reached")


def check_tables_until_restart(config: Config, former: Config) -> Iterator[Finding]:
    """VRFs that would have the main table of the daemon that runs, which has it until it is started again."""
    for index, vrf in enumerate(config.vrf):
        if vrf.table == former.fib.table:
            what = f"is {vrf.table}, which is the main table (fib.table) until bgpd is restarted"
            yield Finding(("vrf", index, "table"), what, "choose another number, or restart bgpd")


def _check_name(vrf: VrfConfig, path: KeyPath) -> Iterator[Finding]:
    if wrong := bad_interface(vrf.name):
        yield Finding((*path, "name"), *wrong)
    elif "*" in vrf.name or "@" in vrf.name:
        yield Finding((*path, "name"), f'"{vrf.name}" cannot be a name', 'no "*" and no "@"')


def _check_table(config: Config, vrf: VrfConfig, path: KeyPath) -> Iterator[Finding]:
    if vrf.table in KERNEL_TABLES:
        what = f'is {vrf.table}, the kernel\'s table "{KERNEL_TABLES[vrf.table]}"'
        yield Finding((*path, "table"), what, "choose a number that nobody else uses, such as 1001")
    elif vrf.table in PROBE_TABLES:
        what = f"is {vrf.table}, one of the tables of probes of services"
        yield Finding((*path, "table"), what, "choose a number that nobody else uses, such as 1001")
    elif vrf.table == config.fib.table:
        yield Finding((*path, "table"), f"is {vrf.table}, the table of [fib]", "each VRF has a table of its own")


def _check_distinguisher(config: Config, index: int, path: KeyPath, known: dict[bytes, int]) -> Iterator[Finding]:
    vrf = config.vrf[index]
    try:
        packed = vrf_distinguisher(config.router, vrf)
    except ipaddress.AddressValueError:
        return
    except ValueError as error:
        yield Finding((*path, "rd"), str(error), 'such as rd = "65203:1001"')
        return
    follows = packed in known and vrf.rd == "auto" and config.vrf[known[packed]].table == vrf.table
    if packed in known and not follows:
        what = f'"{format_route_distinguisher(packed)}" is already the rd of vrf[{known[packed]}]'
        yield Finding((*path, "rd"), what, "each VRF has a route distinguisher of its own")
    known.setdefault(packed, index)


def _check_targets(config: Config, vrf: VrfConfig, path: KeyPath) -> Iterator[Finding]:
    for field in ("import_rt", "export_rt"):
        targets: tuple[str, ...] = getattr(vrf, field)
        seen: set[bytes] = set()
        for index, text in enumerate(targets):
            where = (*path, field, index)
            try:
                packed = vrf_target(config.router, vrf, text)
            except ValueError as error:
                yield Finding(where, str(error), f'such as {field} = ["65201:5001"]')
                continue
            if packed in seen:
                yield Finding(where, f'"{text}" is given twice', "remove one")
            seen.add(packed)


def _check_uplinks(config: Config, own_index: int, known: dict[str, int]) -> Iterator[Finding]:
    vrf = config.vrf[own_index]
    path: KeyPath = ("vrf", own_index)
    for index, name in enumerate(vrf.uplinks):
        where = (*path, "uplinks", index)
        if wrong := bad_interface(name):
            yield Finding(where, *wrong)
        elif name in vrf.uplinks[:index]:
            yield Finding(where, f'"{name}" is given twice', "remove one")
        elif known.setdefault(name, own_index) != own_index:
            yield Finding(where, f'"{name}" is already an uplink of vrf[{known[name]}]', "an interface has one VRF")
    neighbors = [neighbor.name for neighbor in config.neighbor]
    for uplink, neighbor in vrf.uplink_neighbors.items():
        yield from _is_uplink(vrf, uplink, (*path, "uplink_neighbors", uplink))
        is_known = config.listen or may_be_named(config.neighbor, neighbor)
        if not is_known and (wrong := one_of(neighbor, neighbors)):
            yield Finding((*path, "uplink_neighbors", uplink), *wrong)
    for uplink, addresses in vrf.uplink_gateways.items():
        yield from _is_uplink(vrf, uplink, (*path, "uplink_gateways", uplink))
        for index, address in enumerate(addresses):
            if wrong := bad_address(address):
                yield Finding((*path, "uplink_gateways", uplink, index), *wrong)


def _is_uplink(vrf: VrfConfig, name: str, path: KeyPath) -> Iterator[Finding]:
    if name not in vrf.uplinks:
        yield Finding(path, f'"{name}" is no uplink of this VRF', did_you_mean(name, list(vrf.uplinks)))


def _check_references(config: Config) -> Iterator[Finding]:
    """Every `vrf = "NAME"` of the other sections."""
    names = [vrf.name for vrf in config.vrf]
    sections: tuple[tuple[KeyPath, Sequence[Any]], ...] = (
        (("neighbor",), config.neighbor),
        (("listen",), config.listen),
        (("aggregate",), config.aggregate),
        (("workload", "static"), config.workload.static),
        (("workload", "bgp"), config.workload.bgp),
    )
    for path, entries in sections:
        for index, entry in enumerate(entries):
            if entry.vrf and entry.vrf not in names:
                right = did_you_mean(entry.vrf, names) or f'add [[vrf]] with name = "{entry.vrf}"'
                yield Finding((*path, index, "vrf"), f'there is no VRF "{entry.vrf}"', right)
            if entry.vrf and path == ("listen",):
                what = "puts dynamic neighbors into a VRF"
                yield Finding((*path, index, "vrf"), what, "in a VRF neighbors have a [[neighbor]] each")
            if entry.vrf and Family.L2VPN_EVPN in getattr(entry, "families", ()):
                what = "has l2vpn-evpn, in a VRF"
                yield Finding((*path, index, "families"), what, "EVPN is spoken in the main table, for all VRFs")
