"""The configuration: its values, with the description, unit and range of each field.

`load` decodes them from TOML text, `check` checks them against each other, `effects` says what a change does.
Every field that is a quantity has its unit in its name. Unknown keys are errors. Sessions, policies and workloads have
files of their own (schema_sessions.py, schema_policies.py, schema_workloads.py). At the end: which part of the daemon
takes which part of the configuration.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from bgpd.config.schema_policies import AggregateConfig, PolicyConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.config.schema_values import AsNumber, Interface, Strict
from bgpd.config.schema_workloads import WorkloadConfig

DEFAULT_ASN_RANGE = "4200000000-4294967294"
DEFAULT_BFD_SOCKET = "/run/bgpd-bfd/bfd.sock"


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


class BfdProcessConfig(Strict, frozen=True, kw_only=True):
    """[bfd]: the process that speaks BFD."""

    socket: Annotated[str, Meta(description="Unix socket of bgpd-bfd.")] = DEFAULT_BFD_SOCKET


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
    adj_rib_out: Annotated[bool, Meta(description="Tell what neighbors are sent, after policy (RFC 8671).")] = False
    adj_rib_out_before_policy: Annotated[
        bool, Meta(description="Tell what neighbors would be sent if export policy accepted all (RFC 8671).")
    ] = False
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
    """[log]: the daemon's log on standard error."""

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
        """What sessions take."""
        return SpeakerConfig(router=self.router, neighbor=self.neighbor, listen=self.ranges)

    @property
    def exports(self) -> ExportsConfig:
        """What BMP stations and MRT files take."""
        return ExportsConfig(bmp=self.bmp, mrt=self.mrt)

    @property
    def rib(self) -> RibConfig:
        """What the RIB takes."""
        return RibConfig(
            router=self.router,
            neighbor=self.neighbor,
            listen=self.ranges,
            policy=self.policy,
            aggregate=self.aggregate,
        )

    @property
    def evpn(self) -> EvpnConfig:
        """What EVPN takes."""
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
        """What says which prefixes this host needs for itself."""
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
