"""Gaps between BFD packets, from what tcpdump printed."""

from __future__ import annotations

import pytest

from benchmarks.bfd_gaps import Packet, gap_figures, packets_of

PRINTED = """\
1795743509.200000 IP (tos 0xc0, ttl 255, id 17108, offset 0, flags [DF], proto UDP (17), length 52)
    10.0.0.1.49155 > 10.0.0.2.3784: BFDv1, length: 24
\tControl, State Up, Flags: [none], Diagnostic: No Diagnostic (0x00)
\t  Desired min Tx Interval:     100 ms
1795743509.300000 IP (tos 0xc0, ttl 255, id 17131, offset 0, flags [DF], proto UDP (17), length 52)
    10.0.0.1.49155 > 10.0.0.2.3784: BFDv1, length: 24
\tControl, State Down, Flags: [none], Diagnostic: Control Detection Time Expired (0x01)
"""


def test_each_packet_has_its_time_and_state() -> None:
    assert packets_of(PRINTED) == [Packet(1795743509.2, "Up"), Packet(1795743509.3, "Down")]


def test_longest_gap_and_flaps_of_all_leaves() -> None:
    steady = [Packet(number / 10, "Up") for number in range(100)]
    shaken = [Packet(0.0, "Down"), Packet(0.1, "Up"), Packet(0.2, "Up"), Packet(0.45, "Down"), Packet(0.5, "Up")]
    found = gap_figures([steady, shaken])
    assert found["milliseconds"] == pytest.approx(250)
    assert found["gap_median_ms"] == pytest.approx(100)
    assert (found["bfd_packets"], found["bfd_flaps"]) == (103, 1)
