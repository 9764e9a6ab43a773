"""Searches for inputs that go wrong, by coverage: `make fuzz-coverage`.

    python -m tests.fuzz [--minutes M] [--keep] [TARGET...]

The minutes are shared among the targets: those that see the bytes of neighbors have more. What a search ends with lies
in `.fuzz`, where the next one goes on. With --keep the corpora are written anew from it. Atheris is not among the
packages of `make setup`: it is large, and has no builds for most processors.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.corpus import kept
from tests.fuzz.target import Target
from tests.fuzz.worker import instrumented_targets, searched

FOLDER = Path(".fuzz")
LONGEST = 4096
"""Bytes of an input: a message of BGP without extensions."""
MEMORY_MB = 1024
WORD = re.compile(rb"[A-Za-z/][A-Za-z0-9_./:-]{2,30}")
MOST_WORDS = 1000
NICENESS = 10
PLAINLY = (sys.executable, "-m")
"""What is done without instrumentation."""


def search(name: str, target: Target, seconds: int) -> bool:
    """Whether nothing went wrong; what did is printed."""
    folder, found, log = (FOLDER / f"{name}{suffix}" for suffix in ("", ".found", ".log"))
    for one in (folder, found):
        one.mkdir(parents=True, exist_ok=True)
    for data in (*kept(name), *target.seeds()):
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    options = [
        str(folder),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found}/",
        "-timeout=20",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    if words := words_of(target):
        dictionary = FOLDER / f"{name}.words"
        dictionary.write_bytes(words)
        options.append(f"-dict={dictionary}")
    status = searched(target, options, log)
    said = log.read_text(errors="replace")
    runs = next((line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line), "?")
    print(f"{name}: {runs} runs, {len(list(folder.iterdir()))} inputs", flush=True)
    if status:
        print(said)
        for path in sorted(found.iterdir()):
            print(f"{path}: a line for tests/fuzz/corpora/{name}.txt, below a comment:\n{path.read_bytes()!r}")
    judged = subprocess.run([*PLAINLY, "tests.fuzz.judge", name, str(folder)], check=False)
    return not (status or judged.returncode)


def words_of(target: Target) -> bytes:
    """A dictionary of libFuzzer: the words of what is right."""
    found = {word for data in target.seeds() for word in WORD.findall(data)}
    chosen = sorted(found, key=lambda word: (len(word), word))[:MOST_WORDS]
    return b"".join(b'"%b"\n' % word for word in chosen)


def main() -> int:
    """The exit status: 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Searches for inputs that go wrong.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together; default: 10")
    parser.add_argument("--keep", action="store_true", help="write the corpora anew from what was found")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    chosen = parser.parse_args()
    os.nice(max(0, NICENESS - os.nice(0)))
    targets = instrumented_targets()
    names = chosen.targets or list(targets)
    if unknown := set(names) - targets.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; one of: {', '.join(targets)}")
    second = 60 * chosen.minutes / sum(targets[name].share for name in names)
    wrong = [name for name in names if not search(name, targets[name], max(1, round(second * targets[name].share)))]
    if chosen.keep:
        subprocess.run([*PLAINLY, "tests.fuzz.reached", "--keep", str(FOLDER), *names], check=True)
    print(f"FAILED: {', '.join(wrong)}" if wrong else "nothing went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
