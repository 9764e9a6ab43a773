"""How a configured neighbor is shown before its session is driven: idle, with the reason. Decides nothing."""

from __future__ import annotations

from bgpd.config import NeighborConfig, RouterConfig
from bgpd.model.views import NeighborView

REASON = "waiting for the daemon's start: it reads the kernel's routes and its workloads first"


def waiting_view(config: NeighborConfig, router: RouterConfig, *, since: float) -> NeighborView:
    """`since`: the daemon's start (wall clock, seconds)."""
    return NeighborView(
        name=config.name,
        address=config.address,
        interface=config.interface,
        asn=config.asn if isinstance(config.asn, int) else 0,
        local_asn=config.local_asn or router.asn,
        state="idle",
        since=since,
        last_error=REASON,
        last_error_at=since,
    )
