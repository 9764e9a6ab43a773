"""Long files are taken first, and are still called so."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.schedule import LONG_FILES, ONE_BY_ONE, LongFilesFirst

ROOT = Path(__file__).parent.parent


def test_long_files_exist() -> None:
    assert [name for name in LONG_FILES if not (ROOT / name).exists()] == []


def test_long_files_are_taken_first_and_of_the_others_those_with_the_most_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []

    def assign(self: Any, node: object) -> None:
        taken.append(self.workqueue.popitem(last=False)[0])

    monkeypatch.setattr(LoadFileScheduling, "_assign_work_unit", assign)
    schedule = LongFilesFirst.__new__(LongFilesFirst)
    laboratory = ONE_BY_ONE[0]
    names = ["tests/fib/test_a.py", "tests/fib/test_b.py", "tests/daemon/test_drain.py", f"{laboratory}::test_c[d]"]
    schedule.workqueue = OrderedDict((name, {}) for name in names)
    for _ in names:
        schedule._assign_work_unit(object())
    assert taken == [names[3], names[2], *names[:2]]
    assert schedule._split_scope(f"{laboratory}::test_c[d]") == f"{laboratory}::test_c[d]"
    assert schedule._split_scope("tests/fib/test_a.py::test_c[d::e]") == "tests/fib/test_a.py"
