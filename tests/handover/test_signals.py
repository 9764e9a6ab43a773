"""A signal that comes while a process becomes another program is not lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from bgpd.handover.signals import KeptSignals

BECOME = """
import asyncio, os, signal, sys, threading, time
from bgpd.handover import store
from bgpd.handover.signals import KeptSignals

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # may run the handler while main blocks it
    one = store.ExecStore()
    with KeptSignals() as kept:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        os.kill(os.getpid(), signal.SIGHUP)
        one.become([sys.executable, "-c", sys.argv[1]], signals=kept.descriptor)

signal.signal(signal.SIGHUP, lambda *_: None)
asyncio.run(main())
"""
NEXT = """
import signal
from bgpd.handover import store
print(store.inherited(), sorted(one.name for one in signal.sigpending()))
"""


def test_next_program_has_the_signals_of_the_one_that_it_was() -> None:
    command = [sys.executable, "-c", BECOME, NEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "{} ['SIGHUP', 'SIGTERM']\n"


async def test_process_that_goes_on_hears_them_afterwards() -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        with KeptSignals():
            signal.raise_signal(signal.SIGTERM)
            for _ in range(8):
                await asyncio.sleep(0)
            assert not heard.is_set()
        await heard.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
