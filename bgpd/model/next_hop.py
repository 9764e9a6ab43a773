"""Next hops: what a route is forwarded by. Shared by the routes that have them."""

from __future__ import annotations

import msgspec

from bgpd.model.prefix import format_address


class NextHop(msgspec.Struct, frozen=True, gc=False, order=True, cache_hash=True):
    """A gateway: packed address (4 or 16 bytes), and the interface that scopes it if it is link-local ("" if global).

    An empty address with an interface is a directly attached destination (`dev X scope link`). An interface that starts
    with "@" is none: the next hop is recursive, and whoever made it says which real ones it leads to.
    `weight` is the ECMP weight, 1 to 65536.
    """

    address: bytes
    interface: str = ""
    weight: int = 1

    @property
    def is_recursive(self) -> bool:
        """Whether something resolves it: EVPN to uplinks, a service to its backends."""
        return self.interface[:1] == "@"

    def __str__(self) -> str:
        if self.is_recursive:
            return format_address(self.address) if self.address else f"neighbor {self.interface.partition(':')[2]}"
        text = format_address(self.address) if self.address else "link"
        return f"{text}%{self.interface}" if self.interface else text


NextHops = tuple[NextHop, ...]
"""What the FIB forwards a route by: next hops, ascending, without duplicates. Never empty; interned by the RIB, so that
equal sets are one object. None in its place means "no kernel route of ours" (withdrawn, or a local route)."""


BLACKHOLE: NextHops = (NextHop(address=b"", interface=""),)
"""The next hops of a route that discards what matches it (RTN_BLACKHOLE), such as the block under an aggregate.

Its only member has neither an address nor an interface. Compare with `==`.
"""
