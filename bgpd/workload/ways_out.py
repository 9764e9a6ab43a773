"""How checks and feeds get out of the process: None is the usual way. A simulation has ways of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from bgpd.workload.feed.mqtt_client import Client
    from bgpd.workload.service.checker import Probe


class WaysOut(msgspec.Struct, frozen=True, kw_only=True):
    """`probe` asks backends and addresses of services, `mqtt_client` makes the client of a broker."""

    probe: Probe | None = None
    mqtt_client: Callable[..., Client] | None = None


USUAL = WaysOut()
"""Sockets."""
