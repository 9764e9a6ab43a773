"""Weights of multipath sets by link bandwidth: when they count, and which numbers they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.attributes import Attributes
from bgpd.model.path import NextHop
from bgpd.model.policy_syntax import parse_extended_community
from bgpd.rib.next_hops import LARGEST, ratio
from tests.rib.build import Recorder, attributes, configuration, hop, key, leaf, session

PREFIX = "10.1.0.0/24"


def with_bandwidth(*rates: float, asn: int = 65201) -> Attributes:
    communities = tuple(parse_extended_community(f"bandwidth:{asn}:{rate:.0f}") for rate in rates)
    return attributes(asn, extended_communities=communities)


def forwarded(*given_: Attributes, hops: tuple[str, ...] = ("10.0.0.1", "10.0.0.2", "10.0.0.3")) -> dict[str, int]:
    """Next hops of a prefix that as many leaves announce with these attributes, and their weights."""
    configs = [session(f"leaf{number}") for number in range(1, len(given_) + 1)]
    recorder = Recorder(configuration(*configs))
    for number, (one, config) in enumerate(zip(given_, configs)):
        recorder.announce(recorder.up(leaf(number + 1), config), one, hop(hops[number]), PREFIX)
    return {str(NextHop(one.address)): one.weight for one in recorder.fib[key(PREFIX)]}


def test_paths_that_all_carry_it_are_weighted_in_its_ratio() -> None:
    assert forwarded(with_bandwidth(5e9), with_bandwidth(1.25e10)) == {"10.0.0.1": 2, "10.0.0.2": 5}


def test_one_path_without_it_makes_all_equal() -> None:
    assert forwarded(with_bandwidth(5e9), with_bandwidth(1e9), attributes(65201)) == {
        "10.0.0.1": 1,
        "10.0.0.2": 1,
        "10.0.0.3": 1,
    }


def test_a_path_that_loses_does_not_count() -> None:
    longer = attributes(65201, 65209)
    assert forwarded(with_bandwidth(3e9), with_bandwidth(1e9), longer) == {"10.0.0.1": 3, "10.0.0.2": 1}


def test_a_single_path_has_no_weight() -> None:
    assert forwarded(with_bandwidth(5e9)) == {"10.0.0.1": 1}


def test_two_paths_by_one_next_hop_count_once_with_the_higher() -> None:
    given_ = (with_bandwidth(1e9), with_bandwidth(4e9), with_bandwidth(2e9))
    assert forwarded(*given_, hops=("10.0.0.1", "10.0.0.1", "10.0.0.2")) == {"10.0.0.1": 2, "10.0.0.2": 1}


def test_another_bandwidth_is_another_set_and_the_same_again_is_the_same_object() -> None:
    configs = [session("leaf1"), session("leaf2")]
    recorder = Recorder(configuration(*configs))
    one, two = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(one, with_bandwidth(2e9), hop("10.0.0.1"), PREFIX)
    recorder.announce(two, with_bandwidth(1e9), hop("10.0.0.2"), PREFIX)
    first = recorder.fib[key(PREFIX)]
    recorder.announce(two, with_bandwidth(2e9), hop("10.0.0.2"), PREFIX)
    assert [hop.weight for hop in recorder.fib[key(PREFIX)]] == [1, 1]
    recorder.announce(two, with_bandwidth(1e9), hop("10.0.0.2"), PREFIX)
    assert recorder.fib[key(PREFIX)] == first


@pytest.mark.parametrize(
    ("bandwidths", "expected"),
    [
        ((1.0, 1.0), (1, 1)),
        ((40e9, 100e9), (2, 5)),
        ((1.0, 3.0, 2.0), (1, 3, 2)),
        ((1000.0, 1001.0), (1, 1)),
        ((1.0, 1e6), (1, LARGEST)),
        ((0.0, 1e9), (1, LARGEST)),
        ((0.0, 0.0), (1, 1)),
        ((), ()),
    ],
)
def test_weights_are_the_smallest_numbers_of_the_ratio(
    bandwidths: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    assert ratio(bandwidths) == expected


@given(st.lists(st.floats(1e6, 1e11), min_size=1, max_size=64))
def test_weights_keep_the_order_and_the_share_of_the_largest(bandwidths: list[float]) -> None:
    weights = ratio(tuple(bandwidths))
    assert all(1 <= weight <= LARGEST for weight in weights)
    heaviest = weights[bandwidths.index(max(bandwidths))]
    for bandwidth, weight in zip(bandwidths, weights):
        exact = bandwidth / max(bandwidths) * heaviest
        assert abs(weight - exact) <= max(1.0, 0.01 * exact)
