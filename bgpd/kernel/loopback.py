"""The host's loopback: the addresses that are this host's own whatever its uplinks do. One answer for all who ask.

`loopback_of` chooses among addresses that the caller knows, `read_loopback` asks the kernel for the time before the
event loop runs. Whoever follows the kernel asks `Host.loopback`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

import msgspec

from bgpd.kernel.link_messages import encode_dump_request, read_address, read_link
from bgpd.kernel.netlink import DumpInterrupted, MessageKind, dump, messages, open_socket
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link
from bgpd.model.martians import martians
from bgpd.model.prefix import covers, family_of, host_key

_LOOPBACK = "lo"
_DUMMY_KIND = "dummy"
_DUMMY_NAMES = ("dummy", "lo")
"""What names of dummy interfaces begin with. Others bear addresses of others: kube-ipvs0 those of services."""
_TRIES = 20
_RECEIVE_BYTES = 4 << 20


Within = Sequence[tuple[Family, bytes]]
"""Prefixes: family and route key."""


class Loopback(msgspec.Struct, frozen=True, kw_only=True):
    """The host's loopback address of each family, packed; b"" where there is none."""

    ipv4: bytes = b""
    ipv6: bytes = b""


def may_be_loopback(link: Link) -> bool:
    """Whether an interface is one that loopback addresses stand on: lo, or a dummy interface named like one."""
    is_dummy = link.kind == _DUMMY_KIND and link.name.startswith(_DUMMY_NAMES)
    return not link.vrf and (link.name == _LOOPBACK or is_dummy)


def loopback_of(links: Iterable[Link], addresses: Iterable[Address], within: Within = ()) -> Loopback:
    """The loopback addresses among `addresses`: of lo, else of dummy interfaces; of several the lowest.

    That is the same after a reboot, in whatever order they are added. `within` are prefixes of which one must have the
    address, where there are any of its family. None are martians (127.0.0.0/8, link-local, multicast, ...), nor
    addresses that are not to be chosen: tentative or deprecated (preferred lifetime 0).
    """
    names = {link.index: link.name for link in links if may_be_loopback(link)}
    found: dict[int, tuple[bool, bytes]] = {}
    for address in addresses:
        name = names.get(address.index, "")
        if not name or not _is_choosable(address, within):
            continue
        rank = (name != _LOOPBACK, address.packed)
        size = len(address.packed)
        found[size] = min(found.get(size, rank), rank)
    none = (False, b"")
    return Loopback(ipv4=found.get(4, none)[1], ipv6=found.get(16, none)[1])


def read_loopback(within: Within = ()) -> Loopback:
    """The loopback addresses of this network namespace, read at once. Raises: OSError: the kernel gives no answer."""
    with open_socket(receive_bytes=_RECEIVE_BYTES) as opened:
        opened.settimeout(30)
        for _ in range(_TRIES):
            try:
                links = [
                    read_link(data, start, end, _vrf_of_index)
                    for data in dump(opened, encode_dump_request(MessageKind.GET_LINK))
                    for kind, _flags, _sequence, start, end in messages(data)
                    if kind == MessageKind.NEW_LINK
                ]
                addresses = [
                    read_address(data, start, end)
                    for data in dump(opened, encode_dump_request(MessageKind.GET_ADDRESS))
                    for kind, _flags, _sequence, start, end in messages(data)
                    if kind == MessageKind.NEW_ADDRESS
                ]
            except DumpInterrupted:
                continue
            return loopback_of(links, addresses, within)
    raise OSError(errno.EBUSY, f"the addresses of this host changed during each of {_TRIES} dumps")


def _vrf_of_index(index: int) -> str:
    """A VRF device's name does not matter here, only that there is one."""
    return str(index)


def _is_choosable(address: Address, within: Within) -> bool:
    if not address.usable or address.deprecated:
        return False
    key = host_key(address.packed)
    family = family_of(address.packed)
    if martians(family, [key]):
        return False
    prefixes = [prefix for of, prefix in within if of is family]
    return not prefixes or any(covers(prefix, key) for prefix in prefixes)
