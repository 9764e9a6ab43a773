"""Mutants are what they are said to be, and each is a module that can be compiled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.proof.covered import of_packages, shares
from tests.proof.mutations import mutants
from tests.proof.trials import Trials

MODULE = '''
"""Left alone."""
TABLE = {1: Rule("a", 8), 2: Rule("b", 8), 3: Rule("c", 9)}

class Thing:
    """Left alone."""
    def method(self, given: int = 5) -> bool:
        assert given < 7
        log.info("left alone", one=1)
        self.value = given + 1
        return given > 3 and not self.other
'''


def test_mutants_of_functions() -> None:
    found = {(one.function, one.what): ast.unparse(one.tree) for one in mutants(MODULE) if one.function}
    assert found.keys() == {
        ("Thing.method", what)
        for what in (
            *("the statement is left out", "Add is Sub", "1 is 2"),
            *("And is Or", "Gt is GtE", "3 is 4", "not is left out"),
        )
    }
    assert "given >= 3 and" in found["Thing.method", "Gt is GtE"]
    assert "and self.other" in found["Thing.method", "not is left out"]
    assert "self.value" not in found["Thing.method", "the statement is left out"]
    assert [one.what for one in mutants(MODULE)].count("the statement is left out") == 1


def test_mutants_of_tables() -> None:
    found = [(one.what, ast.unparse(one.tree)) for one in mutants(MODULE) if not one.function]
    assert [what for what, _ in found if what.startswith("entry")] == [f"entry {n} is left out" for n in (1, 2, 3)]
    assert any(what == "argument 1 is 'b'" and "1: Rule('b', 8)" in text for what, text in found)
    assert any(what == "argument 2 is 9" and "1: Rule('a', 9)" in text for what, text in found)


def test_each_mutant_differs_and_compiles() -> None:
    original = ast.unparse(ast.parse(MODULE))
    for one in mutants(MODULE):
        assert ast.unparse(one.tree) != original
        compile(one.tree, "x", "exec")


def test_a_run_that_was_ended_goes_on_with_what_no_test_has_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "module.py"
    module.write_text(MODULE)
    path = str(module)
    first = Trials(path, folder=tmp_path)
    numbers = list(first.waiting())
    assert len(numbers) == len(list(mutants(MODULE)))
    first.note(numbers[0], survived=False)
    first.note(numbers[1], survived=True)
    assert capsys.readouterr().out.startswith(f"{path}:")
    assert list(first.waiting()) == numbers[1:]
    again = Trials(path, folder=tmp_path)
    assert list(again.waiting()) == numbers[1:]
    assert again.score() == f"{path}: 1 of {len(numbers)} mutants are noticed"
    assert list(Trials(path, 2, folder=tmp_path).waiting()) == numbers[2::2]
    module.write_text(MODULE + "\n")
    assert list(Trials(path, folder=tmp_path).waiting()) == numbers
    module.write_text(MODULE)
    assert list(Trials(path, anew=True, folder=tmp_path).waiting()) == numbers


def test_only_modules_without_io_count() -> None:
    summary = {"covered_lines": 8, "num_statements": 10, "covered_branches": 1, "num_branches": 2}
    report = {"files": {"bgpd/rib/rib.py": {"summary": summary}, "bgpd/daemon.py": {"summary": summary}}}
    assert shares(report) == {"bgpd/rib/rib.py": (9, 12)}


def test_shares_of_packages() -> None:
    found = {"bgpd/rib/rib.py": (9, 12), "bgpd/rib/views.py": (3, 4), "bgpd/evpn/vrf.py": (0, 0)}
    assert of_packages(found) == {"rib": 75.0, "evpn": 100.0}
