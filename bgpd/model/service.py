"""Services: an address that several backends answer for, on this host and on others (anycast).

Decides nothing: `workload/service/services.py` does.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from bgpd.model.iana import Family
from bgpd.model.workload import AddressText, Identifier


class ProbedAddress(NamedTuple):
    """Which address is asked, and for which service: of several with one address each asks its own backends."""

    service: str
    vrf: str
    family: Family
    key: bytes


class ServiceMode(enum.StrEnum):
    """`prefer-local`: the kernel hands the address to the local backends. `announce-only`: something else does."""

    PREFER_LOCAL = "prefer-local"
    ANNOUNCE_ONLY = "announce-only"


class WeightFrom(enum.StrEnum):
    """What the link bandwidth says that an address is announced with: the sum of the weights of the healthy backends,
    or nothing, which makes all hosts equal.
    """

    BACKENDS = "backends"
    NONE = "none"


class LastResort(enum.StrEnum):
    """What becomes of a service when the checks of all its backends fail at once: `keep` announces it on, with the
    backends as they were, since it may be the check that is broken.
    """

    WITHDRAW = "withdraw"
    KEEP = "keep"


class CheckType(enum.StrEnum):
    """How a backend or an address is asked. `push`: the orchestrator says so, in the backend's `healthy`."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    DNS = "dns"
    EXEC = "exec"
    PUSH = "push"


class DnsTransport(enum.StrEnum):
    """How a DNS server is asked. `udp`: once more over TCP where the answer was cut short, as resolvers do."""

    UDP = "udp"
    TCP = "tcp"


class DnsRecord(enum.StrEnum):
    """The record types that a check can ask for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    NS = "NS"
    PTR = "PTR"
    SOA = "SOA"
    SRV = "SRV"
    TXT = "TXT"


class HealthCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How the backends of a service are checked (`check`), or its addresses are asked (`probe`).

    `exec` runs a file of the configured command directory, with the address and the port as arguments, and in a VRF the
    interface that leads to it; exit code 0 is healthy. `dns` is healthy if the server has a record of `query_type` for
    `query`.
    """

    type: Annotated[CheckType, Meta(description="tcp, http, https, dns, exec or push (not of a probe).")]
    port: Annotated[int, Meta(ge=0, le=65535, description="Of tcp, http, https; of dns 53 unless given.")] = 0
    host: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,253}(?!\n)$",
            description='Of http and https: the name in the Host header and in TLS; "": the address.',
        ),
    ] = ""
    query: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._*-]{0,253}(?!\n)$", description="Name that a DNS server is asked for.")
    ] = ""
    query_type: Annotated[DnsRecord, Meta(description="Record type that is asked for.")] = DnsRecord.A
    transport: Annotated[DnsTransport, Meta(description="Of dns: udp or tcp.")] = DnsTransport.UDP
    path: Annotated[str, Meta(pattern=r"^/[!-~]{0,1023}(?!\n)$", description="Of http and https.")] = "/"
    status: Annotated[
        tuple[int, ...], Meta(min_length=1, max_length=32, description="Status codes that are healthy.")
    ] = (200,)
    verify: Annotated[bool, Meta(description="Check the certificate (https).")] = False
    command: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}(?!\n)$", description="File name (exec).")] = ""
    interval_s: Annotated[float, Meta(ge=0.1, le=3600)] = 2.0
    timeout_s: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    rise: Annotated[int, Meta(ge=1, le=100, description="Good answers in a row until healthy.")] = 2
    fall: Annotated[int, Meta(ge=1, le=100, description="Bad answers in a row until not.")] = 3


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One local workload that answers for a service."""

    id: Identifier
    addresses: Annotated[
        tuple[AddressText, ...], Meta(min_length=1, max_length=8, description="Addresses of a workload on this host.")
    ]
    weight: Annotated[int, Meta(ge=1, le=256)] = 1
    drain: Annotated[bool, Meta(description="Gets no new flows.")] = False
    healthy: Annotated[bool | None, Meta(description="For the check type push; null is not known, not healthy.")] = None


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A service address with its local backends (MQTT and API payload)."""

    name: Annotated[Identifier | None, Meta(description="If given, the same as in the topic or URL.")] = None
    addresses: Annotated[
        tuple[AddressText, ...], Meta(min_length=1, max_length=16, description="The service's addresses, each once.")
    ]
    vrf: Annotated[str, Meta(max_length=64, description='VRF of the addresses; "" is the main table.')] = ""
    mode: ServiceMode = ServiceMode.PREFER_LOCAL
    min_healthy: Annotated[int, Meta(ge=1, le=1024, description="Healthy local backends needed to announce.")] = 1
    weight_from: Annotated[
        WeightFrom,
        Meta(description='What the fabric spreads by: "backends", their weights (link bandwidth); "none", equally.'),
    ] = WeightFrom.BACKENDS
    last_resort: Annotated[
        LastResort,
        Meta(description='When all backends fail at once by their checks: "withdraw", or "keep" them as they were.'),
    ] = LastResort.WITHDRAW
    slow_start_s: Annotated[
        float, Meta(ge=0, le=3600, description="Time in which a backend that comes into service gets its whole weight.")
    ] = 0.0
    resilient: Annotated[bool, Meta(description="Flows keep their backend when others come and go.")] = False
    drain: Annotated[bool, Meta(description="Withdraw the address, keep serving what still arrives.")] = False
    backends: Annotated[tuple[Backend, ...], Meta(max_length=1024)] = ()
    check: HealthCheck | None = None
    probe: Annotated[
        HealthCheck | None,
        Meta(description="How the host asks each address itself, before it is announced and from then on."),
    ] = None


class BackendView(msgspec.Struct, kw_only=True):
    """One backend of `bgpd show services`: `state` is "healthy", "unhealthy", "unknown" or "drained".

    `weight_now`: the weight with which it serves: less than `weight` in a slow start, 0 if it does not serve.
    """

    id: str
    addresses: list[str]
    interface: str = ""
    weight: int = 1
    weight_now: float = 0.0
    state: str
    reason: str = ""
    since: float = 0.0


class ProbeView(msgspec.Struct, kw_only=True):
    """What the probe of one address of a service says: `state` is "healthy", "unhealthy" or "unknown"."""

    address: str
    type: str
    state: str
    reason: str = ""
    since: float = 0.0


class ServiceView(msgspec.Struct, kw_only=True):
    """`bgpd show services`: one service, whether it is announced, and its backends.

    `bandwidth` is the link bandwidth (bytes per second) with which each address is announced. `kept` are the addresses
    that are announced as a last resort: all their backends have failed. `damped_since`, `damped_until`: since and until
    when it is held back, because it goes down again and again (None: it is not). `not_saved`, in answers of the local
    API: see WorkloadReport.
    """

    name: str
    source: str
    addresses: list[str]
    vrf: str = ""
    mode: str = "prefer-local"
    min_healthy: int = 1
    healthy: int = 0
    weight_from: str = "backends"
    bandwidth: dict[str, float] = {}
    last_resort: str = "withdraw"
    kept: list[str] = []
    slow_start_s: float = 0.0
    damped_since: float | None = None
    damped_until: float | None = None
    announced: bool = False
    reason: str = ""
    backends: list[BackendView] = []
    probes: list[ProbeView] = []
    not_saved: str = ""
