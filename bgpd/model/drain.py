"""How far this host is out of service (`bgpd drain`)."""

from __future__ import annotations

import enum


class DrainStage(enum.IntEnum):
    """What neighbors are sent of this host's routes; each stage includes those before it."""

    OFF = 0
    """All, as ever."""
    LOWERED = 1
    """All, with GRACEFUL_SHUTDOWN (RFC 8326)."""
    SERVICES = 2
    """Services are withdrawn."""
    ALL = 3
    """Everything is withdrawn."""
