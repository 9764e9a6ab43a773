"""Other programs' directly attached kernel routes, for the decisions about workloads (`standing`).

Decides nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from bgpd.model.iana import Family
from bgpd.model.prefix import VrfFamily, covers, key_address
from bgpd.model.workload import Claim
from bgpd.workload.standing import Foreign

_IPV4 = Family.IPV4_UNICAST


class ForeignRoutes:
    """Routes by table and key, and the keys that wait for any route that covers them.

    `leads_elsewhere(table, key)`: whether the kernel has a route of exactly this key that drops, or leads elsewhere.
    """

    def __init__(self) -> None:
        self.leads_elsewhere: Callable[[VrfFamily, bytes], bool] = lambda _table, _key: False
        self._routes: dict[VrfFamily, dict[bytes, Foreign]] = defaultdict(dict)
        self._lengths: dict[VrfFamily, Counter[int]] = defaultdict(Counter)
        self._followed: dict[VrfFamily, dict[bytes, None]] = defaultdict(dict)

    def set(self, table: VrfFamily, key: bytes, foreign: Foreign | None) -> Iterable[bytes]:
        """A route was added, or (None) removed; returns the keys that this may affect."""
        routes = self._routes[table]
        before = routes.get(key)
        if before == foreign:
            return ()
        if foreign is None:
            del routes[key]
            self._lengths[table][key[0]] -= 1
        else:
            if before is None:
                self._lengths[table][key[0]] += 1
            routes[key] = foreign
        if key[0] == (32 if table[1] is _IPV4 else 128):
            return (key,)
        return [key, *(followed for followed in self._followed[table] if followed != key and covers(key, followed))]

    def follow(self, table: VrfFamily, key: bytes) -> None:
        """Changes of any route that covers `key` matter from now on."""
        self._followed[table][key] = None

    def unfollow(self, table: VrfFamily, key: bytes) -> None:
        """They do not any more."""
        self._followed[table].pop(key, None)

    def leading_to(self, table: VrfFamily, key: bytes, claim: Claim) -> Foreign | None:
        """The route of exactly this key; for a claim that needs any route, the longest that covers it."""
        exact = self._routes[table].get(key)
        if exact is not None or not claim.needs_route or self.leads_elsewhere(table, key):
            return exact
        address = key_address(table[1], key)
        for length in sorted((n for n, count in self._lengths[table].items() if count), reverse=True):
            if 0 < length < key[0]:
                covering = self._routes[table].get(truncate(address, length))
                if covering is not None:
                    return covering
        return None


def truncate(address: bytes, length: int) -> bytes:
    """Route key of the prefix of `length` bits that an address is in."""
    whole, rest = divmod(length, 8)
    significant = address[:whole]
    if rest:
        significant += bytes((address[whole] & (0xFF00 >> rest) & 0xFF,))
    return bytes((length,)) + significant
