"""Configurations of GoBGP, part by part (TOML)."""

from __future__ import annotations

from collections.abc import Mapping

IPV4 = {"ipv4-unicast": ""}
GOBGP_KEPT = "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
"""Of a family: its routes are kept over a graceful restart."""


def gobgp_router(asn: int, router_id: str, more: str = "") -> str:
    """The part that comes first; `more` are further rows and tables of it."""
    return f'[global.config]\nas = {asn}\nrouter-id = "{router_id}"\n{more}'


def gobgp_neighbor(
    address: str,
    asn: int,
    *tables: str,
    families: Mapping[str, str] = IPV4,
    local_address: str = "",
    password: str = "",
    **timers: int,
) -> str:
    """One neighbor.

    `tables` are further ones of it; `families` has those of each family, by its name. `timers` in seconds, with
    underscores for hyphens; it connects every second unless they say otherwise.
    """
    rows = [f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{address}"\npeer-as = {asn}\n']
    if password:
        rows.append(f'auth-password = "{password}"\n')
    if local_address:
        rows.append(f'[neighbors.transport.config]\nlocal-address = "{local_address}"\n')
    rows.append("[neighbors.timers.config]\n")
    rows += [f"{name.replace('_', '-')} = {value}\n" for name, value in ({"connect_retry": 1} | timers).items()]
    rows += tables
    for family, its in families.items():
        rows.append(f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{family}"\n{its}')
    return "".join(rows)


def gobgp_graceful(restart_time_s: int, more: str = "") -> str:
    """The table of graceful restart; `more` are further rows of it."""
    return f"[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {restart_time_s}\n{more}"
