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
"""Service, backend, address."""


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
    """One address of one backend as it was judged last: `interface` leads to it, `reason` is why it may not be used."""

    id: CheckId
    backend: Backend
    family: Family
    key: bytes
    interface: str = ""
    fault: Fault = Fault.ABSENT
    reason: str = "not judged yet"


def targets_of(name: str, service: Service) -> Iterator[Target]:
    """All addresses of a service's backends, none of them judged."""
    for backend in service.backends:
        for address in backend.addresses:
            family, key = parse_prefix(address)
            yield Target(id=(name, backend.id, address), backend=backend, family=family, key=key)


def usable(targets: Iterable[Target], family: Family) -> list[Target]:
    """Those of a family that may be used."""
    return [target for target in targets if target.fault is Fault.NONE and target.family is family]


def backends_of(targets: Iterable[Target]) -> Collection[str]:
    """The backends that have these addresses, each once."""
    return {target.backend.id for target in targets}
