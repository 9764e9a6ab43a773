"""Neighbors of FRR as [[neighbor]] and [[listen]]: sessions, timers, passwords, limits, filters."""

from __future__ import annotations

from collections.abc import Callable

from bgpd.migrate.draft import Draft, Place, Secret, Table, neighbor_name, put_max_prefixes
from bgpd.migrate.filters import (
    ACCEPT,
    REJECT,
    Branch,
    Inexpressible,
    Match,
    Not,
    Rules,
    Statement,
    compile_rules,
    named_policy,
)
from bgpd.migrate.frr_peers import Peer, Peers, is_off
from bgpd.migrate.frr_policy import FrrPolicies
from bgpd.migrate.frr_text import FrrText, Line, Router, is_address

FAMILIES = ("ipv4-unicast", "ipv6-unicast", "l2vpn-evpn")
"""Those that are spoken here; FRR calls them the same."""
_SAME_HERE = {
    "activate", "soft-reconfiguration", "send-community", "send-large-community", "send-extended-community",
    "next-hop-self", "remote-as", "peer-group", "interface", "description", "capability", "advertisement-interval",
    "enforce-first-as", "password", "timers", "update-source", "port", "passive", "local-as", "bfd", "ttl-security",
    "maximum-prefix", "allowas-in", "route-map", "prefix-list", "filter-list", "distribute-list", "shutdown",
    "ebgp-multihop", "disable-connected-check", "graceful-restart", "graceful-restart-helper",
    "graceful-restart-disable", "extended-optional-parameters", "strict-capability-match", "local-role",
}  # fmt: skip


class PeerWriter:
    """Writes the neighbors of one router into a draft."""

    def __init__(self, draft: Draft, text: FrrText, router: Router, *, needs_policy: bool) -> None:
        self._draft = draft
        self._text = text
        self._router = router
        self._needs_policy = needs_policy
        self._peers = Peers(router)
        self._named: dict[object, str] = {}
        self._timers = next((line for line in router.lines if line.starts("timers", "bgp")), None)

    def write(self) -> None:
        """All neighbors and ranges."""
        for peer in self._peers.found.values():
            if not peer.is_group:
                self._write_peer(self._peers.settings(peer))
        for line in self._peers.ranges:
            self._write_range(line)

    def _write_peer(self, peer: Peer) -> None:
        if "remote-as" not in peer.general:
            self._draft.lose(peer.place, f"neighbor {peer.name} has no remote-as", "give it one")
            return
        shutdown = peer.general.get("shutdown")
        is_down = shutdown is not None and not is_off(shutdown)
        table = self._draft.add("neighbor", is_proposal=is_down)
        if is_down:
            table.remark(f"{peer.place}: neighbor {peer.name} is shut down; remove the # to use it")
        description = peer.general.get("description")
        if description is not None:
            table.remark(" ".join(description.words[3:]))
        table.put("name", neighbor_name(self._draft, peer.name), f"{peer.place}: neighbor {peer.name}")
        if "interface" in peer.general and not is_address(peer.name):
            table.put("interface", peer.name)
        else:
            self._put_address(table, peer)
        self._write_session(table, peer)

    def _put_address(self, table: Table, peer: Peer) -> None:
        address, _, scope = peer.name.partition("%")
        table.put("address", address)
        source = peer.general.get("update-source")
        if "interface" in peer.general:
            scope = peer.general["interface"].word(3)
        if scope:
            table.put("interface", scope)
        if source is None or is_off(source) or len(source.words) < 4:
            return
        if is_address(source.word(3)):
            table.put("source_address", source.word(3), f"{source.place}: {source}")
            return
        own = _address_of(self._text, source.word(3), address)
        if own:
            table.put("source_address", own, f"{source.place}: {source}")
        elif source.word(3) != "lo":
            table.put("interface", source.word(3), f"{source.place}: {source}")
        else:
            what = f'"{source}": the address of {source.word(3)} is not in the file'
            self._draft.lose(source.place, what, "set source_address", at=table)

    def _write_range(self, line: Line) -> None:
        group = self._peers.found.get(line.after("peer-group"))
        if group is None or "remote-as" not in group.general:
            self._draft.lose(line.place, f'"{line}": the group has no remote-as')
            return
        table = self._draft.add("listen")
        table.put("prefix", line.after("range"), f"{line.place}: {line}")
        limit = next((one for one in self._router.lines if one.starts("bgp", "listen", "limit")), None)
        if limit is not None and limit.words[3:4] and limit.word(3).isdecimal():
            table.put("max_neighbors", int(limit.word(3)), f"{limit.place}: {limit}")
        self._write_session(table, group)

    def _write_session(self, table: Table, peer: Peer) -> None:
        asn = peer.general["remote-as"].word(3)
        if asn in ("auto",):
            self._draft.lose(peer.place, "remote-as auto", 'here any AS but our own: "external"', at=table)
            asn = "external"
        table.put("asn", _as_number(asn))
        if self._router.vrf:
            table.put("vrf", self._router.vrf)
        families = self._families(peer)
        known = [family for family in families if family in FAMILIES]
        if known and known != ["ipv4-unicast", "ipv6-unicast"]:
            table.put("families", known)
        for family in families:
            if family not in FAMILIES:
                self._draft.lose(peer.place, f"address family {family} is not spoken here", at=table)
        if not known:
            self._draft.lose(peer.place, f"neighbor {peer.name} has no address family that is spoken here", at=table)
            table.is_proposal = True
        self._write_timers(table, peer)
        self._write_protection(table, peer)
        self._write_family_settings(table, peer, families)
        self._write_policies(table, peer, known)
        self._tell_rest(table, peer)

    def _families(self, peer: Peer) -> list[str]:
        """The families that are active, in the order in which they are usual here."""
        active = list(self._peers.default_families)
        for family, commands in peer.families.items():
            line = commands.get("activate")
            if line is not None and is_off(line) and family in active:
                active.remove(family)
            elif line is not None and not is_off(line) and family not in active:
                active.append(family)
        return sorted(active, key=lambda family: FAMILIES.index(family) if family in FAMILIES else len(FAMILIES))

    def _write_timers(self, table: Table, peer: Peer) -> None:
        timers = peer.general.get("timers") or self._timers
        if timers is not None and not is_off(timers) and timers.words[-1].isdecimal():
            table.put("hold_time_s", int(timers.words[-1]), f"{timers.place}: {timers} (keepalives: a third of it)")
        else:
            table.put("hold_time_s", 180 if self._is_traditional else 9, "the default of FRR")
        connect = peer.general.get("timers connect")
        if connect is not None and connect.words[-1].isdecimal():
            table.put("connect_retry_s", int(connect.words[-1]), f"{connect.place}: {connect}")

    @property
    def _is_traditional(self) -> bool:
        return not any(line.words == ("frr", "defaults", "datacenter") for line in self._text.top)

    def _write_protection(self, table: Table, peer: Peer) -> None:
        """Password, TTL, BFD, graceful restart and what else a session is made of."""
        general = {name: line for name, line in peer.general.items() if not is_off(line)}
        if (line := general.get("password")) is not None and len(line.words) > 3:
            name = str(table.values.get("name") or f"listen-{len(self._draft.of('listen'))}")
            self._draft.secrets.append(Secret(table, name, " ".join(line.words[3:]), line.place))
        if "ttl-security" in general:
            table.put("ttl_security", True, f"{general['ttl-security'].place}: {general['ttl-security']}")
            if general["ttl-security"].words[-1] not in ("1", "hops"):
                self._draft.lose(
                    general["ttl-security"].place, "more than one hop: here packets must have TTL 255", at=table
                )
        if (line := general.get("ebgp-multihop")) is not None:
            table.remark(f"{line.place}: {line}: needs no key here, a neighbor may be several hops away")
        if (line := general.get("local-as")) is not None and line.word(3).isdecimal():
            table.put("local_asn", int(line.word(3)), f"{line.place}: {line}")
            if "replace-as" not in line.words:
                what = f'"{line}": FRR sends the router\'s AS number behind it; here it is replaced'
                self._draft.lose(line.place, what, at=table)
        if (line := general.get("local-role")) is not None and line.words[3:]:
            table.put("role", line.word(3).removesuffix("-server"), f"{line.place}: {line}")
            if "strict-mode" in line.words:
                table.put("role_strict", True)
        if "passive" in general and table.section == "neighbor":
            table.put("passive", True, f"{general['passive'].place}: {general['passive']}")
        if (line := general.get("port")) is not None and line.words[-1].isdecimal():
            table.put("port", int(line.words[-1]), f"{line.place}: {line}")
        self._write_bfd(table, general)
        self._write_graceful_restart(table, general)

    def _write_bfd(self, table: Table, general: dict[str, Line]) -> None:
        line = general.get("bfd")
        if line is None:
            return
        profile = self._text.bfd_profiles.get(line.after("profile"), []) if "profile" in line.words else []
        bfd: dict[str, int] = {}
        values = {one.words[0]: one.words[-1] for one in profile if one.words[-1].isdecimal()}
        if len(line.words) == 6 and all(word.isdecimal() for word in line.words[3:]):
            values = {"detect-multiplier": line.word(3), "transmit-interval": line.word(5)}
            values["receive-interval"] = line.word(4)
        intervals = [int(values[key]) for key in ("transmit-interval", "receive-interval") if key in values]
        if intervals:
            bfd["interval_ms"] = max(intervals)
        if "detect-multiplier" in values:
            bfd["multiplier"] = int(values["detect-multiplier"])
        table.put("bfd", dict(bfd), f"{line.place}: {line}")
        if len(set(intervals)) > 1:
            self._draft.lose(line.place, "different intervals to send and to receive: here the longer one", at=table)

    def _write_graceful_restart(self, table: Table, general: dict[str, Line]) -> None:
        lines = {" ".join(line.words): line for line in self._router.lines}
        if "graceful-restart-disable" in general or "bgp graceful-restart-disable" in lines:
            table.put("graceful_restart", {"mode": "off"})
            return
        is_full = "graceful-restart" in general or "bgp graceful-restart" in lines
        times = {
            key: next((line for text, line in lines.items() if text.startswith(f"bgp graceful-restart {word} ")), None)
            for key, word in (("restart_time_s", "restart-time"), ("stale_time_s", "stalepath-time"))
        }
        found: dict[str, str | int] = {"mode": "both" if is_full else "helper"}
        for key, line in times.items():
            if line is not None and line.words[-1].isdecimal():
                found[key] = int(line.words[-1])
        table.put("graceful_restart", dict(found), "" if is_full else "the default of FRR: it helps, and is not helped")

    def _write_family_settings(self, table: Table, peer: Peer, families: list[str]) -> None:
        for family in families:
            commands = {name: line for name, line in self._commands(peer, family).items() if not is_off(line)}
            if (line := commands.get("maximum-prefix")) is not None and line.words[3:4] and line.word(3).isdecimal():
                self._write_limit(table, line)
            if (line := commands.get("allowas-in")) is not None:
                count = int(line.word(3)) if line.words[3:4] and line.word(3).isdecimal() else 3
                table.put("allow_own_as", min(count, 10), f"{line.place}: {line}")
                if "origin" in line.words:
                    self._draft.lose(line.place, '"origin": here the AS may stand anywhere in the path', at=table)

    def _write_limit(self, table: Table, line: Line) -> None:
        if "warning-only" in line.words:
            what = f'"{line}": FRR only warns; here a limit ends the session, or leaves out what is beyond it'
            self._draft.lose(line.place, what, "set max_prefixes, if there is to be one", at=table)
            return
        put_max_prefixes(self._draft, table, int(line.word(3)), line.place, line)
        if line.words[4:5] and line.word(4).isdecimal():
            table.put("max_prefixes_warn_percent", min(int(line.word(4)), 100))
        if (minutes := line.after("restart")).isdecimal():
            table.put("max_prefixes_restart_after_s", max(1, int(minutes) * 60))

    def _commands(self, peer: Peer, family: str) -> dict[str, Line]:
        """What is said for a family; filters outside of all families are of IPv4 unicast."""
        general = peer.general if family == "ipv4-unicast" else {}
        return {**general, **peer.families.get(family, {})}

    def _write_policies(self, table: Table, peer: Peer, families: list[str]) -> None:
        is_external = str(table.values["asn"]) not in ("internal", self._router.asn)
        for direction, key in (("in", "import"), ("out", "export")):
            self._write_policy(table, peer, families, direction, key, is_external)

    def _write_policy(
        self, table: Table, peer: Peer, families: list[str], direction: str, key: str, is_external: bool
    ) -> None:
        lines = {family: self._filters(peer, family, direction) for family in families}
        said = [line for filters in lines.values() for line in filters.values()]
        names = list(dict.fromkeys(line.word(3) for line in said))
        if not said and self._needs_policy and is_external:
            what = "FRR takes from and sends to an external neighbor nothing without a policy (RFC 8212)"
            table.put(key, "none", f"{peer.place}: no filter {direction}: {what}")
            return
        if not said and direction == "out":
            table.put(
                key,
                "local",
                "no filter in FRR: it sends what it learned, too; here only what is this host's own",
            )
            return
        asked = (direction, is_external, tuple((family, tuple(_by_name(lines[family]).items())) for family in families))
        try:
            if asked not in self._named:
                rules = self._rules(lines, direction, table, is_external=is_external)
                self._named[asked] = named_policy(rules, exporting=key == "export") or self._draft.policy(
                    "-".join(names), rules, f"{said[0].place}: {said[0]}"
                )
        except Inexpressible as error:
            place = Place(peer.place.file, error.line) if error.line else (said[0].place if said else peer.place)
            what = f"filter {direction} of neighbor {peer.name} ({', '.join(names)}) cannot be converted: {error}"
            self._draft.lose(place, what, f'{key} is "none" until there is a policy', at=table)
            table.put(key, "none", f"not converted: {', '.join(names)}")
            return
        table.put(key, self._named[asked], f"{said[0].place}: {said[0]}" if said else "FRR has no filter here")

    def _rules(self, lines: dict[str, dict[str, Line]], direction: str, table: Table, *, is_external: bool) -> Rules:
        """The rules of filters by family. Raises: Inexpressible."""
        policies = FrrPolicies(self._text, _own_asn(self._router), self._told(table))
        parts = {
            family: self._statements(policies, filters, direction, family, is_external)
            for family, filters in lines.items()
        }
        if len({repr(part) for part in parts.values()}) == 1:
            return compile_rules(next(iter(parts.values())), default=REJECT)
        return compile_rules(
            tuple(Branch(Match("family", (family,)), part) for family, part in parts.items()), default=REJECT
        )

    def _filters(self, peer: Peer, family: str, direction: str) -> dict[str, Line]:
        commands = self._commands(peer, family)
        found = {
            kind: commands.get(f"{kind} {direction}") for kind in ("distribute-list", "prefix-list", "filter-list")
        }
        found["route-map"] = commands.get(f"route-map {direction}")
        return {kind: line for kind, line in found.items() if line is not None and not is_off(line) and line.words[3:]}

    def _statements(
        self, policies: FrrPolicies, filters: dict[str, Line], direction: str, family: str, is_external: bool
    ) -> tuple[Statement, ...]:
        if not filters:
            is_closed = self._needs_policy and is_external
            if direction == "out" and not is_closed:
                return (Branch(Match("local", ("local",)), (ACCEPT,)), REJECT)
            return (REJECT,) if is_closed else (ACCEPT,)
        version = "ipv6" if family == "ipv6-unicast" else "ip"
        made: list[Statement] = []
        for kind, line in filters.items():
            name = line.word(3)
            match kind:
                case "prefix-list":
                    made.append(Branch(Not(policies.prefix_list(name, version)), (REJECT,)))
                case "distribute-list":
                    made.append(Branch(Not(policies.access_list(name, version)), (REJECT,)))
                case "filter-list":
                    made.append(Branch(Not(policies.as_path(name)), (REJECT,)))
                case "route-map":
                    return (*made, *policies.route_map(name))
        return (*made, ACCEPT)

    def _told(self, table: Table) -> Callable[[Line, str], None]:
        return lambda line, what: self._draft.lose(line.place, what, at=table)

    def _tell_rest(self, table: Table, peer: Peer) -> None:
        """What has no counterpart, and what works another way."""
        everything = [*peer.general.items(), *(item for one in peer.families.values() for item in one.items())]
        for name, line in everything:
            command = name.split(" ")[0]
            if command == "default-originate" and not is_off(line):
                right = "announce it by a workload or an aggregate of a router; a host has no default route to give"
                self._draft.lose(line.place, f'"{line}" is not converted', right, at=table)
            elif command not in _SAME_HERE and not is_off(line):
                self._draft.lose(line.place, f'"{line}" is not converted', at=table)


def _by_name(lines: dict[str, Line]) -> dict[str, str]:
    return {kind: line.word(3) for kind, line in lines.items()}


def _own_asn(router: Router) -> int:
    return int(router.asn) if router.asn.isdecimal() else 0


def _as_number(text: str) -> int | str:
    if text.isdecimal() and len(text) < 12:
        return int(text)
    high, dot, low = text.partition(".")
    if dot and high.isdecimal() and low.isdecimal() and len(text) < 12:
        return int(high) << 16 | int(low)
    return text


def _address_of(text: FrrText, interface: str, like: str) -> str:
    """An address that the file gives an interface, of the IP version of another; "" if it gives none."""
    for line in text.interfaces.get(interface, []):
        if line.words[:2] in (("ip", "address"), ("ipv6", "address")) and len(line.words) > 2:
            address = line.word(2).partition("/")[0]
            if is_address(address) and (":" in address) == (":" in like):
                return address
    return ""
