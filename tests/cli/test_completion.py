"""What a shell is told may follow: by the parser, and by what the daemon has; in real bash, zsh and fish."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.api.view_filter import _WORDS
from bgpd.cli.completion import candidates, split
from bgpd.cli.main import COMMANDS
from bgpd.cli.schemas import SCHEMAS
from bgpd.cli.tables import SHOWN, STATES
from bgpd.cli.values import _SAFE, FAMILIES, LEVELS, about
from bgpd.migrate.importing import FORMATS
from bgpd.model.iana import Family
from bgpd.model.workload import WorkloadKind, WorkloadState
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.test_main import run, serving
from tests.scripted_backend import ScriptedBackend


@pytest.fixture(autouse=True)
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGPD_SOCKET", str(tmp_path / "none.sock"))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedBackend]:
    path = str(tmp_path / "bgpd.sock")
    monkeypatch.setenv("BGPD_SOCKET", path)
    backend = ScriptedBackend()
    with serving(path, backend):
        yield backend


def words(line: str) -> list[str]:
    """What may follow the line, which is cut as bash would."""
    return [word for word, _ in candidates(split(line)[1:])]


def test_commands_and_kinds_are_those_of_the_parser() -> None:
    assert words("bgpd ") == list(COMMANDS)
    assert words("bgpd show ") == list(SHOWN)
    assert words("bgpd sh") == ["show"]
    assert words("bgpd drain ") == ["on", "off", "status"]
    assert words("bgpd completion ") == ["bash", "zsh", "fish"]
    assert set(words("bgpd schema wh")) == {"what-if", "why-not"}
    assert set(words("bgpd schema ")) == SCHEMAS.keys()


def test_options_that_were_given_are_not_offered_again() -> None:
    assert "--vrf" in words("bgpd show routes --")
    assert "--vrf" not in words("bgpd show routes --vrf blue --")
    assert "--set" in words("bgpd check --set hostname=x --"), "it may be given several times"
    assert "--no-events" not in words("bgpd explain --"), "it is for nobody"
    assert words("bgpd confirm ") == ["--help", "--socket", "--json"], "nothing else may stand here"
    assert words("bgpd show neighbors -- --") == []


@pytest.mark.parametrize(
    "line", ["bgpd shwo neighbors ", "bgpd show nothing ", "bgpd show neighbors leaf1 ", "bgpd show routes --limit "]
)
def test_nothing_follows_what_nobody_knows(line: str) -> None:
    assert [word for word in words(line) if not word.startswith("--")] == []


def test_files_are_left_to_the_shell() -> None:
    assert words("bgpd check ") == [":files"]
    assert words("bgpd run --config /etc") == [":files"]
    assert words("bgpd run --config=/etc") == [":files"]
    assert words("bgpd explain 10.0.0.1 --state ") == [":directories"]
    assert words("bgpd what-if --reload ") == [":files"]


def test_words_of_fixed_sets_are_those_of_the_daemon() -> None:
    assert {word for words in STATES.values() for word in words} == set(_WORDS["state"]) | {"pending", "failed"}
    assert STATES["workloads"] == tuple(WorkloadState)
    assert tuple(Family) == FAMILIES
    assert _WORDS["level"] == LEVELS
    assert words("bgpd workload add pod1 --kind ") == list(WorkloadKind)
    assert {word for word in words("bgpd import ") if not word.startswith("-")} == set(FORMATS)
    assert words("bgpd show neighbors --state e") == ["established"]
    assert words("bgpd show neighbors --family=ipv4") == ["--family=ipv4-unicast"]


@pytest.mark.parametrize("line", ["", "bgpd", "'", "\\", "bgpd '"])
def test_cursor_within_the_first_word_is_no_error(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", "bash", "--", line) == 0
    assert "show" in capsys.readouterr().out


def test_without_a_daemon_there_are_no_values_and_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", "zsh", "--", "show", "neighbors", "") == 0
    assert run("completion", "bash", "--", "bgpd show neighbors ") == 0
    assert run("completion", "bash", "--", "bgpd explain ") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("daemon")
def test_values_are_those_of_the_running_daemon() -> None:
    assert candidates(["show", "neighbors", "le"]) == [
        ("leaf1", "10.0.1.2 AS65201 established"),
        ("leaf2", "eth1 AS65201 active"),
    ]
    assert words("bgpd show routes --neighbor leaf1 --neighbor=") == ["--neighbor=leaf1", "--neighbor=leaf2"]
    assert words("bgpd what-if --down ") == ["leaf1", "leaf2", "lo", "eth0", "eth0.101"]
    assert words("bgpd show routes 10.0.0.1") == ["10.0.0.1/32"]
    assert words("bgpd workload add x --interface eth0.") == ["eth0.101"]


def test_socket_that_is_given_is_asked(daemon: ScriptedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.environ["BGPD_SOCKET"]
    monkeypatch.delenv("BGPD_SOCKET")
    assert words(f"bgpd show neighbors --socket {path} leaf1") == ["leaf1"]
    assert words(f"bgpd show neighbors --socket={path} leaf1") == ["leaf1"]


@pytest.mark.parametrize("name", ["$(reboot)", "a b", "`x`", "x;y", "x\ty", "x'y", "*", "~root", "é", "--all", ""])
def test_names_that_a_shell_would_take_for_something_else_are_not_offered(name: str) -> None:
    assert not _SAFE.fullmatch(name)


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("bgpd show ", ["bgpd", "show", ""]),
        ("bgpd show 'a b' \"c", ["bgpd", "show", "a b", "c"]),
        (r"bgpd show a\ b", ["bgpd", "show", "a b"]),
        ("bgpd  explain 2001:db8::", ["bgpd", "explain", "2001:db8::"]),
        ("bgpd ''", ["bgpd", ""]),
        ("", [""]),
    ],
)
def test_line_is_cut_as_a_shell_cuts_it(line: str, cut: list[str]) -> None:
    assert split(line) == cut


@pytest.mark.parametrize(
    ("typed", "prefix"),
    [
        ("10", ""),
        ("10.", "10.0.0.0/8"),
        ("10.64.1", "10.64.0.0/16"),
        ("10.64.1.0/2", "10.64.1.0/24"),
        ("10.300.", ""),
        ("2001:db8:", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::/32"),
        ("::1", ""),
        ("leaf", ""),
        ("x.", ""),
    ],
)
def test_prefix_that_all_of_it_has(typed: str, prefix: str) -> None:
    assert about(typed) == prefix


@contextlib.contextmanager
def shell(tmp_path: Path, *command: str) -> Iterator[Terminal]:
    """An interactive shell in which `bgpd` is this one."""
    program = tmp_path / "bin" / "bgpd"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bgpd "$@"\n')
    program.chmod(0o755)
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PS1": "READY ",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "dumb",
    }
    with on_terminal(command, environment=environment, columns=200) as terminal:
        yield terminal


def script(tmp_path: Path, name: str, file: str, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("completion", name) == 0
    path = tmp_path / file
    path.write_text(capsys.readouterr().out)
    return path


def complete(terminal: Terminal, typed: str, becomes: str) -> str:
    """Type, press Tab, and wait for the line; then it is killed."""
    terminal.forget()
    terminal.type(f"{typed}\t")
    said = terminal.wait_for(becomes)
    terminal.type("\x15")
    return said


LINES = [
    ("bgpd show nei", "bgpd show neighbors "),
    ("bgpd show routes --neig", "bgpd show routes --neighbor "),
    ("bgpd show routes --family=l2", "bgpd show routes --family=l2vpn-evpn"),
    ("bgpd show routes 10.0.0.1", "bgpd show routes 10.0.0.1/32"),
    ("bgpd explain 2001:db8::1", "bgpd explain 2001:db8::100"),
    ("bgpd check some-f", "bgpd check some-file.toml"),
    ("bgpd run --config=some-f", "bgpd run --config=some-file.toml"),
]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_real_shell_completes(
    name: str, tmp_path: Path, daemon: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "some-file.toml").touch()
    if name == "bash":
        file = script(tmp_path, name, "bgpd.bash", capsys)
        command = ["bash", "--norc", "--noprofile", "-i"]
        begin = f"bind 'set enable-bracketed-paste off'; cd {tmp_path}; source {file}; echo BE''GUN\n"
    else:
        script(tmp_path, name, "_bgpd", capsys)
        command = ["zsh", "-f", "-i"]
        begin = f"PS1='READY '; cd {tmp_path}; fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -D -u"
        begin += "; echo BE''GUN\n"
    with shell(tmp_path, *command) as terminal:
        terminal.type(begin)
        terminal.wait_for("BEGUN")
        for typed, becomes in LINES:
            complete(terminal, typed, becomes)
        terminal.forget()
        terminal.type("bgpd show neighbors leaf\t\t")
        assert "leaf1" in terminal.wait_for("leaf2")


def test_real_fish_completes(
    tmp_path: Path, daemon: ScriptedBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    (tmp_path / "some-file.toml").touch()
    file = script(tmp_path, "fish", "bgpd.fish", capsys)
    with shell(tmp_path, "true"):
        pass
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LC_ALL": "C.UTF-8",
    }
    for typed, becomes in [*LINES, ("bgpd show neighbors leaf", "leaf1\t10.0.1.2 AS65201 established")]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {file}; complete -C '{typed}'"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=tmp_path,
            timeout=60,
        )
        assert (becomes if "\t" in becomes else becomes.split()[-1]) in done.stdout, typed
        assert done.stderr == ""
