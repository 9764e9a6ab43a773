"""Which configuration of a router is read: a frr.conf, or what containerlab gives Arista EOS. Of others it is told that
they are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bgpd.simulation.clab import FRR_CONFIG, Node
from bgpd.simulation.frr_router import FrrRouter, read_eos_router, read_frr_router


def router_config(node: Node) -> FrrRouter | None:
    """Of a router that has one which is read. Raises: ImportFailed: it has errors."""
    file = node.binds.get(FRR_CONFIG) or node.eos_config
    return read_config(node, file) if file is not None else None


def read_config(node: Node, file: Path) -> FrrRouter | None:
    """What a file says of a router, in the form of its own one; None: it has none that is read. Raises: ImportFailed:
    the file has errors."""
    given = {name: interface.addresses for name, interface in node.interfaces.items()}
    if FRR_CONFIG in node.binds:
        return read_frr_router(file, given)
    return read_eos_router(file, given) if node.eos_config is not None else None


def unread_files(node: Node) -> Iterator[str]:
    """Configurations of a router that are not of FRR."""
    said = (
        "its AS number and families are those that hosts say, and it announces what its labels say; "
        f"a frr.conf that is bound at {FRR_CONFIG} would say more"
    )
    if node.startup_config:
        yield f"startup-config {node.startup_config} is not read: {said}"
    for inside in node.binds:
        if inside.startswith("/etc/") and inside.endswith((".conf", ".cfg", "config_db.json", "bird", "frr", "sonic")):
            yield f"{inside} is not read: {said}"
