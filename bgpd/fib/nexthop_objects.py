"""Which nexthop objects exist, which members each group has now, and what remains when a next hop is lost.

Every route points at a group, even of one member, so that the loss of a next hop is one message however many routes
use it: the kernel drops a deleted member from all its groups. A group therefore is known by its *present* members,
not by those it was made with. Sans-IO: messages are collected, nothing is sent. Shared by all tables of the process.
See docs/decisions/0002-routes-point-at-nexthop-groups.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from bgpd.fib.group_room import GroupRoom
from bgpd.fib.group_sources import MIXED
from bgpd.fib.nexthop_ids import NexthopIds
from bgpd.fib.nexthop_values import Group, Loss, Nexthop, ratio
from bgpd.fib.refused_gateways import RefusedGateways
from bgpd.kernel.nexthop_messages import Members, NexthopObject, encode_delete, encode_group, encode_nexthop
from bgpd.model.next_hop import NextHop, NextHops

MOST_COLLECTED = 256
"""Unused objects that are deleted together."""
_Kind = tuple[Members, bytes]
"""What tells groups apart that any route may use: their members, and the preferred source of their routes."""


class NexthopObjects:
    """Nexthops and groups by id.

    `dead`: group id -> routes that still name it although the kernel has flushed them.
    `version` grows with each change. `deletes` counts lost gateways.
    `leftovers` are objects of an earlier run that this one does not use: groups with members unknown to it, say.
    `not_resilient`: why this kernel makes no resilient groups ("" as long as it does).
    `sources`: the preferred source of the groups that have one. `refusals`: gateways that the kernel does not take.
    """

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.nexthops: dict[int, Nexthop] = {}
        self.groups: dict[int, Group] = {}
        self.dead: dict[int, int] = {}
        self.deletes = 0
        self.version = 0
        self.not_resilient = ""
        self.sources: dict[int, bytes] = {}
        self.refusals = RefusedGateways()
        self.room = GroupRoom()
        self.leftovers: list[int] = []
        self._nexthop_ids: dict[tuple[bytes, int], int] = {}
        self._group_ids: dict[_Kind, set[int]] = {}
        self._observed: set[int] = set()
        self._doubtful: dict[int, float | None] = {}
        self._ids = NexthopIds(protocol)
        self._created = bytearray()
        self._created_ids: list[int] = []
        self._ahead: set[int] = set()
        self._behind: Counter[int] = Counter()

    def take_created(self) -> tuple[bytes, list[int]]:
        """Messages of objects made since the last call, and their ids: they go ahead of the routes that use them."""
        created, ids = bytes(self._created), self._created_ids
        self._created, self._created_ids = bytearray(), []
        return created, ids

    def sent_ahead(self, identifiers: Iterable[int]) -> None:
        """These are being made ahead of all that is queued: what needs them goes there, too."""
        self._ahead.update(identifiers)

    def sent_behind(self, groups: Iterable[int]) -> None:
        """A change of each is queued: a later one that went ahead of it would be undone by it."""
        self._behind.update(groups)

    def caught_up(self, groups: Iterable[int]) -> None:
        """The kernel has answered changes that were `sent_behind`."""
        for group in groups:
            self._behind[group] -= 1
            if not self._behind[group]:
                del self._behind[group]

    def nexthop_of(self, hop: NextHop, ifindex: int) -> int | None:
        """Id of the gateway on the interface; made if there is none, None if there is no room."""
        place = (hop.address, ifindex)
        found = self._nexthop_ids.get(place)
        if found is None:
            if hop.address not in self.room.neighbors and not self.room.is_left(len(self.groups), is_one=True):
                return None
            found = self._ids.nexthop()
            self._enter_nexthop(Nexthop(id=found, hop=hop, ifindex=ifindex))
            self._create(found, encode_nexthop(found, self.protocol, hop.address, ifindex))
        return found

    def _is_of_neighbors(self, members: Members) -> bool:
        return bool(self.room.neighbors) and all(
            self.nexthops[one].hop.address in self.room.neighbors for one, _ in members
        )

    def group_of(self, members: Members, *, reduced: bool = False, source: bytes = b"") -> int | None:
        """Id of a group that has just these members now; made if there is none, None if there is no room for it.

        Of several that were left with these it is one that routes use: the others go, however often this is asked.
        """
        found = self._group_ids.get((ratio(members), source))
        if found:
            identifier = (
                min(found, key=lambda one: (not self.groups[one].routes, one)) if len(found) > 1 else min(found)
            )
            group = self.groups[identifier]
            group.unused_since = None
            group.reduced |= reduced
            return identifier
        of_neighbors = self._is_of_neighbors(members)
        is_one = len(members) == 1
        has_place = of_neighbors and is_one
        if not has_place and not self.room.is_left(len(self.groups), of_neighbors=of_neighbors, is_one=is_one):
            return None
        identifier = self._ids.group()
        self._enter_group(Group(id=identifier, members=members, reduced=reduced, source=source))
        self._create(identifier, encode_group(identifier, self.protocol, members))
        return identifier

    def same_as(self, members: Members, source: bytes = b"") -> AbstractSet[int]:
        """Ids of all groups with these members: a route that points at any of them need not be rewritten."""
        found: AbstractSet[int] = self._group_ids.get((ratio(members), source), frozenset())
        for identifier in found:
            self.groups[identifier].claimable = False
        return found

    def group_of_one(self, members: Members, source: bytes = b"") -> int | None:
        """Fallback when the group limit is reached: id of a single-member group; None if there is no room for that."""
        alone = [((nexthop, 1),) for nexthop, _weight in members]
        known = (one for one in alone if self._group_ids.get((one, source)) or self._is_of_neighbors(one))
        return self.group_of(next(known, alone[0]), reduced=True, source=source)

    def make_bound(self, members: Members, *, resilient: bool = False, source: bytes = b"") -> int | None:
        """Id of a new group that is not shared by others with equal members; None if there is no room for it."""
        if not self.room.is_left(len(self.groups)):
            return None
        identifier = self._ids.group()
        group = Group(id=identifier, members=members, bound=True, resilient=resilient, source=source)
        self._enter_group(group)
        self._create(identifier, self._encode(group, members))
        return identifier

    def claim(self, identifier: int, members: Members, *, resilient: bool = False, source: bytes = b"") -> bool:
        """Make a group of an earlier run that has just these members a bound one; False if it is not free to be."""
        group = self.groups.get(identifier)
        wanted = (members, resilient, source)
        if group is None or not group.claimable or (group.members, group.resilient, group.source) != wanted:
            return False
        if not group.bound:
            self._forget_members(group)
        group.claimable, group.bound, group.reduced = False, True, False
        return True

    def replace_members(self, identifier: int, members: Members) -> Loss:
        """Give a bound group other members: one message; without any it is deleted, and its routes go with it."""
        group = self.groups[identifier]
        loss = Loss()
        if group.members == members:
            return loss
        self._set_members(group, members)
        group.reduced = False
        loss.messages = 1
        if members:
            message = self._encode(group, members, replace=True)
            loss.changed.append(identifier)
        else:
            message = encode_delete([identifier])
            loss.died.append(identifier)
        if self._is_ready(group, members):
            loss.urgent = message
        else:
            loss.ordered = message
            loss.behind.append(identifier)
        return loss

    def _encode(self, group: Group, members: Members, *, replace: bool = False) -> bytes:
        return encode_group(group.id, self.protocol, members, replace=replace, resilient=group.resilient)

    def _is_ready(self, group: Group, members: Members) -> bool:
        """Whether a change of the group may go ahead of all that is queued: the kernel has all that it builds on, but
        for what is sent along with it."""
        return self._is_there(group) and all(
            self._is_there(self.nexthops[nexthop]) or nexthop in self._created_ids for nexthop, _weight in members
        )

    def _are_there(self, group: Group, members: Members) -> bool:
        return self._is_there(group) and all(self._is_there(self.nexthops[nexthop]) for nexthop, _weight in members)

    def _is_there(self, found: Nexthop | Group) -> bool:
        """Whether the kernel has it, as it is to be before what goes ahead now."""
        return (found.present or found.id in self._ahead) and found.id not in self._behind

    def next_hops(self, identifier: int) -> NextHops:
        """A group's present members as next hops, ascending."""
        group = self.groups.get(identifier)
        if group is None:
            return ()
        hops = []
        for nexthop, weight in group.members:
            hop = self.nexthops[nexthop].hop
            hops.append(NextHop(hop.address, hop.interface, weight))
        return tuple(sorted(hops))

    def is_lost(self, identifier: int) -> bool:
        """Whether a group of this run was deleted with its last next hop; not one that the kernel refused to create."""
        return identifier > 0 and identifier not in self.groups and identifier not in self._ids

    def is_within(self, target: int, other: int) -> bool:
        """Whether `other`, the new target, contains every live next hop of `target`; a dead group has none."""
        if target in self.dead:
            return True
        if target not in self.groups or other not in self.groups:
            return False
        members = {nexthop for nexthop, _weight in self.groups[other].members}
        return members.issuperset(nexthop for nexthop, _weight in self.groups[target].members)

    def unsettled(self) -> set[int]:
        """Groups that died while routes named them, and those that lack members."""
        return set(self.dead) | {group.id for group in self.groups.values() if group.reduced and not group.bound}

    def count_routes(self, identifier: int, change: int) -> None:
        """Routes that point at a group became more or fewer."""
        group = self.groups.get(identifier)
        if group is not None:
            group.routes += change
        elif identifier in self.dead:
            self.dead[identifier] += change
            if self.dead[identifier] <= 0:
                del self.dead[identifier]

    def lose(self, lost: Iterable[int], fallback: Callable[[int], Members | None]) -> Loss:
        """Delete nexthops. `fallback` gives new members for a group (by id) that would be left without any, or None.

        Replacements come before the deletions, so that no packet finds an empty group. What the kernel may not have
        yet is deleted behind what makes it, or it would come to stay, with the routes by it. So a group that the kernel
        has, and whose replacement it may not have, dies: the deletion takes it away before any replacement is there.
        """
        gone = dict.fromkeys(nexthop for nexthop in sorted(lost) if nexthop in self.nexthops)
        loss = Loss()
        touched = {group for nexthop in gone for group in self.nexthops[nexthop].groups}
        moves: list[tuple[Group, Members, Members | None]] = []
        for group in map(self.groups.__getitem__, sorted(touched)):
            left = tuple(member for member in group.members if member[0] not in gone)
            moves.append((group, left, None if left else fallback(group.id)))
        is_one_batch = all(self._is_there(self.nexthops[nexthop]) for nexthop in gone) and all(
            self._is_ready(group, replacement) for group, _, replacement in moves if replacement
        )
        for group, left, replacement in moves:
            if replacement and (is_one_batch or self._are_there(group, replacement)):
                loss.urgent += self._encode(group, replacement, replace=True)
            elif replacement and not self._is_there(group):
                loss.ordered += self._encode(group, replacement, replace=True)
                loss.behind.append(group.id)
            else:
                replacement = None
            loss.messages += bool(replacement)
            self._set_members(group, replacement or left)
            (loss.changed if replacement or left else loss.died).append(group.id)
        loss.urgent += encode_delete([nexthop for nexthop in gone if self._is_there(self.nexthops[nexthop])])
        loss.ordered += encode_delete([nexthop for nexthop in gone if not self._is_there(self.nexthops[nexthop])])
        # The kernel may give these, by what is queued, a member that is not deleted.
        loss.ordered += encode_delete([group for group in loss.died if group in self._behind])
        for nexthop in gone:
            place = (self.nexthops[nexthop].hop.address, self.nexthops[nexthop].ifindex)
            del self.nexthops[nexthop]
            del self._nexthop_ids[place]
        loss.deletes = len(gone)
        loss.messages += len(gone)
        self.deletes += len(gone)
        return loss

    def nexthops_of(self, hops: Iterable[NextHop]) -> list[int]:
        """Ids of the gateways that next hops mean: by their interface, or on any if they name none."""
        wanted: dict[bytes, set[str]] = {}
        for hop in hops:
            wanted.setdefault(hop.address, set()).add(hop.interface)
        return [
            nexthop.id
            for nexthop in self.nexthops.values()
            if not wanted.get(nexthop.hop.address, _NOWHERE).isdisjoint(("", nexthop.hop.interface))
        ]

    def nexthop_at(self, address: bytes, ifindex: int) -> int | None:
        """Id of the gateway on the interface, if there is one."""
        return self._nexthop_ids.get((address, ifindex))

    def nexthops_on(self, ifindex: int) -> list[int]:
        """Ids of the gateways of one interface."""
        return [nexthop.id for nexthop in self.nexthops.values() if nexthop.ifindex == ifindex]

    def acknowledged(self, identifiers: Iterable[int]) -> None:
        """The kernel has made these objects."""
        for identifier in identifiers:
            self._ahead.discard(identifier)
            nexthop = self.nexthops.get(identifier)
            found = nexthop or self.groups.get(identifier)
            if found is not None:
                found.present = True
            if nexthop is not None:
                self.refusals.taken(nexthop.hop.address, nexthop.ifindex)

    def refused(self, identifier: int, why: str, *, may_be_there: bool = False, is_unusable: bool = False) -> None:
        """The kernel would not make an object, or change it: it is forgotten, with the groups that contained it.

        `may_be_there`: its answer was lost. Then the object is deleted later, once routes that may have come by it have
        been written again; so is one that the kernel has, as it was before. `is_unusable`: it is a gateway that the
        kernel would refuse again.
        """
        nexthop = self.nexthops.get(identifier)
        found = nexthop or self.groups.get(identifier)
        if nexthop is not None and is_unusable:
            self.refusals.add(nexthop.hop.address, nexthop.ifindex, why)
        self._ahead.discard(identifier)
        if may_be_there or (found is not None and found.present):
            self.doubt([identifier])
        group = self.groups.get(identifier)
        if group is not None and group.resilient and all(self.nexthops[member].present for member, _ in group.members):
            self.not_resilient = why
        self._ids.take(identifier)
        self.vanished([identifier])

    def avoid(self, identifier: int) -> None:
        """Another program made an object of this id, or changed it: unless it is one of these, no new one gets it. The
        kernel would take routes by it, and forward them as that program says."""
        if identifier not in self.nexthops and identifier not in self.groups:
            self._ids.avoid(identifier)

    def doubt(self, identifiers: Iterable[int]) -> None:
        """The kernel may have these, which are forgotten: they are deleted after the grace time."""
        self._doubtful.update(dict.fromkeys(identifiers))

    def vanished(self, identifiers: Iterable[int]) -> Loss:
        """The kernel no longer has these objects (or never had): groups follow. Nothing is sent for them."""
        missing = set(identifiers)
        loss = Loss()
        for identifier in sorted(missing & self.groups.keys()):
            self._set_members(self.groups[identifier], ())
            loss.died.append(identifier)
        nexthops = self.lose(sorted(missing & self.nexthops.keys()), lambda _group: None)
        loss.changed, loss.died = nexthops.changed, loss.died + nexthops.died
        self.deletes -= nexthops.deletes
        return loss

    def compare(self, objects: Iterable[NexthopObject], known: AbstractSet[int]) -> tuple[list[int], bytes]:
        """(ids that the kernel lacks, messages that set right what it holds otherwise) of the ids in `known`.

        `known` are the ids that were present when the dump was asked for.
        """
        ours = {found.id: found for found in objects if found.protocol == self.protocol}
        missing = [identifier for identifier in known if identifier not in ours]
        lost = self.nexthops.keys() & set(missing)
        repairs = b""
        for identifier in known & ours.keys() & self.groups.keys():
            left = tuple(member for member in self.groups[identifier].members if member[0] not in lost)
            if left and ours[identifier].members != left:
                repairs += self._encode(self.groups[identifier], left, replace=True)
        for identifier in known & ours.keys() & self.nexthops.keys():
            nexthop, found = self.nexthops[identifier], ours[identifier]
            if (found.gateway, found.ifindex) != (nexthop.hop.address, nexthop.ifindex):
                repairs += encode_nexthop(identifier, self.protocol, nexthop.hop.address, nexthop.ifindex, replace=True)
        return missing, repairs

    def present_ids(self) -> set[int]:
        """Ids of all objects that the kernel has acknowledged."""
        return {found.id for table in (self.nexthops, self.groups) for found in table.values() if found.present}

    def unacknowledged(self) -> bool:
        """Whether the kernel has been asked for an object and has not answered."""
        waiting = len(self.nexthops) + len(self.groups) - len(self.present_ids())
        return waiting > sum(found in self.nexthops or found in self.groups for found in self._created_ids)

    def adopt(self, objects: Iterable[NexthopObject], name_of: Callable[[int], str]) -> None:
        """Take over what an earlier run left; ids of other owners in our ranges are avoided. `name_of` an interface."""
        for found in objects:
            if found.protocol != self.protocol:
                self._ids.take(found.id)
            elif found.gateway:
                scoped = len(found.gateway) == 16 and found.gateway[0] == 0xFE
                hop = NextHop(found.gateway, name_of(found.ifindex) if scoped else "")
                if (found.gateway, found.ifindex) not in self._nexthop_ids:
                    self._enter_nexthop(Nexthop(id=found.id, hop=hop, ifindex=found.ifindex, present=True))
                else:  # made twice, since the answer to the first was lost
                    self.leftovers.append(found.id)
                self._ids.take(found.id)
            elif not found.members:  # another program has changed it
                self._ids.take(found.id)
                self.leftovers.append(found.id)
        for found in objects:
            if found.protocol == self.protocol and found.members:
                self._ids.take(found.id)
                if all(nexthop in self.nexthops for nexthop, _weight in found.members):
                    self._enter_group(
                        Group(
                            id=found.id,
                            members=found.members,
                            present=True,
                            claimable=True,
                            resilient=found.resilient,
                            bound=found.resilient,
                        )
                    )
                else:
                    self.leftovers.append(found.id)

    def sources_observed(self, observed: Mapping[int, AbstractSet[bytes]]) -> None:
        """Routes that an earlier run left name these preferred sources; by the group that they point at."""
        for identifier, sources in observed.items():
            group = self.groups.get(identifier)
            if group is None:
                continue
            source = next(iter(sources)) if len(sources) == 1 else MIXED
            if source != group.source and (identifier in self._observed or group.routes):
                source = MIXED
            self._observed.add(identifier)
            if source != group.source:
                if not group.bound:
                    self._forget_members(group)
                group.source = source
                self._enter_group(group)

    def groups_from(self, source: bytes) -> list[int]:
        """The groups whose routes name a preferred source."""
        return [identifier for identifier, found in self.sources.items() if found == source]

    def collect_unused(self, now: float, grace_s: float) -> tuple[bytes, bool]:
        """Deletions of groups without a route for `grace_s`, of objects that were not to be, and of gateways without a
        group; whether there are more.

        Some at a time: the kernel takes long for each, and nothing else is written meanwhile.
        """
        unused: list[int] = []
        for group in list(self.groups.values()):
            if group.routes > 0 or not group.present:
                group.unused_since = None
            elif group.unused_since is None:
                group.unused_since = now
            elif now - group.unused_since >= grace_s and len(unused) < MOST_COLLECTED:
                unused.append(group.id)
                self._set_members(group, ())
        for identifier, since in list(self._doubtful.items()):
            if since is None:
                self._doubtful[identifier] = now
            elif now - since >= grace_s and len(unused) < MOST_COLLECTED:
                unused.append(identifier)
                del self._doubtful[identifier]
        for nexthop in list(self.nexthops.values()):
            if nexthop.present and not nexthop.groups and len(unused) < MOST_COLLECTED:
                unused.append(nexthop.id)
                del self.nexthops[nexthop.id]
                del self._nexthop_ids[nexthop.hop.address, nexthop.ifindex]
        return encode_delete(unused), len(unused) >= MOST_COLLECTED

    def _create(self, identifier: int, message: bytes) -> None:
        self._created += message
        self._created_ids.append(identifier)

    def _enter_nexthop(self, nexthop: Nexthop) -> None:
        self.version += 1
        self.nexthops[nexthop.id] = nexthop
        self._nexthop_ids[nexthop.hop.address, nexthop.ifindex] = nexthop.id

    def _enter_group(self, group: Group) -> None:
        self.version += 1
        self.groups[group.id] = group
        if group.source:
            self.sources[group.id] = group.source
        if not group.bound:
            self._group_ids.setdefault((ratio(group.members), group.source), set()).add(group.id)
        for nexthop, _weight in group.members:
            self.nexthops[nexthop].groups.add(group.id)

    def _set_members(self, group: Group, members: Members) -> None:
        """The one place where a group's contents change; without members it is dead."""
        self.version += 1
        for nexthop, _weight in group.members:
            self.nexthops[nexthop].groups.discard(group.id)
        if not group.bound:
            self._forget_members(group)
        group.members, group.reduced = members, True
        if members:
            self._enter_group(group)
            return
        del self.groups[group.id]
        self.sources.pop(group.id, None)
        if group.routes > 0:
            self.dead[group.id] = group.routes

    def _forget_members(self, group: Group) -> None:
        kind = (ratio(group.members), group.source)
        same = self._group_ids[kind]
        same.discard(group.id)
        if not same:
            del self._group_ids[kind]


_NOWHERE: frozenset[str] = frozenset()
