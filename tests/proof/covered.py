"""Branch coverage of the modules that do no I/O, by the tests that need no namespace: `make coverage`.

    python -m tests.proof.covered [--of PATTERN] [TESTS...]

Prints the modules of `PURE` below `WANTED` percent, and the sum of all. Coverage.py is not among the packages of
`make setup`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WANTED = 95.0
PURE = (
    *("bgpd/message/*", "bgpd/model/*", "bgpd/rib/*", "bgpd/evpn/*", "bgpd/bfd/packet.py", "bgpd/bfd/session.py"),
    *("bgpd/bfd/control.py", "bgpd/speaker/connection.py", "bgpd/speaker/session.py", "bgpd/speaker/retries.py"),
    *("bgpd/speaker/collision.py", "bgpd/fib/pending.py", "bgpd/fib/plan.py", "bgpd/fib/nexthop_ids.py"),
    *("bgpd/speaker/exchange.py", "bgpd/speaker/refresh.py", "bgpd/speaker/admission.py", "bgpd/speaker/peering.py"),
    *("bgpd/fib/reconcile.py", "bgpd/fib/routes.py", "bgpd/fib/targets.py", "bgpd/fib/nexthop_objects.py"),
    *("bgpd/fib/guard.py", "bgpd/fib/ownership.py", "bgpd/fib/batches.py", "bgpd/fib/answers.py"),
    *("bgpd/kernel/*_messages.py", "bgpd/kernel/route_decoder.py", "bgpd/kernel/host.py", "bgpd/config/*"),
    *("bgpd/workload/claims.py", "bgpd/workload/claim_order.py", "bgpd/workload/damping.py", "bgpd/workload/settle.py"),
    *("bgpd/workload/standing.py", "bgpd/workload/table.py", "bgpd/workload/feed/generations.py"),
    *("bgpd/workload/feed/payload.py", "bgpd/workload/feed/saved.py", "bgpd/workload/service/dns.py"),
)
TESTS = (
    *("tests/bfd", "tests/config", "tests/evpn", "tests/fib", "tests/fuzz", "tests/handover", "tests/history"),
    *("tests/kernel", "tests/message", "tests/model", "tests/rib", "tests/speaker", "tests/workload"),
    *("tests/test_explain.py", "tests/test_listings.py", "tests/test_routing.py"),
)
SELECTED = "not netns and not vm and not long"


def is_pure(file: str) -> bool:
    return any(fnmatch.fnmatch(file, pattern) for pattern in PURE)


def shares(report: Mapping[str, Any], chosen: str = "*") -> dict[str, tuple[int, int]]:
    """Lines and branches that were taken, and that there are, by module of `PURE` whose path is like `chosen`."""
    found = {}
    for file, one in report["files"].items():
        if is_pure(file) and fnmatch.fnmatch(file, chosen):
            summary = one["summary"]
            taken = summary["covered_lines"] + summary["covered_branches"]
            found[file] = taken, summary["num_statements"] + summary["num_branches"]
    return found


def main() -> int:
    """Exit status: 0 if the tests passed and all is as `WANTED`."""
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
    low = {file: 100 * taken / of for file, (taken, of) in found.items() if of and 100 * taken / of < WANTED}
    for file, share in sorted(low.items(), key=lambda one: one[1]):
        print(f"{share:5.1f} %  {file}")
    total = 100 * sum(taken for taken, _ in found.values()) / max(1, sum(of for _, of in found.values()))
    print(
        f"{total:.1f} % of lines and branches of {len(found)} modules without I/O; {len(low)} are below {WANTED:.0f} %"
    )
    return ran.returncode or int(total < WANTED)


if __name__ == "__main__":
    sys.exit(main())
