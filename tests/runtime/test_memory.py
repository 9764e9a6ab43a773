"""The collector's policy: cycles go, large tables are left alone. Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.runtime.memory import TABLE, GarbagePolicy, huge_parts, use_huge_pages


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


SMAPS = """\
400000-900000 r-xp 00000000 08:01 123 /usr/bin/python3
Rss:                5120 kB
10100000-10900000 rw-p 00000000 00:00 0                          [heap]
Size:               8192 kB
Rss:                8000 kB
AnonHugePages:      2048 kB
20000000-20800000 rw-p 00000000 00:00 0
Rss:                 100 kB
30000000-30400000 rw-p 00000000 00:00 0
Rss:                4096 kB
40000000-40100000 rw-p 00000000 00:00 0
Rss:                1024 kB
50000000-50800000 rw-s 00000000 00:01 7 /dev/zero (deleted)
Rss:                8192 kB
60000000-60800000 rw-p 00000000 00:00 0                          [stack]
Rss:                8192 kB
"""


def test_huge_pages_are_for_heaps_that_are_in_memory() -> None:
    parts = [hex(address) for address in huge_parts(SMAPS, 2 << 20)]
    assert parts == ["0x10200000", "0x10400000", "0x10600000", "0x30000000", "0x30200000"]


def test_huge_pages_take_no_more_memory_and_change_nothing() -> None:
    kept = [bytes((number & 255,)) * 100 for number in range(200_000)]
    before = resident_kb()
    use_huge_pages()
    assert resident_kb() < before * 1.2 + 8192
    assert all(value == bytes((number & 255,)) * 100 for number, value in enumerate(kept))


def resident_kb() -> int:
    found = re.search(r"^VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


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
