"""MRT records (RFC 6396, RFC 8050): routing tables and BGP messages, as route collectors keep them. Written and read.

Any bytes can be read: what is cut off or malformed is an error with its place, and record types that bgpd does not know
are passed over, and counted. Decides nothing.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from bgpd.model.iana import Afi, Family

MAX_RECORD_BYTES: Final = 1 << 20
"""A longer record is none: the file is something else, or damaged."""
_HEADER: Final = struct.Struct("!IHHI")
_PEER_IPV6: Final = 1
_PEER_AS4: Final = 2


class MrtType(enum.IntEnum):
    """Record types (IANA "MRT Type Codes") that bgpd writes or reads."""

    TABLE_DUMP_V2 = 13
    BGP4MP = 16
    BGP4MP_ET = 17


class TableSubtype(enum.IntEnum):
    """Subtypes of TABLE_DUMP_V2 (RFC 6396 section 4.3)."""

    PEER_INDEX_TABLE = 1
    RIB_IPV4_UNICAST = 2
    RIB_IPV6_UNICAST = 4
    RIB_GENERIC = 6
    RIB_IPV4_UNICAST_ADDPATH = 8
    RIB_IPV6_UNICAST_ADDPATH = 10


class MessageSubtype(enum.IntEnum):
    """Subtypes of BGP4MP (RFC 6396 section 4.4, RFC 8050 section 3)."""

    STATE_CHANGE = 0
    MESSAGE = 1
    MESSAGE_AS4 = 4
    STATE_CHANGE_AS4 = 5
    MESSAGE_ADDPATH = 8
    MESSAGE_AS4_ADDPATH = 9


_OF_TWO_OCTETS: Final = (MessageSubtype.STATE_CHANGE, MessageSubtype.MESSAGE, MessageSubtype.MESSAGE_ADDPATH)


class SessionState(enum.IntEnum):
    """Of a session, in a state change (RFC 6396 section 4.4.1)."""

    IDLE = 1
    CONNECT = 2
    ACTIVE = 3
    OPENSENT = 4
    OPENCONFIRM = 5
    ESTABLISHED = 6


class MrtPeer(NamedTuple):
    """Who a route was learned from; `address` is packed, or 0.0.0.0 for the collector itself."""

    router_id: bytes
    address: bytes
    asn: int


class RibEntry(NamedTuple):
    """A path of a route: the number of its peer, when it came, and its attributes as in an UPDATE.

    MP_REACH_NLRI has the next hop only, after its length (RFC 6396 section 4.3.4).
    """

    peer: int
    originated_at: int
    attributes: bytes


class MalformedMrt(Exception):
    """What is wrong with a file, and at which byte."""


class PeerIndex(NamedTuple):
    """The peers of the RIB records that follow."""

    collector: bytes
    view: str
    peers: list[MrtPeer]


class RibRecord(NamedTuple):
    """A route with its paths; `nlri` is as in an UPDATE."""

    at: int
    afi: int
    safi: int
    nlri: bytes
    entries: list[RibEntry]


class MessageRecord(NamedTuple):
    """A BGP message that was received, header included, or b"" where the session's state changed."""

    at: float
    peer: MrtPeer
    local: MrtPeer
    message: bytes
    four_octet_as: bool = True
    states: tuple[int, int] = (0, 0)
    add_path: bool = False


Record = PeerIndex | RibRecord | MessageRecord


# Writing


def _record(at: float, kind: int, subtype: int, body: bytes) -> bytes:
    return _HEADER.pack(int(at) & 0xFFFFFFFF, kind, subtype, len(body)) + body


def peer_index_table(at: float, *, collector: bytes, view: str, peers: Sequence[MrtPeer]) -> bytes:
    """The record that begins a table."""
    name = view.encode()[:0xFFFF]
    parts = [collector, struct.pack("!H", len(name)), name, struct.pack("!H", len(peers))]
    for peer in peers:
        kind = _PEER_AS4 | (_PEER_IPV6 if len(peer.address) == 16 else 0)
        parts += (bytes((kind,)), peer.router_id, peer.address or bytes(4), struct.pack("!I", peer.asn))
    return _record(at, MrtType.TABLE_DUMP_V2, TableSubtype.PEER_INDEX_TABLE, b"".join(parts))


def rib_record(at: float, sequence: int, family: Family, nlri: bytes, entries: Sequence[RibEntry]) -> bytes:
    """A route with its paths."""
    head = struct.pack("!I", sequence & 0xFFFFFFFF)
    match family:
        case Family.IPV4_UNICAST:
            subtype = TableSubtype.RIB_IPV4_UNICAST
        case Family.IPV6_UNICAST:
            subtype = TableSubtype.RIB_IPV6_UNICAST
        case _:
            subtype = TableSubtype.RIB_GENERIC
            head += struct.pack("!HB", family.afi, family.safi)
    parts = [head, nlri, struct.pack("!H", len(entries))]
    for peer, originated_at, attributes in entries:
        parts += (struct.pack("!HIH", peer, originated_at & 0xFFFFFFFF, len(attributes)), attributes)
    return _record(at, MrtType.TABLE_DUMP_V2, subtype, b"".join(parts))


def message_record(at: float, peer: MrtPeer, local: MrtPeer, message: bytes, *, four_octet_as: bool = True) -> bytes:
    """A message as it came. Both addresses are of one family, which is the peer's."""
    subtype = MessageSubtype.MESSAGE_AS4 if four_octet_as else MessageSubtype.MESSAGE
    return _of_session(at, subtype, peer, local, message)


def state_change(at: float, peer: MrtPeer, local: MrtPeer, states: tuple[int, int]) -> bytes:
    """The session went from one state to another: 1 is Idle, 6 Established (RFC 6396 section 4.4.1)."""
    return _of_session(at, MessageSubtype.STATE_CHANGE_AS4, peer, local, struct.pack("!HH", *states))


def _of_session(at: float, subtype: MessageSubtype, peer: MrtPeer, local: MrtPeer, rest: bytes) -> bytes:
    is_ipv6 = len(peer.address) == 16
    size = 16 if is_ipv6 else 4
    addresses = peer.address + (local.address if len(local.address) == size else bytes(size))
    layout = "!HHHH" if subtype is MessageSubtype.MESSAGE else "!IIHH"
    asns = (min(peer.asn, 0xFFFF), min(local.asn, 0xFFFF)) if layout == "!HHHH" else (peer.asn, local.asn)
    micros = struct.pack("!I", int((at - int(at)) * 1e6))
    body = micros + struct.pack(layout, *asns, 0, Afi.IPV6 if is_ipv6 else Afi.IPV4) + addresses + rest
    return _record(at, MrtType.BGP4MP_ET, subtype, body)


# Reading


def read_records(file: BinaryIO, passed_over: Counter[tuple[int, int]] | None = None) -> Iterator[Record]:
    """The records of a file that bgpd knows, in order. `passed_over` counts the others by type and subtype.

    Raises: MalformedMrt: after those that could be read.
    """
    offset = 0
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise MalformedMrt(f"the file is cut off in the header of the record at byte {offset}")
        at, kind, subtype, length = _HEADER.unpack(header)
        if length > MAX_RECORD_BYTES:
            raise MalformedMrt(f"there is no MRT record at byte {offset}: it would have {length} bytes")
        body = file.read(length)
        if len(body) < length:
            raise MalformedMrt(f"the file is cut off in the record at byte {offset}: {len(body)} of {length} bytes")
        try:
            record = _parsed(at, kind, subtype, Fields(body))
        except (struct.error, IndexError, ValueError) as error:
            raise MalformedMrt(f"the record at byte {offset} is malformed: {error}") from None
        if record is not None:
            yield record
        elif passed_over is not None:
            passed_over[kind, subtype] += 1
        offset += _HEADER.size + length


class Fields:
    """Fields of a record, one after the other. Raises: ValueError: there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError(f"{count} bytes are wanted at byte {self._at} of it, {len(found)} are left")
        self._at += count
        return found

    def number(self, size: int) -> int:
        """The next field of `size` bytes, as a number. Raises: ValueError: there are fewer."""
        return int.from_bytes(self.take(size))

    def rest(self) -> bytes:
        """All that has not been taken."""
        return self.take(len(self._data) - self._at)


def _parsed(at: int, kind: int, subtype: int, fields: Fields) -> Record | None:
    if kind == MrtType.TABLE_DUMP_V2:
        match subtype:
            case TableSubtype.PEER_INDEX_TABLE:
                return _peer_index(fields)
            case TableSubtype.RIB_IPV4_UNICAST:
                return _rib(at, Family.IPV4_UNICAST.afi, 1, fields)
            case TableSubtype.RIB_IPV6_UNICAST:
                return _rib(at, Family.IPV6_UNICAST.afi, 1, fields)
            case TableSubtype.RIB_IPV4_UNICAST_ADDPATH:
                return _rib(at, Family.IPV4_UNICAST.afi, 1, fields, add_path=True)
            case TableSubtype.RIB_IPV6_UNICAST_ADDPATH:
                return _rib(at, Family.IPV6_UNICAST.afi, 1, fields, add_path=True)
            case TableSubtype.RIB_GENERIC:
                fields.take(4)
                afi, safi = fields.number(2), fields.number(1)
                return RibRecord(at, afi, safi, _generic_nlri(afi, safi, fields), _entries(fields))
    elif kind in (MrtType.BGP4MP, MrtType.BGP4MP_ET):
        micros = fields.number(4) if kind == MrtType.BGP4MP_ET else 0
        return _message(at + micros / 1e6, subtype, fields)
    return None


def _peer_index(fields: Fields) -> PeerIndex:
    collector, view = fields.take(4), fields.take(fields.number(2)).decode(errors="replace")
    peers = []
    for _ in range(fields.number(2)):
        kind, router_id = fields.number(1), fields.take(4)
        address = fields.take(16 if kind & _PEER_IPV6 else 4)
        peers.append(MrtPeer(router_id, address, fields.number(4 if kind & _PEER_AS4 else 2)))
    return PeerIndex(collector, view, peers)


def _rib(at: int, afi: int, safi: int, fields: Fields, *, add_path: bool = False) -> RibRecord:
    fields.take(4)
    bits = fields.number(1)
    if bits > (32 if afi == Afi.IPV4 else 128):
        raise ValueError(f"a prefix of {bits} bits")
    nlri = bytes((bits,)) + fields.take((bits + 7) // 8)
    return RibRecord(at, afi, safi, nlri, _entries(fields, add_path=add_path))


def _generic_nlri(afi: int, safi: int, fields: Fields) -> bytes:
    """One NLRI; its length is its own: of EVPN in its second byte, else bits in its first."""
    if (afi, safi) == (Family.L2VPN_EVPN.afi, Family.L2VPN_EVPN.safi):
        head = fields.take(2)
        return head + fields.take(head[1])
    bits = fields.number(1)
    return bytes((bits,)) + fields.take((bits + 7) // 8)


def _entries(fields: Fields, *, add_path: bool = False) -> list[RibEntry]:
    """Path identifiers are left out (RFC 8050 section 4)."""
    found = []
    for _ in range(fields.number(2)):
        peer, originated_at = fields.number(2), fields.number(4)
        fields.take(4 if add_path else 0)
        found.append(RibEntry(peer, originated_at, fields.take(fields.number(2))))
    return found


def _message(at: float, subtype: int, fields: Fields) -> MessageRecord | None:
    if subtype not in tuple(MessageSubtype):
        return None
    is_as4 = subtype not in _OF_TWO_OCTETS
    size = 4 if is_as4 else 2
    asn, local_asn = fields.number(size), fields.number(size)
    fields.take(2)
    afi = fields.number(2)
    if afi not in (Afi.IPV4, Afi.IPV6):
        raise ValueError(f"addresses of family {afi}")
    length = 4 if afi == Afi.IPV4 else 16
    peer, local = MrtPeer(b"", fields.take(length), asn), MrtPeer(b"", fields.take(length), local_asn)
    if subtype in (MessageSubtype.STATE_CHANGE, MessageSubtype.STATE_CHANGE_AS4):
        return MessageRecord(at, peer, local, b"", is_as4, (fields.number(2), fields.number(2)))
    add_path = subtype in (MessageSubtype.MESSAGE_ADDPATH, MessageSubtype.MESSAGE_AS4_ADDPATH)
    return MessageRecord(at, peer, local, fields.rest(), is_as4, add_path=add_path)
