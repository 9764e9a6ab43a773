"""Which addresses of a VRF are default gateways, as type 2 routes say (RFC 7432 section 10.1).

Only follows the routes; that a gateway is the leaf of an uplink is decided in uplinks.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bgpd.model.communities import DEFAULT_GATEWAY
from bgpd.model.path import Path

_ADDRESS = slice(19, None)
"""Of a type 2 key."""


class DefaultGateways:
    """The default gateways of each VRF, by the neighbor and the key that advertise them."""

    def __init__(self) -> None:
        self._known: dict[str, dict[tuple[str, bytes], bytes]] = {}

    def __bool__(self) -> bool:
        return any(self._known.values())

    def of(self, vrf: str) -> set[bytes]:
        """Their addresses."""
        return set(self._known.get(vrf, {}).values())

    def received(self, neighbor: str, keys: Sequence[bytes], path: Path | None, vrfs: Collection[str]) -> list[str]:
        """These type 2 routes of a neighbor have this path now, in these VRFs; the VRFs where gateways changed."""
        is_marked = path is not None and path.attributes.has_extended_community(DEFAULT_GATEWAY)
        if not is_marked and not self:
            return []
        chosen = set(vrfs) if is_marked else set()
        changed = []
        for name in {*chosen, *self._known}:
            known = self._known.setdefault(name, {})
            before = dict(known)
            for key in keys:
                if name in chosen:
                    known[neighbor, key] = key[_ADDRESS]
                else:
                    known.pop((neighbor, key), None)
            if known != before:
                changed.append(name)
        return changed

    def forget(self, neighbor: str) -> list[str]:
        """The session of a neighbor ended; the VRFs where gateways changed."""
        changed = []
        for name, known in self._known.items():
            lost = [where for where in known if where[0] == neighbor]
            for where in lost:
                del known[where]
            if lost:
                changed.append(name)
        return changed

    def vrf_removed(self, vrf: str) -> None:
        """Forget what is known of a VRF."""
        self._known.pop(vrf, None)
