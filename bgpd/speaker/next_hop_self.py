"""Which of this host's addresses a session gives as the next hop of the routes that it announces (next-hop-self).

For the session's own IP version that is the session's own address; for the other, one of the interface that the session
runs over. Decides which: the one in use for as long as it is there, so that another address beside it changes nothing;
else the first by the host's order (preferred before deprecated ones). Link-local ones are sent beside a global one, or
alone (RFC 2545 section 3, RFC 8950). Sans-IO: reads the host, keeps the choice only.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bgpd.kernel.host import Host
from bgpd.model.prefix import is_link_local


class SelfAddresses(msgspec.Struct, frozen=True):
    """Packed addresses of each kind, None where there is none."""

    ipv4: bytes | None = None
    ipv6: bytes | None = None
    link_local: bytes | None = None


class NextHopSelf:
    """The choice of one session. `local` is its own address, `interface` the one it runs over ("" if it is routed)."""

    def __init__(self, host: Host, *, local: bytes, interface: str, vrf: str) -> None:
        self._host = host
        self._local = local
        self._interface = interface
        self._vrf = vrf
        bearers = host.bearers(local)
        self._local_vrf = host.vrf_of(interface if interface in bearers or not bearers else bearers[0])
        self._is_implied = not bearers and host.is_own(local)
        self.chosen = self._choose(SelfAddresses())

    def resume(self, former: SelfAddresses) -> None:
        """Another process gave these: they stay, as far as they are there."""
        self.chosen = self._choose(former)

    @property
    def has_local(self) -> bool:
        """Whether the host still has the session's own address: on its interface, whatever VRF that has come to; a
        global one on another interface of the VRF, too."""
        is_on_interface = self._host.bears(self._interface, self._local)
        if is_on_interface or is_link_local(self._local):
            return is_on_interface
        if self._is_implied:  # one of 127.0.0.0/8 that no interface has
            return self._host.is_own(self._local, vrf=self._local_vrf)
        return self._host.has_address(self._local, vrf=self._local_vrf)

    def follow(self, interface: str) -> bool:
        """An interface has other addresses; whether the choice is another one now."""
        if self._interface not in ("", interface):
            return False
        former, self.chosen = self.chosen, self._choose(self.chosen)
        return self.chosen != former

    def _choose(self, current: SelfAddresses) -> SelfAddresses:
        own = self._local
        return SelfAddresses(
            ipv4=own if len(own) == 4 else self._pick(current.ipv4, lambda packed: len(packed) == 4),
            ipv6=own if _is_global_ipv6(own) else self._pick(current.ipv6, _is_global_ipv6),
            link_local=own if is_link_local(own) else self._pick(current.link_local, is_link_local),
        )

    def _pick(self, current: bytes | None, wanted: Callable[[bytes], bool]) -> bytes | None:
        home = self._interface or self._host.bearer(self._local, vrf=self._vrf)
        found = [address.packed for address in self._host.addresses(home) if wanted(address.packed)]
        return current if current in found else next(iter(found), None)


def _is_global_ipv6(packed: bytes) -> bool:
    return len(packed) == 16 and not is_link_local(packed)
