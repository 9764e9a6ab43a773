"""Code points of the registries that bgpd speaks, each with its registry or RFC.

Decides nothing; holds no I/O.
"""

from __future__ import annotations

import enum


class Afi(enum.IntEnum):
    """Address Family Identifiers (IANA "Address Family Numbers")."""

    IPV4 = 1
    IPV6 = 2
    L2VPN = 25


class Safi(enum.IntEnum):
    """Subsequent Address Family Identifiers (IANA "SAFI Values")."""

    UNICAST = 1
    EVPN = 70
    ROUTE_TARGET = 132


class Family(enum.StrEnum):
    """The address families that bgpd routes, by the names that configuration and views use."""

    IPV4_UNICAST = "ipv4-unicast"
    IPV6_UNICAST = "ipv6-unicast"
    L2VPN_EVPN = "l2vpn-evpn"
    ROUTE_TARGET = "route-target"

    __hash__ = str.__hash__  # tables are looked up by family with every UPDATE: an enum's own hash is a call in Python

    @property
    def afi(self) -> Afi:
        """Its address family."""
        return _FAMILY_CODES[self][0]

    @property
    def safi(self) -> Safi:
        """Its subsequent address family."""
        return _FAMILY_CODES[self][1]


_FAMILY_CODES = {
    Family.IPV4_UNICAST: (Afi.IPV4, Safi.UNICAST),
    Family.IPV6_UNICAST: (Afi.IPV6, Safi.UNICAST),
    Family.L2VPN_EVPN: (Afi.L2VPN, Safi.EVPN),
    Family.ROUTE_TARGET: (Afi.IPV4, Safi.ROUTE_TARGET),
}
FAMILY_BY_CODE: dict[tuple[int, int], Family] = {
    (int(afi), int(safi)): family for family, (afi, safi) in _FAMILY_CODES.items()
}
UNICAST = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)
"""The families of IP routes, in the order in which they are shown."""


class MessageType(enum.IntEnum):
    """BGP message types (RFC 4271 section 4.1; ROUTE-REFRESH: RFC 2918)."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class AttributeType(enum.IntEnum):
    """Path attribute types (IANA "BGP Path Attributes")."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    PMSI_TUNNEL = 22
    TUNNEL_ENCAPSULATION = 23
    IPV6_EXTENDED_COMMUNITIES = 25
    AIGP = 26
    BGP_LS = 29
    LARGE_COMMUNITIES = 32
    ONLY_TO_CUSTOMER = 35
    PREFIX_SID = 40
    ATTR_SET = 128


class AttributeFlag(enum.IntFlag):
    """Attribute flags (RFC 4271 section 4.3)."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


class Origin(enum.IntEnum):
    """ORIGIN values (RFC 4271 section 5.1.1)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class SegmentType(enum.IntEnum):
    """AS_PATH segment types (RFC 4271 section 4.3, RFC 5065)."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class CapabilityCode(enum.IntEnum):
    """Capability codes (IANA "Capability Codes")."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    EXTENDED_MESSAGE = 6
    ROLE = 9
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ADD_PATH = 69
    ENHANCED_ROUTE_REFRESH = 70
    LONG_LIVED_GRACEFUL_RESTART = 71
    FQDN = 73
    SOFTWARE_VERSION = 75
    LINK_LOCAL_NEXT_HOP = 77
    ROUTE_REFRESH_CISCO = 128


class Role(enum.IntEnum):
    """What an AS is to the AS at the other end of a session (RFC 9234 section 4.1, IANA "BGP Role Value")."""

    PROVIDER = 0
    RS = 1
    RS_CLIENT = 2
    CUSTOMER = 3
    PEER = 4

    @property
    def text(self) -> str:
        """The name as configuration and views have it, such as "rs-client"."""
        return self.name.lower().replace("_", "-")


ROLES = {role.text: role for role in Role}
OPPOSITE_ROLES = {
    Role.PROVIDER: Role.CUSTOMER,
    Role.RS: Role.RS_CLIENT,
    Role.RS_CLIENT: Role.RS,
    Role.CUSTOMER: Role.PROVIDER,
    Role.PEER: Role.PEER,
}
"""The role that the other end must have (RFC 9234 section 4.2)."""


class ErrorCode(enum.IntEnum):
    """NOTIFICATION error codes (RFC 4271 section 4.5; 7: RFC 7313)."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE = 7


class HeaderSubcode(enum.IntEnum):
    """Message Header Error subcodes (RFC 4271 section 6.1)."""

    CONNECTION_NOT_SYNCHRONIZED = 1
    BAD_MESSAGE_LENGTH = 2
    BAD_MESSAGE_TYPE = 3


class OpenSubcode(enum.IntEnum):
    """OPEN Message Error subcodes (RFC 4271 section 6.2; 7: RFC 5492; 11: RFC 9234)."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7
    ROLE_MISMATCH = 11


class UpdateSubcode(enum.IntEnum):
    """UPDATE Message Error subcodes (RFC 4271 section 6.3)."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2
    MISSING_WELL_KNOWN_ATTRIBUTE = 3
    ATTRIBUTE_FLAGS_ERROR = 4
    ATTRIBUTE_LENGTH_ERROR = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE_ERROR = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmSubcode(enum.IntEnum):
    """Finite State Machine Error subcodes (RFC 6608)."""

    UNSPECIFIED = 0
    UNEXPECTED_IN_OPEN_SENT = 1
    UNEXPECTED_IN_OPEN_CONFIRM = 2
    UNEXPECTED_IN_ESTABLISHED = 3


class CeaseSubcode(enum.IntEnum):
    """Cease subcodes (RFC 4486; 9: RFC 8538; 10: RFC 9384)."""

    MAXIMUM_PREFIXES = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    OTHER_CONFIGURATION_CHANGE = 6
    CONNECTION_COLLISION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class EvpnRouteType(enum.IntEnum):
    """EVPN route types (RFC 7432 section 7; 5: RFC 9136)."""

    ETHERNET_AUTO_DISCOVERY = 1
    MAC_IP_ADVERTISEMENT = 2
    INCLUSIVE_MULTICAST = 3
    ETHERNET_SEGMENT = 4
    IP_PREFIX = 5


AS_TRANS = 23456
"""RFC 6793 section 9."""

BGP_PORT = 179
"""RFC 4271 section 8."""

COMMUNITY_GRACEFUL_SHUTDOWN = 0xFFFF0000
"""RFC 8326."""
COMMUNITY_LLGR_STALE = 0xFFFF0006
COMMUNITY_NO_LLGR = 0xFFFF0007
COMMUNITY_BLACKHOLE = 0xFFFF029A
"""RFC 7999."""
COMMUNITY_NO_EXPORT = 0xFFFFFF01
COMMUNITY_NO_ADVERTISE = 0xFFFFFF02
COMMUNITY_NO_EXPORT_SUBCONFED = 0xFFFFFF03
"""RFC 1997."""
