"""What neighbors were sent of this host's own routes, as far as the wanted keys go."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bgpd.history.records import Told
from bgpd.history.wanted import Wanted
from bgpd.model.iana import Family


class Sent(msgspec.Struct, frozen=True):
    """What a neighbor has of a route since `at` (not known, where that is 0.0); `told` is None: nothing."""

    at: float
    told: Told | None


class Audience:
    """`place`: VRF and family of the routes."""

    def __init__(self, place: tuple[str, Family], wanted: Wanted) -> None:
        self._vrf, self._family = place
        self._wanted = wanted
        self._names: dict[int, str] = {}
        self._sent: dict[tuple[str, bytes], Sent] = {}
        self._unsaid: set[tuple[str, bytes]] = set()
        self._is_in_base = False

    def of(self, key: bytes) -> Iterator[tuple[str, Sent]]:
        """By neighbor, what it has of a key, or had once."""
        for (name, one), sent in sorted(self._sent.items(), key=lambda item: item[0]):
            if one == key:
                yield name, sent

    def forget(self) -> None:
        """Nothing is known of what neighbors were sent."""
        self._sent.clear()
        self._unsaid.clear()
        self._names.clear()

    def leave(self) -> None:
        """The process ends; the next one has other numbers for its sessions, and neighbors have what they had."""
        self._names.clear()

    def session(self, number: int, name: str) -> None:
        """A session is there."""
        self._names[number] = name

    def session_closed(self, number: int) -> None:
        """What its neighbor had it has no longer."""
        name = self._names.pop(number, None)
        for place in [one for one in self._sent if one[0] == name]:
            del self._sent[place]

    def base_began(self) -> None:
        """All that neighbors have is said from here on."""
        self._is_in_base = True
        self._unsaid = {place for place, sent in self._sent.items() if sent.told is not None}

    def base_ended(self, at: float) -> None:
        """All was said."""
        self._is_in_base = False
        for place in self._unsaid:
            self._sent[place] = Sent(at, None)
        self._unsaid.clear()

    def told(self, record: Told) -> None:
        """A neighbor was sent something, or had been when a base says so."""
        name = self._names.get(record.number)
        if name is None or record.vrf != self._vrf or record.family != self._family:
            return
        for key in self._wanted.among(record.keys):
            place = name, key
            self._unsaid.discard(place)
            known = self._sent.get(place)
            if record.is_gone:
                if known is not None and known.told is not None:
                    self._sent[place] = Sent(record.at, None)
            elif known is None or known.told is None or not _are_alike(known.told, record):
                self._sent[place] = Sent(0.0 if known is None and self._is_in_base else record.at, record)


def _are_alike(one: Told, other: Told) -> bool:
    return (one.block, one.next_hop, one.overlay, one.spoken) == (
        other.block,
        other.next_hop,
        other.overlay,
        other.spoken,
    )
