"""Runs all tests: those in namespaces, and beside them, in the time in which these wait, all others (`make test`).

Those in namespaces wait for daemons, other programs and clocks more than half of the time. Those without (`unit`) need
nothing but a processor, so they run at a low priority, and what waits for a daemon hardly notices. Those marked
`vm` run in guests of their own.

The tests run bgpd as plain Python; those of COMPILED run once more with its compiled form (labs/forms.py).

    python -m tests.suite [--all] [--retry] [--vm] [PATH...]

Those marked `long` are proofs of minutes: only --all runs them (`make test-all`).

What fails in namespaces is printed at once, what fails elsewhere when its part has ended. With --retry it is tried once
more when all has ended, alone: up to five tests may pass so, and are told at the end. More than five that failed first
fail the run, whatever a second try says: a suite that needs luck is broken.

Without a compiler, or without network namespaces, what needs them is left out, and told. In CI (the variable CI is set)
that fails the run: nobody would read it.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from labs.forms import NotCompiled, compiled_form, form_environment
from labs.process import LabError
from tests.conftest import why_no_namespaces
from tests.vm.guest import DIED, TERMINATED, TIMED_OUT, UNAVAILABLE

COMPILED = (
    "tests/message",
    "tests/rib",
    "tests/fib",
    "tests/evpn/test_importer.py",
    "tests/evpn/test_few_received.py",
    "tests/daemon/test_wire_rules.py",
)
"""What runs in the compiled form too: the tests of the compiled modules, and daemons with sessions and routes."""
BYTE_CODE_OF = ("bgpd", "labs", "benchmarks")
NOT_LONG = " and not long"
ALLOWED_TO_FAIL_FIRST = 5
"""Of eight thousand, most of the later ones with real daemons, kernels and clocks on two shared cores."""
GUEST_LIMIT_S = 900
"""Four times what the laboratory takes in a guest that has a processor for itself."""
NICER, GUEST_NICER = 10, 5
"""By how much the priority of what needs nothing but a processor is lower while others run, and that of guests, whose
tests are patient. Not by more: on a machine that has other work, too, they would never end."""
LEAST_PRIORITY = 19
PASSED, FAILED, NOTHING_SELECTED = 0, 1, 5

PROCESSORS = max(2, os.cpu_count() or 2)
WORKERS = ("-n", str(PROCESSORS), "--dist", "load")
WORKERS_OF_NAMESPACES = ("-n", str(min(2 * PROCESSORS, 8)), "--dist", "loadfile")
"""These tests wait most of the time, for daemons and their clocks."""
PYTEST = (sys.executable, "-m", "pytest")
GUEST = (sys.executable, "-m", "tests.vm.guest")
VM_MARK = "mark.vm"
NAMESPACES_MARK = "mark.netns"
ALL_IN_NAMESPACES = "\npytestmark = pytest.mark.netns\n"
LABORATORY = Path("tests/labs/test_main.py")
"""Its part of the `vm` tests is long, and takes a guest's whole time."""


class Part:
    """Some of the tests, run by one pytest. With `in_guest` under a kernel of its own, with `compiled` in that form."""

    def __init__(
        self, name: str, selection: str, paths: Sequence[str], *, in_guest: bool = False, compiled: bool = False
    ) -> None:
        self.name = name
        self.selection = selection
        self.paths = paths
        self.in_guest = in_guest
        self.compiled = compiled

    @property
    def spread(self) -> tuple[str, ...]:
        """How pytest spreads it over workers; a guest has one processor."""
        if self.in_guest:
            return ()
        return WORKERS if self.name == "unit" else WORKERS_OF_NAMESPACES

    def command(self, folder: Path, *options: str) -> list[str]:
        """The command line; pytest notes in `folder` what failed.

        Raises: NotCompiled: there is no compiled form.
        """
        pytest = [*PYTEST, "-m", self.selection, "-o", f"cache_dir={folder}", *options, *self.paths]
        if self.compiled:
            # "append": pytest must not put this repository's bgpd before the compiled one.
            return ["env", *form_environment(compiled_form()), *pytest, "--import-mode=append"]
        if not self.in_guest:
            return pytest
        limits = ["--timeout", str(GUEST_LIMIT_S), "--writable", str(folder)]
        return [*GUEST, *limits, "--", *pytest, "--color=no", "-p", "no:xdist"]


def what_failed(part: Part, code: int, folder: Path) -> list[str]:
    """The tests that pytest noted in `folder`; the guest or the part as a whole where it is that which failed."""
    if code in (DIED, TIMED_OUT):
        return [f"the guest of the part {part.name!r}, which {'died' if code == DIED else 'took too long'}"]
    try:
        failed = sorted(json.loads((folder / "v/cache/lastfailed").read_text()))
    except FileNotFoundError:
        failed = []
    return failed if code == FAILED and failed else [*failed, f"the part {part.name!r}, with exit status {code}"]


def files_where(paths: Sequence[str], has_some: Callable[[str], bool]) -> list[str]:
    """What of `paths` a part has tests in, by the text of each file: it need not read all others, which takes half a
    minute in each worker. What names a single test is passed on."""
    found = [path for path in paths if "::" in path]
    for path in map(Path, paths):
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path] if path.is_file() else []
        found += [str(file) for file in files if has_some(file.read_text())]
    return list(dict.fromkeys(found))


def compiled_part_of(paths: Sequence[str]) -> list[str]:
    """What of `paths` runs in the compiled form too."""
    found = []
    for path in paths:
        file = Path(path.partition("::")[0])
        found += [path] if any(map(file.is_relative_to, COMPILED)) else []
        found += [one for one in COMPILED if Path(one).is_relative_to(file) and Path(one) != file]
    return found


def parts(paths: Sequence[str], *, only_vm: bool = False, long: bool = False) -> tuple[list[Part], list[Part]]:
    """What runs here, one after another, and what runs beside it. With `long` the long ones, too.

    A path may name a test ("FILE::TEST"); pytest knows which part it belongs to.
    """
    but = "" if long else NOT_LONG
    files = files_where(paths, lambda text: VM_MARK in text)
    laboratory = [file for file in files if Path(file).name == LABORATORY.name]
    guests = [Part("vm", f"vm{but}", [file for file in files if file not in laboratory], in_guest=True)]
    guests += [Part("vm laboratory", "vm", laboratory, in_guest=True)] if long else []
    guests = [part for part in guests if part.paths]
    if only_vm:
        return [], guests
    unit = files_where(paths, lambda text: ALL_IN_NAMESPACES not in text)
    namespaces = files_where(paths, lambda text: NAMESPACES_MARK in text)
    here = [
        Part("unit", f"not netns and not vm{but}", unit),
        Part("namespaces", f"netns and not vm{but}", namespaces),
        Part("compiled", f"not vm{but}", compiled_part_of(paths), compiled=True),
    ]
    here = [part for part in here if part.paths]
    beside = [part for part in here if part.name == "unit" and namespaces]
    return [part for part in here if part not in beside], beside + guests


class Beside:
    """A part that runs beside others, at a lower priority; what it says is printed when it has ended."""

    def __init__(self, part: Part, folder: Path) -> None:
        self.part = part
        self.folder = folder
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                part.command(folder, *part.spread),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        set_priority(self.pid, GUEST_NICER if part.in_guest else NICER)
        self._told = threading.Thread(target=self._tell)
        self._told.start()

    def _tell(self) -> None:
        self._process.wait()
        where = "in a guest" if self.part.in_guest else "beside"
        print(f"=== {self.part.name}, {where}\n{self._output.read_text(errors='replace')}", flush=True)

    def ended(self) -> int:
        """The exit status, once it has ended; nothing else waits for a processor any more."""
        set_priority(self.pid, 0)
        self._told.join()
        return self._process.returncode

    def stop(self) -> None:
        """End it, if it has not: with its workers, which would end their tests first; a guest ends by itself."""
        if self._process.poll() is None:
            self._process.terminate() if self.part.in_guest else os.killpg(self.pid, signal.SIGTERM)
        self._told.join()


def set_priority(leader: int, nicer: int) -> None:
    """Of the leader of a session and its process group: by so much lower than that of this process."""
    with contextlib.suppress(OSError):  # it has ended already, or this user may not have it as it was
        os.setpriority(os.PRIO_PGRP, leader, min(os.getpriority(os.PRIO_PROCESS, 0) + nicer, LEAST_PRIORITY))
    # Where the kernel gives each session the same share ("autogroup"), that of a process counts inside of it only.
    with contextlib.suppress(OSError):
        Path(f"/proc/{leader}/autogroup").write_text(str(nicer))


class Suite:
    """One run of all parts; `folder` holds their notes."""

    def __init__(self, folder: Path, *, retry: bool, in_ci: bool = False) -> None:
        self._folder = folder
        self._retry = retry
        self._in_ci = in_ci
        self._failed_first: list[str] = []
        self._failed: list[str] = []
        self._again: list[tuple[Part, Path, int, list[str]]] = []
        self._codes: list[int] = []
        self._skipped: list[str] = []
        self._left_out: list[str] = []
        self._runs = 0

    def run(self, here: Sequence[Part], beside: Sequence[Part]) -> int:
        """Exit status: 0 when all passed, 1 when not, 5 when there was nothing to run."""
        running: list[Beside] = []
        try:
            running.extend(Beside(part, self._new_folder()) for part in beside)
            for part in here:
                self._run_here(part)
            for one in running:
                self._take_beside(one.part, one.folder, one.ended())
        finally:
            for one in running:
                one.stop()
        self._try_again()
        return self._conclude()

    def _run_here(self, part: Part) -> None:
        print(f"=== {part.name}", flush=True)
        folder = self._new_folder()
        try:
            command = part.command(folder, *part.spread)
        except NotCompiled as error:
            self._left_out.append(f"in the compiled form: {error}")
            return
        except LabError as error:
            print(error)
            self._failed.append(f"the part {part.name!r}, whose modules do not compile")
            return
        self._take(part, folder, subprocess.run(command, check=False).returncode)

    def _new_folder(self) -> Path:
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        return folder

    def _take_beside(self, part: Part, folder: Path, code: int) -> None:
        if not part.in_guest or code != UNAVAILABLE:
            self._take(part, folder, code)
            return
        # Some machines' own kernels have the devices; where not, the tests are skipped one by one, with the reason.
        print(f"=== {part.name}: no guest, so under this machine's kernel", flush=True)
        self._skipped.append(part.name)
        without = Part(part.name, part.selection, part.paths)
        self._take(without, folder, subprocess.run(without.command(folder, "-rs"), check=False).returncode)

    def _take(self, part: Part, folder: Path, code: int) -> None:
        """Takes the exit status of a part; notes what may be tried again."""
        self._codes.append(code)
        if code == PASSED and part.name == "namespaces" and (why := why_no_namespaces()):
            self._left_out.append(f"in network namespaces: {why}")
        if code in (PASSED, NOTHING_SELECTED):
            return
        failed = what_failed(part, code, folder)
        self._failed_first += failed
        if self._retry and code in (FAILED, DIED, TIMED_OUT):
            self._again.append((part, folder, code, failed))
        else:
            self._failed += failed

    def _try_again(self) -> None:
        """Tries once more what failed, unless that is too much."""
        for part, folder, code, failed in self._again:
            if len(self._failed_first) > ALLOWED_TO_FAIL_FIRST:
                self._failed += failed
                continue
            print(f"=== {part.name}: once more what failed", flush=True)
            again = ["--last-failed"] if code == FAILED else []
            code = subprocess.run(part.command(folder, *again), check=False).returncode
            if code != PASSED:
                self._failed += what_failed(part, code, folder)

    def _conclude(self) -> int:
        if self._skipped:
            print(f"NO GUEST could be started here (why: above), so not in one: {', '.join(self._skipped)}")
        for what in self._left_out:
            print(f"NOT TESTED {what}")
        if self._left_out and self._in_ci:
            self._failed.append("not all was tested (above)")
        if self._failed:
            print("FAILED:", *self._failed, sep="\n  ")
            return FAILED
        if self._failed_first:
            print(
                f"{len(self._failed_first)} failed first, and passed when tried again:", *self._failed_first, sep="\n  "
            )
        if len(self._failed_first) > ALLOWED_TO_FAIL_FIRST:
            print(f"FAILED: more than {ALLOWED_TO_FAIL_FIRST} needed a second try")
            return FAILED
        if all(code == NOTHING_SELECTED for code in self._codes):
            print("FAILED: there is no test in what was named")
            return NOTHING_SELECTED
        print("all passed")
        return PASSED


def main() -> int:
    """Runs the command line; the exit status."""
    description = __doc__.splitlines()[0] if __doc__ else ""
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=description)
    parser.add_argument("--retry", action="store_true", help="try once more, alone, up to five tests that failed")
    parser.add_argument("--vm", action="store_true", help="only the tests marked vm")
    parser.add_argument("--all", action="store_true", help="the tests marked long, too")
    parser.add_argument("paths", nargs="*", default=["tests"], metavar="PATH")
    chosen = parser.parse_args()
    # As by Ctrl-C: what runs beside is in sessions of its own, and nobody else would end it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    for package in BYTE_CODE_OF:
        # Each test of a whole daemon starts some: without byte code, as where PYTHONDONTWRITEBYTECODE is set, each of
        # them would compile all modules.
        compileall.compile_dir(package, quiet=1)
    with tempfile.TemporaryDirectory(prefix="bgpd-suite-") as folder:
        return Suite(Path(folder), retry=chosen.retry, in_ci="CI" in os.environ).run(
            *parts(chosen.paths, only_vm=chosen.vm, long=chosen.all)
        )


if __name__ == "__main__":
    sys.exit(main())
