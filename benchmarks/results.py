"""Results of runs: kept as JSON, one file for each case, and summed up as medians and spreads."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

RESULTS = Path(__file__).resolve().parent / "results"
HEADLINES = ("seconds", "milliseconds", "lag_p99_ms", "resident_mb")
"""The figure by which contestants are compared: the first of these that a case has."""


class Run(msgspec.Struct, kw_only=True):
    """One measurement; `failed` says why there are no figures."""

    case: str
    contestant: str
    figures: dict[str, float] = {}
    failed: str = ""


class ResultFile(msgspec.Struct, kw_only=True):
    """All runs of one case, made in one go on one machine."""

    name: str
    title: str
    machine: dict[str, Any]
    versions: dict[str, str]
    repeat: int
    quick: bool
    taken_on: str
    runs: list[Run]


class Summary:
    """Medians over the runs of some result files."""

    def __init__(self, files: Iterable[ResultFile]) -> None:
        self.files = list(files)
        self._runs: dict[tuple[str, str], list[Run]] = {}
        for file in self.files:
            for run in file.runs:
                self._runs.setdefault((run.case, run.contestant), []).append(run)

    def cases(self, name: str) -> list[str]:
        """The variants of the case `name`, in the order they were run."""
        return list(dict.fromkeys(run.case for file in self.files if file.name == name for run in file.runs))

    def contestants(self, case: str) -> list[str]:
        """Who ran the variant."""
        return [contestant for found, contestant in self._runs if found == case]

    def counts(self, case: str) -> list[int]:
        """How many runs each contestant of the variant made."""
        return [len(runs) for (found, _), runs in self._runs.items() if found == case]

    def values(self, case: str, contestant: str, figure: str) -> list[float]:
        """All values of a figure."""
        runs = self._runs.get((case, contestant), [])
        return [run.figures[figure] for run in runs if figure in run.figures]

    def median(self, case: str, contestant: str, figure: str) -> float | None:
        """Median of a figure; None if it was not measured."""
        values = self.values(case, contestant, figure)
        return statistics.median(values) if values else None

    def figures(self, case: str) -> list[str]:
        """The names of all figures of a variant."""
        names = (
            name
            for contestant in self.contestants(case)
            for run in self._runs[case, contestant]
            for name in run.figures
        )
        return list(dict.fromkeys(names))

    def headline(self, case: str) -> str:
        """The figure by which the contestants of a variant are compared."""
        names = self.figures(case)
        return next((name for name in HEADLINES if name in names), names[0] if names else "seconds")

    def failures(self, case: str, contestant: str) -> list[str]:
        """Why runs failed."""
        return [run.failed for run in self._runs.get((case, contestant), []) if run.failed]

    def every(self, contestant: str, figure: str) -> list[tuple[float, str]]:
        """All values of a figure over all cases, each with its case."""
        found = ((case, run) for (case, name), runs in self._runs.items() if name == contestant for run in runs)
        return [(run.figures[figure], case) for case, run in found if figure in run.figures]


def path_of(name: str, *, quick: bool) -> Path:
    """Where a case's results are kept; quick ones apart, they are no figures to show."""
    return (RESULTS / "quick" if quick else RESULTS) / f"{name}.json"


def add_others(file: ResultFile, *, same: bool = False) -> None:
    """Takes over the runs of variants that this file has not, from the one that is kept; with `same` all its runs."""
    path = path_of(file.name, quick=file.quick)
    if path.exists():
        mine = set() if same else {run.case for run in file.runs}
        before = msgspec.json.decode(path.read_bytes(), type=ResultFile)
        file.runs[:0] = [run for run in before.runs if run.case not in mine]
        file.versions = before.versions | file.versions


def save(file: ResultFile) -> Path:
    """Writes a result file and says where."""
    path = path_of(file.name, quick=file.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
    return path


def load_all(*, quick: bool) -> list[ResultFile]:
    """All result files, by name."""
    folder = RESULTS / "quick" if quick else RESULTS
    return [msgspec.json.decode(path.read_bytes(), type=ResultFile) for path in sorted(folder.glob("*.json"))]
