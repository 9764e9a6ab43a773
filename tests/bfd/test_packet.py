"""BFD Control packets: golden bytes, round trips, and each check of RFC 5880 section 6.8.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.bfd.packet import Discarded, Packet, State, decode

GOLDEN = bytes.fromhex("20c80318 00000007 00000009 000186a0 000186a0 00000000")
"""Version 1, no diagnostic; Up, C bit; multiplier 3, length 24; discriminators 7 and 9; 100 ms both ways, no echo."""


def changed(offset: int, value: int, data: bytes = GOLDEN) -> bytes:
    return data[:offset] + bytes((value,)) + data[offset + 1 :]


def test_golden_bytes_both_ways() -> None:
    packet = decode(GOLDEN)
    assert (packet.state, packet.multiplier, packet.independent) == (State.UP, 3, True)
    assert (packet.my_discriminator, packet.your_discriminator) == (7, 9)
    assert (packet.desired_min_tx_us, packet.required_min_rx_us) == (100_000, 100_000)
    assert packet.encode() == GOLDEN


def test_packet_may_be_followed_by_other_bytes() -> None:
    assert decode(GOLDEN + b"trailer").my_discriminator == 7


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "length"),
        (GOLDEN[:23], "length"),
        (changed(0, 0x00), "version"),
        (changed(0, 0x40), "version"),
        (changed(3, 23), "length"),
        (changed(3, 25), "length"),
        (changed(1, 0xC4), "length"),  # authentication wants 26 bytes
        (changed(2, 0), "multiplier"),
        (changed(1, 0xC1), "multipoint"),
        (changed(7, 0), "discriminator"),
        (changed(11, 0), "state"),  # Up, and does not know our discriminator
        (changed(1, 0x80, changed(11, 0)), "state"),  # Init neither
        (changed(3, 26, changed(1, 0xC4)) + b"\x01\x02", "authentication"),
    ],
)
def test_packet_that_a_check_refuses(data: bytes, cause: str) -> None:
    with pytest.raises(Discarded) as refused:
        decode(data)
    assert refused.value.cause == cause


def test_checks_are_made_in_the_order_of_the_rfc() -> None:
    everything_wrong = bytes.fromhex("00c10017") + bytes(20)
    causes = []
    for repaired in ((0, 0x20), (3, 24), (2, 3), (1, 0xC0), (7, 1)):
        with pytest.raises(Discarded) as refused:
            decode(everything_wrong)
        causes.append(refused.value.cause)
        everything_wrong = changed(*repaired, everything_wrong)
    assert causes == ["version", "length", "multiplier", "multipoint", "discriminator"]


@pytest.mark.parametrize("flags", [0x00, 0x40])
def test_discriminator_0_is_good_in_down_and_admin_down(flags: int) -> None:
    assert decode(changed(1, flags, changed(11, 0))).your_discriminator == 0


u32 = st.integers(0, 0xFFFFFFFF)


@given(
    st.builds(
        Packet,
        state=st.sampled_from(State),
        multiplier=st.integers(1, 255),
        my_discriminator=st.integers(1, 0xFFFFFFFF),
        your_discriminator=st.integers(1, 0xFFFFFFFF),
        desired_min_tx_us=u32,
        required_min_rx_us=u32,
        diagnostic=st.integers(0, 31),
        poll=st.booleans(),
        final=st.booleans(),
        independent=st.booleans(),
        demand=st.booleans(),
    )
)
def test_what_is_encoded_is_decoded(packet: Packet) -> None:
    decoded = decode(packet.encode())
    assert all(getattr(decoded, field) == getattr(packet, field) for field in Packet.__slots__)


@given(st.binary(max_size=64))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        packet = decode(data)
    except Discarded:
        return
    assert packet.multiplier
    assert packet.my_discriminator
