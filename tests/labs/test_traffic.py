"""Counting what a flow lost, from what ping printed."""

from __future__ import annotations

import pytest

from labs.namespace import Namespace
from labs.process import LabError
from labs.traffic import Pair, count

PAIR = Pair(Namespace("pod1"), "10.0.0.1")


def output(replies: dict[int, float], sent: int) -> str:
    lines = [
        f"[{at:.6f}] 64 bytes from 10.0.0.1: icmp_seq={number % 65536} ttl=64 time=0.1 ms"
        for number, at in replies.items()
    ]
    return "\n".join([*lines, f"{sent} packets transmitted, {len(replies)} received, 0% packet loss, time 1ms"])


def test_nothing_lost_is_no_outage() -> None:
    result = count(PAIR, output({1: 10.0, 2: 10.01, 3: 10.02}, 3), 0.01)
    assert (result.sent, result.lost, result.outage_ms) == (3, 0, 0)


def test_packet_under_way_at_the_end_is_not_lost() -> None:
    result = count(PAIR, output({1: 10.0, 2: 10.01}, 3), 0.01)
    assert (result.sent, result.lost, result.outage_ms) == (2, 0, 0)


def test_outage_is_the_longest_time_between_replies_around_a_loss() -> None:
    result = count(PAIR, output({1: 10.0, 2: 10.01, 5: 10.04, 6: 10.05, 8: 10.07}, 8), 0.01)
    assert (result.sent, result.lost) == (8, 3)
    assert result.outage_ms == pytest.approx(30)


def test_flow_that_did_not_come_back_counts_to_its_end() -> None:
    result = count(PAIR, output({1: 10.0, 2: 10.01}, 100), 0.01)
    assert (result.sent, result.lost) == (100, 98)
    assert result.outage_ms == pytest.approx(980)


def test_outage_at_the_start_counts() -> None:
    result = count(PAIR, output({51: 10.5, 52: 10.51}, 52), 0.01)
    assert (result.sent, result.lost) == (52, 50)
    assert result.outage_ms == pytest.approx(500)


def test_duplicate_and_reordered_replies_count_once() -> None:
    text = output({2: 10.01, 1: 10.0, 3: 10.02}, 3).replace(
        "[10.020000]", "[10.011] 64 bytes from x: icmp_seq=2 t\n[10.02]"
    )
    assert count(PAIR, text, 0.01).lost == 0


def test_long_flow_is_counted_though_its_numbers_begin_anew() -> None:
    replies = {number: number / 1000 for number in range(1, 200_001) if number not in (65_536, 70_000, 131_072)}
    result = count(PAIR, output(replies, 200_000), 0.001)
    assert (result.sent, result.lost) == (200_000, 3)
    assert result.outage_ms == pytest.approx(2)


def test_no_reply_at_all_is_an_endless_outage() -> None:
    result = count(PAIR, output({}, 5), 0.01)
    assert (result.lost, result.outage_ms) == (5, float("inf"))


def test_output_without_a_summary_is_an_error() -> None:
    with pytest.raises(LabError, match="without a summary"):
        count(PAIR, "ping: connect: Network is unreachable", 0.01)


def test_flow_of_another_source_address_says_so_to_ping() -> None:
    assert PAIR.options == []
    assert Pair(PAIR.source, PAIR.destination, "10.0.0.9").options == ["-I", "10.0.0.9"]
