"""The TCP-MD5 key of one neighbor (RFC 2385): read from its password file, and told to the listener of its VRF.

Decides what is wrong with the file; what follows from that, the neighbor does.
"""

from __future__ import annotations

from bgpd.speaker.peering import Peering
from bgpd.speaker.socket_options import read_password
from bgpd.speaker.transport import Listener
from bgpd.speaker.vrf_listeners import VrfListeners


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
