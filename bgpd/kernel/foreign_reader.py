"""Compares our copy of other programs' routes with the kernel, for routes in doubt: which are new, which are gone.

A route that a dump lacks may still exist. Linux continues a dump of a large IPv6 table by the number of nodes already
dumped, so that removals between two parts make it skip existing routes, without notice. A dump of one part is read
under the table's lock and is complete. So a route that a dump of several parts lacks is checked by a dump of its
interface's routes, which fits into one part. Where that does not fit either, a route is gone if several dumps in a row
lack it. See docs/decisions/0010-absence-in-a-dump.md.

Blocking, for a worker thread; on a socket of its own.
"""

from __future__ import annotations

import errno
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from bgpd.kernel.foreign_routes import Place, Routes, difference, hops_of
from bgpd.kernel.netlink import DATAGRAM_PAUSE_S, DumpInterrupted, MessageKind, dump, open_socket
from bgpd.kernel.nexthop_messages import NexthopObject, encode_dump_request, read_objects
from bgpd.kernel.route_decoder import Hop, expand, read_foreign_routes
from bgpd.kernel.route_messages import encode_route_dump_request
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute

_RECEIVE_BYTES = 32 << 20
_TRIES = 20
_IN_A_ROW = 3
"""Consecutive dumps that must lack a route before it counts as gone, if none of them has one part only."""
_LOOKS = 8
"""Most interfaces that are dumped one by one; for more, the whole table is dumped again first."""
Missing = dict[Place, list[KernelRoute]]


class Scope(msgspec.Struct, frozen=True):
    """Which routes are read: those of a family, by an interface (its index is 0 if there is none of the name), of a
    protocol, of a table.
    """

    family: Family
    index: int = 0
    interface: str = ""
    protocol: int = 0
    table: int = 0

    def contains(self, route: KernelRoute) -> bool:
        """Whether a dump of this scope shows a route if it is there. Routes by nexthop objects go with those."""
        return (
            route.family is self.family
            and (not self.interface or (route.interface == self.interface and not route.nexthop))
            and self.protocol in (0, route.protocol)
            and self.table in (0, route.table)
        )


class Reading(msgspec.Struct):
    """Result of a reading: the routes of places that differ from our copy, and all nexthop objects of other programs.

    `is_whole`: no IPv6 table was read in several parts, so that nothing can be lacking.
    """

    nexthops: dict[int, NexthopObject]
    changes: dict[Place, Routes] = {}
    is_whole: bool = True


class Dump(msgspec.Struct):
    """The routes of a scope by place; `is_whole`: it was one part, not full, so that what it lacks is not there."""

    routes: dict[Place, list[KernelRoute]]
    is_whole: bool


Dumper = Callable[[Scope], Dump]


def compare(scope: Scope, known: dict[Place, Routes], read: Dumper, index_of: Mapping[str, int]) -> dict[Place, Routes]:
    """The places of a scope whose routes are otherwise than known, with what they are; `known` is brought up to date.

    `read` dumps a scope. `index_of` are the interfaces that there are, by name.
    """
    found = read(scope)
    lacking: Missing = {}
    changes: dict[Place, Routes] = {}
    for place in known.keys() | found.routes.keys():
        before, there = known.get(place, ()), found.routes.get(place, [])
        if before == tuple(there):
            continue
        missing, new = difference([one for one in before if scope.contains(one)], there)
        if missing:
            lacking[place] = missing
        if new:
            changes[place] = (*before, *new)
    gone = lacking if found.is_whole else _confirmed(scope, lacking, read, index_of)
    for place, routes in gone.items():
        changes[place] = tuple(difference(changes.get(place, known.get(place, ())), routes)[0])
    for place, after in changes.items():
        if after:
            known[place] = after
        else:
            del known[place]
    return changes


def _confirmed(scope: Scope, missing: Missing, read: Dumper, index_of: Mapping[str, int]) -> Missing:
    """Of the routes that a dump of several parts lacks, those that are really gone."""
    for _ in range(_IN_A_ROW - 1):
        if len(_by_scope(missing, index_of)) <= _LOOKS:
            break
        found = read(scope)
        missing = _still(missing, found)
        if found.is_whole:
            return missing
    gone: Missing = {}
    for narrow, those in _by_scope(missing, index_of).items():
        for _ in range(_IN_A_ROW):
            found = read(narrow)
            those = _still(those, found)
            if found.is_whole or not those:
                break
        for place, routes in those.items():
            gone.setdefault(place, []).extend(routes)
    return gone


def _by_scope(missing: Missing, index_of: Mapping[str, int]) -> dict[Scope, Missing]:
    """The missing routes, grouped by the smallest dump that would show them."""
    found: dict[Scope, Missing] = {}
    for place, routes in missing.items():
        for route in routes:
            if route.interface and not route.nexthop:
                scope = Scope(route.family, index_of.get(route.interface, 0), route.interface)
            else:
                scope = Scope(route.family, protocol=route.protocol, table=route.table)
            found.setdefault(scope, {}).setdefault(place, []).append(route)
    return found


def _still(missing: Missing, found: Dump) -> Missing:
    """The missing routes that another dump lacks, too."""
    left = {place: difference(routes, found.routes.get(place, []))[0] for place, routes in missing.items()}
    return {place: routes for place, routes in left.items() if routes}


class ForeignReader:
    """Reads in the network namespace that it is made in."""

    def __init__(self, own_protocol: int) -> None:
        self._own_protocol = own_protocol
        self._socket = open_socket(receive_bytes=_RECEIVE_BYTES, strict=True)
        self._socket.settimeout(30)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(
        self,
        scopes: Iterable[Scope],
        known: dict[Place, Routes],
        names: Mapping[int, str],
        *,
        pause_s: float = DATAGRAM_PAUSE_S,
    ) -> Reading:
        """Compare `known`, a copy, with the kernel, scope by scope. `names` of interfaces by index.

        Raises: OSError: the kernel refused.
        """
        findings = Reading(nexthops=self._read_nexthops())

        def read(scope: Scope) -> Dump:
            found = self._dump(scope, names, findings.nexthops, pause_s)
            findings.is_whole &= found.is_whole or scope.family is Family.IPV4_UNICAST
            return found

        index_of = {name: index for index, name in names.items()}
        for scope in scopes:
            findings.changes.update(compare(scope, known, read, index_of))
        return findings

    def _read_nexthops(self) -> dict[int, NexthopObject]:
        """Nexthop objects of others. The kernel dumps them by id, and marks a dump during which some changed."""
        for _ in range(_TRIES):
            try:
                return {
                    found.id: found
                    for data in dump(self._socket, encode_dump_request())
                    for found in read_objects(data)
                    if found.protocol != self._own_protocol
                }
            except DumpInterrupted:
                continue
        raise OSError(errno.EBUSY, f"the nexthop objects changed during each of {_TRIES} dumps")

    def _dump(
        self, scope: Scope, names: Mapping[int, str], nexthops: Mapping[int, NexthopObject], pause_s: float
    ) -> Dump:
        if scope.interface and not scope.index:
            return Dump({}, is_whole=True)  # there is no such interface

        def name_of(index: int) -> str:
            return names.get(index, "")

        def led(identifier: int) -> list[Hop] | None:
            return hops_of(nexthops, identifier, name_of)

        for _ in range(_TRIES):
            found = Dump({}, is_whole=True)
            parts: list[int] = []
            try:
                for data in dump(self._socket, _request(scope)):
                    if data[4:6] == _NEW_ROUTE:
                        parts.append(len(data))
                    for route in expand(read_foreign_routes(data, self._own_protocol, name_of), led):
                        if scope.contains(route):
                            found.routes.setdefault((route.family, route.table, route.key), []).append(route)
                    time.sleep(pause_s)
            except DumpInterrupted:
                continue
            except OSError as error:
                if error.errno not in _NO_SUCH:
                    raise
            found.is_whole = is_one_part(parts)
            return found
        raise OSError(errno.EBUSY, f"the routes changed during each of {_TRIES} dumps")


def is_one_part(lengths: Sequence[int]) -> bool:
    """Whether the kernel wrote a dump in one go, from the lengths of its datagrams with routes.

    One that is full may have been followed by another that, the table having changed, had nothing more to show. The
    kernel makes them of 32 KiB, or of a page where it has no memory for that (netlink_dump).
    """
    if not lengths:
        return True
    is_full = any(size - _LARGEST_ROUTE < lengths[0] <= size for size in (_SMALL_PART, _LARGE_PART))
    return len(lengths) == 1 and not is_full


_LARGE_PART = 32768
_SMALL_PART = min(8192, resource.getpagesize())
_LARGEST_ROUTE = 2048
"""With what the kernel keeps for itself: a part is full if no other route may have fitted into it."""
_NEW_ROUTE = int(MessageKind.NEW_ROUTE).to_bytes(2, sys.byteorder)
_NO_SUCH = (errno.ENODEV, errno.ENOENT)
"""The interface, or the table, is gone, and its routes with it."""


def _request(scope: Scope) -> bytes:
    return encode_route_dump_request(scope.family, table=scope.table, protocol=scope.protocol, interface=scope.index)
