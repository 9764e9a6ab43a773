"""Mutation testing: which small faults in a module does no test notice? `make mutants`.

    python -m tests.proof.mutants [--every N] [--anew] [MODULE...]

The tests of a module are collected once, and run once to see which of them reach which function. For each mutant of a
function the process forks; the child puts the mutant's code into the function, and runs the tests that reach it, the
quick ones first, until one fails. Mutants outside of functions take effect when the module is imported: for them the
process forks before it has imported anything of the product. A run that was ended goes on where it was (trials.py).
docs/decisions/0044-mutants-are-forks.md says why this is no library.
"""

from __future__ import annotations

import argparse
import ast
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType

import hypothesis
import pytest

from tests.proof.mutations import Mutant
from tests.proof.trials import Trials

TESTS: dict[str, tuple[str, ...]] = {
    "bgpd/rib/comparison.py": ("tests/rib/test_decision.py", "tests/rib/test_rib.py"),
    "bgpd/rib/decision.py": ("tests/rib/test_decision.py", "tests/rib/test_rib.py", "tests/evpn/test_mac_mobility.py"),
    "bgpd/message/attribute_rules.py": (
        "tests/message/test_attribute_rules.py",
        "tests/message/test_attribute_decoder.py",
        "tests/message/test_malformed.py",
        "tests/message/test_corpus.py",
        "tests/message/test_update_decoder.py",
        "tests/message/test_plain_updates.py",
    ),
    "bgpd/speaker/session.py": (
        "tests/speaker/test_session.py",
        "tests/speaker/test_session_ends.py",
        "tests/speaker/test_collision.py",
        "tests/speaker/test_exchange.py",
    ),
    "bgpd/speaker/collision.py": (
        "tests/speaker/test_collision.py",
        "tests/speaker/test_session.py",
        "tests/speaker/test_session_ends.py",
    ),
    "bgpd/fib/reconcile.py": ("tests/fib",),
}
"""The modules that are mutated, and where their tests are."""
OPTIONS = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "--hypothesis-profile=mutants",
    "-m",
    "not netns and not vm and not long",
)
MOST_CPU_S = 5
"""Of a test, beside twice what it takes without a mutant. What takes longer has run into a loop, and is noticed."""
MOST_CPU_OF_ALL_S = 300
MOST_S = 120
"""What waits longer than this within one test waits for what does not come, and is noticed."""
MOST_BYTES = 4 << 30
"""What takes more has run into a loop, and is noticed."""
PRELOADED = ("msgspec", "pyroute2", "netaddr", "h11", "re2")
_NOTICED, _SURVIVED = 1, 0

hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


def in_child(work: Callable[[], int], most_cpu_s: int) -> int:
    """The exit status of some work in a fork that says nothing."""
    child = os.fork()
    if not child:
        status = _NOTICED
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s))
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            status = work()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


# Mutants outside of functions


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module the code of a mutant."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self._name = name
        self._path = path
        self._tree = tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, self._path, "exec", dont_inherit=True), vars(module))


class QuickFirst:
    """A plugin of pytest that runs property tests, which try many values, last."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)


def survives_import(path: str, mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether no test fails with the whole module of a mutant."""

    def work() -> int:
        name = path.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, _Finder(name, str(Path(path).resolve()), mutant.tree))
        return int(pytest.main([*OPTIONS, "-x", "-s", *tests], plugins=[QuickFirst()]) != pytest.ExitCode.OK)

    return in_child(work, MOST_CPU_OF_ALL_S) == _SURVIVED


# Mutants of functions


class Runner:
    """A plugin of pytest that runs the tests for each mutant of a function, in place of running them once.

    `trials` are told what came of each.
    """

    def __init__(self, path: str, trials: Trials) -> None:
        self._file = str(Path(path).resolve())
        self._trials = trials
        self._reaching: defaultdict[str, set[int]] = defaultdict(set)
        self._seconds: dict[int, float] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items, caches = session.items, remembering()
        for number, item in enumerate(items):
            for one in caches:
                one.cache_clear()  # a function that remembers its answers is reached by the first test only
            began = time.process_time()
            sys.settrace(functools.partial(self._called, number))
            run(session, [item])
            sys.settrace(None)
            self._seconds[number] = time.process_time() - began
        if session.testsfailed:
            raise pytest.UsageError("the tests fail without a mutant")
        for number, mutant in self._trials.waiting().items():
            if mutant.function:
                self._trials.note(number, survived=self._survives(mutant, session))
        return True

    def _called(self, number: int, frame: FrameType, event: str, _: object) -> None:
        if frame.f_code.co_filename == self._file:
            self._reaching[frame.f_code.co_qualname.partition(".<locals>")[0]].add(number)

    def _survives(self, mutant: Mutant, session: pytest.Session) -> bool:
        reaching = sorted(self._reaching[mutant.function], key=self._seconds.__getitem__)

        def work() -> int:
            session.config.pluginmanager.unregister(name="terminalreporter")
            if not replace(self._file, mutant):
                return _NOTICED
            for number in reaching:
                bound(self._seconds[number])
                run(session, [session.items[number]])
                if session.testsfailed:
                    return _NOTICED
            return _SURVIVED

        return not reaching or in_child(work, MOST_CPU_OF_ALL_S) == _SURVIVED


def bound(usual_s: float) -> None:
    """The process ends if the test that is run now takes far more processor time than usual, or waits for ever."""
    signal.alarm(MOST_S)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    spent = math.ceil(time.process_time() + 2 * usual_s)
    resource.setrlimit(resource.RLIMIT_CPU, (min(most, spent + MOST_CPU_S), most))


def run(session: pytest.Session, items: Sequence[pytest.Item]) -> None:
    """Run tests until one fails."""
    for item, following in zip(items, [*items[1:], None]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return


def replace(file: str, mutant: Mutant) -> bool:
    """Give the functions that there are the code of a mutant, and forget what they have answered before. False: it has
    other variables in common with what it stands in, and would not even be imported."""
    codes = {(one.co_qualname, one.co_firstlineno): one for one in codes_in(compile(mutant.tree, file, "exec"))}
    for one in remembering():
        one.cache_clear()
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__code__.co_filename == file:
            code = codes.get((found.__code__.co_qualname, found.__code__.co_firstlineno))
            if code is not None and code.co_qualname == mutant.function:
                try:
                    found.__code__ = code
                except ValueError:
                    return False
    return True


def remembering() -> list[functools._lru_cache_wrapper[object]]:
    """The functions that remember what they have answered."""
    return [found for found in gc.get_objects() if isinstance(found, functools._lru_cache_wrapper)]


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code of all functions of a module."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from codes_in(inner)


def try_all(path: str, tests: Sequence[str], trials: Trials) -> None:
    """Try all mutants of a module that wait for it. Once for each process."""
    sys.dont_write_bytecode = False  # each mutant outside of functions imports the tests anew
    for name in PRELOADED:
        importlib.import_module(name)
    waiting = trials.waiting()
    for number, one in waiting.items():
        if not one.function:
            trials.note(number, survived=survives_import(path, one, tests))
    if any(one.function for one in waiting.values()):
        status = pytest.main([*OPTIONS, *tests], plugins=[Runner(path, trials)])
        if status != pytest.ExitCode.OK:
            raise SystemExit(f"{path}: {status!r}")


def main() -> int:
    """Prints the survivors of each module, as they are found, and its score."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description="Faults that no test notices.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {', '.join(TESTS)}")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth mutant")
    parser.add_argument("--anew", action="store_true", help="also those that a test noticed in an earlier run")
    chosen = parser.parse_args()
    for path in chosen.modules or list(TESTS):
        trials = Trials(path, chosen.every, anew=chosen.anew)
        child = os.fork()
        if not child:
            try_all(path, TESTS[path], trials)
            print(trials.score(), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
