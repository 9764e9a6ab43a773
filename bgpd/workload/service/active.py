"""A service in force: what is known of it between two judgements. Decides nothing: `services` does."""

from __future__ import annotations

import enum

import msgspec

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import parse_prefix
from bgpd.model.service import Service
from bgpd.workload.service.checker import Health
from bgpd.workload.service.flapping import Flapping
from bgpd.workload.service.last_resort import Availability, Standing
from bgpd.workload.service.targets import CheckId, Target


class State(enum.StrEnum):
    """How a service stands as a whole."""

    ANNOUNCED = "announced"
    LAST_RESORT = "last-resort"
    """At least one family of it."""
    WITHHELD = "withheld"
    """At least one family of it, and none as a last resort."""
    DAMPED = "damped"
    """Its backends work, but at least one address is held back."""


class Active(msgspec.Struct, eq=False):
    """A service in force, the health of its checked addresses, and the interface that each check is bound to.

    `serving` has the members that each address had last; `settling` the addresses whose backends were all drained,
    until the neighbors have heard of it. `bandwidths` is what is announced of each address, and since when; `families`
    how the addresses of each family stand, `flapping` how often each has gone down; `short_since`: since when an
    address is withdrawn, though it is not drained; `look_at` when the service is to be looked at again.
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
    flapping: dict[str, Flapping] = {}
    short_since: dict[str, float] = {}
    unanswered: dict[str, None] = {}
    look_at: float | None = None

    def take(self, source: str, service: Service) -> None:
        """Another payload of the same name; addresses that are not in it any more are forgotten."""
        self.source, self.service = source, service
        for known in (self.serving, self.settling, self.bandwidths, self.flapping, self.short_since, self.unanswered):
            for text in known.keys() - set(service.addresses):
                del known[text]

    @property
    def service_families(self) -> list[Family]:
        """The families of the service's addresses."""
        return list(dict.fromkeys(parse_prefix(text)[0] for text in self.service.addresses))

    @property
    def state(self) -> State:
        """Its state in words, for views."""
        stands = [self.families[family].standing for family in self.service_families if family in self.families]
        if self.service.drain or not stands:
            return State.WITHHELD
        if Standing.LAST_RESORT in stands or self.unanswered:
            return State.LAST_RESORT
        if Standing.DOWN in stands:
            return State.WITHHELD
        return State.DAMPED if any(one.since is not None for one in self.flapping.values()) else State.ANNOUNCED

    def is_last_resort(self, text: str) -> bool:
        """Whether an address is announced though all its backends have failed, or it does not answer."""
        family = self.families.get(parse_prefix(text)[0])
        return text in self.unanswered or (family is not None and family.standing is Standing.LAST_RESORT)

    def is_kept(self, target: Target) -> bool:
        """Whether an address serves as a last resort."""
        family = self.families.get(target.family)
        return family is not None and family.standing is Standing.LAST_RESORT and target.id in family.kept
