"""What a run of all tests makes of failures: a second try is told, and helps five tests at most."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs.forms import NotCompiled
from labs.process import wait_until
from tests import suite
from tests.suite import (
    COMPILED,
    FAILED,
    NOTHING_SELECTED,
    PASSED,
    Suite,
    compiled_part_of,
    parts,
)
from tests.vm.guest import DIED, TERMINATED, TIMED_OUT, UNAVAILABLE
from tests.waiting import PATIENCE_S

FAILS_FIRST = """
import pathlib

def test_one():
    tried = pathlib.Path(__file__).with_name("tried")
    again = tried.exists()
    tried.touch()
    assert again

def test_other():
    pass
"""
HAS_NAMESPACES = f"# {suite.NAMESPACES_MARK}\n"
HAS_A_GUEST = f"# {suite.VM_MARK}\n"

# Takes the place of pytest and of a guest: each part has a plan, whose next line has the exit status and what failed.
SCRIPTED = """#!/bin/sh
part=namespaces
for argument; do case $argument in
  cache_dir=*) notes=${argument#cache_dir=}/v/cache ;;
  "not netns"*) part=unit ;;
  vm*) part=vm ;;
esac; done
echo "$@" >>"$0.calls"
read -r status failed <"$0.$part"; sed -i 1d "$0.$part"
mkdir -p "$notes"; echo "{${failed}}" >"$notes/lastfailed"
exit "$status"
"""
PASSES = ("0",)


class Scripted:
    """A suite whose pytest and guest end as planned: unit, namespaces, guest, and each second try at the end."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.tests = folder / "tests"

    def _script(self, name: str, **plans: tuple[str, ...]) -> tuple[str]:
        path = self._folder / name
        path.write_text(SCRIPTED)
        path.chmod(0o755)
        for part, plan in plans.items():
            path.with_suffix(f".{part}").write_text("".join(f"{line}\n" for line in plan))
        path.with_suffix(".calls").touch()
        return (str(path),)

    def run(
        self,
        *,
        unit: tuple[str, ...] = PASSES,
        namespaces: tuple[str, ...] = PASSES,
        guest: tuple[str, ...] = (),
        retry: bool = True,
        in_ci: bool = False,
    ) -> int:
        """Exit status of the suite; each line of a plan is "STATUS", or 'STATUS "TEST": true, ...'. Without a plan of
        the guest nothing needs one."""
        pytest_plans = {"unit": unit, "namespaces": namespaces, "vm": PASSES}
        self._monkeypatch.setattr(suite, "PYTEST", self._script("pytest", **pytest_plans))
        self._monkeypatch.setattr(suite, "GUEST", self._script("guest", vm=guest))
        tests, notes = self.tests, self._folder / "notes"
        tests.mkdir()
        notes.mkdir()
        (tests / "test_some.py").write_text(HAS_NAMESPACES + (HAS_A_GUEST if guest else ""))
        return Suite(notes, retry=retry, in_ci=in_ci).run(*parts([str(tests)]))

    def calls(self, name: str = "pytest") -> list[str]:
        """The command lines so far."""
        return (self._folder / f"{name}.calls").read_text().splitlines()


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(tmp_path, monkeypatch)


def test_all_parts_run_and_pass(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted.run(guest=PASSES) == PASSED
    assert capsys.readouterr().out.endswith("all passed\n")
    unit, namespaces = sorted(scripted.calls(), key=lambda call: "--dist loadfile" in call)
    assert "-m not netns" in unit
    assert "-m netns" in namespaces
    assert "-m vm" in scripted.calls("guest")[0]


def test_part_without_tests_is_no_failure(scripted: Scripted) -> None:
    assert scripted.run(unit=("5",)) == PASSED


def test_no_test_at_all_is_no_success(scripted: Scripted) -> None:
    assert scripted.run(unit=("5",), namespaces=("5",)) == NOTHING_SELECTED


def test_file_that_cannot_be_read_fails_the_run(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted.run(unit=("2",)) == FAILED
    assert capsys.readouterr().out.endswith("FAILED:\n  the part 'unit', with exit status 2\n")


def test_test_that_fails_twice_fails_the_run(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted.run(unit=('1 "a": true', '1 "a": true')) == FAILED
    assert capsys.readouterr().out.endswith("FAILED:\n  a\n")


def test_two_tests_that_pass_when_tried_again_are_counted_and_named(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripted.run(unit=('1 "a": true', "0"), namespaces=('1 "b": true', "0")) == PASSED
    assert "2 failed first, and passed when tried again:\n  b\n  a\n" in capsys.readouterr().out
    assert ["--last-failed" in call for call in scripted.calls()] == [False, False, True, True]


def test_without_retry_one_failure_fails_the_run(scripted: Scripted) -> None:
    assert scripted.run(unit=('1 "a": true',), retry=False) == FAILED


def test_six_that_fail_first_fail_the_run(scripted: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    unit, namespaces = '1 "a": true, "b": true, "c": true', '1 "d": true, "e": true, "f": true'
    assert scripted.run(unit=(unit,), namespaces=(namespaces,)) == FAILED
    assert "FAILED:\n  d\n  e\n  f\n  a\n  b\n  c\n" in capsys.readouterr().out
    assert len(scripted.calls()) == 2


def test_without_a_guest_its_tests_run_here_loudly_and_the_rest_decides(
    scripted: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    assert scripted.run(guest=(f"{UNAVAILABLE}",)) == PASSED
    assert "NO GUEST could be started here (why: above), so not in one: vm\n" in capfd.readouterr().out
    assert "-m vm" in scripted.calls()[2]


def test_guest_that_dies_gets_one_more_try_and_counts_as_a_failure(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripted.run(guest=(f"{DIED}", "0")) == PASSED
    said = "1 failed first, and passed when tried again:\n  the guest of the part 'vm', which died\n"
    assert said in capsys.readouterr().out


def test_guest_that_takes_too_long_twice_fails_the_run(scripted: Scripted) -> None:
    assert scripted.run(guest=(f"{TIMED_OUT}", f"{TIMED_OUT}")) == FAILED


def test_pytest_tries_again_only_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the real pytest, in one process: what it notes is what the suite reads."""
    monkeypatch.setattr(suite, "WORKERS", ("-p", "xdist.plugin", "-n", "0", "--dist", "load"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    notes, tests = tmp_path / "notes", tmp_path / "tests"
    notes.mkdir()
    tests.mkdir()
    (tests / "test_some.py").write_text(FAILS_FIRST)
    here, _ = parts([str(tests)])
    assert Suite(notes, retry=True).run(here, []) == PASSED
    said = capfd.readouterr().out
    assert "1 failed, 1 passed" in said
    assert "1 failed first, and passed when tried again:" in said
    assert "test_some.py::test_one\n" in said


def test_laboratory_has_a_guest_of_its_own() -> None:
    here, beside = parts(["tests"], long=True)
    assert [part.name for part in here] == ["namespaces", "compiled"]
    assert [part.paths for part in beside if part.name == "vm laboratory"] == [["tests/labs/test_main.py"]]
    here, guests = parts(["tests"], only_vm=True)
    assert not here
    assert [part.name for part in guests] == ["vm"]


def test_long_tests_run_only_where_all_are_wanted() -> None:
    for long in (False, True):
        here, beside = parts(["tests"], long=long)
        assert {"not long" in part.selection for part in (*here, *beside)} == {not long}
        assert [part.name for part in beside] == ["unit", "vm", "vm laboratory"][: 2 + long]


def test_what_runs_in_the_compiled_form_too() -> None:
    assert compiled_part_of(["tests"]) == list(COMPILED)
    assert compiled_part_of(["tests/speaker", "tests/message/test_nlri.py::test_x"]) == [
        "tests/message/test_nlri.py::test_x"
    ]
    assert compiled_part_of(["tests/rib"]) == ["tests/rib"]


@pytest.mark.parametrize(("in_ci", "status"), [(False, PASSED), (True, FAILED)])
def test_compiled_form_that_cannot_be_made_is_told_and_fails_ci(
    in_ci: bool,
    status: int,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cannot() -> Path:
        raise NotCompiled("no compiler")

    monkeypatch.setattr(suite, "compiled_form", cannot)
    monkeypatch.setattr(suite, "COMPILED", (str(scripted.tests),))
    assert scripted.run(in_ci=in_ci) == status
    assert "NOT TESTED in the compiled form: no compiler\n" in capsys.readouterr().out


@pytest.mark.parametrize(("in_ci", "status"), [(False, PASSED), (True, FAILED)])
def test_namespaces_that_cannot_be_made_are_told_and_fail_ci(
    in_ci: bool,
    status: int,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(suite, "why_no_namespaces", lambda: "they need root")
    assert scripted.run(in_ci=in_ci) == status
    assert "NOT TESTED in network namespaces: they need root\n" in capsys.readouterr().out


def test_nothing_of_namespaces_is_told_where_no_test_needs_them(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "why_no_namespaces", lambda: "they need root")
    assert scripted.run(namespaces=("5",), in_ci=True) == PASSED
    assert "NOT TESTED" not in capsys.readouterr().out


def test_each_part_reads_only_files_that_have_tests_for_it() -> None:
    (namespaces, _), (unit, guest) = parts(["tests"])
    assert "tests/vm/test_devices.py" in guest.paths
    assert "tests/rib/test_rib.py" not in {*guest.paths, *namespaces.paths}
    assert "tests/daemon/test_views.py" not in unit.paths
    single = "tests/rib/test_rib.py::test_x"
    here, beside = parts([single])
    assert [part.paths for part in (*here, *beside)] == [[single]] * 4


def test_what_has_no_part_in_namespaces_beside_it_is_shown_while_it_runs() -> None:
    here, beside = parts(["tests/rib/test_rib.py"])
    assert [part.name for part in here] == ["unit", "compiled"]
    assert beside == []


def test_what_runs_beside_has_a_session_of_its_own_with_a_low_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "pytest"
    script.write_text(f"#!/bin/sh\nread -r go <{tmp_path}/go\n")
    script.chmod(0o755)
    os.mkfifo(tmp_path / "go")
    monkeypatch.setattr(suite, "PYTEST", (str(script),))
    one = suite.Beside(suite.Part("unit", "", ["tests"]), tmp_path)
    try:
        assert os.getsid(one.pid) == one.pid
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, one.pid) == min(usual + suite.NICER, suite.LEAST_PRIORITY)
        with (tmp_path / "go").open("w") as go:
            go.write("go\n")
        assert one.ended() == 0
    finally:
        one.stop()


def test_suite_that_is_ended_ends_what_runs_beside(tmp_path: Path) -> None:
    script, tests, running = tmp_path / "pytest", tmp_path / "tests", tmp_path / "running"
    script.write_text(f"#!/bin/sh\ntouch {running}/$$; read -r go <{tmp_path}/go\n")
    script.chmod(0o755)
    os.mkfifo(tmp_path / "go")
    tests.mkdir()
    running.mkdir()
    (tests / "test_some.py").write_text(HAS_NAMESPACES)
    program = f"from tests import suite; suite.PYTEST, suite.BYTE_CODE_OF = ({str(script)!r},), (); suite.main()"
    with subprocess.Popen([sys.executable, "-c", program, str(tests)], stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(list(running.iterdir())) == 2, PATIENCE_S, "both parts to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == TERMINATED
    # Those that it has not waited for itself would hold the other end of the pipe.
    with pytest.raises(OSError, match="No such device"):
        os.open(tmp_path / "go", os.O_WRONLY | os.O_NONBLOCK)
