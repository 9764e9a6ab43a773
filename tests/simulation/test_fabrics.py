"""Whole fabrics in simulated time: whatever happens to them, they come to rest as they should.

Each runs bgpd's own sessions, RIB, policies, FIB and workloads; what is outside of it is a model (docs/simulation.md).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import HASH_SEED

PARTS, IN_A_PART = 20, 50
A_THOUSAND = PARTS * IN_A_PART


def simulated(*arguments: str) -> str:
    """What the program prints, in a process of its own: the order of sets depends on a variable of the environment."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_fabrics_come_to_rest_as_they_should(part: int) -> None:
    simulated("--processes", "1", "--seeds", f"{part * IN_A_PART}:{(part + 1) * IN_A_PART}")


@pytest.mark.long
def test_another_thousand_fabrics_come_to_rest_as_they_should() -> None:
    simulated("--seeds", f"{A_THOUSAND}:{2 * A_THOUSAND}")


@pytest.mark.parametrize("seed", [9, 13, 25])
def test_a_seed_gives_the_same_run_alone_and_after_others(seed: int) -> None:
    alone = simulated("--digests", "--processes", "1", "--seeds", f"{seed}")
    after_others = simulated("--digests", "--processes", "1", "--seeds", f"{seed - 1}:{seed + 1}")
    assert alone.splitlines()[0] in after_others.splitlines()
