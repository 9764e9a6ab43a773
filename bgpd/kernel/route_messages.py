"""Route messages in bulk: thousands of RTM_NEWROUTE or RTM_DELROUTE from one template in a few C calls.

A template is one message for (family, prefix length, target) in a table.
The batch is the template repeated, with the keys' address bytes written over it by strided slices. A *target* is one
integer, so that a route costs no object: a nexthop group's id (positive), a negated interface index (directly
attached), or BLACKHOLE. route_decoder.py decodes what the kernel sends. Decides nothing, sends nothing.
"""

from __future__ import annotations

import errno
import functools
import operator
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from bgpd.kernel.netlink import ATTRIBUTE, U32, KernelError, MessageFlag, MessageKind, attribute, attributes, message
from bgpd.model.iana import Family

BLACKHOLE = 0
"""Target of a route that drops."""
UNKNOWN = -(1 << 40)
"""Target of a route of ours in a form that bgpd never writes; equal to no desired one, so it is rewritten."""
LAST_RESORT_METRIC = 4278198272
"""Metric of the unreachable default at the end of a VRF's table, which is not one of the routes kept here."""

RTMSG = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
RTNEXTHOP = struct.Struct("=HBBi")
"""rtnexthop: length, flags, weight less one, interface index."""
ROUTE_HEAD = 16 + RTMSG.size
"""Where a route message's attributes begin."""
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_PREFSRC = 7
RTA_MULTIPATH = 9
RTA_TABLE = 15
RTA_NH_ID = 30
RTN_UNICAST = 1
RTN_BLACKHOLE = 6
RTN_UNREACHABLE = 7
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_SCOPE_NOWHERE = 255
_FLAGS = struct.Struct("=H")
_FEW = 32
"""Keys of several prefix lengths up to which one by one costs less than slices over those of each length."""
_LENGTH = operator.itemgetter(0)
_LENGTH_AT = 17
_DST_AT = ROUTE_HEAD + ATTRIBUTE.size


class RouteForm(msgspec.Struct, frozen=True, cache_hash=True):
    """What all routes of one table share: kernel table, protocol and metric, which stand in deletes too."""

    table: int
    protocol: int
    metric: int


def encode_adds(
    family: Family, keys: Sequence[bytes], target: int, form: RouteForm, *, append: bool = False, source: bytes = b""
) -> bytes:
    """RTM_NEWROUTE for each key, all by one target; any order and mix of prefix lengths.

    `source` (packed): the address that this host's own packets are sent from by these routes, b"" for none.

    Never NLM_F_REPLACE, which takes the place of any program's route of the prefix and metric. The kernel refuses with
    EEXIST where such a route is; `append` puts the new one behind it, and is refused only where an equal one is.
    """
    return _encode_all(keys, lambda length: _add_template(family, length, target, form, append, source))


def encode_deletes(family: Family, keys: Sequence[bytes], form: RouteForm, target: int | None = None) -> bytes:
    """RTM_DELROUTE for each key, in descending order: ascending ones are quadratic in the kernel's IPv4 trie.

    Of several routes of ours the first goes, or with `target` the one by it.
    """
    return _encode_all(sorted(keys, reverse=True), lambda length: _delete_template(family, length, form, target))


def encode_last_resort(family: Family, table: int, protocol: int, *, gone: bool = False, sequence: int = 0) -> bytes:
    """The unreachable default of a VRF's table: without it a lookup would continue with the next policy rule.

    Refused with EEXIST where one is, whosever; with ESRCH if `gone` and there is none of this protocol.
    """
    number = socket.AF_INET if family is Family.IPV4_UNICAST else socket.AF_INET6
    payload = RTMSG.pack(number, 0, 0, 0, 0, protocol, _RT_SCOPE_UNIVERSE, RTN_UNREACHABLE, 0)
    payload += attribute(RTA_TABLE, U32.pack(table)) + attribute(RTA_PRIORITY, U32.pack(LAST_RESORT_METRIC))
    if gone:
        return message(MessageKind.DEL_ROUTE, MessageFlag.REQUEST, payload, sequence=sequence)
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.EXCLUSIVE
    return message(MessageKind.NEW_ROUTE, flags, payload, sequence=sequence)


def is_there_already(request: bytes, error: KernelError) -> bool:
    """Whether a refused route message asked for a route that the kernel has, as bgpd's own.

    IPv6 compares without the protocol; a nexthop group of bgpd's is in no other program's route.
    """
    (flags,) = _FLAGS.unpack_from(request, 6)
    if error.code != errno.EEXIST or not flags & MessageFlag.APPEND:
        return False
    return request[16] == socket.AF_INET or RTA_NH_ID in attributes(request, ROUTE_HEAD, len(request))


def read_key(request: bytes) -> tuple[Family, bytes]:
    """Family and key of a route message, such as the one that an error carries back."""
    family_number, length = request[16], request[17]
    family = Family.IPV4_UNICAST if family_number == socket.AF_INET else Family.IPV6_UNICAST
    address = attributes(request, ROUTE_HEAD, len(request)).get(RTA_DST, b"")
    return family, bytes((length,)) + address[: (length + 7) >> 3]


def _encode_all(keys: Sequence[bytes], template_of: Callable[[int], bytes]) -> bytes:
    """Each key in the template of its prefix length: those of one length together, unless they are few."""
    lengths = set(map(_LENGTH, keys))
    if len(lengths) == 1 and len(keys) > 2:
        return bytes(_encode(template_of(keys[0][0]), keys))
    templates = {length: template_of(length) for length in lengths}
    if len(keys) <= _FEW:
        return b"".join([_encode_one(templates[key[0]], key) for key in keys])
    buckets: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in keys:
        buckets[key[0]].append(key)
    return b"".join([_encode(templates[length], run) for length, run in buckets.items()])


def _encode_one(template: bytes, key: bytes) -> bytes:
    return template[:_DST_AT] + key[1:] + template[_DST_AT + len(key) - 1 :]


def _encode(template: bytes, keys: Sequence[bytes]) -> bytearray:
    """The template once per key; its prefix length says how many address bytes each key has."""
    size, stride = len(template), len(keys[0])
    batch = bytearray(template * len(keys))
    joined = b"".join(keys)
    for index in range(1, stride):
        batch[_DST_AT + index - 1 :: size] = joined[index::stride]
    return batch


def encode_route_dump_request(family: Family, *, table: int = 0, protocol: int = 0, interface: int = 0) -> bytes:
    """Ask for routes of a table, of a protocol, by an interface, 0 meaning any (needs a strict socket)."""
    number = socket.AF_INET if family is Family.IPV4_UNICAST else socket.AF_INET6
    payload = RTMSG.pack(number, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        payload += attribute(RTA_TABLE, U32.pack(table))
    if interface:
        payload += attribute(RTA_OIF, U32.pack(interface))
    return message(MessageKind.GET_ROUTE, MessageFlag.REQUEST | MessageFlag.DUMP, payload)


@functools.lru_cache(maxsize=4096)
def _add_template(family: Family, length: int, target: int, form: RouteForm, append: bool, source: bytes) -> bytes:
    how = MessageFlag.APPEND if append else MessageFlag.EXCLUSIVE
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | how
    scope = _RT_SCOPE_LINK if target < 0 and family is Family.IPV4_UNICAST else _RT_SCOPE_UNIVERSE
    kind = RTN_BLACKHOLE if target == BLACKHOLE else RTN_UNICAST
    prototype = _prototype(MessageKind.NEW_ROUTE, flags, family, form, scope, kind, _way(target), source)
    return _patched(prototype, length, target)


@functools.lru_cache(maxsize=4096)
def _delete_template(family: Family, length: int, form: RouteForm, target: int | None) -> bytes:
    kind = RTN_BLACKHOLE if target == BLACKHOLE else 0
    by = BLACKHOLE if target is None or target == UNKNOWN else target
    flags = MessageFlag.REQUEST
    prototype = _prototype(MessageKind.DEL_ROUTE, flags, family, form, _RT_SCOPE_NOWHERE, kind, _way(by), b"")
    return _patched(prototype, length, by)


def _way(target: int) -> int:
    """The attribute that names a target; 0: none does."""
    return RTA_NH_ID if target > 0 else RTA_OIF if target < 0 else 0


def _patched(prototype: bytes, length: int, target: int) -> bytes:
    template = prototype[:_LENGTH_AT] + bytes((length,)) + prototype[_LENGTH_AT + 1 :]
    return template[:-4] + U32.pack(abs(target)) if target else template


@functools.lru_cache(maxsize=256)
def _prototype(
    kind: int, flags: int, family: Family, form: RouteForm, scope: int, route_type: int, way: int, source: bytes
) -> bytes:
    """A message of prefix length 0. Ends with RTA_NH_ID or RTA_OIF (`way`) set to 0, if the form has one."""
    number, size = (socket.AF_INET, 4) if family is Family.IPV4_UNICAST else (socket.AF_INET6, 16)
    table = form.table if form.table < 256 else 0
    payload = RTMSG.pack(number, 0, 0, 0, table, form.protocol, scope, route_type, 0)
    payload += attribute(RTA_DST, bytes(size))
    payload += attribute(RTA_TABLE, U32.pack(form.table)) + attribute(RTA_PRIORITY, U32.pack(form.metric))
    if source:
        payload += attribute(RTA_PREFSRC, source)
    if way:
        payload += attribute(way, U32.pack(0))
    return message(kind, flags, payload)
