"""A service in force: what is known of it between two judgements. Decides nothing: `services` does."""

from __future__ import annotations

import enum

import msgspec

from bgpd.model.iana import Family
from bgpd.model.path import NextHops
from bgpd.model.prefix import parse_prefix
from bgpd.model.service import Service
from bgpd.workload.service.checker import Health
from bgpd.workload.service.last_resort import Availability, Standing
from bgpd.workload.service.targets import CheckId, Target


class State(enum.StrEnum):
    """How a service stands as a whole."""

    ANNOUNCED = "announced"
    LAST_RESORT = "last-resort"
    """At least one family of it."""
    WITHHELD = "withheld"
    """At least one family of it, and none as a last resort."""


class Active(msgspec.Struct, eq=False):
    """A service in force, the health of its checked addresses, and the interface that each check is bound to.

    `serving` has the members that each address had last; `settling` the addresses whose backends were all drained,
    until the neighbors have heard of it. `bandwidths` is what is announced of each address, and since when; `families`
    how the addresses of each family stand; `look_at` when the service is to be looked at again.
    """

    source: str
    service: Service
    targets: dict[CheckId, Target] = {}
    health: dict[CheckId, Health] = {}
    devices: dict[CheckId, str] = {}
    serving: dict[str, NextHops] = {}
    settling: dict[str, object] = {}
    bandwidths: dict[str, tuple[float, float]] = {}
    families: dict[Family, Availability] = {}
    look_at: float | None = None

    @property
    def service_families(self) -> list[Family]:
        """The families of the service's addresses."""
        return list(dict.fromkeys(parse_prefix(text)[0] for text in self.service.addresses))

    @property
    def state(self) -> State:
        stands = [self.families[family].standing for family in self.service_families if family in self.families]
        if self.service.drain or not stands:
            return State.WITHHELD
        if Standing.LAST_RESORT in stands:
            return State.LAST_RESORT
        return State.WITHHELD if Standing.DOWN in stands else State.ANNOUNCED

    def is_kept(self, target: Target) -> bool:
        """Whether an address serves as a last resort."""
        family = self.families.get(target.family)
        return family is not None and family.standing is Standing.LAST_RESORT and target.id in family.kept
