"""What a change of the RIB would do: the fate of each route, and what neighbors would be sent, by their roles too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bgpd.model.iana import Role
from bgpd.model.next_hop import NextHops
from bgpd.model.source import Source
from bgpd.rib.rib import Rib
from bgpd.rib.what_if import MOST_EXAMPLES, Fate, fate_between
from bgpd.rib.what_if_changed import Outcome, outcome_of
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, hop, key, leaf, session

FIRST, SECOND = hop("10.0.1.2"), hop("10.0.2.2")
BOTH, ONLY_1, ONLY_2, DEFAULT, OWN = "10.9.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0", "10.64.1.5/32"
ON = hop("10.0.3.2", "eth3")


@pytest.mark.parametrize(
    ("before", "after", "fate"),
    [
        (None, None, Fate.UNUSED),
        (None, (FIRST,), Fate.NEW),
        ((FIRST,), None, Fate.LOST),
        ((FIRST, SECOND), (FIRST, SECOND), Fate.UNCHANGED),
        ((FIRST, SECOND), (SECOND,), Fate.FEWER),
        ((FIRST,), (SECOND,), Fate.MOVED),
        ((FIRST,), (FIRST, SECOND), Fate.MOVED),
        ((FIRST, ON), (SECOND,), Fate.MOVED),
    ],
)
def test_fate_between_what_forwarded_and_what_will(before: NextHops | None, after: NextHops | None, fate: Fate) -> None:
    assert fate_between(before, after) is fate


def without(source: Source) -> Callable[[Rib], Iterator[None]]:
    """The neighbor's session has ended, and nothing is kept of it."""

    def change(rib: Rib) -> Iterator[None]:
        return rib.received.remove(rib.received.session_lost(source, is_graceful=False, now=0.0))

    return change


def between(**roles: Role | None) -> tuple[Recorder, list[Source]]:
    """A host with three neighbors, of which all are sent all; these are its roles."""
    configs = [session(f"leaf{number}", export="all") for number in (1, 2, 3)]
    recorder = Recorder(configuration(*configs))
    speaking = [leaf(number, asn=65300 + number) for number in (1, 2, 3)]
    for source, config in zip(speaking, configs):
        recorder.up(source, config, role=roles.get(source.name))
    return recorder, speaking


def sent(recorder: Recorder) -> None:
    """The kernel has all of it, and neighbors were sent it."""
    recorder.acknowledge(*recorder.rib.table("", V4).routes)
    recorder.turn()
    recorder.told.clear()


def fates(outcome: Outcome) -> dict[bytes, Fate]:
    found = outcome.tables["", V4].fates
    assert found is not None
    assert sum(outcome.tables["", V4].counts.values()) == len(found)
    return found


def said(outcome: Outcome) -> dict[str, dict[bytes, bool]]:
    return {name: {place[1]: is_new for place, is_new in told.said.items()} for name, told in outcome.told.items()}


def test_a_neighbor_that_is_lost() -> None:
    recorder, (first, second, _) = between()
    recorder.announce(first, attributes(65301), FIRST, BOTH, ONLY_1, DEFAULT)
    recorder.announce(second, attributes(65302), SECOND, BOTH, ONLY_2)
    recorder.announce(second, attributes(65302, 65299), SECOND, DEFAULT)
    recorder.rib.announce_local(LOCAL, V4, [key(OWN)], attributes())
    sent(recorder)
    outcome = outcome_of(without(first), recorder.rib, with_fates=True)
    assert fates(outcome) == {
        key(BOTH): Fate.FEWER,
        key(ONLY_1): Fate.LOST,
        key(ONLY_2): Fate.UNCHANGED,
        key(DEFAULT): Fate.MOVED,
        key(OWN): Fate.UNCHANGED,
    }
    assert outcome.tables["", V4].default is Fate.MOVED
    assert outcome.tables["", V4].examples[Fate.LOST] == [key(ONLY_1)]
    told = said(outcome)
    assert told["leaf3"] == {key(BOTH): True, key(ONLY_1): False, key(DEFAULT): True}
    assert told["leaf2"] == {key(BOTH): False, key(ONLY_1): False, key(DEFAULT): False}, "its own are no news for it"
    assert (outcome.told["leaf3"].count(True), outcome.told["leaf3"].count(False)) == (2, 1)
    assert recorder.told == {}, "nobody is sent anything"


def test_roles_hold_as_they_do_otherwise() -> None:
    """leaf1 and leaf2 are providers, leaf3 is a customer: what it announces may go up, what leaf1 announces may not."""
    recorder, (first, _, third) = between(leaf1=Role.CUSTOMER, leaf2=Role.CUSTOMER, leaf3=Role.PROVIDER)
    recorder.announce(first, attributes(65301), FIRST, BOTH, ONLY_1)
    recorder.announce(third, attributes(65303, 65299), ON, BOTH)
    sent(recorder)
    outcome = outcome_of(without(first), recorder.rib, with_fates=True)
    assert fates(outcome) == {key(BOTH): Fate.MOVED, key(ONLY_1): Fate.LOST}
    assert said(outcome) == {"leaf2": {key(BOTH): True}, "leaf3": {key(BOTH): False, key(ONLY_1): False}}


def test_a_route_of_this_host_takes_the_place_of_a_learned_one_and_gives_it_back() -> None:
    recorder, (first, _, _) = between()
    recorder.announce(first, attributes(65301), FIRST, OWN)

    def announce(rib: Rib) -> Iterator[None]:
        rib.announce_local(LOCAL, V4, [key(OWN)], attributes())
        return iter(())

    assert fates(outcome_of(announce, recorder.rib, with_fates=True)) == {key(OWN): Fate.MOVED}
    recorder, (first, _, _) = between()
    recorder.announce(first, attributes(65301), FIRST, OWN)
    recorder.rib.announce_local(LOCAL, V4, [key(OWN)], attributes())

    def withdraw(rib: Rib) -> Iterator[None]:
        rib.withdraw_local(LOCAL, V4, [key(OWN)])
        return iter(())

    assert fates(outcome_of(withdraw, recorder.rib, with_fates=True)) == {key(OWN): Fate.MOVED}


def test_next_hop_that_is_lost_and_routes_that_were_not_used() -> None:
    recorder, (first, _, _) = between()
    recorder.announce(first, attributes(65301), FIRST, ONLY_1)
    recorder.announce(first, attributes(65301), SECOND, ONLY_2)

    def lost(rib: Rib) -> Iterator[None]:
        return rib.next_hop_changed(FIRST, "link down")

    outcome = outcome_of(lost, recorder.rib, with_fates=True)
    assert fates(outcome) == {key(ONLY_1): Fate.LOST, key(ONLY_2): Fate.UNCHANGED}
    assert fates(outcome_of(lost, recorder.rib, with_fates=True))[key(ONLY_1)] is Fate.UNUSED


def test_no_more_examples_are_kept_than_are_shown() -> None:
    recorder, (first, _, _) = between()
    recorder.announce(first, attributes(65301), FIRST, *(f"10.1.{number}.0/24" for number in range(MOST_EXAMPLES + 5)))
    outcome = outcome_of(without(first), recorder.rib)
    found = outcome.tables["", V4]
    assert (found.counts[Fate.LOST], len(found.examples[Fate.LOST])) == (MOST_EXAMPLES + 5, MOST_EXAMPLES)
    assert (found.fates, found.default) == (None, None)
