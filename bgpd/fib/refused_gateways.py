"""Gateways that the kernel would not make, though they are connected: a broadcast address, say, or its own.

Next hops there are unreachable until their interface changes, or the kernel takes them when they are tried again.
Sans-IO.
"""

from __future__ import annotations

_MOST_TRIED = 64
"""Gateways that are tried again together."""
_Place = tuple[bytes, int]


class RefusedGateways:
    """By address and interface index, what the kernel said."""

    def __init__(self) -> None:
        self._whys: dict[_Place, str] = {}

    def __len__(self) -> int:
        return len(self._whys)

    def why(self, address: bytes, ifindex: int) -> str | None:
        """What it said of one; None if it was not refused."""
        return self._whys.get((address, ifindex))

    def add(self, address: bytes, ifindex: int, why: str) -> None:
        """The kernel has refused one, and would do so again."""
        self._whys[address, ifindex] = why

    def taken(self, address: bytes, ifindex: int) -> None:
        """The kernel has made it."""
        if self._whys:
            self._whys.pop((address, ifindex), None)

    def forget(self, ifindex: int) -> None:
        """The kernel may take those on an interface now (0: on all)."""
        self._whys = {place: why for place, why in self._whys.items() if ifindex not in (0, place[1])}

    def to_try(self) -> list[_Place]:
        """Some of them, others the next time. They count as refused until the kernel takes them."""
        places = list(self._whys)[:_MOST_TRIED]
        for place in places:
            self._whys[place] = self._whys.pop(place)
        return places
