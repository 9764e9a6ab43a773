"""What a NOTIFICATION means, in words: names of codes, its data, the shutdown text (RFC 9003), the Hard Reset.

Decides nothing about sessions; holds no I/O. RFC 4271 section 4.5, RFC 4486, RFC 9003, RFC 8538 section 3.1.
"""

from __future__ import annotations

from enum import IntEnum

from bgpd.message.open import family_name
from bgpd.model.iana import (
    AttributeFlag,
    AttributeType,
    CapabilityCode,
    CeaseSubcode,
    ErrorCode,
    FsmSubcode,
    HeaderSubcode,
    MessageType,
    OpenSubcode,
    UpdateSubcode,
)

MAX_COMMUNICATION_LENGTH = 255
"""Bytes of UTF-8 (RFC 9003 section 2)."""

_SUBCODES: dict[int, type[IntEnum]] = {
    ErrorCode.MESSAGE_HEADER: HeaderSubcode,
    ErrorCode.OPEN_MESSAGE: OpenSubcode,
    ErrorCode.UPDATE_MESSAGE: UpdateSubcode,
    ErrorCode.FINITE_STATE_MACHINE: FsmSubcode,
    ErrorCode.CEASE: CeaseSubcode,
}
_MOST_BYTES = 16
_MOST_NAMES = 8


def _plain(code: IntEnum) -> str:
    return code.name.lower().replace("_", "-")


_MESSAGE_NAMES = {int(code): code.name for code in MessageType}
_CAPABILITY_NAMES = {int(code): _plain(code) for code in CapabilityCode}
_ATTRIBUTE_NAMES = {int(code): _plain(code) for code in AttributeType}


def encode_communication(text: str) -> bytes:
    """Data of Cease/Administrative Shutdown or Reset: `text`, cut to 255 bytes at a character boundary (RFC 9003)."""
    cut = text.encode()[:MAX_COMMUNICATION_LENGTH].decode("utf-8", "ignore").encode()
    return bytes((len(cut),)) + cut


def decode_communication(data: bytes) -> str:
    """Text of Cease/Administrative Shutdown or Reset data; "" if there is none or the data are malformed.

    Control characters are replaced, so that a peer cannot forge lines of a log (RFC 9003 section 4).
    """
    if not data or len(data) < 1 + data[0]:
        return ""
    text = data[1 : 1 + data[0]].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def wrap_hard_reset(subcode: int, data: bytes = b"") -> bytes:
    """Data of a Hard Reset (Cease/9) that stands for Cease/`subcode` (RFC 8538 section 3.1)."""
    return bytes((ErrorCode.CEASE, subcode)) + data


def unwrap_hard_reset(code: int, subcode: int, data: bytes) -> tuple[int, int, bytes]:
    """The NOTIFICATION that a Hard Reset carries; any other is given back as it is."""
    if (code, subcode) == (ErrorCode.CEASE, CeaseSubcode.HARD_RESET) and len(data) >= 2:
        return data[0], data[1], data[2:]
    return code, subcode, data


def describe_notification(code: int, subcode: int, data: bytes = b"") -> str:
    """One line: "cease/administrative-shutdown: maintenance until 04:00".

    What a Hard Reset carries is described once: one inside another is named and not opened.
    """
    carried = unwrap_hard_reset(code, subcode, data)
    text = _describe(*carried)
    return text if carried == (code, subcode, data) else f"cease/hard-reset ({text})"


def _describe(code: int, subcode: int, data: bytes) -> str:
    try:
        name = _plain(ErrorCode(code))
    except ValueError:
        return f"error {code}/{subcode}"
    text = name
    subcodes = _SUBCODES.get(code)
    if subcodes is not None and (subcode or code == ErrorCode.FINITE_STATE_MACHINE):
        try:
            text += "/" + _plain(subcodes(subcode))
        except ValueError:
            text += f"/{subcode}"
    words = _words_of(code, subcode, data) if data else ""
    return f"{text}: {words}" if words else text


def _words_of(code: int, subcode: int, data: bytes) -> str:
    """What the data say (RFC 4271 section 6, RFC 4486 section 4, RFC 5492 section 5), "" if nothing."""
    match code, subcode:
        case ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN | CeaseSubcode.ADMINISTRATIVE_RESET:
            return decode_communication(data)
        case ErrorCode.CEASE, CeaseSubcode.HARD_RESET:
            return ""
        case ErrorCode.CEASE, CeaseSubcode.MAXIMUM_PREFIXES if len(data) == 7:
            family = family_name(int.from_bytes(data[:2]), data[2])
            return f"{family}, at most {int.from_bytes(data[3:])} prefixes"
        case ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_LENGTH if len(data) == 2:
            return f"{int.from_bytes(data)} bytes"
        case ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_TYPE if len(data) == 1:
            return f"type {data[0]}"
        case ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_VERSION if len(data) == 2:
            return f"version {int.from_bytes(data)} is spoken"
        case ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_PEER_AS if len(data) in (2, 4):
            return f"AS {int.from_bytes(data)}"
        case ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_CAPABILITY:
            return _capability_names(data)
        case ErrorCode.UPDATE_MESSAGE, _:
            return _attribute_words(data)
        case ErrorCode.FINITE_STATE_MACHINE, _ if len(data) == 1 and data[0] in _MESSAGE_NAMES:
            return f"{_MESSAGE_NAMES[data[0]]} received"
    return _hexadecimal(data)


def _capability_names(data: bytes) -> str:
    """The capabilities that are wanted, or not (RFC 5492 section 5)."""
    names = []
    while len(data) >= 2 and len(data) >= 2 + data[1]:
        code, value, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
        name = _CAPABILITY_NAMES.get(code, f"capability {code}")
        if code == CapabilityCode.MULTIPROTOCOL and len(value) == 4:
            name += f" {family_name(int.from_bytes(value[:2]), value[3])}"
        names.append(name)
    return ", ".join(names[:_MOST_NAMES]) or _hexadecimal(data)


def _attribute_words(data: bytes) -> str:
    """The attribute that is wrong, or, by its type alone, missing (RFC 4271 section 6.3)."""
    if len(data) == 1:
        return f"attribute {_ATTRIBUTE_NAMES.get(data[0], data[0])}"
    head = 4 if data[0] & AttributeFlag.EXTENDED_LENGTH else 3
    value = data[head:]
    name = _ATTRIBUTE_NAMES.get(data[1], str(data[1]))
    return f"attribute {name}, flags {data[0]:#04x}" + (f", value {_hexadecimal(value)}" if value else "")


def _hexadecimal(data: bytes) -> str:
    return data[:_MOST_BYTES].hex() + (f"... ({len(data)} bytes)" if len(data) > _MOST_BYTES else "")
