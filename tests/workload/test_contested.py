"""Addresses that several claim: against a plain reference under random histories, and case by case."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from bgpd.model.next_hop import NextHop
from bgpd.model.workload import PLAIN, Claim, ClaimInfo
from bgpd.workload.standing import Foreign
from tests.workload.fixtures import V4, Rig, claim, key, on

POD, OTHER = "10.64.1.5/32", "10.64.1.6/32"
PRECEDENCE = {"static": 0, "mqtt": 1, "api": 1, "kernel": 2}


def claimed(*claims: tuple[str, str], prefix: str = POD) -> Rig:
    """A rig past its start with pod1 to pod4 up, and an address claimed by (source, interface) one after the other."""
    rig = Rig()
    rig.claims.started()
    rig.claims.order_known()
    for interface in ("pod1", "pod2", "pod3", "pod4"):
        rig.link(interface)
    for source, interface in claims:
        put(rig, source, interface, prefix=prefix)
    return rig


def put(rig: Rig, source: str, interface: str, *, id: str = "a", prefix: str = POD) -> None:
    one = claim(prefix, interface, id=id, source=source, managed=source != "kernel")
    rig.claims.claim(source, id, (one,))
    rig.settle()


def drop(rig: Rig, source: str, id: str = "a") -> None:
    rig.claims.claim(source, id)
    rig.settle()


def order(rig: Rig, prefix: str = POD) -> list[str]:
    return [one.source for one in rig.claims.claims_at("", V4, key(prefix))]


def test_one_that_waits_and_goes_leaves_the_holder_alone() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"), ("static", "pod3"))
    rig.told.clear()
    drop(rig, "api")
    assert rig.told == []
    assert order(rig) == ["mqtt", "static"]
    assert rig.state("mqtt", "a") == (
        "conflict",
        f"{POD} is also claimed by static workload a on pod3; this claim came first and stays",
    )
    drop(rig, "static")
    assert rig.state("mqtt", "a") == ("announced", "")
    assert (rig.told, rig.claims.contested()) == ([], set())


def test_all_others_are_named_and_told_who_holds_it() -> None:
    rig = claimed(("api", "pod1"), ("mqtt", "pod2"), ("static", "pod3"))
    others = "mqtt workload a on pod2, static workload a on pod3"
    assert rig.state("api", "a") == ("conflict", f"{POD} is also claimed by {others}; this claim came first and stays")
    for source in ("mqtt", "static"):
        assert rig.state(source, "a") == ("conflict", f"{POD} is held by api workload a on pod1, which came first")
    assert [view.announced for view in rig.claims.views_of("", V4, key(POD))] == [True, False, False]


@pytest.mark.parametrize("source", ["static", "mqtt", "api", "kernel"])
def test_followers_of_one_precedence_follow_in_the_order_in_which_they_came(source: str) -> None:
    rig = claimed((source, "pod1"))
    put(rig, "mqtt", "pod2", id="b")
    put(rig, "api", "pod3", id="c")
    put(rig, "mqtt", "pod4", id="d")
    drop(rig, source)
    assert [one.id for one in rig.claims.claims_at("", V4, key(POD))] == ["b", "c", "d"]
    assert rig.kernel == {("", POD): on("pod2")}


def test_address_passes_on_in_one_step_without_a_withdrawal() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    rig.told.clear()
    drop(rig, "mqtt")
    assert rig.told == [("route", "", POD, on("pod2"))]
    assert rig.announced == {("", POD): PLAIN}


def test_holder_that_is_down_keeps_the_address_from_the_others() -> None:
    """Who came first is not decided anew by each flap: an address that moves to and fro is worse."""
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    rig.link("pod1", up=False)
    rig.settle()
    assert (rig.announced, rig.kernel) == ({}, {})
    assert rig.state("mqtt", "a") == ("pending", "interface pod1 is down")
    assert rig.state("api", "a") == ("conflict", f"{POD} is held by mqtt workload a on pod1, which came first")
    rig.link("pod1")
    rig.settle()
    assert rig.kernel == {("", POD): on("pod1")}
    assert rig.state("mqtt", "a")[0] == "conflict"


def test_link_of_one_that_waits_changes_nothing() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    rig.told.clear()
    for up in (False, True):
        rig.link("pod2", up=up)
        rig.settle()
    rig.link("pod2", index=99)
    rig.settle()
    rig.link("pod2", index=99, gone=True)
    rig.settle()
    assert rig.told == []
    rig.link("pod1", index=98)
    rig.settle()
    assert [told[0] for told in rig.told] == ["withdraw", "route", "announce"]


def test_claim_that_changes_keeps_its_place() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    put(rig, "mqtt", "pod3")
    assert order(rig) == ["mqtt", "api"]
    assert rig.kernel == {("", POD): on("pod3")}
    put(rig, "mqtt", "pod2")
    assert rig.state("mqtt", "a") == rig.state("api", "a") == ("announced", "")
    rig.link("pod3", gone=True)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}
    assert rig.claims.interfaces("") == {"pod2"}


def test_each_address_of_a_workload_is_contested_for_itself() -> None:
    rig = claimed(("mqtt", "pod1"))
    both = (claim(POD, "pod2", source="api"), claim(OTHER, "pod2", source="api"))
    rig.claims.claim("api", "a", both)
    rig.settle()
    assert [(str(held.state), held.announced) for held in rig.claims.statuses("api", "a")] == [
        ("conflict", False),
        ("announced", True),
    ]
    assert rig.claims.ranks("api", "a") == {POD: 3}
    assert rig.claims.ranks("mqtt", "a") == {POD: 0}
    rig.claims.claim("api", "a", both[1:])
    rig.settle()
    assert rig.state("mqtt", "a") == rig.state("api", "a") == ("announced", "")
    assert rig.claims.ranks("api", "a") == rig.claims.ranks("mqtt", "a") == {}
    assert rig.kernel == {("", POD): on("pod1"), ("", OTHER): on("pod2")}


def test_contested_names_whoever_shares_an_address_also_where_they_agree() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod1"))
    put(rig, "static", "pod3", id="alone", prefix=OTHER)
    assert rig.claims.contested() == {("mqtt", "a"), ("api", "a")}
    assert rig.claims.ranks("mqtt", "a") == {}
    put(rig, "kernel", "pod2")
    assert rig.claims.contested() == {("mqtt", "a"), ("api", "a"), ("kernel", "a")}
    assert rig.claims.ranks("api", "a") == {POD: 3}
    assert rig.state("api", "a")[0] == rig.state("mqtt", "a")[0] == "conflict"
    assert [view.announced for view in rig.claims.views_of("", V4, key(POD))] == [True, True, False]


def test_what_is_announced_is_what_the_holder_says() -> None:
    rig = claimed(("mqtt", "pod1"))
    exception = Claim(
        source="api", id="a", family=V4, key=key(POD), interface="pod1", manage_route=True, exception=True
    )
    rig.claims.claim("api", "a", (exception,))
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}
    rig.told.clear()
    drop(rig, "mqtt")
    assert rig.told == [("announce", "", [POD], ClaimInfo(exception=True))]
    assert rig.claims.interface_of("", V4, key(POD)) == "pod1"


def test_services_of_other_members_are_in_conflict_and_of_the_same_are_not() -> None:
    rig = claimed()
    members = (NextHop(address=b"\x0a\x40\x01\x05", interface="pod1", weight=3),)
    for id, chosen in (("s", members), ("t", members), ("u", (*members, NextHop(b"\x0a\x40\x01\x06", "pod2")))):
        one = Claim(source="service", id=id, family=V4, key=key(POD), manage_route=True, members=chosen)
        rig.claims.claim("service", id, (one,))
        rig.settle()
    assert [rig.state("service", id)[0] for id in "stu"] == ["conflict", "conflict", "conflict"]
    assert [view.announced for view in rig.claims.views_of("", V4, key(POD))] == [True, True, False]
    assert rig.kernel == {("", POD): members}


def test_another_program_s_route_to_one_that_waits_is_announced_for_it() -> None:
    """Packets reach a workload of this host either way; the conflict is shown on both."""
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("pod2", True))
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}
    assert rig.state("mqtt", "a")[0] == "conflict"
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("eth9", True))
    rig.settle()
    assert rig.announced == {}
    assert rig.state("mqtt", "a") == ("conflict", "another program's route of it leads to eth9")


def test_moved_holder_comes_back_with_whoever_claims_the_address_anew() -> None:
    rig = claimed(("mqtt", "pod1"))
    rig.table.moved("", V4, [key(POD)], "leaf1 announces it with a higher sequence number")
    rig.settle()
    assert rig.announced == {}
    put(rig, "api", "pod2")
    assert rig.announced == {("", POD): PLAIN}
    assert order(rig) == ["mqtt", "api"]


def test_refused_route_of_the_holder_is_no_reason_to_try_another() -> None:
    rig = claimed(("mqtt", "pod1"), ("api", "pod2"))
    rig.table.route_refused("", V4, [key(POD)], "")
    rig.settle()
    assert rig.state("mqtt", "a") == ("failed", "the kernel refused the route")
    assert rig.state("api", "a")[0] == "conflict"
    assert rig.announced == {}
    drop(rig, "mqtt")
    assert rig.state("api", "a") == ("announced", "")
    assert rig.kernel == {("", POD): on("pod2")}


def test_states_of_all_are_told_and_since_when_only_where_they_change() -> None:
    rig = claimed(("mqtt", "pod1"))
    rig.states.clear()
    rig.now = 2000.0
    put(rig, "api", "pod2")
    assert sorted((held.claim.source, str(held.state), held.since) for held in rig.states) == [
        ("api", "conflict", 2000.0),
        ("mqtt", "conflict", 2000.0),
    ]
    rig.states.clear()
    rig.now = 3000.0
    put(rig, "static", "pod3")
    assert {(held.claim.source, held.since) for held in rig.states} == {("mqtt", 2000.0), ("static", 3000.0)}
    rig.states.clear()
    drop(rig, "mqtt")
    gone = [held for held in rig.states if held.claim.source == "mqtt"]
    assert [held.announced for held in gone] == [False]


class One(NamedTuple):
    source: str
    id: str
    interface: str

    def agrees(self, other: One) -> bool:
        return self.interface == other.interface


class ContestedMachine(RuleBasedStateMachine):
    """The reference is a list of claims for each address, the holder first."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = claimed()
        self.up = {"pod1", "pod2", "pod3", "pod4"}
        self.claims: dict[str, list[One]] = {POD: [], OTHER: []}

    @rule(
        source=st.sampled_from(list(PRECEDENCE)),
        id=st.sampled_from("ab"),
        wanted=st.dictionaries(st.sampled_from((POD, OTHER)), st.sampled_from(("pod1", "pod2", "pod3"))),
    )
    def say(self, source: str, id: str, wanted: dict[str, str]) -> None:
        made = [claim(p, i, id=id, source=source, managed=source != "kernel") for p, i in wanted.items()]
        self.rig.claims.claim(source, id, made)
        for prefix, claims in self.claims.items():
            self._enter(claims, source, id, wanted.get(prefix, ""))

    def _enter(self, claims: list[One], source: str, id: str, interface: str) -> None:
        at = next((i for i, one in enumerate(claims) if (one.source, one.id) == (source, id)), None)
        new = One(source, id, interface)
        if not interface:
            if at is not None:
                del claims[at]
                if at == 0:
                    claims.sort(key=lambda one: PRECEDENCE[one.source])
        elif at is not None:
            claims[at] = new
        elif claims and claims[0].source == "kernel" != source and claims[0].agrees(new):
            claims.insert(0, new)
        else:
            claims.append(new)

    @rule(name=st.sampled_from(("pod1", "pod2", "pod3")), up=st.booleans())
    def link(self, name: str, up: bool) -> None:
        self.rig.link(name, up=up)
        (self.up.add if up else self.up.discard)(name)

    @rule()
    def settle(self) -> None:
        rig = self.rig
        rig.settle()
        for prefix, claims in self.claims.items():
            views = rig.claims.views_of("", V4, key(prefix))
            assert [(view.source, view.id, view.interface) for view in views] == claims
            assert [(view.state, view.announced) for view in views] == self._expected(claims)
            holder = claims[0] if claims and claims[0].interface in self.up else None
            assert (("", prefix) in rig.announced) is (holder is not None)
            managed = holder is not None and holder.source != "kernel"
            assert rig.kernel.get(("", prefix)) == (on(holder.interface) if holder and managed else None)
            assert rig.claims.interface_of("", V4, key(prefix)) == (holder.interface if holder else "")
            self._check_ranks(prefix, claims)
        assert sorted(rig.table.keys(("", V4))) == sorted(key(prefix) for prefix, some in self.claims.items() if some)
        shared = {(one.source, one.id) for some in self.claims.values() if len(some) > 1 for one in some}
        assert rig.claims.contested() == shared
        assert rig.claims.state_counts() == Counter((view.source, view.state) for view in rig.claims.views())
        assert rig.claims.interfaces("") == {one.interface for some in self.claims.values() for one in some}
        assert rig.table.settled
        assert not rig.table.is_marked

    def _expected(self, claims: list[One]) -> list[tuple[str, bool]]:
        """State of each claim, and whether it is announced."""
        if not claims:
            return []
        up = claims[0].interface in self.up
        disputed = any(not claims[0].agrees(one) for one in claims)
        first = ("conflict" if disputed else "announced", True) if up else ("pending", False)
        return [first if claims[0].agrees(one) else ("conflict", False) for one in claims]

    def _check_ranks(self, prefix: str, claims: list[One]) -> None:
        """What is saved orders the claims as they stand, and only where they disagree."""
        disputed = any(not claims[0].agrees(one) for one in claims)
        ranks = [self.rig.claims.ranks(one.source, one.id).get(prefix) for one in claims]
        if disputed:
            assert ranks[0] == 0
            assert ranks == sorted(ranks)  # type: ignore[type-var]
            assert len(set(ranks)) == len(ranks)
        else:
            assert ranks == [None] * len(claims)

    def teardown(self) -> None:
        self.settle()


class TestContestedAgainstReference(ContestedMachine.TestCase):
    settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
