"""Blocks of the history's files: what was written at once.

The records are in two parts, each compressed: those that are only about some keys, behind an index of these, and all
others. So who looks for a few keys reads of most blocks little more than the index. UPDATEs with very many routes, as
at the start of a session, are not in the index but for their shortest keys: the others can be looked for byte by byte.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO, get_args

import msgspec

from bgpd.history.records import (
    AnyRecord,
    Claimed,
    Discarded,
    Heard,
    Imported,
    ImportsWithdrawn,
    Keyed,
    Local,
    Mark,
    Seen,
    Served,
    State,
    Told,
    decoder,
    numbered_decoder,
)
from bgpd.history.wanted import SHORT, MayName, Wanted, index_of
from bgpd.model.iana import Family
from bgpd.model.utf8 import as_msgpack

_BLOCK = struct.Struct(">IIIIIddB")
"""Lengths of index, general part and keyed part; checksums of the first two, and of the third; first and last time."""
_SUM = struct.Struct(">I")
_HEAD_SIZE = _BLOCK.size + _SUM.size
_ENDS_BASE, _IS_CROWDED = 1, 2
_LEVEL = 1
_CROWD = 8
"""Routes of an UPDATE, on average, from which on their keys are not put into the index."""
_KEYED = frozenset(get_args(Keyed))


class EncodedHeard(msgspec.Struct, frozen=True, gc=False):
    """A record of UPDATEs that is encoded already, and what stands in the index for it. `is_crowded`: only its shortest
    keys do."""

    at: float
    data: msgspec.Raw
    index: array[int]
    is_crowded: bool


def encoded(heard: Heard, keys: Sequence[bytes]) -> EncodedHeard:
    """`keys` are those that the UPDATEs are about."""
    is_crowded = len(keys) > _CROWD * len(heard.bodies)
    if is_crowded:
        keys = [key for key in keys if len(key) <= SHORT] if min(map(len, keys)) <= SHORT else ()
    return EncodedHeard(heard.at, msgspec.Raw(as_msgpack(heard)), index_of(keys), is_crowded)


def block(records: Sequence[AnyRecord | EncodedHeard], *, ends_base: bool) -> bytes:
    """Records as they stand in a file."""
    general: list[tuple[int, AnyRecord]] = []
    keyed: list[AnyRecord | msgspec.Raw] = []
    index, is_crowded = array("I"), False
    for place, record in enumerate(records):
        if isinstance(record, EncodedHeard):
            keyed.append(record.data)
            index.extend(record.index)
            is_crowded = is_crowded or record.is_crowded
        elif type(record) in _KEYED:
            keyed.append(record)
            index.extend(index_of(_keys_of(record)))
        else:
            general.append((place, record))
    if sys.byteorder == "big":
        index.byteswap()
    parts = index.tobytes(), _compressed(general), _compressed(keyed)
    sums = zlib.crc32(parts[1], zlib.crc32(parts[0])), zlib.crc32(parts[2])
    flags = (_ENDS_BASE if ends_base else 0) | (_IS_CROWDED if is_crowded else 0)
    about = min([one.at for one in records]), max([one.at for one in records]), flags
    head = _BLOCK.pack(*map(len, parts), *sums, *about)
    return b"".join((head, _SUM.pack(zlib.crc32(head)), *parts))


def _compressed(records: Sequence[object]) -> bytes:
    return zlib.compress(as_msgpack(records), _LEVEL) if records else b""


def _keys_of(record: AnyRecord) -> Iterable[bytes]:
    """What a record that is about keys says something of."""
    match record:
        case State():
            mark = (Mark.EVPN,) if record.family == Family.L2VPN_EVPN else ()
            return chain(mark, *(keys for _, keys in record.entries))
        case Imported():
            return chain.from_iterable(record.keys)
        case Told():
            return chain((Mark.OWN,), record.keys)
        case Claimed() | Served():
            return (Mark.OWN,)
        case Seen():
            return (Mark.OVERVIEW,)
        case Local() | Discarded():
            return chain((Mark.EVPN,) if record.family == Family.L2VPN_EVPN else (), record.keys)
        case ImportsWithdrawn():
            return record.keys
    raise TypeError("nobody has told the keys of these")


class Block(msgspec.Struct, frozen=True, gc=False):
    """The head of a block, and where its parts are in the file: each begins where the one before ends."""

    index: int
    general: int
    keyed: int
    end: int
    sum: int
    keyed_sum: int
    began_at: float
    ended_at: float
    ends_base: bool
    is_crowded: bool


def blocks(file: BinaryIO, at: int) -> Iterator[Block | str]:
    """The blocks of a file from a place on, and at last what is wrong, where that is not its end. Only their heads are
    read: a file may have gigabytes. Raises: OSError."""
    size = file.seek(0, os.SEEK_END)
    while at < size:
        start = at + _HEAD_SIZE
        file.seek(at)
        head = file.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE:
            yield "cut off in the middle of a block"
            return
        if zlib.crc32(head[: _BLOCK.size]) != _SUM.unpack_from(head, _BLOCK.size)[0]:
            yield "damaged (head of a block)"
            return
        index, general, keyed, total, keyed_sum, began_at, ended_at, flags = _BLOCK.unpack_from(head)
        places = start, start + index, start + index + general, start + index + general + keyed
        at = places[-1]
        if at > size:
            yield "cut off in the middle of a block"
            return
        yield Block(*places, total, keyed_sum, began_at, ended_at, bool(flags & _ENDS_BASE), bool(flags & _IS_CROWDED))


def read_block(file: BinaryIO, block: Block, wanted: Wanted | None) -> list[AnyRecord]:
    """The records of a block in a file; with `wanted`, of those that are only about keys hardly more than such as say
    something of these. Raises: OSError. ValueError, zlib.error, UNREADABLE: it is damaged."""
    data = _part(file, block.index, block.keyed, block.sum)
    index, packed = data[: block.general - block.index], data[block.general - block.index :]
    records = _keyed(file, block, index, wanted) if block.keyed < block.end else []
    if block.general == block.keyed:
        return [one for one in records if one is not None]
    general = numbered_decoder.decode(zlib.decompress(packed))
    if not records:
        return [record for _, record in general]
    for place, record in general:
        records.insert(place, record)
    return [one for one in records if one is not None]


def _part(file: BinaryIO, start: int, end: int, checksum: int) -> bytes:
    file.seek(start)
    data = file.read(end - start)
    if zlib.crc32(data) != checksum:
        raise ValueError("wrong checksum")
    return data


def _keyed(file: BinaryIO, block: Block, index: bytes, wanted: Wanted | None) -> list[AnyRecord | None]:
    """None in place of each that is not wanted; nothing if none is."""
    may_name = None
    if wanted is not None:
        may_name = wanted.within(_index(index), is_crowded=block.is_crowded)
        if may_name is None:
            return []
    keyed = _part(file, block.keyed, block.end, block.keyed_sum)
    records: list[AnyRecord] = decoder.decode(zlib.decompress(keyed))
    if may_name is None:
        return [*records]
    return [_narrowed(one, may_name) if isinstance(one, Heard) else one for one in records]


def _narrowed(heard: Heard, may_name: MayName) -> Heard | None:
    bodies = [body for body in heard.bodies if may_name(body)]
    return Heard(heard.at, heard.number, bodies) if bodies else None


def _index(data: bytes) -> array[int]:
    found = array("I", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found
