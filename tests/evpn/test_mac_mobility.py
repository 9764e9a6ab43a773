"""MAC mobility of this host's own endpoints (RFC 7432 sections 7.7 and 15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.evpn.mac_mobility import (
    MOVES_LIMIT,
    MOVES_PERIOD_S,
    RECOVERY_S,
    Endpoint,
    EndpointState,
    MacMobility,
    Mobility,
    Remote,
    decode_mobility,
    encode_mobility,
)
from bgpd.model.workload import Presence

VM = Endpoint("blue", b"\x02\0\0\0\0\1", b"\x0a\0\0\1")
HERE, LOWER, HIGHER = b"\x0a\0\0\x05", b"\x0a\0\0\x04", b"\x0a\0\0\x06"


def remote(sequence: int, *, sticky: bool = False, origin: bytes = HIGHER) -> Remote:
    return Remote(Mobility(sequence, sticky), origin)


def held(*, sticky: bool = False, behind: Remote | None = None) -> MacMobility:
    made = MacMobility(origin=lambda _vrf: HERE)
    made.appeared(VM, sticky=sticky, remote=behind, now=0.0)
    return made


@given(st.integers(min_value=0, max_value=2**32 - 1), st.booleans())
def test_mobility_community_round_trips(sequence: int, sticky: bool) -> None:
    mobility = Mobility(sequence, sticky)
    assert decode_mobility((b"\x00\x02\0\0\0\0\0\1", *encode_mobility(mobility))) == mobility


def test_golden_bytes_of_the_mobility_community() -> None:
    assert encode_mobility(Mobility(7, True)) == (bytes.fromhex("0600010000000007"),)
    assert encode_mobility(Mobility()) == ()


def test_a_first_appearance_is_announced_without_a_sequence() -> None:
    assert held().verdict(VM).mobility == Mobility()


def test_an_appearance_over_a_remote_route_takes_sequence_plus_one() -> None:
    assert held(behind=remote(0)).verdict(VM).mobility == Mobility(1)
    assert held(behind=remote(41)).verdict(VM).mobility == Mobility(42)


def test_a_higher_sequence_elsewhere_makes_ours_moved_and_its_end_takes_it_back() -> None:
    made = held()
    verdict = made.remote_changed(VM, remote(1), now=1.0)
    assert verdict.state is EndpointState.MOVED
    assert "sequence 1" in verdict.why
    assert made.remote_changed(VM, remote(2), now=2.0) is None
    assert made.remote_changed(VM, None, now=3.0).state is EndpointState.LOCAL


def test_what_is_taken_back_after_the_other_host_fell_silent_is_above_all_that_was_heard() -> None:
    made = held()
    made.remote_changed(VM, remote(5), now=1.0)
    verdict = made.remote_changed(VM, None, now=2.0)
    assert (verdict.state, verdict.mobility) == (EndpointState.LOCAL, Mobility(6))
    assert made.remote_changed(VM, None, now=3.0) is None


def test_a_lower_sequence_elsewhere_changes_nothing() -> None:
    assert held(behind=remote(4)).remote_changed(VM, remote(4), now=1.0) is None


def test_equal_sequences_are_won_by_the_lower_address() -> None:
    assert held().remote_changed(VM, remote(0, origin=LOWER), now=1.0).state is EndpointState.MOVED
    kept = held().remote_changed(VM, remote(0, origin=HIGHER), now=1.0)
    assert kept.state is EndpointState.LOCAL
    assert "lower address wins" in kept.why


@pytest.mark.parametrize("behind", [None, remote(4)])
def test_what_becomes_sticky_while_it_is_here_is_announced_so_and_no_longer_when_that_ends(
    behind: Remote | None,
) -> None:
    made = held(behind=behind)
    sequence = made.verdict(VM).mobility.sequence
    for sticky in (True, False):
        verdict = made.appeared(VM, sticky=sticky, remote=behind, now=1.0)
        assert (verdict.state, verdict.mobility) == (EndpointState.LOCAL, Mobility(sequence, sticky))


def test_a_sticky_endpoint_never_leaves_and_says_that_it_was_challenged() -> None:
    verdict = held(sticky=True).remote_changed(VM, remote(9), now=1.0)
    assert verdict.announced
    assert verdict.mobility.sticky
    assert "sticky here" in verdict.why


def test_what_is_sticky_elsewhere_is_not_taken() -> None:
    made = held(behind=remote(0, sticky=True))
    assert made.verdict(VM).state is EndpointState.CONFLICT
    assert made.remote_changed(VM, None, now=1.0).state is EndpointState.LOCAL


def test_five_moves_within_the_period_freeze_and_the_recovery_time_thaws() -> None:
    made, sequence = held(), 0
    for move in range(MOVES_LIMIT):
        now = float(move)
        if move % 2 == 0:
            sequence += 1
            made.remote_changed(VM, remote(sequence), now=now)
        else:
            sequence = made.appeared(VM, sticky=False, remote=remote(sequence), now=now).mobility.sequence
    frozen = made.verdict(VM)
    assert frozen.state is EndpointState.FROZEN
    assert "duplicate" in frozen.why
    assert made.appeared(VM, sticky=False, remote=remote(99), now=10.0).state is EndpointState.FROZEN
    deadline = made.next_deadline()
    assert deadline == MOVES_LIMIT - 1 + RECOVERY_S
    assert list(made.expired(deadline - 1)) == []
    ((_, thawed),) = made.expired(deadline)
    assert thawed.state is EndpointState.LOCAL
    assert made.next_deadline() is None


def test_slow_moves_are_no_duplicate() -> None:
    made, sequence = held(), 0
    for move in range(20):
        now = move * (MOVES_PERIOD_S / (MOVES_LIMIT - 2))
        if move % 2 == 0:
            sequence += 1
            made.remote_changed(VM, remote(sequence), now=now)
        else:
            sequence = made.appeared(VM, sticky=False, remote=remote(sequence), now=now).mobility.sequence
    assert made.verdict(VM).state is not EndpointState.FROZEN


def test_what_left_is_forgotten() -> None:
    made = held()
    made.gone(VM)
    assert made.verdict(VM) is None
    assert made.remote_changed(VM, remote(1), now=1.0) is None
    assert list(made.endpoints()) == []


def frozen() -> MacMobility:
    """An endpoint that moved to and fro until it was frozen, while another host has it."""
    made = held()
    for number in range(1, MOVES_LIMIT + 1):
        made.remote_changed(VM, remote(2 * number), now=float(number))
        made.appeared(VM, sticky=False, remote=remote(2 * number), now=float(number))
    verdict = made.verdict(VM)
    assert verdict is not None
    assert verdict.state is EndpointState.FROZEN
    return made


def test_frozen_endpoint_that_nobody_else_has_is_announced_again() -> None:
    made = frozen()
    verdict = made.remote_changed(VM, None, now=20.0)
    assert verdict is not None
    assert verdict.announced
    assert made.next_deadline() is None
    made = frozen()
    assert made.appeared(VM, sticky=False, remote=None, now=20.0).announced


def test_frozen_endpoint_that_is_fought_for_again_is_frozen_again_at_once() -> None:
    made = frozen()
    made.remote_changed(VM, None, now=20.0)
    verdict = made.remote_changed(VM, remote(99), now=21.0)
    assert verdict is not None
    assert verdict.state is EndpointState.FROZEN


def test_freeze_is_ended_for_one_mac_and_moves_count_anew() -> None:
    made = frozen()
    assert list(made.thaw(b"\x02\0\0\0\0\2", 20.0)) == []
    ((endpoint, verdict),) = made.thaw(VM.mac, 20.0)
    assert (endpoint, verdict.announced) == (VM, True)
    moved = made.remote_changed(VM, remote(99), now=21.0)
    assert moved is not None
    assert moved.state is EndpointState.MOVED


def test_what_another_host_announces_as_sticky_is_given_up_whatever_the_sequences() -> None:
    made = held(behind=remote(7))
    verdict = made.remote_changed(VM, remote(0, sticky=True), now=1.0)
    assert verdict is not None
    assert verdict.state is EndpointState.CONFLICT
    assert "sticky by another host" in verdict.why
    back = made.remote_changed(VM, remote(0), now=2.0)
    assert back is not None
    assert back.announced, "it is not sticky any more"


@pytest.mark.parametrize(("origin", "wins"), [(LOWER, False), (HIGHER, True)])
@pytest.mark.parametrize("first", ["here", "elsewhere"])
def test_of_two_sticky_ones_the_lower_address_has_it(origin: bytes, wins: bool, first: str) -> None:
    other = remote(9, sticky=True, origin=origin)
    made = held(sticky=True, behind=other if first == "elsewhere" else None)
    if first == "here":
        made.remote_changed(VM, other, now=1.0)
    verdict = made.verdict(VM)
    assert verdict is not None
    assert verdict.state is (EndpointState.LOCAL if wins else EndpointState.CONFLICT)
    assert verdict.why == "sticky here and on another host; the lower address wins"


def test_alert_of_a_sticky_endpoint_ends_with_the_other_host() -> None:
    made = held(sticky=True)
    made.remote_changed(VM, remote(9), now=1.0)
    verdict = made.remote_changed(VM, None, now=2.0)
    assert verdict is not None
    assert (verdict.announced, verdict.why) == (True, "")


sides = st.tuples(st.booleans(), st.integers(min_value=0, max_value=3))


@given(sides, sides)
def test_two_hosts_never_both_keep_nor_both_give_up_what_both_announce(
    here: tuple[bool, int], there: tuple[bool, int]
) -> None:
    """Each hears of the other after it has announced, as in a race."""
    states = []
    for own, other, origin, other_origin in ((here, there, LOWER, HIGHER), (there, here, HIGHER, LOWER)):
        made = MacMobility(origin=lambda _vrf, origin=origin: origin)
        made.appeared(VM, sticky=own[0], remote=None, now=0.0, former=own[1])
        heard = Remote(Mobility(other[1], other[0]), other_origin)
        verdict = made.remote_changed(VM, heard, now=1.0)
        states.append(EndpointState.LOCAL if verdict is None else verdict.state)
    assert states.count(EndpointState.LOCAL) == 1


def test_a_stale_reason_goes_with_what_it_was_about() -> None:
    made = held()
    assert made.remote_changed(VM, remote(0), now=1.0).why
    assert made.remote_changed(VM, None, now=2.0).why == ""


def moved(times: int, *, at: float = 0.0) -> tuple[MacMobility, int]:
    """It came and went so often, a second apart; and its last sequence."""
    made, sequence = held(), 0
    for move in range(times):
        now = at + move
        if move % 2 == 0:
            sequence += 1
            made.remote_changed(VM, remote(sequence), now=now)
        else:
            sequence = made.appeared(VM, sticky=False, remote=remote(sequence), now=now).mobility.sequence
    return made, sequence


def successor(made: MacMobility, now: float) -> MacMobility:
    after = MacMobility(origin=lambda _vrf: HERE)
    after.left(made.saved(now))
    return after


def test_a_freeze_goes_on_in_the_next_process_until_its_time_is_over() -> None:
    made, sequence = moved(MOVES_LIMIT)
    after = successor(made, 20.0)
    verdict = after.appeared(VM, sticky=False, remote=None, now=21.0, former=sequence)
    assert (verdict.state, verdict.why) == (EndpointState.FROZEN, made.verdict(VM).why)
    assert after.next_deadline() == made.next_deadline() == MOVES_LIMIT - 1 + RECOVERY_S
    assert after.remote_changed(VM, remote(sequence + 9), now=22.0) is None
    assert list(after.all_heard(23.0)) == []
    ((_, thawed),) = after.expired(MOVES_LIMIT - 1 + RECOVERY_S)
    assert thawed.state is EndpointState.LOCAL
    assert after.saved(24.0 + RECOVERY_S + MOVES_PERIOD_S) == []


def test_a_second_hand_over_carries_what_has_not_appeared_between_the_two() -> None:
    made, sequence = moved(MOVES_LIMIT)
    after = successor(successor(made, 20.0), 30.0)
    verdict = after.appeared(VM, sticky=False, remote=None, now=31.0, former=sequence)
    assert verdict.state is EndpointState.FROZEN
    assert successor(made, 20.0).saved(MOVES_LIMIT + RECOVERY_S) == []


def test_a_freeze_ends_in_the_next_process_once_it_knows_that_no_other_host_has_it() -> None:
    made, sequence = moved(MOVES_LIMIT)
    for begin in ("appeared", "resumed"):
        after = successor(made, 20.0)
        if begin == "appeared":
            after.appeared(VM, sticky=False, remote=None, now=21.0, former=sequence)
        else:
            after.resumed(VM, sticky=False, known=Presence(sequence=sequence, moved="x"), remote=None, now=21.0)
        assert after.verdict(VM).state is EndpointState.FROZEN
        ((_, verdict),) = after.all_heard(22.0)
        assert verdict.state is EndpointState.LOCAL
        assert after.next_deadline() is None


def test_a_freeze_whose_time_is_over_is_not_taken_up() -> None:
    made, sequence = moved(MOVES_LIMIT)
    after = successor(made, 20.0)
    late = MOVES_LIMIT + RECOVERY_S
    verdict = after.appeared(VM, sticky=False, remote=remote(sequence + 1), now=late, former=sequence)
    assert verdict.state is EndpointState.MOVED
    assert len(after.saved(late)[0].moves) == 1


def test_moves_before_and_after_a_hand_over_make_a_duplicate_together() -> None:
    made, sequence = moved(MOVES_LIMIT - 1)
    after = successor(made, 10.0)
    assert after.appeared(VM, sticky=False, remote=None, now=11.0, former=sequence).state is EndpointState.LOCAL
    verdict = after.remote_changed(VM, remote(sequence + 1), now=12.0)
    assert verdict.state is EndpointState.FROZEN
    assert made.saved(10.0 + 2 * MOVES_PERIOD_S) == []
