"""The configuration in force, and how another one takes its place: by a reload, on trial, or since other interfaces
match its patterns.

One change at a time; with an error in the file nothing changes. What a change costs is config/effects.py's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec

from bgpd.api.backend import Rejected
from bgpd.config.effects import Effect, config_diff, keep_until_restart
from bgpd.config.left import pack
from bgpd.config.limits import exceeded_limits
from bgpd.config.load import ConfigError, Loaded, load_config
from bgpd.config.patterns import Matched
from bgpd.config.schema import Config
from bgpd.export.exports import Exports
from bgpd.identity import OwnIdentity
from bgpd.kernel.facts import facts_of_host
from bgpd.log import EventRing, set_up_logging
from bgpd.matching import Matching
from bgpd.model.views.orders import ConfigChangeView, ReloadView
from bgpd.model.views.sessions import NeighborView
from bgpd.readiness import Readiness, configuration_view
from bgpd.reconfigure import reconfigure
from bgpd.rib.policy_match import PolicyError
from bgpd.routing import Routing
from bgpd.runtime.events import log
from bgpd.runtime.files import reason_of
from bgpd.trial import Trial

TRIAL_LOOK_S = 5.0
"""A trial is looked at so often: the loop's clock stands still while the host sleeps, a trial does not."""


class Configuration:
    """`config` is what the files say, but for what counts from a start only. `in_force` is what the parts have of it:
    with the neighbors that its patterns make, and the routes' protocol, which is another one while a former default is
    kept.

    `changing` is held while it changes. What it changes is given by `connect`.
    """

    def __init__(self, loaded: Loaded, file: str, *, protocol: int, trial: Trial, events: EventRing) -> None:
        self.config = loaded.config
        self.file = file
        self.trial = trial
        self.changing = asyncio.Lock()
        self.matching = Matching()
        self.identity = OwnIdentity(loaded.config.state.directory, loaded.identity)
        self._loaded = loaded
        self._protocol = protocol
        self._events = events
        self._trial_ends: asyncio.TimerHandle | None = None
        matched = self.matching.made_out(self._with_protocol(loaded.config))
        self.in_force = matched.config
        self.matching.taken(loaded.config, matched)

    @property
    def rules(self) -> Mapping[tuple[str, int], str]:
        """File and line of the rules of the policies in force, by name and number."""
        return self._loaded.rules

    def left(self) -> bytes:
        """What the next process goes on with if the files have errors by then (config/left.py)."""
        return pack(self._loaded)

    def warnings(self) -> list[str]:
        """That it is not what the files say, if they have errors."""
        if not self._loaded.errors:
            return []
        what = f"{self.file} has errors since before bgpd was restarted, and the configuration of before is in force"
        return [f"{what}: mend it, then bgpd reload; {self._loaded.errors[0].partition(chr(10))[0]}"]

    def connect(
        self,
        *,
        routing: Routing,
        readiness: Readiness,
        neighbors: Callable[[], list[NeighborView]],
        exports: Exports,
        spawn: Callable[[Coroutine[Any, Any, object]], None],
    ) -> None:
        """`spawn` runs what nobody waits for; a defect in it ends the process."""
        self._routing = routing
        self._readiness = readiness
        self._neighbors = neighbors
        self._exports = exports
        self._spawn = spawn
        readiness.neighbors = self.in_force.neighbor
        readiness.configuration = configuration_view(self._loaded, at=time.time())

    def follow_links(self) -> None:
        """The kernel's links are known: patterns go by them from now on."""
        self.matching.interfaces = self._routing.host.vrf_by_interface
        self._routing.link_changed = self.matching.link_changed

    def started(self) -> None:
        """All parts run: what is on trial may be taken back."""
        self._watch_trial()

    async def run(self) -> None:
        """Follow the interfaces that patterns match, until cancelled."""
        await self.matching.run(self._match_again)

    def would_be(self, config: Config) -> tuple[Config, list[ConfigChangeView]]:
        """Another configuration as it would be in force after a reload, and what would change."""
        made_out = self.matching.made_out
        changes = config_diff(made_out(self.config).config, made_out(config).config)
        return made_out(self._with_protocol(keep_until_restart(self.config, config))).config, changes

    async def reload(self, confirm_s: float | None = None) -> ReloadView:
        """Read the files again and apply what changed.

        With `confirm_s` it goes back to what is in force now unless `confirm` is called within that time.
        """
        async with self.changing:
            view = await self._apply_file(confirm_s)
        for problem in view.problems:
            log.error("reload.problem", problem=problem)
        for warning in view.warnings:
            log.warning("config.warning", warning=warning)
        effects = [change.effect for change in view.changes]
        log.info("reload.done", applied=not view.problems, **{str(effect): effects.count(effect) for effect in Effect})
        self._readiness.plan_review()
        return view

    async def confirm(self) -> bool:
        """Keep the configuration that is on trial; whether one was. Raises: Rejected: that cannot be saved."""
        async with self.changing:
            try:
                was_tried = await asyncio.to_thread(self.trial.confirm)
            except OSError as error:
                right = "after a restart it would go back: make room, and confirm again"
                raise Rejected(503, f"that it is confirmed cannot be saved: {reason_of(error)}", right) from error
            self._watch_trial()
        if was_tried:
            log.info("trial.confirmed", file=self.file)
        return was_tried

    def _watch_trial(self) -> None:
        """Be told when the trial is over, if there is one."""
        if self._trial_ends is not None:
            self._trial_ends.cancel()
            self._trial_ends = None
        if (left_s := self.trial.left_s) is not None:
            loop = asyncio.get_running_loop()
            self._trial_ends = loop.call_later(min(left_s, TRIAL_LOOK_S), lambda: self._spawn(self._go_back()))

    async def _go_back(self) -> None:
        """Nobody has confirmed what was tried."""
        async with self.changing:
            if self.trial.left_s is None:
                return
            if self.trial.left_s > 0:
                self._watch_trial()
                return
            former = await asyncio.to_thread(self.trial.go_back, self._loaded)
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
            loaded = await asyncio.to_thread(self._read)
        except ConfigError as error:
            return ReloadView(file=self.file, problems=[str(problem) for problem in error.problems])
        except Exception as error:  # a defect of ours, before anything has changed: it costs the reload, not the daemon
            log.error("reload.defect", file=self.file, error=repr(error), exc_info=error)
            return ReloadView(file=self.file, problems=[f"{self.file}: bgpd failed to read it: {error!r}"])
        is_trial = confirm_s is not None or self.trial.until is not None
        if is_trial and loaded.config.state.directory != self.config.state.directory:
            what = "state.directory cannot be another one on trial: a start would not find the trial there"
            return ReloadView(file=self.file, problems=[f"{what}; change it without --confirm, and restart bgpd"])
        before = self.trial.now
        try:
            await asyncio.to_thread(self._try, loaded.config, confirm_s)
        except OSError as error:
            return ReloadView(file=self.file, problems=[f"the trial cannot be saved: {reason_of(error)}"])
        try:
            view = await self._apply(loaded)
            if view.problems:
                await asyncio.to_thread(self.trial.keep, before)
        finally:
            self._watch_trial()
        view.confirm_until = self.trial.until if not view.problems else None
        return view

    def _read(self) -> Loaded:
        """What the files say now; blocks for the disk, for who knows the users and groups, and for a long text.

        Raises: ConfigError.
        """
        known = self.identity.in_force
        return load_config(self.file, running=True, former=self.config, facts=facts_of_host(), identity=known)

    def _try(self, config: Config, confirm_s: float | None) -> None:
        """Save what is about to be on trial; blocks for the disk. Raises: OSError."""
        if confirm_s is None:
            self.trial.follow(config)
        else:
            self.trial.begin(config, self._loaded.config, confirm_s, origin=self._readiness.configuration)

    async def _apply(self, loaded: Loaded) -> ReloadView:
        config, made_out = loaded.config, self.matching.made_out
        changes = config_diff(made_out(self.config).config, made_out(config).config)
        effective = keep_until_restart(self.config, config)
        matched = made_out(self._with_protocol(effective))
        try:
            await reconfigure(self._routing, matched.config)
        except PolicyError as error:
            return ReloadView(file=self.file, problems=[str(error)])
        if effective.log != self.config.log:
            set_up_logging(effective.log, self._events)
        former, self._loaded = self.config, loaded
        self._took(effective, matched)
        if (effective.exports, effective.vrf, effective.router) != (former.exports, former.vrf, former.router):
            self._exports.reconfigure()
        self._readiness.configuration = configuration_view(loaded, at=time.time())
        await asyncio.to_thread(partial(self.identity.take, loaded.identity))
        exceeded = exceeded_limits(self.in_force, self._neighbors())
        return ReloadView(file=self.file, changes=changes, warnings=[*map(str, loaded.warnings), *exceeded])

    def _took(self, config: Config, matched: Matched) -> None:
        """This is in force from now on."""
        self.config, self.in_force = config, matched.config
        self.matching.taken(config, matched)
        self._readiness.neighbors = self.in_force.neighbor

    async def _match_again(self) -> None:
        """Other interfaces match a pattern than before: neighbors come and go as by a reload."""
        async with self.changing:
            matched = self.matching.made_out(self._with_protocol(self.config))
            if matched.config != self.in_force:
                await reconfigure(self._routing, matched.config)
            self._took(self.config, matched)
        self._readiness.plan_review()
