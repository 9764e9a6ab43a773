"""[[neighbor]] and [[listen]] of the configuration: sessions, their BFD, TCP-AO and graceful restart."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bgpd.config.schema_values import AsNumber, InterfacePattern, Port, Seconds, Strict


class BfdConfig(Strict, frozen=True, kw_only=True):
    """neighbor.bfd: failure detection by BFD (RFC 5880, RFC 5881), in the process bgpd-bfd."""

    interval_ms: Annotated[int, Meta(ge=10, le=60_000, description="Desired transmit and receive interval.")] = 300
    multiplier: Annotated[int, Meta(ge=1, le=255, description="Packets missed until the neighbor is down.")] = 3
    strict: Annotated[
        bool, Meta(description="BGP waits until BFD is Up; for [[neighbor]] only. Else BFD counts once it was Up.")
    ] = False


class TcpAoKeyConfig(Strict, frozen=True, kw_only=True):
    """neighbor.tcp_ao: one key of TCP-AO (RFC 5925)."""

    key_file: Annotated[str, Meta(description="File with the key.")]
    send_id: Annotated[int, Meta(ge=0, le=255, description="Key ID in what is sent: the neighbor's receive ID.")]
    receive_id: Annotated[int, Meta(ge=0, le=255, description="Key ID in what is received: the neighbor's send ID.")]
    algorithm: Annotated[str, Meta(description='"hmac-sha1-96", "aes-128-cmac-96" or "hmac-sha256-128".')] = (
        "hmac-sha1-96"
    )


class GracefulRestartConfig(Strict, frozen=True, kw_only=True):
    """neighbor.graceful_restart: what is kept over a restart, and how long (RFC 4724, RFC 8538, RFC 9494)."""

    mode: Annotated[
        str,
        Meta(
            pattern="^(both|helper|off)$",
            description='"both": each side keeps the other\'s routes while that restarts; "helper": only this host '
            'keeps the neighbor\'s; "off".',
        ),
    ] = "both"
    restart_time_s: Annotated[int, Meta(ge=0, le=4095, description="How long the neighbor keeps our routes.")] = 120
    stale_time_s: Annotated[
        int,
        Meta(ge=1, le=86_400, description="How long routes of a neighbor that is back stay until its End-of-RIB."),
    ] = 360
    long_lived_s: Annotated[Seconds, Meta(description="Long-lived stale time after that (RFC 9494); 0: off.")] = 0

    @property
    def restarts(self) -> bool:
        """Whether this host may restart without losing its routes at the neighbor."""
        return self.mode == "both"

    @property
    def helps(self) -> bool:
        """Whether the neighbor's routes are kept while that restarts."""
        return self.mode != "off"


_MAX_PREFIXES = 2_000_000


class SessionConfig(Strict, frozen=True, kw_only=True, rename={"import_": "import"}):
    """What [[neighbor]] and [[listen]] share."""

    asn: Annotated[AsNumber | str, Meta(description='The neighbor\'s AS number, or "external" or "internal".')]
    import_: Annotated[str, Meta(description='"none", "default-only", "all" or the name of a [policy.NAME].')]
    export: Annotated[
        str, Meta(description='"local" (own workloads and aggregates only), "none", "default-only", "all" or a policy.')
    ] = "local"
    families: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description='Of "ipv4-unicast", "ipv6-unicast", "l2vpn-evpn", "route-target".'),
    ] = ("ipv4-unicast", "ipv6-unicast")
    vrf: Annotated[str, Meta(description='VRF of the session, [[neighbor]] only; "" is the main table.')] = ""
    local_asn: Annotated[
        int, Meta(ge=0, le=4_294_967_294, description="AS number shown to this neighbor; 0: the router's.")
    ] = 0
    role: Annotated[
        str,
        Meta(
            description='What this host is to an external neighbor (RFC 9234): "customer", "provider", "peer", "rs" or '
            '"rs-client"; "": roles are not used.'
        ),
    ] = ""
    role_strict: Annotated[bool, Meta(description="With a role: refuse a neighbor that tells none.")] = False
    hold_time_s: Annotated[int, Meta(ge=0, le=65535, description="0 (no keepalives) or at least 3 (RFC 4271).")] = 9
    connect_retry_s: Annotated[int, Meta(ge=1, le=65535, description="Pause between connection attempts.")] = 5
    allow_own_as: Annotated[
        int, Meta(ge=0, le=10, description="How often our own AS, shown or real, may stand in a received AS_PATH.")
    ] = 0
    accept_martians: Annotated[
        bool, Meta(description="Take prefixes that no network should announce: loopback, multicast, 240.0.0.0/4, ...")
    ] = False
    accept_as_sets: Annotated[
        bool, Meta(description="Take routes with AS_SET or AS_CONFED_SET in the AS path (RFC 9774 refuses them).")
    ] = False
    max_prefixes: Annotated[
        int, Meta(ge=0, le=100_000_000, description="More than that of a family ends the session; 0: no limit.")
    ] = _MAX_PREFIXES
    max_prefixes_warn_percent: Annotated[
        int, Meta(ge=0, le=100, description="Share of max_prefixes beyond which the log warns; 0: never.")
    ] = 80
    max_prefixes_action: Annotated[
        str, Meta(description='Beyond max_prefixes: "reset" ends the session, "discard" leaves out what is too much.')
    ] = "reset"
    max_prefixes_restart_after_s: Annotated[
        int, Meta(ge=1, le=31_536_000, description="How long a neighbor is refused that was reset for max_prefixes.")
    ] = 60
    max_attribute_bytes: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Memory for the attributes of its routes; more ends the session; 0: no limit."),
    ] = None
    password_file: Annotated[str, Meta(description='File with the TCP MD5 password (RFC 2385); "": none.')] = ""
    tcp_ao: Annotated[
        tuple[TcpAoKeyConfig, ...],
        Meta(description="Keys of TCP-AO (RFC 5925), the one to be used first; not with password_file."),
    ] = ()
    ttl_security: Annotated[bool, Meta(description="Take only packets with TTL 255 (RFC 5082).")] = False
    extended_messages: Annotated[bool, Meta(description="Offer messages up to 65535 bytes (RFC 8654).")] = True
    bfd: Annotated[BfdConfig | None, Meta(description="Failure detection in milliseconds; off unless given.")] = None
    graceful_restart: Annotated[
        GracefulRestartConfig, Meta(description='Restart without losing routes; off by mode = "off".')
    ] = GracefulRestartConfig()


_LEAST_ATTRIBUTE_BYTES = 1 << 20
_ATTRIBUTE_BYTES_PER_PREFIX = 256
"""A full table of the Internet has one set of attributes for every five prefixes, of 1,400 bytes with all around it."""


def attribute_limit(config: SessionConfig) -> int:
    """Bytes of memory that the attributes of a neighbor's routes may take; 0: no limit."""
    if config.max_attribute_bytes is not None:
        return config.max_attribute_bytes
    prefixes = config.max_prefixes or _MAX_PREFIXES
    return _LEAST_ATTRIBUTE_BYTES + _ATTRIBUTE_BYTES_PER_PREFIX * prefixes


class NeighborConfig(SessionConfig, frozen=True, kw_only=True, rename={"import_": "import"}):
    """[[neighbor]]: one configured neighbor, by `address` or, unnumbered, by `interface` alone.

    With an `address`, `interface` scopes a link-local address or binds the session to a device. `interface` as a
    pattern stands for a neighbor on each interface that matches (patterns.py).
    """

    name: Annotated[str, Meta(description="Unique name, used in logs and on the command line.")]
    address: Annotated[str, Meta(description='IPv4 or IPv6 address; "" for an unnumbered session.')] = ""
    interface: Annotated[
        InterfacePattern,
        Meta(
            description='Interface of an unnumbered or link-local session; a pattern such as "eth*" makes a neighbor '
            "NAME-INTERFACE on each that matches."
        ),
    ] = ""
    port: Annotated[Port, Meta(description="TCP port to connect to.")] = 179
    passive: Annotated[bool, Meta(description="Wait for the neighbor to connect.")] = False
    source_address: Annotated[str, Meta(description='Local address of the session; "": the kernel chooses.')] = ""
    expect_hostname: Annotated[
        str,
        Meta(
            max_length=255,
            description='Name that the neighbor should tell (FQDN capability, LLDP), or a pattern such as "leaf*"; '
            'another one is warned of; "": any.',
        ),
    ] = ""


class ListenConfig(SessionConfig, frozen=True, kw_only=True, rename={"import_": "import"}):
    """[[listen]]: dynamic neighbors, accepted from any address inside `prefix`."""

    prefix: Annotated[str, Meta(description="Where dynamic neighbors may connect from.")]
    max_neighbors: Annotated[int, Meta(ge=1, le=65535, description="Sessions at the same time.")] = 256
    max_neighbors_per_interface: Annotated[
        int, Meta(ge=1, le=65535, description="Of these, by one interface: of one VM, or of those behind one bridge.")
    ] = 16
    min_hold_time_s: Annotated[
        int, Meta(ge=3, le=65535, description="A neighbor that offers a shorter hold time, or none (0), is refused.")
    ] = 3
    max_prefixes: Annotated[
        int, Meta(ge=0, le=100_000_000, description="More than that of a family ends the session; 0: no limit.")
    ] = 10_000
    graceful_restart: Annotated[
        GracefulRestartConfig,
        Meta(description="Restart without losing routes; not both roles, since a restarted host cannot dial here."),
    ] = GracefulRestartConfig(mode="helper")
