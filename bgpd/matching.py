"""Which neighbors the patterns of the configuration make on this host, as its interfaces come and go.

The daemon is given the configuration with them made out, as if the file had named them: an interface that comes or goes
is a reload that adds or removes its neighbor, and touches no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from bgpd.config.patterns import Matched, has_patterns, is_pattern, match_neighbors, matches
from bgpd.config.schema import Config
from bgpd.kernel.interfaces import read_interfaces
from bgpd.runtime.events import log

_PAUSE_S = 0.05
"""Between two looks: a host whose workloads come by the hundred has more to do."""


class Matching:
    """`interfaces` says what interfaces there are, and the VRF of each. `problems` are of the last look."""

    def __init__(self) -> None:
        self.interfaces: Callable[[], Mapping[str, str]] = read_interfaces
        self.problems: list[str] = []
        self._config: Config | None = None
        self._changed = asyncio.Event()
        self._changed.set()

    def made_out(self, config: Config) -> Matched:
        """The configuration with the neighbors that its patterns make now."""
        if not has_patterns(config):
            return Matched(config, [])
        try:
            interfaces = self.interfaces()
        except OSError as error:
            log.warning("neighbor.interfaces_not_read", error=str(error))
            interfaces = {}
        return match_neighbors(config, interfaces)

    def taken(self, config: Config, matched: Matched) -> None:
        """This is in force from now on, as it was made out; says what is wrong with it.

        Another one may have patterns of which nothing was known as interfaces came or went meanwhile.
        """
        if config is not self._config and has_patterns(config):
            self._changed.set()
        self._config = config
        for problem in matched.problems:
            if problem not in self.problems:
                log.error("neighbor.pattern", problem=problem)
        self.problems = matched.problems

    def link_changed(self, name: str) -> None:
        """An interface came, went, or changed its VRF."""
        neighbors = self._config.neighbor if self._config is not None else ()
        if any(is_pattern(one) and matches(one, name) for one in neighbors):
            self._changed.set()

    async def run(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Call `follow` whenever there may be other neighbors than before, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await follow()
            await asyncio.sleep(_PAUSE_S)
