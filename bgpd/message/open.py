"""What a session may speak: our OPEN from the configuration, the peer's OPEN judged, and what both have in common.

Decides which peers are refused at OPEN and what is negotiated. Never touches wire bytes (see exabgp_codec.py).
RFC 4271 sections 4.2 and 6.2, RFC 5492, RFC 6286, RFC 6793, RFC 7607, RFC 9234 section 4.2.
"""

from __future__ import annotations

import ipaddress

import msgspec

from bgpd import __version__
from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import SessionConfig
from bgpd.model.iana import (
    AS_TRANS,
    FAMILY_BY_CODE,
    OPPOSITE_ROLES,
    ROLES,
    Afi,
    CapabilityCode,
    ErrorCode,
    Family,
    OpenSubcode,
    Role,
)
from bgpd.model.wire import NotificationError

MAX_MESSAGE_LENGTH = 4096
"""RFC 4271 section 4.1."""
MAX_EXTENDED_MESSAGE_LENGTH = 65535
"""RFC 8654 section 3."""


class GracefulRestart(msgspec.Struct, frozen=True, kw_only=True):
    """The Graceful Restart capability (RFC 4724 section 3; N bit: RFC 8538 section 2).

    `families` are (AFI, SAFI, forwarding state kept).
    """

    restarting: bool = False
    notification: bool = False
    restart_time_s: int = 0
    families: tuple[tuple[int, int, bool], ...] = ()

    def forwarding(self, family: Family) -> bool:
        """Whether the speaker kept its forwarding state of a family over the restart."""
        return (int(family.afi), int(family.safi), True) in self.families

    def covers(self, family: Family) -> bool:
        """Whether the capability lists the family, with or without forwarding state."""
        return any(entry[:2] == (family.afi, family.safi) for entry in self.families)


class LongLived(msgspec.Struct, frozen=True):
    """One family of the Long-Lived Graceful Restart capability (RFC 9494 section 3)."""

    afi: int
    safi: int
    forwarding: bool
    stale_time_s: int


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """An OPEN message, ours or a peer's.

    `asn` is the real AS number, from the four-octet AS capability where there is one. `router_id` is 4 bytes.
    `multiprotocol` are (AFI, SAFI), `extended_next_hop` (AFI, SAFI, AFI of the next hop), `add_path` (AFI, SAFI, send
    and receive bits). `received` are capability code and value, as they stood in the message.
    """

    asn: int
    hold_time_s: int
    router_id: bytes
    version: int = 4
    multiprotocol: tuple[tuple[int, int], ...] = ()
    four_octet_as: bool = False
    route_refresh: bool = False
    enhanced_route_refresh: bool = False
    extended_message: bool = False
    extended_next_hop: tuple[tuple[int, int, int], ...] = ()
    add_path: tuple[tuple[int, int, int], ...] = ()
    graceful_restart: GracefulRestart | None = None
    long_lived: tuple[LongLived, ...] = ()
    hostname: str = ""
    domain: str = ""
    software_version: str = ""
    role: int | None = None
    received: tuple[tuple[int, bytes], ...] = ()

    @property
    def families(self) -> tuple[Family, ...]:
        """Families offered that bgpd routes; IPv4 unicast if there is no multiprotocol capability (RFC 4760)."""
        codes = self.multiprotocol or ((1, 1),)
        return tuple(dict.fromkeys(FAMILY_BY_CODE[code] for code in codes if code in FAMILY_BY_CODE))


class Negotiated(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides of an established session agreed on.

    `graceful_restart` and `long_lived` are the peer's; `hard_reset` is whether both sent the N bit, so that a
    NOTIFICATION keeps routes unless it is a Hard Reset (RFC 8538). `capabilities` are the peer's, by name. `role` is
    this host's, `peer_role` what the peer told (RFC 9234): None if there is none.
    `add_path` are the families whose NLRI carry a path identifier; bgpd never offers any, `bgpd decode` sets it.
    """

    local_asn: int
    peer_asn: int
    local_router_id: bytes
    peer_router_id: bytes
    hold_time_s: int
    families: tuple[Family, ...]
    four_octet_as: bool = True
    extended_next_hop: frozenset[Family] = frozenset()
    extended_message: bool = False
    route_refresh: bool = False
    enhanced_route_refresh: bool = False
    graceful_restart: GracefulRestart | None = None
    long_lived: tuple[LongLived, ...] = ()
    hard_reset: bool = False
    add_path: frozenset[Family] = frozenset()
    hostname: str = ""
    domain: str = ""
    software_version: str = ""
    capabilities: tuple[str, ...] = ()
    role: Role | None = None
    peer_role: Role | None = None

    @property
    def is_ibgp(self) -> bool:
        """Whether both sides are in one AS."""
        return self.local_asn == self.peer_asn

    @property
    def knows_long_lived(self) -> bool:
        """Whether the peer knows what LLGR_STALE is: it has the capability, be it without a family (RFC 9494)."""
        name = _capability_name(CapabilityCode.LONG_LIVED_GRACEFUL_RESTART)
        return bool(self.long_lived) or name in self.capabilities

    @property
    def keepalive_time_s(self) -> int:
        """A third of the hold time, in whole seconds (RFC 4271 section 10); 0: none are sent."""
        return self.hold_time_s // 3

    @property
    def in_use(self) -> tuple[str, ...]:
        """What both sides have, by the names of `capability_names`; families stand by themselves."""
        flags = {
            CapabilityCode.FOUR_OCTET_AS: self.four_octet_as,
            CapabilityCode.ROUTE_REFRESH: self.route_refresh,
            CapabilityCode.ENHANCED_ROUTE_REFRESH: self.enhanced_route_refresh,
            CapabilityCode.EXTENDED_MESSAGE: self.extended_message,
            CapabilityCode.EXTENDED_NEXT_HOP: bool(self.extended_next_hop),
            CapabilityCode.GRACEFUL_RESTART: self.graceful_restart is not None,
            CapabilityCode.ROLE: self.role is not None and self.peer_role is not None,
        }
        return tuple(_capability_name(code) for code, is_used in flags.items() if is_used)

    @property
    def max_message_length(self) -> int:
        """Longest message that may be sent, header included (RFC 8654)."""
        return MAX_EXTENDED_MESSAGE_LENGTH if self.extended_message else MAX_MESSAGE_LENGTH


def local_open(
    router: RouterConfig,
    session: SessionConfig,
    *,
    over_ipv6: bool,
    restarting: bool = False,
    forwarding: bool = True,
    hostname: str = "",
) -> Open:
    """Our OPEN for a session. `over_ipv6`: the session runs over IPv6, so that IPv4 routes need RFC 8950.

    `restarting` and `forwarding` are the R and F bits of RFC 4724; without graceful restart the capability is sent
    all the same, empty, as that RFC asks of a speaker that sends End-of-RIB. `hostname` is the system's, used if
    none is configured.
    """
    families = tuple(Family(name) for name in session.families)
    codes = tuple((int(family.afi), int(family.safi)) for family in families)
    graceful = GracefulRestart()  # no families: we send End-of-RIB, and FRR answers no ROUTE-REFRESH without it
    configured = session.graceful_restart
    if configured.helps:
        graceful = GracefulRestart(notification=True)
    if configured.restarts:
        graceful = GracefulRestart(
            restarting=restarting,
            notification=True,
            restart_time_s=configured.restart_time_s,
            families=tuple((afi, safi, forwarding) for afi, safi in codes),
        )
    long_lived: tuple[LongLived, ...] = ()
    if configured.helps and configured.long_lived_s:
        stale_time_s = configured.long_lived_s
        long_lived = tuple(LongLived(afi, safi, forwarding, stale_time_s) for afi, safi in codes)
    next_hops = ((int(Afi.IPV4), 1, int(Afi.IPV6)),) if over_ipv6 and Family.IPV4_UNICAST in families else ()
    return Open(
        asn=session.local_asn or router.asn,
        hold_time_s=session.hold_time_s,
        router_id=ipaddress.IPv4Address(router.router_id).packed,
        multiprotocol=codes,
        four_octet_as=True,
        route_refresh=True,
        enhanced_route_refresh=True,
        extended_message=session.extended_messages,
        extended_next_hop=next_hops,
        graceful_restart=graceful,
        long_lived=long_lived,
        hostname=router.hostname or hostname,
        software_version=f"bgpd/{__version__}",
        role=ROLES.get(session.role),
    )


def check_open(peer: Open) -> None:
    """Refuse an OPEN that no configuration could accept.

    Raises: NotificationError: version, hold time of 1 or 2 s, router ID 0.0.0.0 (RFC 6286), AS 0 (RFC 7607), AS_TRANS.
    """
    if peer.version != 4:
        raise _refuse(OpenSubcode.UNSUPPORTED_VERSION, f"BGP version {peer.version}, only 4 is spoken", b"\x00\x04")
    if peer.asn in (0, AS_TRANS):
        raise _refuse(OpenSubcode.BAD_PEER_AS, f"AS {peer.asn} is reserved and cannot be a peer's")
    if peer.hold_time_s in (1, 2):
        raise _refuse(
            OpenSubcode.UNACCEPTABLE_HOLD_TIME, f"hold time of {peer.hold_time_s} s; 0 or 3 and more is valid"
        )
    if peer.router_id == b"\0\0\0\0":
        raise _refuse(OpenSubcode.BAD_BGP_IDENTIFIER, "the BGP identifier is 0.0.0.0")


def negotiate(
    local: Open, peer: Open, *, expected_asn: int | str, min_hold_time_s: int = 0, role_strict: bool = False
) -> Negotiated:
    """What both OPENs have in common. `expected_asn` is the configured "external", "internal" or the AS number.

    `role_strict`: an external peer must tell its role, if this host does.

    Raises: NotificationError: as check_open; the AS is not the expected one; our own router ID inside our AS
    (RFC 6286 section 2.2); no common address family (RFC 5492 section 5); a hold time below `min_hold_time_s`; roles
    that do not fit each other (RFC 9234 section 4.2).
    """
    check_open(peer)
    if peer.hold_time_s < min_hold_time_s:
        why = f"hold time {peer.hold_time_s} s is offered, min_hold_time_s is {min_hold_time_s}"
        raise _refuse(OpenSubcode.UNACCEPTABLE_HOLD_TIME, why)
    _check_asn(local.asn, peer, expected_asn)
    if peer.asn == local.asn and peer.router_id == local.router_id:
        called = f' (host name "{peer.hostname}")' if peer.hostname else ""
        router_id = ipaddress.IPv4Address(peer.router_id)
        why = f"the peer{called} in our own AS has our own router ID, {router_id}: one of both needs another"
        raise _refuse(OpenSubcode.BAD_BGP_IDENTIFIER, why)
    families = tuple(family for family in local.families if family in peer.families)
    if not families:
        raise _refuse(
            OpenSubcode.UNSUPPORTED_CAPABILITY,
            "no address family in common: we offer " + ", ".join(local.families),
            b"".join(_multiprotocol_capability(*code) for code in local.multiprotocol),
        )
    role = Role(local.role) if local.role is not None and peer.asn != local.asn else None
    peer_role = _peer_role(peer, role, is_strict=role_strict) if peer.asn != local.asn else None
    next_hops = set(local.extended_next_hop) & set(peer.extended_next_hop)
    both_notify = local.graceful_restart is not None and local.graceful_restart.notification
    return Negotiated(
        local_asn=local.asn,
        peer_asn=peer.asn,
        local_router_id=local.router_id,
        peer_router_id=peer.router_id,
        hold_time_s=min(local.hold_time_s, peer.hold_time_s),
        families=families,
        four_octet_as=local.four_octet_as and peer.four_octet_as,
        extended_next_hop=frozenset(
            family for family in families if (int(family.afi), int(family.safi), int(Afi.IPV6)) in next_hops
        ),
        extended_message=local.extended_message and peer.extended_message,
        route_refresh=local.route_refresh and peer.route_refresh,
        enhanced_route_refresh=local.enhanced_route_refresh and peer.enhanced_route_refresh,
        graceful_restart=peer.graceful_restart,
        long_lived=peer.long_lived,
        hard_reset=both_notify and peer.graceful_restart is not None and peer.graceful_restart.notification,
        hostname=peer.hostname,
        domain=peer.domain,
        software_version=peer.software_version,
        capabilities=capability_names(peer),
        role=role,
        peer_role=peer_role,
    )


def capability_names(message: Open) -> tuple[str, ...]:
    """The capabilities as people read them: "multiprotocol ipv4-unicast", "route-refresh", "capability-76"."""
    names = [f"multiprotocol {family_name(afi, safi)}" for afi, safi in message.multiprotocol]
    for code, _ in message.received:
        if code == CapabilityCode.MULTIPROTOCOL:
            continue
        names.append(_capability_name(code))
    return tuple(dict.fromkeys(names))


def _capability_name(code: int) -> str:
    try:
        return CapabilityCode(code).name.lower().replace("_", "-")
    except ValueError:
        return f"capability-{code}"


_AFI_NAMES = {1: "ipv4", 2: "ipv6", 25: "l2vpn", 16388: "link-state", 16397: "bgp-ls-spf"}
_SAFI_NAMES = {
    1: "unicast",
    2: "multicast",
    4: "labeled-unicast",
    5: "mcast-vpn",
    65: "vpls",
    66: "mdt",
    70: "evpn",
    71: "link-state",
    72: "link-state-vpn",
    73: "sr-policy",
    85: "mup",
    128: "vpn",
    129: "multicast-vpn",
    132: "route-target",
    133: "flowspec",
    134: "flowspec-vpn",
}


def family_name(afi: int, safi: int) -> str:
    """Name of any address family, such as "ipv4-unicast"; "afi-16398-safi-9" for one without a name here."""
    family = FAMILY_BY_CODE.get((afi, safi))
    if family is not None:
        return str(family)
    if afi in _AFI_NAMES and safi in _SAFI_NAMES:
        return f"{_AFI_NAMES[afi]}-{_SAFI_NAMES[safi]}"
    return f"afi-{afi}-safi-{safi}"


def _check_asn(local_asn: int, peer: Open, expected: int | str) -> None:
    """The name that the peer tells is in the reason: with exchanged cables it says which leaf is there."""
    peer_asn = peer.asn
    match expected:
        case "external":
            accepted = peer_asn != local_asn
            wanted = f"an AS other than our {local_asn}"
        case "internal":
            accepted = peer_asn == local_asn
            wanted = f"our AS {local_asn}"
        case _:
            accepted = peer_asn == expected
            wanted = f"AS {expected}"
    if not accepted:
        name = "".join(letter if letter.isprintable() else "?" for letter in peer.hostname)
        who = f" (it calls itself {name})" if name else ""
        raise _refuse(OpenSubcode.BAD_PEER_AS, f"the peer is in AS {peer_asn}; {wanted} is configured{who}")


def _peer_role(peer: Open, ours: Role | None, *, is_strict: bool) -> Role | None:
    """The role that an external peer tells (RFC 9234 section 4.2).

    Raises: NotificationError: it tells several, or, if this host has a role, one that does not fit; none, if that is
    not enough (`is_strict`).
    """
    told = {value[0] for code, value in peer.received if code == CapabilityCode.ROLE}
    told |= {peer.role} if peer.role is not None else set()
    names = " and ".join(_role_name(value) for value in sorted(told))
    if len(told) > 1:
        raise _refuse(OpenSubcode.ROLE_MISMATCH, f"the peer tells several roles: {names}")
    if ours is not None:
        wanted = OPPOSITE_ROLES[ours]
        if told and told != {wanted}:
            why = f'the peer\'s role is "{names}", ours is "{ours.text}": its should be "{wanted.text}"'
            raise _refuse(OpenSubcode.ROLE_MISMATCH, why)
        if not told and is_strict:
            raise _refuse(OpenSubcode.ROLE_MISMATCH, "the peer tells no role, role_strict is true")
    return next((Role(value) for value in told if value in OPPOSITE_ROLES), None)


def _role_name(value: int) -> str:
    return Role(value).text if value in OPPOSITE_ROLES else str(value)


def _multiprotocol_capability(afi: int, safi: int) -> bytes:
    return bytes((CapabilityCode.MULTIPROTOCOL, 4, afi >> 8, afi & 0xFF, 0, safi))


def _refuse(subcode: OpenSubcode, message: str, data: bytes = b"") -> NotificationError:
    return NotificationError(ErrorCode.OPEN_MESSAGE, subcode, data, message=message)
