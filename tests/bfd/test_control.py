"""Lines of the control channel between the daemon and the BFD process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.bfd.control import (
    NUMBERS,
    BadLine,
    Desired,
    Report,
    counts_line,
    gone_line,
    hello_line,
    read_counts,
    read_desired,
    read_key,
    read_report,
    wrong_hello,
)

addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
keys = st.tuples(addresses, addresses, st.sampled_from(["", "eth0", "eth0.101"])).filter(
    lambda key: len(key[0]) == len(key[1])
)


def rest(line: str) -> str:
    return line.partition(" ")[2]


@given(keys, st.integers(1_000, 60_000_000), st.integers(1, 255))
def test_wish_is_read_as_it_was_said(key: tuple[bytes, bytes, str], interval_us: int, multiplier: int) -> None:
    local, peer, interface = key
    desired = Desired(local=local, peer=peer, interface=interface, interval_us=interval_us, multiplier=multiplier)
    read = read_desired(rest(desired.line()))
    assert (read.key, read.interval_us, read.multiplier) == (key, interval_us, multiplier)


@given(keys, st.dictionaries(st.sampled_from(NUMBERS), st.integers(0, 1 << 33)), st.sampled_from(["", "no way = out"]))
def test_report_is_read_as_it_was_said(key: tuple[bytes, bytes, str], numbers: dict[str, int], problem: str) -> None:
    report = Report(key, since=12.5, problem=problem, **numbers)
    read = read_report(rest(report.line()))
    assert (read.key, read.since, read.problem) == (key, 12.5, problem)
    assert all(getattr(read, name) == numbers.get(name, 0) for name in NUMBERS)


def test_what_a_newer_side_says_more_is_skipped_and_what_an_older_one_lacks_is_0() -> None:
    line = "local=0a000101 peer=0a000102 interface=eth0 state=3 remote_state=3 diagnostic=0 discriminator=7 downs=0"
    read = read_report(f"{line} colour=9 since=1.0 problem=")
    assert (read.state, read.source_port) == (3, 0)
    with pytest.raises(BadLine):
        read_report(line.replace("remote_state=3 ", "") + " since=1.0 problem=")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "local=0a000101 peer=0a000102 interface= interval_us=100000",
        "local=0a000101 peer=0a000102 interface= interval_us=10 multiplier=3",
        "local=0a000101 peer=0a000102 interface= interval_us=100000 multiplier=0",
        "local=0a0001 peer=0a000102 interface= interval_us=100000 multiplier=3",
        "local=0a000101 peer=20010db8000100000000000000000002 interface= interval_us=100000 multiplier=3",
        "local=zz peer=0a000102 interface= interval_us=100000 multiplier=3",
    ],
)
def test_bad_wish(line: str) -> None:
    with pytest.raises(BadLine):
        read_desired(line)


@given(st.text())
def test_random_lines_raise_nothing_else(text: str) -> None:
    for read in (read_desired, read_report, read_key, read_counts):
        try:
            read(text)
        except BadLine:
            continue


def test_gone_counts_and_hello() -> None:
    key = (b"\x0a\0\1\1", b"\x0a\0\1\2", "eth0")
    assert read_key(rest(gone_line(key))) == key
    assert read_counts(rest(counts_line({"ttl": 2, "length": 1}))) == {"length": 1, "ttl": 2}
    assert wrong_hello(hello_line()) == ""
    assert "bgpd-bfd 9" in wrong_hello("bgpd-bfd 9")


@pytest.mark.parametrize(
    "wrong", [f"downs={10**30}", f"sent={10**30}", f"received=-{10**30}", "since=nan", "since=inf", "since=1e300"]
)
def test_report_with_a_number_that_could_not_be_shown(wrong: str) -> None:
    said = Report((b"\x0a\0\0\1", b"\x0a\0\0\2", ""), since=1.0).line()
    name = wrong.partition("=")[0]
    words = [wrong if word.startswith(f"{name}=") else word for word in rest(said).split(" ")]
    with pytest.raises(BadLine):
        read_report(" ".join(words))
