"""The configuration file: its values, and how TOML text becomes them.

Every field that is a quantity has its unit in its name. Unknown keys are errors.
"""

from __future__ import annotations

import msgspec


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all configuration values: immutable, and no unknown key is let through."""


class RouterConfig(Strict, frozen=True, kw_only=True):
    """[router]: who this host is. `hostname` "" means the system's."""

    asn: int
    router_id: str
    hostname: str = ""


class BfdConfig(Strict, frozen=True, kw_only=True):
    """neighbor.bfd (RFC 5880)."""

    interval_ms: int = 300
    multiplier: int = 3


class GracefulRestartConfig(Strict, frozen=True, kw_only=True):
    """neighbor.graceful_restart (RFC 4724, RFC 9494)."""

    restart_time_s: int = 120
    long_lived_s: int = 0


class SessionConfig(Strict, frozen=True, kw_only=True, rename={"import_": "import"}):
    """What [[neighbor]] and [[listen]] share. `asn` is a number, "external" or "internal".

    `import_` and `export` are a built-in ("none", "default-only", "all"; export also "local") or the name of a [policy.NAME].
    """

    asn: int | str
    import_: str
    export: str = "local"
    families: tuple[str, ...] = ("ipv4-unicast", "ipv6-unicast")
    vrf: str = ""
    local_asn: int = 0
    hold_time_s: int = 9
    connect_retry_s: int = 5
    allow_own_as: int = 0
    max_prefixes: int = 2_000_000
    password_file: str = ""
    ttl_security: bool = False
    extended_messages: bool = True
    bfd: BfdConfig | None = None
    graceful_restart: GracefulRestartConfig | None = None


class NeighborConfig(SessionConfig, frozen=True, kw_only=True, rename={"import_": "import"}):
    """[[neighbor]]: one configured neighbor, by `address` or, unnumbered, by `interface` alone.

    With an `address`, `interface` scopes a link-local address or binds the session to a device.
    """

    name: str
    address: str = ""
    interface: str = ""
    port: int = 179
    passive: bool = False
    source_address: str = ""


class ListenConfig(SessionConfig, frozen=True, kw_only=True, rename={"import_": "import"}):
    """[[listen]]: dynamic neighbors, accepted from any address inside `prefix`."""

    prefix: str
    max_neighbors: int = 256


class MatchConfig(Strict, frozen=True, kw_only=True):
    """policy rule `match`: all given conditions must hold; within one list any element may.

    `prefix` entries are "10.0.0.0/8", with optional " ge N" and " le N". `as_path` entries are ASNs that must appear, or
    regular expressions over the space-separated path. Communities: "65000:1", "rt:65000:1", "65000:1:2".
    """

    prefix: tuple[str, ...] = ()
    as_path: tuple[str, ...] = ()
    community: tuple[str, ...] = ()
    extended_community: tuple[str, ...] = ()
    large_community: tuple[str, ...] = ()
    next_hop: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    neighbor: tuple[str, ...] = ()


class SetConfig(Strict, frozen=True, kw_only=True):
    """policy rule `set`: changes made to a route that the rule matched."""

    local_pref: int | None = None
    med: int | None = None
    add_community: tuple[str, ...] = ()
    remove_community: tuple[str, ...] = ()
    add_extended_community: tuple[str, ...] = ()
    remove_extended_community: tuple[str, ...] = ()
    add_large_community: tuple[str, ...] = ()
    remove_large_community: tuple[str, ...] = ()
    prepend: int = 0


class RuleConfig(Strict, frozen=True, kw_only=True):
    """One rule of a policy. `action`: "accept", "reject" or "next" (apply `set`, go on)."""

    match: MatchConfig = MatchConfig()
    set: SetConfig = SetConfig()
    action: str = "accept"


class PolicyConfig(Strict, frozen=True, kw_only=True):
    """[policy.NAME]: rules in order; a route that none matches is rejected."""

    rules: tuple[RuleConfig, ...] = ()


class StaticWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[[workload.static]]: a prefix on an interface, kept in the kernel by bgpd."""

    prefix: str
    interface: str
    id: str = ""


class KernelWorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload.kernel]: announce the routes that other programs put on interfaces matching these globs."""

    interfaces: tuple[str, ...] = ()


class WorkloadConfig(Strict, frozen=True, kw_only=True):
    """[workload]: where this host's own prefixes come from."""

    kernel: KernelWorkloadConfig | None = None
    static: tuple[StaticWorkloadConfig, ...] = ()


class FibConfig(Strict, frozen=True, kw_only=True):
    """[fib]: where and how learned routes go into the kernel.

    `protect` are prefixes that no learned route may cover exactly or be more specific than.
    """

    table: int = 254
    protocol: int = 197
    metric: int = 20
    protect: tuple[str, ...] = ()
    reconcile_interval_s: int = 60


class ApiConfig(Strict, frozen=True, kw_only=True):
    """[api]: the unix socket of the command line, and optionally a TCP listener for metrics."""

    socket: str = "/run/bgpd/bgpd.sock"
    listen: str = ""


class LogConfig(Strict, frozen=True, kw_only=True):
    """[log]."""

    format: str = "json"
    level: str = "info"


class Config(Strict, frozen=True, kw_only=True):
    """A whole configuration file."""

    router: RouterConfig
    neighbor: tuple[NeighborConfig, ...] = ()
    listen: tuple[ListenConfig, ...] = ()
    policy: dict[str, PolicyConfig] = {}
    workload: WorkloadConfig = WorkloadConfig()
    fib: FibConfig = FibConfig()
    api: ApiConfig = ApiConfig()
    log: LogConfig = LogConfig()
