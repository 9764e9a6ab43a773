"""`python -m tests.chaos`: random faults on real parts, from a seed (docs/chaos.md).

--minutes N       how long (10)
--seed N          which steps (a random one)
--steps FILE      replay what a failed run has left, all of it or with lines left out
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from labs.namespace import remove_stale
from tests.chaos.run import Chaos, ChaosFailed, parse_rounds, parse_seed

FOLDER = Path("labs/run/chaos")


def main() -> int:
    """Runs the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="random faults on real parts")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=None, help="which steps; a random one if it is left out")
    parser.add_argument("--steps", type=Path, help="replay the steps of this file")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it makes network namespaces, which only root may")
    text = chosen.steps.read_text() if chosen.steps else ""
    seed = parse_seed(text) if text else chosen.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1, 1_000_000)
    remove_stale("chaos")
    chaos = Chaos(seed, FOLDER, progress=lambda text: print(text, flush=True))
    print(f"seed {seed}; the same again: make chaos SEED={seed}", flush=True)
    try:
        if text:
            chaos.run(rounds=parse_rounds(text))
        else:
            chaos.run(seconds=60 * chosen.minutes)
    except ChaosFailed as error:
        print(f"FAILED: {error}")
        return 1
    print(*chaos.summary, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
