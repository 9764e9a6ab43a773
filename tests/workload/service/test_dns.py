"""Messages of DNS as RFC 1035 section 4 has them: the question that is asked, and what answers say."""

from __future__ import annotations

import struct

import pytest

from bgpd.model.service import DnsRecord
from bgpd.workload.service.dns import NotForUs, Truncated, encode_query, is_name, read_answer

NAME = b"\3www\7example\0"
QUERY = bytes.fromhex("beef 0100 0001 0000 0000 0000".replace(" ", "")) + NAME + bytes((0, 1, 0, 1))
POINTER = b"\xc0\x0c"


def record(kind: int = 1, data: bytes = bytes(4), name: bytes = POINTER) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def answer(
    *records: bytes, flags: int = 0x8180, identifier: int = 0xBEEF, questions: int = 1, asked: bytes = b""
) -> bytes:
    head = struct.pack("!HHHHHH", identifier, flags, questions, len(records), 0, 0)
    return head + (asked or QUERY[12:]) * questions + b"".join(records)


def test_the_question() -> None:
    assert encode_query("www.example", DnsRecord.A, 0xBEEF) == QUERY
    assert encode_query("www.example.", DnsRecord.A, 0xBEEF) == QUERY
    assert encode_query(".", DnsRecord.NS, 1)[12:] == bytes((0, 0, 2, 0, 1))
    assert encode_query("a", DnsRecord.AAAA, 1)[12:] == b"\1a\0" + bytes((0, 28, 0, 1))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a", True),
        ("a.", True),
        (".", True),
        ("", False),
        ("a..b", False),
        (".a", False),
        ("a" * 63, True),
        ("a" * 64, False),
        (".".join(["a" * 63] * 3 + ["a" * 61]), True),
        (".".join(["a" * 63] * 3 + ["a" * 62]), False),
        ("a." * 127, True),
        ("a." * 127 + "a", False),
    ],
)
def test_names(name: str, is_one: bool) -> None:
    assert is_name(name) == is_one


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (answer(record()), ""),
        (answer(record(), flags=0x8080), ""),
        (answer(record(5, b"\1x\0"), record()), ""),
        (answer(record(name=NAME)), ""),
        (answer(record(), asked=QUERY[12:].upper()), ""),
        (answer(), "DNS: no A record"),
        (answer(record(28, bytes(16))), "DNS: no A record"),
        (answer(flags=0x8183), "DNS: NXDOMAIN"),
        (answer(flags=0x8182), "DNS: SERVFAIL"),
        (answer(flags=0x818F), "DNS: response code 15"),
        (answer(record(), questions=0), "DNS: the answer has not the question"),
        (answer(record()[:-1]), "DNS: the answer is malformed"),
        (answer(record()[:5]), "DNS: the answer is malformed"),
        (answer(record(name=b"\x40")), "DNS: the answer is malformed"),
        (answer(record(name=b"\x3f")), "DNS: the answer is malformed"),
    ],
)
def test_answers(data: bytes, said: str) -> None:
    assert read_answer(data, QUERY, DnsRecord.A) == said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUERY[:11],
        QUERY,
        answer(record(), identifier=0xBEEE),
        answer(record(), flags=0x8980),
        answer(record(), asked=b"\3ftp" + QUERY[16:]),
    ],
)
def test_what_is_no_answer_to_the_question(data: bytes) -> None:
    with pytest.raises(NotForUs):
        read_answer(data, QUERY, DnsRecord.A)


def test_an_answer_that_did_not_fit() -> None:
    with pytest.raises(Truncated):
        read_answer(answer(flags=0x8380), QUERY, DnsRecord.A)
