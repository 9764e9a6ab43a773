"""What inputs reach of bgpd's functions: which lines, and which line after which.

    python -m tests.fuzz.reached [--keep FOLDER] [TARGET...]

Prints, of each target, which share of the lines that it is to try its corpus and its seeds reach, and the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from tests.fuzz.corpus import LONGEST, MOST, keep, kept
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, quiet

PRODUCT = str(Path(__file__).parents[2] / "bgpd") + "/"
Run = Callable[[bytes], None]
Line = tuple[CodeType, int]
Step = tuple[CodeType, int, int]
"""A line, and the one before it: the same for all calls of a function."""


def codes_of(reads: Iterable[object]) -> Iterator[CodeType]:
    """The functions of modules, classes and functions, with what is defined in them."""
    for one in reads:
        if isinstance(one, FunctionType):
            yield from _with_inner(one.__code__)
        elif isinstance(one, property):
            yield from codes_of([one.fget])
        elif isinstance(one, classmethod | staticmethod):
            yield from codes_of([one.__func__])
        elif isinstance(one, ModuleType | type):
            name = one.__name__ if isinstance(one, ModuleType) else one.__module__
            of_its_own = (inner for inner in vars(one).values() if getattr(inner, "__module__", name) == name)
            yield from codes_of(inner for inner in of_its_own if not isinstance(inner, ModuleType))


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _with_inner(inner)


def lines_of(codes: Iterable[CodeType]) -> set[Line]:
    """All lines of functions, but for those with their names."""
    return {
        (code, line)
        for code in codes
        for _, _, line in code.co_lines()
        if line is not None and line != code.co_firstlineno
    }


def lines_reached(run: Run, inputs: Iterable[bytes], codes: Collection[CodeType]) -> set[Line]:
    """Of these functions. Others cost little."""
    found: set[Line] = set()

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            found.add((frame.f_code, frame.f_lineno))
        return line

    _traced(run, inputs, lambda frame: line if frame.f_code in codes else None)
    return found


def steps_reached(run: Run, data: bytes) -> set[Step]:
    """Of all functions of the product."""
    found: set[Step] = set()

    def of_call(frame: FrameType) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PRODUCT):
            return None
        before = 0

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                found.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line

    _traced(run, [data], of_call)
    return found


def _traced(run: Run, inputs: Iterable[bytes], of_call: Callable[[FrameType], Any]) -> None:
    former = sys.gettrace()
    sys.settrace(lambda frame, _event, _: of_call(frame))
    try:
        for data in inputs:
            run(data)
    finally:
        sys.settrace(former)


COST = 40
"""Bytes that an input counts for beside its own."""


def fewest(run: Run, inputs: Iterable[bytes], *, known: Iterable[bytes], most: int) -> list[bytes]:
    """Inputs that with the `known` ones take all steps that all of them take, as far as so many are enough for it:
    first those that add most by their length."""
    taken = set[Step]().union(*(steps_reached(run, data) for data in known))
    steps = {data: steps_reached(run, data) - taken for data in sorted(set(inputs), key=lambda one: (len(one), one))}
    chosen: list[bytes] = []
    while steps and len(chosen) < most:
        best = max(steps, key=lambda data: len(steps[data]) / (COST + len(data)))
        if not (added := steps.pop(best)):
            break
        chosen.append(best)
        steps = {data: rest for data, one in steps.items() if (rest := one - added)}
    return chosen


def thin_out(name: str, target: Target, folder: Path) -> None:
    """Write a target's corpus anew, from what a search has left in a directory."""
    found = [data for path in folder.iterdir() if len(data := path.read_bytes()) <= LONGEST]
    keep(name, fewest(target.run, found, known=target.seeds(), most=MOST))


def share(target: Target, inputs: Iterable[bytes]) -> tuple[int, set[Line]]:
    """How many lines a target is to try, and those of them that these inputs do not reach."""
    codes = set(codes_of(target.reads))
    wanted = lines_of(codes)
    return len(wanted), wanted - lines_reached(target.run, inputs, codes)


def main() -> None:
    """Prints what is said above."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.reached", description="What a corpus reaches.")
    parser.add_argument("--keep", metavar="FOLDER", help="write the corpora anew from what searches have left there")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    chosen = parser.parse_args()
    quiet()
    for name in chosen.targets or TARGETS:
        target = TARGETS[name]
        if chosen.keep:
            thin_out(name, target, Path(chosen.keep) / name)
        number, missed = share(target, [*kept(name), *target.seeds()])
        print(f"{name}: {100 * (1 - len(missed) / number):.0f} % of {number} lines", flush=True)
        for file in sorted({code.co_filename for code, _ in missed}):
            lines = sorted({line for code, line in missed if code.co_filename == file})
            print(f"  {file.removeprefix(PRODUCT)}: {', '.join(map(str, lines))}")


if __name__ == "__main__":
    main()
