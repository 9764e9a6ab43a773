"""`bgpd simulate` as a process: the same output each time, and quiet where nobody reads it, or it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.simulation.topologies import LAB

COMMAND = (sys.executable, "-m", "bgpd", "simulate", str(LAB / "two-leaf.clab.yml"))


def begun(*more: str, hash_seed: str = "random") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *more], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)


def close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize(("end", "code"), [(close, 1), (interrupt, 130)])
def test_command_that_is_ended_says_nothing(end: Callable[[subprocess.Popen[bytes]], None], code: int) -> None:
    process = begun()
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(3):  # the start, and what has settled
        process.stdout.readline()
    end(process)
    assert process.stderr.read() == b""
    assert process.wait() == code


def test_processes_with_other_hash_seeds_say_the_same() -> None:
    scenario = str(LAB / "two-leaf.scenario.toml")
    ended = [begun(scenario, "--json", "--seed", "7", hash_seed=one).communicate() for one in ("1", "random")]
    assert ended[0] == ended[1]
    assert b'"seed": 7' in ended[0][0]
