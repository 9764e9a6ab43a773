"""The workloads and services that an orchestrator has put on this host, kept over restarts and changes of VRFs.

MQTT and the API put and delete here by name. Payloads are checked before (`payload`); more names or addresses than
allowed are refused. `generations` decides when something is gone that nobody deleted. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

import msgspec

from bgpd.model.reports import Problem
from bgpd.model.service import Service
from bgpd.model.workload import Claim, Workload
from bgpd.runtime.events import log
from bgpd.workload.claims import Claims
from bgpd.workload.feed.payload import PayloadRefused, claims_of
from bgpd.workload.feed.reports import SERVICE, WORKLOAD, Reports
from bgpd.workload.feed.restart_notes import Journal, RestartNotes
from bgpd.workload.feed.saved import Change, Saved
from bgpd.workload.presences import Presences
from bgpd.workload.sources import feeds

SLICE = 200
"""Workloads restored or removed in one step, so that the loop is never blocked for 20 ms."""

IN_USE = "names are unique on a host: delete that one, or take another"

ADDRESSES_PER_WORKLOAD = 4
LEAST_ADDRESSES = 10_000
"""So many addresses on average, or in all, whichever is more: workloads, or services with their backends, may not have
more together."""


class ServiceSink(Protocol):
    """Who runs services (`service.Services`)."""

    def apply(self, source: str, name: str, service: Service | None) -> None:
        """A source says this of a service now; None: it is gone."""

    def park(self, source: str, name: str) -> None:
        """A service of a source is in force no more, and may be again: nobody else may have its name."""

    def owner(self, name: str) -> str:
        """The source that has the service of this name, in force or parked; "" if none."""


class Feed:
    """The workloads and services that one orchestrator source has in force.

    `vrfs` are the configured VRFs, `commands` what exec checks may run, `most` how many workloads, and how many
    services, are taken (`ADDRESSES_PER_WORKLOAD` bounds their addresses).
    """

    def __init__(
        self,
        source: str,
        claims: Claims,
        presences: Presences,
        services: ServiceSink,
        *,
        vrfs: Collection[str],
        commands: Collection[str] | None,
        most: int,
        reports: Reports,
        journal: Journal,
    ) -> None:
        self.source = source
        self.generation: int | None = None
        self.epoch = ""
        self.host = ""
        self.broker = ""
        self.vrfs = vrfs
        self.commands = commands
        self.most = most
        self.notes = RestartNotes(source, claims, presences, journal=journal, in_force=self)
        self._claims = claims
        self._services = services
        self._most_addresses = max(LEAST_ADDRESSES, ADDRESSES_PER_WORKLOAD * most)
        self._addresses = {WORKLOAD: 0, SERVICE: 0}
        self._reports = reports
        self._journal = journal
        self._workloads: dict[str, Workload] = {}
        self._service_payloads: dict[str, Service] = {}
        self._parked = Saved()

    @property
    def workloads(self) -> Mapping[str, Workload]:
        """The workloads in force, by id."""
        return self._workloads

    @property
    def services(self) -> Mapping[str, Service]:
        """The services in force, by name."""
        return self._service_payloads

    def names(self, kind: str) -> set[str]:
        """All workloads, or services, that are in force, kept for a VRF that may come back, or refused."""
        refused = self._reports.names(self.source, kind)
        if kind == WORKLOAD:
            return refused | self._workloads.keys() | self._parked.workloads.keys()
        return refused | self._service_payloads.keys() | self._parked.services.keys()

    def is_in_force(self, kind: str, id: str) -> bool:
        """Whether there is a workload or service of this name, of a VRF that is configured."""
        return id in (self._workloads if kind == WORKLOAD else self._service_payloads)

    def is_parked(self, kind: str, id: str) -> bool:
        """Whether there is one that is kept, but inactive because its VRF is not configured."""
        return id in (self._parked.workloads if kind == WORKLOAD else self._parked.services)

    def generation_applied(self, generation: int, epoch: str) -> None:
        """What is in force is this generation: kept over a restart."""
        self.generation, self.epoch = generation, epoch
        self._journal.note(Change(generation=generation, epoch=epoch))

    def belongs_to(self, host: str, broker: str) -> None:
        """The state in force is from this host's topics at this broker. With another broker generations start anew."""
        if (host, broker) == (self.host, self.broker):
            return
        if self.broker and broker != self.broker:
            log.info("feed.other_broker", source=self.source, before=self.broker, now=broker)
            self.generation, self.epoch = None, ""
        self.host, self.broker = host, broker
        self._journal.note(Change(host=host, broker=broker))

    def refused(self, kind: str, id: str, problems: Collection[Problem]) -> None:
        """A payload was not taken; none: the present one is good, or gone."""
        self._reports.note(self.source, kind, id, problems)

    def saved(self) -> Saved:
        """What `restore` needs after a restart; the dictionaries are copies."""
        saved = Saved(
            generation=self.generation,
            epoch=self.epoch,
            host=self.host,
            broker=self.broker,
            workloads=self._parked.workloads | self._workloads,
            services=self._parked.services | self._service_payloads,
        )
        self.notes.add_to(saved)
        return saved

    def restore(self, saved: Saved) -> Iterator[None]:
        """Put in force what an earlier run knew; what is of no configured VRF is reported and only kept.

        To be stepped, with yields to the loop; `notes.remember` comes before.
        """
        self.generation, self.epoch = saved.generation, saved.epoch
        self.host, self.broker = saved.host, saved.broker
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
        """Deactivate workloads and services of removed VRFs (kept), activate those of VRFs that returned.

        To be stepped, like `restore`.
        """
        for count, (id, workload) in enumerate([*self._workloads.items(), *self._parked.workloads.items()], 1):
            if self._workloads.get(id) is workload and workload.vrf not in self.vrfs:
                del self._workloads[id]
                self._claims.claim(self.source, id)
                self._park_workload(id, workload)
            elif self._parked.workloads.get(id) is workload and workload.vrf in self.vrfs:
                self.refused(WORKLOAD, id, ())
                self._put_again(id, workload)
            if count % SLICE == 0:
                yield
        for name, service in [*self._service_payloads.items(), *self._parked.services.items()]:
            if self._service_payloads.get(name) is service and service.vrf not in self.vrfs:
                del self._service_payloads[name]
                self._park_service(name, service)
            elif self._parked.services.get(name) is service and service.vrf in self.vrfs:
                self.refused(SERVICE, name, ())
                self._put_service(name, service)

    def _park_workload(self, id: str, workload: Workload) -> None:
        self._parked.workloads[id] = workload
        log.warning("workload.without_vrf", source=self.source, id=id, vrf=workload.vrf)
        self.refused(WORKLOAD, id, [_without_vrf(workload.vrf)])

    def _park_service(self, name: str, service: Service) -> None:
        self._parked.services[name] = service
        self._services.park(self.source, name)
        log.warning("service.without_vrf", source=self.source, name=name, vrf=service.vrf)
        self.refused(SERVICE, name, [_without_vrf(service.vrf)])

    def put_workload(self, id: str, workload: Workload) -> bool:
        """A checked workload from now on; whether that changed anything.

        Raises: PayloadRefused: another source has a workload of this id that says otherwise.
        """
        for other in feeds():
            theirs = {_content(status.claim) for status in self._claims.statuses(other, id)}
            if other == self.source or not theirs:
                continue
            if theirs != {_content(claim) for claim in claims_of(workload, source=self.source, id=id)}:
                wrong = f'"{id}" is in use by another workload, from {other}'
                raise PayloadRefused([Problem("id", wrong, IN_USE)])
        former = self._workloads.get(id) or self._parked.workloads.get(id)
        if former is None and len(self._workloads) + len(self._parked.workloads) >= self.most:
            raise PayloadRefused([self._too_many("workloads")])
        added = len(workload.addresses) - (len(former.addresses) if former else 0)
        self._make_room(WORKLOAD, added)
        self.refused(WORKLOAD, id, ())
        if self._workloads.get(id) == workload:
            return False
        self._addresses[WORKLOAD] += added
        self._put(id, workload)
        self.notes.workload_put(id)
        self._journal.note(Change(workloads={id: workload}))
        return True

    def _put_again(self, id: str, workload: Workload) -> None:
        """A workload that was there before, and may have moved since it was said to be here."""
        self._put(id, workload)
        self.notes.resume(id)

    def _put(self, id: str, workload: Workload) -> None:
        self._parked.workloads.pop(id, None)
        self._workloads[id] = workload
        self._claims.claim(self.source, id, claims_of(workload, source=self.source, id=id))

    def delete_workload(self, id: str) -> bool:
        """Whether there was one."""
        self.refused(WORKLOAD, id, ())
        parked = self._parked.workloads.pop(id, None)
        former = self._workloads.pop(id, None) or parked
        if former is None:
            return False
        self._addresses[WORKLOAD] -= len(former.addresses)
        self._claims.claim(self.source, id)
        self._journal.note(Change(workloads={id: None}))
        self.notes.deleted(WORKLOAD, id)
        return True

    def put_service(self, name: str, service: Service) -> bool:
        """A checked service from now on; whether that changed anything.

        Raises: PayloadRefused: another source has a service of this name.
        """
        owner = self._services.owner(name)
        if owner not in ("", self.source):
            wrong = f'"{name}" is in use by another service, from {owner}'
            raise PayloadRefused([Problem("name", wrong, IN_USE)])
        known = len(self._service_payloads) + len(self._parked.services)
        former = self._service_payloads.get(name) or self._parked.services.get(name)
        if former is None and known >= self.most:
            raise PayloadRefused([self._too_many("services")])
        added = _addresses_of(service) - (_addresses_of(former) if former else 0)
        self._make_room(SERVICE, added)
        self.refused(SERVICE, name, ())
        if self._service_payloads.get(name) == service:
            return False
        self._addresses[SERVICE] += added
        self._put_service(name, service)
        self._journal.note(Change(services={name: service}))
        return True

    def _put_service(self, name: str, service: Service) -> None:
        self._parked.services.pop(name, None)
        self._service_payloads[name] = service
        self._services.apply(self.source, name, service)

    def delete_service(self, name: str) -> bool:
        """Whether there was one."""
        self.refused(SERVICE, name, ())
        parked = self._parked.services.pop(name, None)
        former = self._service_payloads.pop(name, None) or parked
        if former is None:
            return False
        self._addresses[SERVICE] -= _addresses_of(former)
        self._services.apply(self.source, name, None)
        self._journal.note(Change(services={name: None}))
        self.notes.deleted(SERVICE, name)
        return True

    def _too_many(self, kind: str) -> Problem:
        wrong = f"this host has {self.most} {kind} from {self.source}"
        return Problem("", wrong, self._remedy())

    def _remedy(self) -> str:
        return f"delete some, or raise workload.{self.source}.max_workloads"

    def _make_room(self, kind: str, added: int) -> None:
        """Raises: PayloadRefused: with this many more addresses the limit is exceeded."""
        if added > 0 and self._addresses[kind] + added > self._most_addresses:
            wrong = f"the {kind}s from {self.source} would have more than {self._most_addresses} addresses together"
            raise PayloadRefused([Problem("addresses", wrong, self._remedy())])


def _without_vrf(vrf: str) -> Problem:
    return Problem("vrf", f'there is no VRF "{vrf}" any more', "it is kept, and counts when there is one again")


def _addresses_of(service: Service) -> int:
    return len(service.addresses) + sum(len(backend.addresses) for backend in service.backends)


def _content(claim: Claim) -> Claim:
    """A claim without the name of its source, to compare what two sources say."""
    return msgspec.structs.replace(claim, source="")
