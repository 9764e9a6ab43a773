"""Runs inputs plainly, without instrumentation, and judges what they cost: CPU time of each, memory of all.

python -m tests.fuzz.judge NAME DIRECTORY
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.targets import TARGETS, quiet

LIMIT_S = 0.050
"""CPU time for one message: a hold time of 3 s, and a thousand neighbors' messages beside it, bear no more."""
TRIES = 3
"""What is slow once may be the garbage collector's, or a page fault's."""
WARM_UPS, ROUNDS = 2, 4
BLOCKS = 200
"""So many blocks may be in use more after `ROUNDS` rounds of the same inputs: of caches that are not full yet."""

Run = Callable[[bytes], None]


def cpu_s(run: Run, data: bytes, limit_s: float = LIMIT_S) -> float:
    """CPU time of one input, the least of some tries if it is over the limit."""
    least = float("inf")
    for _ in range(TRIES):
        began = time.thread_time()
        run(data)
        least = min(least, time.thread_time() - began)
        if least <= limit_s:
            break
    return least


def slow(run: Run, inputs: Sequence[bytes], *, messages: int = 1) -> list[tuple[float, bytes]]:
    """The inputs that take longer than so many messages may, and how long."""
    limit_s = messages * LIMIT_S
    return [(took, data) for data in inputs if (took := cpu_s(run, data, limit_s)) > limit_s]


def growth(run: Run, inputs: Sequence[bytes]) -> int:
    """How many blocks of memory more are in use after each input was run again and again."""
    before = 0
    for number in range(WARM_UPS + ROUNDS):
        if number == WARM_UPS:
            gc.collect()
            before = sys.getallocatedblocks()
        for data in inputs:
            run(data)
    gc.collect()
    return sys.getallocatedblocks() - before


def main() -> int:
    """Prints what is wrong; the exit status."""
    name, directory = sys.argv[1:]
    quiet()
    run, inputs = TARGETS[name].run, [path.read_bytes() for path in sorted(Path(directory).iterdir())]
    found = slow(run, inputs, messages=TARGETS[name].messages)
    for took, data in found:
        print(f"{name}: {took * 1000:.0f} ms of CPU for {data!r}")
    more = growth(run, inputs)
    if more > BLOCKS:
        print(f"{name}: {more} blocks of memory more after {ROUNDS} rounds of {len(inputs)} inputs")
    return 1 if found or more > BLOCKS else 0


if __name__ == "__main__":
    sys.exit(main())
