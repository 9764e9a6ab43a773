"""Waiting for conditions: long enough that a busy machine fails no test, and no longer than it takes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

from labs.process import wait_until

PATIENCE_S = 30.0


async def until(condition: Callable[[], object], shown: Callable[[], object] = lambda: "") -> None:
    """Until `condition()` is true, while the loop works on.

    Raises: AssertionError: not within `PATIENCE_S`; it has what `shown()` says.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {shown()}") from None


def wait_for_links() -> None:
    """Until all links of the namespace are up: the kernel tells a veth's carrier a moment after its peer came up."""

    def are_up() -> bool:
        shown = subprocess.run(["ip", "-br", "link", "show"], check=True, capture_output=True, text=True).stdout
        return all(line.split()[1] == "UP" for line in shown.splitlines() if not line.startswith("lo "))

    wait_until(are_up, PATIENCE_S, "all links to be up", interval_s=0.01)
