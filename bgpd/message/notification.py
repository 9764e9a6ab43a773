"""What a NOTIFICATION says to people: names of codes, the shutdown text of RFC 9003, the Hard Reset of RFC 8538.

Decides nothing about sessions; holds no I/O. RFC 4271 section 4.5, RFC 4486, RFC 9003, RFC 8538 section 3.1.
"""

from __future__ import annotations

from enum import IntEnum

from bgpd.model.iana import (
    CeaseSubcode,
    ErrorCode,
    FsmSubcode,
    HeaderSubcode,
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
_WITH_COMMUNICATION = (CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET)


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
        name = ErrorCode(code).name.lower().replace("_", "-")
    except ValueError:
        return f"error {code}/{subcode}"
    text = name
    subcodes = _SUBCODES.get(code)
    if subcodes is not None and (subcode or code == ErrorCode.FINITE_STATE_MACHINE):
        try:
            text += "/" + subcodes(subcode).name.lower().replace("_", "-")
        except ValueError:
            text += f"/{subcode}"
    communication = decode_communication(data) if code == ErrorCode.CEASE and subcode in _WITH_COMMUNICATION else ""
    return f"{text}: {communication}" if communication else text
