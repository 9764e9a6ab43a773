"""ExaBGP as an in-process codec: the only module that imports it (docs/decisions/0001-exabgp-in-process.md).

Decides how OPEN, NOTIFICATION, ROUTE-REFRESH and KEEPALIVE look on the wire. The library's objects are seen only here
and in exabgp_update.py, and none of its session, configuration or RIB classes are used. RFC 4271 section 4, RFC 9072.

The library is loaded at the first use. It reads the environment, asks the DNS for the host's name and fills a cache
with every AS number that it meets; `load` keeps it from all three.
"""

from __future__ import annotations

import functools
import importlib
import os
import struct
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec

from bgpd.message.open import GracefulRestart, LongLived, Open
from bgpd.model.iana import CapabilityCode, ErrorCode, HeaderSubcode, MessageType, OpenSubcode
from bgpd.model.wire import NotificationError

SUPPORTED_VERSION = "5.0."
"""The library has no stable API: byte-vector tests gate every change of this."""

MARKER = b"\xff" * 16
HEADER_LENGTH = 19
KEEPALIVE = MARKER + b"\x00\x13\x04"
"""The whole KEEPALIVE message (RFC 4271 section 4.4)."""

_INFORMATIONAL = frozenset((CapabilityCode.FQDN, CapabilityCode.SOFTWARE_VERSION))
"""Capabilities that only people read: a malformed one is ignored rather than refusing the session."""
_EXTENDED_PARAMETERS = 255
_EXTENDED_HEAD = 4
_MULTISESSION = frozenset((0x44, 0x83))


class Notification(msgspec.Struct, frozen=True):
    """A NOTIFICATION message (RFC 4271 section 4.5)."""

    code: int
    subcode: int
    data: bytes = b""


class RouteRefresh(msgspec.Struct, frozen=True):
    """A ROUTE-REFRESH message. `subtype`: 0 request, 1 begin, 2 end of refresh (RFC 2918, RFC 7313)."""

    afi: int
    safi: int
    subtype: int = 0


def encode_message(kind: MessageType, body: bytes) -> bytes:
    """A whole message: marker, length, type and body (RFC 4271 section 4.1)."""
    return MARKER + struct.pack("!HB", HEADER_LENGTH + len(body), kind) + body


def encode_open(message: Open) -> bytes:
    """The whole OPEN message; capabilities that need more than 255 bytes go out as RFC 9072 says."""
    exa = load()
    capabilities = exa.Capabilities()
    for code, capability in _capabilities_of(message, exa):
        capabilities[code] = capability
    router_id = ".".join(map(str, message.router_id))
    encoded: bytes = exa.Open(
        exa.Version(message.version),
        exa.ASN(message.asn),
        exa.HoldTime(message.hold_time_s),
        exa.RouterID(router_id),
        capabilities,
    ).message()
    return encoded


def decode_open(body: bytes) -> Open:
    """An OPEN message without its header. Says what it holds; whether it is acceptable is open.check_open's.

    Raises: NotificationError: version, My AS of 0 (RFC 7607), lengths, an unknown optional parameter, a malformed
    capability.
    """
    if len(body) < 10:
        raise bad_length(HEADER_LENGTH + len(body), "an OPEN has at least 29 bytes")
    version, asn, hold_time_s, router_id = struct.unpack_from("!BHH4s", body)
    if version != 4:
        raise NotificationError(
            ErrorCode.OPEN_MESSAGE,
            OpenSubcode.UNSUPPORTED_VERSION,
            b"\x00\x04",
            message=f"BGP version {version}, only 4 is spoken",
        )
    if not asn:
        raise NotificationError(
            ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_PEER_AS, message="AS 0 is reserved and cannot be a peer's"
        )
    received = _split_parameters(body[9:])
    parsed = _parse_capabilities(received)
    return _open_from(parsed, received, asn=asn, hold_time_s=hold_time_s, router_id=router_id)


def encode_notification(code: int, subcode: int, data: bytes = b"") -> bytes:
    """The whole NOTIFICATION message."""
    return encode_message(MessageType.NOTIFICATION, bytes((code, subcode)) + data)


def decode_notification(body: bytes) -> Notification:
    """A NOTIFICATION without its header; a body too short for a code is code 0 (it is never answered, RFC 4271 6.4)."""
    padded = body.ljust(2, b"\0")
    return Notification(padded[0], padded[1], body[2:])


def encode_route_refresh(afi: int, safi: int, subtype: int = 0) -> bytes:
    """The whole ROUTE-REFRESH message."""
    exa = load()
    encoded: bytes = exa.RouteRefresh(afi, safi, subtype).message()
    return encoded


def decode_route_refresh(body: bytes) -> RouteRefresh:
    """A ROUTE-REFRESH without its header. An ORF part (RFC 5291) is ignored, since bgpd never offers ORF.

    Raises: NotificationError: too short, or the wrong length for a begin or end marker (RFC 7313 section 5).
    """
    if len(body) < 4:
        raise bad_length(HEADER_LENGTH + len(body), "a ROUTE-REFRESH has at least 23 bytes")
    afi, subtype, safi = struct.unpack_from("!HBB", body)
    if subtype in (1, 2) and len(body) != 4:
        raise NotificationError(
            ErrorCode.ROUTE_REFRESH_MESSAGE, 1, encode_message(MessageType.ROUTE_REFRESH, body), message="wrong length"
        )
    return RouteRefresh(afi, safi, subtype)


def bad_length(length: int, why: str) -> NotificationError:
    """The Bad Message Length error; its data are the erroneous Length field (RFC 4271 section 6.1)."""
    return NotificationError(
        ErrorCode.MESSAGE_HEADER,
        HeaderSubcode.BAD_MESSAGE_LENGTH,
        struct.pack("!H", min(length, 0xFFFF)),
        message=f"message length {length}: {why}",
    )


def _malformed_open(message: str, subcode: OpenSubcode = OpenSubcode.UNSPECIFIC) -> NotificationError:
    return NotificationError(ErrorCode.OPEN_MESSAGE, subcode, message=message)


def _split_parameters(field: bytes) -> tuple[tuple[int, bytes], ...]:
    """Capability codes and values of the Optional Parameters, from the length byte on (RFC 5492).

    Whatever that length is, if it is not 0, a first parameter of type 255 means the extended form (RFC 9072 section 2).
    """
    if field[0] and field[1:2] == bytes((_EXTENDED_PARAMETERS,)):
        if len(field) < _EXTENDED_HEAD:
            raise _malformed_open(f"the extended form of optional parameters ends after {len(field)} bytes")
        width, start, length = 2, _EXTENDED_HEAD, int.from_bytes(field[2:_EXTENDED_HEAD])
    else:
        width, start, length = 1, 1, field[0]
    parameters = field[start:]
    if len(parameters) != length:
        raise _malformed_open(f"optional parameters length is {length}, but {len(parameters)} bytes follow")
    capabilities: list[tuple[int, bytes]] = []
    for kind, value in _split_fields(parameters, width, "optional parameter"):
        if kind != 2:
            raise _malformed_open(f"optional parameter {kind}", OpenSubcode.UNSUPPORTED_OPTIONAL_PARAMETER)
        capabilities += _split_fields(value, 1, "capability")
    return tuple(capabilities)


def _split_fields(data: bytes, width: int, what: str) -> list[tuple[int, bytes]]:
    """Type-length-value fields whose length has `width` bytes."""
    fields = []
    offset = 0
    while offset < len(data):
        start = offset + 1 + width
        end = start + int.from_bytes(data[offset + 1 : start])
        if start > len(data) or end > len(data):
            raise _malformed_open(f"{what} {data[offset]} overruns its enclosing field")
        fields.append((data[offset], data[start:end]))
        offset = end
    return fields


def _parse_capabilities(received: tuple[tuple[int, bytes], ...]) -> dict[int, Any]:
    """The library's capability objects by code. It merges several of one code; of Graceful Restart the last one counts
    alone (RFC 4724 section 3)."""
    exa = load()
    parsed: dict[int, Any] = {}
    for code, value in received:
        if code in _MULTISESSION:
            continue
        try:
            before = {} if code == CapabilityCode.GRACEFUL_RESTART else parsed
            parsed[code] = exa.Capability.unpack(code, before, value)
        except exa.Notify as error:
            if code not in _INFORMATIONAL:
                text = error.data.decode("utf-8", "replace")
                raise _malformed_open(f"capability {code}: {text}") from None
    return parsed


def _open_from(
    parsed: dict[int, Any], received: tuple[tuple[int, bytes], ...], *, asn: int, hold_time_s: int, router_id: bytes
) -> Open:
    codes = dict(received)
    four_octet = parsed.get(CapabilityCode.FOUR_OCTET_AS)
    fqdn = parsed.get(CapabilityCode.FQDN)
    software = parsed.get(CapabilityCode.SOFTWARE_VERSION)
    role = codes.get(CapabilityCode.ROLE)
    for size in [len(value) for code, value in received if code == CapabilityCode.ROLE]:
        if size != 1:
            raise _malformed_open(f"capability {CapabilityCode.ROLE}: {size} bytes, RFC 9234 section 4.1 wants 1")
    return Open(
        asn=asn if four_octet is None else int(four_octet),
        hold_time_s=hold_time_s,
        router_id=router_id,
        multiprotocol=tuple(
            dict.fromkeys((int(afi), int(safi)) for afi, safi in parsed.get(CapabilityCode.MULTIPROTOCOL, ()))
        ),
        four_octet_as=four_octet is not None,
        route_refresh=CapabilityCode.ROUTE_REFRESH in codes or CapabilityCode.ROUTE_REFRESH_CISCO in codes,
        enhanced_route_refresh=CapabilityCode.ENHANCED_ROUTE_REFRESH in codes,
        extended_message=CapabilityCode.EXTENDED_MESSAGE in codes,
        extended_next_hop=tuple(
            (int(afi), int(safi), int(next_hop))
            for afi, safi, next_hop in parsed.get(CapabilityCode.EXTENDED_NEXT_HOP, ())
        ),
        add_path=tuple(
            (int(afi), int(safi), bits) for (afi, safi), bits in parsed.get(CapabilityCode.ADD_PATH, {}).items()
        ),
        graceful_restart=_graceful_restart_from(parsed.get(CapabilityCode.GRACEFUL_RESTART)),
        long_lived=_split_long_lived(codes.get(CapabilityCode.LONG_LIVED_GRACEFUL_RESTART, b"")),
        hostname="" if fqdn is None else fqdn.host_name,
        domain="" if fqdn is None else fqdn.domain_name,
        software_version="" if software is None else software.software_version,
        role=role[0] if role else None,
        received=received,
    )


def _graceful_restart_from(capability: Any) -> GracefulRestart | None:
    if capability is None:
        return None
    flags = capability.restart_flag
    return GracefulRestart(
        restarting=bool(flags & 0x8),
        notification=bool(flags & 0x4),
        restart_time_s=capability.restart_time,
        families=tuple((int(afi), int(safi), bool(bits & 0x80)) for (afi, safi), bits in capability.items()),
    )


def _split_long_lived(value: bytes) -> tuple[LongLived, ...]:
    """Entries of 7 bytes (RFC 9494 section 3); the library lacks this one."""
    if len(value) % 7:
        raise _malformed_open(f"capability {CapabilityCode.LONG_LIVED_GRACEFUL_RESTART}: {len(value)} bytes")
    return tuple(
        LongLived(afi, safi, bool(flags & 0x80), high << 16 | low)
        for afi, safi, flags, high, low in struct.iter_unpack("!HBBBH", value)
    )


class _RawCapability:
    """A capability that the library has no class for, or none that says what we need."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def extract(self) -> list[bytes]:
        return [self._value]


def _capabilities_of(message: Open, exa: SimpleNamespace) -> list[tuple[int, Any]]:
    """The library's capability objects for an OPEN of ours, in the order of their codes."""
    chosen: list[tuple[int, Any]] = []
    if message.multiprotocol:
        families = exa.MultiProtocol()
        families.extend((exa.AFI.create(afi), exa.SAFI.create(safi)) for afi, safi in message.multiprotocol)
        chosen.append((CapabilityCode.MULTIPROTOCOL, families))
    if message.route_refresh:
        chosen.append((CapabilityCode.ROUTE_REFRESH, exa.RouteRefreshCapability()))
    if message.extended_next_hop:
        pairs = [(exa.AFI.create(a), exa.SAFI.create(s), exa.AFI.create(n)) for a, s, n in message.extended_next_hop]
        chosen.append((CapabilityCode.EXTENDED_NEXT_HOP, exa.NextHop(pairs)))
    if message.extended_message:
        chosen.append((CapabilityCode.EXTENDED_MESSAGE, exa.ExtendedMessage()))
    if message.role is not None:
        chosen.append((CapabilityCode.ROLE, _RawCapability(bytes((message.role,)))))
    if message.graceful_restart is not None:
        chosen.append((CapabilityCode.GRACEFUL_RESTART, _graceful_restart_of(message.graceful_restart, exa)))
    if message.four_octet_as:
        chosen.append((CapabilityCode.FOUR_OCTET_AS, exa.ASN4(message.asn)))
    if message.add_path:
        entries = b"".join(struct.pack("!HBB", *entry) for entry in message.add_path)
        chosen.append((CapabilityCode.ADD_PATH, _RawCapability(entries)))
    if message.enhanced_route_refresh:
        chosen.append((CapabilityCode.ENHANCED_ROUTE_REFRESH, exa.EnhancedRouteRefresh()))
    if message.long_lived:
        entries = b"".join(
            struct.pack("!HBB", entry.afi, entry.safi, entry.forwarding << 7) + entry.stale_time_s.to_bytes(3, "big")
            for entry in message.long_lived
        )
        chosen.append((CapabilityCode.LONG_LIVED_GRACEFUL_RESTART, _RawCapability(entries)))
    if message.hostname:
        name = _cut_utf8(message.hostname)
        chosen.append((CapabilityCode.FQDN, exa.HostName(name, _cut_utf8(message.domain))))
    if message.software_version:
        text = _cut_utf8(message.software_version).encode()
        chosen.append((CapabilityCode.SOFTWARE_VERSION, _RawCapability(bytes((len(text),)) + text)))
    return chosen


def _graceful_restart_of(value: GracefulRestart, exa: SimpleNamespace) -> Any:
    return exa.Graceful().set(
        value.restarting << 3 | value.notification << 2,
        min(value.restart_time_s, 0xFFF),
        [(exa.AFI.create(afi), exa.SAFI.create(safi), forwarding << 7) for afi, safi, forwarding in value.families],
    )


def _cut_utf8(text: str) -> str:
    """At most 64 bytes of text, whole characters only (draft-walton-bgp-hostname-capability)."""
    return text.encode()[:64].decode("utf-8", "ignore")


@functools.cache
def load() -> SimpleNamespace:
    """Import the library safely, and gather what this module uses of it.

    Raises: RuntimeError: another version than the tested one is installed.
    """
    for name in [name for name in os.environ if name.lower().startswith(("exabgp.", "exabgp_"))]:
        del os.environ[name]
    ours = {"EXABGP_ENVFILE": os.devnull, "exabgp_daemon_user": "root"}
    os.environ.update(ours)
    version = library_module("version").release
    if not version.startswith(SUPPORTED_VERSION):
        raise RuntimeError(f"ExaBGP {version} is installed; bgpd is tested with {SUPPORTED_VERSION}x only")
    library_module("environment").getenv()
    dns: Any = library_module("util.dns")
    dns.host = dns.domain = lambda: ""
    library_module("logger").log.disable()
    family = library_module("protocol.family")
    evpn = family.SAFI.evpn
    family.Family.size.update(
        {
            (family.AFI.l2vpn, evpn): ((4, 16), 0),
            (family.AFI.ipv4, evpn): ((4,), 0),
            (family.AFI.ipv6, evpn): ((16, 32), 0),
        }
    )
    asn = library_module("bgp.message.open.asn").ASN
    asn.__new__ = lambda cls, *values: int.__new__(cls, *values)
    capability = "bgp.message.open.capability."
    loaded = SimpleNamespace(
        ASN=asn,
        Open=library_module("bgp.message.open").Open,
        Version=library_module("bgp.message.open.version").Version,
        HoldTime=library_module("bgp.message.open.holdtime").HoldTime,
        RouterID=library_module("bgp.message.open.routerid").RouterID,
        AFI=family.AFI,
        SAFI=family.SAFI,
        Notify=library_module("bgp.message.notification").Notify,
        RouteRefresh=library_module("bgp.message.refresh").RouteRefresh,
        Capabilities=library_module(capability + "capabilities").Capabilities,
        Capability=library_module(capability + "capability").Capability,
        MultiProtocol=library_module(capability + "mp").MultiProtocol,
        NextHop=library_module(capability + "nexthop").NextHop,
        ExtendedMessage=library_module(capability + "extended").ExtendedMessage,
        Graceful=library_module(capability + "graceful").Graceful,
        ASN4=library_module(capability + "asn4").ASN4,
        HostName=library_module(capability + "hostname").HostName,
        RouteRefreshCapability=library_module(capability + "refresh").RouteRefresh,
        EnhancedRouteRefresh=library_module(capability + "refresh").EnhancedRouteRefresh,
    )
    for name in ours:
        del os.environ[name]
    return loaded


def library_module(name: str) -> ModuleType:
    """A module of the library by its name below `exabgp.`; `load` must have run before any but its own first use."""
    return importlib.import_module("exabgp." + name)
