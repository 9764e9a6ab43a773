"""The manual pages have all that the parser and the schema have, and render without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bgpd.cli.exit_codes import EXIT_CODES
from bgpd.cli.main import COMMANDS, make_parser
from bgpd.cli.man import pages, plain
from bgpd.cli.parser import Parser, below
from bgpd.config.schema import Config
from tests.cli.test_main import run


def all_of(parser: Parser) -> Iterator[Parser]:
    """A parser, and all below it."""
    yield parser.filled()
    for one in below(parser).values():
        yield from all_of(one)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    assert run("man", str(directory)) == 0
    return directory


def rendered(page: Path) -> str:
    """As a person reads it, on a wide terminal."""
    done = subprocess.run(
        ["man", "--warnings", "--no-hyphenation", "--no-justification", "-l", str(page)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
    )
    assert done.stderr == "", page
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)


def test_there_is_a_page_for_each_command(written: Path) -> None:
    names = {path.name for path in (written / "man1").iterdir()}
    assert names == {"bgpd.1", *(f"bgpd-{name}.1" for name in COMMANDS)}
    assert [path.name for path in (written / "man5").iterdir()] == ["bgpd.toml.5"]


@pytest.mark.parametrize("name", COMMANDS)
def test_page_has_each_command_option_and_argument_of_the_parser(name: str) -> None:
    text = dict(pages(make_parser()))[f"bgpd-{name}.1"]
    for parser in all_of(below(make_parser())[name]):
        assert plain(parser.prog.removeprefix("bgpd ")) in text or plain(parser.prog.upper()) in text
        for action in parser.arguments:
            if action.help != "==SUPPRESS==" and action.nargs != "A...":  # what is below has parts of its own
                assert all(rf"\fB{plain(option)}\fR" in text for option in action.option_strings), action
                assert action.option_strings or not action.metavar or plain(str(action.metavar)) in text, action
    offered = {
        option
        for parser in all_of(below(make_parser())[name])
        for argument in parser.arguments
        for option in argument.option_strings
    }
    assert set(re.findall(r"^\\fB(\\-\\-[\w\\-]+)\\fR", text, re.MULTILINE)) <= {plain(option) for option in offered}


def test_page_of_the_configuration_has_each_key() -> None:
    text = dict(pages(make_parser()))["bgpd.toml.5"]
    _, components = msgspec.json.schema_components([Config])
    for name, definition in components.items():
        for key, one in definition["properties"].items():
            titles = (rf'^\.SH "\[+[\w.\\]*\b{re.escape(key)}(\.NAME)?\]+"$', rf"^\\fB{re.escape(plain(key))}\\fR \(")
            assert any(re.search(title, text, re.MULTILINE) for title in titles), f"{name}.{key}"
            if "description" in one and "$ref" not in one:
                assert plain(one["description"].rstrip("."))[1:] in text, f"{name}.{key}"


def test_overview_has_all_commands_and_exit_codes(written: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    text = rendered(written / "man1" / "bgpd.1")
    for name in COMMANDS:
        assert f"bgpd-{name}(1)" in text
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(' '.join(meaning.split()[:3]))}", text, re.MULTILINE), code


def test_pages_render_without_a_warning(written: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    text = rendered(written / "man1" / "bgpd-show.1")
    assert "--longer-prefixes" in text
    assert "BGPD SHOW NEIGHBORS" in text
    assert "[[neighbor]]" in rendered(written / "man5" / "bgpd.toml.5")


def test_lint_has_no_warning(written: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    files = sorted(map(str, written.glob("man*/*")))
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *files], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_two_builds_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("COLUMNS", "40")
    first = dict(pages(make_parser()))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BGPD_SOCKET", "/elsewhere")
    assert dict(pages(make_parser())) == first
    assert '"2023\\-11\\-14"' in first["bgpd.1"] or '"2023-11-14"' in first["bgpd.1"]


def test_directory_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("man", "/proc/nothing") == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
