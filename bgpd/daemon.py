"""The process: makes the parts of the daemon, starts them in order, stops them.

Only connects parts: routing.py builds the data path, configuration.py changes it, listings.py answers the API. Routes
stay in the kernel when the process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgpd import __version__
from bgpd.api.unix_socket import SocketUnusable
from bgpd.bundles import Bundles
from bgpd.config.facts import system_hostname
from bgpd.config.load import Loaded
from bgpd.config.schema import Config
from bgpd.configuration import Configuration
from bgpd.consistency import Consistency
from bgpd.consistency_checks import checks
from bgpd.daemon_metrics import build_registry
from bgpd.drain import Drain
from bgpd.export.exports import Exports
from bgpd.export.sessions import TappedSessions
from bgpd.fib.dataplane import CannotWrite, Dataplane
from bgpd.fib.protocol import read_protocol_in_force
from bgpd.handover.store import SIGNALS
from bgpd.history.recorder import History
from bgpd.history.segments import DIRECTORY as HISTORY
from bgpd.history_bases import say_bases
from bgpd.inheritance import Inheritance
from bgpd.journal.journal import NAME as JOURNAL
from bgpd.journal.journal import Journal
from bgpd.kernel.monitor import KernelMonitor
from bgpd.leaving import Leaving
from bgpd.listings import DaemonBackend
from bgpd.log import EventRing, set_up_logging
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import load as load_codec
from bgpd.message.nlri import RouteTargetNlri
from bgpd.model.iana import Family
from bgpd.model.views.orders import ReloadView
from bgpd.overview_records import OverviewRecords
from bgpd.past import Past
from bgpd.readiness import Readiness
from bgpd.routing import Routing
from bgpd.runtime import systemd as systemd_notify
from bgpd.runtime.descriptors import Shortage, is_exhausted, raise_limit
from bgpd.runtime.ending import bound_the_end
from bgpd.runtime.events import log
from bgpd.runtime.form import form
from bgpd.runtime.lock import AnotherRuns, LockUnusable, NamespaceLock
from bgpd.runtime.loop import TimedSelector, new_event_loop
from bgpd.runtime.memory import GarbagePolicy
from bgpd.runtime.turns import Walks
from bgpd.trial import Trial
from bgpd.twins import Twins
from bgpd.upgrade import Upgrade

if TYPE_CHECKING:
    from bgpd.api.server import ApiServer


EX_SOFTWARE = 70
"""Exit code after a defect of bgpd itself (sysexits.h); the service manager starts it again."""
WATCHDOG_AGAIN_S = 1.0
"""After a sign of life that systemd did not take: it reads nothing just now."""
SHUTDOWN_TEXT = "bgpd is stopped"


def run(loaded: Loaded, file: str, *, left: Inheritance, warnings: Sequence[str] = ()) -> int:
    """Run until SIGTERM or SIGINT, with what another process has `left`; the exit code.

    SIGHUP reads `file` again, which was `loaded`; of its warnings `warnings` have not been told yet.

    SIGINT is a stop, of which neighbors are told. After SIGTERM bgpd is expected to come back: the sessions are left to
    the next process where a service manager keeps them meanwhile, else it is a graceful restart.
    """
    raise_limit()
    config = loaded.config
    events = EventRing()
    set_up_logging(config.log, events)
    path = Path(config.state.directory) / JOURNAL if config.journal.enabled else None
    journal = Journal(path, max_bytes=config.journal.max_bytes, events=events)
    journal.open()
    for warning in warnings:
        log.warning("config.warning", warning=warning)
    if loaded.errors:
        log.error(
            "config.not_in_force", file=file, errors=len(loaded.errors), first=loaded.errors[0].partition("\n")[0]
        )
    if left.problem:
        log.error("handover.refused", reason=left.problem)
    trial = Trial(config.state.directory, file=file)
    loaded = trial.at_start(loaded)
    config = loaded.config
    load_codec()
    loop, selector = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        protocol = read_protocol_in_force(config.fib.protocol)
        daemon = Daemon(
            loaded, file, protocol=protocol, events=events, journal=journal, trial=trial, selector=selector, left=left
        )
        exit_code = loop.run_until_complete(daemon.run())
        bound_the_end(exit_code)
        return exit_code
    finally:
        journal.close()
        loop.close()


class Daemon:
    """One run of bgpd. Its routes bear `protocol`, which is not the configured one while it keeps a former default."""

    def __init__(
        self,
        loaded: Loaded,
        file: str,
        *,
        protocol: int,
        events: EventRing,
        journal: Journal,
        trial: Trial,
        selector: TimedSelector,
        left: Inheritance | None = None,
    ) -> None:
        self._left = left if left is not None else Inheritance()
        config = loaded.config
        self._configuration = Configuration(loaded, file, protocol=protocol, trial=trial, events=events)
        self._journal = journal
        self._selector = selector
        self._stop = asyncio.Event()
        self._is_for_good = False
        self._exit_code = 0
        self._started = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        hostname = config.router.hostname or system_hostname()
        directory = Path(config.state.directory) / HISTORY if config.journal.history_max_bytes else None
        self._history = History(directory, max_bytes=config.journal.history_max_bytes, config=config.rib)
        self._garbage = GarbagePolicy()
        self._shortage = Shortage()
        self._walks = Walks(failed=self._defect)
        sessions = TappedSessions()
        self._routing = self._make_routing(protocol, hostname, sessions)
        self._exports = Exports(sessions, rib=self._routing.rib, hostname=hostname, config=self._present_config)
        self._consistency = Consistency(lambda: checks(self._routing))
        self._readiness = Readiness(
            self._routing,
            self._consistency,
            journal=journal,
            trial=trial,
            selector=selector,
            shortage=self._shortage,
            hostname=hostname,
        )
        self._twins = Twins(self._routing, config=self._present_config, chosen=lambda: self._readiness.configuration)
        self._drain = Drain(self._routing, config=lambda: self._configuration.in_force, changed=self._drain_changed)
        self._leaving = Leaving(
            self._routing,
            configuration=self._configuration,
            exports=self._exports,
            drain=self._drain,
            journal=journal,
            history=self._history,
            started=self._started,
            stop=self._stop,
        )
        self._backend = self._make_backend(events)
        self._bundles = Bundles(
            config.state.directory,
            socket=config.api.socket,
            events=events,
            health=self._readiness.view,
            neighbors=self._backend.neighbors,
            config=self._present_config,
            is_drained=lambda: bool(self._drain.reason()),
        )
        self._api: ApiServer | None = None
        self._lock = NamespaceLock(protocol, otherwise=Path(config.api.socket).parent)
        self._connect()

    def _present_config(self) -> Config:
        return self._configuration.config

    def _make_routing(self, protocol: int, hostname: str, sessions: TappedSessions) -> Routing:
        config = self._configuration.in_force
        monitor = KernelMonitor(own_protocol=protocol, interval_s=config.fib.reconcile_interval_s)
        return Routing(
            config,
            dataplane=Dataplane(monitor, protocol=protocol),
            walks=self._walks,
            nlri_decoders={Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()},
            hostname=hostname,
            changed=lambda: self._readiness.plan_review(),
            memory_freed=self._garbage.much_was_freed,
            shortage=self._shortage,
            history=self._history,
            tap=sessions,
        )

    def _make_backend(self, events: EventRing) -> DaemonBackend:
        upgrade = Upgrade(
            self._leaving.hand_over,
            look_at_disk=self._leaving.look_at_disk,
            spawn=self._spawn,
            started=self._started.is_set,
        )
        return DaemonBackend(
            self._routing,
            walks=self._walks,
            events=events,
            journal=self._journal,
            config=self._present_config,
            health=self._readiness.view,
            drain=self._drain,
            past=Past(self._history, self._present_config().state.directory),
            upgrade=upgrade,
            metrics=lambda: self._metrics.render(),
            reload=self._reload,
            confirm=self._configuration.confirm,
            would_be=self._configuration.would_be,
            rules=lambda: self._configuration.rules,
            started=self.has_started,
        )

    def _connect(self) -> None:
        """What parts need of others that were made after them."""
        self._readiness.matching = self._configuration.matching
        self._readiness.left = self._left
        self._readiness.why_drained = self._drain.reason
        self._readiness.also_warns = (
            self._history.warnings,
            self._configuration.warnings,
            self._drain.warnings,
            self._configuration.identity.warnings,
            self._twins.warnings,
            self._exports.warnings,
            lambda: self._api.warnings() if self._api is not None else [],
        )
        self._configuration.connect(
            routing=self._routing,
            readiness=self._readiness,
            neighbors=self._backend.neighbors,
            exports=self._exports,
            spawn=self._spawn,
        )
        self._metrics = build_registry(
            self._routing,
            selector=self._selector,
            neighbors=self._backend.neighbors,
            health=self._readiness.view,
            drain=self._drain.view,
            shortage=self._shortage,
            repairs=lambda: self._consistency.repairs,
            exports=self._exports,
        )

    async def run(self) -> int:
        """Start, run, stop; the exit code."""
        self._hear_signals()
        file = self._configuration.file
        log.info("bgpd.starting", version=__version__, form=form().value, pid=os.getpid(), config=file)
        is_left = self._left.daemon is not None
        try:
            await self._start()
        except (SocketUnusable, AnotherRuns, LockUnusable, CannotWrite, OSError) as error:
            self._cannot_start(error)
            for task in self._tasks:
                task.cancel()
            if self._api is not None:
                await self._api.stop()
            self._left.sessions.close()
            return 1
        is_adopting = self._left.daemon is not None  # it was readable
        self._configuration.follow_links()
        self._exports.reconfigure(tables_are_known=not is_adopting)
        await asyncio.sleep(0)
        self._selector.reset()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._routing.speaker.run())]
            if is_adopting:
                await self._complete()
            running += [tasks.create_task(part) for part in self._parts()]
            await asyncio.sleep(0)  # all have begun
            if is_left:
                await self._serve_late()
            self._started.set()
            systemd_notify.notify(systemd_notify.READY)
            self._configuration.started()
            log.info("bgpd.started", seconds=round(self._readiness.age_s, 3))
            await self._stop.wait()
            await self._end()
            for task in running:
                task.cancel()
        return self._exit_code

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_exception)
        loop.add_signal_handler(signal.SIGTERM, lambda: self._spawn(self._leaving.restart()))
        loop.add_signal_handler(signal.SIGINT, self._stop_for_good)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    async def _start(self) -> None:
        """All that must be there before a neighbor is heard. The API comes first, unless another process has left its
        sessions, which cannot wait."""
        if self._left.daemon is None:
            await self._serve()
        await self._lock.acquire()
        self._configuration.identity.keep()
        self._drain.restore(self._left.drain)
        self._garbage.start()  # before tables are there: looking at those takes long
        await self._routing.start(self._left)
        if self._left.daemon is None:
            await self._routing.complete(self._left)

    def _parts(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs until the end, beside the speaker."""
        return (
            self._routing.run(),
            say_bases(self._routing),
            self._routing.workloads.run(),
            self._routing.servers.run(),
            self._configuration.run(),
            self._readiness.run(),
            self._drain.run(),
            self._journal.run(),
            self._bundles.run(),
            self._history.run(),
            OverviewRecords(self._history, self._backend.overview).run(),
            self._consistency.run(self._walks, repaired=self._readiness.plan_review),
            self._twins.run(self._walks),
            self._garbage.run(lambda: self._walks.run(self._routing.rib.shrink())),
            self._run_api(),
            _feed_watchdog(),
        )

    async def _complete(self) -> None:
        """The rest of what another process has left is taken up, while its neighbors are heard."""
        await asyncio.sleep(0)  # their sessions have gone on
        log.info("handover.heard", sessions=self._left.adopted, seconds=self._left.heard(time.monotonic()))
        await self._routing.complete(self._left)
        log.info("handover.complete", seconds=self._left.since_unread(time.monotonic()))
        self._exports.reconfigure()

    def _cannot_start(self, error: Exception) -> None:
        log.error("bgpd.cannot_start", error=str(error))
        print(f"bgpd: {error}", file=sys.stderr)

    async def _serve(self) -> None:
        """Answer the API from now on. Raises: SocketUnusable: with what to do."""
        from bgpd.api.server import ApiServer

        self._api = ApiServer(self._configuration.config.api, self._backend)
        await self._api.start()

    async def _run_api(self) -> None:
        await self._started.wait()
        if self._api is not None:
            await self._api.run()

    async def _serve_late(self) -> None:
        """The API, once neighbors are heard again: what it needs takes a quarter of the time of all imports."""
        await asyncio.to_thread(importlib.import_module, "bgpd.api.server")
        try:
            await self._serve()
        except (SocketUnusable, OSError) as error:
            self._cannot_start(error)
            self._exit_code = 1
            self._stop.set()

    def _stop_for_good(self) -> None:
        self._is_for_good = True
        self._stop.set()

    async def _end(self) -> None:
        """Neighbors hear it first, the kernel keeps all routes."""
        systemd_notify.notify(systemd_notify.STOPPING, waits=False)
        log.info("bgpd.stopping")
        self._routing.ending = True
        await self._routing.workloads.stop()
        await self._routing.speaker.shutdown(SHUTDOWN_TEXT, gracefully=not self._is_for_good)
        await self._exports.stop()
        if self._api is not None:
            await self._api.stop()
        await self._routing.stop()
        self._history.close()
        self._lock.release()
        log.info("bgpd.stopped")

    # What went wrong inside.

    def _defect(self, error: BaseException) -> None:
        """State may be wrong from here on: end, and let the service manager start anew; the kernel keeps its routes."""
        log.error("bgpd.defect", error=repr(error), exc_info=error)
        self._bundles.at_defect(error)
        self._exit_code = EX_SOFTWARE
        self._stop.set()

    def _loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback or a lost task raised. A connection's own failure costs that connection only.

        asyncio reports so, too, that it could not accept a connection of the API, and waits a second (item "socket").
        """
        error = context.get("exception")
        if error is not None and "socket" in context and is_exhausted(error):
            self._shortage.note(error)
            return
        if error is None or "protocol" in context or "transport" in context:
            log.error("bgpd.connection_defect", error=repr(error), message=context.get("message"), exc_info=error)
            return
        self._defect(error)

    def _drain_changed(self) -> None:
        if self._started.is_set():
            self._readiness.plan_review()

    async def has_started(self) -> None:
        """Returns once all parts run."""
        await self._started.wait()

    # Reload.

    def _reload_soon(self) -> None:
        self._spawn(self._reload())

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """What a signal asked for; a defect in it ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self, confirm_s: float | None = None) -> ReloadView:
        """Have the configuration read again, once all has started; on trial for `confirm_s`."""
        await self._started.wait()
        systemd_notify.notify(*systemd_notify.reloading())
        try:
            return await self._configuration.reload(confirm_s)
        finally:
            systemd_notify.notify(systemd_notify.READY)


async def _feed_watchdog() -> None:
    interval_s = systemd_notify.watchdog_interval_s()
    while interval_s is not None:
        is_heard = systemd_notify.notify(systemd_notify.WATCHDOG, waits=False)
        await asyncio.sleep(interval_s if is_heard else min(interval_s, WATCHDOG_AGAIN_S))
