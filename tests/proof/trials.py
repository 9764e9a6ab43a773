"""Which mutants of a module are still to be tried, and what came of those that were.

A run that was ended goes on where it was: what a test has noticed is kept in `.mutants` as long as the module is the
same, and is not tried again. Survivors are: there may be a test for them now.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.proof.mutations import Mutant, mutants

FOLDER = Path(".mutants")


class Trials:
    """Those of one module: each `step`th of its mutants. With `anew` as if none had been tried yet."""

    def __init__(self, path: str, step: int = 1, *, anew: bool = False, folder: Path = FOLDER) -> None:
        source = Path(path).read_text()
        self._path = path
        self._lines = source.splitlines()
        self._chosen = dict(list(enumerate(mutants(source)))[::step])
        of = hashlib.sha256(source.encode() + Path(mutants.__code__.co_filename).read_bytes()).hexdigest()
        self._file = folder / f"{path.replace('/', '.')}.{of[:16]}"
        if anew:
            self._file.unlink(missing_ok=True)
        self._noticed = set(map(int, self._file.read_text().split())) if self._file.exists() else set[int]()

    def waiting(self) -> dict[int, Mutant]:
        """What is to be tried, by its number in the module."""
        return {number: one for number, one in self._chosen.items() if number not in self._noticed}

    def note(self, number: int, *, survived: bool) -> None:
        """What came of one: a survivor is printed, any other is not tried again."""
        if survived:
            one = self._chosen[number]
            print(f"{self._path}:{one.line}: {one.what}: {self._lines[one.line - 1].strip()}", flush=True)
            return
        self._noticed.add(number)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(f"{number}\n")

    def score(self) -> str:
        """How many of those that were chosen are noticed."""
        return f"{self._path}: {len(self._noticed & self._chosen.keys())} of {len(self._chosen)} mutants are noticed"
