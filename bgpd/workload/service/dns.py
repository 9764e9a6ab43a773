"""The DNS message of a health check: one question, and what the answer says of it (RFC 1035 section 4).

Decides nothing else; no I/O. Names in answers are skipped, not read: a pointer that leads nowhere harms nobody.
"""

from __future__ import annotations

import enum
import struct

from bgpd.model.service import DnsRecord

PORT = 53

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_END = struct.Struct("!HH")
_RECORD_HEAD = struct.Struct("!HHIH")
_CLASS_IN = 1
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_OPCODE = 0x7800
_POINTER = 0xC0
MAX_LABEL = 63
MAX_NAME = 255
_TYPES = {
    DnsRecord.A: 1,
    DnsRecord.NS: 2,
    DnsRecord.CNAME: 5,
    DnsRecord.SOA: 6,
    DnsRecord.PTR: 12,
    DnsRecord.MX: 15,
    DnsRecord.TXT: 16,
    DnsRecord.AAAA: 28,
    DnsRecord.SRV: 33,
}


class _Code(enum.IntEnum):
    """Response codes (IANA, DNS RCODEs)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


_NAMES = {code.value: code.name for code in _Code}


class NotForUs(Exception):
    """A datagram that is no answer to this question: another one's, late or forged. The answer may still come."""


class Truncated(Exception):
    """The answer did not fit; it is to be asked for over TCP (RFC 7766 section 5)."""


class _Malformed(Exception):
    """The text says where."""


def is_name(text: str) -> bool:
    """Whether a name can be asked for: labels of 1 to 63 characters, 255 bytes in a message; "." is the root."""
    labels = _labels(text)
    length = sum(1 + len(label) for label in labels) + 1
    return bool(text) and all(0 < len(label) <= MAX_LABEL for label in labels) and length <= MAX_NAME


def encode_query(name: str, record: DnsRecord, identifier: int) -> bytes:
    """A recursive question for one name."""
    header = _HEADER.pack(identifier, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _question(name, record)


def read_answer(data: bytes, query: bytes, record: DnsRecord) -> str:
    """What a message says: "" if it has a record of the type, else why not.

    Raises:
        NotForUs: it does not answer `query`.
        Truncated: it says only part.
    """
    if len(data) < _HEADER.size:
        raise NotForUs
    identifier, flags, questions, answers, _authorities, _additional = _HEADER.unpack_from(data)
    if identifier != _HEADER.unpack_from(query)[0] or not flags & _RESPONSE or flags & _OPCODE:
        raise NotForUs
    asked = query[_HEADER.size :]
    at = _HEADER.size + len(asked)
    if questions == 1 and data[_HEADER.size : at].lower() != asked.lower():
        raise NotForUs
    code = flags & 0xF
    if code:
        return f"DNS: {_NAMES.get(code, f'response code {code}')}"
    if flags & _TRUNCATED:
        raise Truncated
    if questions != 1:
        return "DNS: the answer has not the question"
    try:
        return _find(data, at, answers, record)
    except (_Malformed, struct.error, IndexError):
        return "DNS: the answer is malformed"


def _find(data: bytes, at: int, answers: int, record: DnsRecord) -> str:
    for _ in range(answers):
        at = _after_name(data, at)
        kind, _class, _ttl, length = _RECORD_HEAD.unpack_from(data, at)
        at += _RECORD_HEAD.size + length
        if at > len(data):
            raise _Malformed
        if kind == _TYPES[record]:
            return ""
    return f"DNS: no {record} record"


def _after_name(data: bytes, at: int) -> int:
    while True:
        length = data[at]
        if length & _POINTER == _POINTER:
            return at + 2
        if length & _POINTER:
            raise _Malformed
        at += 1 + length
        if not length:
            return at


def _question(name: str, record: DnsRecord) -> bytes:
    labels = [bytes((len(label),)) + label.encode() for label in _labels(name)]
    return b"".join(labels) + b"\0" + _QUESTION_END.pack(_TYPES[record], _CLASS_IN)


def _labels(name: str) -> list[str]:
    return [] if name == "." else name.removesuffix(".").split(".")
