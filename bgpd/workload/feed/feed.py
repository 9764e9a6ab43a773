"""What an orchestrator's feed says is here, and when it may be believed that something is gone.

A feed that goes away deletes nothing: a claim lives until it is deleted by name, or until a later generation is
complete without it. Complete means: since the feed was joined, as many workloads were heard as the generation says it
has, and then nothing more for a while. A partial snapshot never deletes. A wrong payload leaves the former claim in
force.

Sans-IO and clockless. Knows nothing of topics; `mqtt_source` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

import msgspec
import structlog

from bgpd.model.reports import Problem
from bgpd.model.service import Service
from bgpd.model.workload import Claim, Presence, Sync, Workload
from bgpd.workload.feed.payload import (
    PayloadRefused,
    claims_of,
    decode_service,
    decode_sync,
    decode_workload,
    is_tellable,
)
from bgpd.workload.feed.saved import Change, Saved
from bgpd.workload.table import WorkloadTable

log = structlog.get_logger()

QUIET_S = 0.5
"""No message for so long after a generation is complete: then what it lacks is gone. Queued messages of an
earlier time may make the count right for a moment."""

SLICE = 200
"""Workloads restored or removed in one step, so that the loop is never held for 20 ms."""

WORKLOAD, SERVICE = "workload", "service"

IN_USE = "names are unique on a host: delete that one, or take another"

REFUSALS_LOGGED = 20
"""Refused payloads of a burst that get a line in the log."""

ADDRESSES_PER_WORKLOAD = 4
LEAST_ADDRESSES = 10_000
"""So many addresses on average, or in all, whichever is more: workloads, or services with their backends, may not have
more together."""

REFUSED_HEARD = 10_000
"""So many workloads beyond those that are taken may be heard of; a larger snapshot is never complete."""

BUSY_S = 5.0
"""A feed that is never quiet is looked at so often."""


class ServiceSink(Protocol):
    """Who runs services (`service.Services`)."""

    def apply(self, source: str, name: str, service: Service | None) -> None: ...

    def owner(self, name: str) -> str: ...


class Refusals(Protocol):
    """Who is told that a payload was refused, with its problems; an empty list: the present one is good."""

    def __call__(self, kind: str, id: str, problems: Collection[Problem]) -> None: ...


class Feed:
    """The workloads and services of one orchestrator source ("mqtt" or "api").

    `vrfs` are the configured VRFs, `commands` what exec checks may run, `most` how many workloads, and how many
    services, are taken (`ADDRESSES_PER_WORKLOAD` bounds their addresses). `refused(kind, id, problems)` is told of
    every payload: kind is "workload", "service" or "sync". `changed(change)` is told what to write, `synchronised()`
    when the feed's whole state was heard.
    """

    def __init__(
        self,
        source: str,
        table: WorkloadTable,
        services: ServiceSink,
        *,
        vrfs: Collection[str],
        commands: Collection[str] | None,
        most: int,
        refused: Refusals,
        changed: Callable[[Change], None],
        synchronised: Callable[[], None],
    ) -> None:
        self.source = source
        self.generation: int | None = None
        self.sync: Sync | None = None
        self._table = table
        self._services = services
        self.vrfs = vrfs
        self.commands = commands
        self._most = most
        self._most_addresses = max(LEAST_ADDRESSES, ADDRESSES_PER_WORKLOAD * most)
        self._addresses = {WORKLOAD: 0, SERVICE: 0}
        self._refusals_logged = 0
        self._refused = refused
        self._changed = changed
        self._synchronised = synchronised
        self._workloads: dict[str, Workload] = {}
        self._service_payloads: dict[str, Service] = {}
        self._ranks: dict[str, dict[str, dict[str, int]]] = {WORKLOAD: {}, SERVICE: {}}
        self._presences: dict[str, dict[str, Presence]] = {}
        self._otherwise: Presence | None = None
        self._heard: set[str] = set()
        self._parked = Saved()
        self._gone: list[str] = []
        self._quiet_at: float | None = None
        self._busy_since = 0.0

    @property
    def workloads(self) -> Mapping[str, Workload]:
        """The workloads in force, by id."""
        return self._workloads

    @property
    def services(self) -> Mapping[str, Service]:
        """The services in force, by name."""
        return self._service_payloads

    def saved(self) -> Saved:
        """What `restore` needs after a restart; the dictionaries are copies."""
        return Saved(
            generation=self.generation,
            workloads=self._parked.workloads | self._workloads,
            services=self._parked.services | self._service_payloads,
            workload_ranks=dict(self._ranks[WORKLOAD]),
            service_ranks=dict(self._ranks[SERVICE]),
            workload_presences=dict(self._presences),
        )

    def remember(self, saved: Saved) -> None:
        """Which claims came first, as an earlier run knew: to be called before `restore`, and before any claim."""
        self._ranks = {WORKLOAD: dict(saved.workload_ranks), SERVICE: dict(saved.service_ranks)}
        for id, workload in saved.workloads.items():
            if id in saved.workload_ranks and workload.vrf in self.vrfs:
                self._table.remember(self.source, id, workload.vrf, saved.workload_ranks[id])
        for name, service in saved.services.items():
            if name in saved.service_ranks and service.vrf in self.vrfs:
                self._table.remember(SERVICE, name, service.vrf, saved.service_ranks[name])

    def order_known(self) -> None:
        """All was restored, by this and the other sources: what was contested may not be any more."""
        for kind, ranks in self._ranks.items():
            for id in list(ranks):
                self.ranks_changed(kind, id)

    def ranks_changed(self, kind: str, id: str) -> None:
        """Claims of a workload or service of this feed may have other ranks: kept over a restart."""
        source, present = (self.source, self._workloads) if kind == WORKLOAD else (SERVICE, self._service_payloads)
        parked = self._parked.workloads if kind == WORKLOAD else self._parked.services
        if id in parked or (id not in present and id not in self._ranks[kind]):
            return
        ranks = self._table.ranks(source, id)
        if ranks == self._ranks[kind].get(id, {}):
            return
        if ranks:
            self._ranks[kind][id] = ranks
        else:
            del self._ranks[kind][id]
        told = {id: ranks or None}
        self._changed(Change(workload_ranks=told) if kind == WORKLOAD else Change(service_ranks=told))

    def restore(self, saved: Saved) -> Iterator[None]:
        """Put in force what an earlier run knew; what is of no configured VRF is told and only kept.

        To be stepped, with yields to the loop.
        """
        self.generation = saved.generation
        self._presences = {id: known for id, known in saved.workload_presences.items() if id in saved.workloads}
        self._otherwise = Presence() if saved.version < 2 else None
        for count, (id, workload) in enumerate(saved.workloads.items(), 1):
            self._addresses[WORKLOAD] += len(workload.addresses)
            if workload.vrf in self.vrfs:
                self._put_again(id, workload)
            else:
                self._park_workload(id, workload)
            if count % SLICE == 0:
                yield
        for name, service in saved.services.items():
            self._addresses[SERVICE] += _addresses_of(service)
            if service.vrf in self.vrfs:
                self._put_service(name, service)
            else:
                self._park_service(name, service)

    def follow_vrfs(self) -> Iterator[None]:
        """Other VRFs are configured: what is of one that is gone is only kept, what was kept for one that came counts.

        To be stepped, as `restore`.
        """
        for count, (id, workload) in enumerate([*self._workloads.items(), *self._parked.workloads.items()], 1):
            if self._workloads.get(id) is workload and workload.vrf not in self.vrfs:
                del self._workloads[id]
                self._table.claim(self.source, id)
                self._park_workload(id, workload)
            elif self._parked.workloads.get(id) is workload and workload.vrf in self.vrfs:
                self._refused(WORKLOAD, id, ())
                self._put_again(id, workload)
            if count % SLICE == 0:
                yield
        for name, service in [*self._service_payloads.items(), *self._parked.services.items()]:
            if self._service_payloads.get(name) is service and service.vrf not in self.vrfs:
                del self._service_payloads[name]
                self._services.apply(self.source, name, None)
                self._park_service(name, service)
            elif self._parked.services.get(name) is service and service.vrf in self.vrfs:
                self._refused(SERVICE, name, ())
                self._put_service(name, service)

    def _park_workload(self, id: str, workload: Workload) -> None:
        self._parked.workloads[id] = workload
        log.warning("workload.without_vrf", source=self.source, id=id, vrf=workload.vrf)
        self._refused(WORKLOAD, id, [_without_vrf(workload.vrf)])

    def _park_service(self, name: str, service: Service) -> None:
        self._parked.services[name] = service
        log.warning("service.without_vrf", source=self.source, name=name, vrf=service.vrf)
        self._refused(SERVICE, name, [_without_vrf(service.vrf)])

    def joined(self) -> None:
        """A connection to the feed begins: its snapshot is heard anew, and is nothing yet."""
        self._heard.clear()
        self._gone.clear()
        self.sync = None
        self._quiet_at = None

    def left(self) -> None:
        """The connection is lost. Nothing is deleted for that."""
        self._quiet_at = None

    def workload_received(self, id: str, body: bytes, now: float) -> None:
        """A workload's payload; an empty one deletes it. `now` is monotonic, in seconds."""
        self._quiet(now)
        if not body:
            self._heard.discard(id)
            self.delete_workload(id)
            return
        if self._is_nameless("workload.refused", id):
            return
        if len(self._heard) <= self._most + REFUSED_HEARD:
            self._heard.add(id)
        try:
            workload = decode_workload(body, id=id, vrfs=self.vrfs)
            self.put_workload(id, workload)
        except PayloadRefused as refusal:
            self._log_refusal("workload.refused", refusal, id=id)
            self._refused(WORKLOAD, id, refusal.problems)

    def put_workload(self, id: str, workload: Workload) -> bool:
        """A checked workload from now on; whether that changed anything.

        Raises: PayloadRefused: another source has a workload of this id that says otherwise.
        """
        other = "api" if self.source == "mqtt" else "mqtt"
        theirs = {_content(held.claim) for held in self._table.held(other, id)}
        if theirs and theirs != {_content(claim) for claim in claims_of(workload, source=self.source, id=id)}:
            wrong = f'"{id}" is in use by another workload, from {other}'
            raise PayloadRefused([Problem("id", wrong, IN_USE)])
        if id not in self._workloads and len(self._workloads) + len(self._parked.workloads) >= self._most:
            raise PayloadRefused([self._too_many("workloads")])
        former = self._workloads.get(id) or self._parked.workloads.get(id)
        added = len(workload.addresses) - (len(former.addresses) if former else 0)
        self._make_room(WORKLOAD, added)
        self._refused(WORKLOAD, id, ())
        if self._workloads.get(id) == workload:
            return False
        self._addresses[WORKLOAD] += added
        self._put(id, workload)
        self._presences.pop(id, None)
        self._changed(Change(workloads={id: workload}))
        return True

    def _put_again(self, id: str, workload: Workload) -> None:
        """A workload that was there before, and may have moved since it was said to be here."""
        self._put(id, workload)
        self._table.resume(self.source, id, self._presences.get(id, {}), otherwise=self._otherwise)

    def presences_changed(self, found: Mapping[str, dict[str, Presence]]) -> None:
        """What EVPN knows of the addresses of these workloads may have changed: kept over a restart."""
        told: dict[str, dict[str, Presence] | None] = {}
        for id, known in found.items():
            if id in self._workloads and known != self._presences.get(id, {}):
                told[id] = known or None
                if known:
                    self._presences[id] = known
                else:
                    del self._presences[id]
        if told:
            self._changed(Change(workload_presences=told))

    def _put(self, id: str, workload: Workload) -> None:
        self._parked.workloads.pop(id, None)
        self._workloads[id] = workload
        self._table.claim(self.source, id, claims_of(workload, source=self.source, id=id))

    def delete_workload(self, id: str) -> bool:
        """Whether there was one."""
        self._refused(WORKLOAD, id, ())
        parked = self._parked.workloads.pop(id, None)
        former = self._workloads.pop(id, None) or parked
        if former is None:
            return False
        self._addresses[WORKLOAD] -= len(former.addresses)
        self._table.claim(self.source, id)
        self._presences.pop(id, None)
        self._changed(Change(workloads={id: None}))
        self.ranks_changed(WORKLOAD, id)
        return True

    def service_received(self, name: str, body: bytes) -> None:
        """A service's payload; an empty one deletes it."""
        if not body:
            self.delete_service(name)
            return
        if self._is_nameless("service.refused", name):
            return
        try:
            service = decode_service(body, name=name, vrfs=self.vrfs, commands=self.commands)
            self.put_service(name, service)
        except PayloadRefused as refusal:
            self._log_refusal("service.refused", refusal, name=name)
            self._refused(SERVICE, name, refusal.problems)

    def put_service(self, name: str, service: Service) -> bool:
        """A checked service from now on; whether that changed anything.

        Raises: PayloadRefused: another source has a service of this name.
        """
        owner = self._services.owner(name)
        if owner not in ("", self.source):
            wrong = f'"{name}" is in use by another service, from {owner}'
            raise PayloadRefused([Problem("name", wrong, IN_USE)])
        known = len(self._service_payloads) + len(self._parked.services)
        if name not in self._service_payloads and known >= self._most:
            raise PayloadRefused([self._too_many("services")])
        former = self._service_payloads.get(name) or self._parked.services.get(name)
        added = _addresses_of(service) - (_addresses_of(former) if former else 0)
        self._make_room(SERVICE, added)
        self._refused(SERVICE, name, ())
        if self._service_payloads.get(name) == service:
            return False
        self._addresses[SERVICE] += added
        self._put_service(name, service)
        self._changed(Change(services={name: service}))
        return True

    def _put_service(self, name: str, service: Service) -> None:
        self._parked.services.pop(name, None)
        self._service_payloads[name] = service
        self._services.apply(self.source, name, service)

    def delete_service(self, name: str) -> bool:
        """Whether there was one."""
        self._refused(SERVICE, name, ())
        parked = self._parked.services.pop(name, None)
        former = self._service_payloads.pop(name, None) or parked
        if former is None:
            return False
        self._addresses[SERVICE] -= _addresses_of(former)
        self._services.apply(self.source, name, None)
        self._changed(Change(services={name: None}))
        self.ranks_changed(SERVICE, name)
        return True

    def sync_received(self, body: bytes, now: float) -> None:
        """The feed says how many workloads a generation has; an empty payload takes that back."""
        self._quiet(now)
        if not body:
            self.sync = None
            return
        try:
            sync = decode_sync(body)
        except PayloadRefused as refusal:
            log.warning("sync.refused", source=self.source, reason=str(refusal)[:1000])
            self._refused("sync", "", refusal.problems)
            return
        if self.generation is not None and sync.generation < self.generation:
            wrong = f"generation {sync.generation} is older than {self.generation}, which is applied"
            log.warning("sync.refused", source=self.source, reason=wrong)
            self._refused("sync", "", [Problem("generation", wrong, "generations grow")])
            return
        self._refused("sync", "", ())
        self.sync = sync

    @property
    def complete(self) -> bool:
        """Whether, on this connection, exactly as many workloads were heard as the generation has."""
        return self.sync is not None and len(self._heard) == self.sync.count

    def _too_many(self, kind: str) -> Problem:
        wrong = f"this host has {self._most} {kind} from {self.source}"
        return Problem("", wrong, self._remedy())

    def _remedy(self) -> str:
        return f"delete some, or raise workload.{self.source}.max_workloads"

    def _make_room(self, kind: str, added: int) -> None:
        """Raises: PayloadRefused: so many addresses more are too many."""
        if added > 0 and self._addresses[kind] + added > self._most_addresses:
            wrong = f"the {kind}s from {self.source} would have more than {self._most_addresses} addresses together"
            raise PayloadRefused([Problem("addresses", wrong, self._remedy())])

    def _is_nameless(self, event: str, name: str) -> bool:
        """Whether nothing can be told of that name; then nothing of it is kept, but for a line in the log."""
        if is_tellable(name):
            return False
        self._log_refusal(event, PayloadRefused([Problem("", "no topic can have this name", "")]), name=name)
        return True

    def _log_refusal(self, event: str, refusal: PayloadRefused, **name: str) -> None:
        """One line each for the first of a burst; the rest are counted, each has its report all the same."""
        self._refusals_logged += 1
        if self._refusals_logged <= REFUSALS_LOGGED:
            shown = {key: value[:253] for key, value in name.items()}
            log.warning(event, source=self.source, reason=str(refusal)[:1000], **shown)

    def _quiet(self, now: float) -> None:
        if self._quiet_at is None:
            self._busy_since = now
        self._quiet_at = min(now + QUIET_S, self._busy_since + BUSY_S)

    def timer(self) -> float | None:
        """When `tick` wants to be called, on the clock of `now`; 0 is at once."""
        return 0.0 if self._gone else self._quiet_at

    def tick(self, now: float) -> None:
        """Apply a generation that is complete and has been quiet."""
        if self._gone:
            self._remove_some()
        if self._quiet_at is None or now < self._quiet_at:
            return
        self._quiet_at = None
        if self._refusals_logged > REFUSALS_LOGGED:
            log.warning("feed.more_refused", source=self.source, payloads=self._refusals_logged - REFUSALS_LOGGED)
        self._refusals_logged = 0
        if self.sync is None or not self.complete:
            return
        self._synchronised()
        if self.generation is not None and self.sync.generation <= self.generation:
            return
        self.generation = self.sync.generation
        self._gone = sorted((self._workloads.keys() | self._parked.workloads.keys()) - self._heard, reverse=True)
        log.info("feed.generation_applied", source=self.source, generation=self.generation, removed=len(self._gone))
        self._changed(Change(generation=self.generation))
        self._remove_some()

    def _remove_some(self) -> None:
        """Remove the next of what the applied generation lacks, but not what was heard since."""
        for _ in range(min(SLICE, len(self._gone))):
            id = self._gone.pop()
            if id not in self._heard:
                self.delete_workload(id)


def _without_vrf(vrf: str) -> Problem:
    return Problem("vrf", f'there is no VRF "{vrf}" any more', "it is kept, and counts when there is one again")


def _addresses_of(service: Service) -> int:
    return len(service.addresses) + sum(len(backend.addresses) for backend in service.backends)


def _content(claim: Claim) -> Claim:
    """A claim without the name of its source, to compare what two sources say."""
    return msgspec.structs.replace(claim, source="")
