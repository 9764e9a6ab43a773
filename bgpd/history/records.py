"""What the history of routes consists of: everything that entered the RIB, as it came, with the time of day.

Small frozen values, written as MessagePack arrays. Sessions have numbers, given anew by each process; `Session` says
which is which, and each base (base.py) says it again, so that a reader needs nothing that was written before one.
"""

from __future__ import annotations

import msgspec

from bgpd.message.open import Negotiated
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import Overlay
from bgpd.model.service import ServiceView
from bgpd.rib.next_hops import AllowedNextHops

VERSION = 3
"""Of the records, and of the files (segments.py): those of another version are not read."""


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Something that entered the RIB. `at`: seconds since the epoch."""

    at: float


class Started(Record, frozen=True, gc=False, array_like=True, tag=1):
    """A process has begun with this configuration (RibConfig). `is_adopting`: it goes on with what the one before
    left."""

    config: bytes
    is_adopting: bool


class Ended(Record, frozen=True, gc=False, array_like=True, tag=2):
    """A process has ended. `is_handed_over`: the next one goes on with its sessions."""

    is_handed_over: bool


class Lost(Record, frozen=True, gc=False, array_like=True, tag=3):
    """Something before this could not be kept: what follows says nothing until the next base."""

    reason: str


class BaseBegan(Record, frozen=True, gc=False, array_like=True, tag=4):
    """From here to BaseEnded all that the tables have is said once, among what changes meanwhile. What is known of next
    hops (by VRF) and the own addresses (VRF, interface, address)."""

    config: bytes
    next_hops: list[tuple[str, NextHop, str]]
    addresses: list[tuple[str, str, bytes]]


class BaseEnded(Record, frozen=True, gc=False, array_like=True, tag=5):
    """Whatever was not said since BaseBegan is not there."""


class Session(Record, frozen=True, gc=False, array_like=True, tag=6):
    """A session is there, or (`is_over`) routes of it are: its Source, its section (MessagePack of a NeighborConfig, or
    with `is_listen` of a ListenConfig), and what was negotiated.

    `is_known`: its routes are known under another number, of the process before. `allowed`: the next hops that it may
    name. `since`: when it was established. `long_lived`: families whose routes are the last choice (RFC 9494).
    """

    number: int
    name: str
    kind: str
    asn: int
    router_id: bytes
    address: bytes
    interface: str
    is_listen: bool
    config: bytes
    negotiated: Negotiated
    allowed: AllowedNextHops | None
    since: float
    is_over: bool = False
    is_known: bool = False
    long_lived: tuple[str, ...] = ()


class SessionClosed(Record, frozen=True, gc=False, array_like=True, tag=7):
    """A session has ended. `kept`: families whose routes are kept while the neighbor restarts, and until when."""

    number: int
    name: str
    reason: str
    kept: dict[str, float]


class Removed(Record, frozen=True, gc=False, array_like=True, tag=8):
    """The routes of a session that has ended are not used any more."""

    number: int
    family: str


class LongLived(Record, frozen=True, gc=False, array_like=True, tag=9):
    """The routes of a session that has ended became the last choice (RFC 9494)."""

    number: int
    family: str


class Allowed(Record, frozen=True, gc=False, array_like=True, tag=10):
    """A neighbor may name these next hops from now on."""

    number: int
    allowed: AllowedNextHops


class Heard(Record, frozen=True, gc=False, array_like=True, tag=11):
    """UPDATEs of a session, as they came, without their headers. They came within a few milliseconds (recorder.py)."""

    number: int
    bodies: list[bytes]


class RefreshBegan(Record, frozen=True, gc=False, array_like=True, tag=12):
    """A neighbor sends all its routes of a family again (RFC 7313)."""

    number: int
    family: str


class RefreshEnded(Record, frozen=True, gc=False, array_like=True, tag=13):
    """What it has not sent again is gone."""

    number: int
    family: str


class Discarded(Record, frozen=True, gc=False, array_like=True, tag=14):
    """These keys were beyond the limit of the neighbor, and not taken."""

    number: int
    family: str
    keys: list[bytes]


class Local(Record, frozen=True, gc=False, array_like=True, tag=15):
    """This host's own routes have these attributes now (`block`, `rank`, `is_simple`), or are withdrawn (`is_gone`)."""

    name: str
    kind: str
    vrf: str
    family: str
    keys: list[bytes]
    block: bytes = b""
    rank: int = 0
    is_simple: bool = True
    next_hop: NextHop | None = None
    is_gone: bool = False
    overlay: Overlay | None = None


class Reachable(Record, frozen=True, gc=False, array_like=True, tag=16):
    """Why a next hop of a VRF cannot be reached, "" if it can."""

    vrf: str
    next_hop: NextHop
    why: str


class OwnAddress(Record, frozen=True, gc=False, array_like=True, tag=17):
    """An address of this host came or went."""

    vrf: str
    interface: str
    address: bytes
    is_gone: bool


class Configured(Record, frozen=True, gc=False, array_like=True, tag=18):
    """Another configuration (RibConfig) is in force."""

    config: bytes


class ImportSource(Record, frozen=True, gc=False, array_like=True, tag=20):
    """A Source of routes that VRFs have from EVPN: what a neighbor says with one route distinguisher."""

    number: int
    name: str
    asn: int
    router_id: bytes
    address: bytes
    interface: str
    origin: bytes


class SavedPath(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A path as received: the number of its session, or (`local`) name and kind of this host's own source.

    One that a VRF has from EVPN (`number` is that of an ImportSource) is as it was imported: after import policy, with
    the attributes `before` it where they were others.
    """

    number: int
    local: tuple[str, str] | None
    block: bytes
    rank: int
    is_simple: bool
    next_hop: NextHop | None
    heard_at: float
    rejected: str = ""
    overlay: Overlay | None = None
    before: tuple[bytes, int, bool] | None = None


class Imported(Record, frozen=True, gc=False, array_like=True, tag=21):
    """A VRF has these paths from EVPN now: each with the keys that have it."""

    vrf: str
    family: str
    paths: list[SavedPath]
    keys: list[list[bytes]]


class ImportsWithdrawn(Record, frozen=True, gc=False, array_like=True, tag=22):
    """A VRF has no path of this ImportSource for these keys any more."""

    vrf: str
    family: str
    number: int
    keys: list[bytes]


class ImportsRemoved(Record, frozen=True, gc=False, array_like=True, tag=23):
    """A VRF has no path of this ImportSource any more."""

    vrf: str
    family: str
    number: int


class Told(Record, frozen=True, gc=False, array_like=True, tag=24):
    """A neighbor was sent routes of this host, of a VRF and family, with these attributes and this next hop field, in
    UPDATEs of the family `spoken`; with `is_gone`, that they are withdrawn."""

    number: int
    vrf: str
    family: str
    spoken: str
    keys: list[bytes]
    block: bytes = b""
    next_hop: bytes = b""
    overlay: Overlay | None = None
    is_gone: bool = False


class State(Record, frozen=True, gc=False, array_like=True, tag=19):
    """Part of a base: all candidates of these keys. `entries`: numbers of `paths`, and the keys that have these."""

    vrf: str
    family: str
    paths: list[SavedPath]
    entries: list[tuple[list[int], list[bytes]]]


class Tenants(Record, frozen=True, gc=False, array_like=True, tag=25):
    """The VRFs from now on: name, route distinguisher, and the route targets that it takes in."""

    vrfs: list[tuple[str, bytes, list[bytes]]]


class SavedClaim(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A claim, and what became of it: see Claim and ClaimStatus. `is_gone`: nobody claims it any more."""

    source: str
    id: str
    vrf: str
    family: str
    key: bytes
    state: str
    reason: str
    since: float
    announced: bool
    interface: str = ""
    kind: str = ""
    mac: bytes = b""
    sticky: bool = False
    exception: bool = False
    guests: tuple[str, ...] = ()
    is_gone: bool = False


class Claimed(Record, frozen=True, gc=False, array_like=True, tag=26):
    """These claims of workloads are so now."""

    claims: list[SavedClaim]


class Served(Record, frozen=True, gc=False, array_like=True, tag=27):
    """A service is so now; None: there is none of this name any more. `announced` of it is whether it should be, by its
    backends: whom it was announced to is told by `Told`."""

    name: str
    view: ServiceView | None


class Seen(Record, frozen=True, gc=False, array_like=True, tag=28):
    """The overview of the host (JSON of an OverviewView) since `looked_at`; a base says the last one again."""

    looked_at: float
    view: bytes


AnyRecord = (
    Started
    | Ended
    | Lost
    | BaseBegan
    | BaseEnded
    | Session
    | SessionClosed
    | Removed
    | LongLived
    | Allowed
    | Heard
    | RefreshBegan
    | RefreshEnded
    | Discarded
    | Local
    | Reachable
    | OwnAddress
    | Configured
    | State
    | ImportSource
    | Imported
    | ImportsWithdrawn
    | ImportsRemoved
    | Told
    | Tenants
    | Claimed
    | Served
    | Seen
)

Keyed = Heard | Discarded | Local | State | Imported | ImportsWithdrawn | Told | Claimed | Served | Seen
"""Those that are only about the keys that they name, or are of one kind (`Mark`): a reader who looks for others need
not read them (segments.py)."""


class Mark:
    """What stands in the index of a block like a key, where the block says something of a kind. No prefix has such a
    length, and what is so short is in the index in any case (SHORT)."""

    EVPN = b"\xfd"
    OWN = b"\xfe"
    OVERVIEW = b"\xff"


decoder = msgspec.msgpack.Decoder(list[AnyRecord])
numbered_decoder = msgspec.msgpack.Decoder(list[tuple[int, AnyRecord]])
"""Of records with their places among others."""
