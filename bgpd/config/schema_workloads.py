"""[workload] of the configuration: where this host's own prefixes come from, guests among them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bgpd.config.schema_sessions import GracefulRestartConfig, ListenConfig
from bgpd.config.schema_values import Interface, Port, Seconds, Strict


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
    host: Annotated[
        str, Meta(pattern="^[^/+#]*$", max_length=255, description='This host in topics; "": the router\'s hostname.')
    ] = ""
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
            le=1_000_000_000_000,
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
