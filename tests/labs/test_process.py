"""Children of a laboratory: logs, ending them, waiting for things."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from labs.process import LabError, LoggedProcess, run_command, wait_until


def test_stop_ends_the_whole_group_and_keeps_the_log(tmp_path: Path) -> None:
    process = LoggedProcess(
        ["sh", "-c", "echo begun; sleep 60 & echo $! >pid; wait"], log_path=tmp_path / "log", cwd=tmp_path
    )
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 5, "the child")
    child = (tmp_path / "pid").read_text().strip()
    assert process.stop() == -signal.SIGTERM
    wait_until(lambda: not running(child), 5, "the child to end")
    assert "begun" in process.tail()


def test_stop_kills_what_ignores_the_signal(tmp_path: Path) -> None:
    process = LoggedProcess(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], log_path=tmp_path / "log"
    )
    wait_until(lambda: "ready" in process.tail(), 5, "the trap")
    assert process.stop(timeout_s=0.2) == -signal.SIGKILL


def test_stop_ends_the_group_of_a_process_that_has_ended(tmp_path: Path) -> None:
    """As a namespace does that sends the signal to all its processes before it stops each."""
    log = tmp_path / "log"
    process = LoggedProcess(
        ["sh", "-c", "(trap '' TERM; echo begun; while :; do sleep 0.05; done) & echo pid $!; exec sleep 60"],
        log_path=log,
    )
    wait_until(lambda: "begun\n" in log.read_text() and "pid" in log.read_text(), 5, "the child")
    child = next(line.split()[1] for line in log.read_text().splitlines() if line.startswith("pid"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == process.exit_code == -signal.SIGTERM
    assert running(child)
    assert process.stop(timeout_s=0.1) == -signal.SIGTERM
    wait_until(lambda: not running(child), 5, "the child to end")
    process.send_signal(signal.SIGTERM)
    assert process.stop() == process.wait(0.1) == -signal.SIGTERM


def test_process_that_goes_on_is_not_waited_for_without_end(tmp_path: Path) -> None:
    process = LoggedProcess(["sleep", "60"], log_path=tmp_path / "log")
    with pytest.raises(LabError, match=r"still runs after 0\.05 s"):
        process.wait(0.05)
    assert process.exit_code is None
    assert process.kill() == -signal.SIGKILL


def test_wait_until_says_what_it_waited_for_and_shows_the_logs(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text("one\ntwo\n")
    with pytest.raises(LabError) as caught:
        wait_until(list, 0.05, "pigs to fly", logs=[log], interval_s=0.01)
    for part in ("pigs to fly", "last answer: []", str(log), "two"):
        assert part in str(caught.value)


def test_wait_until_takes_a_laboratory_error_for_not_yet() -> None:
    answers = iter([LabError("no"), 7])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, LabError):
            raise answer
        return answer

    assert wait_until(ask, 5, "seven", interval_s=0.001) < 5


def test_failing_command_tells_its_exit_code_and_words() -> None:
    with pytest.raises(LabError, match=r"exit code 3\nalas"):
        run_command(["sh", "-c", "echo alas >&2; exit 3"])
    with pytest.raises(LabError, match="no such program"):
        run_command(["/nowhere/program"])
    with pytest.raises(LabError, match="did not end within"):
        run_command(["sleep", "5"], timeout_s=0.05)


def running(pid: str) -> bool:
    """Whether a process runs; one that ended but was not collected by its parent yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
