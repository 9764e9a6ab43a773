"""What a VRF needs of the kernel where there is no VRF device: policy rules, and copies of its connected networks.

Packets that arrive on an interface of the VRF, or are sent by a socket bound to it, are looked up in the VRF's table.
IPv6 link-local destinations stay with the main table, since they are valid on their interface only. Also says which
tables a VRF cannot use. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bgpd.kernel.host import Host
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import KernelRoute, RoutingRule

RULE_PRIORITY = 1000
"""Where the kernel puts its own rule for VRF devices: after the local table, before the main one."""
_MAIN = 254
_LINK_LOCAL = b"\x0a\xfe\x80"
RESERVED_TABLES = {0: "unspec", 253: "default", _MAIN: "main", 255: "local"}
_PROTOCOLS_OF_THE_KERNEL = (1, 2, 9)
"""redirect, kernel, ra: what stands in a VRF's table because an interface is in it."""
_RTPROT_KERNEL = 2


def interface_rules(interfaces: Iterable[str], table: int, protocol: int) -> set[RoutingRule]:
    """The rules by which interfaces belong to a table."""
    return {
        RoutingRule(family=family, priority=RULE_PRIORITY, protocol=protocol, table=table, iif=iif, oif=oif)
        for name in interfaces
        for iif, oif in ((name, ""), ("", name))
        for family in UNICAST
    }


def link_local_rule(protocol: int) -> RoutingRule:
    """The rule, for all VRFs, that keeps link-local destinations with the main table."""
    return RoutingRule(
        family=Family.IPV6_UNICAST, priority=RULE_PRIORITY - 1, protocol=protocol, table=_MAIN, to=_LINK_LOCAL
    )


def device_rules() -> set[RoutingRule]:
    """The rules that the kernel makes with its first VRF device, to be made again if another program removed them."""
    return {
        RoutingRule(family=family, priority=RULE_PRIORITY, protocol=_RTPROT_KERNEL, l3mdev=True) for family in UNICAST
    }


def rule_order(rule: RoutingRule) -> tuple[object, ...]:
    """In which order rules are made and deleted: a set of them has another order in each process."""
    return rule.priority, rule.family, rule.table, rule.protocol, rule.iif, rule.oif, rule.to, rule.source, rule.l3mdev


def why_not_usable(table: int, protocol: int, routes: Collection[KernelRoute], *, is_ours: bool) -> str:
    """Why a table cannot be a VRF's: reserved, or full of another program's routes; "" if it can.

    `is_ours`: an earlier run left routes or rules for it; then what others put there is met route by route.
    """
    if table in RESERVED_TABLES:
        return f"table {table} is the kernel's own ({RESERVED_TABLES[table]}): choose another"
    foreign = [
        route
        for route in routes
        if route.table == table and route.protocol not in (protocol, *_PROTOCOLS_OF_THE_KERNEL)
    ]
    if not foreign or is_ours:
        return ""
    protocols = ", ".join(str(number) for number in sorted({route.protocol for route in foreign}))
    return (
        f"table {table} has {len(foreign)} routes of another program (protocol {protocols}; see `ip route show table"
        f" {table}`): choose a table that nobody else uses"
    )


def connected_networks(host: Host, interfaces: Collection[str]) -> dict[Family, dict[bytes, str]]:
    """Networks that the kernel attached to these interfaces, each with its interface; link-local ones left out.

    Of several interfaces with one network the first that is up.
    """
    found: dict[Family, dict[bytes, str]] = {Family.IPV4_UNICAST: {}, Family.IPV6_UNICAST: {}}
    for name in sorted(interfaces, key=lambda name: _preference(host, name)):
        for family, key in host.networks(name):
            found[family].setdefault(key, name)
    return found


def _preference(host: Host, interface: str) -> tuple[bool, int]:
    link = host.named(interface)
    return (not link.up, link.index) if link else (True, 0)


class PolicyRules:
    """The policy rules as last read, and as changed by this process since."""

    def __init__(self, found: Iterable[RoutingRule]) -> None:
        self.all: dict[RoutingRule, None] = {}
        self._by_table: dict[int, dict[RoutingRule, None]] = {}
        for rule in sorted(found, key=rule_order):
            self.add(rule)

    def of(self, table: int, protocol: int) -> list[RoutingRule]:
        """The rules of an rtproto that look up a table."""
        return [rule for rule in self._by_table.get(table, ()) if rule.protocol == protocol]

    def add(self, rule: RoutingRule) -> None:
        """The kernel has made it."""
        self.all[rule] = None
        self._by_table.setdefault(rule.table, {})[rule] = None

    def remove(self, rule: RoutingRule) -> None:
        """The kernel has deleted it."""
        self.all.pop(rule, None)
        self._by_table.get(rule.table, {}).pop(rule, None)
