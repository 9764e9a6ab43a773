"""Takes this host out of service and back: `bgpd drain` (docs/decisions/0022).

Announces everything with GRACEFUL_SHUTDOWN first (RFC 8326). Once the fabric has had `drain.settle_s` to choose other
paths, services are withdrawn, and with `all` everything, after as long again. The host is drained when the kernel's
counters say that the traffic has gone; until then it says what is waited for. Sessions stay up. What was ordered
outlives a restart. Decides the stages; what each of them sends is rib/drained.py's, what is counted drain_traffic.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from bgpd.api.backend import Rejected
from bgpd.config.patterns import is_pattern
from bgpd.config.schema import Config
from bgpd.drain_traffic import Counter, Traffic, Watched, place_text, read_counters, watch_services, watch_uplinks
from bgpd.model.clocks import Monotonic, WallClock
from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.prefix import VrfKey, is_key
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.views.orders import DrainRequest, DrainView
from bgpd.routing import Routing
from bgpd.runtime.boot import boot_id
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of, replace_file

LOOK_S = 1.0
QUIET_LOOKS = 3
"""So often in a row the counters must say that the traffic has gone."""
LOOK_WHEN_DRAINED_S = 30.0
"""At most; the wall clock, which says when the drain ends, can be set."""
TRAFFIC_PATIENCE_S = 30.0
"""Traffic that remains for longer is worth a line in the log."""
SENDING_PATIENCE_S = 30.0
"""A neighbor that takes its routes no faster is not waited for."""
LOOKING_S, MOST_LOOKING_S = 0.2, 30.0
"""An order looks so often, and as long as the fabric has to settle, at most so long, for other hosts with a service."""
_AT_ONCE = 256
"""Services that are looked at before the loop goes on."""
_SHOWN = 5
_STAGES = {
    DrainStage.OFF: "off",
    DrainStage.LOWERED: "graceful-shutdown",
    DrainStage.SERVICES: "services-withdrawn",
    DrainStage.ALL: "all-withdrawn",
}


class Order(msgspec.Struct, frozen=True):
    """What was ordered. `boot_id`: it was ordered because the host goes down, and ends with that boot; `before`, which
    is none of this kind, holds again then.
    """

    since: WallClock
    until: WallClock | None = None
    all: bool = False
    force: bool = False
    boot_id: str = ""
    before: Order | None = None


def _lasting(order: Order | None) -> Order | None:
    """What holds after the host's next start: a host may be told several times that it goes down."""
    while order is not None and order.boot_id:
        order = order.before
    return order


class Saved(msgspec.Struct, frozen=True):
    """The file `drain.json`."""

    order: Order | None
    stage: DrainStage = DrainStage.OFF
    drained_at: WallClock | None = None
    kept: tuple[tuple[str, Family, bytes], ...] = ()

    def __post_init__(self) -> None:
        for _vrf, family, key in self.kept:
            if not is_key(family, key):
                raise ValueError(f"{key.hex()} is no {family} prefix")


class LeftDrain(msgspec.Struct, frozen=True):
    """What one process leaves to the next: what the file should say, when the stage began (monotonic, seconds), why the
    file does not say it, "" if it does, and why it could not be read."""

    saved: Saved
    stage_at: Monotonic
    not_saved: str
    not_read: str = ""


class Drain:
    """The order in force, and how far it is carried out. `changed()` is called when `reason` may have.

    `now()` is the wall clock, `clock()` one that only goes forward, `read` reads counters (in a thread).
    """

    def __init__(
        self,
        routing: Routing,
        *,
        config: Callable[[], Config],
        changed: Callable[[], None],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        read: Callable[[list[Counter], Mapping[str, int]], Mapping[Counter, int]] = read_counters,
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        self._routing = routing
        self._config = config
        self._changed = changed
        self._now = now
        self._clock = clock
        self._read = read
        self._boot_id = boot_id
        self._order: Order | None = None
        self._stage = DrainStage.OFF
        self._stage_at = clock()
        self._drained_at: float | None = None
        self._kept: AbstractSet[VrfKey] = frozenset()
        self._traffic = Traffic()
        self._quiet_looks = 0
        self._is_traffic_logged = False
        self._waiting_for: list[str] = []
        self._not_counted: list[str] = []
        self._not_saved = self._not_read = ""
        self._unanswered: Saved | None = None
        self._wake = asyncio.Event()
        self._changing = asyncio.Lock()

    @property
    def _path(self) -> Path:
        return Path(self._config().state.directory) / "drain.json"

    # Orders

    def left(self) -> bytes:
        """What `restore` of the next process takes."""
        return msgspec.msgpack.encode(LeftDrain(self._to_save(), self._stage_at, self._not_saved, self._not_read))

    def restore(self, packed: bytes = b"") -> None:
        """Go on where the last run was, before a neighbor is sent anything: by what it has left, else by the file."""
        left = None
        with contextlib.suppress(*UNREADABLE):  # there is none, or it is of another form
            left = msgspec.msgpack.decode(packed, type=LeftDrain)
        saved = left.saved if left is not None else self._read_file()
        if saved is not None:
            self._go_on(saved)
        if left is not None:
            self._not_saved, self._not_read = left.not_saved, left.not_read
            if self._stage is left.saved.stage:
                self._stage_at = left.stage_at

    def _read_file(self) -> Saved | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Saved)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._not_read = f"{self._path} cannot be read: {reason_of(error)}"
            log.error("drain.state_unreadable", path=str(self._path), error=reason_of(error))
        except UNREADABLE as error:
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name("drain.json.damaged"))
            self._not_read = f"{self._path} was damaged, and is kept as drain.json.damaged"
            log.error("drain.state_unreadable", path=str(self._path), error=str(error), kept_as="drain.json.damaged")
        return None

    def warnings(self) -> list[str]:
        """That this host may have been out of service, and is in service now."""
        if not self._not_read:
            return []
        return [f"{self._not_read}: a drain of before is not in force; bgpd drain on or off, as it should be"]

    def _go_on(self, saved: Saved) -> None:
        order, stage, drained_at = saved.order, saved.stage, saved.drained_at
        while order is not None and order.boot_id and order.boot_id != self._boot_id():
            log.info("drain.ended", reason="the host was started anew")
            order, drained_at = order.before, None
        if order is not None and order.until is not None and order.until <= self._now():
            log.info("drain.ended", reason="its time was over while bgpd did not run")
            order = None
        if order is not None:
            self._order, self._drained_at = order, drained_at
            stage = min(max(stage, DrainStage.LOWERED), self._target(order))
            self._set_stage(stage, frozenset(saved.kept))
            log.warning("drain.restored", since=order.since, until=order.until, stage=_STAGES[self._stage])

    async def on(self, request: DrainRequest, *, who: str) -> DrainView:
        """Take the host out of service; of one that is out of it already, change until when, and how far.

        Raises: Rejected: this host is the last that announces a service.
        """
        async with self._changing:
            if request.shutdown and not self._config().drain.on_shutdown:
                return self.view()
            force = request.force or request.shutdown
            before, now = self._order, self._now()
            held = self._to_save()
            order = Order(
                since=before.since if before is not None else now,
                until=now + request.for_s if request.for_s is not None else None,
                all=request.all or request.shutdown or (before is not None and before.all),
                force=force or (before is not None and before.force),
                boot_id=self._boot_id() if request.shutdown else "",
                before=_lasting(before) if request.shutdown else None,
            )
            log.warning("drain.ordered", until=order.until, all=order.all, force=order.force, who=who)
            self._order = order
            if self._stage < self._target(order):
                self._drained_at = None
            self._set_stage(max(self._stage, DrainStage.LOWERED), frozenset() if order.force else self._kept)
            if not order.force and self._stage is DrainStage.LOWERED:
                self._unanswered = held
                try:
                    await self._refuse_if_last(before)
                finally:
                    self._unanswered = None
            self._not_read = ""
            await self._save()
            self._wake.set()
            return self.view()

    async def off(self, *, who: str) -> DrainView:
        """Bring the host back: all is announced as before."""
        async with self._changing:
            if self._order is not None:
                await self._end(f"ordered by {who}")
            elif self._not_read:
                await self._save()
            self._not_read = ""
            return self.view()

    async def _end(self, reason: str) -> None:
        order, self._order = self._order, None
        self._drained_at, self._waiting_for = None, []
        self._set_stage(DrainStage.OFF, frozenset())
        log.warning("drain.ended", reason=reason, since=order.since if order is not None else None)
        await self._save()

    async def _refuse_if_last(self, before: Order | None) -> None:
        """Look for other hosts with this one's services. A leaf whose best path led here has shown no other: it does so
        once it has heard GRACEFUL_SHUTDOWN.

        Raises: Rejected: there are none; what was ordered `before` is in force again.
        """
        end = self._clock() + min(self._config().drain.settle_s, MOST_LOOKING_S)
        while True:
            last = await self.last_services()
            if not last:
                return
            if not self._routing.sources or self._clock() >= end:
                break
            await asyncio.sleep(LOOKING_S)
        self._order = before
        if before is None:
            await self._end("refused: a service would be gone")
        names = sorted(map(place_text, last))
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise Rejected(
            409,
            f"no other host is seen to announce {shown}: the service would be gone",
            "what neighbors announce counts, rejected or not, but for stale routes and those with graceful-shutdown or "
            "this host's own AS: bgpd show routes PREFIX; --force drains all the same",
        )

    def _to_save(self) -> Saved:
        """What holds: until an order has been answered, what held before it."""
        if self._unanswered is not None:
            return self._unanswered
        return Saved(self._order, self._stage, self._drained_at, tuple(self._kept))

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(replace_file, self._path, msgspec.json.encode(self._to_save()))
            self._not_saved = ""
        except OSError as error:
            self._not_saved = f"{self._path}: {reason_of(error)}"
            log.error("drain.not_saved", path=str(self._path), error=reason_of(error))

    # Stages

    @staticmethod
    def _target(order: Order) -> DrainStage:
        return DrainStage.ALL if order.all else DrainStage.SERVICES

    def _set_stage(self, stage: DrainStage, kept: AbstractSet[VrfKey]) -> None:
        if stage is not self._stage:
            log.info("drain.stage", stage=_STAGES[stage])
            self._stage, self._stage_at, self._quiet_looks = stage, self._clock(), 0
            self._traffic.forget()
            self._is_traffic_logged = False
        for place in kept ^ self._kept:
            event = "drain.service_kept" if place in kept else "drain.service_released"
            log.warning(event, service=place_text(place))
        self._kept = kept
        self._routing.rib.dissemination.drain(stage, kept)
        self._changed()

    async def run(self) -> None:
        """Carry out what is ordered, until cancelled."""
        if self._not_saved:
            async with self._changing:
                await self._save()
        while True:
            if self._order is None:
                await self._wake.wait()
            self._wake.clear()
            async with self._changing:
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    def _pause_s(self) -> float:
        until = self._order.until if self._order is not None else None
        if self._order is None or self._drained_at is None:
            return LOOK_S
        left = LOOK_WHEN_DRAINED_S if until is None else until - self._now()
        return min(max(left, 0.0), LOOK_WHEN_DRAINED_S)

    async def look(self) -> None:
        """One look at what is due."""
        order = self._order
        if order is None:
            return
        if order.until is not None and order.until <= self._now():
            await self._end("its time is over (--for)")
            return
        if self._drained_at is not None:
            return
        self._waiting_for = self._why_not_settled()
        if self._stage is DrainStage.SERVICES and self._is_heard:
            await self._keep_last(order, self._stage)
        if self._stage is self._target(order):
            await self._look_at_traffic()
        elif not self._waiting_for and not self._kept:
            await self._advance(order)
        if self._kept:
            names = ", ".join(sorted(map(place_text, self._kept))[:_SHOWN])
            self._waiting_for.append(f"no other host is seen to announce {names}: it stays announced")
        if self._stage is self._target(order) and not self._waiting_for:
            self._drained_at = self._now()
            log.warning("drain.done", since=order.since, until=order.until, stage=_STAGES[self._stage])
            await self._save()
            self._changed()

    async def _advance(self, order: Order) -> None:
        await self._keep_last(order, DrainStage(self._stage + 1))
        self._waiting_for = self._why_not_settled() or ["the counters to be read"]
        await self._save()

    async def _keep_last(self, order: Order, stage: DrainStage) -> None:
        """Begin or go on with a stage; services that no other host announces stay until one does.

        Once all is withdrawn none stays. While no neighbor is established, no other host is seen to announce one.
        """
        last: AbstractSet[VrfKey] = frozenset()
        if not order.force and stage is DrainStage.SERVICES:
            last = await self.last_services()
        if (stage, last) != (self._stage, self._kept):
            self._set_stage(stage, last)

    async def last_services(self) -> AbstractSet[VrfKey]:
        """The services that no other host is seen to announce."""
        config, drained = self._config(), self._routing.rib.drained
        asns = {config.router.asn, *(one.local_asn for one in (*config.neighbor, *config.listen) if one.local_asn)}
        packed = [asn.to_bytes(4, "big") for asn in asns]
        last = set()
        for number, place in enumerate(list(drained.services()), 1):
            if drained.is_last(place, packed):
                last.add(place)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return frozenset(last)

    @property
    def _is_heard(self) -> bool:
        """Whether all sessions have sent their tables: what is missing in them is announced by nobody."""
        speaker = self._routing.speaker
        waiting = any(speaker.sends_end_of_rib(source) for source, _ in speaker.awaiting_end_of_rib())
        return bool(self._routing.sources) and self._routing.converged and not waiting

    def _why_not_settled(self) -> list[str]:
        """What the stage waits for: neighbors, and the time that the fabric has."""
        age_s = self._clock() - self._stage_at
        settle_s = self._config().drain.settle_s
        if self._routing.sources and not self._routing.converged:
            return ["the host has not converged since its start"]
        exports = self._routing.rib.dissemination.all()
        late = sorted({export.source.name for export in exports if not export.is_settled})
        if late and age_s < settle_s + SENDING_PATIENCE_S:
            return [f"neighbor {late[0]} is being sent its routes"]
        order = self._order
        if age_s < settle_s and order is not None and self._stage < self._target(order):
            return [f"the fabric has {settle_s - age_s:.0f} s more to choose other paths"]
        return []

    async def _look_at_traffic(self) -> None:
        watched = Watched()
        if self._stage is DrainStage.ALL:
            watch_uplinks(self._uplinks(), watched)
        else:
            services = [place for place in self._routing.rib.drained.services() if place not in self._kept]
            for start in range(0, len(services), _AT_ONCE):
                watch_services(self._routing, services[start : start + _AT_ONCE], watched)
                await asyncio.sleep(0)
        links = {link.name: link.index for link in self._routing.host.links.values()}
        try:
            read = await asyncio.to_thread(self._read, list(watched.counters), links)
        except OSError as error:
            self._waiting_for.append(f"the kernel's counters cannot be read: {reason_of(error)}")
            return
        quiet = self._config().drain.quiet_packets_per_s
        self._not_counted = watched.not_counted
        self._traffic.take(watched, read, now=self._clock(), quiet_packets_per_s=quiet)
        self._quiet_looks = self._quiet_looks + 1 if self._traffic.is_quiet else 0
        if self._quiet_looks < QUIET_LOOKS:
            flows = self._traffic.still_flows()
            self._waiting_for += flows or ["the counters to be read again"]
            if flows and not self._is_traffic_logged and self._clock() - self._stage_at > TRAFFIC_PATIENCE_S:
                self._is_traffic_logged = True
                log.warning("drain.traffic_remains", stage=_STAGES[self._stage], flows="; ".join(flows))

    def _uplinks(self) -> dict[str, float]:
        """The interfaces to configured neighbors and leaves of VRFs, with the packets of BFD a second on each."""
        config = self._config()
        found = {name: 0.0 for vrf in config.vrf for name in vrf.uplinks}
        for neighbor in config.neighbor:
            source = self._routing.sources.get(neighbor.name)
            interface = neighbor.interface or (source.interface if source is not None else "")
            if interface and not is_pattern(neighbor):
                bfd = 1000 / neighbor.bfd.interval_ms if neighbor.bfd is not None else 0.0
                found[interface] = found.get(interface, 0.0) + bfd
        return found

    # What others see

    def reason(self) -> str:
        """That and since when this host is drained, and until when; "" if it is not."""
        order = self._order
        if order is None:
            return ""
        words = "is drained" if self._drained_at is not None else "is being drained"
        until = f" until {_utc(order.until)}" if order.until is not None else ""
        return f"this host {words} since {_utc(order.since)}{until} (bgpd drain status)"

    def view(self) -> DrainView:
        """`bgpd drain status`."""
        order = self._order
        if order is None:
            return DrainView(not_saved=self._not_saved)
        return DrainView(
            state="draining" if self._drained_at is None else "drained",
            stage=_STAGES[self._stage],
            since=order.since,
            until=order.until,
            drained_at=self._drained_at,
            all=order.all,
            force=order.force,
            shutdown=bool(order.boot_id),
            waiting_for=list(self._waiting_for),
            still_flows=self._traffic.still_flows(),
            counters=self._traffic.views,
            not_counted=self._not_counted,
            kept=sorted(map(place_text, self._kept)),
            not_saved=self._not_saved,
        )


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
