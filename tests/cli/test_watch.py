"""--watch on a terminal and without one, and the word for who waits; on real terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.cli.parser import _with_seconds
from bgpd.cli.watch import drawn
from tests.cli.terminal import on_terminal
from tests.cli.test_main import serving
from tests.scripted_backend import ScriptedBackend

BGPD = [sys.executable, "-m", "bgpd"]
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def path(tmp_path: Path, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch) -> str:
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    return path


@pytest.fixture
def daemon(path: str, backend: ScriptedBackend) -> Iterator[ScriptedBackend]:
    with serving(path, backend):
        yield backend


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["explain", "--watch", "10.0.0.1"], ["explain", "--watch=2", "10.0.0.1"]),
        (["show", "neighbors", "--watch", "leaf1"], ["show", "neighbors", "--watch=2", "leaf1"]),
        (["show", "neighbors", "--watch"], ["show", "neighbors", "--watch=2"]),
        (["status", "--watch", "--json"], ["status", "--watch=2", "--json"]),
        (["status", "--watch", "5"], ["status", "--watch", "5"]),
        (["status", "--watch", "0.5"], ["status", "--watch", "0.5"]),
        (["status", "--watch=7"], ["status", "--watch=7"]),
    ],
)
def test_only_a_number_behind_watch_is_its_value(given: list[str], taken: list[str]) -> None:
    assert _with_seconds(given) == taken


def test_screen_is_written_over_row_by_row() -> None:
    screen = drawn(["one", "x" * 25], "bgpd status  every 2 s", os.terminal_size((20, 24)))
    assert screen.startswith("\x1b[H")
    assert screen.endswith("\x1b[K\x1b[J"), "what was below is erased, and nothing else before it is written"
    rows = screen.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\n")
    assert all(row.endswith("\x1b[K") and len(row.removesuffix("\x1b[K")) <= 20 for row in rows)
    assert [row.removesuffix("\x1b[K") for row in rows[1:]] == ["", "one", "x" * 20, "x" * 5]
    assert rows[0].startswith("bgpd statu")


def test_what_has_no_room_is_told() -> None:
    screen = drawn([str(number) for number in range(50)], "title", os.terminal_size((80, 10)))
    rows = screen.split("\n")
    assert len(rows) == 10
    assert rows[-1].startswith("... more below")


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_watch_on_a_terminal_redraws_and_gives_the_screen_back(ends: signal.Signals, daemon: ScriptedBackend) -> None:
    with on_terminal([*BGPD, "show", "neighbors", "--watch", "0.1"]) as terminal:
        terminal.wait_for("leaf2")
        assert terminal.seen.startswith(ENTER)
        terminal.forget()
        terminal.wait_for("\x1b[H", raw=True)
        terminal.wait_for("leaf2")
        assert "\x1b[2J" not in terminal.seen, "the screen is never empty"
        terminal.process.send_signal(ends)
        assert terminal.wait_for_end() == (130 if ends is signal.SIGINT else 128 + ends)
        assert terminal.seen.endswith(LEAVE) or LEAVE in terminal.seen
        assert "Traceback" not in terminal.seen


def test_watch_of_a_million_routes_takes_what_the_screen_has_room_for(
    daemon: ScriptedBackend,
) -> None:
    daemon._routes = 1_000_000
    with on_terminal([*BGPD, "show", "routes", "--watch", "0.1"], rows=10) as terminal:
        terminal.wait_for("more below")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130
    assert daemon.routes_shown < 200_000


def test_watch_waits_for_a_daemon_that_stops(path: str, backend: ScriptedBackend) -> None:
    with serving(path, backend):
        terminals = on_terminal([*BGPD, "status", "--watch", "0.1"])
        terminal = terminals.__enter__()
        terminal.wait_for("NOT READY")
    try:
        terminal.wait_for("bgpd is not running")
        terminal.forget()
        with serving(path, backend):
            terminal.wait_for("NOT READY")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130
    finally:
        terminals.__exit__(None, None, None)


def test_watch_without_a_daemon_fails_before_it_takes_the_screen(path: str) -> None:
    with on_terminal([*BGPD, "status", "--watch"]) as terminal:
        assert terminal.wait_for_end() == 1
        assert "bgpd is not running" in terminal.text
        assert ENTER not in terminal.seen


def test_watch_of_wrong_usage_ends(daemon: ScriptedBackend) -> None:
    done = subprocess.run([*BGPD, "explain", "--watch", "10.0.0.0/8"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_watch_without_a_terminal_writes_one_block_after_another(form: str, daemon: ScriptedBackend) -> None:
    more = ["--json"] if form == "json" else []
    command = [*BGPD, "explain", "10.0.0.1", "--watch", "0.1", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        text, blocks = "", 0
        while blocks < 2:
            line = shown.stdout.readline()
            assert line, shown.stderr.read()
            text += line
            blocks = text.count("reachable") if form == "text" else text.count("\n}\n")
        shown.stdout.close()
        assert shown.wait(60) == 1, "nobody reads any more"
        assert "Traceback" not in shown.stderr.read()
    assert "\x1b" not in text
    if form == "json":
        first, end = json.JSONDecoder().raw_decode(text)
        second, _ = json.JSONDecoder().raw_decode(text[end:].lstrip())
        assert first["address"] == second["address"] == "10.0.0.1"
    else:
        assert text.startswith("20"), "each block has its time"


def test_who_waits_longer_than_a_second_is_told_on_a_terminal_only(path: str, backend: ScriptedBackend) -> None:
    backend.has_started.clear()
    with serving(path, backend), on_terminal([*BGPD, "explain", "10.0.0.1"], columns=30) as terminal:
        terminal.wait_for("bgpd: waiting for an answer")
        backend.has_started._loop.call_soon_threadsafe(backend.has_started.set)  # type: ignore[attr-defined]
        assert terminal.wait_for_end() == 0
        assert "reachable" in terminal.text
        assert terminal.seen.index("\r\x1b[K", terminal.seen.rindex("waiting")) < terminal.seen.index("reachable")


def test_no_word_where_standard_error_is_no_terminal(path: str, backend: ScriptedBackend) -> None:
    code = (
        "import bgpd.cli.progress as module; module.PATIENCE_S = 0.01\n"
        "import sys, bgpd.__main__ as run; sys.exit(run.main(['explain', '10.0.0.1']))"
    )
    with serving(path, backend):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
