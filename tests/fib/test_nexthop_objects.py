"""Nexthop objects: what may be shared or claimed, and when those that nobody uses are deleted."""

from __future__ import annotations

import pytest

from bgpd.fib import nexthop_objects
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.fib.nexthop_values import Loss
from bgpd.kernel.nexthop_messages import NexthopObject, encode_delete, encode_group
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address

GRACE_S = 60.0
HOPS = [NextHop(parse_address(f"10.0.{number}.2"), f"eth{number}") for number in range(3)]


class Table(NexthopObjects):
    """A table whose objects the kernel acknowledges at once."""

    def __init__(self) -> None:
        super().__init__(197)
        self.hops: list[int] = []
        for index, hop in enumerate(HOPS):
            nexthop = self.nexthop_of(hop, index + 2)
            assert nexthop is not None
            self.hops.append(nexthop)

    def group(self, *numbers: int, routes: int = 0) -> int:
        group = self.group_of(tuple((self.hops[number], 1) for number in numbers))
        assert group is not None
        self.count_routes(group, routes)
        return group

    def acknowledge(self) -> None:
        self.acknowledged(self.take_created()[1])

    def collected(self, now: float) -> tuple[bytes, bool]:
        return self.collect_unused(now, GRACE_S)


def test_group_goes_when_it_was_unused_for_the_whole_grace_time_and_its_gateways_with_it() -> None:
    table = Table()
    used, unused = table.group(0, routes=1), table.group(0, 1)
    table.acknowledge()
    assert table.collected(100.0) == (encode_delete([table.hops[2]]), False), "a gateway of no group goes at once"
    assert table.collected(100.0 + GRACE_S - 1) == (b"", False)
    assert table.collected(100.0 + GRACE_S) == (encode_delete([unused, table.hops[1]]), False)
    assert set(table.groups) == {used}
    assert set(table.nexthops) == {table.hops[0]}


def test_group_that_is_used_again_meanwhile_begins_anew() -> None:
    table = Table()
    group = table.group(0, 1, 2)
    table.acknowledge()
    table.collected(100.0)
    table.count_routes(group, 1)
    table.collected(130.0)
    table.count_routes(group, -1)
    assert table.collected(100.0 + GRACE_S) == (b"", False)
    assert table.collected(100.0 + 2 * GRACE_S - 1) == (b"", False)
    assert table.collected(100.0 + 2 * GRACE_S)[0]


def test_group_that_is_asked_for_again_meanwhile_begins_anew() -> None:
    table = Table()
    table.group(0, 1, 2)
    table.acknowledge()
    table.collected(100.0)
    table.group(0, 1, 2)
    assert table.collected(100.0 + GRACE_S) == (b"", False)


def test_what_the_kernel_has_not_acknowledged_stays() -> None:
    table = Table()
    table.group(0, 1, 2)
    for now in (100.0, 1000.0):
        assert table.collected(now) == (b"", False)
    table.acknowledge()
    assert table.collected(2000.0) == (b"", False)
    assert table.collected(2000.0 + GRACE_S)[0]


def test_a_few_go_at_a_time_and_it_is_said_that_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nexthop_objects, "MOST_COLLECTED", 2)
    table = Table()
    groups = [table.group(0), table.group(1), table.group(2)]
    table.acknowledge()
    table.collected(0.0)
    assert table.collected(GRACE_S) == (encode_delete(groups[:2]), True)
    table.vanished(groups[:2])
    deletes, more = table.collected(GRACE_S)
    assert deletes == encode_delete([groups[2], table.hops[0]])
    assert more
    table.vanished([groups[2], table.hops[0]])
    assert table.collected(GRACE_S) == (encode_delete(table.hops[1:]), True)
    assert table.collected(GRACE_S) == (b"", False)


def test_gateway_that_was_deleted_is_made_anew_under_another_id() -> None:
    table = Table()
    table.acknowledge()
    table.collected(0.0)
    again = table.nexthop_of(HOPS[0], 2)
    assert again is not None
    assert again not in table.hops
    assert table.take_created()[1] == [again]


def test_groups_of_the_same_members_are_one_and_of_the_same_ratio_too() -> None:
    table = Table()
    first, second = table.hops[:2]
    group = table.group_of(((first, 1), (second, 2)))
    assert table.group_of(((first, 2), (second, 4))) == group
    assert table.group_of(((first, 2), (second, 1))) != group
    assert table.same_as(((first, 10), (second, 20))) == {group}
    bound = table.make_bound(((first, 1), (second, 2)))
    assert bound != group
    assert table.same_as(((first, 1), (second, 2))) == {group}, "what is bound is nobody else's"


def test_group_of_an_earlier_run_is_claimed_only_with_its_very_members_and_kind() -> None:
    table = Table()
    members = ((table.hops[0], 1), (table.hops[1], 1))
    group = table.group(0, 1)
    table.acknowledge()
    assert not table.claim(group, members), "it is of this run"
    table.groups[group].claimable = True
    assert not table.claim(group, members[:1])
    assert not table.claim(group, members, resilient=True)
    assert not table.claim(group + 1, members)
    assert table.claim(group, members)
    assert not table.claim(group, members), "it has an owner"
    assert table.same_as(members) == set()
    assert table.replace_members(group, members) == Loss()


def test_loss_of_a_gateway_reduces_its_groups_and_empties_those_of_it_alone() -> None:
    table = Table()
    both, alone = table.group(0, 1, routes=3), table.group(0, routes=2)
    table.acknowledge()
    loss = table.lose([table.hops[0]], lambda _: None)
    assert (loss.died, loss.changed, loss.deletes, loss.messages) == ([alone], [both], 1, 1)
    assert loss.urgent == encode_delete([table.hops[0]])
    assert table.groups[both].members == ((table.hops[1], 1),)
    assert table.groups[both].reduced
    assert table.dead == {alone: 2}
    table.count_routes(alone, -2)
    assert table.dead == {}


def test_of_equal_groups_the_one_with_routes_is_given_and_the_other_goes() -> None:
    """A group that has lost a member may equal another one, and the self-check asks for these members every round."""
    table = Table()
    older, newer = table.group(0, 1), table.group(0, routes=1)
    table.acknowledge()
    table.lose([table.hops[1]], lambda _group: None)
    for now in (100.0, 100.0 + GRACE_S / 2):
        assert table.group(0) == newer
        table.collected(now)
    assert table.group(0) == newer
    assert table.collected(100.0 + GRACE_S) == (encode_delete([older]), False)


def test_an_object_whose_answer_was_lost_is_deleted_later() -> None:
    """The kernel may have made it, and nobody would know of it."""
    table = Table()
    used = table.group(0, routes=1)
    table.acknowledge()
    lost = table.group(0, 1)
    table.take_created()
    table.refused(lost, "No buffer space available", may_be_there=True)
    assert set(table.groups) == {used}
    assert encode_delete([lost]) not in table.collected(100.0)[0]
    assert table.collected(100.0 + GRACE_S) == (encode_delete([lost]), False)
    assert table.collected(100.0 + 3 * GRACE_S) == (b"", False)
    assert set(table.groups) == {used}


def test_group_is_moved_ahead_of_the_deletion_though_another_one_is_not_there_yet() -> None:
    table = Table()
    there = table.group(0, routes=1)
    table.acknowledge()
    coming = table.group_of(((table.hops[0], 1),), source=b"\x0a\0\0\x01")
    assert coming is not None
    table.take_created()
    instead = ((table.hops[1], 1),)
    loss = table.lose([table.hops[0]], lambda _group: instead)
    move = encode_group(there, 197, instead, replace=True)
    assert loss.urgent == move + encode_delete([table.hops[0]])
    assert loss.ordered == encode_group(coming, 197, instead, replace=True)
    assert (loss.changed, loss.died, loss.messages) == ([there, coming], [], 3)


def test_group_that_is_there_and_moves_to_a_gateway_that_is_not_yet_dies_with_its_own() -> None:
    table = Table()
    group = table.group(0, routes=1)
    table.acknowledge()
    late = table.nexthop_of(NextHop(parse_address("10.0.9.2"), "eth9"), 9)
    assert late is not None
    table.take_created()
    loss = table.lose([table.hops[0]], lambda _group: ((late, 1),))
    assert (loss.urgent, loss.ordered) == (encode_delete([table.hops[0]]), b"")
    assert (loss.died, table.dead) == ([group], {group: 1})


def test_group_moves_to_a_gateway_that_is_made_along_with_it() -> None:
    table = Table()
    group = table.group(0, routes=1)
    table.acknowledge()

    def instead(_group: int) -> tuple[tuple[int, int], ...]:
        made = table.nexthop_of(NextHop(parse_address("10.0.9.2"), "eth9"), 9)
        assert made is not None
        return ((made, 1),)

    loss = table.lose([table.hops[0]], instead)
    assert (loss.changed, loss.ordered) == ([group], b"")
    assert table.take_created()[1] == [next(member for member, _ in table.groups[group].members)]


def test_groups_follow_a_gateway_that_is_being_made_ahead_on_its_way() -> None:
    table = Table()
    first, second = table.group(0, routes=1), table.group(1, routes=1)
    table.acknowledge()
    late = table.nexthop_of(NextHop(parse_address("10.0.9.2"), "eth9"), 9)
    assert late is not None
    assert table.replace_members(first, ((late, 1),)).urgent
    table.sent_ahead(table.take_created()[1])
    loss = table.replace_members(second, ((late, 1),))
    assert (loss.urgent, loss.ordered) == (encode_group(second, 197, ((late, 1),), replace=True), b"")
    assert table.lose([late], lambda _group: None).urgent == encode_delete([late]), "and is deleted behind it"
    table.refused(late, "no such device")
    again = table.nexthop_of(NextHop(parse_address("10.0.9.2"), "eth9"), 9)
    assert again is not None
    table.take_created()
    assert table.replace_members(table.group(2), ((again, 1),)).ordered, "what is queued is waited for"


def test_group_that_the_kernel_would_not_change_is_deleted_later() -> None:
    table = Table()
    group = table.group(0)
    table.acknowledge()
    table.replace_members(group, ((table.hops[1], 1),))
    table.refused(group, "invalid argument")
    assert group not in table.groups
    table.collected(100.0)
    assert encode_delete([group]) in table.collected(100.0 + GRACE_S)[0]


def test_gateway_that_an_earlier_run_has_made_twice_is_used_once_and_the_other_goes() -> None:
    table = NexthopObjects(197)
    place = {"protocol": 197, "gateway": HOPS[0].address, "ifindex": 2}
    first, second = (NexthopObject(id=number, **place) for number in (197_000_001, 197_000_002))
    group = NexthopObject(id=197_500_001, protocol=197, members=((second.id, 1),))
    table.adopt([first, second, group], lambda _index: "eth0")
    assert set(table.nexthops) == {first.id}
    assert table.leftovers == [second.id, group.id]
