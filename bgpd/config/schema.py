"""The configuration: its values, with the description, unit and range of each field.

`load` decodes them from TOML text, `check` checks them against each other, `effects` says what a change does.
Every field that is a quantity has its unit in its name. Unknown keys are errors. At the end: which part of the daemon
takes which part of the configuration.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

AsNumber = Annotated[int, Meta(ge=1, le=4_294_967_294)]
Seconds = Annotated[int, Meta(ge=0, le=16_777_215)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Interface = Annotated[str, Meta(max_length=15)]
DEFAULT_ASN_RANGE = "4200000000-4294967294"
InterfacePattern = Annotated[str, Meta(max_length=64)]
DEFAULT_BFD_SOCKET = "/run/bgpd-bfd/bfd.sock"


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all configuration values: immutable, and no unknown key is let through."""


class RouterConfig(Strict, frozen=True, kw_only=True):
    """[router]: who this host is."""

    asn: Annotated[
        AsNumber,
        Meta(
            description='This host\'s AS number; "auto": one of asn_range.',
            extra_json_schema={"type": ["integer", "string"]},
        ),
    ]
    router_id: Annotated[
        str, Meta(description='BGP identifier: an IPv4 address, unique in the AS; "auto": the loopback address.')
    ]
    asn_range: Annotated[str, Meta(description='What asn = "auto" is from: "FIRST-LAST".')] = DEFAULT_ASN_RANGE
    hostname: Annotated[str, Meta(description='Name sent to neighbors (FQDN capability); "" is the system\'s.')] = ""
    loopbacks: Annotated[
        tuple[str, ...],
        Meta(description="Prefixes that the host's loopback addresses are from, where lo has others too; []: any."),
    ] = ()


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


class BfdProcessConfig(Strict, frozen=True, kw_only=True):
    """[bfd]: the process that speaks BFD."""

    socket: Annotated[str, Meta(description="Unix socket of bgpd-bfd.")] = DEFAULT_BFD_SOCKET


class GracefulRestartConfig(Strict, frozen=True, kw_only=True):
    """neighbor.graceful_restart (RFC 4724, RFC 8538, RFC 9494)."""

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
    accept_as_sets: Annotated[
        bool, Meta(description="Take routes with AS_SET or AS_CONFED_SET in the AS path (RFC 9774 refuses them).")
    ] = False
    max_prefixes: Annotated[
        int, Meta(ge=0, le=100_000_000, description="More than that of a family ends the session; 0: no limit.")
    ] = 10_000
    graceful_restart: Annotated[
        GracefulRestartConfig,
        Meta(description="Restart without losing routes; not both roles, since a restarted host cannot dial here."),
    ] = GracefulRestartConfig(mode="helper")


class MatchConfig(Strict, frozen=True, kw_only=True):
    """policy rule `match`: all given conditions must hold; within one list any element may."""

    prefix: Annotated[tuple[str, ...], Meta(description='"10.0.0.0/8", with optional " ge N" and " le N".')] = ()
    as_path: Annotated[
        tuple[str, ...], Meta(description="An ASN that must appear, or a regular expression (RE2) over the AS path.")
    ] = ()
    community: Annotated[tuple[str, ...], Meta(description='"65000:1", or a well-known name ("no-export").')] = ()
    extended_community: Annotated[
        tuple[str, ...], Meta(description='"rt:65000:1", "soo:10.0.0.1:7", "bandwidth:65000:125000000", hex.')
    ] = ()
    large_community: Annotated[tuple[str, ...], Meta(description='"65000:1:2" (RFC 8092).')] = ()
    next_hop: Annotated[tuple[str, ...], Meta(description="Addresses or prefixes.")] = ()
    family: Annotated[tuple[str, ...], Meta(description="Family names.")] = ()
    neighbor: Annotated[tuple[str, ...], Meta(description="Neighbor names.")] = ()


class SetConfig(Strict, frozen=True, kw_only=True):
    """policy rule `set`: changes made to a route that the rule matched."""

    local_pref: Annotated[int, Meta(ge=0, le=4_294_967_295)] | None = None
    med: Annotated[int, Meta(ge=0, le=4_294_967_295)] | None = None
    add_community: tuple[str, ...] = ()
    remove_community: tuple[str, ...] = ()
    add_extended_community: tuple[str, ...] = ()
    remove_extended_community: tuple[str, ...] = ()
    add_large_community: tuple[str, ...] = ()
    remove_large_community: tuple[str, ...] = ()
    prepend: Annotated[int, Meta(ge=0, le=16, description="Our own AS, this many times more.")] = 0


class RuleConfig(Strict, frozen=True, kw_only=True):
    """One rule of a policy."""

    match: MatchConfig = MatchConfig()
    set: SetConfig = SetConfig()
    action: Annotated[str, Meta(description='"accept", "reject" or "next" (apply `set`, go on).')] = "accept"


class PolicyConfig(Strict, frozen=True, kw_only=True):
    """[policy.NAME]: rules in order; a route that none matches is rejected."""

    rules: tuple[RuleConfig, ...] = ()


class AggregateConfig(Strict, frozen=True, kw_only=True):
    """[[aggregate]]: a prefix announced for this host's own routes inside it."""

    prefix: Annotated[str, Meta(description="The aggregate, or with auto the pool that covers are made in.")]
    summary_only: Annotated[
        bool, Meta(description="Do not announce what is inside; workloads marked as exceptions always are.")
    ] = False
    blackhole: Annotated[
        bool, Meta(description="A blackhole route under it: unused addresses do not loop. Never for one address.")
    ] = False
    auto: Annotated[
        str, Meta(pattern="^(exact)?$", description='"exact": the fewest prefixes that cover just what is announced.')
    ] = ""
    vrf: Annotated[str, Meta(description='VRF of the aggregate; "" is the main table.')] = ""


class StaticWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[[workload.static]]: a prefix on an interface, kept in the kernel by bgpd."""

    prefix: Annotated[str, Meta(description="A workload's address or prefix.")]
    interface: Annotated[Interface, Meta(min_length=1, description="The interface that leads to it.")]
    id: Annotated[str, Meta(description='Name shown for it; "": the prefix.')] = ""
    vrf: Annotated[str, Meta(description='VRF of the prefix; "" is the main table.')] = ""
    exception: Annotated[bool, Meta(description="Announce it also inside a summary-only aggregate.")] = False


class KernelWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.kernel]: announce the routes that other programs put on interfaces matching these globs, in `fib.table`
    and in the tables of VRFs."""

    interfaces: Annotated[tuple[str, ...], Meta(description='Interface name globs: "cali*", "tap*".')] = ()


class AddressesWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.addresses]: announce addresses that the host itself has on these interfaces."""

    interfaces: Annotated[
        tuple[str, ...],
        Meta(description='Interface names and globs: "lo", "dummy*". An uplink only by its whole name.'),
    ] = ()
    prefixes: Annotated[
        tuple[str, ...], Meta(description='What they must be inside of: "10.0.0.0/8". Empty: anything.')
    ] = ()
    ipv4: Annotated[bool, Meta(description="Announce IPv4 addresses.")] = True
    ipv6: Annotated[bool, Meta(description="Announce IPv6 addresses.")] = True


MaxWorkloads = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000,
        description="Workloads that are taken, and as many services; of each at most four times as many addresses, "
        "but 10,000 in any case. More are refused.",
    ),
]


class MqttWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.mqtt]: workloads and services that an orchestrator publishes on a broker (MQTT 5)."""

    broker: Annotated[str, Meta(pattern="^mqtts?://", description="mqtt://HOST[:1883] or mqtts://HOST[:8883].")]
    host: Annotated[str, Meta(pattern="^[^/+#]*$", description='This host in topics; "": the router\'s hostname.')] = ""
    username: Annotated[str, Meta(description='User name at the broker; "": none.')] = ""
    password_file: Annotated[str, Meta(description='File with the password; "": none.')] = ""
    ca_file: Annotated[str, Meta(description="CA that signed the broker's certificate; \"\": the system's.")] = ""
    cert_file: Annotated[str, Meta(description='Client certificate; "": none.')] = ""
    key_file: Annotated[str, Meta(description='Key of the client certificate; "": in cert_file.')] = ""
    keepalive_s: Annotated[int, Meta(ge=1, le=3600, description="Silence after which the broker is gone.")] = 15
    session_expiry_s: Annotated[Seconds, Meta(description="How long the broker keeps messages for us.")] = 86400
    initial_wait_s: Annotated[
        int, Meta(ge=0, le=600, description="How long a first start waits for the broker's snapshot.")
    ] = 10
    max_workloads: MaxWorkloads = 20_000


class ApiWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.api]: workloads and services put by local programs over the unix socket."""

    timeout_s: Annotated[
        int, Meta(ge=1, le=600, description="How long an answer waits until the workload is announced.")
    ] = 5
    max_workloads: MaxWorkloads = 20_000


class GuestConfig(
    ListenConfig,
    frozen=True,
    kw_only=True,
    rename={"import_": "import", "prefix": "address", "max_neighbors": "max_guests"},
):
    """[[workload.bgp]]: a BGP speaker on this host, or several; what it announces becomes claims of this host.

    A guest dials, it is never dialed. Its sessions are those of a range of dynamic neighbors: `prefix` is its address.
    """

    name: Annotated[
        str, Meta(description="Unique name, also among neighbors: of the guest, or of the range of guests.")
    ]
    prefix: Annotated[str, Meta(description="Where the guest connects from: an address, or a prefix for several.")]
    prefixes: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description='What it may announce: "10.0.0.0/24 le 32", as in policies. Never a default.'),
    ]
    max_prefixes: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="More of a family ends the session; what is not permitted counts, too."),
    ]
    import_: Annotated[str, Meta(description='A [policy.NAME] for what `prefixes` permits; "all": none.')] = "all"
    export: Annotated[str, Meta(description='What the guest is told: "none" or "default-only".')] = "none"
    next_hop: Annotated[
        str,
        Meta(
            pattern="^(ignore|local)$",
            description='"ignore": routes lead to the guest, whatever next hop they have; "local": the next hop must '
            "be this host, the guest, or in the guest's network on this host.",
        ),
    ] = "ignore"
    communities: Annotated[
        str, Meta(pattern="^(keep|none)$", description='"keep": announced with its communities, standard and large.')
    ] = "none"
    med: Annotated[
        str,
        Meta(pattern="^(keep|none)$", description='"keep": announced with its MED (ExaBGP\'s healthcheck sets it).'),
    ] = "none"
    anycast: Annotated[
        bool, Meta(description="Other hosts may announce its addresses too, as MetalLB does: no alarm if they do.")
    ] = False
    max_neighbors: Annotated[int, Meta(ge=1, le=4096, description="Guests of a prefix at the same time.")] = 16
    port: Annotated[Port, Meta(description="Local TCP port that the guest connects to.")] = 179
    source_address: Annotated[str, Meta(description='Local address that the guest connects to; "": any.')] = ""
    interface: Annotated[Interface, Meta(description='Interface that the guest connects by; "": any.')] = ""
    graceful_restart: Annotated[
        GracefulRestartConfig, Meta(description="Keep what the guest announced while it restarts.")
    ] = GracefulRestartConfig(mode="helper")

    @property
    def is_single(self) -> bool:
        """Whether it is one guest, of a known address."""
        return "/" not in self.prefix


PROBE_TABLES = range(2_170_001, 2_170_251)
"""Kernel tables of probes: the first is that of the main table's, the others those of VRFs'."""


class HealthWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.health]: how backends of services are checked, and their addresses probed."""

    command_directory: Annotated[
        str,
        Meta(
            description='Only files in it may be run by "exec" checks; "": none may. '
            "Only root and the daemon's user may write it, the files, and the directories that lead there."
        ),
    ] = ""
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="Checks and probes that run at the same time.")] = 64
    probe_sources: Annotated[
        tuple[str, ...],
        Meta(description="A prefix of each family that nobody else uses: probes of service addresses come from it."),
    ] = ("169.254.62.0/24", "fd62:6770:6470::/64")


class ServicesConfig(Strict, frozen=True, kw_only=True):
    """[workload.services]: how services are announced, whoever says that they are here."""

    link_bandwidth_per_weight: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            description="Bytes per second of link bandwidth (RFC 10005) that a healthy backend of weight 1 counts; the "
            "same on all hosts. 0: none is announced.",
        ),
    ] = 125_000
    damping_half_life_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="A service that goes down more than three times in about this time is held back until it stays "
            "up. 0: none is.",
        ),
    ] = 60


class WorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload]: where this host's own prefixes come from."""

    kernel: KernelWorkloadConfig | None = None
    addresses: AddressesWorkloadConfig | None = None
    static: tuple[StaticWorkloadConfig, ...] = ()
    bgp: tuple[GuestConfig, ...] = ()
    mqtt: MqttWorkloadConfig | None = None
    api: ApiWorkloadConfig | None = None
    health: HealthWorkloadConfig = HealthWorkloadConfig()
    services: ServicesConfig = ServicesConfig()


class StateConfig(Strict, frozen=True, kw_only=True):
    """[state]: what outlives a restart."""

    directory: Annotated[str, Meta(description="Where claims of orchestrators are kept.")] = "/var/lib/bgpd"


class JournalConfig(Strict, frozen=True, kw_only=True):
    """[journal]: what happened, kept in the state directory."""

    enabled: Annotated[bool, Meta(description="Keep events on disk; else only the last 1,000 of this run.")] = True
    max_bytes: Annotated[
        int, Meta(ge=1_048_576, le=17_179_869_184, description="What they may take; the oldest go first.")
    ] = 67_108_864
    history_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=17_179_869_184,
            description="What the history of routes may take (bgpd explain --at); 0: none is kept.",
        ),
    ] = 67_108_864


class BmpConfig(Strict, frozen=True, kw_only=True):
    """[[bmp]]: a station that is told of sessions and routes by BMP (RFC 7854)."""

    address: Annotated[str, Meta(description="Its IP address.")]
    port: Annotated[int, Meta(ge=1, le=65_535, description="Its TCP port.")] = 11_019
    adj_rib_in: Annotated[bool, Meta(description="Tell what neighbors announce, before policy.")] = True
    loc_rib: Annotated[bool, Meta(description="Tell the routes that are used (RFC 9069).")] = False
    statistics_interval_s: Annotated[int, Meta(ge=5, le=86_400, description="How often it is sent counts.")] = 60


class MrtConfig(Strict, frozen=True, kw_only=True):
    """[mrt]: what neighbors say, as MRT files (RFC 6396)."""

    directory: Annotated[str, Meta(description='Where the files are; "": off.')] = ""
    rotate_s: Annotated[int, Meta(ge=10, le=86_400, description="A file ends after this time.")] = 900
    max_bytes: Annotated[
        int, Meta(ge=1_048_576, le=1_099_511_627_776, description="What all files may take; the oldest go first.")
    ] = 268_435_456


class FibConfig(Strict, frozen=True, kw_only=True):
    """[fib]: where and how learned routes go into the kernel."""

    table: Annotated[int, Meta(ge=1, le=4_294_967_295, description="Routing table; 254 is main.")] = 254
    protocol: Annotated[
        int, Meta(ge=1, le=255, description="Exclusive rtproto: what bears it is ours, nothing else is touched.")
    ] = 217
    metric: Annotated[
        int,
        Meta(
            ge=1,
            le=4_294_967_295,
            description="Metric of our routes; one that no other program uses (FRR's zebra has 20, BIRD 32, DHCP 100 "
            "and more).",
        ),
    ] = 17
    protect: Annotated[
        tuple[str, ...], Meta(description="Prefixes that no learned route may equal or be more specific than.")
    ] = ()
    override: Annotated[
        tuple[str, ...],
        Meta(
            description="Prefixes, exactly, that may be written although the host has a route to them by another "
            "program (its default route, say; not of `metric`), or they lead its own traffic elsewhere (a neighbor, "
            "the broker, ...)."
        ),
    ] = ()
    reconcile_interval_s: Annotated[
        int, Meta(ge=1, le=86400, description="How often the kernel is compared with what it should hold.")
    ] = 60
    preferred_source: Annotated[
        str | tuple[str, ...],
        Meta(
            description='Source of this host\'s own packets by learned routes of the main table: "loopback", an '
            'address of this host, or a list with one of each family; "": the kernel chooses.'
        ),
    ] = ""


class ApiConfig(Strict, frozen=True, kw_only=True):
    """[api]: the unix socket of the command line, and optionally a TCP listener for the web page and metrics."""

    socket: Annotated[str, Meta(description="Path of the unix socket.")] = "/run/bgpd/bgpd.sock"
    mode: Annotated[str, Meta(pattern="^0?[0-7]{3}$", description="Mode of the socket, octal.")] = "0660"
    group: Annotated[str, Meta(description='Group of the socket; "": the daemon\'s.')] = ""
    listen: Annotated[
        str, Meta(description='ADDRESS:PORT for the web page, metrics and views, all read-only; "": off.')
    ] = ""
    token_file: Annotated[str, Meta(description='File with the token that requests to `listen` need; "": none.')] = ""
    tls_certificate: Annotated[
        str, Meta(description='PEM file with the certificate of `listen` and its chain; "": no TLS.')
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the key of the certificate, without a passphrase.")] = ""
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Names by which requests to `listen` may call this host, beside its addresses and host name."),
    ] = ()


class DrainConfig(Strict, frozen=True, kw_only=True):
    """[drain]: how this host is taken out of service (`bgpd drain`)."""

    settle_s: Annotated[
        int,
        Meta(
            ge=0,
            le=3600,
            description="How long the fabric has to choose other paths, between GRACEFUL_SHUTDOWN and each withdrawal.",
        ),
    ] = 10
    quiet_packets_per_s: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Packets a second of one counter up to which its traffic counts as gone."),
    ] = 10
    on_shutdown: Annotated[
        bool, Meta(description="Drain, workloads too, before the host shuts down or reboots (unit bgpd-drain).")
    ] = False


class LogConfig(Strict, frozen=True, kw_only=True):
    """The daemon's log on standard error."""

    format: Annotated[str, Meta(description='"json" or "console".')] = "json"
    level: Annotated[str, Meta(description='"debug", "info", "warning" or "error".')] = "info"


class VrfConfig(Strict, frozen=True, kw_only=True):
    """[[vrf]]: one tenant: a kernel table, its route targets in EVPN, and the links by which it reaches the fabric."""

    name: Annotated[str, Meta(description="Unique name; of the VRF device too, where the kernel has one.")]
    table: Annotated[int, Meta(ge=1, le=4_294_967_295, description="Routing table of the VRF, of nobody else.")]
    rd: Annotated[str, Meta(description='Route distinguisher, "65203:1"; "auto": the router ID and the table.')] = (
        "auto"
    )
    import_rt: Annotated[
        tuple[str, ...], Meta(description='Route targets taken in; "auto": the router\'s AS and the VNI.')
    ] = ("auto",)
    export_rt: Annotated[
        tuple[str, ...], Meta(description='Route targets announced with; "auto": the router\'s AS and the VNI.')
    ] = ("auto",)
    vni: Annotated[
        int, Meta(ge=0, le=16_777_215, description="VNI of the leaves' VRF, announced as label; 0: none.")
    ] = 0
    uplinks: Annotated[
        tuple[Interface, ...], Meta(description="Interfaces of the VRF to the leaves, one to each.")
    ] = ()
    originate: Annotated[
        str,
        Meta(
            description='Advertised in EVPN: "local" (workloads, aggregates) or "all" (also of neighbors in the VRF).'
        ),
    ] = "local"
    resolve: Annotated[
        str, Meta(description='What EVPN routes are reached by: "gateway-ip", "next-hop" or "peer".')
    ] = "gateway-ip"
    uplink_neighbors: Annotated[
        dict[str, str], Meta(description="Neighbor that an uplink leads to, where that cannot be seen.")
    ] = {}
    uplink_gateways: Annotated[
        dict[str, tuple[str, ...]], Meta(description="Addresses of the leaf on an uplink, where they cannot be seen.")
    ] = {}


class ExportsConfig(msgspec.Struct, frozen=True):
    """What collectors are told."""

    bmp: tuple[BmpConfig, ...]
    mrt: MrtConfig


class Config(Strict, frozen=True, kw_only=True):
    """A whole configuration file."""

    router: RouterConfig
    neighbor: tuple[NeighborConfig, ...] = ()
    listen: tuple[ListenConfig, ...] = ()
    policy: dict[str, PolicyConfig] = {}
    aggregate: tuple[AggregateConfig, ...] = ()
    vrf: tuple[VrfConfig, ...] = ()
    workload: WorkloadConfig = WorkloadConfig()
    state: StateConfig = StateConfig()
    journal: JournalConfig = JournalConfig()
    bmp: tuple[BmpConfig, ...] = ()
    mrt: MrtConfig = MrtConfig()
    fib: FibConfig = FibConfig()
    api: ApiConfig = ApiConfig()
    drain: DrainConfig = DrainConfig()
    log: LogConfig = LogConfig()
    bfd: BfdProcessConfig = BfdProcessConfig()

    @property
    def ranges(self) -> tuple[ListenConfig, ...]:
        """Who may connect without being dialed: [[listen]] and [[workload.bgp]]."""
        return (*self.listen, *self.workload.bgp)

    # What each part of the daemon takes of it: a part whose value is the same as before need not hear of a reload.

    @property
    def speaker(self) -> SpeakerConfig:
        return SpeakerConfig(router=self.router, neighbor=self.neighbor, listen=self.ranges)

    @property
    def exports(self) -> ExportsConfig:
        return ExportsConfig(bmp=self.bmp, mrt=self.mrt)

    @property
    def rib(self) -> RibConfig:
        return RibConfig(
            router=self.router,
            neighbor=self.neighbor,
            listen=self.ranges,
            policy=self.policy,
            aggregate=self.aggregate,
        )

    @property
    def evpn(self) -> EvpnConfig:
        return EvpnConfig(router=self.router, vrf=self.vrf)

    @property
    def workloads(self) -> WorkloadsConfig:
        """`vrfs` is in it because a claim names its VRF, and a kernel route its table."""
        vrfs = {self.fib.table: "", **{vrf.table: vrf.name for vrf in self.vrf}}
        uplinks = [one.interface for one in self.neighbor if one.interface]
        uplinks += [uplink for vrf in self.vrf for uplink in vrf.uplinks]
        return WorkloadsConfig(
            workload=self.workload,
            state=self.state,
            fib=self.fib,
            vrfs=vrfs,
            uplinks=tuple(dict.fromkeys(uplinks)),
            leaves=tuple(dict.fromkeys((one.vrf, one.address) for one in self.neighbor if one.address)),
        )

    @property
    def guard(self) -> GuardConfig:
        return GuardConfig(neighbor=self.neighbor, vrf=self.vrf, workload=self.workload)


class SpeakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the sessions are made of; guests are in `listen`."""

    router: RouterConfig
    neighbor: tuple[NeighborConfig, ...]
    listen: tuple[ListenConfig, ...]


class RibConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What decides about routes: policies and who uses them, aggregates. Guests are in `listen`."""

    router: RouterConfig
    neighbor: tuple[NeighborConfig, ...] = ()
    listen: tuple[ListenConfig, ...] = ()
    policy: dict[str, PolicyConfig] = {}
    aggregate: tuple[AggregateConfig, ...] = ()


class EvpnConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The VRFs, and what their automatic values are made of."""

    router: RouterConfig
    vrf: tuple[VrfConfig, ...]


class WorkloadsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where claims come from. `vrfs` has the VRF of each kernel table; "" is the main one. `uplinks`: the interfaces
    that neighbors and VRFs name. `leaves`: VRF and address of each neighbor that has one.
    """

    workload: WorkloadConfig
    state: StateConfig
    fib: FibConfig
    vrfs: dict[int, str]
    uplinks: tuple[str, ...] = ()
    leaves: tuple[tuple[str, str], ...] = ()


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What names interfaces and addresses that the host itself depends on."""

    neighbor: tuple[NeighborConfig, ...]
    vrf: tuple[VrfConfig, ...]
    workload: WorkloadConfig
