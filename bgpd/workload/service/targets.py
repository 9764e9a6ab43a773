"""The addresses of a service's backends, and why one may not be used.

A value of each address as it was judged last; `services` judges.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator

import msgspec

from bgpd.model.iana import Family
from bgpd.model.prefix import parse_prefix
from bgpd.model.service import Backend, Service

CheckId = tuple[str, str, str]
"""Service, backend, address; "" in place of a backend for the probe of one of the service's own addresses."""


class Fault(enum.Enum):
    """What kind of reason keeps an address from being used."""

    NONE = enum.auto()
    ABSENT = enum.auto()
    """No workload of this host has it."""
    DRAINED = enum.auto()
    """Its orchestrator says that it is not to be used."""
    UNKNOWN = enum.auto()
    """No check has said anything yet."""
    FAILED = enum.auto()
    """Its checks say that it does not work."""


class Target(msgspec.Struct, eq=False):
    """One address of one backend as it was judged last: `interface` leads to it, `reason` is why it may not be used.

    `left_at`: when its checks took it out of service, None if it works or something else keeps it out. `started_at`:
    when it came into service, while its start is slow. Both by a clock that only goes forward.
    """

    id: CheckId
    backend: Backend
    family: Family
    key: bytes
    interface: str = ""
    fault: Fault = Fault.ABSENT
    reason: str = "not judged yet"
    left_at: float | None = None
    started_at: float | None = None

    def judged(self, fault: Fault, reason: str, now: float) -> bool:
        """Take a new judgement; whether the address has come into service."""
        before, self.fault, self.reason = self.fault, fault, reason
        if fault is Fault.NONE:
            self.left_at = None
        elif fault is Fault.ABSENT or fault is Fault.DRAINED:
            self.left_at = self.started_at = None
        elif before is Fault.NONE:
            self.left_at, self.started_at = now, None
        return fault is Fault.NONE and before is not Fault.NONE

    def follow(self, former: Target) -> None:
        """Go on from the judgement on the same address before its service was changed."""
        self.fault, self.reason, self.interface = former.fault, former.reason, former.interface
        self.left_at, self.started_at = former.left_at, former.started_at


def targets_of(name: str, service: Service) -> Iterator[Target]:
    """All addresses of a service's backends, none of them judged."""
    for backend in service.backends:
        for address in backend.addresses:
            family, key = parse_prefix(address)
            yield Target(id=(name, backend.id, address), backend=backend, family=family, key=key)


def backends_of(targets: Iterable[Target]) -> Collection[str]:
    """The backends that have these addresses, each once."""
    return {target.backend.id for target in targets}
