"""A host's own configuration, as far as it can be simulated, and what of it cannot.

Its kernel's numbers (protocol, metric, table) are those that the checks look for; passwords make no difference.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.config.facts import Facts
from bgpd.config.load import ConfigError, load_config
from bgpd.config.schema import Config, StateConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.migrate.draft import ImportFailed, Place
from bgpd.simulation.clab import Node
from bgpd.simulation.fabric import FAMILIES
from bgpd.simulation.kernel import MAIN
from bgpd.simulation.linux import METRIC, PROTOCOL


class Adapted(msgspec.Struct, kw_only=True):
    """`left_out`: what is not simulated, and what that means. `unforeseen`: what makes that nobody can say beforehand,
    by the rules of BGP alone, which routes there should be."""

    config: Config
    left_out: list[str]
    unforeseen: list[str]


def read_host(node: Node, path: Path) -> Config:
    """A host's configuration, as on that host. Raises: ImportFailed: it has errors."""
    given = {"hostname": node.name}
    loopback = node.interfaces.get("lo")
    for text in loopback.addresses if loopback is not None else ():
        address = ipaddress.ip_interface(text).ip
        if not address.is_link_local:
            given.setdefault(f"loopback{address.version}", str(address))
    try:
        return load_config(str(path), running=True, facts=Facts(given=given, hostname=node.name)).config
    except ConfigError as error:
        first, *rest = error.problems
        place, right = Place(first.file, first.line), f"bgpd check {path} tells all of it" if rest else first.right
        raise ImportFailed(place, f"{first.path}: {first.what}".removeprefix(": "), right) from None


def adapted(config: Config, *, name: str, directory: str) -> Adapted:
    """The configuration to be run by the host of this name, which it has in topics, too; its state is kept in
    `directory`."""
    left_out = list(_left_out(config))
    mqtt = config.workload.mqtt
    if mqtt is not None:
        broker = mqtt.broker.replace("mqtts://", "mqtt://")
        mqtt = msgspec.structs.replace(
            mqtt, broker=broker, host=name, password_file="", ca_file="", cert_file="", key_file=""
        )
    workload = msgspec.structs.replace(config.workload, mqtt=mqtt)
    made = msgspec.structs.replace(
        config,
        neighbor=tuple(_neighbor(one) for one in config.neighbor if not one.vrf and _families(one)),
        workload=workload,
        fib=msgspec.structs.replace(config.fib, protocol=PROTOCOL, metric=METRIC, table=MAIN),
        state=StateConfig(directory=directory),
    )
    return Adapted(config=made, left_out=left_out, unforeseen=list(_unforeseen(made)))


def _families(neighbor: NeighborConfig) -> tuple[str, ...]:
    return tuple(one for one in neighbor.families if one in FAMILIES.values())


def _neighbor(neighbor: NeighborConfig) -> NeighborConfig:
    return msgspec.structs.replace(
        neighbor, families=_families(neighbor), password_file="", tcp_ao=(), role="", role_strict=False
    )


def _left_out(config: Config) -> Iterator[str]:
    for one in config.neighbor:
        if one.vrf:
            yield f"neighbor {one.name}: sessions of a VRF are not simulated"
        elif not _families(one):
            yield f"neighbor {one.name}: only {', '.join(FAMILIES.values())} are simulated"
        elif "route-target" in one.families:
            yield f"neighbor {one.name}: route-target is not simulated, all routes are told"
    if config.listen:
        yield "[[listen]]: nobody connects"


def _unforeseen(config: Config) -> Iterator[str]:
    if config.aggregate:
        yield "[[aggregate]]"
    if config.workload.bgp or config.listen:
        yield "[[listen]], [[workload.bgp]]"
    for one in config.neighbor:
        if one.import_ not in ("all", "none", "default-only"):
            yield f'import = "{one.import_}" of neighbor {one.name}'
        if one.export != "local":
            yield f'export = "{one.export}" of neighbor {one.name}'
