"""EVPN NLRI as route keys and overlays, and back (RFC 7432 section 7, RFC 9136 section 3.1, RFC 8365 section 5.1.3).

Decides which routes of an NLRI field are malformed: those cost themselves only (treat-as-withdraw, RFC 7606 section 2),
as long as the field can be split. Types 1, 3 and 4 are checked and kept, unknown types kept as they are. Never looks at
attributes. The layout of keys is model/evpn.py's.

Hot path: of routes of one type and length, whatever their route distinguishers, the columns that are in no key are
taken out, and the rest is cut into keys and labels. Routes with the same ESI and gateway IP are one group with one
`Overlay`, whatever their labels: where those differ each has its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

from bgpd.model.attributes import Attributes
from bgpd.model.communities import ROUTER_MAC
from bgpd.model.evpn import pack_labels, unpack_labels
from bgpd.model.iana import EvpnRouteType
from bgpd.model.route_batch import Overlay
from bgpd.model.wire import MalformedNlri, NlriRoutes, Reaction, RouteGroup, WireError

_MAC_IP: Final = int(EvpnRouteType.MAC_IP_ADVERTISEMENT)
_IP_PREFIX: Final = int(EvpnRouteType.IP_PREFIX)
_ESI_ZERO: Final = b"\0" * 10
_LABEL: Final = 3
"""Bytes of a label."""
_MAC_BITS: Final = 48
_IP_BITS: Final = {0: 0, 4: 32, 16: 128}
_MAC_IP_LENGTHS: Final = {33: (0, 3), 36: (0, 6), 37: (4, 3), 40: (4, 6), 49: (16, 3), 52: (16, 6)}
"""Length of a type 2 route: bytes of its IP address and of its labels."""
_PREFIX_LENGTHS: Final = {34: 4, 58: 16}
"""Length of a type 5 route: bytes of its prefix and gateway IP (RFC 9136 section 3.1)."""
_MAC_IP_LAYOUTS: Final = {
    length: struct.Struct(f"!2x8s10s4sB6sB{ip}s{labels}s") for length, (ip, labels) in _MAC_IP_LENGTHS.items()
}
_PREFIX_LAYOUTS: Final = {
    length: struct.Struct(f"!2x8s10s4sB{size}s{size}s3s") for length, size in _PREFIX_LENGTHS.items()
}
_ESI_AT: Final = 10
_TAG_AT: Final = 20
_TO_TAG: Final = 24
_TO_MAC: Final = 25
_IP_LENGTH_AT: Final = 31
"""Offsets in a type 2 or 5 route: of the ESI and the Ethernet Tag, and after that; of a type 2, where the MAC and the
length of the IP stand."""
_NOT_OF_PREFIX_KEYS: Final = (*range(_TAG_AT - 1, _ESI_AT - 1, -1), 1)
_NOT_OF_MAC_IP_KEYS: Final = (_IP_LENGTH_AT, _TO_TAG, *_NOT_OF_PREFIX_KEYS)
"""The bytes before the labels and the gateway IP that the key of a type 5 or 2 route lacks, the last first."""
_DISCOVERY_LAYOUT: Final = struct.Struct("!2x8s10s4s3s")
_DISCOVERY_LENGTH: Final = 25
_OVERLAYS_KEPT: Final = 4096

_Groups = list[RouteGroup]


class EvpnNlri:
    """The EVPN routes of all sessions; one instance, so that equal overlays of any session are mostly one object."""

    def __init__(self) -> None:
        self._overlays: dict[tuple[bytes, bytes, bytes], Overlay] = {}

    def decode(self, field: bytes) -> NlriRoutes:
        """Keys and overlays of the routes of an MP_REACH_NLRI or MP_UNREACH_NLRI field.

        Raises: MalformedNlri: a route is longer than the rest of the field.
        """
        alone = self._alone(field)
        if alone is not None:
            return NlriRoutes([alone], [], [])
        groups: _Groups = []
        malformed: list[bytes] = []
        errors: list[WireError] = []
        for kind, length, packed in _buckets(field):
            if kind == EvpnRouteType.MAC_IP_ADVERTISEMENT and length in _MAC_IP_LENGTHS:
                groups += self._alike_mac_ip_routes(packed, length) or self._mac_ip_routes(packed, length, errors)
            elif kind == EvpnRouteType.IP_PREFIX and length in _PREFIX_LENGTHS:
                groups += self._alike_prefix_routes(packed, length) or self._prefix_routes(
                    packed, length, malformed, errors
                )
            elif kind == EvpnRouteType.ETHERNET_AUTO_DISCOVERY and length == _DISCOVERY_LENGTH:
                groups += self._discovery_routes(packed)
            else:
                groups += _whole_routes(kind, length, packed, errors)
        return NlriRoutes(announced=groups, malformed=malformed, errors=errors)

    def why_unusable(self, kind: int, overlay: Overlay | None, attributes: Attributes) -> str:
        """Of a type 5 route: a Router's MAC that no router can have, or nothing that says where packets go
        (RFC 9136 section 3.2)."""
        if kind != EvpnRouteType.IP_PREFIX or overlay is None:
            return ""
        block, labels = attributes.block, overlay.labels
        is_led = not labels or labels[0] != 0 or overlay.gateway_ip != b"" or overlay.esi != _ESI_ZERO
        at = block.find(ROUTER_MAC)
        if is_led and (at < 0 or _is_only_mac(block, at + 2)):
            return ""
        packed = attributes.packed_extended_communities
        for at in range(0, len(packed), 8):
            if packed.startswith(ROUTER_MAC, at):
                mac, is_led = packed[at + 2 : at + 8], True
                if mac[0] & 1 or not any(mac):
                    return f"type 5 with the Router's MAC {mac.hex(':')}, which is no router's"
        return "" if is_led else "type 5 without ESI, gateway IP, Router's MAC or label"

    def encode(self, key: bytes, overlay: Overlay | None) -> bytes:
        """NLRI of a route. Without an overlay ESI, labels and gateway IP are zero, as a withdrawal may have them.

        A type 2 route carries the one or two labels of its overlay; a type 5 the first.
        """
        kind, rd, rest = key[0], key[1:9], key[9:]
        esi = overlay.esi if overlay is not None else _ESI_ZERO
        labels = overlay.labels if overlay is not None and overlay.labels else (0,)
        match kind:
            case EvpnRouteType.MAC_IP_ADVERTISEMENT:
                ip = rest[10:]
                value = b"".join(
                    (
                        rd,
                        esi,
                        rest[:4],
                        bytes((_MAC_BITS,)),
                        rest[4:10],
                        bytes((len(ip) * 8,)),
                        ip,
                        pack_labels(labels[:2]),
                    )
                )
            case EvpnRouteType.IP_PREFIX:
                prefix = rest[5:]
                gateway = overlay.gateway_ip if overlay is not None else b""
                value = b"".join((rd, esi, rest, gateway or bytes(len(prefix)), pack_labels(labels[:1])))
            case EvpnRouteType.ETHERNET_AUTO_DISCOVERY:
                value = rd + rest + pack_labels(labels[:1])
            case _:
                value = key[1:]
        return bytes((kind, len(value))) + value

    def _alone(self, field: bytes) -> RouteGroup | None:
        """The route of a field with one route of type 2 or a whole address of type 5, if nothing is wrong with it."""
        size = len(field)
        if size < _TO_MAC or size != 2 + field[1]:
            return None
        kind, last = field[0], field[_TO_TAG]
        if kind == _MAC_IP:
            sizes = _MAC_IP_LENGTHS.get(field[1])
            if sizes is None or last != _MAC_BITS or field[_IP_LENGTH_AT] != 8 * sizes[0]:
                return None
            end = _IP_LENGTH_AT + 1 + sizes[0]
            key = b"\x02" + field[2:10] + field[20:24] + field[_TO_MAC:_IP_LENGTH_AT] + field[_IP_LENGTH_AT + 1 : end]
            return RouteGroup([key], self._overlay(field[10:20], field[end:], b""))
        if kind == _IP_PREFIX:
            length = _PREFIX_LENGTHS.get(field[1])
            if length is None or last != 8 * length:
                return None
            end = _TO_MAC + length
            gateway = field[end:-_LABEL]
            if not any(gateway):
                gateway = b""
            elif any(field[10:20]):
                return None
            key = b"\x05" + field[2:10] + field[20:end]
            return RouteGroup([key], self._overlay(field[10:20], field[-_LABEL:], gateway))
        return None

    def _alike_mac_ip_routes(self, packed: bytes, length: int) -> _Groups:
        """Routes of one ESI, with nothing wrong, as those of any number of hosts and VNIs are; [] if they are not."""
        size, own = _MAC_IP_LENGTHS[length]
        stride = length + 2
        count = len(packed) // stride
        if packed[_TO_TAG::stride] != bytes((_MAC_BITS,)) * count or not _is_constant(packed, _ESI_AT, _TAG_AT, stride):
            return []
        if packed[_IP_LENGTH_AT::stride] != bytes((_IP_BITS[size],)) * count:
            return []
        rows = _without(packed, stride, _NOT_OF_MAC_IP_KEYS)
        return self._alike(rows, count, key=19 + size, label=own, esi=packed[_ESI_AT:_TAG_AT], gateway=b"")

    def _mac_ip_routes(self, packed: bytes, length: int, errors: list[WireError]) -> _Groups:
        ip_bits = _IP_BITS[_MAC_IP_LENGTHS[length][0]]
        rds, esis, tags, mac_bits, macs, ips_bits, ips, labels = zip(*_MAC_IP_LAYOUTS[length].iter_unpack(packed))
        if set(mac_bits) != {_MAC_BITS} or set(ips_bits) != {ip_bits}:
            sound = []
            for mac_length, ip_length, *row in zip(mac_bits, ips_bits, rds, esis, tags, macs, ips, labels):
                if (mac_length, ip_length) == (_MAC_BITS, ip_bits):
                    sound.append(row)
                else:
                    message = f"type 2 of {length} bytes: MAC length {mac_length}, IP length {ip_length} bits"
                    errors.append(_one_route(message, _SECTIONS[2]))
            if not sound:
                return []
            rds, esis, tags, macs, ips, labels = zip(*sound)
        keys = list(map(b"".join, zip(repeat(b"\x02"), rds, tags, macs, ips)))
        return self._grouped(keys, esis, labels, (b"",) * len(keys))

    def _alike_prefix_routes(self, packed: bytes, length: int) -> _Groups:
        """Prefixes of one ESI and gateway IP, with nothing wrong and no host bits, of any number of hosts and VNIs; []
        if they are not."""
        size, stride = _PREFIX_LENGTHS[length], length + 2
        count, end = len(packed) // stride, _TO_MAC + size
        lengths, esi, gateway = packed[_TO_TAG::stride], packed[_ESI_AT:_TAG_AT], packed[end : end + size]
        if not _is_constant(packed, _ESI_AT, _TAG_AT, stride) or not _is_constant(packed, end, end + size, stride):
            return []
        if not any(gateway):
            gateway = b""
        elif any(esi):
            return []
        rows = _without(packed, stride, _NOT_OF_PREFIX_KEYS)
        width = len(rows) // count
        if lengths.count(size * 8) != count:
            if max(lengths) > size * 8:
                return []
            spare = {one: ((1 << size * 8 - one) - 1).to_bytes(14 + size, "big") for one in set(lengths)}
            masks = b"".join([spare[one].ljust(width, b"\0") for one in lengths])
            if int.from_bytes(rows, "big") & int.from_bytes(masks, "big"):
                return []
        return self._alike(rows, count, key=14 + size, label=_LABEL, esi=esi, gateway=gateway)

    def _alike(self, rows: bytes, count: int, *, key: int, label: int, esi: bytes, gateway: bytes) -> _Groups:
        """The group of so many rows, each of which begins with a key of so many bytes and ends with a label."""
        width = len(rows) // count
        keys = [rows[at : at + key] for at in range(0, len(rows), width)]
        if _is_constant(rows, width - label, width, width):
            return [RouteGroup(keys, self._overlay(esi, rows[width - label : width], gateway))]
        labels = [rows[at - label : at] for at in range(width, len(rows) + 1, width)]
        if keys[0][0] == _IP_PREFIX and bytes(_LABEL) in labels:
            return []
        return [RouteGroup(keys, self._overlay(esi, b"", gateway), labels)]

    def _prefix_routes(self, packed: bytes, length: int, malformed: list[bytes], errors: list[WireError]) -> _Groups:
        size = _PREFIX_LENGTHS[length]
        no_gateway = bytes(size)
        rds, esis, tags, lengths, prefixes, gateways, labels = zip(*_PREFIX_LAYOUTS[length].iter_unpack(packed))
        keys = list(map(b"".join, zip(repeat(b"\x05"), rds, tags, _masked(lengths, prefixes, size))))
        gateways = tuple(b"" if one == no_gateway else one for one in gateways)
        if max(lengths) > size * 8 or (set(esis) != {_ESI_ZERO} and any(gateways)):
            sound = []
            for key, row in zip(keys, zip(lengths, esis, labels, gateways)):
                error = _wrong_with_prefix(row[0], size * 8, has_both=row[1] != _ESI_ZERO and bool(row[3]))
                if error is None:
                    sound.append((key, *row[1:]))
                    continue
                errors.append(error)
                if row[0] <= size * 8:
                    malformed.append(key)
            if not sound:
                return []
            good, esis, labels, gateways = zip(*sound)
            keys = list(good)
        return self._grouped(keys, esis, labels, gateways)

    def _discovery_routes(self, packed: bytes) -> _Groups:
        rds, esis, tags, labels = zip(*_DISCOVERY_LAYOUT.iter_unpack(packed))
        keys = list(map(b"".join, zip(repeat(b"\x01"), rds, esis, tags)))
        return self._grouped(keys, esis, labels, (b"",) * len(keys))

    def _grouped(
        self, keys: list[bytes], esis: Sequence[bytes], labels: Sequence[bytes], gateways: Sequence[bytes]
    ) -> _Groups:
        """The routes by ESI, gateway IP, and whether there is a label but 0, which is none."""
        fields = list(zip(esis, gateways, map(any, labels)))
        if fields.count(fields[0]) == len(fields):
            return [self._group(esis[0], gateways[0], keys, labels)]
        by_field: dict[tuple[bytes, bytes, bool], tuple[list[bytes], list[bytes]]] = {}
        for key, (field, label) in dict(zip(keys, zip(fields, labels))).items():
            chosen, own = by_field.setdefault(field, ([], []))
            chosen.append(key)
            own.append(label)
        return [self._group(esi, gateway, *rows) for (esi, gateway, _), rows in by_field.items()]

    def _group(self, esi: bytes, gateway: bytes, keys: list[bytes], labels: Sequence[bytes]) -> RouteGroup:
        if labels.count(labels[0]) == len(labels):
            return RouteGroup(keys, self._overlay(esi, labels[0], gateway))
        return RouteGroup(keys, self._overlay(esi, b"", gateway), labels)

    def _overlay(self, esi: bytes, labels: bytes, gateway: bytes) -> Overlay:
        """`labels` as in the NLRI; b"": each route has its own."""
        field = esi, labels, gateway
        overlay = self._overlays.get(field)
        if overlay is None:
            if len(self._overlays) >= _OVERLAYS_KEPT:
                self._overlays.clear()
            overlay = self._overlays[field] = Overlay(esi, unpack_labels(labels), gateway)
        return overlay


def _is_only_mac(block: bytes, at: int) -> bool:
    """Whether there is a router's MAC, whatever it is part of, and nothing that looks like a community with another."""
    return at + 6 <= len(block) and not block[at] & 1 and any(block[at : at + 6]) and block.find(ROUTER_MAC, at) < 0


def _without(packed: bytes, stride: int, columns: Sequence[int]) -> bytes:
    """Rows of `stride` bytes without these columns, which are in descending order."""
    rows = bytearray(packed)
    for at in columns:
        del rows[at::stride]
        stride -= 1
    return bytes(rows)


def _is_constant(packed: bytes, start: int, end: int, stride: int) -> bool:
    """Whether the bytes from `start` to `end` are the same in all routes of `stride` bytes."""
    for at in range(start, end):
        column = packed[at::stride]
        if column != column[:1] * len(column):
            return False
    return True


def _buckets(field: bytes) -> list[tuple[int, int, bytes]]:
    """The routes by type and length: (type, length, the routes with their two-byte heads, joined)."""
    if len(field) < 2:
        raise MalformedNlri(f"{len(field)} bytes, too few for an EVPN route")
    stride = 2 + field[1]
    count, rest = divmod(len(field), stride)
    if not rest and field[::stride] == field[:1] * count and field[1::stride] == field[1:2] * count:
        return [(field[0], field[1], field)]
    buckets: dict[bytes, list[bytes]] = {}
    offset, end = 0, len(field)
    while offset < end:
        head = field[offset : offset + 2]
        stop = offset + 2 + head[-1]
        if stop > end or len(head) < 2:
            raise MalformedNlri(
                f"the EVPN route at byte {offset} is longer than the {end - offset} bytes that are left"
            )
        buckets.setdefault(head, []).append(field[offset:stop])
        offset = stop
    return [(head[0], head[1], b"".join(routes)) for head, routes in buckets.items()]


def _masked(lengths: Sequence[int], prefixes: Sequence[bytes], size: int) -> Iterable[bytes]:
    """Prefix length byte and prefix with its host bits zeroed, of each route."""
    masks = {length: ~((1 << max(size * 8 - length, 0)) - 1) for length in set(lengths)}
    heads = {length: bytes((length,)) for length in masks}
    for length, prefix in zip(lengths, prefixes):
        number = int.from_bytes(prefix)
        masked = number & masks[length]
        yield heads[length] + (prefix if masked == number else masked.to_bytes(size, "big"))


def _whole_routes(kind: int, length: int, packed: bytes, errors: list[WireError]) -> _Groups:
    """Routes that are kept as they are, if they are well-formed; all have one type and length."""
    stride, head = length + 2, bytes((kind,))
    keys = [head + packed[offset + 2 : offset + stride] for offset in range(0, len(packed), stride)]
    if kind in _SECTIONS:
        wrong = {key: reason for key in dict.fromkeys(keys) if (reason := _wrong_with(kind, key[1:]))}
        if wrong:
            keys = [key for key in keys if key not in wrong]
        errors += [
            _one_route(f"type {kind} of {length} bytes: {reason}", _SECTIONS[kind])
            for reason in dict.fromkeys(wrong.values())
        ]
    return [RouteGroup(keys)] if keys else []


_SECTIONS: Final = {
    1: "RFC 7432 section 7.1",
    2: "RFC 7432 section 7.2",
    3: "RFC 7432 section 7.3",
    4: "RFC 7432 section 7.4",
    5: "RFC 9136 section 3.1",
}
_ORIGINATOR_AT: Final = {EvpnRouteType.INCLUSIVE_MULTICAST: 12, EvpnRouteType.ETHERNET_SEGMENT: 18}
"""Where the length of the originating router's address stands in types 3 and 4."""


def _wrong_with(kind: int, value: bytes) -> str:
    """What is wrong with a route that is not of a regular type 1, 2 or 5 length; "" if nothing."""
    if kind in (
        EvpnRouteType.ETHERNET_AUTO_DISCOVERY,
        EvpnRouteType.MAC_IP_ADVERTISEMENT,
        EvpnRouteType.IP_PREFIX,
    ):
        return "no length of this type"
    at = _ORIGINATOR_AT.get(EvpnRouteType(kind)) if kind in _SECTIONS else None
    if at is None:
        return ""
    if len(value) <= at:
        return "too short"
    address = len(value) - at - 1
    if address not in (4, 16) or value[at] != address * 8:
        return f"IP length {value[at]} bits with {address} bytes"
    return ""


def _wrong_with_prefix(prefix_length: int, longest: int, *, has_both: bool) -> WireError | None:
    """What is wrong with one type 5 route; `has_both`: it names an ESI and a gateway IP."""
    if prefix_length > longest:
        return _one_route(f"type 5 prefix length {prefix_length} is over {longest}", _SECTIONS[5])
    if has_both:
        return _one_route("type 5 with both an ESI and a gateway IP", "RFC 9136 section 3.2")
    return None


def _one_route(message: str, section: str) -> WireError:
    return WireError(Reaction.TREAT_AS_WITHDRAW, message, section, "MP_REACH_NLRI", 9, one_route=True)
