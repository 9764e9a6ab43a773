"""The collector's policy: cycles go, large tables are left alone. Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from bgpd.runtime import memory
from bgpd.runtime.memory import MANY, MANY_CYCLES, TABLE, GarbagePolicy, collect, connection_came, cycle_left


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
    collect()
    assert gone() is None


def test_what_outlives_passes_and_ends_as_a_cycle_is_collected(policy: GarbagePolicy) -> None:
    connection = Cycle()
    gone = weakref.ref(connection)
    for _ in range(3):
        collect()
    del connection
    collect()
    assert gone() is None


def test_large_table_is_set_aside(policy: GarbagePolicy) -> None:
    before = gc.get_freeze_count()
    table = [[] for _ in range(TABLE + 100)]
    collect()
    assert gc.get_freeze_count() > before + TABLE
    assert gc.get_count()[0] < TABLE
    gone = weakref.ref(Cycle())
    collect()
    assert gone() is None
    assert len(table) == TABLE + 100


@pytest.mark.parametrize(("more", "is_gone"), [(0, True), (TABLE + 100, False)])
def test_what_clients_leave_is_collected_unless_a_table_came(policy: GarbagePolicy, more: int, is_gone: bool) -> None:
    """A table that came is set aside: what the next hundred clients leave is collected all the same."""
    gone = weakref.ref(Cycle())
    table = [[] for _ in range(more)]
    for _ in range(MANY):
        connection_came()
    assert (gone() is None) is is_gone
    assert len(table) == more
    gone = weakref.ref(Cycle())
    for _ in range(MANY):
        connection_came()
    assert gone() is None


def test_what_messages_leave_is_collected_however_many_come(policy: GarbagePolicy) -> None:
    """More than a table of them in a minute was set aside, and never collected."""
    frozen = gc.get_freeze_count()
    first = weakref.ref(Cycle())
    for _ in range(2 * TABLE):
        Cycle()
        cycle_left()
    collect()
    assert first() is None
    assert gc.get_freeze_count() == frozen


def test_a_table_that_comes_by_messages_is_set_aside(policy: GarbagePolicy) -> None:
    frozen = gc.get_freeze_count()
    table = []
    for number in range(TABLE + 2 * MANY_CYCLES):
        table.append([number])
        cycle_left()
    collect()
    assert gc.get_freeze_count() >= frozen + len(table)


def test_a_table_that_comes_between_clients_is_looked_at_once(
    policy: GarbagePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hundred clients were a pass over all of it: 600,000 containers, 35 ms."""
    monkeypatch.setattr(memory, "LONG_PASS_S", 0.0)
    table = [[] for _ in range(TABLE // 2)]
    frozen = gc.get_freeze_count()
    collect()
    assert gc.get_freeze_count() >= frozen + len(table)


CODE = """
import ctypes
import sys
import threading
from pathlib import Path
from bgpd.runtime import memory
from bgpd.runtime.memory import keep_little_memory, return_free_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
BURST = 40_000_000

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def burst(peaks):
    kept = []
    for size in (1_000, 50_000, 150_000, 1_000_000, 20_000_000):
        blocks = (ctypes.c_void_p * (BURST // size))()
        for number in range(len(blocks)):
            blocks[number] = libc.malloc(size)
            libc.memset(blocks[number], 1, size)
        peaks.append(resident_mb())
        kept.append(libc.malloc(1_000))  # what stays, somewhere behind all that goes
        for block in blocks:
            libc.free(block)

def bursts():
    peaks = []
    threads = [threading.Thread(target=burst, args=[peaks]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(peaks)

if sys.argv[1] == "settings":
    keep_little_memory()
before = resident_mb()
peak = bursts() - before
if sys.argv[1] == "settings":
    return_free_memory()
print(peak, resident_mb() - before)
"""


def burst(settings: str) -> tuple[float, float]:
    """MB that a process has more at the peak of bursts of three threads, and afterwards."""
    command = [sys.executable, "-c", CODE, settings]
    peak, left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(peak), float(left)


def test_what_only_a_mistake_needs_is_imported_when_there_is_one() -> None:
    code = (
        "import sys, bgpd.__main__, bgpd.api.server, bgpd.daemon\n"
        "from bgpd.message.exabgp_codec import load\n"
        "load()\n"
        "print('difflib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_little_is_left_of_a_burst() -> None:
    """Blocks of the C library alone: an arena of Python's own small objects may stay for the sake of one of them."""
    peak, left = burst("settings")
    assert peak > 40
    assert left < peak / 20
    assert burst("no settings")[1] > 5 * left, "these settings make the difference"
