"""How this process leaves its sessions and all that it knows to the next one, and what makes it stay.

inheritance.py says what is left, handover/ how it gets there. Until the process has ended nothing was changed but that
reading has paused and a KEEPALIVE was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bgpd.configuration import Configuration
from bgpd.drain import Drain
from bgpd.export.exports import Exports
from bgpd.handover.signals import KeptSignals
from bgpd.handover.store import DescriptorStore, HandOverFailed, StoreUnusable, store_of_service
from bgpd.history.recorder import History
from bgpd.inheritance import SNAPSHOT, Left, saved_daemon
from bgpd.journal.journal import Journal
from bgpd.rib.prepared import PreparedRib
from bgpd.routing import Routing
from bgpd.runtime import systemd
from bgpd.runtime.disk import Disk, threads_are_free
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of

SETTLE_S = 1.0
"""How long a hand-over waits for what neighbors have said to be in the kernel; the next process writes the rest."""
LEAVE_S = 20.0
"""How long each part of a hand-over may take before systemd ends the process, which is a graceful restart: what is
written while neighbors are heard, and what is written then. On a busy host both together may take longer than
TimeoutStopSec= of the unit, which is as long."""
CHANGE_S = 15.0
"""How long a change of the configuration that has begun is waited for: its files may be on a disk that hangs. Less than
TimeoutStopSec= of the unit."""
DISK_S = 5.0
"""How long the disk has to answer."""
_TURNS = 8
"""Of the loop, until it has heard the signals that had come."""


class Leaving:
    """The end of a process that another one follows. `started` is set once all parts run, `stop` ends the process."""

    def __init__(
        self,
        routing: Routing,
        *,
        configuration: Configuration,
        exports: Exports,
        drain: Drain,
        journal: Journal,
        history: History,
        started: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._routing = routing
        self._configuration = configuration
        self._exports = exports
        self._drain = drain
        self._journal = journal
        self._history = history
        self._started = started
        self._stop = stop
        self._disk = Disk()
        self._is_restarting = False

    async def restart(self) -> None:
        """The service manager wants another process in this one's place: hand over to it, once all has started, or end
        for a graceful restart."""
        store = store_of_service()
        if store is None:
            self._stop.set()
            return
        self._is_restarting = True
        await self._started.wait()
        try:
            if not self._stop.is_set():
                await self._hand_over(store, lambda _signals: os._exit(0))
        except HandOverFailed as error:
            log.warning("handover.failed", reason=str(error), instead="graceful restart")
        self._stop.set()

    async def hand_over(self, store: DescriptorStore, leave: Callable[[int], object]) -> None:
        """Leave the sessions and all that is known to the next process: have `store` keep them, then call `leave`,
        which makes this process the next one, with the descriptor of signals that come meanwhile (handover/signals.py).

        Raises: HandOverFailed: with the reason; this process goes on as if nothing had been.
        """
        if self._is_restarting:
            raise HandOverFailed("bgpd is being restarted")
        await self._hand_over(store, leave)

    async def look_at_disk(self) -> None:
        """Raises: HandOverFailed: it hangs, or it cannot be looked at. A process of which a thread waits for it cannot
        end: its neighbors would hear nothing, neither of this one nor of the next, until it goes on.
        """
        directory = Path(self._configuration.config.state.directory)
        try:
            async with asyncio.timeout(DISK_S):
                await self._history.flush()
                is_written = await self._journal.flush()
                await self._disk.answers(directory)
        except TimeoutError:
            is_written = False
        except OSError as error:  # no descriptor is left to look at threads, say
            raise HandOverFailed(reason_of(error)) from error
        if not is_written:
            raise HandOverFailed("the disk of the state directory does not answer")

    async def _hand_over(self, store: DescriptorStore, leave: Callable[[int], object]) -> None:
        if not self._started.is_set() or self._stop.is_set() or self._routing.ending:
            raise HandOverFailed("bgpd is starting or stopping")
        was_restarting = self._is_restarting
        async with self._no_change():
            self._check(was_restarting)
            systemd.extend_timeout(LEAVE_S)
            log.info("handover.begins")
            await self.look_at_disk()
            prepared = await self._routing.prepare_to_leave()
            systemd.extend_timeout(LEAVE_S)
            began = time.monotonic()
            self._routing.speaker.hold(True)
            try:
                await self._routing.settle(SETTLE_S)
                await self._exports.settle(SETTLE_S)
                await self._look_at_threads()
                with KeptSignals() as kept:
                    for _ in range(_TURNS):
                        await asyncio.sleep(0)
                    self._check(was_restarting)
                    self._leave_behind(store, leave, began, prepared, kept)
            except (StoreUnusable, OSError, UnicodeEncodeError) as error:  # the name of an interface may be no UTF-8
                raise HandOverFailed(reason_of(error)) from error
            except MemoryError as error:
                raise HandOverFailed("there is no memory for the snapshot") from error
            finally:
                prepared.end()
                self._routing.speaker.hold(False)

    @contextlib.asynccontextmanager
    async def _no_change(self) -> AsyncIterator[None]:
        """Meanwhile the configuration does not change. Raises: HandOverFailed: a change of it does not end."""
        changing = self._configuration.changing
        try:
            async with asyncio.timeout(CHANGE_S):
                await changing.acquire()
        except TimeoutError:
            raise HandOverFailed("a change of the configuration does not end: can its files be read?") from None
        try:
            yield
        finally:
            changing.release()

    async def _look_at_threads(self) -> None:
        """Raises: HandOverFailed: one waits for a disk, which may be another one than that of the state directory."""
        try:
            async with asyncio.timeout(DISK_S):
                await threads_are_free()
        except TimeoutError:
            raise HandOverFailed("a disk that bgpd writes to does not answer") from None

    def _check(self, was_restarting: bool) -> None:
        """Raises: HandOverFailed: a signal has said otherwise meanwhile."""
        if self._stop.is_set():
            raise HandOverFailed("bgpd is stopping")
        if self._is_restarting and not was_restarting:
            raise HandOverFailed("bgpd is being restarted")

    def _leave_behind(
        self,
        store: DescriptorStore,
        leave: Callable[[int], object],
        began: float,
        prepared: PreparedRib,
        kept: KeptSignals,
    ) -> None:
        """From here on the loop does not turn until the process has ended."""
        configuration = self._configuration.left()
        left = left_behind(self._routing, self._drain, prepared, configuration=configuration, unread_since=began)
        written = left.write()
        try:
            store.keep(written)
            sessions, seconds = len(left.speaker.sessions), round(time.monotonic() - began, 3)
            log.info("handover.left", sessions=sessions, seconds=seconds, prepared=bool(left.base))
            self._journal.close()
            self._history.close(is_handed_over=True)
            try:
                leave(kept.descriptor)
            finally:
                self._history.goes_on()
        finally:
            os.ftruncate(written[SNAPSHOT], 0)  # this process goes on after all: nobody may take it for new
            os.close(written[SNAPSHOT])


def left_behind(
    routing: Routing, drain: Drain, prepared: PreparedRib, *, configuration: bytes, unread_since: float
) -> Left:
    """All that the next process takes up. Sessions are held: nothing was read of them `unread_since` (monotonic).

    Raises: OSError, UnicodeEncodeError: something cannot be left.
    """
    speaker, descriptors = routing.speaker.saved()
    rib, base = prepared.rest()
    return Left(
        daemon=saved_daemon(
            converged=routing.converged,
            protocols=routing.monitor.foreign_protocols(),
            unread_since=unread_since,
        ),
        speaker=speaker,
        rib=rib,
        base=base,
        kernel=routing.tables.saved(prepared.columns(rib)),
        feeds=routing.workloads.saved(is_complete=routing.synchronised),
        moves=routing.evpn.endpoints.saved_moves(),
        gateways=routing.evpn.gateways(),
        drain=drain.left(),
        configuration=configuration,
        descriptors=descriptors,
    )
