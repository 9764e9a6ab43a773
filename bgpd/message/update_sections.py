"""An UPDATE taken apart: withdrawn routes, attribute block, NLRI, and the two MP attributes cut out of the block.

Decides only whether the framing holds; anything wrong here resets the session (RFC 7606 sections 3 and 5.3, RFC 4271
section 6.3, RFC 4760 sections 3 and 4). What the parts mean is update_decoder.py's.
"""

from __future__ import annotations

import struct

import msgspec

from bgpd.model.iana import AttributeType, UpdateSubcode
from bgpd.model.wire import Reaction, WireError

HEADER_SECTION = "RFC 4271 section 6.1"
"""Section of the one error that is a Message Header Error."""
_HEADER_LENGTH = 19
_REACH = int(AttributeType.MP_REACH_NLRI)
_UNREACH = int(AttributeType.MP_UNREACH_NLRI)
_REACH_BYTE, _UNREACH_BYTE = bytes((_REACH,)), bytes((_UNREACH,))
"""A block without these bytes anywhere has no MP attributes: it need not be taken apart."""
_MALFORMED_LIST = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
_OPTIONAL_ERROR = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR


class MpReach(msgspec.Struct, frozen=True, gc=False):
    """MP_REACH_NLRI taken apart; `next_hop` is the whole field, `packed` the whole attribute (RFC 4760 section 3)."""

    afi: int
    safi: int
    next_hop: bytes
    nlri: bytes
    packed: bytes


class MpUnreach(msgspec.Struct, frozen=True, gc=False):
    """MP_UNREACH_NLRI taken apart; `packed` is the whole attribute (RFC 4760 section 4)."""

    afi: int
    safi: int
    nlri: bytes
    packed: bytes


class UpdateSections(msgspec.Struct):
    """The parts of an UPDATE body, with the MP attributes cut out of the attribute block."""

    withdrawn: bytes
    block: bytes
    nlri: bytes
    reach: MpReach | None = None
    unreach: MpUnreach | None = None

    @property
    def has_reachable(self) -> bool:
        """Whether any reachable NLRI is there (RFC 7606 section 5.2)."""
        return bool(self.nlri) or (self.reach is not None and bool(self.reach.nlri))

    @property
    def ends_rib(self) -> bool:
        """Whether this is the End-of-RIB of a family with MP attributes (RFC 4724 section 2)."""
        if self.unreach is None or self.unreach.nlri or self.reach is not None:
            return False
        return not (self.withdrawn or self.block or self.nlri)


class UpdateError(Exception):
    """The UPDATE resets the session, for the reason in `error`."""

    def __init__(self, error: WireError) -> None:
        super().__init__(error.message)
        self.error = error


def fatal(message: str, section: str, attribute: str = "", subcode: int = 0, data: bytes = b"") -> WireError:
    """An error that resets the session."""
    return WireError(Reaction.SESSION_RESET, message, section, attribute, subcode, data)


def split_update(body: bytes) -> UpdateSections:
    """The parts of an UPDATE body.

    Raises: UpdateError: lengths that contradict each other; a repeated or malformed MP attribute.
    """
    size = len(body)
    if size < 4:
        data = struct.pack("!H", _HEADER_LENGTH + size)
        raise UpdateError(fatal("an UPDATE has at least 23 bytes", HEADER_SECTION, subcode=2, data=data))
    start = 4 + (body[0] << 8 | body[1])
    if start > size:
        raise UpdateError(fatal("withdrawn routes overrun the message", "RFC 4271 section 6.3", "", _MALFORMED_LIST))
    end = start + (body[start - 2] << 8 | body[start - 1])
    if end > size:
        raise UpdateError(fatal("path attributes overrun the message", "RFC 4271 section 6.3", "", _MALFORMED_LIST))
    withdrawn, block, nlri = body[2 : start - 2], body[start:end], body[end:]
    if _REACH_BYTE not in block and _UNREACH_BYTE not in block:
        return UpdateSections(withdrawn, block, nlri)
    return _cut_mp_attributes(withdrawn, block, nlri)


def _cut_mp_attributes(withdrawn: bytes, block: bytes, nlri: bytes) -> UpdateSections:
    """Walk the attribute headers; framing errors are left in the block for its own decoder to find."""
    reach: MpReach | None = None
    unreach: MpUnreach | None = None
    others: list[bytes] = []
    kept_from = offset = 0
    end = len(block)
    while offset + 3 <= end:
        flags, kind, begin = block[offset], block[offset + 1], offset
        if flags & 0x10:
            start = offset + 4
            offset = start + int.from_bytes(block[offset + 2 : start])
        else:
            start = offset + 3
            offset = start + block[offset + 2]
        if offset > end or start > end:
            if kind in (_REACH, _UNREACH):
                raise UpdateError(_overrun(kind))
            break
        if kind == _REACH:
            if reach is not None:
                raise UpdateError(_repeated(kind))
            reach = _split_reach(block[begin:offset], block[start:offset])
        elif kind == _UNREACH:
            if unreach is not None:
                raise UpdateError(_repeated(kind))
            unreach = _split_unreach(block[begin:offset], block[start:offset])
        else:
            continue
        others.append(block[kept_from:begin])
        kept_from = offset
    others.append(block[kept_from:])
    return UpdateSections(withdrawn, b"".join(others), nlri, reach, unreach)


def _split_reach(packed: bytes, value: bytes) -> MpReach:
    _check_flags(packed, _REACH)
    size = len(value)
    if size < 5 or 5 + value[3] > size:
        message = f"{size} bytes do not hold the next hop" if size > 3 else f"{size} bytes, fewer than 5"
        raise UpdateError(fatal(message, "RFC 7606 section 5.3", "MP_REACH_NLRI", _MALFORMED_LIST))
    after = 4 + value[3]
    return MpReach(value[0] << 8 | value[1], value[2], value[4:after], value[after + 1 :], packed)


def _split_unreach(packed: bytes, value: bytes) -> MpUnreach:
    _check_flags(packed, _UNREACH)
    if len(value) < 3:
        message = f"{len(value)} bytes, fewer than 3"
        raise UpdateError(fatal(message, "RFC 7606 section 5.3", "MP_UNREACH_NLRI", _OPTIONAL_ERROR, packed))
    return MpUnreach(value[0] << 8 | value[1], value[2], value[3:], packed)


def _check_flags(packed: bytes, kind: int) -> None:
    flags = packed[0]
    if flags & 0xC0 != 0x80:
        message = f"flags 0x{flags:02x}: it is optional and not transitive"
        raise UpdateError(fatal(message, "RFC 7606 section 5.3", AttributeType(kind).name, _OPTIONAL_ERROR, packed))


def _repeated(kind: int) -> WireError:
    return fatal("repeated", "RFC 7606 section 3 g", AttributeType(kind).name, _MALFORMED_LIST)


def _overrun(kind: int) -> WireError:
    return fatal("overruns the path attributes", "RFC 7606 section 3 j", AttributeType(kind).name, _MALFORMED_LIST)
