"""The collector's policy: cycles go, large tables are left alone. Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from bgpd.runtime.memory import TABLE, GarbagePolicy


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def policy() -> Iterator[GarbagePolicy]:
    policy = GarbagePolicy()
    policy.start()
    yield policy
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_unasked(policy: GarbagePolicy) -> None:
    gone = weakref.ref(Cycle())
    objects = [[] for _ in range(5_000)]
    assert gone() is not None
    del objects
    policy.collect_young()
    assert gone() is None


def test_what_outlives_passes_and_ends_as_a_cycle_is_collected(policy: GarbagePolicy) -> None:
    connection = Cycle()
    gone = weakref.ref(connection)
    for _ in range(3):
        policy.collect_young()
    del connection
    policy.collect_young()
    assert gone() is None


def test_large_table_is_set_aside(policy: GarbagePolicy) -> None:
    before = gc.get_freeze_count()
    table = [[] for _ in range(TABLE + 100)]
    policy.collect_young()
    assert gc.get_freeze_count() > before + TABLE
    assert gc.get_count()[0] < TABLE
    gone = weakref.ref(Cycle())
    policy.collect_young()
    assert gone() is None
    assert len(table) == TABLE + 100


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
