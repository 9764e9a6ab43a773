"""A host's own configuration, as far as it can be simulated, and what of it cannot.

Its kernel's numbers (protocol, metric, table) are those that the checks look for; passwords make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bgpd.config.schema import Config, StateConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.simulation.kernel import MAIN
from bgpd.simulation.linux import METRIC, PROTOCOL

_FAMILIES = ("ipv4-unicast", "ipv6-unicast")


class Adapted(msgspec.Struct, kw_only=True):
    """`left_out`: what is not simulated, and what that means. `unforeseen`: what makes that nobody can say beforehand,
    by the rules of BGP alone, which routes there should be."""

    config: Config
    left_out: list[str]
    unforeseen: list[str]


def adapted(config: Config, *, directory: str) -> Adapted:
    """The configuration to be run; its state is kept in `directory`."""
    left_out = list(_left_out(config))
    workload = msgspec.structs.replace(
        config.workload, mqtt=None, static=tuple(one for one in config.workload.static if not one.vrf)
    )
    made = msgspec.structs.replace(
        config,
        neighbor=tuple(_neighbor(one) for one in config.neighbor if not one.vrf and _families(one)),
        vrf=(),
        workload=workload,
        fib=msgspec.structs.replace(config.fib, protocol=PROTOCOL, metric=METRIC, table=MAIN),
        state=StateConfig(directory=directory),
    )
    return Adapted(config=made, left_out=left_out, unforeseen=list(_unforeseen(made)))


def _families(neighbor: NeighborConfig) -> tuple[str, ...]:
    return tuple(one for one in neighbor.families if one in _FAMILIES)


def _neighbor(neighbor: NeighborConfig) -> NeighborConfig:
    return msgspec.structs.replace(
        neighbor, families=_families(neighbor), bfd=None, password_file="", tcp_ao=(), role="", role_strict=False
    )


def _left_out(config: Config) -> Iterator[str]:
    if config.vrf:
        yield "[[vrf]]: tenants are not simulated"
    for one in config.neighbor:
        if one.vrf:
            yield f"neighbor {one.name}: sessions of a VRF are not simulated"
        elif not _families(one):
            yield f"neighbor {one.name}: only ipv4-unicast and ipv6-unicast are simulated"
        elif one.bfd is not None:
            yield f"neighbor {one.name}: no BFD, so a silent neighbor is found by its hold time ({one.hold_time_s} s)"
    if config.workload.mqtt is not None:
        yield "[workload.mqtt]: no broker; steps may claim addresses"


def _unforeseen(config: Config) -> Iterator[str]:
    if config.aggregate:
        yield "[[aggregate]]"
    if config.workload.addresses is not None:
        yield "[workload.addresses]"
    if config.workload.bgp or config.listen:
        yield "[[listen]], [[workload.bgp]]"
    for one in config.neighbor:
        if one.import_ not in ("all", "none", "default-only"):
            yield f'import = "{one.import_}" of neighbor {one.name}'
        if one.export != "local":
            yield f'export = "{one.export}" of neighbor {one.name}'
