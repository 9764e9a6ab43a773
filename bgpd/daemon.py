"""The daemon: its parts, the order in which they start and stop, signals, reload, and what it tells systemd.

Only wires: `routing` joins the data path, `backend` serves the API. Routes stay in the kernel whenever it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from bgpd import __version__
from bgpd.api.server import ApiServer
from bgpd.api.unix_socket import SocketUnusable
from bgpd.config.effects import Effect, config_diff, keep_until_restart
from bgpd.config.load import ConfigError, load_config
from bgpd.config.schema import Config
from bgpd.consistency import LOOK_AGAIN_S, ROUND_S, Consistency
from bgpd.consistency_checks import checks
from bgpd.daemon_metrics import build_registry
from bgpd.fib.dataplane import CannotWrite
from bgpd.kernel.monitor import KernelMonitor
from bgpd.listings import DaemonBackend
from bgpd.log import EventRing, set_up_logging
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import load as load_codec
from bgpd.message.nlri import RouteTargetNlri
from bgpd.model.iana import Family
from bgpd.model.views import HealthView, ReloadView
from bgpd.readiness import not_converged
from bgpd.rib.policy_match import PolicyError
from bgpd.routing import Routing
from bgpd.runtime import systemd as systemd_notify
from bgpd.runtime.descriptors import Shortage, is_exhausted, raise_limit
from bgpd.runtime.lock import AnotherRuns, LockUnusable, NamespaceLock
from bgpd.runtime.loop import TimedSelector, new_event_loop
from bgpd.runtime.memory import INTERVAL_S, SETTLE_S, GarbagePolicy, keep_little_memory, return_free_memory
from bgpd.runtime.turns import Walks

log = structlog.get_logger()

EX_SOFTWARE = 70
"""Exit code after a defect of bgpd itself (sysexits.h); the service manager starts it again."""
PENDING_PATIENCE_S = 5.0
"""Kernel routes may wait to be written for so long before the host counts as not ready."""
SHUTDOWN_TEXT = "bgpd is stopped"


def run(config: Config, file: str, *, warnings: Sequence[str] = ()) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `file` is read again by SIGHUP; `warnings` are about it."""
    keep_little_memory()
    raise_limit()
    events = EventRing()
    set_up_logging(config.log, events)
    for warning in warnings:
        log.warning("config.warning", warning=warning)
    load_codec()
    loop, selector = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(Daemon(config, file, events=events, selector=selector).run())
    finally:
        loop.close()


class Daemon:
    """One run of bgpd."""

    def __init__(self, config: Config, file: str, *, events: EventRing, selector: TimedSelector) -> None:
        self._config = config
        self._file = file
        self._events = events
        self._selector = selector
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._started = asyncio.Event()
        self._started_at = time.time()
        self._born = time.monotonic()
        self._pending_since: float | None = None
        self._waiting_for = ""
        self._readiness = "starting"
        self._review_planned = False
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._hostname = config.router.hostname or socket.gethostname().partition(".")[0]
        self._garbage = GarbagePolicy()
        self._shortage = Shortage()
        self._memory_freed = asyncio.Event()
        self._walks = Walks(failed=self._defect)
        self._routing = Routing(
            config,
            monitor=KernelMonitor(own_protocol=config.fib.protocol, interval_s=config.fib.reconcile_interval_s),
            walks=self._walks,
            nlri_decoders={Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()},
            hostname=self._hostname,
            changed=self._plan_review,
            memory_freed=self._memory_freed.set,
            readiness=lambda: self._readiness,
            shortage=self._shortage,
        )
        self._backend = DaemonBackend(
            self._routing,
            events=events,
            config=lambda: self._config,
            health=self._health,
            metrics=lambda: self._metrics.render(),
            reload=self._reload,
            started=self._has_started,
        )
        self._consistency = Consistency(lambda: checks(self._routing))
        self._metrics = build_registry(
            self._routing,
            selector=selector,
            neighbors=self._backend.neighbors,
            health=self._health,
            shortage=self._shortage,
            repairs=lambda: self._consistency.repairs,
        )
        self._api = ApiServer(config.api, self._backend)
        self._lock = NamespaceLock(config.fib.protocol, otherwise=Path(config.api.socket).parent)

    async def run(self) -> int:
        """Start, run, stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        log.info("bgpd.starting", version=__version__, pid=os.getpid(), config=self._file)
        try:
            await self._api.start()
            await self._lock.acquire()
            await self._routing.start()
        except (SocketUnusable, AnotherRuns, LockUnusable, CannotWrite, OSError) as error:
            log.error("bgpd.cannot_start", error=str(error))
            print(f"bgpd: {error}", file=sys.stderr)
            for task in self._tasks:
                task.cancel()
            await self._api.stop()
            return 1
        self._garbage.start()
        await asyncio.sleep(0)
        self._selector.reset_longest()
        self._started.set()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._routing.speaker.run()),
                tasks.create_task(self._routing.workloads.run()),
                tasks.create_task(self._routing.servers.run()),
                tasks.create_task(self._review_regularly()),
                tasks.create_task(self._examine()),
                tasks.create_task(self._collect_garbage()),
                tasks.create_task(_feed_watchdog()),
            ]
            systemd_notify.notify(systemd_notify.READY)
            log.info("bgpd.started", seconds=round(time.monotonic() - self._born, 3))
            await self._stop.wait()
            await self._end()
            for task in running:
                task.cancel()
        return self._exit_code

    async def _end(self) -> None:
        """Neighbors hear it first, the kernel keeps all routes."""
        systemd_notify.notify(systemd_notify.STOPPING)
        log.info("bgpd.stopping")
        self._routing.ending = True
        await self._routing.workloads.stop()
        await self._routing.speaker.shutdown(SHUTDOWN_TEXT)
        await self._api.stop()
        await self._routing.stop()
        self._lock.release()
        log.info("bgpd.stopped")

    # What went wrong inside.

    def _defect(self, error: BaseException) -> None:
        """State may be wrong from here on: end, and let the service manager start anew; the kernel keeps its routes."""
        log.error("bgpd.defect", error=repr(error), exc_info=error)
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

    # Readiness.

    async def _has_started(self) -> None:
        await self._started.wait()

    def _plan_review(self) -> None:
        if not self._review_planned:
            self._review_planned = True
            asyncio.get_running_loop().call_soon(self._review)

    async def _review_regularly(self) -> None:
        while True:
            self._review()
            await asyncio.sleep(1.0)

    def _review(self) -> None:
        """Look whether the daemon has converged, and whether it is ready."""
        self._review_planned = False
        routing = self._routing
        if not routing.converged:
            established = routing.sources
            self._waiting_for = not_converged(
                time.monotonic() - self._born,
                synchronised=routing.synchronised,
                neighbors=[(neighbor.name, neighbor.name in established) for neighbor in self._config.neighbor],
                awaiting=routing.rib.awaiting_end_of_rib(),
            )
            if not self._waiting_for:
                log.info("bgpd.converged", seconds=round(time.monotonic() - self._born, 3), routes=routing.routes)
                routing.converge()
        pending = sum(fib.counters.pending for fib in routing.tables.fibs.values())
        if not pending:
            self._pending_since = None
        elif self._pending_since is None:
            self._pending_since = time.monotonic()
        readiness = "; ".join(self._reasons())
        if readiness != self._readiness:
            log.info("bgpd.readiness", ready=not readiness, reason=readiness)
            self._readiness = readiness
            routing.workloads.neighbors_changed()
        self._tell_status()

    def _reasons(self) -> list[str]:
        """Why this host may not be relied on; empty if it may."""
        if not self._started.is_set():
            return ["starting"]
        routing = self._routing
        reasons = []
        if self._config.neighbor and not routing.sources:
            reasons.append("no neighbor is established")
        elif not routing.converged:
            reasons.append(f"not converged: {self._waiting_for}")
        if routing.is_behind_kernel:
            reasons.append("events of the kernel were lost, and its state is being read again")
        reasons += self._consistency.reasons()
        failed = sum(fib.counters.failed for fib in routing.tables.fibs.values())
        if failed:
            reasons.append(f"the kernel refused {failed} routes: bgpd show fib --state failed")
        if self._pending_since is not None and time.monotonic() - self._pending_since > PENDING_PATIENCE_S:
            reasons.append("kernel routes wait to be written: bgpd show fib --state pending")
        return reasons

    async def _examine(self) -> None:
        """Compare what the parts hold of the same routes, a little at a time, and again what differed."""
        while True:
            await asyncio.sleep(ROUND_S)
            self._walks.run(self._consistency.round(time.monotonic()))
            await asyncio.sleep(LOOK_AGAIN_S)
            while self._consistency.has_suspects:
                self._consistency.look_again(time.monotonic())
                self._plan_review()
                await asyncio.sleep(LOOK_AGAIN_S)

    def _health(self) -> HealthView:
        routing = self._routing
        reasons = self._reasons()
        warnings = [warning for warning in (routing.speaker.error, self._shortage.warning) if warning]
        return HealthView(
            ready=not reasons,
            reasons=reasons,
            warnings=warnings + routing.tables.warnings() + routing.workloads.errors(),
            version=__version__,
            pid=os.getpid(),
            hostname=self._hostname,
            started_at=self._started_at,
            neighbors=len(self._config.neighbor),
            neighbors_established=len(routing.sources),
            routes=routing.routes,
            fib_pending=sum(fib.counters.pending for fib in routing.tables.fibs.values()),
            fib_failed=sum(fib.counters.failed for fib in routing.tables.fibs.values()),
            loop_stall_s=self._selector.longest_s,
        )

    def _tell_status(self) -> None:
        text = f"{len(self._routing.sources)} neighbors established, {self._routing.routes} routes"
        if self._readiness:
            text += f"; not ready: {self._readiness}"
        if text != self._told_status:
            self._told_status = text
            systemd_notify.notify(systemd_notify.status(text))

    _told_status = ""

    async def _collect_garbage(self) -> None:
        """Now and then, and soon after a neighbor with much has left."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._memory_freed.wait(), INTERVAL_S)
                await asyncio.sleep(SETTLE_S)
            self._memory_freed.clear()
            self._garbage.collect_young()
            self._walks.run(self._routing.shrink())
            await asyncio.to_thread(return_free_memory)

    # Reload.

    def _reload_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> ReloadView:
        """Read the file again and apply what changed, once all has started; with an error in it nothing changes."""
        await self._started.wait()
        systemd_notify.notify(*systemd_notify.reloading())
        try:
            async with self._reloading:
                view = await self._apply_file()
        finally:
            systemd_notify.notify(systemd_notify.READY)
        for problem in view.problems:
            log.error("reload.problem", problem=problem)
        for warning in view.warnings:
            log.warning("config.warning", warning=warning)
        effects = [change.effect for change in view.changes]
        log.info("reload.done", applied=not view.problems, **{str(effect): effects.count(effect) for effect in Effect})
        self._plan_review()
        return view

    async def _apply_file(self) -> ReloadView:
        try:
            config, warnings = load_config(self._file, running=True)
        except ConfigError as error:
            return ReloadView(file=self._file, problems=[str(problem) for problem in error.problems])
        changes = config_diff(self._config, config)
        effective = keep_until_restart(self._config, config)
        try:
            await self._routing.reconfigure(effective)
        except PolicyError as error:
            return ReloadView(file=self._file, problems=[str(error)])
        if effective.log != self._config.log:
            set_up_logging(effective.log, self._events)
        self._config = effective
        return ReloadView(file=self._file, changes=changes, warnings=[str(warning) for warning in warnings])


async def _feed_watchdog() -> None:
    interval_s = systemd_notify.watchdog_interval_s()
    while interval_s is not None:
        systemd_notify.notify(systemd_notify.WATCHDOG)
        await asyncio.sleep(interval_s)
