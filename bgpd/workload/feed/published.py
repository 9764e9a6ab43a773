"""The topics that an orchestrator reads: the state of workloads, services, neighbors and this host.

Marks topics that may have changed; a topic is rendered when it is sent. Decides nothing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from bgpd import __version__
from bgpd.model.reports import HostStatus
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.boot import boot_id
from bgpd.workload.feed.generations import Generations
from bgpd.workload.feed.reports import RIGHTS, SERVICE, SNAPSHOT, STATE_FILE, SYNC, WORKLOAD, Reports
from bgpd.workload.service.services import SERVICE as SERVICE_SOURCE
from bgpd.workload.service.services import Services
from bgpd.workload.sources import Sessions, feeds
from bgpd.workload.standing import ClaimStatus


class Topics(Protocol):
    """Where topics are published (`outbox.Outbox`)."""

    def publish(self, topic: str, render: Callable[[], bytes]) -> None:
        """The topic says what `render` gives, when it is sent."""

    def publish_event(self, at: float, event: str, fields: dict[str, Any]) -> None:
        """Something happened at a time, in seconds since the epoch."""


class PublishedStates:
    """Keeps the topics about this host equal to what its parts say."""

    def __init__(
        self, topics: Topics, *, reports: Reports, services: Services, sessions: Sessions, generations: Generations
    ) -> None:
        self._topics = topics
        self._reports = reports
        self._services = services
        self._sessions = sessions
        self._generations = generations
        self._neighbors: dict[str, NeighborView] = {}
        self._why_not_ready = "starting"
        self._is_stopping = False
        reports.listeners.append(self._problems_changed)
        services.listeners.append(self._service_changed)
        self.status_changed()

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """These claims changed their state."""
        for status in changed:
            if status.claim.source in feeds():
                self.workload_changed(status.claim.id)
            elif status.claim.source == SERVICE_SOURCE:
                self._service_changed(status.claim.id)

    def workload_changed(self, id: str) -> None:
        """The report of a workload may be another."""
        self._topics.publish(f"workloads/{id}/state", functools.partial(self._render_workload, id))

    def _service_changed(self, name: str) -> None:
        self._topics.publish(f"services/{name}/state", functools.partial(self._render_service, name))

    def _problems_changed(self, kind: str, id: str) -> None:
        if kind == WORKLOAD:
            self.workload_changed(id)
        elif kind == SERVICE:
            self._service_changed(id)
        else:
            self.status_changed()

    def neighbors_changed(self) -> None:
        """Sessions changed their state, came or went: published, and part of the status."""
        before, self._neighbors = self._neighbors, {view.name: view for view in self._sessions.neighbor_views()}
        for name, view in self._neighbors.items():
            known = before.get(name)
            if known is None or (known.state, known.since) != (view.state, view.since):
                self._topics.publish(_topic_of(name), functools.partial(self._render_neighbor, name))
            if known is not None and known.state != view.state:
                self._topics.publish_event(time.time(), "neighbor.state", {"neighbor": name, "state": view.state})
        for name in before.keys() - self._neighbors.keys():
            self._topics.publish(_topic_of(name), functools.partial(self._render_neighbor, name))
        self.status_changed()

    def readiness_changed(self, reason: str) -> None:
        """The host is ready now (""), or not, and why."""
        self._why_not_ready = reason
        self.status_changed()

    def status_changed(self) -> None:
        """The status of the host may be another."""
        self._topics.publish("status", self._render_status)

    def stopping(self) -> None:
        """The daemon ends: the host is offline from now on."""
        self._is_stopping = True
        self.status_changed()

    def offline(self, reason: str) -> bytes:
        """The status of the host once the daemon is gone."""
        return msgspec.json.encode(msgspec.structs.replace(self.status(), online=False, ready=False, reason=reason))

    def status(self) -> HostStatus:
        """This host's status as it is published."""
        return HostStatus(
            online=True,
            boot_id=boot_id(),
            version=__version__,
            generation=self._generations.applied,
            epoch=self._generations.epoch,
            complete=self._generations.complete,
            ready=not self._why_not_ready,
            reason=self._why_not_ready,
            neighbors={name: view.state for name, view in self._neighbors.items()},
            errors=[
                *(
                    problem
                    for kind in (SYNC, SNAPSHOT, RIGHTS)
                    for problem in self._reports.problems(self._generations.source, kind)
                ),
                *self._reports.all_problems(STATE_FILE),
            ],
        )

    def _render_status(self) -> bytes:
        return self.offline("the daemon was stopped") if self._is_stopping else msgspec.json.encode(self.status())

    def _render_workload(self, id: str) -> bytes:
        report = self._reports.any_workload(id)
        return msgspec.json.encode(report) if report is not None else b""

    def _render_service(self, name: str) -> bytes:
        view = self._services.view(name)
        errors = self._reports.all_problems(SERVICE, name)
        if view is None and not errors:
            return b""
        return msgspec.json.encode({"name": name, "service": view, "errors": errors})

    def _render_neighbor(self, name: str) -> bytes:
        view = self._neighbors.get(name)
        return msgspec.json.encode(view) if view is not None else b""


def _topic_of(neighbor: str) -> str:
    """A neighbor's topic; what a topic may not hold is percent-encoded."""
    return f"neighbors/{quote(neighbor, safe=':%@ ')}"
