"""Tasks that nobody waits for: one that fails is reported at once, like a callback that raises.

asyncio does not report a failed task as long as something refers to it. The daemon's handler of such reports ends the
process with the reason (daemon.py), since the state that the task maintained would be wrong from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


def start_in_background(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    """A task of the running loop. `name` says in the report what it was for."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        context = {"message": f"{task.get_name()} failed", "exception": error}
        task.get_loop().call_exception_handler(context)
