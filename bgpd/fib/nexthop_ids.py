"""Which ids the nexthop objects of one protocol get: nexthops and groups from a range each, none twice in a run.

Other programs may have ids in these ranges, and an earlier run has left some: those are avoided. Sans-IO.
"""

from __future__ import annotations

IDS_PER_PROTOCOL = 1_000_000
"""Protocol 217 has nexthops from 217,000,001 and groups from 217,500,001."""


class NexthopIds:
    """Gives ids. An id is `in` it if it must not be given (again): it is another's, or the kernel refused it."""

    def __init__(self, protocol: int) -> None:
        self._taken: set[int] = set()
        self._range = range(protocol * IDS_PER_PROTOCOL, (protocol + 1) * IDS_PER_PROTOCOL)
        self._last_nexthop = self._range.start
        self._last_group = self._range.start + IDS_PER_PROTOCOL // 2

    def __contains__(self, identifier: int) -> bool:
        return identifier in self._taken

    def take(self, identifier: int) -> None:
        """Never give this one."""
        self._taken.add(identifier)

    def avoid(self, identifier: int) -> None:
        """Another program has this one now: of those that may be given, it is not."""
        if identifier in self._range:
            self._taken.add(identifier)

    def nexthop(self) -> int:
        """One for a new nexthop."""
        self._last_nexthop = self._after(self._last_nexthop)
        return self._last_nexthop

    def group(self) -> int:
        """One for a new group."""
        self._last_group = self._after(self._last_group)
        return self._last_group

    def _after(self, identifier: int) -> int:
        identifier += 1
        while identifier in self._taken:
            identifier += 1
        return identifier
