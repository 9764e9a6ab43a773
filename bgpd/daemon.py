"""The process: makes the parts of the daemon, starts them in order, reloads the configuration, stops them.

Only connects parts: routing.py builds the data path, listings.py answers the API. Routes stay in the kernel when the
process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from bgpd import __version__
from bgpd.api.backend import Rejected
from bgpd.api.server import ApiServer
from bgpd.api.unix_socket import SocketUnusable
from bgpd.config.effects import Effect, config_diff, keep_until_restart
from bgpd.config.facts import system_hostname
from bgpd.config.limits import exceeded_limits
from bgpd.config.load import ConfigError, Loaded, load_config
from bgpd.config.patterns import Matched
from bgpd.config.schema import Config
from bgpd.consistency import Consistency
from bgpd.consistency_checks import checks
from bgpd.daemon_metrics import build_registry
from bgpd.drain import Drain
from bgpd.fib.dataplane import CannotWrite
from bgpd.fib.protocol import read_protocol_in_force
from bgpd.handover.store import (
    SIGNALS,
    DescriptorStore,
    HandOverFailed,
    StoreUnusable,
    store_of_service,
)
from bgpd.identity import OwnIdentity
from bgpd.inheritance import SNAPSHOT, Inheritance, Left, saved_daemon
from bgpd.journal.journal import NAME as JOURNAL
from bgpd.journal.journal import Journal
from bgpd.kernel.facts import facts_of_host
from bgpd.kernel.monitor import KernelMonitor
from bgpd.listings import DaemonBackend
from bgpd.log import EventRing, set_up_logging
from bgpd.matching import Matching
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import load as load_codec
from bgpd.message.nlri import RouteTargetNlri
from bgpd.model.iana import Family
from bgpd.model.views import ReloadView
from bgpd.readiness import Readiness, configuration_view
from bgpd.rib.policy_match import PolicyError
from bgpd.routing import Routing
from bgpd.runtime import systemd as systemd_notify
from bgpd.runtime.descriptors import Shortage, is_exhausted, raise_limit
from bgpd.runtime.form import form
from bgpd.runtime.lock import AnotherRuns, LockUnusable, NamespaceLock
from bgpd.runtime.loop import TimedSelector, new_event_loop
from bgpd.runtime.memory import GarbagePolicy
from bgpd.runtime.turns import Walks
from bgpd.trial import Trial
from bgpd.twins import Twins
from bgpd.upgrade import Upgrade

log = structlog.get_logger()

EX_SOFTWARE = 70
"""Exit code after a defect of bgpd itself (sysexits.h); the service manager starts it again."""
SETTLE_S = 1.0
"""How long a hand-over waits for what neighbors have said to be in the kernel; the next process writes the rest."""
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
        return loop.run_until_complete(daemon.run())
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
        self._config = config = loaded.config
        self._protocol = protocol
        self._file = file
        self._events = events
        self._journal = journal
        self._trial = trial
        self._loaded = loaded
        self._trial_ends: asyncio.TimerHandle | None = None
        self._selector = selector
        self._stop = asyncio.Event()
        self._is_for_good = False
        self._exit_code = 0
        self._started = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        hostname = config.router.hostname or system_hostname()
        self._garbage = GarbagePolicy()
        self._shortage = Shortage()
        self._walks = Walks(failed=self._defect)
        self._matching = Matching()
        matched = self._matching.made_out(self._with_protocol(config))
        self._in_force = matched.config
        self._matching.taken(config, matched)
        self._routing = Routing(
            self._in_force,
            monitor=KernelMonitor(own_protocol=protocol, interval_s=config.fib.reconcile_interval_s),
            walks=self._walks,
            nlri_decoders={Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()},
            hostname=hostname,
            changed=lambda: self._readiness.plan_review(),
            memory_freed=self._garbage.much_was_freed,
            shortage=self._shortage,
        )
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
        self._readiness.neighbors = self._in_force.neighbor
        self._readiness.matching = self._matching
        self._readiness.left = self._left
        self._readiness.configuration = configuration_view(loaded, at=time.time())
        self._identity = OwnIdentity(config.state.directory, loaded.identity)
        self._twins = Twins(self._routing, config=lambda: self._config, chosen=lambda: self._readiness.configuration)
        self._readiness.also_warns = (self._identity.warnings, self._twins.warnings)
        self._drain = Drain(self._routing, config=lambda: self._in_force, changed=self._drain_changed)
        self._readiness.why_drained = self._drain.reason
        self._backend = DaemonBackend(
            self._routing,
            events=events,
            journal=journal,
            config=lambda: self._config,
            health=self._readiness.view,
            drain=self._drain,
            upgrade=Upgrade(self.hand_over, spawn=self._spawn, started=self._started.is_set),
            metrics=lambda: self._metrics.render(),
            reload=self._reload,
            confirm=self._confirm,
            started=self.has_started,
        )
        self._metrics = build_registry(
            self._routing,
            selector=selector,
            neighbors=self._backend.neighbors,
            health=self._readiness.view,
            drain=self._drain.view,
            shortage=self._shortage,
            repairs=lambda: self._consistency.repairs,
        )
        self._api = ApiServer(config.api, self._backend)
        self._lock = NamespaceLock(protocol, otherwise=Path(config.api.socket).parent)

    async def run(self) -> int:
        """Start, run, stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_exception)
        loop.add_signal_handler(signal.SIGTERM, self._leave_soon)
        loop.add_signal_handler(signal.SIGINT, self._stop_for_good)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        log.info("bgpd.starting", version=__version__, form=form().value, pid=os.getpid(), config=self._file)
        try:
            await self._api.start()
            await self._lock.acquire()
            self._identity.keep()
            self._drain.restore()
            await self._routing.start(self._left)
        except (SocketUnusable, AnotherRuns, LockUnusable, CannotWrite, OSError) as error:
            log.error("bgpd.cannot_start", error=str(error))
            print(f"bgpd: {error}", file=sys.stderr)
            for task in self._tasks:
                task.cancel()
            await self._api.stop()
            self._left.sessions.close()
            return 1
        self._matching.interfaces = self._routing.host.vrf_by_interface
        self._routing.link_changed = self._matching.link_changed
        self._garbage.start()
        await asyncio.sleep(0)
        self._selector.reset()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._routing.run()),
                tasks.create_task(self._routing.speaker.run()),
                tasks.create_task(self._routing.workloads.run()),
                tasks.create_task(self._routing.servers.run()),
                tasks.create_task(self._matching.run(self._match_again)),
                tasks.create_task(self._readiness.run()),
                tasks.create_task(self._drain.run()),
                tasks.create_task(self._journal.run()),
                tasks.create_task(self._consistency.run(self._walks, repaired=self._readiness.plan_review)),
                tasks.create_task(self._twins.run(self._walks)),
                tasks.create_task(self._garbage.run(lambda: self._walks.run(self._routing.shrink()))),
                tasks.create_task(_feed_watchdog()),
            ]
            await asyncio.sleep(0)  # all have begun: a process that leaves now goes on with its sessions already
            self._started.set()
            systemd_notify.notify(systemd_notify.READY)
            self._watch_trial()
            log.info("bgpd.started", seconds=round(self._readiness.age_s, 3))
            await self._stop.wait()
            await self._end()
            for task in running:
                task.cancel()
        return self._exit_code

    async def hand_over(self, store: DescriptorStore, leave: Callable[[], object]) -> None:
        """Leave the sessions and all that is known to the next process: have `store` keep them, then call `leave`,
        which ends this process, or becomes the next one.

        Raises: HandOverFailed: with the reason; this process goes on as if nothing had been.
        """
        if not self._started.is_set() or self._stop.is_set() or self._routing.ending:
            raise HandOverFailed("bgpd is starting or stopping")
        async with self._reloading:
            began = time.monotonic()
            self._routing.speaker.hold(True)
            try:
                await self._routing.settle(SETTLE_S)
                if self._stop.is_set():
                    raise HandOverFailed("bgpd is stopping")
                self._leave_behind(store, leave, began)
            except (StoreUnusable, OSError) as error:
                raise HandOverFailed(str(error)) from error
            finally:
                self._routing.speaker.hold(False)

    def _leave_behind(self, store: DescriptorStore, leave: Callable[[], object], began: float) -> None:
        """From here on the loop does not turn until the process has ended."""
        speaker, descriptors = self._routing.speaker.saved()
        left = Left(
            daemon=saved_daemon(converged=self._routing.converged),
            speaker=speaker,
            rib=self._routing.rib.saved(),
            feeds=self._routing.workloads.saved(is_complete=self._routing.synchronised),
            descriptors=descriptors,
        )
        descriptors = left.write()
        try:
            store.keep(descriptors)
            sessions, seconds = len(speaker.sessions), round(time.monotonic() - began, 3)
            log.info("handover.left", sessions=sessions, seconds=seconds)
            self._journal.close()
            leave()
        finally:
            os.ftruncate(descriptors[SNAPSHOT], 0)  # this process goes on after all: nobody may take it for new
            os.close(descriptors[SNAPSHOT])

    def _leave_soon(self) -> None:
        store = store_of_service()
        if store is None:
            self._stop.set()
        else:
            self._spawn(self._leave(store))

    async def _leave(self, store: DescriptorStore) -> None:
        """Hand over once all has started; a graceful restart if that cannot be."""
        await self._started.wait()
        try:
            if not self._stop.is_set():
                await self.hand_over(store, lambda: os._exit(0))
        except HandOverFailed as error:
            log.warning("handover.failed", reason=str(error), instead="graceful restart")
        self._stop.set()

    def _stop_for_good(self) -> None:
        self._is_for_good = True
        self._stop.set()

    async def _end(self) -> None:
        """Neighbors hear it first, the kernel keeps all routes."""
        systemd_notify.notify(systemd_notify.STOPPING)
        log.info("bgpd.stopping")
        self._routing.ending = True
        await self._routing.workloads.stop()
        await self._routing.speaker.shutdown(SHUTDOWN_TEXT, gracefully=not self._is_for_good)
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
        """Read the file again and apply what changed, once all has started; with an error in it nothing changes.

        With `confirm_s` it goes back to what is in force now unless `_confirm` is called within that time.
        """
        await self._started.wait()
        systemd_notify.notify(*systemd_notify.reloading())
        try:
            async with self._reloading:
                view = await self._apply_file(confirm_s)
        finally:
            systemd_notify.notify(systemd_notify.READY)
        for problem in view.problems:
            log.error("reload.problem", problem=problem)
        for warning in view.warnings:
            log.warning("config.warning", warning=warning)
        effects = [change.effect for change in view.changes]
        log.info("reload.done", applied=not view.problems, **{str(effect): effects.count(effect) for effect in Effect})
        self._readiness.plan_review()
        return view

    async def _confirm(self) -> bool:
        """Keep the configuration that is on trial; whether one was. Raises: Rejected: that cannot be saved."""
        async with self._reloading:
            try:
                was_tried = self._trial.confirm()
            except OSError as error:
                right = "after a restart it would go back: make room, and confirm again"
                raise Rejected(503, f"that it is confirmed cannot be saved: {error}", right) from error
            self._watch_trial()
        if was_tried:
            log.info("trial.confirmed", file=self._file)
        return was_tried

    def _watch_trial(self) -> None:
        """Be told when the trial is over, if there is one."""
        if self._trial_ends is not None:
            self._trial_ends.cancel()
            self._trial_ends = None
        if (left_s := self._trial.left_s) is not None:
            loop = asyncio.get_running_loop()
            self._trial_ends = loop.call_later(left_s, lambda: self._spawn(self._go_back()))

    async def _go_back(self) -> None:
        """Nobody has confirmed what was tried."""
        async with self._reloading:
            if self._trial.left_s is None:
                return
            if self._trial.left_s > 0:  # it was made longer, or the clock was set back
                self._watch_trial()
                return
            former = self._trial.go_back(self._loaded)
            if former is None:
                return
            for problem in (await self._apply(former)).problems:
                log.error("reload.problem", problem=problem)
        self._readiness.plan_review()

    def _with_protocol(self, config: Config) -> Config:
        fib = msgspec.structs.replace(config.fib, protocol=self._protocol)
        return msgspec.structs.replace(config, fib=fib)

    async def _apply_file(self, confirm_s: float | None) -> ReloadView:
        try:
            loaded = load_config(
                self._file, running=True, former=self._config, facts=facts_of_host(), identity=self._identity.in_force
            )
        except ConfigError as error:
            return ReloadView(file=self._file, problems=[str(problem) for problem in error.problems])
        is_trial = confirm_s is not None or self._trial.until is not None
        if is_trial and loaded.config.state.directory != self._config.state.directory:
            what = "state.directory cannot be another one on trial: a start would not find the trial there"
            return ReloadView(file=self._file, problems=[f"{what}; change it without --confirm, and restart bgpd"])
        before = self._trial.now
        try:
            if confirm_s is None:
                self._trial.follow(loaded.config)
            else:
                origin = self._readiness.configuration
                self._trial.begin(loaded.config, self._config, confirm_s, origin=origin)
        except OSError as error:
            return ReloadView(file=self._file, problems=[f"the trial cannot be saved: {error}"])
        try:
            view = await self._apply(loaded)
            if view.problems:
                self._trial.keep(before)
        finally:
            self._watch_trial()
        view.confirm_until = self._trial.until if not view.problems else None
        return view

    async def _apply(self, loaded: Loaded) -> ReloadView:
        config, made_out = loaded.config, self._matching.made_out
        changes = config_diff(made_out(self._config).config, made_out(config).config)
        effective = keep_until_restart(self._config, config)
        matched = made_out(self._with_protocol(effective))
        try:
            await self._routing.reconfigure(matched.config)
        except PolicyError as error:
            return ReloadView(file=self._file, problems=[str(error)])
        if effective.log != self._config.log:
            set_up_logging(effective.log, self._events)
        self._loaded = loaded
        self._took(effective, matched)
        self._readiness.configuration = configuration_view(loaded, at=time.time())
        self._identity.take(loaded.identity)
        exceeded = exceeded_limits(self._in_force, self._backend.neighbors())
        return ReloadView(file=self._file, changes=changes, warnings=[*map(str, loaded.warnings), *exceeded])

    def _took(self, config: Config, matched: Matched) -> None:
        """This is in force from now on."""
        self._config, self._in_force = config, matched.config
        self._matching.taken(config, matched)
        self._readiness.neighbors = self._in_force.neighbor

    async def _match_again(self) -> None:
        """Other interfaces match a pattern than before: neighbors come and go as by a reload."""
        async with self._reloading:
            matched = self._matching.made_out(self._with_protocol(self._config))
            if matched.config != self._in_force:
                await self._routing.reconfigure(matched.config)
            self._took(self._config, matched)
        self._readiness.plan_review()


async def _feed_watchdog() -> None:
    interval_s = systemd_notify.watchdog_interval_s()
    while interval_s is not None:
        systemd_notify.notify(systemd_notify.WATCHDOG)
        await asyncio.sleep(interval_s)
