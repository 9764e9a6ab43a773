"""Simulates fabrics from seeds, and shows of each that fails what happened, as short as it still fails.

    python -m tests.simulation [--seeds 0:1000] [--processes N] [--keep DIRECTORY]
    python -m tests.simulation --file SCENARIO.json

A seed gives the same run each time: the order of sets depends on PYTHONHASHSEED, which is set for that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from bgpd.simulation.run import Result, run, shortened
from bgpd.simulation.scenario import Scenario
from bgpd.simulation.seeds import scenario_of
from tests.logs import log_nothing

HASH_SEED = "0"


def quietly() -> None:
    """Fabrics log nothing."""
    log_nothing()


def run_seed(seed: int) -> Result:
    """Of the scenario of a seed."""
    return run(scenario_of(seed))


def results(seeds: Iterable[int], *, processes: int) -> Iterator[Result]:
    """Of all seeds, in order."""
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(processes, initializer=quietly) as pool:
        yield from pool.map(run_seed, seeds, chunksize=5)


def report(result: Result) -> Scenario:
    """Print what failed, and what of it suffices."""
    print(f"seed {result.scenario.seed} failed:", *result.found, sep="\n  ")
    short = shortened(result.scenario, lambda one: bool(run(one).found))
    print(f"  shortened to {short.events} of {result.scenario.events} events, {short.shape.hosts} hosts:")
    for number, events in enumerate(short.rounds):
        print(f"  round {number}:", *events, sep="\n    ")
    print("  which gives:", *run(short).found, sep="\n    ", flush=True)
    return short


def seeds_of(text: str) -> range:
    """Of "FIRST:END" or "SEED". Raises: ArgumentTypeError: they are none."""
    first, colon, end = text.partition(":")
    if not (first.isdecimal() and (end.isdecimal() if colon else True)):
        raise argparse.ArgumentTypeError(f"{text!r} is no FIRST:END, such as 0:1000, and no seed")
    seeds = range(int(first), int(end) if colon else int(first) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} has no seed: END is the first that is not run")
    return seeds


def main(arguments: list[str]) -> int:
    """The exit status: 1 if a fabric did not come to rest as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulates fabrics from seeds.")
    parser.add_argument("--seeds", type=seeds_of, default="0:100", metavar="FIRST:END", help="or one seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="write scenarios that fail there")
    parser.add_argument("--digests", action="store_true", help="print one for each run: equal ones were the same")
    parser.add_argument("--file", type=Path, help="run this scenario instead")
    chosen = parser.parse_args(arguments)
    quietly()
    if chosen.file is not None:
        found = run(msgspec.json.decode(chosen.file.read_bytes(), type=Scenario)).found
        print(*found or ("all is as it should be",), sep="\n")
        return 1 if found else 0
    seeds = chosen.seeds
    if chosen.keep is not None:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    failed, cpu_s, simulated_s = [], 0.0, 0.0
    for result in results(seeds, processes=chosen.processes):
        cpu_s += result.cpu_s
        simulated_s += result.simulated_s
        if chosen.digests:
            print(result.scenario.seed, result.digest)
        if result.found:
            failed.append(result.scenario.seed)
            short = report(result)
            if chosen.keep is not None:
                (chosen.keep / f"seed-{short.seed}.json").write_bytes(msgspec.json.encode(short))
    print(
        f"{len(seeds)} fabrics, {simulated_s / 3600:.1f} simulated hours in {cpu_s:.0f} s of processor time: "
        f"{f'seeds {failed} failed' if failed else 'all came to rest as they should'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
