"""Listening inside VRFs: a socket bound to a VRF's device hears what comes in there, and only that.

Where the kernel has no VRF devices there is no listening in VRFs: an answer to a connection that came in would leave by
the main table. Neighbors are dialed all the same, over their own interface.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from bgpd.speaker.transport import Listener, Wire

log = structlog.get_logger()


class VrfListeners:
    """The listeners by VRF. `accepted(wire, vrf)` is called with each new connection."""

    def __init__(self, port: int, accepted: Callable[[Wire, str], None]) -> None:
        self._port = port
        self._accepted = accepted
        self._listeners: dict[str, Listener] = {}

    def get(self, vrf: str) -> Listener | None:
        """The listener of a VRF, if it is listened in."""
        return self._listeners.get(vrf)

    async def follow(self, devices: set[str]) -> set[str]:
        """Listen in these VRFs, whose devices exist, and in no others; those in which that is new."""
        for vrf in self._listeners.keys() - devices:
            self._listeners.pop(vrf).close()
        fresh = devices - self._listeners.keys()
        for vrf in fresh:
            self._listeners[vrf] = Listener(self._port, partial(self._hand_on, vrf), device=vrf)
        for vrf, listener in list(self._listeners.items()):
            error = listener.error
            if (vrf in fresh or error) and not await listener.open() and listener.error != error:
                log.error("listen.failed", vrf=vrf, error=listener.error)
        return fresh

    def _hand_on(self, vrf: str, wire: Wire) -> None:
        self._accepted(wire, vrf)

    def close(self) -> None:
        """Accept no more."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
