"""Whether [[neighbor]], [[listen]] and [policy.NAME] make sense: who is talked to, and what is let through.

It reads password and key files to see that they can be read, and asks the kernel for TCP-AO; it changes nothing.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from bgpd.config.password_file import BadPasswordFile, read_password_file
from bgpd.config.patterns import is_pattern, matches, may_be_named, no_match
from bgpd.config.prefix_sets import overlaps
from bgpd.config.schema import Config
from bgpd.config.schema_policies import EXPORT_POLICIES, IMPORT_POLICIES, PolicyConfig, RuleConfig
from bgpd.config.schema_sessions import NeighborConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.config.shape import Finding, did_you_mean
from bgpd.config.tcp_ao import ALGORITHMS, NO_TCP_AO, has_tcp_ao
from bgpd.config.toml_lines import KeyPath
from bgpd.config.words import (
    bad_address,
    bad_as_number,
    bad_families,
    bad_interface,
    bad_interface_pattern,
    bad_prefix,
    missing_interface,
    one_of,
)
from bgpd.model.iana import ROLES
from bgpd.model.policy_syntax import (
    parse_as_path_condition,
    parse_community,
    parse_extended_community,
    parse_large_community,
    parse_prefix_range,
)

ACTIONS = ("accept", "reject", "next")
_RESTART_AFTER = "max_prefixes_restart_after_s"
_OF_A_LIMIT = ("max_prefixes_action", "max_prefixes_warn_percent", _RESTART_AFTER)


def check_neighbors(config: Config) -> Iterator[Finding]:
    """Errors of all [[neighbor]]."""
    names: dict[str, int] = {}
    places: dict[tuple[str, str, str, int], int] = {}
    for index, neighbor in enumerate(config.neighbor):
        path: KeyPath = ("neighbor", index)
        yield from check_session(config, neighbor, path)
        yield from _check_place(neighbor, path)
        if not neighbor.expect_hostname.isprintable() or " " in neighbor.expect_hostname:
            what = f"{neighbor.expect_hostname!a} is no host's name"
            yield Finding((*path, "expect_hostname"), what, 'such as "leaf1", "leaf1.example" or "leaf*"')
        if not neighbor.name or neighbor.name != neighbor.name.strip() or "/" in neighbor.name:
            yield Finding((*path, "name"), f'"{neighbor.name}" cannot be a name', 'not empty, no "/", no outer spaces')
        elif names.setdefault(neighbor.name, index) != index:
            what = f'"{neighbor.name}" is already the name of neighbor[{names[neighbor.name]}]'
            yield Finding((*path, "name"), what, "names are unique")
        elif _takes_a_name(config, neighbor):
            what = f'"{neighbor.name}" may be the name of a neighbor that a pattern makes'
            yield Finding((*path, "name"), what, "choose another name")
        place = _place(neighbor)
        if place is not None and places.setdefault(place, index) != index:
            field = "address" if neighbor.address else "interface"
            what = f'"{getattr(neighbor, field)}" is already neighbor[{places[place]}]'
            yield Finding((*path, field), what, "one session for each address; remove one")


def warn_about_imports(config: Config) -> Iterator[Finding]:
    """Warns of sessions that import all routes and whose max_prefixes is absent, the default or higher."""
    for path, session in sessions_of(config):
        if isinstance(session, GuestConfig):
            continue
        if session.import_ == "all" and (not session.max_prefixes or session.max_prefixes >= _default_most(session)):
            right = "name a [policy.NAME] with the permitted prefixes, or set max_prefixes to what the fabric has"
            yield Finding((*path, "import"), 'is "all", and nothing limits what the neighbor may announce', right)


def warn_about_limits(config: Config) -> Iterator[Finding]:
    """Warns of what is said of a limit that there is not, or that works another way."""
    for path, session in sessions_of(config):
        said = [key for key in _OF_A_LIMIT if getattr(session, key) != _default(session, key)]
        if not session.max_prefixes:
            for key in said:
                yield Finding(
                    (*path, key), "has no effect: max_prefixes is 0, no limit", f"set max_prefixes, or leave {key} out"
                )
        elif session.max_prefixes_action == "discard" and _RESTART_AFTER in said:
            what = 'has no effect: with max_prefixes_action = "discard" no session ends'
            yield Finding((*path, _RESTART_AFTER), what, f"leave {_RESTART_AFTER} out")


def sessions_of(config: Config) -> list[tuple[KeyPath, SessionConfig]]:
    """All sections that sessions are made from, each with its place."""
    return [
        *((("neighbor", index), one) for index, one in enumerate(config.neighbor)),
        *((("listen", index), one) for index, one in enumerate(config.listen)),
        *((("workload", "bgp", index), one) for index, one in enumerate(config.workload.bgp)),
    ]


def _default_most(session: SessionConfig) -> int:
    """The default of max_prefixes: a limit that nobody chose."""
    return int(_default(session, "max_prefixes"))


def _default(session: SessionConfig, key: str) -> Any:
    return _defaults(type(session))[key]


@functools.cache
def _defaults(kind: type[SessionConfig]) -> dict[str, Any]:
    """By field; msgspec takes half a millisecond for each question."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def check_listens(config: Config) -> Iterator[Finding]:
    """Errors of all [[listen]]."""
    known: dict[str, dict[str, int]] = {}
    for index, listen in enumerate(config.listen):
        path: KeyPath = ("listen", index)
        yield from check_session(config, listen, path)
        if wrong := bad_prefix(listen.prefix):
            yield Finding((*path, "prefix"), *wrong)
            continue
        if listen.bfd is not None and listen.bfd.strict:
            what = "strict is for [[neighbor]]: a dynamic neighbor is not known before it connects"
            yield Finding((*path, "bfd", "strict"), what, "leave strict out: BFD counts once it was Up")
        if listen.hold_time_s < listen.min_hold_time_s:
            what = f"is {listen.hold_time_s}, less than min_hold_time_s = {listen.min_hold_time_s}"
            yield Finding((*path, "hold_time_s"), what, "no neighbor could be established; dynamic neighbors need one")
        before = known.setdefault(listen.vrf, {})
        for other in overlaps(listen.prefix, list(before)):
            what = f'"{listen.prefix}" overlaps "{other}" of listen[{before[other]}]'
            yield Finding((*path, "prefix"), what, "an address must belong to one of them only")
        before.setdefault(listen.prefix, index)


def warn_about_interfaces(config: Config, known: Sequence[str]) -> Iterator[Finding]:
    """Interfaces that lead to neighbors, and that this host does not have now; `known` are those that it has."""
    for index, neighbor in enumerate(config.neighbor):
        if is_pattern(neighbor):
            if not any(matches(neighbor, name) for name in known):
                wrong = missing_interface(neighbor.interface, known)
                yield Finding(("neighbor", index, "interface"), no_match(neighbor), wrong[1] if wrong else "")
        elif neighbor.interface and (wrong := missing_interface(neighbor.interface, known)):
            yield Finding(("neighbor", index, "interface"), f"{wrong[0]} now", wrong[1])
    for index, vrf in enumerate(config.vrf):
        for position, uplink in enumerate(vrf.uplinks):
            if wrong := missing_interface(uplink, known):
                yield Finding(("vrf", index, "uplinks", position), f"{wrong[0]} now", wrong[1])


def check_policies(config: Config) -> Iterator[Finding]:
    """Errors of all [policy.NAME]."""
    for name, policy in config.policy.items():
        if name in EXPORT_POLICIES:
            yield Finding(("policy", name), f'"{name}" is the name of a built-in policy', "choose another name")
        yield from _check_rules(config, policy, ("policy", name, "rules"))


def policies_in_use(config: Config) -> set[str]:
    """Names that any import or export gives."""
    sessions: tuple[SessionConfig, ...] = (*config.neighbor, *config.ranges)
    return {name for session in sessions for name in (session.import_, session.export)}


def check_session(config: Config, session: SessionConfig, path: KeyPath) -> Iterator[Finding]:
    """Errors of what all sections of sessions share."""
    if isinstance(session.asn, str):
        if wrong := one_of(session.asn, ("external", "internal")):
            yield Finding((*path, "asn"), wrong[0], 'write a number without quotes, "external" or "internal"')
    elif wrong := bad_as_number(session.asn):
        yield Finding((*path, "asn"), *wrong)
    if session.local_asn and (wrong := bad_as_number(session.local_asn)):
        yield Finding((*path, "local_asn"), *wrong)
    yield from _check_role(config, session, path)
    for field, value, built_in in (
        ("import", session.import_, IMPORT_POLICIES),
        ("export", session.export, EXPORT_POLICIES),
    ):
        if value not in built_in and value not in config.policy:
            known = [*built_in, *config.policy]
            yield Finding((*path, field), f'there is no policy "{value}"', did_you_mean(value, known))
    if found := bad_families(session.families):
        yield Finding((*path, "families", found[0]), *found[1])
    if wrong := one_of(session.max_prefixes_action, ("reset", "discard")):
        yield Finding((*path, "max_prefixes_action"), *wrong)
    if session.hold_time_s in (1, 2):
        yield Finding((*path, "hold_time_s"), f"is {session.hold_time_s}", "must be 0 or at least 3 (RFC 4271, 4.2)")
    if session.password_file:
        try:
            read_password_file(session.password_file)
        except BadPasswordFile as bad:
            yield Finding((*path, "password_file"), *bad.wrong)
    yield from _check_tcp_ao(session, (*path, "tcp_ao"))


def _check_role(config: Config, session: SessionConfig, path: KeyPath) -> Iterator[Finding]:
    if session.role:
        if wrong := one_of(session.role, tuple(ROLES)):
            yield Finding((*path, "role"), *wrong)
        elif session.asn in ("internal", session.local_asn or config.router.asn):
            what = f'is "{session.role}", and the neighbor is internal'
            yield Finding((*path, "role"), what, "roles are between two AS (RFC 9234): remove it")
    elif session.role_strict:
        yield Finding((*path, "role_strict"), "is given, and there is no role", f"give one: {', '.join(ROLES)}")


def _check_tcp_ao(session: SessionConfig, path: KeyPath) -> Iterator[Finding]:
    if session.tcp_ao and session.password_file:
        yield Finding(path, "is given, and password_file too", "a session has TCP-AO or TCP MD5: remove one of them")
    for index, key in enumerate(session.tcp_ao):
        where = (*path, index)
        if wrong := one_of(key.algorithm, tuple(ALGORITHMS)):
            yield Finding((*where, "algorithm"), *wrong)
        for field in ("send_id", "receive_id"):
            if getattr(key, field) in [getattr(other, field) for other in session.tcp_ao[:index]]:
                yield Finding((*where, field), f"{getattr(key, field)} is another key's", "each key has IDs of its own")
        try:
            read_password_file(key.key_file)
        except BadPasswordFile as bad:
            yield Finding((*where, "key_file"), *bad.wrong)


def warn_about_tcp_ao(config: Config) -> Iterator[Finding]:
    """TCP-AO where this kernel has none."""
    found = [path for path, session in sessions_of(config) if session.tcp_ao]
    if not found or has_tcp_ao():
        return
    for path in found:
        right = "its sessions stay down: use password_file, or another kernel"
        yield Finding((*path, "tcp_ao"), f"is given, and {NO_TCP_AO}", right)


def _check_place(neighbor: NeighborConfig, path: KeyPath) -> Iterator[Finding]:
    """Where the neighbor is: an address, or an interface alone."""
    bad = bad_interface_pattern if is_pattern(neighbor) else bad_interface
    if neighbor.interface and (wrong := bad(neighbor.interface)):
        yield Finding((*path, "interface"), *wrong)
    if is_pattern(neighbor) and neighbor.address:
        what = f'"{neighbor.interface}" is a pattern, and there is an address'
        yield Finding((*path, "interface"), what, "one address is on one interface: name that, or remove the address")
    if not neighbor.address:
        if not neighbor.interface:
            right = 'give an address, or an interface = "eth0" for an unnumbered session'
            yield Finding((*path, "address"), "is missing, and there is no interface either", right)
        if neighbor.source_address:
            what = "is given for an unnumbered session"
            yield Finding((*path, "source_address"), what, "it uses the interface's link-local address; remove it")
        return
    if wrong := bad_address(neighbor.address):
        yield Finding((*path, "address"), *wrong)
        return
    address = ipaddress.ip_address(neighbor.address)
    if address.version == 6 and address.is_link_local and not neighbor.interface:
        what = f'"{neighbor.address}" is link-local and has no interface'
        yield Finding((*path, "address"), what, 'add interface = "eth0", or give only the interface')
    if neighbor.source_address:
        if wrong := bad_address(neighbor.source_address):
            yield Finding((*path, "source_address"), *wrong)
        elif ipaddress.ip_address(neighbor.source_address).version != address.version:
            what = f'"{neighbor.source_address}" is not of the same IP version as "{neighbor.address}"'
            yield Finding((*path, "source_address"), what, f"write an IPv{address.version} address")


def _takes_a_name(config: Config, neighbor: NeighborConfig) -> bool:
    """Whether a pattern may want to give the name to its neighbor on another interface than this one's."""
    is_meant = bool(neighbor.interface) and neighbor.name.endswith(f"-{neighbor.interface}")
    return not is_pattern(neighbor) and not is_meant and may_be_named(config.neighbor, neighbor.name)


def _place(neighbor: NeighborConfig) -> tuple[str, str, str, int] | None:
    """What two neighbors cannot share: VRF, address, interface and port."""
    if not neighbor.address:
        return (neighbor.vrf, "", neighbor.interface, neighbor.port) if neighbor.interface else None
    if bad_address(neighbor.address):
        return None
    address = ipaddress.ip_address(neighbor.address)
    return neighbor.vrf, str(address), neighbor.interface if address.is_link_local else "", neighbor.port


def _check_rules(config: Config, policy: PolicyConfig, path: KeyPath) -> Iterator[Finding]:
    for index, rule in enumerate(policy.rules):
        where = (*path, index)
        yield from _check_words(rule, where)
        if wrong := one_of(rule.action, ACTIONS):
            yield Finding((*where, "action"), *wrong)
        if found := bad_families(rule.match.family):
            yield Finding((*where, "match", "family", found[0]), *found[1])
        names = [neighbor.name for neighbor in config.neighbor if not is_pattern(neighbor)]
        for position, name in enumerate(rule.match.neighbor):
            is_known = "*" in name or config.ranges or may_be_named(config.neighbor, name)
            if not is_known and (wrong := one_of(name, names)):
                yield Finding((*where, "match", "neighbor", position), *wrong)


def _check_words(rule: RuleConfig, path: KeyPath) -> Iterator[Finding]:
    """The parts of a rule that are parsed further."""
    parsers: tuple[tuple[str, str, tuple[str, ...], Callable[[str], object]], ...] = (
        ("match", "prefix", rule.match.prefix, parse_prefix_range),
        ("match", "as_path", rule.match.as_path, parse_as_path_condition),
        ("match", "next_hop", rule.match.next_hop, _parse_network),
        ("match", "community", rule.match.community, parse_community),
        ("match", "extended_community", rule.match.extended_community, parse_extended_community),
        ("match", "large_community", rule.match.large_community, parse_large_community),
        ("set", "add_community", rule.set.add_community, parse_community),
        ("set", "remove_community", rule.set.remove_community, parse_community),
        ("set", "add_extended_community", rule.set.add_extended_community, parse_extended_community),
        ("set", "remove_extended_community", rule.set.remove_extended_community, parse_extended_community),
        ("set", "add_large_community", rule.set.add_large_community, parse_large_community),
        ("set", "remove_large_community", rule.set.remove_large_community, parse_large_community),
    )
    for part, field, words, parse in parsers:
        for index, word in enumerate(words):
            try:
                parse(word)
            except ValueError as error:
                yield Finding((*path, part, field, index), str(error))


def _parse_network(text: str) -> None:
    if wrong := bad_prefix(text):
        raise ValueError("; ".join(wrong))
