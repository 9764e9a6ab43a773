"""Groups that stand for a wish instead of for their members: their content changes in place, whatever it becomes.

Routes by abstract next hops (a gateway of another tenant network, a service) point at such a group. When what the next
hops lead to changes, one message gives the group its new members, however many routes use it. Groups of wishes with
equal members stay apart, since they may part ways later. A group that an earlier run left is taken over for the first
wish whose routes point at it and whose members it has. One object per table of routes; sans-IO but for the dataplane
that it tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.nexthop_messages import Members
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops

Name = tuple[Family, NextHops]
"""What a group stands for: the next hops wished by routes of a family."""


class BoundGroups:
    """The bound groups of one table, by what they stand for."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._groups: dict[Name, set[int]] = {}
        self._names: dict[int, Name] = {}
        self._users: dict[NextHop, set[Name]] = {}

    def target(
        self, name: Name, members: Members, before: Collection[int | None], *, resilient: bool = False
    ) -> tuple[int, AbstractSet[int]]:
        """(group for routes of this wish, all groups that do as well). `before`: what its routes point at now."""
        nexthops = self._dataplane.nexthops
        groups = self._living(name)
        for identifier in before:
            if identifier is not None and nexthops.claim(identifier, members, resilient=resilient):
                self._bind(identifier, name)
        fitting = {identifier for identifier in groups if nexthops.groups[identifier].resilient is resilient}
        if not fitting:
            fitting.add(nexthops.make_bound(members, resilient=resilient))
            self._bind(min(fitting), name)
        self.set_members(name, members)
        return min(fitting), fitting

    def set_members(self, name: Name, members: Members) -> None:
        """Give the groups of a wish these members: one message each; without members they go, with their routes."""
        for identifier in list(self._living(name)):
            self._dataplane.replace_members(identifier, members)

    def name_of(self, group: int) -> Name | None:
        """What a group stands for; None if it is none of this table's."""
        return self._names.get(group)

    def names(self, users_of: NextHop | None = None) -> Iterable[Name]:
        """What the groups stand for: all, or those with one next hop."""
        return list(self._groups if users_of is None else self._users.get(_unweighted(users_of), ()))

    def prune(self) -> None:
        """Forget wishes whose groups are gone."""
        for name in [name for name in self._groups if not self._living(name)]:
            del self._groups[name]
            for hop in map(_unweighted, name[1]):
                self._users[hop].discard(name)
                if not self._users[hop]:
                    del self._users[hop]

    def _bind(self, identifier: int, name: Name) -> None:
        self._groups[name].add(identifier)
        self._names[identifier] = name

    def _living(self, name: Name) -> set[int]:
        """The groups of a wish that exist now; the set stays the same object while there is one."""
        groups = self._groups.get(name)
        if groups is None:
            groups = self._groups[name] = set()
            for hop in map(_unweighted, name[1]):
                self._users.setdefault(hop, set()).add(name)
        for identifier in [one for one in groups if one not in self._dataplane.nexthops.groups]:
            groups.remove(identifier)
            del self._names[identifier]
        return groups


def _unweighted(hop: NextHop) -> NextHop:
    return hop if hop.weight == 1 else NextHop(hop.address, hop.interface)
