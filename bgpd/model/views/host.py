"""JSON views of the host as a whole: its health, the overview on one screen, what happened."""

from __future__ import annotations

import msgspec

from bgpd.model.identity import Chosen
from bgpd.model.views.orders import DrainView
from bgpd.model.views.routes import NextHopView
from bgpd.model.views.sessions import NeighborView


class EventView(msgspec.Struct, kw_only=True):
    """`bgpd show events`, `bgpd monitor`: something an operator may want to know. `sequence` rises by one each.

    `event` is a fixed name ("session.established"), `fields` its values.
    """

    sequence: int
    at: float
    level: str
    event: str
    fields: dict[str, str | int | float | bool | None] = {}


class HandoverView(msgspec.Struct, kw_only=True):
    """What a process of bgpd found at its start of the one before it. `at`: when that left it, `version`: which it was.

    `adopted` are the sessions that went on, of which nothing was read for `unread_s`. `refused`: by neighbor, why one
    did not; `problem`: why none did.
    """

    at: float | None = None
    version: str = ""
    adopted: int = 0
    refused: dict[str, str] = {}
    problem: str = ""
    unread_s: float = 0.0


class ConfigurationView(msgspec.Struct, kw_only=True):
    """Where the configuration in force came from. `at`: when it was read.

    `files` are the file of the command line and its fragments, in the order in which they were merged; `variables` what
    those in them stand for, by name ("loopback4", "env:RACK"). `asn` and `router_id`: what "auto" stands for, null
    where it is configured.
    """

    at: float = 0.0
    files: list[str] = []
    variables: dict[str, str] = {}
    asn: Chosen | None = None
    router_id: Chosen | None = None


class HealthView(msgspec.Struct, kw_only=True):
    """`GET /v1/health`: whether the host may be relied on. `reasons` say why `ready` is false, `warnings` what else is
    wrong.

    `form` is "compiled" where the hot path runs as the compiled modules of the wheel, else "plain" (all is Python).
    `fib_pending` and `fib_failed` are routes that RIB and kernel differ by. `loop_stall_s` is the longest time that the
    event loop was held since the start, `loop_stall_p9999_s` what one hold of ten thousand exceeds. With `cpu` in their
    names both are the processor time of the loop's thread: what is missing in them, others had the processor for.
    `last_handover` is what this process was handed over at its start, null if nothing was. `configuration`: where the
    one in force came from. `history_from`: when the history of routes begins, null where it says nothing yet.

    `waiting_for`: all that is waited for after a start before kernel routes of the run before are removed that nobody
    has announced again (the Selection Deferral Timer of RFC 4724), and how long still.
    """

    ready: bool
    reasons: list[str] = []
    waiting_for: list[str] = []
    warnings: list[str] = []
    version: str = ""
    form: str = ""
    pid: int = 0
    hostname: str = ""
    started_at: float = 0.0
    neighbors: int = 0
    neighbors_established: int = 0
    routes: int = 0
    fib_pending: int = 0
    fib_failed: int = 0
    loop_stall_s: float = 0.0
    loop_stall_p9999_s: float = 0.0
    loop_stall_cpu_s: float = 0.0
    loop_stall_cpu_p9999_s: float = 0.0
    last_handover: HandoverView | None = None
    configuration: ConfigurationView | None = None
    history_from: float | None = None


class TableOverview(msgspec.Struct, kw_only=True):
    """One VRF ("": the main table): `prefixes` in the RIB by family, and its kernel routes: wanted, there, waiting,
    refused by the kernel, and not written because another program has the prefix.
    """

    vrf: str = ""
    prefixes: dict[str, int] = {}
    desired: int = 0
    installed: int = 0
    pending: int = 0
    failed: int = 0
    blocked: int = 0


class GroupOverview(msgspec.Struct, kw_only=True):
    """One nexthop group of the kernel: its next hops, and how many routes of all tables point at it."""

    id: int
    routes: int
    next_hops: list[NextHopView] = []


class UplinkOverview(msgspec.Struct, kw_only=True):
    """An interface with neighbors, by name. `speed_mbps` is null if the driver does not say it, or is not asked yet."""

    interface: str
    up: bool
    vrf: str = ""
    speed_mbps: int | None = None
    neighbors: list[str] = []


class OverviewView(msgspec.Struct, kw_only=True):
    """`GET /v1/overview`: this host on one screen. Small however many routes there are: it is asked every second.

    `verdict` is one sentence: what is wrong first, and `detail` the sentence behind it: why, and what is left. `level`:
    "ok", "warning" or "critical". `where` to look: "nowhere", "host" (it is us), "kernel", "fabric" (a neighbor, or the
    way to it), or "order" (somebody ordered it).

    `neighbors` are those without a session first, at most 64 of them
    (`neighbors_total` counts all). `groups` are those with the most routes, at most 32. `workloads` counts claims by
    source and state, `services` by state. `announced` and `withheld` are claims of workloads that a neighbor has, and
    that none has.
    """

    verdict: str
    detail: str = ""
    level: str = "ok"
    where: str = "nowhere"
    health: HealthView
    drain: DrainView
    neighbors: list[NeighborView] = []
    neighbors_total: int = 0
    uplinks: list[UplinkOverview] = []
    tables: list[TableOverview] = []
    groups: list[GroupOverview] = []
    workloads: dict[str, dict[str, int]] = {}
    services: dict[str, int] = {}
    announced: int = 0
    withheld: int = 0
