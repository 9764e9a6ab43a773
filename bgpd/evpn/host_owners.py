"""Which MAC has an IP address where the type 2 routes of one neighbor name several: a sticky one, else the highest
mobility sequence.

RFC 7432 section 15 compares sequences for one MAC; an address with two MACs under one route distinguisher is a machine
that was replaced, and the newer one counts. Of equal sequences the lowest MAC has it, on every host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bgpd.evpn.mac_mobility import decode_mobility
from bgpd.model.path import Path


class HostOwners:
    """The type 2 key that owns each host prefix. Prefixes that several keys name are `contested`.

    The hot path of an import: an address that one key names costs one entry here.
    """

    __slots__ = ("contested", "owners")

    def __init__(self) -> None:
        self.owners: dict[bytes, bytes] = {}
        self.contested: dict[bytes, set[bytes]] = {}

    def claim(self, keys: Sequence[bytes], prefixes: list[bytes]) -> list[bytes]:
        """The keys name these host prefixes now; answers the prefixes that no other key names."""
        size = len(self.owners)
        owners = list(map(self.owners.setdefault, prefixes, keys))
        if len(self.owners) - size == len(keys) or (not self.contested and owners == list(keys)):
            return prefixes
        free = []
        for key, prefix, owner in zip(keys, prefixes, owners):
            if prefix in self.contested:
                self.contested[prefix].add(key)
            elif owner != key:
                self.contested[prefix] = {owner, key}
            else:
                free.append(prefix)
        return [prefix for prefix in free if prefix not in self.contested]

    def release(self, keys: Sequence[bytes], prefixes: list[bytes]) -> list[bytes]:
        """The keys no longer name these host prefixes; returns the prefixes that no key names now."""
        free = []
        for key, prefix in zip(keys, prefixes):
            if prefix in self.contested:
                self.contested[prefix].discard(key)
            elif self.owners.get(prefix) == key:
                del self.owners[prefix]
                free.append(prefix)
        return free

    def contested_among(self, prefixes: Iterable[bytes]) -> set[bytes]:
        """Those of `prefixes` whose owner `settle` must decide."""
        return set(self.contested).intersection(prefixes) if self.contested else set()

    def settle(self, prefix: bytes, usable: Mapping[bytes, Path]) -> Path | None:
        """The path of the key that has a contested prefix; `usable` has the present path of each key that still may."""
        if len(usable) < 2:
            del self.contested[prefix]
        if not usable:
            self.owners.pop(prefix, None)
            return None
        places = {key: decode_mobility(path.attributes.extended_communities).precedence for key, path in usable.items()}
        winner = min(usable, key=lambda key: (*places[key], key))
        self.owners[prefix] = winner
        return usable[winner]
