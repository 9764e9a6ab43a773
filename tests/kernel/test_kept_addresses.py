"""Which addresses of a dump are given back, and how."""

from __future__ import annotations

import struct

from bgpd.kernel.link_messages import address_requests
from bgpd.kernel.netlink import MessageFlag, MessageKind, attribute, message, messages
from bgpd.model.prefix import parse_address

PERMANENT, TENTATIVE = 0x80, 0x40


def told(text: str, *, index: int, flags: int, kind: int = MessageKind.NEW_ADDRESS) -> bytes:
    """One address as the kernel dumps it."""
    payload = struct.pack("=BBBBI", 10, 64, flags, 0, index) + attribute(1, parse_address(text))
    return message(kind, 0, payload + attribute(8, struct.pack("=I", flags)))


def test_permanent_addresses_of_the_link_are_asked_for_as_they_were() -> None:
    one, two = told("2001:db8::1", index=5, flags=PERMANENT), told("fe80::7", index=5, flags=PERMANENT | TENTATIVE)
    others = (
        told("2001:db8::2", index=6, flags=PERMANENT)
        + told("2001:db8::3", index=5, flags=0)
        + told("2001:db8::4", index=5, flags=PERMANENT, kind=MessageKind.DEL_ADDRESS)
    )
    requests = address_requests([one + others, two], 5)
    assert [request[16:] for request in requests] == [one[16:], two[16:]]
    wanted = MessageFlag.REQUEST | MessageFlag.ACK | MessageFlag.CREATE | MessageFlag.EXCLUSIVE
    for request in requests:
        ((kind, flags, _sequence, _start, _end),) = messages(request)
        assert (kind, flags) == (MessageKind.NEW_ADDRESS, wanted)


def test_flags_are_those_of_the_header_where_the_kernel_gives_no_others() -> None:
    payload = struct.pack("=BBBBI", 10, 64, PERMANENT, 0, 5) + attribute(1, parse_address("2001:db8::1"))
    assert len(address_requests([message(MessageKind.NEW_ADDRESS, 0, payload)], 5)) == 1
