"""Workloads as orchestrators send them, and the address claims made from them.

Decides nothing: `workload/feed/payload.py` checks payloads, `workload/table.py` merges claims, the RIB announces
them.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops


class WorkloadState(enum.StrEnum):
    """What became of a claim; each is shown with its reason and since when."""

    PENDING = "pending"
    ANNOUNCED = "announced"
    SUPPRESSED = "suppressed"
    DAMPED = "damped"
    CONFLICT = "conflict"
    MOVED = "moved"
    FAILED = "failed"


class WorkloadKind(enum.StrEnum):
    """What a workload is."""

    POD = "pod"
    VM = "vm"
    BARE_METAL = "bare-metal"


Identifier = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,252}(?!\n)$",
        description="Letters, digits and . _ : @ -, at most 253; the last part of the topic or URL.",
    ),
]
AddressText = Annotated[str, Meta(max_length=64, description="An IPv4 or IPv6 address, or a prefix without host bits.")]


class Workload(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What an orchestrator says of one workload on this host (MQTT and API payload).

    With an `interface`, bgpd keeps the host route of each address on it; without one, another program keeps a route.
    """

    id: Annotated[Identifier | None, Meta(description="If given, the same as in the topic or URL.")] = None
    kind: Annotated[WorkloadKind, Meta(description="What it is; shown, nothing depends on it.")] = WorkloadKind.POD
    addresses: Annotated[
        tuple[AddressText, ...],
        Meta(min_length=1, max_length=256, description="Addresses or prefixes, without host bits, each once."),
    ]
    mac: Annotated[str, Meta(max_length=17, description='Six bytes, "02:00:00:00:00:01"; "" if unknown.')] = ""
    vrf: Annotated[str, Meta(max_length=64, description='VRF of the addresses; "" is the main table.')] = ""
    interface: Annotated[
        str, Meta(pattern=r"^[^/\s]{0,15}(?!\n)$", description="Host side interface that leads to the workload.")
    ] = ""
    sticky: Annotated[bool, Meta(description="Its MAC must not move to another host (RFC 7432 section 15.2).")] = False
    exception: Annotated[
        bool, Meta(description="Moved here from another host's block: announced also inside an aggregate.")
    ] = False


class Sync(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole snapshot: generation `generation` has `count` workloads and `services` services (MQTT `sync`)."""

    generation: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Grows with each snapshot of an epoch.")]
    count: Annotated[int, Meta(ge=0, le=10_000_000, description="Workloads of this host in the snapshot.")]
    services: Annotated[
        Annotated[int, Meta(ge=0, le=10_000_000)] | None,
        Meta(
            description="Services of this host in the snapshot; null: not counted, and one that the broker does not "
            "have ends only after it was asked for again.",
        ),
    ] = None
    epoch: Annotated[
        str, Meta(max_length=64, description="Another one than before: generations are counted anew, from any number.")
    ] = ""


class Communities(msgspec.Struct, frozen=True, gc=False):
    """Communities that a claim is announced with, standard and large, packed as in their attributes."""

    standard: bytes = b""
    large: bytes = b""


NO_COMMUNITIES = Communities()


class Claim(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One prefix that a source says is reachable on this host.

    `source` is the kind of the source (see `workload/sources.py`), `id` the workload's name within it, `key` the route
    key of `family`. `vrf` is "" for the main table. With `manage_route` bgpd keeps the kernel's host route (`dev
    interface scope link`, or over `members` for a service address, or by `via`) itself; otherwise another program does,
    or none is needed, and bgpd only follows. `is_own`: the host itself has the address on `interface`, and answers for
    it whether that is up or not. `exception`: always announced, also inside an aggregate. `mac` is 6 bytes or b"".
    `withheld` says why it is not announced although its route is kept ("" if it is announced): a drained service.
    `is_damped`: it is withheld because it comes and goes. `is_last_resort`: another service is better. With `yields`
    its route is kept only while there is no learned one to the address: the fabric's takes its place. `bandwidth`: the
    link bandwidth (bytes per second) that it is announced with, 0 for none. `note`: what is to be known of it while it
    is announced. `guests` are the sessions with guests that say it, `via` the gateways to a guest that is behind an
    interface, `communities` and `med` what it is announced with; so is `only_to_customer`, the AS number of their OTC
    (RFC 9234). `is_anycast`: other hosts may announce it too.
    """

    source: str
    id: str
    family: Family
    key: bytes
    interface: str = ""
    vrf: str = ""
    manage_route: bool = False
    is_own: bool = False
    members: NextHops = ()
    resilient: bool = False
    kind: str = ""
    mac: bytes = b""
    sticky: bool = False
    exception: bool = False
    needs_route: bool = False
    withheld: str = ""
    is_damped: bool = False
    is_last_resort: bool = False
    yields: bool = False
    bandwidth: float = 0.0
    note: str = ""
    guests: tuple[str, ...] = ()
    via: NextHops = ()
    communities: Communities = NO_COMMUNITIES
    med: int | None = None
    only_to_customer: int | None = None
    is_anycast: bool = False

    @property
    def has_attributes(self) -> bool:
        """Whether it is announced with attributes of its own."""
        return self.communities != NO_COMMUNITIES or (self.med, self.only_to_customer) != (None, None)


class ClaimInfo(msgspec.Struct, frozen=True, cache_hash=True):
    """What the RIB and EVPN must know of an announced claim beside its key: see `Claim`.

    `is_service`: other hosts may announce it too. `bandwidth`: this host's link bandwidth among them, 0 for none.
    """

    exception: bool = False
    sticky: bool = False
    mac: bytes = b""
    is_service: bool = False
    bandwidth: float = 0.0
    communities: Communities = NO_COMMUNITIES
    med: int | None = None
    only_to_customer: int | None = None


class Presence(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What EVPN knew of a workload with a MAC: kept over a restart, so that a claim replayed is no move.

    `sequence`: the MAC mobility sequence of this host's last announcement. `moved`: why another host has it, "" if this
    one does. `seen`: the highest sequence that another host announced, -1 for none.
    """

    sequence: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    seen: Annotated[int, Meta(ge=-1, le=2**32 - 1)] = -1
    moved: str = ""


PLAIN = ClaimInfo()
"""Of nearly all claims in the main table."""
_IPV4 = Family.IPV4_UNICAST


def is_workload(family: Family, key: bytes) -> bool:
    """Whether a prefix may be a workload's: no default route, not link-local, loopback or multicast."""
    if key[0] == 0:
        return False
    if family is _IPV4:
        return key[1] not in (0, 127) and key[1] < 224 and key[1:3] != b"\xa9\xfe"
    link_local = key[1] == 0xFE and len(key) > 2 and key[2] & 0xC0 == 0x80
    return key[1] != 0xFF and not link_local and key[1:16] != bytes(15)
