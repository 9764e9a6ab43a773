"""What a VM sends when it goes on after a live migration: a gratuitous ARP, and for IPv6 an unsolicited advertisement.

As QEMU and a guest's network driver do it, so that the new host knows at once where the VM's addresses are.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable

from labs.namespace import Namespace

_ARP, _IPV6 = 0x0806, 0x86DD
_BROADCAST, _ALL_NODES_MAC = b"\xff" * 6, bytes.fromhex("333300000001")
_ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
_ICMPV6, _NEIGHBOR_ADVERTISEMENT, _OVERRIDE = 58, 136, 0x20000000


class Announcer:
    """A packet socket on an interface of a namespace, opened beforehand so that `send` takes no time."""

    def __init__(self, namespace: Namespace, interface: str, addresses: Iterable[str]) -> None:
        mac = bytes.fromhex(namespace.mac(interface).replace(":", ""))
        self._frames = [frame(mac, address) for address in addresses]
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._socket.bind((interface, 0))

    def send(self) -> None:
        """Tell all addresses, once."""
        for data in self._frames:
            self._socket.send(data)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def frame(mac: bytes, address: str) -> bytes:
    """The Ethernet frame that tells everybody that `mac` has `address` (RFC 5227 section 3, RFC 4861 section 7.2.6)."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, packed, bytes(6), packed)
        return _BROADCAST + mac + struct.pack("!H", _ARP) + arp
    body = struct.pack("!I", _OVERRIDE) + packed + b"\x02\x01" + mac
    length = 4 + len(body)
    pseudo = packed + _ALL_NODES + struct.pack("!II", length, _ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", _NEIGHBOR_ADVERTISEMENT, 0, 0) + body)
    header = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + packed + _ALL_NODES
    message = struct.pack("!BBH", _NEIGHBOR_ADVERTISEMENT, 0, checksum) + body
    return _ALL_NODES_MAC + mac + struct.pack("!H", _IPV6) + header + message


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
