"""Listening inside VRFs: a socket bound to a VRF's device hears what comes in there, and only that.

Where the kernel has no VRF devices there is no listening in VRFs: an answer to a connection that came in would leave by
the main table. Neighbors are dialed all the same, over their own interface.

The TCP-MD5 key of one neighbor (RFC 2385): read from its password file, and told to the listener of its VRF.

Decides what is wrong with the file; what follows from that, the neighbor does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from bgpd.speaker.admission import Admission
from bgpd.speaker.peering import Peering
from bgpd.speaker.transport import Listener, Wire, read_password

log = structlog.get_logger()


class VrfListeners:
    """The listeners by VRF. `accepted(wire, vrf)` is called with each new connection."""

    def __init__(self, port: int, accepted: Callable[[Wire, str], None], *, admission: Admission) -> None:
        self._port = port
        self._admission = admission
        self._accepted = accepted
        self._listeners: dict[str, Listener] = {}

    def get(self, vrf: str) -> Listener | None:
        """The listener of a VRF, if it is listened in."""
        return self._listeners.get(vrf)

    def follow(self, devices: set[str]) -> set[str]:
        """Listen in these VRFs, whose devices exist, and in no others; those in which that is new."""
        for vrf in self._listeners.keys() - devices:
            self._listeners.pop(vrf).close()
        fresh = devices - self._listeners.keys()
        for vrf in fresh:
            accepted = partial(self._hand_on, vrf)
            self._listeners[vrf] = Listener(self._port, accepted, admission=self._admission, device=vrf)
        for vrf, listener in list(self._listeners.items()):
            error = listener.error
            if (vrf in fresh or error) and not listener.open() and listener.error != error:
                log.error("listen.failed", vrf=vrf, error=listener.error)
        return fresh

    def _hand_on(self, vrf: str, wire: Wire) -> None:
        self._accepted(wire, vrf)

    def close(self) -> None:
        """Accept no more."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


class SessionKey:
    """`value` is b"" where no password is wanted, and while it cannot be read."""

    def __init__(self, listener: Listener, vrf_listeners: VrfListeners) -> None:
        self.value = b""
        self._listener = listener
        self._vrf_listeners = vrf_listeners

    def is_missing(self, peering: Peering) -> bool:
        """Whether the neighbor's password could not be read."""
        return bool(peering.config.password_file) and not self.value

    def read(self, peering: Peering) -> str:
        """Read the password and want incoming connections signed with it; what is wrong, "" if nothing."""
        if not peering.config.password_file:
            return ""
        self.value = b""
        try:
            self.value = read_password(peering.config.password_file)
            self._sign_incoming(peering, self.value)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return f"password_file {peering.config.password_file}: {said}; the neighbor stays down until it can be read"
        return ""

    def forget(self, peering: Peering) -> None:
        """The neighbor is no more: nothing from its address is to be signed."""
        if self.value:
            self._sign_incoming(peering, b"")

    def _sign_incoming(self, peering: Peering, key: bytes) -> None:
        """In VRFs without a listener no connections come in; a range's key is the whole range's (speaker.py)."""
        address, vrf = peering.address, peering.config.vrf
        listener = self._vrf_listeners.get(vrf) if vrf else self._listener
        if address and not peering.dynamic and listener is not None:
            listener.set_md5_key(address, 8 * len(address), key)
