"""Addresses that move between hosts: sequence numbers, giving up, sticky MACs, duplicates."""

from __future__ import annotations

from bgpd.evpn.mac_mobility import MOVES_LIMIT, RECOVERY_S, decode_mobility
from bgpd.model.evpn import mac_ip_key
from bgpd.model.path import Source
from bgpd.model.prefix import parse_address, parse_prefix
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
    assert host.moved == []


def test_a_higher_sequence_elsewhere_gives_the_workload_up_and_forwards_there() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 0
    elsewhere(host, leaf1, 1)
    assert sequence(host) is None
    ((vrf, keys, why),) = host.moved
    assert (vrf, keys) == ("blue", [KEY])
    assert "sequence 1" in why
    assert host.forwards("10.64.0.7/32") == (VIA1,)


def test_the_remote_route_is_a_candidate_before_the_own_is_given_up() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    seen: list[int] = []
    former = host._moved

    def moved(vrf: str, family: object, keys: list[bytes], why: str) -> None:
        decision = host.rib.decision("blue", V4, KEY)
        assert decision is not None
        seen.append(len(decision.candidates))
        former(vrf, V4, keys, why)

    host.evpn.mobility._given_up = moved
    elsewhere(host, leaf1, 1)
    assert seen == [2]


def test_equal_sequences_leave_the_address_with_the_lower_router_id() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    elsewhere(host, leaf1, 0, rd="10.255.9.9:1001")
    assert host.moved == []
    elsewhere(host, leaf1, 0, rd="10.255.0.1:1001")
    assert len(host.moved) == 1


def test_our_own_route_reflected_is_no_other_host() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    host.hear(leaf1, OWN_KEY, communities=(mobility(7),))
    assert host.moved == []
    assert sequence(host) == 0


def test_an_address_that_another_host_loses_comes_back() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    elsewhere(host, leaf1, 1)
    host.unhear(leaf1, host_route("10.64.0.7", mac=MAC))
    assert host.moved[-1] == ("blue", [KEY], "")
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) is not None


def test_a_claim_said_again_does_not_raise_the_sequence() -> None:
    host = Host()
    leaf1 = host.up(1)
    elsewhere(host, leaf1, 2)
    for _ in range(10):
        host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) == 3


def test_a_sticky_mac_elsewhere_is_not_taken_over() -> None:
    host = Host()
    elsewhere(host, host.up(1), 0, sticky=True)
    host.workload("10.64.0.7/32", mac=MAC)
    assert sequence(host) is None
    assert "sticky" in host.moved[-1][2]


def test_a_sticky_workload_stays_whatever_is_said_elsewhere() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=MAC, sticky=True)
    elsewhere(host, leaf1, 9)
    assert host.moved == []
    assert sequence(host) == 0


def test_a_duplicate_is_frozen_and_tried_again_later() -> None:
    host = Host()
    leaf1 = host.up(1)
    for number in range(MOVES_LIMIT):
        elsewhere(host, leaf1, 2 * number + 1)
        host.workload("10.64.0.7/32", mac=MAC)
        host.now += 1
    frozen = [verdict for _, verdict in host.evpn.mobility.endpoints()]
    assert [one.standing.value for one in frozen] == ["frozen"]
    told = sequence(host)
    elsewhere(host, leaf1, 99)
    assert sequence(host) == told
    when, callback = host.timers[-1]
    assert when <= host.now + RECOVERY_S
    host.now = when
    callback()
    host.turn()
    assert [verdict.standing.value for _, verdict in host.evpn.mobility.endpoints()] != ["frozen"]


def test_another_mac_of_the_workload_replaces_the_former() -> None:
    host = Host()
    host.up(1)
    host.workload("10.64.0.7/32", mac=MAC)
    host.workload("10.64.0.7/32", mac="02:00:00:00:00:bb")
    assert sequence(host) is None
    other = mac_ip_key(rd("10.255.1.1:1001"), mac=bytes.fromhex("0200000000bb"), ip=parse_address("10.64.0.7"))
    assert other in host.announced_to("leaf1")
