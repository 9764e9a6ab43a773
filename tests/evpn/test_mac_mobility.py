"""MAC mobility of this host's own endpoints (RFC 7432 sections 7.7 and 15)."""

from __future__ import annotations

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
    assert made.appeared(VM, sticky=False, remote=None, now=10.0).state is EndpointState.FROZEN
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
