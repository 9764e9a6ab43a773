"""All sources of workloads on this host, joined to one table: what the daemon starts, feeds and stops.

Only wires: which claims there are, the sources decide; what becomes of them, the table.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import structlog

from bgpd import __version__
from bgpd.config.schema import WorkloadsConfig
from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.path import NextHops
from bgpd.model.reports import HostStatus, Problem
from bgpd.model.views import NeighborView
from bgpd.model.workload import Claim, ClaimInfo, Presence
from bgpd.runtime.programs import Programs
from bgpd.runtime.turns import soon
from bgpd.workload import kernel_source, static_source
from bgpd.workload.feed import api as api_source
from bgpd.workload.feed.api import ApiSource
from bgpd.workload.feed.feed import SERVICE, WORKLOAD, Feed
from bgpd.workload.feed.reports import Reports
from bgpd.workload.feed.state_file import StateFile
from bgpd.workload.kernel_source import KernelSource
from bgpd.workload.service.checker import Checker, CheckId
from bgpd.workload.service.probes import probe
from bgpd.workload.service.services import Services
from bgpd.workload.settle import TableOutputs
from bgpd.workload.standing import Held
from bgpd.workload.static_source import StaticSource
from bgpd.workload.table import AskPresence, WorkloadTable

if TYPE_CHECKING:
    from bgpd.workload.feed.mqtt import MqttSource

log = structlog.get_logger()

MQTT = "mqtt"
INITIAL_WAIT_S = 10
"""How long the sources' first states are waited for where no broker is configured."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class WorkloadPorts(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon gives: see `TableOutputs` and `KernelSource`.

    `presence(vrf, family, key)`: what EVPN knows of an endpoint of this host. `reserved(vrf, family, key)`: what the
    host itself needs that a workload of this prefix would take, "" if nothing. `readiness()` is "" when the daemon is
    ready, else why not; `neighbors()` are all sessions.
    """

    announce: Callable[[str, Family, list[bytes], ClaimInfo], None]
    withdraw: Callable[[str, Family, list[bytes]], None]
    host_routes: Callable[[str, Family, Mapping[bytes, NextHops | None]], None]
    service_route: Callable[[str, Family, bytes, NextHops, bool], None]
    resumed: Callable[[str, Family, bytes, ClaimInfo, Presence], None]
    presence: AskPresence
    reserved: Callable[[str, Family, bytes], str]
    synchronised: Callable[[], None]
    readiness: Callable[[], str]
    neighbors: Callable[[], Iterable[NeighborView]] = tuple


class Workloads:
    """The parts, by name: `table`, `kernel`, `services`, and `api` (None unless configured)."""

    def __init__(self, config: WorkloadsConfig, ports: WorkloadPorts, *, host: Host, hostname: str) -> None:
        self._config = config
        self._ports = ports
        self._hostname = hostname
        self._neighbors: dict[str, NeighborView] = {}
        self._files: list[tuple[StateFile, Feed]] = []
        self._table_synchronised = False
        self._synchronised = False
        self._order_known = False
        self._started = False
        self._vrfs = config.vrfs
        self._reports: dict[str, Reports] = {}
        self.mqtt: MqttSource | None = None
        self.api: ApiSource | None = None
        feeds = [MQTT] * bool(config.workload.mqtt) + [api_source.SOURCE] * bool(config.workload.api)
        sources = [static_source.SOURCE, kernel_source.SOURCE, *feeds]
        self.table = WorkloadTable(self._outputs(), host=host, sources=sources, reserved=ports.reserved)
        self.static = StaticSource(self.table)
        self.kernel = KernelSource(
            self.table,
            globs=config.workload.kernel.interfaces if config.workload.kernel else (),
            vrfs=config.vrfs,
            own_protocol=config.fib.protocol,
            own_metric=config.fib.metric,
            schedule=lambda: soon(self.kernel.drain),
        )
        programs = Programs(config.workload.health.command_directory)
        self._checker = Checker(
            lambda check, address, device: probe(check, address, device=device, programs=programs),
            concurrency=config.workload.health.concurrency,
            result=self._check_result,
        )
        self.services = Services(self.table, self._checker, changed=self._service_changed, schedule=soon)
        self._feeds = {source: self._feed(source) for source in feeds}
        if config.workload.api:
            self.api = ApiSource(
                self._feeds[api_source.SOURCE],
                self.table,
                self._reports[api_source.SOURCE],
                self.services,
                kept=next(file.kept for file, feed in self._files if feed.source == api_source.SOURCE),
                timeout_s=config.workload.api.timeout_s,
            )

    def _outputs(self) -> TableOutputs:
        ports = self._ports
        return TableOutputs(
            announce=ports.announce,
            withdraw=ports.withdraw,
            host_routes=ports.host_routes,
            service_route=ports.service_route,
            resumed=ports.resumed,
            states_changed=self._states_changed,
            schedule_flush=lambda: soon(self._flush),
            synchronised=self._table_is_synchronised,
        )

    def _flush(self) -> None:
        if not self._started:
            return
        self.table.flush(time.time())
        if not self._synchronised:
            self._tell_synchronised()

    def kernel_told(self) -> bool:
        """All kernel events of this turn were told: settle now what they changed, not in the loop's next turn.

        Whether there was anything.
        """
        self.kernel.drain()
        if not self.table.is_marked:
            return False
        self._flush()
        return True

    def _feed(self, source: str) -> Feed:
        file = StateFile(self._config.state.directory, f"{source}.json", told=self._file_error_changed)
        reports = self._reports[source] = Reports(source, self.table, changed=self._refusal_changed)
        feed = Feed(
            source,
            self.table,
            self.services,
            vrfs=frozenset(self._vrfs.values()),
            commands=_commands(self._config.workload.health.command_directory),
            most=_most(self._config, source),
            refused=reports.refused,
            changed=file.note,
            synchronised=functools.partial(self.table.source_synchronised, source),
        )
        self._files.append((file, feed))
        return feed

    async def start(self) -> None:
        """Claim what configuration and state files say; to be awaited before `run`."""
        loaded = [(feed, file.load()) for file, feed in self._files]
        for feed, saved in loaded:
            if saved is not None:
                feed.remember(saved)
        self.static.apply(self._config.workload.static)
        for feed, saved in loaded:
            if saved is not None:
                for _ in feed.restore(saved):
                    await asyncio.sleep(0)
                log.info("workload.restored", source=feed.source, workloads=len(feed.workloads))
            if saved is not None or feed.source == api_source.SOURCE:
                self.table.source_synchronised(feed.source)
        self._started = True
        self.table.started()
        soon(self._flush)
        mqtt = self._config.workload.mqtt
        if mqtt is not None:
            from bgpd.workload.feed.mqtt import MqttSource  # loads ssl and the MQTT library, 6 MB

            host = mqtt.host or self._hostname
            self.mqtt = MqttSource(mqtt, host=host, feed=self._feeds[MQTT], status=self.status)
            for id in self._feeds[MQTT].workloads:
                self._publish_workload(id)

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Take over a new configuration; nothing that stays the same is touched.

        Static workloads, the kernel source's globs and the VRFs change at once; broker, API, checks and state directory
        are those of the start. Of a new VRF's table, the kernel's routes must be told to `kernel` anew.
        """
        before = {name: table for table, name in self._vrfs.items()}
        vrfs = self._vrfs = config.vrfs
        for table, name in vrfs.items():
            if before.get(name, table) != table:
                self.table.kernel_table_changed(name)
        for feed in self._feeds.values():
            feed.vrfs = frozenset(vrfs.values())
            self._step(feed.follow_vrfs())
        self.static.apply(config.workload.static)
        self.kernel.reconfigure(config.workload.kernel.interfaces if config.workload.kernel else (), vrfs)

    def _step(self, walk: Iterator[None]) -> None:
        if next(walk, True) is None:
            soon(lambda: self._step(walk))

    async def run(self) -> None:
        """Broker, checks and state files, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checker.run())
            group.create_task(self._wait_for_initial_state())
            for file, feed in self._files:
                group.create_task(file.run(feed.saved))
            if self.mqtt is not None:
                group.create_task(self.mqtt.run())

    async def stop(self) -> None:
        """Tell the broker; to be called before `run` is cancelled. Claims, routes and announcements stay."""
        if self.mqtt is not None:
            await self.mqtt.say_goodbye()

    async def _wait_for_initial_state(self) -> None:
        mqtt = self._config.workload.mqtt
        await asyncio.sleep(mqtt.initial_wait_s if mqtt else INITIAL_WAIT_S)
        missing = self.table.initial_state_timed_out()
        if missing:
            log.warning("workload.initial_state_missing", sources=missing)
        self._tell_synchronised(waited=True)

    def _table_is_synchronised(self) -> None:
        self._table_synchronised = True
        self._tell_synchronised()

    def _tell_synchronised(self, *, waited: bool = False) -> None:
        """Tell the daemon, once: the table knows its workloads, checks have said which services to announce."""
        if self._synchronised or not (waited or (self._table_synchronised and not self.services.undecided())):
            return
        self.services.release()
        if not self._order_known:
            self._order_known = True
            self.table.order_known()
            for feed in self._feeds.values():
                feed.order_known()
            for source, id in self.table.contested():
                self._ranks_changed(source, id)
        if waited or self.table.settled:
            self._synchronised = True
            self._ports.synchronised()

    def _check_result(self, id: CheckId, reason: str) -> None:
        self.services.check_result(id, reason, time.time())
        if not self._synchronised:
            self._tell_synchronised()

    def presence_changed(self, vrf: str, family: Family, key: bytes) -> None:
        """What EVPN knows of an endpoint of this host is another, though its workload neither came nor went."""
        self._note_presences(self.table.claims_at(vrf, family, key))

    def _note_presences(self, claims: Iterable[Claim]) -> None:
        found: dict[str, dict[str, dict[str, Presence]]] = {}
        for claim in claims:
            if claim.vrf and claim.mac and claim.source in self._feeds:
                of_source = found.setdefault(claim.source, {})
                if claim.id not in of_source:
                    of_source[claim.id] = self.table.presences(claim.source, claim.id, self._ports.presence)
        for source, of_source in found.items():
            self._feeds[source].presences_changed(of_source)

    def _states_changed(self, changed: list[Held]) -> None:
        self._note_presences(held.claim for held in changed)
        self.services.states_changed(changed)
        if self.api is not None:
            self.api.states_changed(changed)
        if self._order_known:
            for held in changed:
                self._ranks_changed(held.claim.source, held.claim.id)
        if self.mqtt is None:
            return
        for held in changed:
            claim = held.claim
            if claim.source in self._feeds:
                self._publish_workload(claim.id)
            elif claim.source == SERVICE:
                self._service_changed(claim.id)

    def _ranks_changed(self, source: str, id: str) -> None:
        if source in self._feeds:
            self._feeds[source].ranks_changed(WORKLOAD, id)
        elif source == SERVICE:
            for feed in self._feeds.values():
                feed.ranks_changed(SERVICE, id)

    def _refusal_changed(self, kind: str, id: str) -> None:
        match kind:
            case "workload":
                self._publish_workload(id)
            case "service":
                self._service_changed(id)
            case _:
                if self.mqtt is not None:
                    self.mqtt.status_changed()

    def _publish_workload(self, id: str) -> None:
        if self.mqtt is not None:
            self.mqtt.publish(f"workloads/{id}/state", functools.partial(self._render_workload, id))

    def _render_workload(self, id: str) -> bytes:
        for source in self._feeds:
            report = self._reports[source].workload(id)
            if report is not None:
                return msgspec.json.encode(report)
        return b""

    def _service_changed(self, name: str) -> None:
        if self.mqtt is not None:
            self.mqtt.publish(f"services/{name}/state", functools.partial(self._render_service, name))

    def _render_service(self, name: str) -> bytes:
        view = self.services.view(name)
        errors = [problem for reports in self._reports.values() for problem in reports.problems("service", name)]
        if view is None and not errors:
            return b""
        return msgspec.json.encode({"name": name, "service": view, "errors": errors})

    def neighbors_changed(self) -> None:
        """Sessions changed their state, came or went, or readiness did: published, and part of the status."""
        if self.mqtt is None:
            return
        before, self._neighbors = self._neighbors, {view.name: view for view in self._ports.neighbors()}
        for name, view in self._neighbors.items():
            known = before.get(name)
            if known is None or (known.state, known.since) != (view.state, view.since):
                self.mqtt.publish(_topic_of(name), functools.partial(self._render_neighbor, name))
            if known is not None and known.state != view.state:
                self.mqtt.publish_event(time.time(), "neighbor.state", {"neighbor": name, "state": view.state})
        for name in before.keys() - self._neighbors.keys():
            self.mqtt.publish(_topic_of(name), functools.partial(self._render_neighbor, name))
        self.mqtt.status_changed()

    def _render_neighbor(self, name: str) -> bytes:
        view = self._neighbors.get(name)
        return msgspec.json.encode(view) if view is not None else b""

    def status(self) -> HostStatus:
        """This host's status as it is published."""
        feed = self._feeds[MQTT]
        reason = self._ports.readiness()
        return HostStatus(
            online=True,
            boot_id=_BOOT_ID.read_text().strip(),
            version=__version__,
            generation=feed.generation,
            complete=feed.complete,
            ready=not reason,
            reason=reason,
            neighbors={name: view.state for name, view in self._neighbors.items()},
            errors=self._reports[MQTT].problems("sync", "") + self._file_errors(),
        )

    def _file_error_changed(self) -> None:
        if self.mqtt is not None:
            self.mqtt.status_changed()

    def _file_errors(self) -> list[Problem]:
        return [Problem("", file.error, "claims are in force but not saved") for file, _ in self._files if file.error]

    def errors(self) -> list[str]:
        """What is wrong with broker and state files, for `bgpd show`."""
        broker = [self.mqtt.error] if self.mqtt is not None and self.mqtt.error else []
        return broker + [problem.wrong for problem in self._file_errors()]


def _topic_of(neighbor: str) -> str:
    """A neighbor's topic; what a topic may not hold is percent-encoded."""
    return f"neighbors/{quote(neighbor, safe=':%@ ')}"


def _most(config: WorkloadsConfig, source: str) -> int:
    feed = config.workload.mqtt if source == MQTT else config.workload.api
    assert feed is not None
    return feed.max_workloads


def _commands(directory: str) -> Collection[str] | None:
    """The programs in the command directory, None if none is configured or it cannot be read."""
    if not directory:
        return None
    try:
        return frozenset(name for name in os.listdir(directory) if os.access(Path(directory) / name, os.X_OK))
    except OSError as error:
        log.error("workload.command_directory", directory=directory, error=str(error))
        return None
