"""IPv6 addresses of an interface that is taken down for a moment: what the kernel drops then is given back.

Putting an interface into a VRF device takes it down, and by default its IPv6 addresses go, and static link-local ones
in any case. The setting `keep_addr_on_down` is out of reach of a service that may not write kernel settings; addresses
are not. Given back as they were, but for those with a lifetime, which come again by themselves.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from bgpd.fib.kernel_codec import encode_dump_request
from bgpd.fib.kernel_requests import KernelRequests
from bgpd.fib.netlink import U32, MessageFlag, MessageKind, attributes, message, messages

log = structlog.get_logger()

_IFADDRMSG = struct.Struct("=BBBBI")
_IFA_FLAGS = 8
_PERMANENT = 0x80
_CREATE = MessageFlag.REQUEST | MessageFlag.ACK | MessageFlag.CREATE | MessageFlag.EXCLUSIVE


@asynccontextmanager
async def addresses_kept(requests: KernelRequests, index: int) -> AsyncIterator[None]:
    """After the block the link of this index has the permanent IPv6 addresses that it had before."""
    dump = await requests.dump(encode_dump_request(MessageKind.GET_ADDRESS, socket.AF_INET6))
    wanted = address_requests(dump, index)
    yield
    for request in wanted:
        error = await requests.send(request)
        if error is not None and error.code != errno.EEXIST:
            log.warning("vrf.address_lost", index=index, error=str(error))


def address_requests(dump: Iterable[bytes], index: int) -> list[bytes]:
    """What gives a link the permanent addresses again that a dump shows."""
    found = []
    for data in dump:
        for kind, _flags, _sequence, start, end in messages(data):
            if kind != MessageKind.NEW_ADDRESS:
                continue
            _family, _length, flags, _scope, link = _IFADDRMSG.unpack_from(data, start)
            more = attributes(data, start + _IFADDRMSG.size, end).get(_IFA_FLAGS)
            if link == index and (U32.unpack(more)[0] if more else flags) & _PERMANENT:
                found.append(message(MessageKind.NEW_ADDRESS, _CREATE, data[start:end]))
    return found
