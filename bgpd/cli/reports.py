"""What commands print with --json where it is no view of the daemon: their forms, for `bgpd schema`.

The commands themselves print plain objects, so that nothing is imported for it; a test holds both equal.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.config.load import Problem
from bgpd.model.identity import Identity


class VersionReport(msgspec.Struct, kw_only=True):
    """`bgpd version --json`. `form`: "compiled" or "plain"."""

    version: str
    form: str


class CheckReport(msgspec.Struct, kw_only=True):
    """`bgpd check --json`: whether the file is good, and all that is wrong with it.

    `files` are the file and its fragments, none where it is not good; `chosen` is what "auto" stands for here.
    """

    file: str
    good: bool
    files: list[str]
    errors: list[Problem]
    warnings: list[str]
    chosen: Identity


class MadeReport(msgspec.Struct, kw_only=True):
    """`bgpd init --json`, `bgpd import --json`: the configuration, the file that it was written to ("": to none), and
    what is to be looked at."""

    file: str
    text: str
    remarks: list[str]


class FlushReport(msgspec.Struct, kw_only=True):
    """`bgpd flush --json`: what was taken out of the kernel, in words."""

    flushed: str


class ConfirmReport(msgspec.Struct, kw_only=True):
    """`bgpd confirm --json`."""

    confirmed: bool


class FileReport(msgspec.Struct, kw_only=True):
    """`bgpd bundle --json`, `bgpd mrt dump --json`: the file that was written. `missing`: what is not in it, by the
    reason why."""

    file: str
    bytes: int
    missing: dict[str, list[str]] = {}


class ReplayReport(msgspec.Struct, kw_only=True):
    """`bgpd replay --json`: the other side's AS, UPDATEs sent, and how many were left out for which reason."""

    asn: int
    sent: int
    left_out: dict[str, int]


class MrtReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`bgpd mrt show --json`, an object on each line. A path of a table has `route`, `next_hop` and `attributes`; a
    message has `message`, and a change of a session's state has `states`."""

    at: float
    peer: str
    peer_asn: int
    route: Any = None
    next_hop: str = ""
    attributes: Any = None
    message: Any = None
    states: list[str] = []


class LossReport(msgspec.Struct, kw_only=True):
    """Addresses that could not be reached, from which nodes: by some of the ways at least. `after_s`: since the step
    began, less than 0 where it began in a step before that this one did not wait for; `seconds`: None if it was so
    until the next step. `why`: a way that failed. `goes_on`: it was so when all was at rest before the step."""

    addresses: list[str]
    sources: list[str]
    after_s: float
    seconds: float | None
    why: str
    goes_on: bool = False


class StepReport(msgspec.Struct, kw_only=True):
    """`at_s`: simulated time since the start. `settled_s`: until the last change of routes or forwarding, None if the
    next step came before. `updates`: UPDATEs that all nodes have sent. `losses`: of the start what is not reached when
    it is over. `wrong`: what should not be so afterwards. `max_lost_s`: for how long addresses may be unreachable, None
    if nobody says so; `missed`: those that were for longer. `gone`: addresses that nobody has any more."""

    step: str
    at_s: float
    settled_s: float | None
    updates: int
    losses: list[LossReport]
    wrong: list[str]
    max_lost_s: float | None
    missed: list[str]
    gone: list[str] = []


class SimulationReport(msgspec.Struct, kw_only=True):
    """`bgpd simulate --json`. `not_simulated`: what differs from the real thing; `unforeseen`: why it was not checked
    which routes there are. `good`: nothing was wrong after any step, or unreachable for longer than it may be."""

    topology: str
    seed: int
    hosts: int
    routers: int
    addresses: int
    not_simulated: list[str]
    unforeseen: list[str]
    steps: list[StepReport]
    good: bool
