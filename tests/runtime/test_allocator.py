"""Freed memory goes back to the system, in a process of its own since the settings are for good."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

CODE = """
import threading
from pathlib import Path
from bgpd.runtime.memory import keep_little_memory, return_free_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

keep_little_memory()
before = resident_mb()
def burst():
    for size in (1_000, 50_000, 150_000, 1_000_000, 20_000_000):
        blocks = [bytearray(size) for _ in range(40_000_000 // size)]
        blocks[-1][:] = b"x" * size
threads = [threading.Thread(target=burst) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
return_free_memory()
print(resident_mb() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_little_is_left_of_a_burst() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5
