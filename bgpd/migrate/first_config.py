"""From what was seen of a machine to a configuration that is safe to start: sessions to routers that were seen, default
routes from them, and nothing announced until a person takes a # away.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from importlib import import_module

from bgpd.config.check import PROTOCOLS_OF_OTHERS
from bgpd.migrate.draft import Draft, ImportFailed, neighbor_name
from bgpd.migrate.importing import FORMATS
from bgpd.migrate.machine import Machine, Port
from bgpd.model.kernel import Address
from bgpd.model.prefix import format_address, is_link_local

_OF_WORKLOADS = (
    "cali*",
    "lxc*",
    "cilium_*",
    "tap*",
    "vnet*",
    "veth*",
    "docker*",
    "virbr*",
    "cni*",
    "flannel*",
    "kube-*",
)
_ANNOUNCED = ("cali*", "lxc*", "tap*", "vnet*")
"""Whose routes a CNI plugin or libvirt writes, one for each workload."""
_USUAL_UPLINKS = ("eth*", "en*", "bond*", "swp*")
"""Names that interfaces to the outside have, also where no device is seen below them."""
_MOST_PREFIXES = 10_000
_PROTOCOL = 217
_METRIC = 17
_SPEAKERS = ("BIRD", "FRR", "GoBGP", "ExaBGP", "Calico", "Cilium", "MetalLB", "OpenBGPD")


class FirstConfig:
    """The draft for a machine. `warnings` are what stands in the way of starting bgpd with it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.warnings: list[str] = []
        self.draft = Draft(
            f"Written by bgpd init for {machine.hostname}, by what it saw (each line says what).",
            "Read it, then: bgpd check FILE. Nothing is announced until you take the # off one of the sources below.",
        )
        self._known = self._by_other_configurations()

    def write(self) -> Draft:
        """The whole draft."""
        self._warn()
        self._write_router()
        uplinks = [port for port in self.machine.ports if self._may_be_uplink(port)]
        written = [self._write_neighbor(port) for port in uplinks]
        if not any(written):
            self._propose_neighbor()
        self._propose_sources()
        self._write_fib()
        self._describe()
        return self.draft

    def _by_other_configurations(self) -> dict[str, tuple[object, str]]:
        """AS number and router ID of a program whose configuration lies here."""
        for kind, file in self.machine.files:
            module, _, function = FORMATS[kind].partition(":")
            try:
                router = getattr(import_module(module), function)([file]).section("router")
            except ImportFailed:
                continue
            return {key: (value, file) for key, value in router.values.items()}
        return {}

    # What stands in the way.

    def _warn(self) -> None:
        machine = self.machine
        for listener in machine.listeners:
            self.warnings.append(f"{listener}: bgpd can take no connections there; stop the other program first")
        for program, seen in machine.programs.items():
            if program in _SPEAKERS:
                self.warnings.append(
                    f"{program} runs here ({seen}): two programs that write routes by BGP; stop it first"
                )
        for kind, file in machine.files:
            self.draft.head.append(f"{file} is there: bgpd import {kind} {file} converts it.")
        if "bgpd" in machine.programs:
            self.warnings.append(f"a bgpd runs here already ({machine.programs['bgpd']})")

    # [router]

    def _write_router(self) -> None:
        table, machine = self.draft.section("router"), self.machine
        if "asn" in self._known:
            value, file = self._known["asn"]
            assert isinstance(value, int)
            table.put("asn", value, f"seen: {file}")
        else:
            table.put("asn", "auto", 'not seen; "auto" is a private number of asn_range: write yours')
        if machine.loopback4:
            table.put("router_id", "auto", f"seen: loopback address {machine.loopback4}")
        else:
            table.put("router_id", "auto", "no loopback address seen: a number made of the machine ID")
        table.propose("hostname", machine.hostname, "the system's name is sent to neighbors")

    # [[neighbor]]

    def _may_be_uplink(self, port: Port) -> bool:
        name = port.link.name
        is_of_workloads = any(fnmatch.fnmatchcase(name, pattern) for pattern in _OF_WORKLOADS)
        is_named = bool(port.lldp or port.router)
        if (
            name == "lo"
            or port.is_member
            or (is_of_workloads and not is_named)
            or port.link.kind in ("bridge", "dummy")
        ):
            return False
        is_physical = port.is_physical or any(fnmatch.fnmatchcase(name, pattern) for pattern in _USUAL_UPLINKS)
        return is_named or (is_physical and port.link.up) or bool(_other_end(port)[0])

    def _write_neighbor(self, port: Port) -> bool:
        """One [[neighbor]]; whether it is in force and no proposal."""
        other, own = _other_end(port)
        lan = _lan_of(port)
        is_seen = bool(port.router or port.lldp)
        in_force = port.link.up and not lan and (is_seen or bool(other))
        table = self.draft.add("neighbor", is_proposal=not in_force)
        for line in _seen_of(port):
            table.remark(f"seen: {line}")
        if lan:
            table.remark(
                f"{lan} is a network of several hosts, not a link to a leaf: management, perhaps. Take the # off"
            )
            table.remark("if a router in it speaks BGP, and write its address.")
        elif not in_force:
            table.remark("nobody was heard there who could be a router: take the # off if there is one")
        table.put("name", neighbor_name(self.draft, port.lldp.partition(".")[0] or port.link.name), "unique; in logs")
        if other and not port.router:
            table.put("address", other, f"the other end of {own}")
        table.put("interface", port.link.name)
        table.put("asn", "external", "not seen: any AS number but ours; write the leaf's")
        table.put("import", "default-only", 'the least; "all" or a policy for what the fabric has')
        table.put("max_prefixes", _MOST_PREFIXES, "more ends the session")
        table.put("graceful_restart", {"mode": "both"}, "routes stay while bgpd or the leaf restarts")
        table.propose("bfd", {}, "needs bgpd-bfd.service, and BFD on the leaf")
        if port.lldp:
            table.put("expect_hostname", port.lldp, "seen by LLDP: another one is warned of")
        return in_force

    def _propose_neighbor(self) -> None:
        table = self.draft.add("neighbor", is_proposal=True)
        table.remark("No router was seen. A neighbor is an address, or an interface of its own (unnumbered):")
        table.put("name", "leaf1")
        table.put("interface", "eth0")
        table.put("asn", "external")
        table.put("import", "default-only")
        self.warnings.append("no router was seen on any interface: write a [[neighbor]]")

    # [workload], [fib]

    def _propose_sources(self) -> None:
        machine = self.machine
        if machine.loopback4 or machine.loopback6:
            table = self.draft.propose("workload.addresses")
            found = " and ".join(filter(None, (machine.loopback4, machine.loopback6)))
            table.put("interfaces", ["lo", "dummy*"], f"seen: {found}")
            table.put("prefixes", [f"{one}/{'128' if ':' in one else '32'}" for one in _loopbacks(machine)])
            table.remark("Announce the host's own address:")
        names = [port.link.name for port in machine.ports]
        globs = [glob for glob in _ANNOUNCED if fnmatch.filter(names, glob)]
        if globs:
            count = sum(len(fnmatch.filter(names, glob)) for glob in globs)
            table = self.draft.propose("workload.kernel")
            table.remark("Announce the routes that a CNI plugin or libvirt writes, one for each workload:")
            table.put("interfaces", list(globs), f"seen: {count} interfaces")
        if "kube-ipvs0" in names:
            self.draft.head.append("seen: kube-ipvs0: [workload.addresses] can announce its service addresses.")

    def _write_fib(self) -> None:
        table, machine = self.draft.section("fib"), self.machine
        foreign = {protocol for protocol in machine.protocols if machine.protocols[protocol]}
        if _PROTOCOL in foreign and "bgpd" not in machine.programs:
            free = next(
                one for one in range(_PROTOCOL + 1, 255) if one not in foreign and one not in PROTOCOLS_OF_OTHERS
            )
            table.put(
                "protocol", free, f"seen: routes with rtproto {_PROTOCOL}, the default: of an earlier bgpd, perhaps"
            )
            count = machine.protocols[_PROTOCOL]
            self.warnings.append(
                f"{count} routes here have rtproto {_PROTOCOL}: of an earlier bgpd? Then take protocol = {free} out"
            )
        metrics = {metric for (protocol, metric), count in machine.metrics.items() if count and protocol != _PROTOCOL}
        if _METRIC in metrics:
            free = next(one for one in range(_METRIC + 1, 1000) if one not in metrics)
            table.put("metric", free, f"seen: other programs' routes with metric {_METRIC}, the default")
        if machine.loopback4 or machine.loopback6:
            table.propose("preferred_source", "loopback", "the host's own packets come from its loopback address")
        for route in machine.defaults:
            gateway = f" via {route.gateway}" if route.gateway else ""
            table.remark(
                f"seen: default route{gateway} on {route.interface or 'several links'} by {_protocol(route.protocol)}, "
                f"metric {route.metric}: it stays; learned ones do not replace it without override."
            )
        for protocol, count in sorted(machine.protocols.items()):
            if protocol in (11, 12, 186) or protocol > 192:
                table.remark(f"seen: {count} routes by {_protocol(protocol)}")

    def _describe(self) -> None:
        for program, seen in sorted(self.machine.programs.items()):
            self.draft.head.append(f"seen: {program} ({seen})")
        for what in self.machine.unseen:
            self.draft.head.append(f"not seen: {what}")
        for warning in self.warnings:
            self.draft.head.append(f"WARNING: {warning}")


def _loopbacks(machine: Machine) -> list[str]:
    return [one for one in (machine.loopback4, machine.loopback6) if one]


def _protocol(number: int) -> str:
    return f"rtproto {number} ({PROTOCOLS_OF_OTHERS[number]})" if number in PROTOCOLS_OF_OTHERS else f"rtproto {number}"


def _seen_of(port: Port) -> list[str]:
    """What was seen of an interface, as lines."""
    link = port.link
    speed = f", {port.speed_mbps} Mbit/s" if port.speed_mbps else ""
    found = [f"{link.name} is {'up' if link.up else 'down'}{speed}{f', {link.kind}' if link.kind else ''}"]
    own = [text for text in map(_text, port.addresses) if text]
    if own:
        found.append(f"addresses {', '.join(own[:8])}")
    if port.router:
        found.append(f"a router advertises itself there: {port.router}")
    if port.lldp:
        found.append(f"LLDP: {port.lldp}")
    return found


def _text(address: Address) -> str:
    return "" if is_link_local(address.packed) else f"{format_address(address.packed)}/{address.prefix_length}"


def _other_end(port: Port) -> tuple[str, str]:
    """The other address of a /31, /30, /127 or /126 on an interface, and the own one; "" where there is none."""
    for address in port.addresses:
        bits = len(address.packed) * 8
        if bits - address.prefix_length not in (1, 2) or is_link_local(address.packed):
            continue
        network = ipaddress.ip_network(f"{format_address(address.packed)}/{address.prefix_length}", strict=False)
        own = ipaddress.ip_address(address.packed)
        others = [one for one in (network if bits - address.prefix_length == 1 else network.hosts()) if one != own]
        if len(others) == 1:
            return str(others[0]), _text(address)
    return "", ""


def _lan_of(port: Port) -> str:
    """An IPv4 network of more than two hosts that an interface is in; "" if it is in none."""
    for address in port.addresses:
        if len(address.packed) == 4 and address.prefix_length < 30 and not is_link_local(address.packed):
            return str(ipaddress.ip_network(_text(address), strict=False))
    return ""
