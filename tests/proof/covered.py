"""Branch coverage of the modules that do no I/O, by the tests that need no namespace: `make coverage`.

    python -m tests.proof.covered [--of PATTERN] [TESTS...]

Those are the modules of `PACKAGES` that import nothing of `INPUT_OUTPUT` and have no coroutine, and those of `PURE`.
Prints each below `WANTED` percent, and the sum of each package, which must not be below it. Coverage.py
is not among the packages of `make setup`.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WANTED = 95.0
PACKAGES = frozenset(
    ("bfd", "config", "evpn", "fib", "history", "message", "migrate", "model", "rib", "speaker", "workload")
)
INPUT_OUTPUT = frozenset(
    (
        *("asyncio", "fcntl", "mmap", "os", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess"),
        *("tempfile", "threading"),
    )
)
PURE = (
    *("bgpd/config/*", "bgpd/evpn/*", "bgpd/message/*", "bgpd/model/*", "bgpd/rib/*"),
    *("bgpd/fib/answers.py", "bgpd/fib/batches.py", "bgpd/fib/guard.py", "bgpd/fib/ownership.py"),
    *("bgpd/fib/reconcile.py", "bgpd/fib/routes.py", "bgpd/fib/targets.py"),
    *("bgpd/kernel/*_messages.py", "bgpd/kernel/route_decoder.py", "bgpd/kernel/host.py"),
    *("bgpd/speaker/peering.py", "bgpd/speaker/exchange.py"),
)
"""Others that do none: the event loop only calls them, or constants of `socket` are what they import."""
TESTS = (
    *("tests/bfd", "tests/config", "tests/evpn", "tests/fib", "tests/fuzz", "tests/handover", "tests/history"),
    *("tests/kernel", "tests/message", "tests/migrate", "tests/model", "tests/rib", "tests/speaker", "tests/workload"),
    *("tests/test_explain.py", "tests/test_listings.py", "tests/test_routing.py"),
)
SELECTED = "not netns and not vm and not long"


def package_of(file: str) -> str:
    return file.split("/")[1]


def is_pure(file: str) -> bool:
    """Whether a module of the product does no I/O."""
    if any(fnmatch.fnmatch(file, pattern) for pattern in PURE):
        return True
    if package_of(file) not in PACKAGES:
        return False
    tree = ast.parse(Path(file).read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            return False
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return not INPUT_OUTPUT & {name.partition(".")[0] for name in names}


def shares(report: Mapping[str, Any], chosen: str = "*") -> dict[str, tuple[int, int]]:
    """Lines and branches that were taken, and that there are, by module without I/O whose path is like `chosen`."""
    found = {}
    for file, one in report["files"].items():
        if is_pure(file) and fnmatch.fnmatch(file, chosen):
            summary = one["summary"]
            taken = summary["covered_lines"] + summary["covered_branches"]
            found[file] = taken, summary["num_statements"] + summary["num_branches"]
    return found


def percent(counts: Iterable[tuple[int, int]]) -> float:
    """What was taken of what there is, 100 of nothing."""
    taken, there = map(sum, zip((0, 0), *counts))
    return 100 * taken / there if there else 100.0


def of_packages(found: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """The share of each package."""
    return {
        package: percent(one for file, one in found.items() if package_of(file) == package)
        for package in sorted(set(map(package_of, found)))
    }


def main() -> int:
    """Exit status: 0 if the tests passed and each package is as `WANTED`."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.covered", description="Branch coverage without I/O.")
    parser.add_argument("--of", default="*", metavar="PATTERN", help="only modules whose path is like this")
    parser.add_argument("tests", nargs="*", default=TESTS, metavar="TESTS")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "data", Path(folder) / "report.json"
        coverage = (sys.executable, "-m", "coverage")
        options = ("--branch", "--source=bgpd", f"--data-file={data}")
        ran = subprocess.run(
            [*coverage, "run", *options, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", SELECTED, *chosen.tests],
            check=False,
        )
        subprocess.run([*coverage, "json", "-q", f"--data-file={data}", "-o", str(report)], check=True)
        found = shares(json.loads(report.read_text()), chosen.of)
    low = {file: percent([one]) for file, one in found.items() if percent([one]) < WANTED}
    for file, share in sorted(low.items(), key=lambda one: one[1]):
        print(f"{share:5.1f} %  {file}")
    packages = of_packages(found)
    for package, share in packages.items():
        print(f"{share:5.1f} %  {package}")
    total = percent(found.values())
    print(
        f"{total:.1f} % of lines and branches of {len(found)} modules without I/O; {len(low)} are below {WANTED:.0f} %"
    )
    if failed := [package for package, share in packages.items() if share < WANTED]:
        print(f"FAILED: below {WANTED:.0f} %: {', '.join(failed)}")
    return ran.returncode or int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
