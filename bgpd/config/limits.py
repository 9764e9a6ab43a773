"""Finds limits that established sessions exceed already: with the new configuration their next route would end them.

Compares a configuration with the neighbors that a running daemon shows, for `check`, `plan` and reload.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import SessionConfig, attribute_limit
from bgpd.config.sections import guest_of, range_of
from bgpd.model.views.sessions import NeighborView


def exceeded_limits(config: Config, neighbors: Iterable[NeighborView]) -> list[str]:
    """Warnings about limits below what these neighbors have sent."""
    named: dict[str, SessionConfig] = {neighbor.name: neighbor for neighbor in config.neighbor}
    found: list[str] = []
    for view in neighbors:
        if view.guest:
            section: SessionConfig | None = guest_of(config.workload.bgp, view.name)
        else:
            section = _range(config, view.address) if view.dynamic else named.get(view.name)
        if section is not None and view.families:
            found += _exceeded(section, view)
    return found


def _range(config: Config, text: str) -> SessionConfig | None:
    address = ipaddress.ip_address(text.partition("%")[0])
    return range_of(config.listen, address.packed, "")


def _exceeded(section: SessionConfig, view: NeighborView) -> Iterator[str]:
    end = "or its session ends with the next route that it announces"
    left_out = "or nothing more that it announces is taken"
    for family, counts in view.families.items():
        if 0 < section.max_prefixes < counts.received:
            has = f"it has announced {counts.received} {family} prefixes"
            then = left_out if section.max_prefixes_action == "discard" else end
            yield f"neighbor {view.name}: max_prefixes is {section.max_prefixes}, but {has}; raise it, {then}"
    most = attribute_limit(section)
    if 0 < most < view.attribute_bytes:
        has = f"its attributes take {view.attribute_bytes} bytes"
        yield f"neighbor {view.name}: max_attribute_bytes is {most}, but {has}; raise it, {end}"
