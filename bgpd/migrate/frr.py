"""`bgpd import frr`: the configuration of FRR's bgpd, with what of zebra's and staticd's belongs to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from bgpd.migrate.addresses import SECTION, announce_addresses, prefixes_of_hosts
from bgpd.migrate.draft import AUTOMATIC, Draft, ImportFailed, Place, Table
from bgpd.migrate.filters import REJECT, Inexpressible, compile_rules
from bgpd.migrate.frr_policy import FrrPolicies
from bgpd.migrate.frr_sessions import PeerWriter
from bgpd.migrate.frr_text import FrrText, Line, Router, read_frr_text
from bgpd.migrate.reading import display_name, read_text

_FIRST_WITH_RFC_8212 = (7, 4)
_FIRST_TABLE = 1001
_OF_NO_EFFECT = (
    "frr", "hostname", "domainname", "service", "log", "line", "banner", "debug", "agentx", "watchfrr", "no", "enable",
    "password", "zebra", "allow-external-route-update", "key", "fpm",
)  # fmt: skip
_SAME_HERE = (
    "router-id", "default", "bestpath", "log-neighbor-changes", "ebgp-requires-policy", "listen", "graceful-restart",
    "network", "deterministic-med", "always-compare-med", "suppress-duplicates", "suppress-fib-pending",
    "fast-convergence", "fast-external-failover", "graceful-restart-disable", "hard-administrative-reset",
    "reject-as-sets",
)  # fmt: skip


def import_frr(files: Sequence[str]) -> Draft:
    """The draft that one or several frr.conf come to.

    Raises: ImportFailed: a file cannot be read, or none of them has a "router bgp".
    """
    text = FrrText()
    for file in files:
        read_frr_text(read_text(file), display_name(file), text)
    names = ", ".join(map(display_name, files))
    main = next((router for router in text.routers if not router.vrf), None)
    if main is None:
        what = 'has no "router bgp" outside of VRFs' if text.routers else 'has no "router bgp"'
        raise ImportFailed(Place(names), what, "give the frr.conf that the router runs with")
    draft = Draft(f"Converted from the FRR configuration {names}: read it before you use it.")
    _write_router(draft, text, main)
    for router in text.routers:
        if router.vrf.startswith("view "):
            draft.lose(router.place, f"router bgp {router.asn} {router.vrf}: views are not converted")
            continue
        PeerWriter(draft, text, router, needs_policy=_needs_policy(text, router)).write()
        _write_announced(draft, text, router)
        _tell_rest(draft, router)
    _write_vrfs(draft, text)
    for line in (*text.top, *text.unknown):
        _tell_top(draft, text, line)
    return draft


def _write_router(draft: Draft, text: FrrText, router: Router) -> None:
    table = draft.section("router")
    asn = router.asn
    if not asn.isdecimal():
        high, _, low = asn.partition(".")
        if not (high.isdecimal() and low.isdecimal() and len(asn) < 12):
            raise ImportFailed(router.place, f'"router bgp {asn}" has no AS number', "give the whole frr.conf")
        asn = str(int(high) << 16 | int(low))
        router.asn = asn
    table.put("asn", int(asn[:12]), f"{router.place}: router bgp {asn}")
    for line in (*router.lines, *text.top):
        words = line.words
        if words[:2] == ("bgp", "router-id") and len(words) > 2:
            table.put("router_id", words[2], f"{line.place}: {line}")
        elif "router_id" not in table.values and (router_id := _router_id_of_host(words)):
            table.put("router_id", router_id, f"{line.place}: {line}")
        elif words[0] == "hostname" and len(words) > 1:
            table.put("hostname", words[1], f"{line.place}: {line}")
    if "router_id" not in table.values:
        _find_router_id(text, table)


def _router_id_of_host(words: tuple[str, ...]) -> str:
    """That of zebra ("router-id" before FRR 8); "" if the line says none, or that of another VRF."""
    match words:
        case ("ip", "router-id", router_id) | ("router-id", router_id):
            return router_id
    return ""


def _find_router_id(text: FrrText, table: Table) -> None:
    """FRR takes the highest address of a loopback, else of any interface; the file may not have them."""
    for names in (["lo"], sorted(text.interfaces)):
        found = [
            ipaddress.IPv4Address(line.word(2).partition("/")[0])
            for name in names
            for line in text.interfaces.get(name, [])
            if line.words[:2] == ("ip", "address") and len(line.words) > 2 and _is_ipv4(line.word(2).partition("/")[0])
        ]
        if found:
            table.put("router_id", str(max(found)), "no bgp router-id: an address of the file")
            return
    table.put("router_id", AUTOMATIC, "no bgp router-id")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _needs_policy(text: FrrText, router: Router) -> bool:
    """Whether FRR keeps external neighbors without a filter from all routes (RFC 8212)."""
    for line in router.lines:
        if line.words[-2:] == ("bgp", "ebgp-requires-policy"):
            return line.words[0] != "no"
    for line in text.top:
        if line.words[:2] == ("frr", "defaults"):
            if line.words[2:] == ("datacenter",):
                return False
        elif line.words[:2] == ("frr", "version") and len(line.words) > 2:
            parts = line.word(2).split(".")
            is_number = len(parts) > 1 and all(part.isdecimal() for part in parts[:2])
            if is_number and (int(parts[0]), int(parts[1])) < _FIRST_WITH_RFC_8212:
                return False
    return True


def _write_announced(draft: Draft, text: FrrText, router: Router) -> None:
    """network, aggregate-address and redistribute, of all families."""
    for line in (*router.lines, *(line for lines in router.families.values() for line in lines)):
        match line.words:
            case ("network", prefix, *_):
                _write_network(draft, text, router, line, prefix)
            case ("aggregate-address", prefix, *rest):
                table = draft.add("aggregate")
                table.put("prefix", prefix, f"{line.place}: {line}")
                if "summary-only" in rest:
                    table.put("summary_only", True)
                if router.vrf:
                    table.put("vrf", router.vrf)
                if others := [word for word in rest if word != "summary-only"]:
                    draft.lose(line.place, f'"{" ".join(others)}" of "{line}" is not converted', at=table)
            case ("redistribute", source, *_):
                _write_redistributed(draft, text, router, line, source)


def _write_network(draft: Draft, text: FrrText, router: Router, line: Line, prefix: str) -> None:
    try:
        network = ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        draft.lose(line.place, f'"{line}": "{prefix}" is no prefix')
        return
    if "route-map" in line.words:
        draft.lose(line.place, f'the route-map of "{line}" is not converted', "use an export policy")
    interface = _interface_with(text, network)
    if network.prefixlen == network.max_prefixlen and not router.vrf:
        interfaces = [interface] if interface else []
        announce_addresses(draft, line.place, line, interfaces=interfaces, prefixes=[str(network)])
    else:
        table = draft.add("workload.static", is_proposal=True)
        table.put("prefix", str(network), f"{line.place}: {line}")
        table.put("interface", interface or "INTERFACE")
        if router.vrf:
            table.put("vrf", router.vrf)
        what = f'"{line}": FRR announces it while the host has a route to it, by whichever program'
        right = "name its interface here, or write an [[aggregate]], or the interface in [workload.kernel]"
        draft.lose(line.place, what, right, at=table)


def _interface_with(text: FrrText, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    for name, lines in text.interfaces.items():
        for line in lines:
            if line.words[:2] in (("ip", "address"), ("ipv6", "address")) and len(line.words) > 2:
                try:
                    connected = ipaddress.ip_interface(line.word(2))
                except ValueError:
                    continue
                if connected.network == network or connected.ip == network.network_address:
                    return name
    return ""


def _write_redistributed(draft: Draft, text: FrrText, router: Router, line: Line, source: str) -> None:
    prefixes, interfaces = _selected(text, line)
    if source in ("kernel", "static") and not router.vrf:
        table = draft.propose("workload.kernel")
        table.put("interfaces", interfaces or ["cali*", "tap*"], f"{line.place}: {line}")
        what = f'"{line}": here routes of other programs are announced by the interfaces that they lead to'
        draft.lose(line.place, what, "name the interfaces of the workloads", at=table)
        return
    if source == "connected" and not router.vrf:
        announce_addresses(draft, line.place, line, interfaces=interfaces, prefixes=prefixes_of_hosts(prefixes))
        what = f'"{line}": FRR announces the networks of interfaces, bgpd the addresses of these interfaces'
        draft.lose(line.place, what, "name the interfaces that are meant", at=draft.section(SECTION))
        return
    what = f'"{line}" is not converted'
    draft.lose(line.place, what, "name what is to be announced: [[workload.static]], [workload.kernel]")


def _selected(text: FrrText, line: Line) -> tuple[list[str], list[str]]:
    """Prefixes and interfaces that the route map of a "redistribute" lets through, as far as that can be said."""
    name = line.after("route-map")
    interfaces = [
        one.word(2)
        for entry in text.route_maps.get(name, [])
        if entry.permits
        for one in entry.lines
        if one.words[:2] == ("match", "interface") and len(one.words) > 2
    ]
    if not name or interfaces:
        return [], interfaces
    try:
        rules = compile_rules(FrrPolicies(text, 0, lambda line, what: None).route_map(name), default=REJECT)
    except Inexpressible:
        return [], []
    if any(rule["action"] != "accept" or rule.get("match", {}).keys() != {"prefix"} for rule in rules):
        return [], []
    return [prefix for rule in rules for prefix in rule["match"]["prefix"]], []


def _write_vrfs(draft: Draft, text: FrrText) -> None:
    names = dict.fromkeys((*text.vrfs, *(router.vrf for router in text.routers if router.vrf)))
    for number, name in enumerate(one for one in names if not one.startswith("view ")):
        routers = [router for router in text.routers if router.vrf == name]
        lines = text.vrfs.get(name, [])
        if not routers and not any(line.words[0] == "vni" for line in lines):
            continue
        table = draft.add("vrf")
        place = routers[0].place if routers else lines[0].place
        table.put("name", name, place)
        table.put("table", _FIRST_TABLE + number, "a guess: ip vrf show tells the table of the device")
        draft.lose(place, f"VRF {name}: its table is not in the file", "set table to that of the device", at=table)
        for line in lines:
            if line.words[0] == "vni" and line.word(1).isdecimal():
                table.put("vni", int(line.word(1)), f"{line.place}: {line}")
        evpn = [line for router in routers for line in router.families.get("l2vpn-evpn", ())]
        _write_evpn(draft, table, evpn)
        if "vni" not in table.values and "import_rt" not in table.values:
            table.put("import_rt", [])
        if "vni" not in table.values and "export_rt" not in table.values:
            table.put("export_rt", [])


def _write_evpn(draft: Draft, table: Table, lines: list[Line]) -> None:
    targets: dict[str, list[str]] = {}
    for line in lines:
        match line.words:
            case ("rd", value):
                table.put("rd", value, f"{line.place}: {line}")
            case ("route-target", "import" | "export" | "both" as direction, *values):
                for key in ("import", "export") if direction == "both" else (direction,):
                    targets.setdefault(f"{key}_rt", []).extend(values)
            case ("advertise", *_):
                table.remark(f"{line.place}: {line}: here workloads and aggregates of the VRF are advertised")
            case _:
                draft.lose(line.place, f'"{line}" is not converted', at=table)
    for key, values in targets.items():
        table.put(key, list(dict.fromkeys(values)))


def _tell_rest(draft: Draft, router: Router) -> None:
    """What of a router has no counterpart; neighbors and what is announced have been told."""
    done = {
        "neighbor",
        "network",
        "aggregate-address",
        "redistribute",
        "timers",
        "maximum-paths",
        "exit",
        "address-family",
    }
    families = [
        line for name, lines in router.families.items() if name != "l2vpn-evpn" or not router.vrf for line in lines
    ]
    for line in (*router.lines, *families):
        words = line.words[1:] if line.words[0] == "no" else line.words
        if words[0] in done or not words or (words[0] == "bgp" and words[1:2] and words[1] in _SAME_HERE):
            continue
        if words[0] in ("advertise-all-vni", "advertise-default-gw", "advertise-svi-ip") and line.words[0] != "no":
            draft.lose(line.place, f'"{line}": there is no VXLAN here; [[vrf]] has EVPN without an overlay')
        elif line.words[0] != "no":
            draft.lose(line.place, f'"{line}" is not converted')


def _tell_top(draft: Draft, text: FrrText, line: Line) -> None:
    words = line.words
    if words[0] in _OF_NO_EFFECT or words[:2] in (("ip", "forwarding"), ("ipv6", "forwarding")):
        return
    if _router_id_of_host(words):
        return
    if words[:2] not in (("ip", "protocol"), ("ipv6", "protocol")):
        draft.lose(line.place, f'"{line}" is not converted')
        return
    entries = text.route_maps.get(words[-1], [])
    lines = [one for entry in entries for one in entry.lines]
    sources = [one.word(2) for one in lines if one.words[:2] == ("set", "src") and len(one.words) == 3]
    if words[2:3] == ("bgp",) and len(entries) == len(sources) == 1 and entries[0].permits:
        table = draft.section("fib")
        before = table.values.get("preferred_source")
        table.put(
            "preferred_source", [*(before if isinstance(before, list) else []), sources[0]], f"{line.place}: {line}"
        )
        if len(lines) == 1:
            return
    draft.lose(line.place, f'"{line}" is not converted', "import policies say which routes are installed")
