"""What happens to a fabric: events of a seed, at their times. A scenario is a value, to be run again and shortened.

Each event names what it is about; one that does not fit what is there by then (a second cut of a link, a restart of a
daemon that does not run) does nothing, so that any part of a scenario is a scenario.
"""

from __future__ import annotations

import enum

import msgspec

from bgpd.simulation.shape import Shape


class Kind(enum.StrEnum):
    """What can happen."""

    CUT = "cut"
    DEAF = "deaf"
    LOSSY = "lossy"
    SLOW = "slow"
    MEND = "mend"
    LEAF_DIES = "leaf-dies"
    LEAF_BOOTS = "leaf-boots"
    LEAF_RESTARTS = "leaf-restarts"
    LEAF_RESTARTS_GRACEFULLY = "leaf-restarts-gracefully"
    LEAF_LEAVES = "leaf-leaves"
    LEAF_RETURNS = "leaf-returns"
    KILL = "kill"
    START = "start"
    RESTART = "restart"
    HAND_OVER = "hand-over"
    STOP = "stop"
    POWER_LOSS = "power-loss"
    BOOT = "boot"
    CLAIM = "claim"
    RELEASE = "release"
    MOVE = "move"
    MOVE_LIVE = "move-live"
    STATIC = "static"
    CONTEND = "contend"
    PUT = "put"
    DELETE = "delete"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    FOREIGN = "foreign"
    FOREIGN_GONE = "foreign-gone"
    REFUSE = "refuse"
    LOSE_ANSWERS = "lose-answers"
    UNREADABLE = "unreadable"
    LOSE_EVENTS = "lose-events"
    NEXTHOP_GONE = "nexthop-gone"
    ROUTE_GONE = "route-gone"
    ROUTE_TURNED = "route-turned"
    STALL = "stall"
    WALL_STEP = "wall-step"
    FLAP = "flap"
    BLINK = "blink"
    FLICKER = "flicker"
    WORKLOADS_DOWN = "workloads-down"
    WORKLOADS_UP = "workloads-up"
    LEAF_RESETS = "leaf-resets"
    LEAF_ASKS = "leaf-asks"
    LEAF_ANNOUNCES = "leaf-announces"
    LEAF_WITHDRAWS = "leaf-withdraws"
    LEAF_SAYS_BANDWIDTH = "leaf-says-bandwidth"
    RELOAD_NEIGHBOR = "reload-neighbor"
    RELOAD_IMPORT = "reload-import"
    RELOAD_HOLD_TIME = "reload-hold-time"
    RELOAD_IMPORT_POLICY = "reload-import-policy"
    RELOAD_EXPORT_POLICY = "reload-export-policy"
    RELOAD_RULES = "reload-rules"
    RELOAD_AGGREGATES = "reload-aggregates"
    MACHINE_STARTS = "machine-starts"
    MACHINE_STARTS_STICKY = "machine-starts-sticky"
    MACHINE_ENDS = "machine-ends"
    MACHINE_MOVES = "machine-moves"
    RELOAD_VRF = "reload-vrf"
    SERVICE_STARTS = "service-starts"
    SERVICE_ENDS = "service-ends"
    BACKEND_SICK = "backend-sick"
    BACKEND_WELL = "backend-well"
    BACKENDS_SICK = "backends-sick"
    SERVICE_MUTE = "service-mute"
    SERVICE_ANSWERS = "service-answers"
    BACKEND_ENDS = "backend-ends"
    BACKEND_STARTS = "backend-starts"
    DRAIN_SERVICES = "drain-services"
    FEED_PUTS = "feed-puts"
    FEED_DELETES = "feed-deletes"
    FEED_MOVES = "feed-moves"
    FEED_BEGINS_ANEW = "feed-begins-anew"
    FEED_SAYS_OLD = "feed-says-old"
    FEED_SAYS_HALF = "feed-says-half"
    BROKER_DIES = "broker-dies"
    BROKER_FORGETS = "broker-forgets"
    BROKER_DROPS = "broker-drops"
    BROKER_REPEATS = "broker-repeats"
    BFD_RESTARTS = "bfd-restarts"
    BFD_CRASHES = "bfd-crashes"
    BFD_SHUT = "bfd-shut"
    BFD_OPENED = "bfd-opened"
    GUEST_SAYS = "guest-says"
    GUEST_WITHDRAWS = "guest-withdraws"
    GUEST_RESTARTS = "guest-restarts"
    GUEST_RESTARTS_GRACEFULLY = "guest-restarts-gracefully"
    GUEST_DIES = "guest-dies"
    GUEST_STARTS = "guest-starts"
    GUEST_HANGS = "guest-hangs"
    RELOAD_GUESTS = "reload-guests"
    ADDRESS_COMES = "address-comes"
    ADDRESS_GOES = "address-goes"
    RELOAD_ADDRESSES = "reload-addresses"
    VRF_LEAF_SAYS = "vrf-leaf-says"
    VRF_LEAF_WITHDRAWS = "vrf-leaf-withdraws"
    VRF_LEAF_RESETS = "vrf-leaf-resets"
    RELOAD_VRF_NEIGHBOR = "reload-vrf-neighbor"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`at_s` after the start of its round. `host` and `leaf` (or a guest): whom it is about, `address` a workload's, of
    a `tenant` or of none, `value` what the kind makes of it: a time, a share, a metric."""

    at_s: float
    kind: Kind
    host: str = ""
    leaf: str = ""
    address: str = ""
    value: float = 0.0
    tenant: str = ""

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.host, self.leaf, self.tenant, self.address)))
        return f"{self.at_s:6.2f} {self.kind} {what}" + (f" {self.value:g}" if self.value else "")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """`rounds`: events, after each of which the fabric comes to rest. `claims` are there at the start."""

    seed: int
    shape: Shape
    claims: tuple[tuple[str, str], ...]
    rounds: tuple[tuple[Event, ...], ...]
    machines: tuple[tuple[str, str, str], ...] = ()
    """Workloads of tenants that are there at the start: host, tenant, address."""
    services: tuple[tuple[str, str, int], ...] = ()
    """Services that hosts offer at the start: host, address, number of backends."""
    fed: tuple[tuple[str, str], ...] = ()
    """Workloads that the orchestrator wants at the start: host, address."""
    is_gentle: bool = False
    """Nothing breaks in it: no packet to the claims of the start may be lost at any moment ..."""
    bound_s: float = 0.0
    """... but for so long after the events."""

    @property
    def keeps_sessions(self) -> bool:
        """Whether no session may end."""
        kinds = {event.kind for events in self.rounds for event in events}
        ending = {Kind.RESTART, Kind.KILL, Kind.LEAF_RESTARTS_GRACEFULLY, Kind.LEAF_LEAVES}
        return self.is_gentle and not self.bound_s and not kinds & ending

    @property
    def events(self) -> int:
        """How many there are in all rounds."""
        return sum(map(len, self.rounds))
