"""The end of the process: Python waits for all threads before it ends, and one may hang with a disk for ever."""

from __future__ import annotations

import os
import threading
import time

from bgpd.runtime.events import log

PATIENCE_S = 5.0
"""How long threads have to end by themselves."""


def bound_the_end(exit_code: int, *, patience_s: float = PATIENCE_S) -> None:
    """The process is about to end: it does so within this time, whatever its threads wait for."""
    threading.Thread(target=_end, args=(exit_code, patience_s), name="ending", daemon=True).start()


def _end(exit_code: int, patience_s: float) -> None:
    time.sleep(patience_s)
    hanging = sorted(one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread())
    if hanging:
        log.error("bgpd.disk_hangs", threads=", ".join(hanging), instead="ended without waiting for them")
    os._exit(exit_code)
