"""Whether [[workload.bgp]] makes sense: which guest a connection belongs to, and what a guest may say.

It reads password and key files to see that they can be read; it changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from bgpd.config.check_sessions import check_session, sessions_of
from bgpd.config.patterns import may_be_named
from bgpd.config.prefix_sets import overlaps
from bgpd.config.schema import Config
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.sections import is_named
from bgpd.config.shape import Finding
from bgpd.config.toml_lines import KeyPath
from bgpd.config.words import bad_address, bad_interface, bad_prefix
from bgpd.model.iana import BGP_PORT, UNICAST, Family
from bgpd.model.policy_syntax import parse_prefix_range

EXPORTS = ("none", "default-only")


def check_guests(config: Config) -> Iterator[Finding]:
    """Errors of all [[workload.bgp]]."""
    names = {neighbor.name: f"neighbor[{index}]" for index, neighbor in enumerate(config.neighbor)}
    for index, guest in enumerate(config.workload.bgp):
        path: KeyPath = ("workload", "bgp", index)
        yield from check_session(config, guest, path)
        if not guest.name or guest.name != guest.name.strip() or "/" in guest.name:
            yield Finding((*path, "name"), f'"{guest.name}" cannot be a name', 'not empty, no "/", no outer spaces')
        elif guest.name in names:
            what = f'"{guest.name}" is already the name of {names[guest.name]}'
            yield Finding((*path, "name"), what, "names are unique, among neighbors and guests together")
        elif may_be_named(config.neighbor, guest.name):
            what = f'"{guest.name}" may be the name of a neighbor that a pattern makes'
            yield Finding((*path, "name"), what, "choose another name")
        names.setdefault(guest.name, f"workload.bgp[{index}]")
        yield from _check_said(guest, path)
        yield from _check_timers(guest, path)
        yield from _check_place(config, guest, index)
    yield from _check_names_of_ranges(config)


def _check_names_of_ranges(config: Config) -> Iterator[Finding]:
    """Several guests of one section are named NAME-ADDRESS: nobody else may be."""
    ranges = [(index, guest) for index, guest in enumerate(config.workload.bgp) if not guest.is_single]
    for path, session in sessions_of(config) if ranges else ():
        name = "" if isinstance(session, GuestConfig) and not session.is_single else getattr(session, "name", "")
        for index, guest in ranges:
            if is_named(name, guest):
                what = f'"{name}" may be the name of a guest of workload.bgp[{index}] ("{guest.prefix}")'
                yield Finding((*path, "name"), what, "choose another name")


def warn_about_guests(config: Config) -> Iterator[Finding]:
    """Guests that may announce anything, or prefixes of a family that they do not speak."""
    for index, guest in enumerate(config.workload.bgp):
        for position, text in enumerate(guest.prefixes):
            path: KeyPath = ("workload", "bgp", index, "prefixes", position)
            permitted = parse_prefix_range(text)
            if permitted.key[0] == 0:
                what = f'"{text}" permits all prefixes: the guest may take any address of the network'
                yield Finding(path, what, "name the prefixes that are the guest's")
            if permitted.family not in guest.families:
                what = f'"{text}" is {permitted.family}, which is not in families'
                yield Finding(path, what, f'add "{permitted.family}" to families, or remove the prefix')


def _check_said(guest: GuestConfig, path: KeyPath) -> Iterator[Finding]:
    """What the guest says and is told."""
    for position, text in enumerate(guest.prefixes):
        try:
            permitted = parse_prefix_range(text)
        except ValueError as error:
            yield Finding((*path, "prefixes", position), str(error))
            continue
        if permitted.most == 0:
            what = f'"{text}" is the default route, which no guest may announce'
            yield Finding((*path, "prefixes", position), what, "name the prefixes that are the guest's")
    for position, name in enumerate(guest.families):
        if name in tuple(Family) and name not in UNICAST:
            what = f'"{name}" is not for guests'
            yield Finding((*path, "families", position), what, 'of "ipv4-unicast" and "ipv6-unicast"')
    if guest.accept_martians:
        what = "would take loopback, link-local and multicast prefixes from a guest"
        yield Finding((*path, "accept_martians"), what, "leave it out: none of these can be announced for a guest")
    if guest.export not in EXPORTS:
        what = f'"{guest.export}" would tell a guest the routes of the fabric'
        yield Finding((*path, "export"), what, '"none" or "default-only"')


def _check_timers(guest: GuestConfig, path: KeyPath) -> Iterator[Finding]:
    if guest.hold_time_s < guest.min_hold_time_s:
        what = f"is {guest.hold_time_s}, less than min_hold_time_s = {guest.min_hold_time_s}"
        yield Finding((*path, "hold_time_s"), what, "a guest that hangs is found out by it: at least 3")
    if guest.bfd is not None and guest.bfd.strict:
        what = "strict is for [[neighbor]]: a guest connects when it likes"
        yield Finding((*path, "bfd", "strict"), what, "leave strict out: BFD counts once it was Up")


def _check_place(config: Config, guest: GuestConfig, index: int) -> Iterator[Finding]:
    """Where it connects from, and to."""
    path: KeyPath = ("workload", "bgp", index)
    wrong = bad_address(guest.prefix) if guest.is_single else bad_prefix(guest.prefix)
    if wrong:
        yield Finding((*path, "address"), *wrong)
        return
    network = ipaddress.ip_network(guest.prefix)
    if network.prefixlen == 0:
        yield Finding((*path, "address"), f'"{guest.prefix}" is everybody', "name where the guests of this host are")
    if guest.interface and (wrong := bad_interface(guest.interface)):
        yield Finding((*path, "interface"), *wrong)
    if guest.is_single and network.is_link_local and not guest.interface:
        what = f'"{guest.prefix}" is link-local and has no interface'
        yield Finding((*path, "address"), what, 'add interface = "veth0"')
    if guest.source_address:
        if wrong := bad_address(guest.source_address):
            yield Finding((*path, "source_address"), *wrong)
            return
        if ipaddress.ip_address(guest.source_address).version != network.version:
            what = f'"{guest.source_address}" is not of the same IP version as "{guest.prefix}"'
            yield Finding((*path, "source_address"), what, f"write an IPv{network.version} address")
    yield from _check_overlaps(config, guest, index)


def _one_key(guest: GuestConfig, other: GuestConfig, index: int, at: int) -> Iterator[Finding]:
    """The kernel has one key for who connects to a port, whichever of this host's addresses is dialed."""
    if not (bad_address(other.prefix) and bad_prefix(other.prefix)) and overlaps(guest.prefix, [other.prefix]):
        what = f"is another password or key than that of workload.bgp[{at}], for the same address and port"
        key = "tcp_ao" if guest.tcp_ao or other.tcp_ao else "password_file"
        yield Finding(("workload", "bgp", index, key), what, "give both the same, or a port of their own")


def _check_overlaps(config: Config, guest: GuestConfig, index: int) -> Iterator[Finding]:
    """Others that the same connection could be of."""
    path: KeyPath = ("workload", "bgp", index, "address")
    right = "give the guest another address, or a port of its own"
    others: list[tuple[str, str]] = []
    if guest.port == BGP_PORT:
        others += [(one.address, f"neighbor {one.name}") for one in config.neighbor if one.vrf == guest.vrf]
        others += [(one.prefix, f"listen[{at}]") for at, one in enumerate(config.listen) if one.vrf == guest.vrf]
    for at, one in enumerate(config.workload.bgp[:index]):
        apart = one.source_address and guest.source_address and one.source_address != guest.source_address
        if (one.vrf, one.port) != (guest.vrf, guest.port):
            continue
        if not apart:
            others.append((one.prefix, f"workload.bgp[{at}]"))
        elif (one.password_file, one.tcp_ao) != (guest.password_file, guest.tcp_ao):
            yield from _one_key(guest, one, index, at)
    for other, whose in others:
        if other and not (bad_address(other) and bad_prefix(other)) and overlaps(guest.prefix, [other]):
            yield Finding(path, f'"{guest.prefix}" is also of {whose} ("{other}"), on the same port', right)
