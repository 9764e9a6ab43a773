"""`bgpd upgrade`: this process becomes the bgpd that is installed now, and neighbors do not notice.

First a process of its own sees whether the installed version can start: it imports all and reads the configuration
file. Where it cannot, or the sessions cannot be handed over, this process goes on as if nothing had been, and says why.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bgpd.api.backend import Rejected
from bgpd.handover.store import DescriptorStore, ExecStore, HandOverFailed
from bgpd.model.views.orders import UpgradeView
from bgpd.runtime.events import log
from bgpd.runtime.form import described_version
from bgpd.runtime.programs import end_children, output_of

CHECK_S = 20.0
"""How long the installed version may take to import all and to read the configuration."""
ALSO_CHECK = "--check"
"""The option of `bgpd run` that ends where it would begin to run."""
_GOES_ON = "nothing has changed: this one goes on"
_SAID = 600
"""Characters of what a version that cannot start says; the end of a traceback is what tells."""


class Upgrade:
    """The API's Upgrade. `hand_over` and `look_at_disk` are those of leaving.py; `spawn` makes a task of the first."""

    def __init__(
        self,
        hand_over: Callable[[DescriptorStore, Callable[[int], object]], Awaitable[None]],
        *,
        look_at_disk: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        started: Callable[[], bool],
    ) -> None:
        self._hand_over = hand_over
        self._look_at_disk = look_at_disk
        self._spawn = spawn
        self._has_started = started
        self._is_busy = False
        self._version = described_version()
        self._born = time.time()
        self._installed = ""
        self._failed = ""

    def view(self) -> UpgradeView:
        return UpgradeView(
            version=self._version,
            installed=self._installed,
            pid=os.getpid(),
            born=self._born,
            running=self._has_started(),
            failed=self._failed,
        )

    async def check(self, *, who: str) -> UpgradeView:
        """Raises: Rejected: the installed version could not start, or this process could not leave."""
        if self._is_busy:
            raise Rejected(409, "an upgrade is under way", "it takes seconds: bgpd show events")
        self._is_busy = True
        try:
            problem = await self._try_installed()
            log.info("upgrade.checked", installed=self._installed, problem=problem, who=who)
            if problem:
                raise Rejected(409, f"the installed bgpd cannot start: {problem}", _GOES_ON)
            await self._look_at_disk()
        except HandOverFailed as error:
            raise Rejected(409, f"this bgpd cannot hand over: {error}", _GOES_ON) from None
        finally:
            self._is_busy = False
        return self.view()

    def begin(self) -> None:
        """After `check`: hand over to the installed version."""
        if not self._is_busy:
            self._is_busy, self._failed = True, ""
            self._spawn(self._become())

    async def _become(self) -> None:
        store = ExecStore()

        def leave(signals: int) -> None:
            end_children()
            store.become([sys.executable, *sys.orig_argv[1:]], signals=signals)

        try:
            await self._hand_over(store, leave)
        except HandOverFailed as error:
            self._failed = str(error)
            log.warning("upgrade.failed", reason=self._failed)
        finally:
            self._is_busy = False

    async def _try_installed(self) -> str:
        """Why the installed version cannot start; "" if it can."""
        self._installed = ""
        try:
            code, said = await output_of([sys.executable, *sys.orig_argv[1:], ALSO_CHECK], timeout_s=CHECK_S)
        except OSError as error:
            return f"{sys.executable}: {error.strerror}"
        except TimeoutError:
            return f"it did not say within {CHECK_S:.0f} s whether it can"
        said = said.strip()
        if code:
            return said[-_SAID:] or f"it ended with exit code {code}"
        self._installed = said.rpartition("\n")[2]
        return ""
