"""Service addresses: which local backends serve them now, and whether this host announces them.

A service is announced while at least `min_healthy` of its backends are usable: a workload of this host has the
address and is announced, its checks are good, it is not drained. With a `probe` the address itself must answer, too
(`address_probes`). With `prefer-local` the kernel spreads what arrives over the backends by weight. A service that is
withdrawn since it does not answer goes by the fabric's route at once, if there is one; one with too few backends when
its neighbors have heard of it (`SETTLE_S`). A drained one keeps serving what still arrives; so does one whose backends
are all drained, until its neighbors have heard of it.

After a start nothing is claimed before all checks have said something: the kernel spreads flows as the last run left
it meanwhile, and goes on so where nothing changed.

Makes claims (source "service") and asks for checks; does no I/O and never asks the time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

import msgspec

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import VrfKey, key_address, parse_prefix
from bgpd.model.service import (
    LastResort,
    Service,
    ServiceMode,
    ServiceView,
    WeightFrom,
)
from bgpd.model.workload import Claim
from bgpd.runtime.events import log
from bgpd.workload.claims import Claims
from bgpd.workload.service import saved_standing, views
from bgpd.workload.service.active import Active, State
from bgpd.workload.service.address_probes import AddressProbes, NoKernel, ProbeKernel
from bgpd.workload.service.backend_checks import BackendChecks, fault_of
from bgpd.workload.service.backlog import Backlog
from bgpd.workload.service.checker import Checks
from bgpd.workload.service.flapping import Flapping, limits_of
from bgpd.workload.service.last_resort import Availability, Standing
from bgpd.workload.service.saved_health import SavedHealth, decided, save
from bgpd.workload.service.service_file import SavedService
from bgpd.workload.service.targets import CheckId, Fault, Target, backends_of, targets_of
from bgpd.workload.service.weights import members_of, next_step, strength_of
from bgpd.workload.sources import Restart, SourceKind
from bgpd.workload.standing import ClaimStatus

SERVICE = "service"
KIND = SourceKind(
    name=SERVICE,
    what="services, for which MQTT and the API name backends",
    precedence=1,
    restart=Restart.DERIVED,
    is_service=True,
)
SETTLE_S = 5.0
"""How long backends that are all drained serve what still arrives, since the withdrawal is on its way."""
BANDWIDTH_PAUSE_S = 1.0
"""The link bandwidth of an announced address changes at most so often: several backends that come are one change."""

_FAILURES = (Fault.FAILED, Fault.ABSENT)
"""What counts as a failure; a backend is unknown since its orchestrator has just said it, or another check of it."""


class Services:
    """The services of this host. Each of `listeners` is called with a service's name when its view may have changed.

    `schedule(callback)`: call back soon; results of checks that come until then are one change of their service.
    `later(seconds, callback)`: call back then. `clock()` only goes forward, `wall()` is the wall clock.
    `bandwidth_per_weight`: the link bandwidth (bytes per second) of a backend of weight 1; 0 if none is announced.
    `damping_half_life_s`: see `flapping`; 0 if nothing is held back. `kernel` keeps the routes of probes.
    """

    def __init__(
        self,
        claims: Claims,
        checks: Checks,
        *,
        schedule: Callable[[Callable[[], None]], None] = lambda callback: callback(),
        later: Callable[[float, Callable[[], None]], object] = lambda seconds, callback: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        bandwidth_per_weight: float = 0.0,
        damping_half_life_s: float = 60.0,
        kernel: ProbeKernel | None = None,
    ) -> None:
        self._saved = SavedHealth()
        self.probes = AddressProbes(
            kernel or NoKernel(), checks, saved=self._saved, changed=lambda name: self._backlog.claim_soon(name)
        )
        self._later = later
        self._clock = clock
        self._wall = wall
        self._bandwidth_per_weight = bandwidth_per_weight
        self._limits = limits_of(damping_half_life_s)
        self.listeners: list[Callable[[str], None]] = []
        self._claims = claims
        self._backends = BackendChecks(checks, self._saved)
        self._services: dict[str, Active] = {}
        self._parked: dict[str, str] = {}
        self._targets_at: dict[VrfKey, dict[CheckId, None]] = defaultdict(dict)
        self._released = False
        self._backlog = Backlog(schedule=schedule, judge=self._judge_again, claim=self._claim_again)
        self._saved_standing: dict[str, saved_standing.SavedStanding] = {}

    def _changed(self, name: str) -> None:
        for listener in self.listeners:
            listener(name)

    def reconfigure(self, *, bandwidth_per_weight: float, damping_half_life_s: float) -> None:
        """Go by another configuration from now on."""
        if bandwidth_per_weight != self._bandwidth_per_weight:
            self._bandwidth_per_weight = bandwidth_per_weight
            for active in self._services.values():
                active.bandwidths.clear()
        elif limits_of(damping_half_life_s) == self._limits:
            return
        self._limits = limits_of(damping_half_life_s)
        for name in self._services:
            self._backlog.claim_soon(name)

    def owner(self, name: str) -> str:
        """The source that a service is from, also while it is parked; "" if there is none of this name."""
        active = self._services.get(name)
        return active.source if active else self._parked.get(name, "")

    def park(self, source: str, name: str) -> None:
        """A service is in force no more, and its source keeps its name until it says another word of it."""
        self.apply(source, name, None)
        self._parked[name] = source

    def apply(self, source: str, name: str, service: Service | None) -> None:
        """A checked service from now on, or (None) none of this name any more."""
        self._parked.pop(name, None)
        active = self._services.get(name)
        if active is not None:
            for target in active.targets.values():
                place = (active.service.vrf, target.family, target.key)
                self._targets_at[place].pop(target.id, None)
                if not self._targets_at[place]:
                    del self._targets_at[place]
        if service is None:
            self.probes.forget(name)
            if active is not None:
                self._backends.stop(active)
                del self._services[name]
            self._claims.claim(SERVICE, name)
            self._changed(name)
            return
        if active is None:
            active = self._services[name] = Active(source=source, service=service)
        else:
            self._backends.forget(name, active, service)
            active.take(source, service)
        former, active.targets = active.targets, {target.id: target for target in targets_of(name, service)}
        for target in active.targets.values():
            if target.id in former:
                target.follow(former[target.id])
            self._targets_at[service.vrf, target.family, target.key][target.id] = None
            self._judge(active, target)
        self.probes.forget(name, service.addresses)
        self._claim_all(name, active)

    def check_result(self, id: CheckId, reason: str, now: float) -> None:
        """One result of a check: "" or why it failed. `now` is the wall clock in seconds."""
        if not id[1]:
            self.probes.result(id, reason, now)
            return
        active = self._services.get(id[0])
        health = active.health.get(id) if active else None
        if active is None or health is None:
            return
        changed = health.result(reason, now)
        self._judge(active, active.targets[id])
        if changed:
            self._backlog.claim_soon(id[0])

    def states_changed(self, changed: Iterable[ClaimStatus]) -> None:
        """States of workloads changed: backends may have come or gone."""
        claims = [status.claim for status in changed if status.claim.source != SERVICE]
        places = ((claim.vrf, claim.family, claim.key) for claim in claims)
        self._backlog.judge(id for place in places for id in self._targets_at.get(place, ()))

    def _judge_again(self, id: CheckId) -> None:
        active = self._services.get(id[0])
        target = active.targets.get(id) if active is not None else None
        if active is not None and target is not None:
            self._judge(active, target)

    def _claim_again(self, name: str) -> None:
        if name in self._services:
            self._claim_all(name, self._services[name])

    def _judge(self, active: Active, target: Target) -> None:
        """Look at one address again; of a thousand, the others stay as they were judged."""
        target.interface = self._claims.interface_of(active.service.vrf, target.family, target.key)
        self._backends.keep(active, target)
        has_come = target.judged(*fault_of(active, target), self._clock())
        if has_come and self._released and not active.is_kept(target):
            target.started_at = self._clock()

    def release(self, done: Callable[[], None] = lambda: None) -> None:
        """What there is to know after a start is known: claim from now on, and call `done` once all have. Once."""
        if not self._released:
            self._released = True
            self._saved.forget()
            self._backends.undecided = None
            self._backlog.claim_all(self._services, partial(self._all_claimed, done))

    def _all_claimed(self, done: Callable[[], None]) -> None:
        self._saved_standing = {}
        done()

    def _claim_all(self, name: str, active: Active) -> None:
        self._changed(name)
        if not self._released:
            usable = [target for target in active.targets.values() if target.fault is Fault.NONE]
            by_family = {one: [t for t in usable if t.family is one] for one in active.service_families}
            self._keep_probes(name, active, {one: members_of(found) for one, found in by_family.items()})
            return
        if name in self._saved_standing:
            saved_standing.restore(active, self._saved_standing.pop(name), self._clock())
        stands = {family: self._stand(name, active, family) for family in active.service_families}
        self._keep_probes(name, active, {family: stand.members for family, stand in stands.items()})
        claims = []
        for text in active.service.addresses:
            family, key = parse_prefix(text)
            stand = stands[family]
            fault = self.probes.fault(name, text)
            note = stand.note
            if self._keeps(name, active, text, stand, fault):
                fault, note = "", views.unanswered(fault, note)
            withheld = self._damp(name, active, text, stand, fault)
            served = self._served(name, active, text, stand.members)
            is_route_kept = active.service.mode is ServiceMode.PREFER_LOCAL and bool(served)
            claims.append(
                Claim(
                    source=SERVICE,
                    id=name,
                    family=family,
                    key=key,
                    vrf=active.service.vrf,
                    manage_route=is_route_kept,
                    members=served if is_route_kept else (),
                    resilient=active.service.resilient,
                    kind="service",
                    exception=True,
                    withheld=withheld,
                    is_damped=bool(withheld) and not (stand.withheld or fault),
                    is_last_resort=active.is_last_resort(text),
                    yields=bool(stand.members) and self._yields(name, active, text, stand.withheld, fault),
                    bandwidth=self._bandwidth(name, active, text, 0.0 if withheld else stand.strength),
                    note="" if fault else note,
                )
            )
        self._claims.claim(SERVICE, name, claims)

    def _stand(self, name: str, active: Active, family: Family) -> _Stand:
        """Judge the addresses of a family anew."""
        service, now = active.service, self._clock()
        targets = [target for target in active.targets.values() if target.family is family]
        availability = active.families.setdefault(family, Availability())
        serving = availability.look(targets, service, now)
        _report(availability, name, family, serving)
        step = next_step(serving, slow_start_s=service.slow_start_s, now=now)
        for at in (step, availability.until):
            if at is not None:
                self._look_later(name, active, at)
        withheld = note = ""
        if service.drain:
            withheld = "the service is drained"
        elif not availability.is_up:
            withheld = views.too_few(service, len(backends_of(serving)), views.reasons(active.targets.values()))
        else:
            note = views.note(availability, service, serving, targets)
        strength = strength_of(serving, slow_start_s=service.slow_start_s, now=now)
        return _Stand(
            members=members_of(serving, slow_start_s=service.slow_start_s, now=now),
            strength=strength,
            withheld=withheld,
            has_failed=not service.drain and any(target.fault in _FAILURES for target in targets),
            note=note,
        )

    def _keeps(self, name: str, active: Active, text: str, stand: _Stand, fault: str) -> bool:
        """Whether an address stays announced though it does not answer its probe any more: a probe is a check, too."""
        flapping = active.flapping.get(text)
        was_fit = flapping is not None and flapping.is_fit
        keeps = bool(fault) and was_fit and not stand.withheld and active.service.last_resort is LastResort.KEEP
        if keeps and text not in active.unanswered:
            active.unanswered[text] = None
            log.warning("service.last_resort", service=name, address=text, reason=fault)
        elif not keeps and text in active.unanswered:
            del active.unanswered[text]
            now = stand.withheld or fault or "it answers"
            log.warning("service.last_resort_ended", service=name, address=text, now=now)
        return keeps

    def _damp(self, name: str, active: Active, text: str, stand: _Stand, fault: str) -> str:
        """Why an address is not announced: because of its backends, because it does not answer (`fault`), or because it
        goes down again and again.
        """
        flapping, now = active.flapping.setdefault(text, Flapping()), self._clock()
        if stand.withheld or fault:
            has_failed = stand.has_failed if stand.withheld else True
            flapping.went_down(self._limits, counts=has_failed, now=now, wall=self._wall())
            return stand.withheld or fault
        if flapping.came_up(self._limits, now=now, wall=self._wall()):
            log.warning("service.damped", service=name, address=text, reason=flapping.reason)
        if flapping.look_at is not None:
            self._look_later(name, active, flapping.look_at)
        return flapping.reason

    def _keep_probes(self, name: str, active: Active, members: Mapping[Family, NextHops]) -> None:
        """Have each address asked while it has members."""
        for text in active.service.addresses:
            family, key = parse_prefix(text)
            is_announced = partial(self._is_announced, name, (active.service.vrf, family, key))
            self.probes.keep(name, active.service, text, members[family], is_announced=is_announced)

    def _is_announced(self, name: str, place: VrfKey) -> bool:
        announced = [one.claim for one in self._claims.statuses(SERVICE, name) if one.announced]
        return any((claim.vrf, claim.family, claim.key) == place for claim in announced)

    def _yields(self, name: str, active: Active, text: str, shortage: str, fault: str) -> bool:
        """Whether the fabric's route of an address takes the place of the local one: it is withdrawn here.

        `shortage`: why it has too few backends. Those that it has serve until the neighbors have heard of it. `fault`:
        why it does not answer.
        """
        if active.service.drain or not (shortage or fault):
            active.short_since.pop(text, None)
            return False
        now = self._clock()
        until = active.short_since.setdefault(text, now) + SETTLE_S
        if not self.probes.yields(name, text):
            return False
        if not fault and now < until:
            self._look_later(name, active, until)
            return False
        return True

    def _bandwidth(self, name: str, active: Active, text: str, strength: float) -> float:
        """The link bandwidth to announce an address with. It changes at once, but not again within a pause."""
        wanted = strength * self._bandwidth_per_weight
        if active.service.weight_from is WeightFrom.NONE or not wanted:
            active.bandwidths.pop(text, None)
            return 0.0
        now = self._clock()
        told, since = active.bandwidths.get(text, (0.0, now))
        if wanted == told:
            return told
        if told and now < since + BANDWIDTH_PAUSE_S:
            self._look_later(name, active, since + BANDWIDTH_PAUSE_S)
            return told
        active.bandwidths[text] = (wanted, now)
        return wanted

    def _look_later(self, name: str, active: Active, at: float) -> None:
        """Have the service looked at again then, unless it is before."""
        if active.look_at is None or at < active.look_at:
            active.look_at = at
            self._later(max(0.0, at - self._clock()), partial(self._look, name, active, at))

    def _look(self, name: str, active: Active, at: float) -> None:
        if self._services.get(name) is active and active.look_at == at:
            active.look_at = None
            self._backlog.claim_soon(name)  # a thousand may be due in one turn of the loop

    def _served(self, name: str, active: Active, text: str, members: NextHops) -> NextHops:
        """What the kernel spreads an address over: `members`; if all were drained just now, those that served it.

        The fabric sends here until it has heard otherwise.
        """
        if members:
            active.serving[text] = members
            active.settling.pop(text, None)
            return members
        drained = {
            (key_address(target.family, target.key), target.interface)
            for target in active.targets.values()
            if target.fault is Fault.DRAINED
        }
        kept = tuple(hop for hop in active.serving.get(text, ()) if (hop.address, hop.interface) in drained)
        if kept and text not in active.settling:
            wait = active.settling[text] = object()
            self._later(SETTLE_S, partial(self._settled, name, active, text, wait))
        return kept

    def _settled(self, name: str, active: Active, text: str, wait: object) -> None:
        """The neighbors have received the withdrawal."""
        if self._services.get(name) is active and active.settling.get(text) is wait:
            del active.settling[text], active.serving[text]
            self._claim_all(name, active)

    def remember_standing(self, packed: bytes | None) -> None:
        """What `save_standing` answered in the process before, if there was one."""
        self._saved_standing = saved_standing.read(packed)

    def save_standing(self) -> bytes:
        """Last resorts and slow starts, for the next process: those of the one before, until this one has judged."""
        return saved_standing.save(self._services, self._saved_standing)

    def undecided(self) -> bool:
        """Whether a check has no result yet that counts."""
        return self._backends.are_undecided(self._services) or self.probes.undecided()

    def remember(self, packed: bytes | None) -> None:
        """What `save` answered in the process before, if there was one."""
        self._saved.remember(packed)

    def save(self) -> bytes:
        """What checks and probes have found out, for the next process."""
        checked = (
            (id, active.service.check, health)
            for active in self._services.values()
            if active.service.check is not None
            for id, health in active.health.items()
        )
        return save([*checked, *self.probes.healths(), *self._saved.left()])

    def remember_crashed(self, saved: Mapping[str, SavedService]) -> None:
        """What was known of each service (`saved_of`) when a process crashed that left nothing else."""
        self._saved_standing = {name: one.standing for name, one in saved.items()}
        self._saved.remember_crashed(check for one in saved.values() for check in one.health)

    def saved_of(self, name: str) -> SavedService | None:
        """What is known of a service; None if there is none of this name."""
        active = self._services.get(name)
        if active is None:
            return None
        check = active.service.check
        checked = [(id, check, health) for id, health in active.health.items()] if check is not None else []
        healths = [*checked, *self.probes.healths_of(name, active.service)]
        standing = self._saved_standing.get(name) or saved_standing.standing_of(active)
        return SavedService(standing, decided(healths))

    def names(self) -> list[str]:
        """Of all services, sorted."""
        return sorted(self._services)

    def state_counts(self) -> dict[str, int]:
        """How many services are in each state, whether any is or not."""
        counts = dict.fromkeys(State, 0)
        for name, active in self._services.items():
            asked = [text for text in active.service.addresses if text not in active.unanswered]
            fails = any(self.probes.fault(name, text) for text in asked)
            counts[State.WITHHELD if fails else active.state] += 1
        return {str(state): count for state, count in counts.items()}

    def view(self, name: str) -> ServiceView | None:
        """A service as `bgpd show services` shows it; None if there is none of this name."""
        active = self._services.get(name)
        if active is None:
            return None
        probes = self.probes.views(name, active.service)
        return views.service(name, active, self._claims.statuses(SERVICE, name), probes, now=self._clock())


class _Stand(msgspec.Struct, frozen=True, kw_only=True):
    """What is claimed of the addresses of one family: see Claim. `has_failed`: something has that was not drained."""

    members: NextHops
    strength: float
    withheld: str
    has_failed: bool
    note: str


def _report(availability: Availability, name: str, family: Family, serving: Collection[Target]) -> None:
    """Tell operators of a last resort, loudly, and of its end. Backends that are only checked anew are none."""
    is_last_resort = availability.standing is Standing.LAST_RESORT
    has_failed = is_last_resort and any(target.fault is Fault.FAILED for target in serving)
    if has_failed and not availability.is_reported:
        availability.is_reported = True
        log.warning("service.last_resort", service=name, family=str(family), reason=views.reasons(serving))
    elif availability.is_reported and not is_last_resort:
        availability.is_reported = False
        log.warning("service.last_resort_ended", service=name, family=str(family), now=str(availability.standing))
