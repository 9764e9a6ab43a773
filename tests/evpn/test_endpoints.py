"""Addresses that move between hosts: sequence numbers, giving up, sticky MACs, duplicates."""

from __future__ import annotations

from bgpd.evpn.mac_mobility import MOVES_LIMIT, RECOVERY_S, decode_mobility
from bgpd.model.evpn import mac_ip_key
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.source import Source
from bgpd.model.workload import ClaimInfo, Presence
from tests.evpn.build import V4, VIA1, Host, host_route, mobility, rd

MAC = "02:00:00:00:00:aa"
OWN_KEY = mac_ip_key(rd("10.255.1.1:1001"), mac=bytes.fromhex("0200000000aa"), ip=parse_address("10.64.0.7"))
KEY = parse_prefix("10.64.0.7/32")[1]


def sequence(host: Host) -> int | None:
    """The sequence that the workload's type 2 route is told with; None if it is not told."""
    batch = host.announced_to("leaf1").get(OWN_KEY)
    if batch is None or batch.attributes is None:
        return None
    return decode_mobility(batch.attributes.extended_communities).sequence


def elsewhere(host: Host, source: Source, number: int, *, rd: str = "10.255.9.9:1001", sticky: bool = False) -> None:
    communities = (mobility(number, sticky=sticky),) if number or sticky else ()
    host.hear(source, host_route("10.64.0.7", mac=MAC, host=rd), communities=communities)


def test_an_address_that_moves_here_takes_the_next_sequence() -> None:
    host = Host()
    elsewhere(host, host.up(1), 4)
    assert host.forwards("10.64.0.7/32") == (VIA1,)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 5
    assert host.given_up == []


def test_a_higher_sequence_elsewhere_gives_the_workload_up_and_forwards_there() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 0
    elsewhere(host, leaf1, 1)
    assert sequence(host) is None
    ((vrf, keys, why),) = host.given_up
    assert (vrf, keys) == ("blue", [KEY])
    assert "sequence 1" in why
    assert host.forwards("10.64.0.7/32") == (VIA1,)


def test_the_remote_route_is_a_candidate_before_the_own_is_given_up() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    seen: list[int] = []
    former = host.moved

    def moved(vrf: str, family: object, keys: list[bytes], why: str) -> None:
        decision = host.rib.decision("blue", V4, KEY)
        assert decision is not None
        seen.append(len(decision.candidates))
        former(vrf, V4, keys, why)

    host.moved = moved  # type: ignore[method-assign]
    elsewhere(host, leaf1, 1)
    assert seen == [2]


def test_equal_sequences_leave_the_address_with_the_lower_router_id() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    elsewhere(host, leaf1, 0, rd="10.255.9.9:1001")
    assert host.given_up == []
    elsewhere(host, leaf1, 0, rd="10.255.0.1:1001")
    assert len(host.given_up) == 1


def test_our_own_route_reflected_is_no_other_host() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    host.hear(leaf1, OWN_KEY, communities=(mobility(7),))
    assert host.given_up == []
    assert sequence(host) == 0


def test_an_address_that_another_host_loses_comes_back() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    elsewhere(host, leaf1, 1)
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up[-1] == ("blue", [KEY], "")
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) is not None


def test_a_claim_said_again_does_not_raise_the_sequence() -> None:
    host = Host()
    leaf1 = host.up(1)
    elsewhere(host, leaf1, 2)
    for _ in range(10):
        host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 3


def test_a_workload_that_was_never_away_comes_back_with_its_sequence() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.former[KEY] = 3
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 3
    elsewhere(host, leaf1, 2)
    assert sequence(host) == 3
    assert host.given_up == []


def test_a_workload_that_was_announced_before_is_given_up_for_a_higher_sequence_whichever_is_told_first() -> None:
    for is_heard_first in (True, False):
        host = Host()
        leaf1 = host.up(1)
        host.former[KEY] = 3
        if is_heard_first:
            elsewhere(host, leaf1, 4)
        host.workload("10.64.0.7/32", mac=MAC)
        if not is_heard_first:
            elsewhere(host, leaf1, 4)
        assert sequence(host) is None
        assert host.given_up[-1] == ("blue", [KEY], "announced elsewhere with sequence 4")


def resumed(*, seen: int = 1) -> Host:
    """A host whose earlier run had given the workload up."""
    host = Host()
    known = Presence(sequence=0, seen=seen, moved="announced elsewhere with sequence 1")
    host.evpn.workload_resumed("blue", V4, KEY, ClaimInfo(mac=bytes.fromhex(MAC.replace(":", ""))), known)
    return host


def test_what_an_earlier_run_gave_up_is_taken_back_once_all_was_heard_and_nobody_has_it() -> None:
    host = resumed()
    leaf1 = host.up(1)
    assert host.given_up == []
    elsewhere(host, leaf1, 1)
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up == [], "another leaf may have it"
    host.evpn.converged()
    assert host.given_up == [("blue", [KEY], "")]
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 0, "a host that had it last and is back with its sequence has it again"


def test_what_an_earlier_run_gave_up_stays_so_while_another_host_has_it() -> None:
    host = resumed()
    leaf1 = host.up(1)
    elsewhere(host, leaf1, 1)
    host.evpn.converged()
    assert host.given_up == []
    assert host.forwards("10.64.0.7/32") == (VIA1,)
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up == [("blue", [KEY], "")]


def test_what_an_earlier_run_gave_up_and_is_said_to_be_here_anew_is_above_the_other_host_heard_or_not() -> None:
    for is_heard_first in (True, False):
        host = resumed(seen=4)
        leaf1 = host.up(1)
        if is_heard_first:
            elsewhere(host, leaf1, 4)
        host.workload("10.64.0.7/32", mac=MAC)
        if not is_heard_first:
            elsewhere(host, leaf1, 4)
        host.evpn.converged()
        assert sequence(host) == 5
        assert host.given_up == []


def test_a_vrf_that_comes_back_after_convergence_takes_back_what_nobody_has() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.evpn.converged()
    elsewhere(host, leaf1, 1)
    known = Presence(seen=1, moved="announced elsewhere with sequence 1")
    info = ClaimInfo(mac=bytes.fromhex(MAC.replace(":", "")))
    host.evpn.workload_resumed("blue", V4, KEY, info, known)
    assert host.given_up == []
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up == [("blue", [KEY], "")]
    host.evpn.workload_resumed("blue", V4, KEY, info, known)
    assert host.given_up[1:] == [("blue", [KEY], "")]


def test_presence_tells_what_a_restart_needs_and_when_it_changed() -> None:
    host = Host()
    leaf1 = host.up(1)
    watch = host.evpn.endpoints
    assert watch.presence("blue", KEY) is None
    host.workload("10.64.0.7/32", mac=MAC)
    assert watch.presence("blue", KEY) == Presence()
    elsewhere(host, leaf1, 1)
    why = "announced elsewhere with sequence 1"
    assert watch.presence("blue", KEY) == Presence(seen=1, moved=why)
    assert host.presence_changes == []
    elsewhere(host, leaf1, 6)
    assert watch.presence("blue", KEY) == Presence(seen=6, moved=why)
    assert host.presence_changes == [KEY]
    host.workload("10.64.0.7/32", mac=MAC)
    assert watch.presence("blue", KEY) == Presence(sequence=7, seen=6)


def test_the_highest_sequence_is_not_passed() -> None:
    host = Host()
    elsewhere(host, host.up(1), 2**32 - 1)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 2**32 - 1


def test_a_sticky_mac_elsewhere_is_not_taken_over() -> None:
    host = Host()
    elsewhere(host, host.up(1), 0, sticky=True)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) is None
    assert "sticky" in host.given_up[-1][2]


def test_a_sticky_workload_stays_whatever_is_said_elsewhere() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC, sticky=True)
    elsewhere(host, leaf1, 9)
    assert host.given_up == []
    assert sequence(host) == 0


def test_a_duplicate_is_frozen_and_tried_again_later() -> None:
    host = Host()
    leaf1 = host.up(1)
    for number in range(MOVES_LIMIT):
        elsewhere(host, leaf1, 2 * number + 1)
        host.workload("10.64.0.7/32", mac=MAC)
        host.now += 1
    frozen = [verdict for _, verdict in host.evpn.endpoints.all()]
    assert [one.state.value for one in frozen] == ["frozen"]
    told = sequence(host)
    elsewhere(host, leaf1, 99)
    assert sequence(host) == told
    when, callback = host.timers[-1]
    assert when <= host.now + RECOVERY_S
    host.now = when
    callback()
    host.turn()
    assert [verdict.state.value for _, verdict in host.evpn.endpoints.all()] != ["frozen"]


def test_another_mac_of_the_workload_replaces_the_former() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    host.workload("10.64.0.7/32", mac="02:00:00:00:00:bb")
    assert sequence(host) is None
    other = mac_ip_key(rd("10.255.1.1:1001"), mac=bytes.fromhex("0200000000bb"), ip=parse_address("10.64.0.7"))
    assert other in host.announced_to("leaf1")


def frozen() -> tuple[Host, Source]:
    """A workload that may not be taken over any more: another host announces it."""
    host = Host()
    leaf1 = host.up(1)
    for number in (1, 3, 5):
        elsewhere(host, leaf1, number)
        host.now += 1
        host.workload("10.64.0.7/32", mac=MAC)
        host.now += 1
    assert [verdict.state.value for _, verdict in host.evpn.endpoints.all()] == ["frozen"]
    assert sequence(host) is None
    return host, leaf1


def test_a_frozen_workload_that_the_other_host_withdraws_comes_back() -> None:
    host, leaf1 = frozen()
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up[-1] == ("blue", [KEY], "")
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 0


def test_a_frozen_workload_whose_tap_flaps_is_announced_once_nobody_else_has_it() -> None:
    host, leaf1 = frozen()
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    host.workload("10.64.0.7/32", mac=MAC)
    for _ in range(3):
        host.workload_gone("10.64.0.7/32")
        assert sequence(host) is None
        host.workload("10.64.0.7/32", mac=MAC)
        assert sequence(host) is not None


def test_an_operator_ends_a_freeze_while_the_other_host_announces() -> None:
    host, _ = frozen()
    mac = bytes.fromhex("0200000000aa")
    assert host.evpn.endpoints.thaw(bytes(6)) == 0
    assert host.evpn.endpoints.thaw(mac) == 1
    assert host.given_up[-1] == ("blue", [KEY], "")
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 6


def test_what_another_host_announces_and_withdraws_in_one_turn_is_not_given_up() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    host.moved = lambda vrf, family, keys, reason: host.given_up.append((vrf, keys, reason))  # type: ignore[method-assign]
    elsewhere(host, leaf1, 1)
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.given_up[-1] == ("blue", [KEY], ""), "the workload table has not settled it yet"
    assert sequence(host) == 2


def test_a_freeze_that_was_handed_over_is_ended_before_its_workload_is_there_again() -> None:
    before, _ = frozen()
    mac = bytes.fromhex(MAC.replace(":", ""))
    after = Host()
    after.now = before.now + 1
    after.up(1)
    after.evpn.endpoints.moves_left(before.evpn.endpoints.saved_moves())
    assert after.evpn.endpoints.thaw(bytes(6)) == 0
    assert after.evpn.endpoints.thaw(mac) == 1
    assert after.evpn.endpoints.thaw(mac) == 0
    assert after.evpn.endpoints.saved_moves() == []
    after.workload("10.64.0.7/32", mac=MAC)
    assert [verdict.state.value for _, verdict in after.evpn.endpoints.all()] == ["held"]


def test_a_frozen_workload_stays_as_it_is_over_a_hand_over() -> None:
    """One that was advertised is, one that was not is not; both until the time is over."""
    is_here = Host()
    leaf1 = is_here.up(1)
    for number in (1, 3, 5):
        is_here.workload("10.64.0.7/32", mac=MAC)
        elsewhere(is_here, leaf1, number)
        is_here.now += 1
    assert sequence(is_here) == 4
    is_away, _ = frozen()
    for before in (is_here, is_away):
        told, known = sequence(before), before.evpn.presence("blue", V4, KEY)
        after = Host()
        after.now = before.now + 1
        leaf1 = after.up(1)
        after.evpn.endpoints.moves_left(before.evpn.endpoints.saved_moves())
        if told is None:
            info = ClaimInfo(mac=bytes.fromhex(MAC.replace(":", "")))
            after.evpn.workload_resumed("blue", V4, KEY, info, known)
        else:
            after.former[KEY] = told
            after.workload("10.64.0.7/32", mac=MAC)
        elsewhere(after, leaf1, 99)
        after.evpn.converged()
        assert sequence(after) == told
        assert [verdict.state.value for _, verdict in after.evpn.endpoints.all()] == ["frozen"]
        assert after.given_up == []
        assert [when for when, _ in after.timers] == [before.timers[-1][0]]
